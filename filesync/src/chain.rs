//! `filesync archive verify`: what agents have sent is compared with the chain, and the chain with itself.
//!
//! Works on either machine, from the data folder alone, and changes nothing. Segments are read one after the other, and what they say of files goes
//! into a database that the system keeps on its disk for as long as this runs: memory does not grow with the archive. What came in so lately
//! that no segment has it yet is counted and is no fault.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;

use jiff::civil::Date;
use pair::chain::{Checker, FOLDER, SEGMENT_BYTES_MAX, What, home_of, is_day, number_of};
use pair::record::VolumePath;

use crate::listing::Walk;
use crate::source::{Source, entry_of_file, read_at};
use crate::tree::{Entry, Kind};

mod facts;
mod report;

use facts::{Fact, Facts, Part};
pub use report::{DayHead, Fault, Finding, Report};

/// What is read of a file at once, in bytes.
const PIECE_BYTES: u64 = 1024 * 1024;

/// So much later than a segment says it may tell of a file: between its name and the journal's word lie flushes, and between two machines
/// their clocks.
const SLACK_MS: i64 = 60_000;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Only the files of this agent.
    pub agent: Option<String>,
    /// Only files of which a segment of this day, or of a later one, tells. The chain itself is always checked whole.
    pub since: Option<Date>,
    /// The digest of a segment that must be there: it was noted elsewhere.
    pub expect: Option<String>,
}

impl Question {
    fn is_about(&self, home: &[u8]) -> bool {
        self.agent.as_ref().is_none_or(|agent| agent.as_bytes() == home)
    }

    fn since(&self) -> String {
        self.since.map(|day| day.to_string()).unwrap_or_default()
    }
}

/// Verifies all that is asked for. An error says why nothing could be verified.
pub fn verify(source: &Source, question: &Question) -> anyhow::Result<Report> {
    let mut verifier = Verifier {
        source,
        question,
        facts: Facts::new()?,
        checker: Checker::default(),
        last: 0,
        until_ms: i64::MIN,
        homes: BTreeSet::new(),
        has_expected: false,
        report: Report::default(),
    };
    verifier.read_chain()?;
    let homes: Vec<Vec<u8>> = verifier.homes.iter().filter(|home| question.is_about(home)).cloned().collect();
    for home in homes {
        verifier.look_at_all(&home)?;
    }
    // What retention has named meanwhile is not missing.
    verifier.read_chain()?;
    verifier.name_the_missing()?;
    if let Some(expected) = question.expect.as_ref().filter(|_| !verifier.has_expected) {
        let text =
            format!("no segment has the digest {expected}: later segments were removed, or all were written anew");
        verifier.report.find(Finding { fault: Fault::Chain, path: FOLDER.into(), text });
    }
    Ok(verifier.report)
}

struct Verifier<'a> {
    source: &'a Source,
    question: &'a Question,
    facts: Facts,
    checker: Checker,
    /// The number of the last segment that was read.
    last: u64,
    /// What came before is in the chain.
    until_ms: i64,
    /// The folders of agents that the chain knows.
    homes: BTreeSet<Vec<u8>>,
    has_expected: bool,
    report: Report,
}

impl Verifier<'_> {
    /// Reads the segments that were not read yet.
    fn read_chain(&mut self) -> anyhow::Result<()> {
        let is_first = self.report.segments == 0;
        let mut segments = self.segments()?;
        if !is_first {
            segments.retain(|(number, _)| *number > self.last);
        }
        for (number, day) in segments {
            let path = format!("{FOLDER}/{day}/{}", pair::chain::file_name(number));
            let bytes = match self.read_segment(&path) {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.report.find(Finding {
                        fault: Fault::Chain,
                        path,
                        text: format!("it cannot be read: {error}"),
                    });
                    continue;
                }
            };
            let checked = self.checker.look(&day, number, &bytes);
            for flaw in &checked.flaws {
                self.report.find(Finding { fault: Fault::Chain, path: path.clone(), text: flaw.to_string() });
            }
            self.last = self.last.max(number);
            self.has_expected |= self.question.expect.as_ref() == Some(&checked.digest);
            self.report.take_segment(&day, number, &checked.digest);
            let Some(segment) = checked.segment else { continue };
            self.report.events += segment.events.len() as u64;
            self.homes.extend(segment.header.agents.into_iter().map(|home| home.0));
            let until = segment.header.until.parse::<jiff::Timestamp>();
            self.until_ms = self.until_ms.max(until.map_or(i64::MIN, |until| until.as_millisecond()));
            self.homes.extend(segment.events.iter().map(|event| home_of(&event.path.0).to_vec()));
            self.facts.take(number, &day, &segment.events)?;
        }
        Ok(())
    }

    /// All segments, in the order of their numbers.
    fn segments(&mut self) -> anyhow::Result<Vec<(u64, String)>> {
        let mut segments = Vec::new();
        for day in self.names(FOLDER)? {
            if !is_day(&day) {
                let path = format!("{FOLDER}/{day}");
                self.report.find_once(Finding { fault: Fault::Chain, path, text: "it is no day of the chain".into() });
                continue;
            }
            for name in self.names(&format!("{FOLDER}/{day}"))? {
                match number_of(&name) {
                    Some(number) => segments.push((number, day.clone())),
                    None => {
                        let path = format!("{FOLDER}/{day}/{}", VolumePath(name.into_bytes()));
                        let text = "it is no segment of the chain".into();
                        self.report.find_once(Finding { fault: Fault::Chain, path, text });
                    }
                }
            }
        }
        segments.sort_unstable();
        Ok(segments)
    }

    fn names(&self, folder: &str) -> anyhow::Result<Vec<String>> {
        let opened = match self.source.open_folder(folder.as_bytes()) {
            Err(rustix::io::Errno::NOENT) => return Ok(Vec::new()),
            opened => {
                opened.map_err(|error| anyhow::anyhow!("{folder} cannot be listed: {}", io::Error::from(error)))?
            }
        };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&opened)? {
            names.push(String::from_utf8_lossy(entry?.file_name().to_bytes()).into_owned());
        }
        names.retain(|name| name != "." && name != "..");
        Ok(names)
    }

    fn read_segment(&self, path: &str) -> io::Result<Vec<u8>> {
        let file = self.source.open_file(path.as_bytes())?;
        let size = entry_of_file(&file)?.size;
        if size > SEGMENT_BYTES_MAX {
            return Err(io::Error::other("it is larger than a segment can be"));
        }
        read_at(&file, 0, size as usize)
    }

    /// Compares all that lies in an agent's folder.
    fn look_at_all(&mut self, home: &[u8]) -> anyhow::Result<()> {
        let source = self.source;
        let mut walk = Walk::below(source, home);
        for (path, entry) in walk.by_ref() {
            if entry.kind != Kind::Folder {
                self.look_at(&path, &entry)?;
            }
        }
        for problem in walk.unseen.problems {
            self.find(Fault::Unread, &problem.path, problem.sentence);
        }
        Ok(())
    }

    fn look_at(&mut self, path: &[u8], entry: &Entry) -> anyhow::Result<()> {
        let is_late = entry.ctime_ns / 1_000_000 >= self.until_ms.saturating_sub(SLACK_MS);
        let fact = self.facts.fact(path)?;
        self.facts.saw(path)?;
        match fact {
            _ if entry.kind != Kind::File => {
                self.find(Fault::Inserted, path, "it is no file, and agents send nothing else".into());
            }
            Some(fact) if !fact.is_expired => return self.compare(path, entry, &fact, is_late),
            // The chain names what goes before it goes, and what comes under its name comes later.
            _ if is_late => self.report.unsealed += 1,
            Some(_) => self.find(Fault::Inserted, path, "the chain says that retention has removed it".into()),
            None => self.find(Fault::Inserted, path, "no segment tells of it, and newer files are in the chain".into()),
        }
        Ok(())
    }

    /// Compares one file with what the chain says of it.
    fn compare(&mut self, path: &[u8], entry: &Entry, fact: &Fact, is_late: bool) -> anyhow::Result<()> {
        if fact.day < self.question.since() {
            return Ok(());
        }
        self.report.files += 1;
        if entry.size < fact.size {
            let text = format!("it has {} bytes, and had {} on {}", entry.size, fact.size, fact.day);
            self.find(Fault::Altered, path, text);
            return Ok(());
        }
        match (entry.size > fact.size, is_late) {
            (true, true) => self.report.unsealed += 1,
            (true, false) => {
                let text = format!("it has {} bytes more than the chain says", entry.size - fact.size);
                self.find(Fault::Altered, path, text);
            }
            (false, _) => {}
        }
        let file = match self.source.open_file(path) {
            Ok(file) => file,
            Err(error) => {
                self.find(Fault::Unread, path, format!("it cannot be read: {error}"));
                return Ok(());
            }
        };
        for part in self.facts.parts(path)? {
            match hash_of_part(&file, &part) {
                Ok(hash) if hash.to_hex().as_str() == part.hash => {}
                Ok(_) => {
                    let text = format!(
                        "its bytes from {} to {} are not those that segment {} tells of",
                        part.from, part.to, part.segment
                    );
                    self.find(Fault::Altered, path, text);
                    break;
                }
                Err(error) => {
                    self.find(Fault::Unread, path, format!("it cannot be read: {error}"));
                    break;
                }
            }
            self.report.bytes += part.to - part.from;
        }
        Ok(())
    }

    /// Names what the chain knows and nobody has seen.
    fn name_the_missing(&mut self) -> anyhow::Result<()> {
        let Verifier { facts, question, report, source, .. } = self;
        let since = question.since();
        facts.unseen(&mut |path, fact| {
            // What has come since is there, and not seen only because it is new.
            let is_there = source.look(path).is_ok_and(|entry| entry.kind != Kind::Folder);
            if !question.is_about(home_of(path)) || fact.day < since || is_there {
                return;
            }
            let text = format!("it had {} bytes on {}, and is not there", fact.size, fact.day);
            report.find(Finding { fault: Fault::Missing, path: shown(path), text });
        })
    }

    fn find(&mut self, fault: Fault, path: &[u8], text: String) {
        self.report.find(Finding { fault, path: shown(path), text });
    }
}

/// A path for people, on one line.
fn shown(path: &[u8]) -> String {
    VolumePath(path.to_vec()).to_string()
}

fn hash_of_part(file: &File, part: &Part) -> io::Result<blake3::Hash> {
    let (mut hasher, mut at) = (blake3::Hasher::new(), part.from);
    while at < part.to {
        let piece = read_at(file, at, PIECE_BYTES.min(part.to - at) as usize)?;
        if piece.is_empty() {
            break;
        }
        hasher.update(&piece);
        at += piece.len() as u64;
    }
    Ok(hasher.finalize())
}

/// Whether an event says what a file holds.
fn has_content(what: What) -> bool {
    matches!(what, What::Arrived | What::Grown | What::Found)
}

#[cfg(test)]
mod tests;
