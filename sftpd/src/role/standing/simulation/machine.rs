//! One machine: what its disk keeps, and what a restart forgets.

use std::collections::{BTreeMap, BTreeSet};

use pair::epoch::{Lineage, Reached, Run};
use pair::node::{Node, Phase, Role};

use super::handover::Handover;
use super::mirror::Mirror;
use crate::role::standing::{Standing, Word};

/// A change in the journal.
#[derive(Clone, Debug)]
pub struct Record {
    pub seq: u64,
    pub epoch: String,
    #[allow(dead_code, reason = "for who reads a story")]
    pub run: String,
    pub path: u8,
    pub value: Option<u32>,
    /// By the machine's own clock, which may jump. Nothing reads it.
    #[allow(dead_code, reason = "as the text says")]
    pub wall: i64,
}

/// A file in `divergent`, where it stays.
#[derive(Clone, Debug)]
pub struct Aside {
    pub path: u8,
    pub value: u32,
    /// Whether a master has been asked to take it.
    pub is_offered: bool,
}

/// What survives a crash.
#[derive(Clone, Debug)]
pub struct Disk {
    pub node: Node,
    pub journal: Vec<Record>,
    pub lineage: Lineage,
    /// The run since which no start was unclean.
    pub sound: usize,
    pub seq: u64,
    pub data: BTreeMap<u8, u32>,
    pub divergent: Vec<Aside>,
}

/// What a machine says in a hello.
#[derive(Clone, Debug)]
pub struct Said {
    pub word: Word,
    pub phase: Phase,
    /// A standby: up to where it has everything.
    pub reached: Option<Reached>,
}

/// What another machine said last.
#[derive(Clone, Debug)]
pub struct Known {
    pub said: Said,
    pub at: u64,
}

pub struct Machine {
    pub disk: Disk,
    pub backup: Option<Disk>,
    pub standing: Standing,
    pub is_up: bool,
    /// Counts its starts and crashes: what was meant for an earlier one never arrives.
    pub instance: u64,
    pub paused_until: u64,
    pub started: u64,
    pub clock_error: i64,
    pub answered: BTreeSet<usize>,
    pub hello_due: u64,
    pub known: BTreeMap<usize, Known>,
    pub mirrors: BTreeMap<usize, Mirror>,
    /// The newest connection on which each other machine has sent changes.
    pub newest_connection: BTreeMap<usize, u64>,
    pub handover: Option<Handover>,
}

impl Machine {
    pub fn new(node: Node) -> Machine {
        let standing = Standing::new(node.clone());
        let lineage = Lineage::default();
        let disk =
            Disk { node, journal: Vec::new(), lineage, sound: 0, seq: 0, data: BTreeMap::new(), divergent: Vec::new() };
        Machine {
            disk,
            backup: None,
            standing,
            is_up: false,
            instance: 0,
            paused_until: 0,
            started: 0,
            clock_error: 0,
            answered: BTreeSet::new(),
            hello_due: 0,
            known: BTreeMap::new(),
            mirrors: BTreeMap::new(),
            newest_connection: BTreeMap::new(),
            handover: None,
        }
    }

    /// Starts sftpd with nothing but what the disk has.
    pub fn start(&mut self, now: u64, run: String, is_clean: bool) {
        self.standing = Standing::new(self.disk.node.clone());
        self.disk.lineage.push(Run { id: run, after: self.disk.seq });
        if !is_clean {
            self.disk.seq += 1000;
            self.disk.sound = self.disk.lineage.0.len() - 1;
        }
        (self.is_up, self.started, self.hello_due) = (true, now, now);
        self.answered.clear();
        self.known.clear();
        self.mirrors.clear();
        self.newest_connection.clear();
        self.handover = None;
    }

    pub fn phase(&self) -> Phase {
        self.standing.phase()
    }

    /// The id of its last time as master.
    pub fn own_epoch(&self) -> Option<&str> {
        self.standing.node.epoch.as_ref().map(|epoch| epoch.id.as_str())
    }

    /// The id of the epoch that it follows.
    pub fn followed(&self) -> Option<&str> {
        self.standing.node.follows.as_ref().map(|follows| follows.epoch.id.as_str())
    }

    pub fn said(&self) -> Said {
        let node = &self.standing.node;
        let is_standby = node.role == Role::Standby;
        let reached = node.follows.as_ref().filter(|_| is_standby).and_then(|follows| follows.reached.clone());
        Said { word: self.standing.word(), phase: self.phase(), reached }
    }

    /// Whether its journal has a place.
    pub fn has(&self, place: &Reached) -> bool {
        self.disk.lineage.has(&place.run, place.seq, self.disk.seq)
    }

    /// Whether a standby's place is one of its own epoch that its journal does not have.
    pub fn is_behind(&self, reached: Option<&Reached>) -> bool {
        let is_own = |place: &&Reached| Some(place.epoch.as_str()) == self.own_epoch();
        self.standing.node.role == Role::Master && reached.filter(is_own).is_some_and(|place| !self.has(place))
    }

    /// Whether its journal alone says what a standby lacks that has come so far. Behind an unclean start it does not: a standby may have got
    /// more than it was told of, and the machine may have come back from a backup without that.
    pub fn knows_since(&self, place: &Reached) -> bool {
        let runs = &self.disk.lineage.0;
        Some(place.epoch.as_str()) == self.own_epoch()
            && runs.iter().skip(self.disk.sound).any(|run| run.id == place.run)
    }

    /// All that this master has changed so far.
    pub fn last(&self) -> Reached {
        let epoch = self.own_epoch().unwrap_or_default().to_owned();
        Reached { epoch, run: self.disk.lineage.run().to_owned(), seq: self.disk.seq }
    }

    /// Journal and data, in one step; returns what was there before.
    pub fn write(&mut self, now: u64, path: u8, value: Option<u32>) -> Option<u32> {
        let Reached { epoch, run, seq } = self.last();
        self.disk.seq = seq + 1;
        let wall = now as i64 + self.clock_error;
        self.disk.journal.push(Record { seq: seq + 1, epoch, run, path, value, wall });
        match value {
            Some(value) => self.disk.data.insert(path, value),
            None => self.disk.data.remove(&path),
        }
    }

    /// Whether its own epoch's changes touch a path.
    pub fn has_touched(&self, path: u8) -> bool {
        let own = self.own_epoch();
        self.disk.journal.iter().any(|record| record.path == path && Some(record.epoch.as_str()) == own)
    }
}
