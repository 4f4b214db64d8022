//! Keeps the archive: follows the journal, has segments written, removes what is too old.
//!
//! It works in turns, each as long as it takes to read or remove a little, on a thread that may wait for the disk. Between two turns it holds
//! nothing but what the volume and the ledger say and what the journal tells anew: it may end at any point.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pair::epoch::Epoch;
use pair::record::{Position, VolumePath};

use super::gathered::Gathered;
use super::ledger::Ledger;
use super::moment;
use super::steadiness::Steadiness;
use crate::accounts::Keep;
use crate::storage::Volume;

/// Records that are read from the journal at once.
const BATCH: usize = 2000;

/// Files that wait before a segment is written ahead of its time.
const WAITING_MAX: usize = 20_000;

/// Files that a comparison finds before they are put into segments.
const FOUND_MAX: usize = 100_000;

/// How long before the end of a day its last segment is written.
const END_OF_DAY_MS: i64 = 20_000;

/// How often a standby looks at what has come of the chain.
const STANDBY_LOOK_MS: i64 = 60_000;

/// An agent, as far as its files are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its folder, from the volume on.
    pub home: Vec<u8>,
    /// How long its files are kept.
    pub keep: Keep,
}

/// What is so at the time of a turn.
pub struct Circumstances<'a> {
    /// The wall's clock, in milliseconds since 1970.
    pub wall_ms: i64,
    /// What has been counted since the start of the run.
    pub counted: Duration,
    /// Whether this machine is the master and may write.
    pub is_master: bool,
    /// Its id.
    pub machine: &'a str,
    /// The epoch of its journal.
    pub epoch: &'a Epoch,
    /// All agents.
    pub agents: &'a [Agent],
    /// Whether the turn is to be gone on with.
    pub goes_on: &'a dyn Fn() -> bool,
}

/// How often things are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// From one segment to the next, where something comes.
    pub seal_every: Duration,
    /// When retention runs, in seconds of the day (UTC).
    pub retention_at_s: u32,
}

/// A segment that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its number.
    pub number: u64,
    /// Its digest.
    pub digest: String,
    /// Where it lies, from the volume on.
    pub path: String,
}

/// What came of a turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// Segments that were written.
    pub sealed: Vec<Sealed>,
    /// Files that retention has removed: path and bytes.
    pub removed: Vec<(VolumePath, u64)>,
    /// Whether there is more to do at once.
    pub has_more: bool,
}

/// The keeper.
pub struct Keeper {
    pub(super) volume: Arc<Volume>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) rhythm: Rhythm,
    pub(super) gathered: Gathered,
    /// Up to where the journal was read, and when that was.
    pub(super) read_to: u64,
    pub(super) read_ms: i64,
    /// When the last segment was written.
    pub(super) sealed_ms: Option<i64>,
    /// What stood in the way of this turn and of a file of the last segment, and what is wrong with the chain.
    pub(super) problem: Option<String>,
    pub(super) file_problem: Option<String>,
    pub(super) chain_problem: Option<String>,
    /// Whether the last segment could not take all that waited.
    pub(super) has_rest: bool,
    /// The epoch whose journal is followed; none where none is.
    follows: Option<String>,
    /// The folders that are known to be in the chain.
    compared: BTreeSet<Vec<u8>>,
    pub(super) steadiness: Steadiness,
    /// When retention runs next; whether it is at work.
    pub(super) retention_ms: Option<i64>,
    pub(super) is_expiring: bool,
    /// When a standby looked at the chain.
    looked_ms: i64,
}

/// What a keeper says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Files that wait for a segment.
    pub waiting: u64,
    /// How many of each agent's folder, and when the last byte of them came.
    pub waiting_of: BTreeMap<Vec<u8>, (u64, i64)>,
    /// Since when, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// When retention runs next.
    pub retention_ms: Option<i64>,
    /// Why nothing is sealed, or what is wrong with the chain.
    pub problem: Option<String>,
    /// When the newest segment was written.
    pub head_ms: Option<i64>,
}

impl Keeper {
    /// One that has not looked at anything yet.
    pub fn new(volume: Arc<Volume>, ledger: Arc<Ledger>, rhythm: Rhythm) -> Keeper {
        Keeper {
            volume,
            ledger,
            rhythm,
            gathered: Gathered::default(),
            read_to: 0,
            read_ms: 0,
            sealed_ms: None,
            problem: None,
            file_problem: None,
            chain_problem: None,
            has_rest: false,
            follows: None,
            compared: BTreeSet::new(),
            steadiness: Steadiness::default(),
            retention_ms: None,
            is_expiring: false,
            looked_ms: i64::MIN,
        }
    }

    /// What it says of itself.
    pub fn told(&self) -> Told {
        let head = self.ledger.head().ok().flatten();
        Told {
            waiting: self.gathered.len() as u64,
            waiting_of: self.gathered.by_home(),
            since_ms: self.gathered.since_ms(),
            retention_ms: self.retention_ms,
            problem: [&self.problem, &self.file_problem, &self.chain_problem].into_iter().flatten().next().cloned(),
            head_ms: head.map(|head| moment::from_text(&head.time)),
        }
    }

    /// The folders of agents.
    pub(super) fn homes(&self, now: &Circumstances<'_>) -> BTreeSet<Vec<u8>> {
        now.agents.iter().map(|agent| agent.home.clone()).collect()
    }

    /// Does what there is to do now, or a part of it.
    pub fn turn(&mut self, now: &Circumstances<'_>) -> Turn {
        let mut turn = Turn::default();
        self.problem = None;
        let done = if now.is_master { self.turn_as_master(now, &mut turn) } else { self.turn_as_standby(now) };
        if let Err(sentence) = done {
            self.problem = Some(sentence);
        }
        turn
    }

    fn turn_as_standby(&mut self, now: &Circumstances<'_>) -> Result<(), String> {
        self.volume.keep_records_behind(u64::MAX);
        self.gathered.clear();
        self.compared.clear();
        (self.follows, self.retention_ms, self.is_expiring) = (None, None, false);
        if now.wall_ms.abs_diff(self.looked_ms) < STANDBY_LOOK_MS as u64 {
            return Ok(());
        }
        self.looked_ms = now.wall_ms;
        self.fold(now)?;
        self.forget_what_is_gone()
    }

    fn turn_as_master(&mut self, now: &Circumstances<'_>, turn: &mut Turn) -> Result<(), String> {
        let ledger = |error: rusqlite::Error| format!("the archive's ledger cannot be used: {error}");
        let homes = self.homes(now);
        if homes.is_empty() && self.gathered.len() == 0 {
            // Said before the beginning, which may fail each time: without agents the journal is held for nobody.
            self.volume.keep_records_behind(u64::MAX);
        }
        if self.follows.as_ref() != Some(&now.epoch.id) {
            self.begin(now)?;
        }
        if homes.is_empty() && self.gathered.len() == 0 {
            // Nobody asks for the journal.
            (self.read_to, self.read_ms) = (*self.volume.decided().borrow(), now.wall_ms);
            self.compared.clear();
            self.volume.keep_records_behind(u64::MAX);
            return self.retain(now, turn);
        }
        if !homes.is_subset(&self.compared) {
            // What a comparison finds waits in memory only, and the first of its segments names the agent already: until all of it is in the
            // chain, who starts again must compare again.
            self.ledger.forget_cursor().map_err(ledger)?;
            homes.difference(&self.compared).for_each(|home| self.gathered.compare(home));
        }
        self.compared.clone_from(&homes);
        self.read(now, &homes)?;
        self.compare(now)?;
        self.look_at_what_grows()?;
        if self.is_due(now) {
            turn.sealed.extend(self.seal(now)?);
        }
        if self.gathered.len() == 0 && !self.gathered.must_compare() {
            let cursor = Position { epoch: now.epoch.id.clone(), seq: self.read_to };
            if self.ledger.cursor().map_err(ledger)?.as_ref() != Some(&cursor) {
                self.ledger.set_cursor(&cursor).map_err(ledger)?;
            }
            self.volume.keep_records_behind(self.read_to);
        }
        self.retain(now, turn)?;
        turn.has_more |= self.gathered.must_compare() || self.has_rest || self.is_expiring;
        Ok(())
    }

    /// Begins to follow the journal: where it was left, or, where that is not known, at its end and with a comparison.
    fn begin(&mut self, now: &Circumstances<'_>) -> Result<(), String> {
        let journal = |error: anyhow::Error| format!("the journal cannot be read: {error:#}");
        self.gathered.clear();
        self.compared.clear();
        self.fold(now)?;
        self.doubt_the_clock(now);
        let cursor = self.ledger.cursor().map_err(|error| format!("the archive's ledger cannot be used: {error}"))?;
        let (first, last) = (self.volume.first_seq().map_err(journal)?, *self.volume.decided().borrow());
        let place =
            cursor.filter(|cursor| cursor.epoch == now.epoch.id && cursor.seq <= last && first <= cursor.seq + 1);
        match place {
            Some(cursor) => {
                self.read_to = cursor.seq;
                let head = self.ledger.head().ok().flatten();
                // Who was an agent at the newest segment has been compared since.
                self.compared = head.into_iter().flat_map(|head| head.agents).map(|home| home.0).collect();
            }
            None => self.read_to = last,
        }
        self.volume.keep_records_behind(self.read_to);
        self.follows = Some(now.epoch.id.clone());
        Ok(())
    }

    /// Reads what the journal tells anew.
    fn read(&mut self, now: &Circumstances<'_>, homes: &BTreeSet<Vec<u8>>) -> Result<(), String> {
        let journal = |error: anyhow::Error| format!("the journal cannot be read: {error:#}");
        // Looked at before: what is decided meanwhile may not be among what is read.
        let (read_ms, last) = (now.wall_ms, *self.volume.decided().borrow());
        while self.read_to < last && self.gathered.len() < WAITING_MAX {
            let records = self.volume.records_after(self.read_to, BATCH).map_err(journal)?;
            let first = self.volume.first_seq().map_err(journal)?;
            if first > self.read_to + 1 {
                // The retention limit of the journal has passed what was not read.
                homes.iter().for_each(|home| self.gathered.compare(home));
            }
            records.iter().for_each(|record| self.gathered.note(record, homes));
            let is_all = records.len() < BATCH;
            self.read_to = records.last().map_or(last, |record| if is_all { last.max(record.seq) } else { record.seq });
        }
        if self.read_to >= last {
            self.read_ms = read_ms;
        }
        Ok(())
    }

    /// Compares one folder with the chain: what is in no segment was not told of.
    fn compare(&mut self, now: &Circumstances<'_>) -> Result<(), String> {
        let Some(home) = self.gathered.next_to_compare() else { return Ok(()) };
        let Keeper { volume, ledger, gathered, .. } = self;
        let (mut found, mut failed) = (Vec::new(), None);
        let told = volume.files_below(&home, &mut |path, entry| {
            if gathered.concerns(path) {
                return true;
            }
            match ledger.known(path) {
                Ok(Some(known)) if known.expired_ms.is_some() => {}
                Ok(Some(known)) if known.size >= entry.attributes.size => {}
                Ok(_) => found.push(path.to_vec()),
                Err(error) => failed = Some(format!("the archive's ledger cannot be used: {error}")),
            }
            failed.is_none() && found.len() < FOUND_MAX && (now.goes_on)()
        });
        told.map_err(|error| format!("{} cannot be compared with the chain: {error}", VolumePath(home.clone())))?;
        if let Some(sentence) = failed {
            return Err(sentence);
        }
        // One that was broken off is begun again when these are in segments.
        if found.len() < FOUND_MAX && (now.goes_on)() {
            gathered.compared(&home);
        }
        found.iter().for_each(|path| gathered.touch(path, now.wall_ms, true));
        Ok(())
    }

    /// What is written in place for days is put into segments meanwhile.
    fn look_at_what_grows(&mut self) -> Result<(), String> {
        let growing: Vec<Vec<u8>> =
            self.gathered.growing().filter(|path| !self.gathered.is_waiting(path)).cloned().collect();
        for path in growing {
            let known = self.ledger.known(&path).ok().flatten().map_or(0, |known| known.size);
            match self.volume.look_at(&path) {
                Ok(Some(seen)) if seen.size > known => self.gathered.touch(&path, self.read_ms, false),
                _ => {}
            }
        }
        Ok(())
    }

    fn is_due(&self, now: &Circumstances<'_>) -> bool {
        let every_ms = i64::try_from(self.rhythm.seal_every.as_millis()).unwrap_or(i64::MAX);
        // A clock that went back holds nothing up.
        let is_time =
            self.sealed_ms.is_none_or(|last_ms| !(last_ms..last_ms.saturating_add(every_ms)).contains(&now.wall_ms));
        let is_evening = moment::left_of_day(now.wall_ms) <= END_OF_DAY_MS;
        self.gathered.len() > 0 && (is_time || is_evening || self.has_rest || self.gathered.len() >= WAITING_MAX)
    }
}
