//! The world: its time, what is due in it, and its story.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use pair::epoch::Epoch;
use pair::node::{Node, Phase, Role};

use super::Mutant;
use super::chaos::Pending;
use super::checker::Checker;
use super::dice::Dice;
use super::machine::Machine;
use super::network::{Letter, Network};
use crate::role::standing::Event;

/// Then nothing breaks any more, and nobody writes.
const CALM: u64 = 60_000;

/// So long after that the operator sees to what has stopped, and then again and again.
const RESOLVE: u64 = 24_000;

/// By then all must be well.
const END: u64 = CALM + 150_000;

#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    /// Whether machines come back from backups. Then acknowledged files may be lost.
    pub has_restores: bool,
    pub has_clock_jumps: bool,
    pub mutant: Option<Mutant>,
    /// How many of the last lines of its story are kept.
    pub lines: usize,
}

/// What is due.
#[derive(Debug)]
pub enum Task {
    Start(bool),
    Tick,
    Letter(Box<Letter>),
    Acknowledge(Pending),
    Client,
    Operator,
    Fault,
    Calm,
    Settle,
}

/// Something that is due for a process, which may be gone by then, or for the world.
type Job = (Option<(usize, u64)>, Task);

pub struct World {
    pub options: Options,
    pub now: u64,
    pub dice: Dice,
    pub clock_dice: Dice,
    pub machines: Vec<Machine>,
    pub network: Network,
    pub checker: Checker,
    pub values: u32,
    pub steps: u64,
    pub story: VecDeque<String>,
    queue: BTreeMap<(u64, u64), Job>,
    queued: u64,
    drawn: u64,
    hash: u64,
    /// On average, from one fault and from one whim of the operator to the next.
    paces: (u64, u64),
    resolves: u64,
    settled: u64,
    is_over: bool,
}

impl World {
    pub fn new(options: Options) -> World {
        let mut dice = Dice::new(options.seed);
        let count = if options.seed % 3 == 2 { 3 } else { 2 };
        let paces = (dice.between(1_500, 9_000), dice.between(2_000, 9_000));
        let first = Epoch { counter: 1, id: "e0".into(), parent: None, from: None };
        let node = |m: usize| Node {
            node: format!("n{m}"),
            role: if m == 0 { Role::Master } else { Role::Standby },
            volume: None,
            epoch: (m == 0).then(|| first.clone()),
            follows: None,
            handing: None,
            returning: None,
            stopped: None,
        };
        let mut world = World {
            now: 0,
            clock_dice: Dice::new(!options.seed),
            machines: (0..count).map(|m| Machine::new(node(m))).collect(),
            network: Network::default(),
            checker: Checker::new(count, options.has_restores),
            values: 0,
            steps: 0,
            story: VecDeque::new(),
            queue: BTreeMap::new(),
            queued: 0,
            drawn: 0,
            hash: 0,
            paces,
            resolves: CALM + RESOLVE,
            settled: 0,
            is_over: false,
            options,
            dice,
        };
        for m in 0..count {
            let at = world.dice.between(0, 500);
            world.at(at, Some((m, 0)), Task::Start(true));
        }
        for (at, task) in [(600, Task::Client), (3_000, Task::Operator), (2_000, Task::Fault), (CALM, Task::Calm)] {
            world.at(at, None, task);
        }
        world
    }

    /// Lets everything happen.
    pub fn run(&mut self) {
        while self.checker.failure.is_none() && !self.is_over {
            let Some(((at, number), (whom, task))) = self.queue.pop_first() else { return };
            self.now = at;
            if let Some((m, instance)) = whom {
                let machine = &self.machines[m];
                if machine.instance != instance {
                    continue;
                }
                if machine.paused_until > at {
                    self.queue.insert((machine.paused_until, number), (whom, task));
                    continue;
                }
            }
            self.steps += 1;
            self.step(whom.map_or(0, |(m, _)| m), task);
        }
    }

    fn step(&mut self, m: usize, task: Task) {
        match task {
            Task::Start(is_clean) => {
                let run = self.draw("r");
                let now = self.now;
                self.machines[m].start(now, run, is_clean);
                self.note(m as u64, |w| format!("{} starts: {:?}", w.name(m), w.machines[m].phase()));
                self.later(m, 1, Task::Tick);
            }
            Task::Tick => {
                self.later(m, 400, Task::Tick);
                self.tick(m);
            }
            Task::Letter(letter) => {
                if self.network.arrives(&letter) {
                    self.note((letter.from * 8 + letter.to) as u64, |w| {
                        format!("{} <- {}: {:?}", w.name(letter.to), w.name(letter.from), letter.body)
                    });
                    self.receive(&letter);
                }
            }
            Task::Acknowledge(pending) => self.acknowledge(&pending),
            Task::Client => self.repeat(Task::Client, 500, World::write),
            Task::Operator => self.repeat(Task::Operator, self.paces.1, World::operate),
            Task::Fault => self.repeat(Task::Fault, self.paces.0, |world| {
                let m = world.dice.below(world.machines.len());
                world.keep_backup(m, 25);
                world.break_something();
            }),
            Task::Calm => {
                self.network.cuts.clear();
                self.note(0, |_| "all is calm now".into());
                self.at(CALM + 4_000, None, Task::Settle);
            }
            Task::Settle => self.settle(),
        }
    }

    /// Does something, and again at some time, until all is calm.
    fn repeat(&mut self, task: Task, pace: u64, what: impl FnOnce(&mut World)) {
        if self.now < CALM {
            what(self);
            let at = self.now + self.dice.between(pace / 2, pace * 3 / 2);
            self.at(at, None, task);
        }
    }

    fn acknowledge(&mut self, pending: &Pending) {
        let m = pending.machine;
        let machine = &self.machines[m];
        let may = matches!(machine.phase(), Phase::Master | Phase::Draining);
        let is_same = machine.own_epoch() == Some(&pending.epoch);
        if (may && is_same) || self.is(Mutant::AcknowledgesInAnyPhase) {
            self.note(m as u64, |w| {
                format!("{} acknowledges {} = {:?} in {}", w.name(m), pending.path, pending.value, pending.epoch)
            });
            self.checker.acknowledged(pending);
        }
    }

    /// Looks whether all is well again, and sees to what only a person can.
    fn settle(&mut self) {
        let unsettled = self.unsettled();
        self.settled = if unsettled.is_none() { self.settled + 1 } else { 0 };
        if self.settled == 3 {
            self.is_over = true;
            self.check_the_end();
            return;
        }
        if let Some(what) = unsettled.filter(|_| self.now >= END) {
            self.checker.fail(format!("it does not come to rest: {what}"));
            return;
        }
        if self.now >= self.resolves {
            self.resolves = self.now + RESOLVE;
            let has_master = self.machines.iter().any(|machine| machine.standing.node.role == Role::Master);
            let is_stopped = |m: &usize| self.machines[*m].phase() == Phase::Stopped;
            let mut stopped: Vec<usize> = (0..self.machines.len()).filter(is_stopped).collect();
            if self.options.has_restores && !has_master {
                stopped = (0..self.machines.len()).collect();
            }
            if !stopped.is_empty() {
                let m = stopped[self.dice.below(stopped.len())];
                self.promote(m);
            }
        }
        self.at(self.now + 2_000, None, Task::Settle);
    }

    /// Something happens to a machine's role; its disk knows it before anybody else does.
    pub fn apply(&mut self, m: usize, event: Event) -> Result<(), String> {
        let machine = &mut self.machines[m];
        let (before, known) = (machine.phase(), machine.standing.node.newest().map_or(0, |epoch| epoch.counter));
        let after = machine.standing.after(event.clone())?;
        let is_forgotten = matches!(event, Event::Heard(..)) && self.options.mutant == Some(Mutant::ForgetsWhatItHeard);
        if after.node != machine.disk.node && !is_forgotten {
            machine.disk.node = after.node.clone();
        }
        let offered = std::mem::replace(&mut machine.standing, after).node.handing;
        self.checker.went(m, before, &event, &self.machines[m]);
        let drawn = self.machines[m].standing.node.epoch.as_ref().map_or(0, |epoch| epoch.counter);
        if matches!(event, Event::Promote(_)) && drawn <= known {
            self.checker.fail(format!("machine {m} is promoted to epoch {drawn}, and knows of epoch {known}"));
        }
        if let (Event::Withdrawn, Some(offered)) = (&event, offered) {
            self.checker.withdrew(m, &offered.epoch.id);
        }
        let phase = self.machines[m].phase();
        if phase != before {
            let code = (before as u64) << 16 | (phase as u64) << 8 | m as u64;
            self.note(code, |w| format!("{}: {before:?} -> {phase:?} by {event:?}", w.name(m)));
        }
        Ok(())
    }

    /// What cannot be refused.
    pub fn must(&mut self, m: usize, event: Event) {
        if let Err(error) = self.apply(m, event.clone()) {
            self.checker.fail(format!("{event:?} was refused by {}: {error}", self.name(m)));
        }
    }

    /// Another line of the story, and always its hash.
    pub fn note(&mut self, code: u64, line: impl FnOnce(&World) -> String) {
        let mixed = (self.hash ^ code).wrapping_mul(0x0000_0100_0000_01B3) ^ self.now;
        self.hash = mixed.rotate_left(23);
        if self.options.lines > 0 {
            let line = format!("{:>7} {}", self.now, line(self));
            self.story.push_back(line);
            let surplus = self.story.len().saturating_sub(self.options.lines);
            self.story.drain(..surplus);
        }
    }

    /// What has happened and what came of it, as one number. Clocks have no part in it.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.hash, self.steps, self.now).hash(&mut hasher);
        for machine in &self.machines {
            format!("{:?} {:?} {:?}", machine.standing, machine.disk.data, machine.disk.divergent).hash(&mut hasher);
        }
        hasher.finish()
    }

    pub fn at(&mut self, at: u64, whom: Option<(usize, u64)>, task: Task) {
        self.queued += 1;
        self.queue.insert((at, self.queued), (whom, task));
    }

    fn later(&mut self, m: usize, after: u64, task: Task) {
        let at = self.now + after + self.dice.between(0, 200);
        let instance = self.machines[m].instance;
        self.at(at, Some((m, instance)), task);
    }

    /// An id that nobody has.
    pub fn draw(&mut self, kind: &str) -> String {
        self.drawn += 1;
        format!("{kind}{}", self.drawn)
    }

    pub fn is(&self, mutant: Mutant) -> bool {
        self.options.mutant == Some(mutant)
    }

    pub fn name(&self, m: usize) -> char {
        char::from(b'A' + m as u8)
    }

    pub fn others(&self, m: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.machines.len()).filter(move |other| *other != m)
    }

    /// One of the others.
    pub fn other(&mut self, m: usize) -> usize {
        let count = self.machines.len();
        (m + 1 + self.dice.below(count - 1)) % count
    }
}
