//! What is told of the volume's changes: the journal as those see it who follow.
//!
//! Nothing is told before it is decided. It changes nothing but what standbys have acknowledged.

use std::sync::Arc;

use pair::epoch::Epoch;
use pair::record::Record;
use tokio::sync::watch;

use super::{Chapter, Gate, Job, Result, Volume, stopped};

impl Volume {
    /// What the journal's numbers belong to: another thing after each change of the epoch.
    pub fn chapters(&self) -> watch::Receiver<Arc<Chapter>> {
        self.chapter.subscribe()
    }

    /// What they belong to now.
    pub fn chapter(&self) -> Arc<Chapter> {
        self.chapter.borrow().clone()
    }

    /// Changes belong to another epoch from now on.
    pub async fn begin_epoch(&self, epoch: Epoch) -> Result<()> {
        let begun = self.committer.submit_for(|answer| Job::Epoch(epoch, answer));
        self.chapter.send_replace(Arc::new(begun.await.map_err(|_| stopped())??));
        Ok(())
    }

    /// Takes other changes from now on. When it comes back, what was taken before is done and answered.
    pub fn set_gate(&self, gate: Gate) -> impl Future<Output = Result<()>> + Send + 'static {
        self.submit(|answer| Job::Gate(gate, answer))
    }

    /// Files that clients are writing in place.
    pub fn written_in_place(&self) -> usize {
        self.writing.count()
    }

    /// Comes back when all that has happened before is decided: whoever looks up the last change then has it all.
    pub async fn decide_all(&self) -> Result<u64> {
        // Outcomes are written after the answers of their group: when the second is answered, those of the first are.
        self.settle().await?;
        self.settle().await?;
        Ok(*self.decided.borrow())
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
