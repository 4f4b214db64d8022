//! What the journal's numbers belong to: the epoch, and the runs of sftpd in it.

use pair::epoch::{Epoch, Lineage, Reached};

use super::{Journal, meta, set_meta};

/// What the numbers of a journal belong to.
#[derive(Clone, Debug)]
pub struct Chapter {
    /// The master's time in which changes are made now.
    pub epoch: Epoch,
    /// The last change before it.
    pub began_after: u64,
    /// The runs of the journal.
    pub lineage: Lineage,
}

impl Chapter {
    /// A place in these numbers, as other machines are told of it.
    pub fn reached(&self, seq: u64) -> Reached {
        Reached { epoch: self.epoch.id.clone(), run: self.lineage.run().to_owned(), seq }
    }
}

impl Journal {
    /// Notes that a run has begun: in which epoch and boot, and that it has not ended well yet. Durable.
    pub(in crate::storage) fn begin_run(&mut self, epoch: &Epoch, boot: &str) -> anyhow::Result<Chapter> {
        self.begin(epoch, self.before, &[("boot", boot), ("clean", "0")])
    }

    /// Notes that changes belong to another epoch from now on. Durable.
    pub(in crate::storage) fn begin_epoch(&mut self, epoch: &Epoch) -> rusqlite::Result<Chapter> {
        let last = self.last_seq();
        self.begin(epoch, last, &[]).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
    }

    /// Begins a run of an epoch, which may be a new one.
    fn begin(&mut self, epoch: &Epoch, after: u64, values: &[(&str, &str)]) -> anyhow::Result<Chapter> {
        self.synchronous(true)?;
        let transaction = self.db.transaction()?;
        let text = meta(&transaction, "runs")?;
        let mut lineage: Lineage = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        lineage.begin(after)?;
        let before = meta(&transaction, "epoch")?;
        if before.as_ref().is_some_and(|before| *before != epoch.id) {
            // What standbys have said was about numbers of another epoch.
            transaction.execute("DELETE FROM acknowledged", [])?;
        }
        if before.is_none_or(|before| before != epoch.id) {
            set_meta(&transaction, "began_after", &after.to_string())?;
        }
        set_meta(&transaction, "runs", &serde_json::to_string(&lineage)?)?;
        for (key, value) in [("epoch", epoch.id.as_str())].iter().chain(values) {
            set_meta(&transaction, key, value)?;
        }
        let began_after = meta(&transaction, "began_after")?.and_then(|text| text.parse().ok()).unwrap_or(0);
        transaction.commit()?;
        Ok(Chapter { epoch: epoch.clone(), began_after, lineage })
    }
}
