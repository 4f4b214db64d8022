//! filesync, as far as roles rest on it: a master's changes go to each standby, which is told up to where it has everything.

use pair::epoch::Reached;
use pair::node::Phase;

use super::Mutant;
use super::chaos::PATHS;
use super::network::{Body, Letter, Line};
use super::world::World;
use crate::role::standing::Event;

/// Changes sent at once.
const BATCH: usize = 4;

/// A master waits for an answer so long.
const PATIENCE: u64 = 3_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing is under way.
    Rest,
    /// It was asked where it is.
    Where,
    /// Changes up to here are on their way.
    Copying(u64),
    /// It is being told that it has everything up to here.
    Telling(u64),
}

/// How far a standby is, to its master.
#[derive(Debug)]
pub struct Mirror {
    epoch: String,
    /// The connection that all this is about: what is told on another is asked for anew.
    connection: u64,
    stage: Stage,
    since: u64,
    position: u64,
    /// The run and the place that it was told last.
    told: Option<(String, u64)>,
    /// A whole comparison: the next path, and the place at which it began.
    whole: Option<(u8, u64)>,
}

impl World {
    /// What a master does for its standbys every now and then.
    pub fn mirror(&mut self, m: usize) {
        if !matches!(self.machines[m].phase(), Phase::Master | Phase::Draining) {
            self.machines[m].mirrors.clear();
            return;
        }
        let epoch = self.machines[m].own_epoch().unwrap_or_default().to_owned();
        for other in self.others(m) {
            let (now, key) = (self.now, (m, other, Line::Mirror));
            let open = self.network.number(key);
            let goes_on = |mirror: &Mirror| {
                let is_patient = mirror.stage == Stage::Rest || now - mirror.since < PATIENCE;
                mirror.epoch == epoch && mirror.connection == open && is_patient
            };
            if self.machines[m].mirrors.get(&other).is_some_and(goes_on) {
                self.advance(m, other);
                continue;
            }
            self.reconnect(key);
            let (epoch, connection) = (epoch.clone(), self.network.number(key));
            let (stage, told, whole) = (Stage::Where, None, None);
            let mirror = Mirror { epoch: epoch.clone(), connection, stage, since: now, position: 0, told, whole };
            self.machines[m].mirrors.insert(other, mirror);
            self.ask(m, other, Line::Mirror, Body::Where(epoch));
        }
    }

    /// The next thing that a standby lacks.
    fn advance(&mut self, m: usize, other: usize) {
        let machine = &mut self.machines[m];
        let last = machine.last();
        let Some(mirror) = machine.mirrors.get_mut(&other).filter(|mirror| mirror.stage == Stage::Rest) else { return };
        let disk = &machine.disk;
        let (items, upto) = match mirror.whole {
            Some((path, began)) => {
                let end = (path + PATHS / 2).min(PATHS);
                mirror.whole = Some((end, began));
                ((path..end).map(|path| (path, disk.data.get(&path).copied())).collect::<Vec<_>>(), began)
            }
            None => {
                let first = disk.journal.partition_point(|record| record.seq <= mirror.position);
                let records = disk.journal.iter().skip(first).take(BATCH);
                let upto = records.clone().next_back().map_or(last.seq, |record| record.seq);
                (records.map(|record| (record.path, record.value)).collect(), upto)
            }
        };
        let epoch = mirror.epoch.clone();
        mirror.since = self.now;
        if items.is_empty() {
            mirror.position = upto;
            if mirror.told.as_ref().is_none_or(|(run, seq)| (run, *seq) != (&last.run, upto)) {
                self.tell(m, other, upto);
            }
            return;
        }
        mirror.stage = Stage::Copying(upto);
        self.ask(m, other, Line::Mirror, Body::Copy(epoch, items));
        if self.is(Mutant::ReachesTooEarly) {
            let reached = Reached { seq: upto, ..last };
            self.ask(m, other, Line::Mirror, Body::Reached(reached));
        }
    }

    /// Tells a standby that it has everything up to a place.
    fn tell(&mut self, m: usize, other: usize, seq: u64) {
        let reached = Reached { seq, ..self.machines[m].last() };
        let now = self.now;
        if let Some(mirror) = self.machines[m].mirrors.get_mut(&other) {
            (mirror.stage, mirror.since) = (Stage::Telling(seq), now);
            self.ask(m, other, Line::Mirror, Body::Reached(reached));
        }
    }

    /// A standby is asked, or told, something by who sends it changes.
    pub fn mirrored(&mut self, letter: &Letter) {
        let is_old = self.is_old_connection(letter);
        let machine = &mut self.machines[letter.to];
        let follows = |epoch: &str| machine.phase() == Phase::Standby && machine.followed() == Some(epoch);
        let answer = match &letter.body {
            Body::Where(epoch) if follows(epoch) => Body::Here(Some(machine.said().reached)),
            Body::Where(_) => Body::Here(None),
            Body::Copy(epoch, items) => {
                let takes_any = self.is(Mutant::TakesAnyEpoch) && self.machines[letter.to].phase() == Phase::Standby;
                let is_taken = !is_old && (self.is_follower(letter.to, epoch) || takes_any);
                if is_taken {
                    self.copy(letter.to, items);
                }
                Body::Copied(is_taken)
            }
            Body::Reached(_) if is_old => Body::Told(false),
            Body::Reached(reached) => Body::Told(self.apply(letter.to, Event::Reached(reached.clone())).is_ok()),
            _ => return,
        };
        self.answer(letter, answer);
    }

    fn is_follower(&self, m: usize, epoch: &str) -> bool {
        self.machines[m].phase() == Phase::Standby && self.machines[m].followed() == Some(epoch)
    }

    /// Whether its sender has opened another connection since, of which something has come already.
    fn is_old_connection(&mut self, letter: &Letter) -> bool {
        let newest = self.machines[letter.to].newest_connection.entry(letter.from).or_default();
        *newest = (*newest).max(letter.number);
        *newest > letter.number && !self.is(Mutant::TakesFromOldConnections)
    }

    fn copy(&mut self, m: usize, items: &[(u8, Option<u32>)]) {
        for (path, value) in items {
            match value {
                Some(value) => self.machines[m].disk.data.insert(*path, *value),
                None => self.machines[m].disk.data.remove(path),
            };
        }
        self.check_nowhere_absent();
    }

    /// A standby has answered.
    pub fn mirror_answered(&mut self, letter: &Letter) {
        let (m, other) = (letter.to, letter.from);
        let machine = &mut self.machines[m];
        let (last, is_behind) = (machine.last(), |reached: &Reached| machine.is_behind(Some(reached)));
        let behind = match &letter.body {
            Body::Here(Some(Some(reached))) => is_behind(reached),
            _ => false,
        };
        if behind {
            self.behind(m, other);
            return;
        }
        let resumes_anyway = self.is(Mutant::ResumesBehindACrash);
        let machine = &mut self.machines[m];
        let is_known = |place: &&Reached| machine.knows_since(place) || (resumes_anyway && place.epoch == last.epoch);
        let known = match &letter.body {
            Body::Here(Some(reached)) => reached.as_ref().filter(is_known).map(|place| place.seq),
            _ => None,
        };
        let Some(mirror) = machine.mirrors.get_mut(&other) else { return };
        match (&letter.body, mirror.stage) {
            (Body::Here(Some(_)), Stage::Where) => {
                mirror.whole = if known.is_none() { Some((0, last.seq)) } else { None };
                mirror.position = known.unwrap_or_default();
                mirror.stage = Stage::Rest;
                self.checker.count(if known.is_some() { "resumed" } else { "compared whole" });
                self.advance(m, other);
            }
            (Body::Copied(true), Stage::Copying(upto)) => {
                mirror.stage = Stage::Rest;
                if mirror.whole.is_some_and(|(path, _)| path < PATHS) {
                    self.advance(m, other);
                    return;
                }
                (mirror.whole, mirror.position) = (None, upto);
                self.tell(m, other, upto);
            }
            (Body::Told(true), Stage::Telling(seq)) => {
                mirror.told = Some((last.run.clone(), seq));
                mirror.stage = Stage::Rest;
                if let Some(known) = machine.known.get_mut(&other) {
                    known.said.reached = Some(Reached { seq, ..last });
                }
                self.advance(m, other);
            }
            (Body::Here(None) | Body::Copied(false) | Body::Told(false), _) => {
                // It is asked again once patience is at its end.
                mirror.stage = Stage::Where;
            }
            _ => (),
        }
    }
}
