//! What both sides agree on: attributes that were set, and what a standby makes of them.

use pair::wire::Attrs;

use super::{Courier, times_of};
use crate::fault::Fault;
use crate::remote::Grade;
use crate::store::Record;
use crate::tree::{Base, Entry, Kind, Seen};

impl Courier {
    /// Gives mode and times to what is there. A folder that does not show the time it was given gets it once more: something of
    /// another worker may just have come into it, and its time must not be taken for the standby's own way with times.
    pub async fn set_attributes(&self, path: &[u8], entry: &Entry) -> Result<(), Fault> {
        let (client, at) = (&self.remote.client, self.remote.at(path));
        let mut tries = 2;
        loop {
            match entry.kind {
                Kind::Link => client.lsetstat(&at, times_of(entry)).await?,
                _ => client.setstat(&at, Attrs { mode: Some(entry.mode), ..times_of(entry) }).await?,
            }
            let remote = self.seen_after(path, entry).await?;
            tries -= 1;
            if tries == 0 || entry.kind != Kind::Folder || remote.mtime_s == entry.mtime_s() {
                let base = Base { source: entry.clone(), remote };
                self.ledger.record(Record::Agree(path.to_vec(), base)).await;
                return Ok(());
            }
        }
    }

    pub(super) async fn agree(&self, path: &[u8], source: Entry) -> Result<(), Fault> {
        let remote = self.seen_after(path, &source).await?;
        self.ledger.record(Record::Agree(path.to_vec(), Base { source, remote })).await;
        Ok(())
    }

    /// What a standby shows of what it was just given: our own sftpd keeps what it is told, others are asked. Some keep less
    /// (no sticky bits, times in steps of 2 s): what they made of it is what the next pass compares with, or it would try
    /// again for ever.
    pub(super) async fn seen_after(&self, path: &[u8], entry: &Entry) -> Result<Seen, Fault> {
        if self.remote.grade == Grade::Pair {
            return Ok(entry.seen());
        }
        let mut seen = self.remote.look(path).await?.ok_or(Fault::Changed)?;
        seen.target = entry.target.clone();
        Ok(seen)
    }
}
