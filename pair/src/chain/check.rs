//! Whether segments follow each other as they were written.

use super::{Segment, digest};

/// What is wrong with a segment, or between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// These segments are not there: from and to, both counted.
    Missing(u64, u64),
    /// It cannot be read, for this reason.
    Unreadable(String),
    /// Its first line has another number than its name.
    Renamed(u64),
    /// It lies in the folder of another day than it names.
    Misplaced(String),
    /// A segment of this number was there already, in another day's folder.
    Twice,
    /// The segment before is not the one that it names: that one was altered, or this one is not the one that followed it.
    Broken,
    /// Its time is before the time of the one before, so that they were reordered or its writer's clock went back.
    Earlier,
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Flaw::Missing(from, to) if from == to => write!(f, "segment {from} is missing"),
            Flaw::Missing(from, to) => write!(f, "segments {from} to {to} are missing"),
            Flaw::Unreadable(reason) => write!(f, "it was altered, or is no segment: {reason}"),
            Flaw::Renamed(number) => write!(f, "it says that it is segment {number}"),
            Flaw::Misplaced(day) => write!(f, "it says that it belongs to the day {day}"),
            Flaw::Twice => f.write_str("there is another segment of this number"),
            Flaw::Broken => f.write_str(
                "the one before has another digest than it names: either of them was altered, put in or put elsewhere",
            ),
            Flaw::Earlier => f.write_str("it is older than the one before: it was put elsewhere, or a clock went back"),
        }
    }
}

/// A segment that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its digest as it is now.
    pub digest: String,
    /// What it says, if it can be read.
    pub segment: Option<Segment>,
    /// What is wrong.
    pub flaws: Vec<Flaw>,
}

/// Looks at segments one after the other, in the order of their numbers.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    last: Option<Last>,
}

#[derive(Clone, Debug)]
struct Last {
    number: u64,
    digest: String,
    time: String,
}

impl Checker {
    /// Goes on behind a segment that is known.
    pub fn behind(number: u64, digest: String, time: String) -> Checker {
        Checker { last: Some(Last { number, digest, time }) }
    }

    /// Looks at the next segment: what its name and folder say, and its bytes.
    pub fn look(&mut self, day: &str, number: u64, bytes: &[u8]) -> Checked {
        let mut flaws = Vec::new();
        let before = self.last.as_ref();
        match before.map_or(0, |last| last.number) {
            last if number <= last => flaws.push(Flaw::Twice),
            last if number > last + 1 => flaws.push(Flaw::Missing(last + 1, number - 1)),
            _ => {}
        }
        let is_next = flaws.is_empty();
        let segment = match Segment::parse(bytes) {
            Ok(segment) => {
                if segment.header.number != number {
                    flaws.push(Flaw::Renamed(segment.header.number));
                }
                if segment.day() != day {
                    flaws.push(Flaw::Misplaced(segment.day().to_owned()));
                }
                if is_next && segment.header.previous.as_ref() != before.map(|last| &last.digest) {
                    flaws.push(Flaw::Broken);
                }
                if before.is_some_and(|last| !last.time.is_empty() && segment.header.time < last.time) {
                    flaws.push(Flaw::Earlier);
                }
                Some(segment)
            }
            Err(reason) => {
                flaws.push(Flaw::Unreadable(reason));
                None
            }
        };
        let digest = digest(bytes);
        if before.is_none_or(|last| number > last.number) {
            let time = segment.as_ref().map(|segment| segment.header.time.clone()).unwrap_or_default();
            self.last = Some(Last { number, digest: digest.clone(), time });
        }
        Checked { digest, segment, flaws }
    }
}
