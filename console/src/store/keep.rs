//! Takes what was read of logs: records, their figures, problems, and how far each was read, in one transaction.
//!
//! Always holds: a transaction has all of some batches, or there is nothing of them and an error. What has a number of its writer's and is
//! here already, from another file, is not kept again: a log that was sent to this machine twice is cut into files in another way.
//!
//! A transaction is as large as is worth it. Names lie all over their indexes: a few thousand records change nearly every page of them,
//! and each transaction writes those pages once, whether it has few records or many.

use std::time::{Duration, Instant};

use anyhow::Context;
use rusqlite::{CachedStatement, Connection, params};

use super::figures::{Counted, Figures};
use super::problems::{Problem, keep_problem};
use super::streams::{self, Stream};
use super::words::Words;
use super::{Store, folders, retention};
use crate::record::Entry;

/// Records that one transaction has, more or less; in tests few.
const GATHERED_MAX: u64 = if cfg!(test) { 7 } else { 100_000 };
/// How long one lasts, more or less: others write here, too.
const GATHERING_MAX: Duration = Duration::from_secs(3);

const ADD: &str = "
    INSERT INTO record (time_ms, kind, account, stream, log_id, address, port, connection, protocol, path, name, target,
    moved_bytes, file_bytes, elapsed_ms, error, method, client, algorithms, sender, path_escaped, key_fingerprint, certificate)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// A transaction that is open: what its records come to is written at its end.
#[derive(Debug)]
pub struct Gathered {
    figures: Figures,
    records: u64,
    since: Instant,
}

/// What was read of a log: whole lines, one after the other.
#[derive(Debug, Default)]
pub struct Batch {
    /// Records, in the order of their lines.
    pub entries: Vec<Entry>,
    /// Lines that are no records: the first of them.
    pub problems: Vec<Problem>,
    /// How many of those there were.
    pub problems_count: u64,
    /// Lines that are not meant to be records.
    pub passed_over: u64,
    /// All lines.
    pub lines: u64,
    /// Up to where the log is read with this, in bytes of its text.
    pub consumed: u64,
    /// What follows of its beginning, as long as that is kept.
    pub head: Vec<u8>,
    /// The hash of what stands before `consumed`.
    pub tail: [u8; 16],
    /// Whether `consumed` is inside a line that is too long to be one.
    pub is_skipping: bool,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Records that were kept.
    pub records: u64,
    /// Records that were here already.
    pub repeated: u64,
    /// Records that are older than anything that is kept.
    pub too_old: u64,
}

impl Store {
    /// Takes a batch of a stream, and gives the stream its number where it is new.
    pub fn take(&mut self, stream: &mut Stream, batch: &Batch, now_ms: i64) -> anyhow::Result<Taken> {
        let taken = self.gather(stream, batch, now_ms)?;
        self.settle()?;
        Ok(taken)
    }

    /// The same, with those before and behind it in one transaction: nothing is kept before [`Store::settle`]. An error takes all of it
    /// back, and then streams are what the store says of them.
    pub fn gather(&mut self, stream: &mut Stream, batch: &Batch, now_ms: i64) -> anyhow::Result<Taken> {
        let mut after =
            Stream { consumed: batch.consumed, tail: batch.tail, is_skipping: batch.is_skipping, ..stream.clone() };
        after.head.extend_from_slice(&batch.head);
        let outcome = self.add(stream.consumed, &mut after, batch, now_ms);
        if outcome.is_err() {
            self.take_back();
        }
        let taken = outcome.with_context(|| format!("cannot write {}", self.path.display()))?;
        let is_enough = |open: &Gathered| open.records >= GATHERED_MAX || open.since.elapsed() >= GATHERING_MAX;
        if self.gathered.as_ref().is_some_and(is_enough) {
            self.settle()?;
        }
        *stream = after;
        Ok(taken)
    }

    /// Keeps what was gathered. An error takes all of it back.
    pub fn settle(&mut self) -> anyhow::Result<()> {
        let Some(Gathered { figures, .. }) = self.gathered.take() else { return Ok(()) };
        let write = |store: &mut Store| -> rusqlite::Result<()> {
            let large = figures.write(&store.db, &mut store.words)?;
            if !large.is_empty() {
                folders::promote(&store.db, &large, &mut store.calendar, &mut store.words, store.kept_from_ms)?;
                store.folders.forget();
            }
            store.db.execute_batch("COMMIT")
        };
        let outcome = write(self);
        if outcome.is_err() {
            self.take_back();
        }
        outcome.with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Forgets what was gathered and not kept.
    pub fn take_back(&mut self) {
        self.gathered = None;
        if !self.db.is_autocommit() {
            // Where even this fails, the next transaction does, too, and says so.
            let _ = self.db.execute_batch("ROLLBACK");
        }
        // Numbers of this transaction are nobody's now.
        self.words.forget();
        self.folders.forget();
    }

    fn add(&mut self, before: u64, after: &mut Stream, batch: &Batch, now_ms: i64) -> anyhow::Result<Taken> {
        let db = &self.db;
        if self.gathered.is_none() {
            db.execute_batch("BEGIN IMMEDIATE")?;
            self.folders.load(db)?;
        }
        let begin = || Gathered { figures: Figures::default(), records: 0, since: Instant::now() };
        let gathered = self.gathered.get_or_insert_with(begin);
        if after.id == 0 {
            after.id = streams::add(db, &Stream { consumed: before, ..after.clone() }, now_ms)?;
        }
        let known = KnownNumbers::of_others(db, after)?;
        let (mut taken, mut add) = (Taken::default(), db.prepare_cached(ADD)?);
        for entry in &batch.entries {
            if known.has(db, entry)? {
                taken.repeated += 1;
            } else if entry.time_ms < self.kept_from_ms {
                taken.too_old += 1;
            } else {
                let counted = keep(db, &mut add, entry, after.id, &mut self.words)?;
                gathered.figures.add(counted, &mut self.calendar, &self.folders);
                taken.records += 1;
            }
            if let Some(id) = entry.log_id {
                after.first_id = Some(after.first_id.map_or(id, |first| first.min(id)));
                after.last_id = Some(after.last_id.map_or(id, |last| last.max(id)));
            }
        }
        gathered.records += taken.records;
        count(db, before, after, batch, taken, now_ms)?;
        Ok(taken)
    }

    /// Adds a stream that goes on from the midst of another one, whose file it has now.
    pub fn fork(&mut self, from: &Stream, stream: &mut Stream, now_ms: i64) -> anyhow::Result<()> {
        self.settle()?;
        let mut fork = || -> rusqlite::Result<i64> {
            let tx = self.db.transaction()?;
            tx.execute("UPDATE stream SET device = 0, inode = 0 WHERE id = ?", [from.id])?;
            let id = streams::add(&tx, stream, now_ms)?;
            tx.commit()?;
            Ok(id)
        };
        stream.id = fork().with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(())
    }

    /// Lets go of what is too old or too much, in small steps: tells whether there is more to do.
    pub fn let_go(&mut self, days: u32, records_max: u64, now_ms: i64) -> anyhow::Result<bool> {
        let path = self.path.clone();
        retention::step(self, days, records_max, now_ms).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Keeps how far a stream was read with a batch, and what was wrong in it.
fn count(db: &Connection, before: u64, after: &Stream, batch: &Batch, taken: Taken, now_ms: i64) -> anyhow::Result<()> {
    let file = format!("{}/{}", after.folder, after.name);
    for problem in &batch.problems {
        keep_problem(db, &file, problem, now_ms)?;
    }
    let sql = "UPDATE stream SET lines = lines + ?, records = records + ?, repeated = repeated + ?, passed_over = passed_over + ?,
               problems = problems + ? WHERE id = ?";
    db.prepare_cached(sql)?.execute(params![
        batch.lines,
        taken.records,
        taken.repeated,
        batch.passed_over,
        batch.problems_count,
        after.id
    ])?;
    if !streams::advance(db, before, after, now_ms)? {
        anyhow::bail!("{file} was read further by somebody else: are two consoles running?");
    }
    Ok(())
}

/// Numbers of records that are here from other files.
struct KnownNumbers {
    spans: Vec<(i64, i64)>,
}

impl KnownNumbers {
    fn of_others(db: &Connection, stream: &Stream) -> rusqlite::Result<KnownNumbers> {
        Ok(KnownNumbers { spans: streams::spans_of_others(db, stream.id)? })
    }

    fn has(&self, db: &Connection, entry: &Entry) -> rusqlite::Result<bool> {
        let Some(id) = entry.log_id else { return Ok(false) };
        if !self.spans.iter().any(|(first, last)| (*first..=*last).contains(&id)) {
            return Ok(false);
        }
        // Two machines may give the same number at the same time, but not to the same.
        let sql = "SELECT 1 FROM record WHERE time_ms = ? AND log_id = ? AND kind = ? AND ifnull(connection, '') = ?";
        db.prepare_cached(sql)?.exists(params![entry.time_ms, id, entry.kind().0, entry.connection])
    }
}

fn keep<'a>(
    db: &Connection,
    add: &mut CachedStatement<'_>,
    entry: &'a Entry,
    stream: i64,
    words: &mut Words,
) -> rusqlite::Result<Counted<'a>> {
    let account = words.account(db, &entry.account)?;
    let (client, algorithms) = (words.word(db, &entry.client)?, words.word(db, &entry.algorithms)?);
    let (protocol, method) = (words.word(db, &entry.protocol)?, words.word(db, &entry.method)?);
    let text = |text: &'a str| (!text.is_empty()).then_some(text);
    let kind = entry.kind();
    add.execute(params![
        entry.time_ms,
        kind.0,
        account,
        stream,
        entry.log_id,
        text(&entry.address),
        entry.port,
        text(&entry.connection),
        protocol,
        entry.path,
        entry.name(),
        entry.target,
        entry.moved_bytes,
        entry.file_bytes,
        entry.elapsed_ms,
        entry.error,
        method,
        client,
        algorithms,
        entry.sender,
        entry.path_escaped,
        entry.key_fingerprint,
        entry.certificate
    ])?;
    Ok(Counted {
        time_ms: entry.time_ms,
        kind,
        account,
        path: entry.path.as_deref(),
        bytes: entry.moved_bytes.unwrap_or(0),
        elapsed_ms: entry.elapsed_ms.unwrap_or(0),
        error: entry.error.as_deref(),
        address: &entry.address,
        client,
        algorithms,
    })
}
