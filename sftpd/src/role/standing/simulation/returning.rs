//! The way back of a master of before: what only it has is set aside, and then offered to the new one.

use std::collections::BTreeMap;

use pair::node::{Phase, Role};

use super::Mutant;
use super::machine::{Aside, Record};
use super::network::{Body, Letter, Line};
use super::world::World;
use crate::role::standing::Event;

impl World {
    /// What a machine that is no master any more does every now and then.
    pub fn come_back(&mut self, m: usize) {
        let Some(master) = self.master_known_to(m) else { return };
        match self.machines[m].phase() {
            Phase::Returning => self.ask(m, master, Line::Return, Body::Compare),
            Phase::Standby => {
                let machine = &self.machines[m];
                let Some(aside) = machine.disk.divergent.iter().find(|aside| !aside.is_offered) else { return };
                let epoch = machine.followed().unwrap_or_default().to_owned();
                let give = Body::Give(epoch, aside.path, aside.value);
                self.ask(m, master, Line::Return, give);
            }
            _ => (),
        }
    }

    /// Who has said that it is the master of the epoch that a machine follows.
    fn master_known_to(&self, m: usize) -> Option<usize> {
        let followed = self.machines[m].followed()?;
        let is_master = |said: &super::machine::Said| {
            said.word.role == Role::Master && said.word.epoch.as_ref().is_some_and(|epoch| epoch.id == followed)
        };
        self.machines[m].known.iter().find(|(_, known)| is_master(&known.said)).map(|(other, _)| *other)
    }

    /// A returning machine asks, or is answered.
    pub fn returned(&mut self, letter: &Letter) {
        let m = letter.to;
        match &letter.body {
            Body::Compare => {
                let machine = &self.machines[m];
                let node = &machine.standing.node;
                if node.role == Role::Master && node.stopped.is_none() {
                    let epoch = machine.own_epoch().unwrap_or_default().to_owned();
                    let values = Body::Values(epoch, machine.disk.data.clone());
                    self.answer(letter, values);
                }
            }
            Body::Values(epoch, theirs) => {
                let machine = &self.machines[m];
                if machine.phase() == Phase::Returning && machine.followed() == Some(epoch) {
                    self.set_aside(m, theirs);
                }
            }
            Body::Give(epoch, path, value) => {
                let machine = &self.machines[m];
                if machine.phase() == Phase::Master && machine.own_epoch() == Some(epoch) {
                    self.take(m, *path, *value);
                    self.answer(letter, Body::Given(*path, *value));
                }
            }
            Body::Given(path, value) => {
                let divergent = &mut self.machines[m].disk.divergent;
                for aside in divergent.iter_mut().filter(|aside| (aside.path, aside.value) == (*path, *value)) {
                    aside.is_offered = true;
                }
            }
            _ => (),
        }
    }

    /// What differs from the new master's files is moved away, before it is said to be.
    fn set_aside(&mut self, m: usize, theirs: &BTreeMap<u8, u32>) {
        let machine = &mut self.machines[m];
        let Some(returning) = machine.standing.node.returning.clone() else { return };
        let is_later = |record: &&Record, after| record.epoch == returning.epoch && record.seq > after;
        let disk = &mut machine.disk;
        let mut paths: Vec<u8> = match returning.after {
            Some(after) => disk.journal.iter().filter(|record| is_later(record, after)).map(|r| r.path).collect(),
            None => disk.data.keys().copied().collect(),
        };
        paths.retain(|path| disk.data.get(path).is_some_and(|value| theirs.get(path) != Some(value)));
        self.checker.count(if returning.after.is_some() { "returns by journal" } else { "returns compared whole" });
        if !self.is(Mutant::SetsNothingAside) {
            for path in paths {
                let disk = &mut self.machines[m].disk;
                let Some(value) = disk.data.remove(&path) else { continue };
                disk.divergent.push(Aside { path, value, is_offered: false });
                self.checker.count("files set aside");
                if self.dice.chance(3) {
                    self.crash(m, false);
                    return;
                }
            }
        }
        self.must(m, Event::SetAside);
    }

    /// A master is offered a file of a machine that has come back.
    fn take(&mut self, m: usize, path: u8, value: u32) {
        if self.machines[m].has_touched(path) {
            self.checker.count("offered files refused");
            return;
        }
        let before = self.machines[m].write(self.now, path, Some(value));
        self.checker.count("offered files taken");
        // The file that it replaces may be newer: an earlier master of the same line may have written it.
        let is_kept = !self.is(Mutant::ReplacesByOffers);
        if let Some(value) = before.filter(|before| *before != value && is_kept) {
            self.machines[m].disk.divergent.push(Aside { path, value, is_offered: true });
            self.checker.count("files replaced by offered ones");
        }
    }
}
