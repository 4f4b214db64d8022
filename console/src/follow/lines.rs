//! Reads a text line by line, in batches that fit in memory.
//!
//! Always holds: a batch ends with a whole line, or inside one that is too long to be a record; half a line at the end waits. What a
//! line says is decided in [`crate::line`].

use std::io::{self, BufRead, BufReader, Read};

use jiff::tz::TimeZone;

use super::text::Text;
use crate::line::{Meaning, meaning};
use crate::store::{Batch, Problem, Stream, TAIL_BYTES, hash_of};

/// Lines that are taken at a time; in tests few, so that they are interrupted in all places.
const BATCH_LINES: u64 = if cfg!(test) { 3 } else { 50_000 };
/// The same in bytes.
const BATCH_BYTES: u64 = 4 << 20;
/// The longest line that may be a record, in bytes: a name of 64 KiB takes six times that where each byte of it is escaped.
pub const LINE_BYTES_MAX: u64 = 1 << 20;
/// Problems of one batch that are kept with their sentence.
const PROBLEMS_MAX: usize = 20;
/// Read at a time, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// Reads the lines of a stream that follow what was read.
pub struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    zone: TimeZone,
    at: u64,
    is_skipping: bool,
    head_bytes: usize,
    /// The end of what was read.
    recent: Vec<u8>,
    line: Vec<u8>,
    failed: Option<io::Error>,
}

enum Found {
    Whole,
    TooLong,
    End,
}

impl Lines {
    /// Goes on where a stream was read to.
    pub fn after(text: &Text, stream: &Stream, zone: TimeZone) -> io::Result<Lines> {
        let start = stream.consumed.saturating_sub(TAIL_BYTES as u64);
        let mut reader = BufReader::with_capacity(READ_BYTES, text.from(start)?);
        let mut recent = Vec::new();
        reader.by_ref().take(stream.consumed - start).read_to_end(&mut recent)?;
        let (at, is_skipping, head_bytes) = (stream.consumed, stream.is_skipping, stream.head.len());
        Ok(Lines { reader, zone, at, is_skipping, head_bytes, recent, line: Vec::new(), failed: None })
    }

    /// The next lines; none where there are no whole ones yet. What was read before an error comes first.
    pub fn next_batch(&mut self) -> io::Result<Option<Batch>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let (mut batch, start) = (Batch { is_skipping: self.is_skipping, ..Batch::default() }, self.at);
        while batch.lines < BATCH_LINES && self.at - start < BATCH_BYTES {
            match self.read_line() {
                Ok(Found::Whole) => self.take_line(&mut batch),
                Ok(Found::TooLong) => self.take_part(&mut batch),
                Ok(Found::End) => break,
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        if self.at == start {
            return self.failed.take().map_or(Ok(None), Err);
        }
        batch.consumed = self.at;
        batch.is_skipping = self.is_skipping;
        batch.tail = self.tail();
        Ok(Some(batch))
    }

    fn read_line(&mut self) -> io::Result<Found> {
        self.line.clear();
        let count = self.reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut self.line)?;
        Ok(match self.line.last() {
            Some(b'\n') => Found::Whole,
            _ if count as u64 == LINE_BYTES_MAX => Found::TooLong,
            _ => Found::End,
        })
    }

    fn take_line(&mut self, batch: &mut Batch) {
        batch.lines += 1;
        if !std::mem::take(&mut self.is_skipping) {
            let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
            match meaning(line, &self.zone) {
                Meaning::Record(entry) => batch.entries.push(*entry),
                Meaning::PassedOver => batch.passed_over += 1,
                Meaning::Problem(sentence) => note(batch, self.at, sentence),
            }
        }
        self.consume(batch);
    }

    fn take_part(&mut self, batch: &mut Batch) {
        if !std::mem::replace(&mut self.is_skipping, true) {
            note(batch, self.at, format!("the line is longer than {LINE_BYTES_MAX} bytes: it is no record"));
        }
        self.consume(batch);
    }

    fn consume(&mut self, batch: &mut Batch) {
        let missing = TAIL_BYTES.saturating_sub(self.head_bytes).min(self.line.len());
        batch.head.extend_from_slice(self.line.get(..missing).unwrap_or_default());
        self.head_bytes += missing;
        self.at += self.line.len() as u64;
        let old = self.line.len().saturating_sub(TAIL_BYTES);
        self.recent.extend_from_slice(self.line.get(old..).unwrap_or_default());
        if self.recent.len() > 16 * TAIL_BYTES {
            self.recent.drain(..self.recent.len() - TAIL_BYTES);
        }
    }

    fn tail(&self) -> [u8; 16] {
        let start = self.recent.len().saturating_sub(TAIL_BYTES);
        hash_of(self.recent.get(start..).unwrap_or_default())
    }
}

fn note(batch: &mut Batch, position: u64, sentence: String) {
    batch.problems_count += 1;
    if batch.problems.len() < PROBLEMS_MAX {
        batch.problems.push(Problem { position, sentence });
    }
}
