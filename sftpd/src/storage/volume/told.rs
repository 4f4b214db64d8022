//! What is told of the volume's changes: the journal as those see it who follow.
//!
//! Nothing is told before it is decided. It changes nothing but what standbys have acknowledged.

use pair::epoch::Epoch;
use pair::record::Record;
use tokio::sync::watch;

use super::{Job, Result, Volume};

impl Volume {
    /// The epoch of the volume's changes.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The last number up to which all changes are decided.
    pub fn decided(&self) -> watch::Receiver<u64> {
        self.decided.clone()
    }

    /// The number from which on no record was dropped. Reads the journal: not for an async thread.
    pub fn first_seq(&self) -> anyhow::Result<u64> {
        Ok(self.reader.first_seq()?)
    }

    /// Changes that have happened, behind a number and in order. Reads the journal: not for an async thread.
    pub fn records_after(&self, seq: u64, at_most: usize) -> anyhow::Result<Vec<Record>> {
        let decided = *self.decided.borrow();
        Ok(self.reader.records(seq, decided, at_most)?)
    }

    /// A standby has everything up to a number. Waits for the committer: not for an async thread.
    pub fn acknowledge(&self, standby: &str, seq: u64) -> Result<()> {
        futures::executor::block_on(self.submit(|answer| Job::Acknowledge(standby.to_owned(), seq, answer)))
    }

    /// What each standby has: its name, the number, and since when in milliseconds since 1970.
    pub fn acknowledgements(&self) -> anyhow::Result<Vec<(String, u64, i64)>> {
        Ok(self.reader.acknowledgements()?)
    }
}
