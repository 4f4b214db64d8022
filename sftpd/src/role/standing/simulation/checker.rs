//! What must hold whatever happens, and what was done so that it was not held for nothing.

use std::collections::{BTreeMap, BTreeSet};

use pair::node::Phase;

use super::chaos::Pending;
use super::machine::Machine;
use super::world::World;
use crate::role::standing::{Event, Trigger, WAYS, Word};

/// A way from one phase to another.
pub type Way = (Phase, Trigger, Phase);

/// Where an epoch came from.
struct Drawn {
    counter: u64,
    by: Trigger,
}

/// What the checker remembers of a machine, which a crash does not make it forget.
#[derive(Clone, Default)]
struct Memory {
    /// All epochs that the machine has heard of.
    heard: BTreeMap<String, u64>,
    /// The newest epoch of which its disk has said that it is the master.
    was_master_of: u64,
    /// The epoch in which a standby has told it of changes that it lacks.
    lacks: Option<String>,
}

#[derive(Default)]
pub struct Checker {
    pub failure: Option<String>,
    pub gone: BTreeMap<Way, u64>,
    pub counts: BTreeMap<&'static str, u64>,
    has_restores: bool,
    memories: Vec<Memory>,
    drawn: BTreeMap<String, Drawn>,
    /// Who has acknowledged writes in an epoch.
    writers: BTreeMap<String, usize>,
    /// Acknowledged contents and their paths.
    acknowledged: BTreeMap<u32, u8>,
    /// Contents that a client has written over, or removed.
    superseded: BTreeSet<u32>,
    removed: BTreeSet<u8>,
    taken: BTreeSet<String>,
    withdrawn: BTreeSet<String>,
}

impl Checker {
    pub fn new(machines: usize, has_restores: bool) -> Checker {
        let drawn = BTreeMap::from([("e0".to_owned(), Drawn { counter: 1, by: Trigger::Asked })]);
        Checker { memories: vec![Memory::default(); machines], has_restores, drawn, ..Checker::default() }
    }

    pub fn fail(&mut self, sentence: String) {
        self.failure.get_or_insert(sentence);
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A machine has gone from one standing to another.
    pub fn went(&mut self, m: usize, before: Phase, event: &Event, machine: &Machine) {
        let way = (before, event.trigger(), machine.phase());
        if WAYS.contains(&way) {
            *self.gone.entry(way).or_default() += 1;
        } else if way.0 != way.2 {
            self.fail(format!("the way {way:?} is not in the table"));
        }
        let node = &machine.standing.node;
        if let Some(epoch) = node.epoch.as_ref().filter(|epoch| !self.drawn.contains_key(&epoch.id)) {
            let drawn = Drawn { counter: epoch.counter, by: event.trigger() };
            self.drawn.insert(epoch.id.clone(), drawn);
        }
        if let (Phase::Master, Some(epoch)) = (machine.phase(), &node.epoch) {
            let memory = &mut self.memories[m];
            memory.was_master_of = memory.was_master_of.max(epoch.counter);
        }
        if let Event::TakeOver(epoch) = event {
            self.taken.insert(epoch.id.clone());
            if self.withdrawn.contains(&epoch.id) && !self.has_restores {
                self.fail(format!("machine {m} took epoch {} after its master had it back", epoch.id));
            }
        }
    }

    /// An offer is off.
    pub fn withdrew(&mut self, m: usize, id: &str) {
        self.withdrawn.insert(id.to_owned());
        if self.taken.contains(id) && !self.has_restores {
            self.fail(format!("machine {m} has its place back, and epoch {id} that it offered was taken"));
        }
    }

    pub fn heard(&mut self, m: usize, word: &Word) {
        if let Some(epoch) = &word.epoch {
            self.memories[m].heard.insert(epoch.id.clone(), epoch.counter);
        }
    }

    /// A standby has told a master of changes that the master lacks.
    pub fn behind(&mut self, m: usize, machine: &Machine) {
        self.memories[m].lacks = machine.own_epoch().map(str::to_owned);
        self.count("masters behind their standby");
    }

    /// A machine forgets what it has heard, like its disk.
    pub fn restored(&mut self, m: usize) {
        self.memories[m] = Memory::default();
    }

    /// A client's change is on a disk.
    pub fn written(&mut self, path: u8, value: Option<u32>, before: Option<u32>) {
        self.superseded.extend(before);
        if value.is_none() {
            self.removed.insert(path);
        }
    }

    /// A client is told that its change is safe.
    pub fn acknowledged(&mut self, told: &Pending) {
        let (m, id) = (told.machine, &told.epoch);
        self.count("acknowledged");
        if let Some(value) = told.value {
            self.acknowledged.insert(value, told.path);
        }
        let Some(Drawn { counter, by }) = self.drawn.get(id) else { return };
        let (counter, by, memory) = (*counter, *by, &self.memories[m]);
        let newer = memory.heard.iter().find(|(heard, of)| **of > counter || (**of == counter && *heard != id));
        let failure = if let Some((heard, of)) = newer {
            Some(format!("in epoch {counter} ({id}), and has heard of epoch {of} ({heard})"))
        } else if memory.was_master_of > counter {
            Some(format!("in epoch {counter} ({id}), and was master of epoch {} already", memory.was_master_of))
        } else if memory.lacks.as_ref() == Some(id) {
            Some(format!("in epoch {counter} ({id}), and a standby has told it what it lacks of that"))
        } else {
            None
        };
        if let Some(what) = failure {
            self.fail(format!("machine {m} acknowledges {what}"));
        }
        let writer = *self.writers.entry(id.clone()).or_insert(m);
        if writer != m {
            self.fail(format!("machines {writer} and {m} both acknowledge in epoch {id}"));
        }
        let is_other = |other: &&String| *other != id && self.drawn.get(*other).is_some_and(|o| o.counter == counter);
        let others: Vec<String> = self.writers.keys().filter(is_other).cloned().collect();
        for other in others {
            let is_promoted = |by| by == Trigger::Promote;
            if !is_promoted(by) && !self.drawn.get(&other).is_some_and(|other| is_promoted(other.by)) {
                self.fail(format!("epochs {id} and {other} have the same counter, and nobody was promoted"));
            }
            self.count("acknowledged by two masters of one counter");
        }
    }

    /// Files that were acknowledged and that nobody has removed.
    fn kept(&self) -> impl Iterator<Item = u8> {
        let paths: BTreeSet<u8> = self.acknowledged.values().copied().collect();
        paths.into_iter().filter(|path| !self.removed.contains(path))
    }

    /// Contents that were acknowledged and that no client has replaced.
    fn standing_contents(&self) -> impl Iterator<Item = (u32, u8)> {
        let is_left = |(value, _): &(&u32, &u8)| !self.superseded.contains(value);
        self.acknowledged.iter().filter(is_left).map(|(value, path)| (*value, *path))
    }
}

impl World {
    /// No file that was acknowledged and never removed is nowhere.
    pub fn check_nowhere_absent(&mut self) {
        if self.options.has_restores {
            return;
        }
        let is_nowhere = |path: &u8| {
            let is_here = |machine: &Machine| {
                machine.disk.data.contains_key(path) || machine.disk.divergent.iter().any(|aside| aside.path == *path)
            };
            !self.machines.iter().any(is_here)
        };
        let nowhere = self.checker.kept().find(is_nowhere);
        if let Some(path) = nowhere {
            self.checker.fail(format!("file {path} was acknowledged, nobody removed it, and it is nowhere"));
        }
    }

    /// What is not as it should be once all is calm.
    pub fn unsettled(&self) -> Option<String> {
        let masters: Vec<_> = self.machines.iter().filter(|machine| machine.phase() == Phase::Master).collect();
        let [master] = masters.as_slice() else { return Some(format!("there are {} masters", masters.len())) };
        let Some(epoch) = master.own_epoch() else { return Some("the master has no epoch".into()) };
        let wrong = |(m, machine): (usize, &Machine)| {
            let phase = machine.phase();
            if !machine.is_up {
                Some(format!("{} is down", self.name(m)))
            } else if phase == Phase::Master {
                None
            } else if phase != Phase::Standby || machine.followed() != Some(epoch) {
                Some(format!("{} is {phase:?} and follows {:?}, not {epoch}", self.name(m), machine.followed()))
            } else if machine.disk.data != master.disk.data {
                Some(format!("{} has {:?}, and its master {:?}", self.name(m), machine.disk.data, master.disk.data))
            } else if machine.disk.divergent.iter().any(|aside| !aside.is_offered) {
                Some(format!("{} has not offered all that it has set aside", self.name(m)))
            } else {
                None
            }
        };
        self.machines.iter().enumerate().find_map(wrong)
    }

    /// At the end, everything that was promised is there.
    pub fn check_the_end(&mut self) {
        self.check_nowhere_absent();
        let Some(master) = self.machines.iter().find(|machine| machine.phase() == Phase::Master) else { return };
        if self.options.has_restores {
            return;
        }
        let aside = |value| self.machines.iter().flat_map(|m| &m.disk.divergent).any(|aside| aside.value == value);
        let is_lost = |(value, path): &(u32, u8)| master.disk.data.get(path) != Some(value) && !aside(*value);
        let is_absent = |path: &u8| {
            let mut divergent = self.machines.iter().flat_map(|machine| &machine.disk.divergent);
            !master.disk.data.contains_key(path) && !divergent.any(|aside| aside.path == *path)
        };
        let lost = self.checker.standing_contents().find(is_lost);
        let absent = self.checker.kept().find(is_absent);
        if let Some((value, path)) = lost {
            let now = master.disk.data.get(&path);
            let sentence =
                format!("content {value} of file {path} was acknowledged and is lost: the master has {now:?}");
            self.checker.fail(sentence);
        }
        if let Some(path) = absent {
            self.checker.fail(format!("file {path} is on no master and not set aside, and nobody has removed it"));
        }
    }
}
