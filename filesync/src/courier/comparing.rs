//! Compares a file with what the standby has of it, by hash, and brings what is missing.
//!
//! Always holds: under its own name a file is written only behind its end, and only where all before is the same. Everything else that
//! differs is sent whole, by [`Courier::put_beside`].

use std::sync::Arc;

use pair::wire::open_flag;

use super::{Courier, Opened, hash_of};
use crate::fault::Fault;
use crate::remote::Grade;
use crate::store::Record;
use crate::stream::Claims;
use crate::trash::Trash;
use crate::tree::Base;

impl Courier {
    /// Compares a file by hash. Where it differs it is sent; where only the attributes do, they are set.
    pub async fn verify(&self, path: &[u8], trash: &Trash) -> Result<(), Fault> {
        self.verify_beside(path, trash, None).await
    }

    /// As [`Courier::verify`], as [`Courier::put_beside`].
    pub async fn verify_beside(&self, path: &[u8], trash: &Trash, claims: Option<&Arc<Claims>>) -> Result<(), Fault> {
        let opened = self.open(path).await?;
        let length = opened.entry.size;
        let (ours, theirs, seen) =
            futures::join!(hash_of(&opened, length), self.remote.digest(path, length), self.remote.look(path));
        let ours = ours?;
        self.still_the_same(path, &opened).await?;
        let has_all = seen?.is_some_and(|seen| seen == opened.entry.seen());
        match theirs {
            // Nothing is set that is so already: the time would lose its fractions there, and look new when the machines change places.
            Ok((hash, count)) if hash == ours && count == length && has_all => {
                let base = Base { remote: opened.entry.seen(), source: opened.entry };
                self.ledger.record(Record::Agree(path.to_vec(), base)).await;
                Ok(())
            }
            Ok((hash, count)) if hash == ours && count == length => self.set_attributes(path, &opened.entry).await,
            Err(error) if error.is_lost() => Err(error.into()),
            Ok((hash, count)) if self.has_grown(&opened, hash, count).await? => {
                self.grow(path, &opened, count, claims).await
            }
            // Different, longer, or gone since it was listed.
            _ => self.put_beside(path, true, trash, claims).await,
        }
    }

    /// Whether what the standby has is the beginning of this file.
    async fn has_grown(&self, opened: &Opened, theirs: blake3::Hash, count: u64) -> Result<bool, Fault> {
        let is_shorter = self.remote.grade == Grade::Pair && (1..opened.entry.size).contains(&count);
        Ok(is_shorter && hash_of(opened, count).await? == theirs)
    }

    /// Brings the new end of a file that grew in place. What broke off is a beginning still, and goes on the next time.
    async fn grow(&self, path: &[u8], opened: &Opened, from: u64, claims: Option<&Arc<Claims>>) -> Result<(), Fault> {
        let alone = claims.map(|claims| claims.quiet(path));
        if let Some(None) = alone {
            return Err(Fault::Changed);
        }
        let handle = self.remote.client.open(&self.remote.at(path), open_flag::WRITE, None).await?;
        match self.send(path, &handle, opened, from).await {
            Ok(()) => self.finish(handle, &opened.entry).await?,
            Err(fault @ Fault::Lost(_)) => return Err(fault),
            Err(fault) => {
                self.remote.client.close(handle).await?;
                return Err(fault);
            }
        }
        self.still_the_same(path, opened).await?;
        self.agree(path, opened.entry.clone()).await?;
        self.board.sent(opened.entry.size - from);
        Ok(())
    }
}
