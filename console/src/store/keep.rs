//! Takes what was read of a log: records, their figures, problems, and how far it was read, in one transaction.
//!
//! Always holds: all of a batch is kept, or nothing and an error. What has a number of its writer's and is here already, from another
//! file, is not kept again: a log that was sent to this machine twice is cut into files in another way.

use anyhow::Context;
use rusqlite::{Transaction, params};

use super::figures::{Counted, Figures};
use super::problems::{Problem, keep_problem};
use super::streams::{self, Stream};
use super::words::Words;
use super::{Store, retention};
use crate::record::Entry;

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
        let mut after =
            Stream { consumed: batch.consumed, tail: batch.tail, is_skipping: batch.is_skipping, ..stream.clone() };
        after.head.extend_from_slice(&batch.head);
        let outcome = self.take_in_one(stream.consumed, &mut after, batch, now_ms);
        if outcome.is_err() {
            // Numbers of this transaction are nobody's now.
            self.words.forget();
        }
        let taken = outcome.with_context(|| format!("cannot write {}", self.path.display()))?;
        *stream = after;
        Ok(taken)
    }

    fn take_in_one(&mut self, before: u64, after: &mut Stream, batch: &Batch, now_ms: i64) -> anyhow::Result<Taken> {
        let tx = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        if after.id == 0 {
            after.id = streams::add(&tx, &Stream { consumed: before, ..after.clone() }, now_ms)?;
        }
        let known = KnownNumbers::of_others(&tx, after)?;
        let (mut taken, mut figures) = (Taken::default(), Figures::default());
        for entry in &batch.entries {
            if known.has(&tx, entry)? {
                taken.repeated += 1;
            } else if entry.time_ms < self.kept_from_ms {
                taken.too_old += 1;
            } else {
                let counted = keep(&tx, entry, after.id, &mut self.words)?;
                figures.add(counted, &mut self.calendar);
                taken.records += 1;
            }
            if let Some(id) = entry.log_id {
                after.first_id = Some(after.first_id.map_or(id, |first| first.min(id)));
                after.last_id = Some(after.last_id.map_or(id, |last| last.max(id)));
            }
        }
        figures.write(&tx, &mut self.words)?;
        let file = format!("{}/{}", after.folder, after.name);
        for problem in &batch.problems {
            keep_problem(&tx, &file, problem, now_ms)?;
        }
        let sql = "UPDATE stream SET lines = lines + ?, records = records + ?, repeated = repeated + ?, passed_over = passed_over + ?,
                   problems = problems + ? WHERE id = ?";
        tx.prepare_cached(sql)?.execute(params![
            batch.lines,
            taken.records,
            taken.repeated,
            batch.passed_over,
            batch.problems_count,
            after.id
        ])?;
        if !streams::advance(&tx, before, after, now_ms)? {
            anyhow::bail!("{file} was read further by somebody else: are two consoles running?");
        }
        tx.commit()?;
        Ok(taken)
    }

    /// Adds a stream that goes on from the midst of another one, whose file it has now.
    pub fn fork(&mut self, from: &Stream, stream: &mut Stream, now_ms: i64) -> anyhow::Result<()> {
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

/// Numbers of records that are here from other files.
struct KnownNumbers {
    spans: Vec<(i64, i64)>,
}

impl KnownNumbers {
    fn of_others(tx: &Transaction, stream: &Stream) -> rusqlite::Result<KnownNumbers> {
        Ok(KnownNumbers { spans: streams::spans_of_others(tx, stream.id)? })
    }

    fn has(&self, tx: &Transaction, entry: &Entry) -> rusqlite::Result<bool> {
        let Some(id) = entry.log_id else { return Ok(false) };
        if !self.spans.iter().any(|(first, last)| (*first..=*last).contains(&id)) {
            return Ok(false);
        }
        // Two machines may give the same number at the same time, but not to the same.
        let sql = "SELECT 1 FROM record WHERE time_ms = ? AND log_id = ? AND kind = ? AND ifnull(connection, '') = ?";
        tx.prepare_cached(sql)?.exists(params![entry.time_ms, id, entry.kind().0, entry.connection])
    }
}

fn keep<'a>(tx: &Transaction, entry: &'a Entry, stream: i64, words: &mut Words) -> rusqlite::Result<Counted<'a>> {
    let account = words.account(tx, &entry.account)?;
    let (client, algorithms) = (words.word(tx, &entry.client)?, words.word(tx, &entry.algorithms)?);
    let (protocol, method) = (words.word(tx, &entry.protocol)?, words.word(tx, &entry.method)?);
    let text = |text: &'a str| (!text.is_empty()).then_some(text);
    let kind = entry.kind();
    let mut add = tx.prepare_cached(
        "INSERT INTO record (time_ms, kind, account, stream, log_id, address, port, connection, protocol, path, name, target,
         moved_bytes, file_bytes, elapsed_ms, error, method, client, algorithms, sender, path_escaped, key_fingerprint, certificate)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
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
        folder: entry.folder(),
        bytes: entry.moved_bytes.unwrap_or(0),
        elapsed_ms: entry.elapsed_ms.unwrap_or(0),
        error: entry.error.as_deref(),
        address: &entry.address,
        client,
        algorithms,
    })
}
