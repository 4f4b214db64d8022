//! What can be asked of the store. Each question is a function of a [`Reader`] and takes a [`Filter`].
//!
//! Always holds: a question never waits for who writes, and never scans all records: figures come from tables that are kept with them,
//! lists from indexes, a page at a time. Texts in the answers are attackers' text, to be escaped where they are shown.

mod charts;
mod filter;
mod following;
mod pages;
mod people;
mod scope;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::tz::TimeZone;
use rusqlite::Connection;

use crate::calendar::Calendar;

pub use charts::{AccountFigures, DayFigures, HourFigures, Moved, Speed, Totals};
pub use filter::{Came, Filter, What};
pub use following::{Followed, Trouble};
pub use pages::{How, Key, PAGE_RECORDS_MAX, Page, Record, Search};
pub use people::{ClientUse, FailedLogin, Failure};

/// Readers that are kept for the next question.
const IDLE_MAX: usize = 8;

/// One who asks: a connection that only reads.
pub struct Reader {
    db: Connection,
    calendar: Calendar,
}

impl Reader {
    /// Opens the store of a state folder, which must be there: the follower makes it. Dates are of `zone`, which should be the
    /// follower's: figures by day are counted by that.
    pub fn open(state: &Path, zone: TimeZone) -> anyhow::Result<Reader> {
        Ok(Reader { db: crate::store::open_to_read(state)?, calendar: Calendar::new(zone) })
    }

    /// The zone of dates.
    pub fn zone(&self) -> &TimeZone {
        self.calendar.zone()
    }
}

/// Readers for as many questions at a time as there are. Ask on a thread that may wait for the disk.
pub struct Readers {
    state: PathBuf,
    zone: TimeZone,
    // Held while one is taken or given back only.
    idle: Mutex<Vec<Reader>>,
}

impl Readers {
    /// None yet.
    pub fn new(state: PathBuf, zone: TimeZone) -> Readers {
        Readers { state, zone, idle: Mutex::default() }
    }

    /// Asks something.
    pub fn ask<T>(&self, question: impl FnOnce(&Reader) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => Reader::open(&self.state, self.zone.clone())?,
        };
        let answer = question(&reader)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(reader);
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests;
