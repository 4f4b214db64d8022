//! A switchover, step by step, and what becomes of an offer that nobody answers.

use std::collections::BTreeSet;

use pair::node::{Handing, Phase};

use super::Mutant;
use super::network::{Body, Letter, Line};
use super::world::World;
use crate::role::standing::Event;

/// A standby has so long to get everything.
const DRAINING: u64 = 6_000;

/// An offer is taken back after so long.
const OFFERED: u64 = 4_000;

/// From one question after an offer to the next.
const AGAIN: u64 = 1_500;

/// A switchover that is under way in this process.
#[derive(Debug)]
pub enum Handover {
    Draining {
        to: usize,
        since: u64,
    },
    Offered {
        since: u64,
    },
    /// Whom the offer went to is not on the disk, so everybody is asked, and all must say that they will never take it.
    TakingBack {
        again: u64,
        untaken: BTreeSet<usize>,
    },
}

impl World {
    /// An operator wants another machine to take over.
    pub fn switch_over(&mut self, m: usize, to: usize) {
        if self.apply(m, Event::Drain).is_ok() {
            self.machines[m].handover = Some(Handover::Draining { to, since: self.now });
        }
    }

    /// The next step of a switchover.
    pub fn hand_over(&mut self, m: usize) {
        let (now, withdraws_unasked) = (self.now, self.is(Mutant::WithdrawsUnasked));
        match (self.machines[m].phase(), &mut self.machines[m].handover) {
            (Phase::Draining, Some(Handover::Draining { to, since })) => {
                let (to, since) = (*to, *since);
                self.drain(m, to, since);
            }
            (Phase::Handing, Some(Handover::Offered { since })) if now - *since < OFFERED => (),
            (Phase::Handing, Some(Handover::TakingBack { again, .. })) => {
                if *again <= now {
                    *again = now + AGAIN;
                    self.take_back(m);
                }
            }
            (Phase::Handing, _) if withdraws_unasked => self.must(m, Event::Withdrawn),
            (Phase::Handing, handover) => {
                *handover = Some(Handover::TakingBack { again: now, untaken: BTreeSet::new() });
            }
            (_, handover) => *handover = None,
        }
    }

    fn drain(&mut self, m: usize, to: usize, since: u64) {
        let last = self.machines[m].last();
        let reached = self.machines[m].known.get(&to).and_then(|known| known.said.reached.as_ref());
        let has_all =
            reached.is_some_and(|place| (&place.epoch, &place.run, place.seq) == (&last.epoch, &last.run, last.seq));
        // A master that is wrong about its standby is refused by it.
        if has_all || self.dice.chance(2) {
            let id = self.draw("e");
            let name = self.machines[to].disk.node.node.clone();
            self.must(m, Event::Offer(name, id, last));
            self.machines[m].handover = Some(Handover::Offered { since: self.now });
            self.keep_backup(m, 30);
            let offered = self.machines[m].standing.node.handing.clone();
            if let Some(offered) = offered {
                self.ask(m, to, Line::Handover, Body::TakeOver(offered.epoch));
            }
            // The process may die right behind its offer.
            if self.dice.chance(15) {
                self.crash(m, false);
            }
        } else if self.now - since >= DRAINING {
            self.machines[m].handover = None;
            self.must(m, Event::Resume);
            self.checker.count("switchovers given up");
        }
    }

    fn take_back(&mut self, m: usize) {
        let Some(Handing { epoch, .. }) = self.machines[m].standing.node.handing.clone() else { return };
        for other in self.others(m) {
            if self.dice.chance(30) {
                self.reconnect((m, other, Line::Handover));
            }
            self.ask(m, other, Line::Handover, Body::TakeBack(epoch.clone()));
        }
    }

    /// An offer, the end of one, and the answers.
    pub fn offered(&mut self, letter: &Letter) {
        let (m, other) = (letter.to, letter.from);
        match &letter.body {
            Body::TakeOver(epoch) => {
                let is_taken = self.apply(m, Event::TakeOver(epoch.clone())).is_ok();
                self.answer(letter, Body::TakenOver(epoch.id.clone(), is_taken));
                if is_taken && self.dice.chance(20) {
                    self.crash(m, false);
                }
            }
            Body::TakeBack(epoch) => {
                // By its id alone, a machine would forget an offer that it took before it became master once more.
                let is_own = self.machines[m].disk.node.epoch.as_ref().is_some_and(|own| own.id == epoch.id);
                let is_forgotten = self.is(Mutant::TakesBackByIdAlone) && !is_own;
                let is_untaken = self.apply(m, Event::TakeBack(epoch.clone())).is_ok() || is_forgotten;
                self.answer(letter, Body::TakenBack(epoch.id.clone(), is_untaken));
            }
            Body::TakenOver(id, is_taken) if self.is_offering(m, id) => {
                self.must(m, if *is_taken { Event::Taken } else { Event::Withdrawn });
                self.checker.count(if *is_taken { "switchovers" } else { "offers refused" });
            }
            Body::TakenBack(id, is_untaken) if self.is_offering(m, id) => self.taken_back(m, other, *is_untaken),
            _ => (),
        }
    }

    fn taken_back(&mut self, m: usize, other: usize, is_untaken: bool) {
        if !is_untaken {
            // What it knows comes with its hello, and says whether it took the offer or somebody is master of a newer epoch.
            self.machines[m].hello_due = self.now;
            return;
        }
        let Some(Handover::TakingBack { untaken, .. }) = &mut self.machines[m].handover else { return };
        untaken.insert(other);
        let asked = self.machines[m].standing.node.handing.as_ref().map(|handing| handing.to.clone());
        let is_asked = asked.as_deref() == Some(self.machines[other].disk.node.node.as_str());
        if is_asked || self.is(Mutant::TakesBackFromOne) {
            self.must(m, Event::Withdrawn);
            self.checker.count("offers taken back");
        }
    }

    /// Whether an answer is one to the offer that stands.
    fn is_offering(&self, m: usize, id: &str) -> bool {
        let machine = &self.machines[m];
        let offered = machine.standing.node.handing.as_ref();
        offered.is_some_and(|offered| offered.epoch.id == id) && machine.phase() == Phase::Handing
    }
}
