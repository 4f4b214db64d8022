//! A master of before comes back: what only it has is set aside before the new master's files come over it.
//!
//! Always holds: nothing is lost, because a thing moves only into the folder of what was set aside, with a durable word of what it was. It may
//! break off at any point and is begun anew then: what was moved is no longer at its path. Removals are not done over: what the new master
//! has and this machine has removed comes back with the new master's files. It must run alone: neither clients nor replication may write.

use std::pin::pin;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use pair::client::Client;
use pair::epoch::Epoch;
use pair::extension::DIGEST;
use pair::node::Returning;
use tokio::sync::mpsc;

use crate::accounts::UploadMode;
use crate::daemon::Daemon;
use crate::storage::{Durability, Entry, EntryKind, EpochFolder};

mod candidates;
mod comparison;
mod walk;

use candidates::Candidates;
pub(super) use comparison::digest;

/// Things that are compared at once: what is waited for is the network.
const COMPARISONS_MAX: usize = 16;

/// Things that are found ahead of their comparison.
const AHEAD_MAX: usize = 64;

/// Things that are set aside at once: they share their flushes.
const AT_ONCE: usize = 64;

/// What setting aside has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Things that were compared with the new master.
    pub compared: u64,
    /// Those of them that were set aside. Folders count, each once.
    pub kept: u64,
}

/// Sets aside what only this machine has. `master` is a connection to the new one.
pub async fn set_aside(
    daemon: &Arc<Daemon>,
    master: &Client,
    returning: &Returning,
    successor: &Epoch,
) -> Result<Summary, String> {
    if !master.has(DIGEST) {
        return Err("the new master does not tell what its files hold: is it an sftpd of this pair?".into());
    }
    let is_certain = daemon.config.durability == Durability::Fsync;
    let (volume, Returning { epoch, after }) = (daemon.volume.clone(), returning.clone());
    let accounts = daemon.accounts();
    let direct = accounts.iter().filter(|account| account.upload == UploadMode::Direct);
    let direct: Vec<Vec<u8>> = direct.map(|account| account.home.clone().into_bytes()).collect();
    let (candidates, folder) = blocking(move || {
        let candidates = Candidates::load(&volume, after, is_certain, &direct).map_err(|error| format!("{error:#}"))?;
        let folder = volume.aside().and_then(|aside| aside.begin(&epoch)).map_err(|error| error.to_string())?;
        Ok((candidates, folder))
    })
    .await?;
    // Where it is known what the new master began with.
    let heir = returning.after.map(|_| successor.id.clone());
    let everything = candidates.everything;
    tracing::info!(
        epoch = returning.epoch,
        successor = successor.id,
        everything,
        "what only this machine has is looked for"
    );
    let (sender, found) = mpsc::channel(AHEAD_MAX);
    let volume = daemon.volume.clone();
    let walk = tokio::task::spawn_blocking(move || {
        walk::walk(&volume, &candidates, &mut |local| sender.blocking_send(local).is_ok())
    });
    let found = stream::unfold(found, |mut found| async move { found.recv().await.map(|local| (local, found)) });
    let compare = |local| comparison::compare(master, &daemon.volume, local);
    let mut compared = pin!(found.map(compare).buffered(COMPARISONS_MAX));
    let mut keeping = Keeping { folder, waiting: Vec::new(), folders: Vec::new(), summary: Summary::default() };
    while let Some(only_here) = compared.next().await {
        keeping.summary.compared += 1;
        let Some(entry) = only_here? else { continue };
        keeping.waiting.push(Entry { successor: heir.clone(), ..entry });
        if keeping.waiting.len() >= AT_ONCE {
            keeping = keeping.keep().await?;
        }
    }
    walk.await.map_err(|_| "looking through the volume has failed by a bug")??;
    let Summary { compared, kept } = keeping.end().await?;
    tracing::info!(compared, kept, "what only this machine has was set aside");
    Ok(Summary { compared, kept })
}

/// What is being set aside.
struct Keeping {
    folder: EpochFolder,
    waiting: Vec<Entry>,
    /// Folders that only this machine has, parents first.
    folders: Vec<Vec<u8>>,
    summary: Summary,
}

impl Keeping {
    async fn keep(mut self) -> Result<Keeping, String> {
        blocking(move || {
            let waiting = std::mem::take(&mut self.waiting);
            let folders = waiting.iter().filter(|entry| entry.kind == EntryKind::Folder);
            self.folders.extend(folders.map(|entry| entry.path.0.clone()));
            self.summary.kept += self.folder.keep(waiting).map_err(|error| error.to_string())?;
            Ok(self)
        })
        .await
    }

    /// Sets the last ones aside; then folders go that have become empty, the innermost first.
    async fn end(self) -> Result<Summary, String> {
        let mut kept = self.keep().await?;
        blocking(move || {
            kept.folders.reverse();
            kept.folder.remove_empty(&kept.folders).map_err(|error| error.to_string())?;
            Ok(kept.summary)
        })
        .await
    }
}

/// Does work that waits for the disk. A bug in it is an error.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|_| "work on the volume has failed by a bug".to_owned())?
}

#[cfg(test)]
mod tests;
