//! What a verification has found, and how it is said.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

/// Findings that are named; more are only counted.
const FINDINGS_MAX: usize = 10_000;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// A file is not what it was.
    Altered,
    /// A file is not there any more.
    Missing,
    /// A file is there that has not come from an agent.
    Inserted,
    /// The chain itself is not as it was written.
    Chain,
    /// Something could not be looked at.
    Unread,
}

impl Fault {
    fn word(self) -> &'static str {
        match self {
            Fault::Altered => "ALTERED",
            Fault::Missing => "MISSING",
            Fault::Inserted => "INSERTED",
            Fault::Chain => "CHAIN",
            Fault::Unread => "UNREAD",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What kind of fault it is.
    pub fault: Fault,
    /// Where, from the data folder on, with `%XX` for what is not printable ASCII.
    pub path: String,
    /// What is wrong.
    pub text: String,
}

/// A day of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DayHead {
    /// The day, in UTC.
    pub day: String,
    /// The number of its last segment.
    pub number: u64,
    /// The digest of that one, which stands for all before it.
    pub digest: String,
}

/// What a verification has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Segments that were read.
    pub segments: u64,
    /// Lines in them that tell of a file.
    pub events: u64,
    /// Files that were compared.
    pub files: u64,
    /// Bytes of them that were read and are as they were.
    pub bytes: u64,
    /// Files that came or grew so lately that no segment tells of it yet.
    pub unsealed: u64,
    /// The days, with the digest of each.
    pub days: Vec<DayHead>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// How much more is wrong than is named.
    pub unnamed: u64,
    /// What was named that may be met twice.
    #[serde(skip)]
    named: BTreeSet<Finding>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.unnamed == 0
    }

    pub(super) fn find(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX { self.findings.push(finding) } else { self.unnamed += 1 }
    }

    /// The same for what is met at each look at the chain.
    pub(super) fn find_once(&mut self, finding: Finding) {
        if self.named.len() < FINDINGS_MAX && self.named.insert(finding.clone()) {
            self.find(finding);
        }
    }

    pub(super) fn take_segment(&mut self, day: &str, number: u64, digest: &str) {
        self.segments += 1;
        let head = DayHead { day: day.to_owned(), number, digest: digest.to_owned() };
        match self.days.last_mut().filter(|last| last.day == day) {
            Some(last) => *last = head,
            None => self.days.push(head),
        }
    }

    /// The report for people, without an end of line.
    pub fn in_words(&self) -> String {
        let mut text = String::new();
        for DayHead { day, number, digest } in &self.days {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{day}  segment {number:06}  {digest}");
        }
        for Finding { fault, path, text: sentence } in &self.findings {
            let _ = writeln!(text, "{:8}  {path}: {sentence}", fault.word());
        }
        if self.unnamed > 0 {
            let _ = writeln!(text, "and {} findings more", self.unnamed);
        }
        let Report { segments, events, files, bytes, unsealed, .. } = self;
        if *segments == 0 {
            text += "there is no chain yet: no agent has sent anything, or nothing was sealed";
            return text;
        }
        let _ = write!(text, "{segments} segments with {events} events; {files} files with {bytes} bytes compared");
        if *unsealed > 0 {
            let _ = write!(text, "; {unsealed} files came or grew since the last segment");
        }
        match self.findings.len() as u64 + self.unnamed {
            0 => text += "; all is as it was sent",
            wrong => {
                let _ = write!(text, "; {wrong} findings");
            }
        }
        text
    }
}
