//! The master takes what a standby offers: what that one had as master and this one has not.
//!
//! Always holds: nothing that was changed here since this machine became the master is touched, unless a person asks for it. What is taken is
//! journalled under the account that it was of, so that all standbys get it. The standby is told what became of each thing after that is
//! durable here, and it may break off at any point: what is here already is only marked then.

use std::pin::pin;
use std::sync::{Arc, Mutex};

use futures::stream::{self, FuturesUnordered, StreamExt};
use pair::client::{Client, ClientError};
use pair::extension::PUT;
use pair::wire::{Attrs, open_flag};

use super::returning::blocking;
use crate::daemon::Daemon;
use crate::storage::{
    DIVERGENT_FOLDER, Entry, EntryKind, Mark, NewAttributes, Parts, Volume, Wanted, content_name, entry_name, is_epoch,
    parts_of,
};

mod holder;
mod restoring;
mod touched;

use holder::Holder;
use restoring::{Restoring, author_of, times_of};
pub use restoring::{Verdict, is_for_clients};
use touched::Touched;

/// Entries that are read ahead.
const AHEAD_MAX: usize = 16;

/// Things that are taken at once. Folders are taken alone, because what comes after them may lie in them.
const AT_ONCE: usize = 8;

/// Takes what a standby offers, where its path is untouched. Gives how many were taken.
pub async fn take(daemon: &Arc<Daemon>, standby: &Client) -> Result<u64, String> {
    if !standby.has(PUT) {
        return Err("the standby takes no marks: is it an sftpd of this pair?".into());
    }
    let epochs = match standby.list(&at("")).await {
        Ok(names) => names.into_iter().map(|name| name.name).filter(|name| is_epoch(name)),
        Err(error) if error.is_missing() => return Ok(0),
        Err(error) => return Err(unheard(&error)),
    };
    // Standbys may have what is changed meanwhile before it is looked at here.
    let _held = daemon.volume.hold_records();
    let volume = daemon.volume.clone();
    // What is on its way is in the journal before anything of it happens.
    let touched = blocking(move || Touched::begin(&volume).map_err(|error| format!("{error:#}"))).await?;
    let taking = Taking {
        volume: &daemon.volume,
        standby,
        holder: Holder::Standby(standby.clone()),
        touched: Arc::new(Mutex::new(touched)),
    };
    let mut taken = 0;
    for epoch in epochs {
        taken += taking.take_epoch(&String::from_utf8_lossy(&epoch)).await?;
    }
    if taken > 0 {
        tracing::info!(taken, "files that only a standby had are here again");
    }
    Ok(taken)
}

/// Restores what was set aside on this machine itself, which is the master now, because a person asks for it.
pub async fn restore_here(daemon: &Arc<Daemon>, entry: &Entry, wanted: &Wanted) -> Result<Verdict, String> {
    let holder = Holder::Here(daemon.volume.clone());
    let restoring = Restoring { volume: &daemon.volume, holder: &holder, touched: None };
    let content = at(&format!("/{}/{}", entry.epoch, content_name(entry.number)));
    restoring.restore(entry, &content, Some(wanted)).await
}

/// A path in the folder of what was set aside.
fn at(path: &str) -> Vec<u8> {
    format!("/{DIVERGENT_FOLDER}{path}").into_bytes()
}

fn unheard(error: &ClientError) -> String {
    format!("the standby does not tell what it offers: {error}")
}

/// What is needed to take things from a standby.
struct Taking<'a> {
    volume: &'a Arc<Volume>,
    standby: &'a Client,
    holder: Holder,
    touched: Arc<Mutex<Touched>>,
}

/// An entry as the standby has it.
enum Offer {
    /// A thing, and where a person wants it.
    Thing(Box<Entry>, Option<Wanted>),
    /// Nothing that could be taken, for this reason.
    Broken(String),
    /// It was released meanwhile.
    Gone,
}

impl Taking<'_> {
    async fn take_epoch(&self, epoch: &str) -> Result<u64, String> {
        let names = self.standby.list(&at(&format!("/{epoch}"))).await.map_err(|error| unheard(&error))?;
        let parts = parts_of(names.iter().map(|name| name.name.as_slice()));
        let open = parts.into_iter().filter(|(_, parts)| parts.is_open());
        let mut offers =
            pin!(stream::iter(open).map(|(number, parts)| self.read(epoch, number, parts)).buffered(AHEAD_MAX));
        let (mut running, mut taken, mut made) = (FuturesUnordered::new(), 0, Vec::new());
        while let Some(offer) = offers.next().await {
            let (number, offer) = offer?;
            let is_folder = matches!(&offer, Offer::Thing(entry, _) if entry.kind == EntryKind::Folder);
            let beside_max = if is_folder { 0 } else { AT_ONCE - 1 };
            while running.len() > beside_max {
                taken += count(running.next().await)?;
            }
            if let Offer::Thing(entry, wanted) = &offer
                && is_folder
            {
                let path = wanted.as_ref().map_or(&entry.path, |wanted| &wanted.path);
                made.push((path.0.clone(), times_of(entry)));
            }
            let answered = self.answer(epoch, number, offer);
            if is_folder {
                let folder = answered.await?;
                made.truncate(made.len() - usize::from(folder != Some(Verdict::Made)));
                taken += u64::from(folder.is_some_and(|verdict| verdict.is_here()));
            } else {
                running.push(answered);
            }
        }
        while let answered @ Some(_) = running.next().await {
            taken += count(answered)?;
        }
        self.set_times(made).await;
        Ok(taken)
    }

    /// Reads an entry.
    async fn read(&self, epoch: &str, number: u64, parts: Parts) -> Result<(u64, Offer), String> {
        let Some(text) = self.read_small(epoch, &entry_name(number)).await? else { return Ok((number, Offer::Gone)) };
        let wanted = match parts.wanted {
            true => self.read_small(epoch, &Mark::Wanted.name(number)).await?,
            false => None,
        };
        let offer = match (serde_json::from_slice::<Entry>(&text), wanted.as_deref().map(serde_json::from_slice)) {
            (Ok(entry), _) if !parts.content && entry.kind != EntryKind::Folder => {
                Offer::Broken("what was set aside is no longer there".into())
            }
            (Ok(entry), None) => Offer::Thing(Box::new(entry), None),
            (Ok(entry), Some(Ok(wanted))) => Offer::Thing(Box::new(entry), Some(wanted)),
            (Err(_), _) => Offer::Broken("what is said of it cannot be read".into()),
            (_, Some(Err(_))) => Offer::Broken("what was asked for cannot be read".into()),
        };
        Ok((number, offer))
    }

    /// Reads a small file of the standby's; none where it is not there.
    async fn read_small(&self, epoch: &str, name: &str) -> Result<Option<Vec<u8>>, String> {
        let path = at(&format!("/{epoch}/{name}"));
        let handle = match self.standby.open(&path, open_flag::READ, None).await {
            Ok(handle) => handle,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(unheard(&error)),
        };
        let read = self.standby.read(&handle, 0, usize::MAX).await;
        self.standby.close(handle).await.map_err(|error| unheard(&error))?;
        Ok(Some(read.map_err(|error| unheard(&error))?.unwrap_or_default().to_vec()))
    }

    /// Takes a thing or not, and says so at the standby. None where nobody asks any more.
    async fn answer(&self, epoch: &str, number: u64, offer: Offer) -> Result<Option<Verdict>, String> {
        let (verdict, is_wanted) = match offer {
            Offer::Gone => return Ok(None),
            Offer::Broken(reason) => (Verdict::Kept(reason), true),
            Offer::Thing(entry, wanted) => {
                let restoring =
                    Restoring { volume: self.volume, holder: &self.holder, touched: Some(self.touched.clone()) };
                let content = at(&format!("/{epoch}/{}", content_name(number)));
                (restoring.restore(&entry, &content, wanted.as_ref()).await?, wanted.is_some())
            }
        };
        let (mark, text) = match &verdict {
            Verdict::Kept(reason) => (Mark::Kept, reason.as_bytes()),
            _ => (Mark::Restored, &b""[..]),
        };
        self.mark(&at(&format!("/{epoch}/{}", mark.name(number))), text).await?;
        if is_wanted {
            // What was said first counts, also where this is lost.
            match self.standby.remove(&at(&format!("/{epoch}/{}", Mark::Wanted.name(number)))).await {
                Err(error) if error.is_lost() => return Err(unheard(&error)),
                _ => {}
            }
        }
        Ok(Some(verdict))
    }

    async fn mark(&self, path: &[u8], text: &[u8]) -> Result<(), String> {
        let attrs = Attrs { mode: Some(0o600), ..Attrs::default() };
        let Err(error) = self.standby.put(path, attrs, text).await else { return Ok(()) };
        if !error.is_lost() && self.standby.lstat(path).await.is_ok() {
            // An earlier try has said so already.
            return Ok(());
        }
        Err(format!("the standby does not note what became of its offers: {error}"))
    }

    /// Gives folders that were made the times that they had, when all is in them. That it fails is no reason to begin anew.
    async fn set_times(&self, made: Vec<(Vec<u8>, NewAttributes)>) {
        for (path, times) in made.into_iter().rev() {
            let root = self.volume.whole();
            let Ok(folder) = root.and_then(|root| root.handle_for_attributes(&path, false)) else { continue };
            let change = crate::storage::Change::SetAttributes(Arc::new(folder), times);
            if let Err(error) = self.volume.commit(change, Some(author_of(""))).await {
                tracing::debug!(%error, "a folder that came back has not got its time");
            }
        }
    }
}

fn count(answered: Option<Result<Option<Verdict>, String>>) -> Result<u64, String> {
    let verdict = answered.transpose()?.flatten();
    Ok(u64::from(verdict.is_some_and(|verdict| verdict.is_here())))
}

#[cfg(test)]
mod tests;
