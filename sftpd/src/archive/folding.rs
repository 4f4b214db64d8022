//! Reads the chain on the volume into the ledger: what is new of it, or all of it.

use pair::chain::{Checker, EXTENSION, FOLDER, SEGMENT_BYTES_MAX, digest, is_day, number_of};
use rustix::io::Errno;

use super::ledger::{Head, Ledger};
use crate::storage::{StorageError, Volume, file_content};

/// What is right where ledger and volume say different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The volume: its chain came from another machine, or was brought back with the volume.
    Volume,
    /// The ledger: this machine has written that segment itself, and nobody else may.
    Ledger,
    /// The volume, but not all of it has come: this is a standby.
    Nobody,
}

/// Takes in what is new. Gives what is wrong with the chain, if anything is. Reads the disk: not for an async thread.
pub fn fold(volume: &Volume, ledger: &Ledger, trust: Trust) -> Result<Option<String>, String> {
    let mut problem = None;
    let mut head = ledger.head().map_err(said)?;
    if let Some(known) = &head
        && !is_there(volume, known)?
    {
        let sentence =
            format!("segment {} of the archive's chain is missing or was altered on the volume", known.number);
        if trust == Trust::Ledger {
            problem = Some(format!("{sentence}: ask filesync archive verify"));
        } else {
            tracing::warn!("{sentence}: the chain is read anew");
            ledger.clear().map_err(said)?;
            head = None;
        }
    }
    let mut checker = match &head {
        Some(head) => Checker::behind(head.number, head.digest.clone(), head.time.clone()),
        None => Checker::default(),
    };
    for (number, day) in behind(volume, head.as_ref())? {
        if trust == Trust::Nobody && number != head.as_ref().map_or(1, |head| head.number + 1) {
            // It may still be on its way here.
            break;
        }
        let bytes = read(volume, &day, number)?;
        let checked = checker.look(&day, number, &bytes);
        if let Some(flaw) = checked.flaws.first() {
            problem.get_or_insert_with(|| {
                format!("the archive's chain, segment {number}: {flaw}; ask filesync archive verify")
            });
        }
        let before = head.as_ref();
        let (header, events) = match checked.segment {
            Some(segment) => (Some(segment.header), segment.events),
            None => (None, Vec::new()),
        };
        let of_before = |text: fn(&Head) -> String| before.map(text).unwrap_or_default();
        let taken = match header {
            Some(header) => Head {
                number,
                digest: checked.digest,
                time: header.time,
                until: header.until,
                day,
                epoch: header.epoch.1,
                agents: header.agents,
            },
            // What cannot be read still has its place: the next one goes behind it.
            None => Head {
                number,
                digest: checked.digest,
                time: of_before(|head| head.time.clone()),
                until: of_before(|head| head.until.clone()),
                day,
                epoch: String::new(),
                agents: before.map(|head| head.agents.clone()).unwrap_or_default(),
            },
        };
        ledger.take_in(&taken, &events).map_err(said)?;
        head = Some(taken);
    }
    Ok(problem)
}

fn said(error: impl std::fmt::Display) -> String {
    format!("the archive's ledger cannot be used: {error}")
}

/// Whether a segment stands on the volume as it is known.
fn is_there(volume: &Volume, head: &Head) -> Result<bool, String> {
    match read(volume, &head.day, head.number) {
        Ok(bytes) => Ok(digest(&bytes) == head.digest),
        Err(sentence) => match volume.look_at(path(&head.day, head.number).as_bytes()) {
            Ok(None) => Ok(false),
            _ => Err(sentence),
        },
    }
}

fn path(day: &str, number: u64) -> String {
    format!("{FOLDER}/{day}/{}", pair::chain::file_name(number))
}

fn read(volume: &Volume, day: &str, number: u64) -> Result<Vec<u8>, String> {
    let read = || {
        let (file, attributes) = volume.whole()?.open_file(path(day, number).as_bytes())?;
        if attributes.size > SEGMENT_BYTES_MAX {
            return Err(StorageError::Refused("it is larger than a segment can be".into()));
        }
        Ok(file_content::read_whole(&file)?)
    };
    read().map_err(|error: StorageError| format!("segment {number} of the archive's chain cannot be read: {error}"))
}

/// Segments behind a known one, in order, with their days.
fn behind(volume: &Volume, head: Option<&Head>) -> Result<Vec<(u64, String)>, String> {
    let (last, first_day) = head.map_or((0, ""), |head| (head.number, head.day.as_str()));
    let mut segments = Vec::new();
    for day in names(volume, FOLDER)?.into_iter().filter(|day| is_day(day) && day.as_str() >= first_day) {
        let names = names(volume, &format!("{FOLDER}/{day}"))?;
        let numbers = names.iter().filter(|name| name.ends_with(EXTENSION)).filter_map(|name| number_of(name));
        segments.extend(numbers.filter(|number| *number > last).map(|number| (number, day.clone())));
    }
    segments.sort_unstable();
    Ok(segments)
}

fn names(volume: &Volume, folder: &str) -> Result<Vec<String>, String> {
    match volume.names_in(folder.as_bytes()) {
        Ok(names) => Ok(names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect()),
        Err(StorageError::System(Errno::NOENT)) => Ok(Vec::new()),
        Err(error) => Err(format!("the archive's chain cannot be looked at: {error}")),
    }
}
