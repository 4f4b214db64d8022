//! What machines say to each other in hellos, and what they make of it.

use pair::node::{Phase, Role};

use super::Mutant;
use super::machine::{Known, Said};
use super::network::{Body, Letter, Line};
use super::world::World;
use crate::role::standing::Event;

/// A master that starts waits for answers so long.
const ASKING: u64 = 10_000;

/// From one hello to the next.
const HELLO: u64 = 2_000;

impl World {
    /// What a machine does every now and then.
    pub fn tick(&mut self, m: usize) {
        let machine = &self.machines[m];
        let has_asked = machine.answered.len() + 1 == self.machines.len() || self.now - machine.started >= ASKING;
        if machine.phase() == Phase::Asking && has_asked {
            self.must(m, Event::Asked);
        }
        if self.machines[m].hello_due <= self.now {
            self.machines[m].hello_due = self.now + HELLO;
            for other in self.others(m) {
                let said = self.machines[m].said();
                self.ask(m, other, Line::Hello, Body::Hello(said));
            }
        }
        self.mirror(m);
        self.hand_over(m);
        self.come_back(m);
    }

    /// Something arrives.
    pub fn receive(&mut self, letter: &Letter) {
        let (m, from) = (letter.to, letter.from);
        match &letter.body {
            Body::Hello(said) => {
                self.hear(m, from, said);
                let back = Body::HelloBack(self.machines[m].said());
                self.answer(letter, back);
            }
            Body::HelloBack(said) => {
                self.hear(m, from, said);
                self.machines[m].answered.insert(from);
            }
            Body::Where(..) | Body::Copy(..) | Body::Reached(..) => self.mirrored(letter),
            Body::Here(..) | Body::Copied(..) | Body::Told(..) => self.mirror_answered(letter),
            Body::TakeOver(..) | Body::TakenOver(..) | Body::TakeBack(..) | Body::TakenBack(..) => self.offered(letter),
            Body::Compare | Body::Values(..) | Body::Give(..) | Body::Given(..) => self.returned(letter),
        }
    }

    /// Another machine's word counts before anything is answered.
    fn hear(&mut self, m: usize, from: usize, said: &Said) {
        let has = |epoch: &pair::epoch::Epoch| epoch.from.as_ref().is_some_and(|place| self.machines[m].has(place));
        let has_from = said.word.epoch.as_ref().is_some_and(has);
        self.checker.heard(m, &said.word);
        if !(self.is(Mutant::IgnoresHeard) && m == 0) {
            self.must(m, Event::Heard(said.word.clone(), has_from));
        }
        let machine = &mut self.machines[m];
        machine.known.insert(from, Known { said: said.clone(), at: self.now });
        if said.word.role == Role::Standby && machine.is_behind(said.reached.as_ref()) {
            self.behind(m, from);
        }
    }

    /// A standby has what this master's journal does not know.
    pub fn behind(&mut self, m: usize, standby: usize) {
        self.checker.behind(m, &self.machines[m]);
        if !self.is(Mutant::IgnoresBehind) {
            self.must(m, Event::Behind(format!("machine {standby} has changes of this master that it does not know")));
        }
    }
}
