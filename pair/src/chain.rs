//! The chain over what came into the log archive: segments, each of which names the one before by its digest.
//!
//! A segment is a small text that nobody changes: its first line says which one it is and what the digest of the one before was, every
//! other line tells of one file of an agent. Its digest is the BLAKE3 of its bytes. So whoever alters, takes out or puts in anything of the
//! past has to write all later segments anew, and the newest digest, which stands elsewhere too, tells that. Format, reading and checking;
//! nothing here touches a disk.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::record::{Position, VolumePath};

mod check;

pub use check::{Checked, Checker, Flaw};

/// The folder of the chain, from the volume on. A folder for each day is in it.
pub const FOLDER: &str = "admin/archive-chain";

/// What the first line of a segment names as its format.
pub const FORMAT: &str = "sftp-ha archive chain 1";

/// How a segment's file name ends.
pub const EXTENSION: &str = ".chain";

/// The largest segment, in bytes. No writer makes one so large; whoever reads one gives up there.
pub const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The first line of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// From 1 on, over all days.
    pub number: u64,
    /// The epoch in which it was written: its number and id.
    pub epoch: (u64, String),
    /// The machine that wrote it, by its id.
    pub machine: String,
    /// When, in RFC 3339 in UTC. Its day is the day of its folder.
    pub time: String,
    /// The digest of the segment before; none for the first.
    pub previous: Option<String>,
    /// What came before this time, by the machine's clock, is in this segment or in an earlier one; in RFC 3339.
    pub until: String,
    /// Up to which change of its machine's journal it tells.
    pub through: Position,
    /// The agents of that time, by their folders.
    pub agents: Vec<VolumePath>,
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// It came.
    Arrived,
    /// It was continued at its end.
    Grown,
    /// It was there, and no segment told of it: after a takeover, after a gap in the journal, or where an agent was an account before.
    Found,
    /// Retention removes it, because it is too old or the folder too large.
    Expired,
}

/// One line of a segment behind the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub event: What,
    /// To which file, from the volume on.
    pub path: VolumePath,
    /// The first byte that the digest is about: how long it was before it grew; else 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub from: u64,
    /// How long it is since, in bytes.
    pub size: u64,
    /// BLAKE3 of its bytes from `from` to `size`, 64 hexadecimal digits; none where it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// When, in RFC 3339 in UTC.
    pub time: String,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which one it is.
    pub header: Header,
    /// What it tells.
    pub events: Vec<Event>,
}

impl Segment {
    /// Its bytes.
    pub fn text(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string(&self.header)?;
        text.push('\n');
        for event in &self.events {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", serde_json::to_string(event)?);
        }
        Ok(text)
    }

    /// Reads one. The error says what is wrong with it, and on which line.
    pub fn parse(bytes: &[u8]) -> Result<Segment, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
        if !text.ends_with('\n') {
            return Err("it is cut off: its last line has no end".into());
        }
        let mut lines = text.lines().enumerate();
        let wrong = |number: usize, error: &dyn std::fmt::Display| format!("line {}: {error}", number + 1);
        let (_, first) = lines.next().ok_or("it is empty")?;
        let header: Header = serde_json::from_str(first).map_err(|error| wrong(0, &error))?;
        if header.format != FORMAT {
            return Err("its first line names another format".into());
        }
        let event = |(number, line)| serde_json::from_str::<Event>(line).map_err(|error| wrong(number, &error));
        Ok(Segment { header, events: lines.map(event).collect::<Result<_, _>>()? })
    }

    /// The day of its folder.
    pub fn day(&self) -> &str {
        self.header.time.get(..10).unwrap_or_default()
    }

    /// Where it lies, from the volume on.
    pub fn path(&self) -> String {
        format!("{FOLDER}/{}/{}", self.day(), file_name(self.header.number))
    }
}

/// The digest of a segment.
pub fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// The name of a segment's file.
pub fn file_name(number: u64) -> String {
    format!("{number:06}{EXTENSION}")
}

/// The number of a segment's file.
pub fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_suffix(EXTENSION)?.parse().ok()?;
    (file_name(number) == name && number > 0).then_some(number)
}

/// Whether a name is that of a day's folder: `2026-11-22`.
pub fn is_day(name: &str) -> bool {
    name.len() == 10 && name.parse::<jiff::civil::Date>().is_ok()
}

/// The agent's folder that a path is in: its first component.
pub fn home_of(path: &[u8]) -> &[u8] {
    path.split(|byte| *byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
