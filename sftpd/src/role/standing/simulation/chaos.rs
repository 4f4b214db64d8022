//! People and faults: who writes, who promotes, what breaks.

use pair::node::{Phase, Role};

use super::machine::{Disk, Machine};
use super::world::{Task, World};

/// Files that there are.
pub const PATHS: u8 = 8;

/// A careful operator promotes nobody while a master was heard of so lately.
const LATELY: u64 = 10_000;

/// What a client was not told yet.
#[derive(Debug)]
pub struct Pending {
    pub machine: usize,
    pub epoch: String,
    pub path: u8,
    pub value: Option<u32>,
}

impl World {
    /// A client writes to one of the machines, if it may.
    pub fn write(&mut self) {
        let m = self.dice.below(self.machines.len());
        let machine = &self.machines[m];
        if !machine.is_up || machine.paused_until > self.now || machine.phase() != Phase::Master {
            return;
        }
        let path = self.dice.below(PATHS.into()) as u8;
        self.values += 1;
        // Half of the files are never removed.
        let is_removed = path < PATHS / 2 && self.dice.chance(25);
        let value = (!is_removed).then_some(self.values);
        let machine = &mut self.machines[m];
        let before = machine.write(self.now, path, value);
        let (epoch, instance) = (machine.last().epoch, machine.instance);
        self.checker.written(path, value, before);
        self.note((m as u64) << 32 | u64::from(path), |w| format!("{} writes {path} = {value:?}", w.name(m)));
        let at = self.now + self.dice.between(5, 1_200);
        self.at(at, Some((m, instance)), Task::Acknowledge(Pending { machine: m, epoch, path, value }));
    }

    /// The operator does something, now and then without care.
    pub fn operate(&mut self) {
        let m = self.dice.below(self.machines.len());
        let machine = &self.machines[m];
        if !machine.is_up || machine.paused_until > self.now {
            return;
        }
        match machine.phase() {
            Phase::Master => {
                let to = self.other(m);
                self.note(m as u64, |w| format!("operator: switchover {} to {}", w.name(m), w.name(to)));
                self.switch_over(m, to);
            }
            Phase::Standby if self.machines.len() > 2 && self.dice.chance(20) => self.promote_rivals(m),
            Phase::Standby | Phase::Returning if !self.hears_a_master(m) || self.dice.chance(15) => self.promote(m),
            Phase::Stopped if self.dice.chance(70) => self.promote(m),
            Phase::Asking | Phase::Handing if self.dice.chance(30) => self.promote(m),
            _ => (),
        }
    }

    /// Two people who cannot reach each other each make a machine the master.
    fn promote_rivals(&mut self, m: usize) {
        let rival = self.other(m);
        let machine = &self.machines[rival];
        let is_standby = machine.is_up && machine.paused_until <= self.now && machine.phase() == Phase::Standby;
        self.promote(m);
        if is_standby {
            self.promote(rival);
            self.cut(m, rival, true, 5_000);
        }
    }

    fn hears_a_master(&self, m: usize) -> bool {
        let machine = &self.machines[m];
        let is_master = |phase| matches!(phase, Phase::Master | Phase::Draining | Phase::Handing | Phase::Asking);
        machine.known.values().any(|known| is_master(known.said.phase) && known.at + LATELY > self.now)
    }

    pub fn promote(&mut self, m: usize) {
        let id = self.draw("e");
        self.note(m as u64, |w| format!("operator: promote {} to {id}", w.name(m)));
        self.must(m, super::super::Event::Promote(id));
        self.checker.count("promotions");
    }

    /// Something breaks.
    pub fn break_something(&mut self) {
        let m = self.dice.below(self.machines.len());
        let other = self.other(m);
        match self.dice.below(100) {
            0..22 => self.crash(m, false),
            22..32 => self.crash(m, true),
            32..47 => {
                let least = self.dice.between(500, 10_000);
                self.pause(m, least);
            }
            47..62 => self.cut(m, other, true, 2_000),
            62..77 => self.cut(m, other, false, 2_000),
            77..90 => {
                self.note(m as u64, |w| format!("connections between {} and {} break", w.name(m), w.name(other)));
                self.network.lose_all(m, other, &mut self.dice);
            }
            _ => self.restore(m),
        }
        // Chance of its own: a clock's jump must change nothing else.
        if self.options.has_clock_jumps && self.clock_dice.chance(30) {
            self.machines[m].clock_error += self.clock_dice.between(0, 20_000_000) as i64 - 10_000_000;
        }
    }

    /// A machine does nothing for a while. What comes for it waits.
    fn pause(&mut self, m: usize, least: u64) {
        let until = self.now + least + self.dice.between(0, 10_000);
        self.note(m as u64, |w| format!("{} pauses until {until}", w.name(m)));
        let machine = &mut self.machines[m];
        machine.paused_until = machine.paused_until.max(until);
    }

    fn cut(&mut self, from: usize, to: usize, both_ways: bool, least: u64) {
        let until = self.now + least + self.dice.between(0, 20_000);
        self.note((from * 8 + to) as u64, |w| {
            let arrow = if both_ways { "<->" } else { "->" };
            format!("cut {} {arrow} {} until {until}", w.name(from), w.name(to))
        });
        self.network.cuts.insert((from, to), until);
        if both_ways {
            self.network.cuts.insert((to, from), until);
        }
        self.network.lose_all(from, to, &mut self.dice);
    }

    /// A process ends, and starts again a while later.
    pub fn crash(&mut self, m: usize, is_clean: bool) {
        if !self.machines[m].is_up {
            return;
        }
        let after = self.dice.between(100, 9_000);
        self.note(m as u64, |w| format!("{} {}", w.name(m), if is_clean { "restarts" } else { "crashes" }));
        for other in self.others(m) {
            self.network.lose_all(m, other, &mut self.dice);
        }
        let machine = &mut self.machines[m];
        machine.instance += 1;
        (machine.is_up, machine.paused_until) = (false, 0);
        let instance = machine.instance;
        self.at(self.now + after, Some((m, instance)), Task::Start(is_clean));
        self.checker.count("crashes");
    }

    /// A backup is made of a machine, now and then.
    pub fn keep_backup(&mut self, m: usize, percent: u64) {
        let is_rare = |disk: &Disk| disk.node.handing.is_some();
        let percent = if self.machines[m].backup.as_ref().is_some_and(is_rare) { percent / 6 } else { percent };
        if self.options.has_restores && self.dice.chance(percent) {
            self.note(m as u64, |w| format!("backup of {}", w.name(m)));
            self.machines[m].backup = Some(self.machines[m].disk.clone());
        }
    }

    /// A machine's disk becomes what it was.
    fn restore(&mut self, m: usize) {
        if !self.options.has_restores {
            return;
        }
        // Most of all that of a master which has gone on since.
        let goes_on = |machine: &Machine| {
            let is_same = |disk: &Disk| disk.node.role == Role::Master && disk.node.epoch == machine.disk.node.epoch;
            machine.disk.node.role == Role::Master && machine.backup.as_ref().is_some_and(is_same)
        };
        let going = self.machines.iter().position(goes_on);
        let m = going.filter(|_| self.dice.chance(70)).unwrap_or(m);
        let Some(backup) = self.machines[m].backup.clone() else { return };
        let is_master = backup.node.role == Role::Master;
        self.note(m as u64, |w| format!("{} is restored from its backup", w.name(m)));
        self.crash(m, false);
        self.machines[m].disk = backup;
        self.checker.restored(m);
        self.checker.count("restores");
        // Whoever must not write may hear of it late.
        if is_master && self.dice.chance(60) {
            for other in self.others(m) {
                self.pause(other, 14_000);
            }
        }
    }
}
