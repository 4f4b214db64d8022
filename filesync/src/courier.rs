//! Brings content to a standby: send, resume, publish.
//!
//! Always holds: a file appears under its name only whole, with its mode and time; what it replaces is kept in the trash
//! first; what both sides agree on is recorded only after the standby said OK. A source that
//! changes while it is read is not sent: the stage is dropped, and the next pass sees it again.
//! A file that was written in place here and only grew, such as a log, grows in place there as well: nothing of it is
//! replaced, so nothing is kept.

mod agreement;
mod comparing;

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pair::client::Handle;
use pair::extension::PUT;
use pair::wire::{Attrs, open_flag};

use crate::fault::{Fault, blocking};
use crate::ledger::Ledger;
use crate::remote::{Grade, Remote};
use crate::source::{Source, entry_of_file, hash_of_file, read_at};
use crate::stage::Stages;
use crate::status::Board;
use crate::stream::Claims;
use crate::throttle::Throttle;
use crate::trash::Trash;
use crate::tree::{Entry, Kind, PERMISSIONS, Seen};

/// Files above this size go their own way: they may take hours, are resumed, and never hold up a small one. In bytes.
pub const LARGE_BYTES: u64 = 8 * 1024 * 1024;
/// Files up to this size are read and checked in one go, in bytes.
const SMALL_BYTES: u64 = 255 * 1024;
/// Files up to this size come to a standby of the pair in one request where they are new, in bytes.
const PLACED_BYTES: usize = 128 * 1024;
/// How much is read from the disk at a time, in bytes.
const CHUNK_BYTES: u64 = 1020 * 1024;
/// After how much the file is looked at again, in bytes, and after what time at the latest.
const CHECK_BYTES: u64 = 64 * CHUNK_BYTES;
const CHECK_TIME: Duration = Duration::from_secs(2);
/// Writes of one file in flight; with 255 KiB each about 4 MiB.
const WRITES_MAX: usize = 16;

/// How giving another name went.
pub enum Renamed {
    /// Well.
    Done,
    /// This has the name.
    Taken(Seen),
    /// There is nothing under the old name, or no folder for the new one.
    Missing,
}

/// Moves content over one connection.
pub struct Courier {
    /// Where to.
    pub remote: Remote,
    /// Where from.
    pub source: Arc<Source>,
    /// Where proven things are recorded.
    pub ledger: Ledger,
    /// Where progress is shown.
    pub board: Arc<Board>,
    /// Where content lies until it is whole.
    pub stages: Stages,
    /// How fast content goes.
    throttle: Arc<Throttle>,
}

struct Opened {
    file: Arc<File>,
    entry: Entry,
    /// The whole content, of a small file.
    content: Option<Vec<u8>>,
}

impl Courier {
    /// A courier for one connection.
    pub fn new(
        remote: Remote,
        source: Arc<Source>,
        ledger: Ledger,
        board: Arc<Board>,
        throttle: Arc<Throttle>,
    ) -> Courier {
        Courier { remote, source, ledger, board, stages: Stages::new(), throttle }
    }

    /// Sends a file.
    pub async fn put(&self, path: &[u8], replaces: bool, trash: &Trash) -> Result<(), Fault> {
        let opened = self.open(path).await?;
        if !replaces && self.place(path, &opened).await? {
            return Ok(());
        }
        self.put_opened(path, opened, replaces, trash, None).await
    }

    /// Sends a file where there is probably one.
    pub async fn put_over(&self, path: &[u8], trash: &Trash) -> Result<(), Fault> {
        self.put_beside(path, false, trash, None).await
    }

    /// Sends a file, but gives it its name only if the feed is not at work there just then.
    pub async fn put_beside(
        &self,
        path: &[u8],
        replaces: bool,
        trash: &Trash,
        claims: Option<&Arc<Claims>>,
    ) -> Result<(), Fault> {
        let opened = self.open(path).await?;
        self.put_opened(path, opened, replaces, trash, claims).await
    }

    async fn put_opened(
        &self,
        path: &[u8],
        opened: Opened,
        replaces: bool,
        trash: &Trash,
        claims: Option<&Arc<Claims>>,
    ) -> Result<(), Fault> {
        let (stage, is_large) = (self.stages.path(path, &opened.entry), opened.entry.size > LARGE_BYTES);
        let (handle, offset) =
            if is_large { self.resume(&stage, &opened).await? } else { (self.create(&stage).await?, 0) };
        let sent = self.send(path, &handle, &opened, offset).await;
        let sent = match sent {
            Ok(()) => self.finish(handle, &opened.entry).await,
            Err(fault @ Fault::Lost(_)) => return Err(fault),
            Err(fault) => {
                self.remote.client.close(handle).await?;
                Err(fault)
            }
        };
        let alone = claims.filter(|_| sent.is_ok()).map(|claims| claims.quiet(path));
        if let Some(None) = alone {
            // The feed is at work there, perhaps with this very file: the stage stays for whoever goes on.
            return Err(Fault::Changed);
        }
        let sent = match sent {
            Ok(()) if opened.content.is_none() => self.still_the_same(path, &opened).await,
            sent => sent,
        };
        if let Err(fault) = sent {
            return Err(self.abandon(&stage, fault).await);
        }
        if let Err(fault) = self.publish(&stage, path, replaces, trash).await {
            // A large one may be gone on with.
            return Err(if is_large { fault } else { self.abandon(&stage, fault).await });
        }
        self.agree(path, opened.entry.clone()).await?;
        self.board.sent(opened.entry.size);
        Ok(())
    }

    /// Gives a small new file to a standby of the pair in one request; tells whether it could be done so.
    async fn place(&self, path: &[u8], opened: &Opened) -> Result<bool, Fault> {
        let (client, entry) = (&self.remote.client, &opened.entry);
        let Some(content) = opened.content.as_ref().filter(|content| content.len() <= PLACED_BYTES) else {
            return Ok(false);
        };
        if !client.has(PUT) {
            return Ok(false);
        }
        self.throttle.pass(content.len()).await;
        let attributes = Attrs { mode: Some(entry.mode), ..times_of(entry) };
        match client.put(&self.remote.at(path), attributes, content).await {
            Ok(()) => {}
            Err(error) if error.is_missing() => return Err(Fault::NoFolder),
            Err(error) if error.is_lost() => return Err(error.into()),
            // Perhaps something has come under the name, which must be kept.
            Err(error) => return self.remote.look(path).await?.map(|_| false).ok_or_else(|| error.into()),
        }
        self.agree(path, entry.clone()).await?;
        self.board.sent(entry.size);
        Ok(true)
    }

    /// Makes a symbolic link.
    pub async fn link(&self, path: &[u8], entry: &Entry, replaces: bool, trash: &Trash) -> Result<(), Fault> {
        let stage = self.stages.path(path, entry);
        let client = &self.remote.client;
        client.symlink(&entry.target, &self.remote.at(&stage)).await?;
        if self.remote.lsetstat {
            client.lsetstat(&self.remote.at(&stage), times_of(entry)).await?;
        }
        if let Err(fault) = self.publish(&stage, path, replaces, trash).await {
            return Err(self.abandon(&stage, fault).await);
        }
        self.agree(path, entry.clone()).await
    }

    /// Removes a stage that will not be published; what is left of a lost connection another one removes.
    async fn abandon(&self, stage: &[u8], fault: Fault) -> Fault {
        if !matches!(fault, Fault::Lost(_)) {
            let _may_be_gone = self.remote.client.remove(&self.remote.at(stage)).await;
        }
        fault
    }

    async fn open(&self, path: &[u8]) -> Result<Opened, Fault> {
        let (source, path) = (self.source.clone(), path.to_vec());
        blocking(move || {
            let file = Arc::new(source.open_file(&path)?);
            let entry = entry_of_file(&file)?;
            let mut opened = Opened { file, entry, content: None };
            if opened.entry.size <= SMALL_BYTES {
                opened.content = Some(read_at(&opened.file, 0, opened.entry.size as usize)?);
                is_unchanged(&source, &path, &opened)?;
            }
            Ok(opened)
        })
        .await
    }

    async fn still_the_same(&self, path: &[u8], opened: &Opened) -> Result<(), Fault> {
        let (source, path) = (self.source.clone(), path.to_vec());
        let opened = Opened { file: opened.file.clone(), entry: opened.entry.clone(), content: None };
        blocking(move || is_unchanged(&source, &path, &opened)).await
    }

    async fn create(&self, stage: &[u8]) -> Result<Handle, Fault> {
        let flags = open_flag::WRITE | open_flag::CREAT | open_flag::TRUNC;
        Ok(self.remote.client.open(&self.remote.at(stage), flags, Some(0o600)).await?)
    }

    /// Opens the stage of a large file where an earlier try stopped, if what is there is the beginning of this file.
    async fn resume(&self, stage: &[u8], opened: &Opened) -> Result<(Handle, u64), Fault> {
        let there = self.remote.look(stage).await?.map_or(0, |seen| seen.size).min(opened.entry.size);
        if there > 0 {
            let (ours, theirs) = futures::join!(hash_of(opened, there), self.remote.digest(stage, there));
            if theirs? == (ours?, there) {
                let handle = self.remote.client.open(&self.remote.at(stage), open_flag::WRITE, None).await?;
                tracing::debug!(bytes = there, "a broken transfer goes on");
                return Ok((handle, there));
            }
        }
        Ok((self.create(stage).await?, 0))
    }

    async fn send(&self, path: &[u8], handle: &Handle, opened: &Opened, from: u64) -> Result<(), Fault> {
        let (client, size) = (&self.remote.client, opened.entry.size);
        let (mut offset, mut pending) = (from, VecDeque::new());
        let (mut checked_at, mut checked) = (from, Instant::now());
        while offset < size {
            let length = CHUNK_BYTES.min(size - offset) as usize;
            if offset - checked_at >= CHECK_BYTES || checked.elapsed() > CHECK_TIME {
                // Renamed, removed or replaced: the rest is for nobody.
                self.still_the_same(path, opened).await?;
                (checked_at, checked) = (offset, Instant::now());
            }
            let chunk = match &opened.content {
                Some(content) => content.clone(),
                None => {
                    let file = opened.file.clone();
                    blocking(move || Ok(read_at(&file, offset, length)?)).await?
                }
            };
            if chunk.len() < length {
                return Err(Fault::Changed);
            }
            for part in chunk.chunks(client.write_bytes_max()) {
                self.throttle.pass(part.len()).await;
                pending.push_back(client.begin_write(handle, offset, part).await?);
                offset += part.len() as u64;
                if pending.len() > WRITES_MAX
                    && let Some(write) = pending.pop_front()
                {
                    write.done().await?;
                }
            }
        }
        for write in pending {
            write.done().await?;
        }
        Ok(())
    }

    /// Attributes, flush and close leave together, in this order.
    async fn finish(&self, handle: Handle, entry: &Entry) -> Result<(), Fault> {
        let client = &self.remote.client;
        let attributes = Attrs { mode: Some(entry.mode & PERMISSIONS), ..times_of(entry) };
        let attributes = client.begin_fsetstat(&handle, attributes).await?;
        let fsync = if self.remote.fsync { Some(client.begin_fsync(&handle).await?) } else { None };
        let close = client.begin_close(&handle).await?;
        let attributes = attributes.done().await;
        if let Some(fsync) = fsync {
            fsync.done().await?;
        }
        close.done().await?;
        Ok(attributes?)
    }

    /// Renames a whole stage to its name, after what it replaces was kept.
    async fn publish(&self, stage: &[u8], path: &[u8], replaces: bool, trash: &Trash) -> Result<(), Fault> {
        if !replaces {
            match self.rename(stage, path).await? {
                Renamed::Done => return Ok(()),
                Renamed::Taken(seen) if seen.kind == Kind::Folder => return Err(folder_in_the_way()),
                Renamed::Taken(_) => {}
                Renamed::Missing => return Err(Fault::NoFolder),
            }
        }
        Ok(trash.rename_over(&self.remote, stage, path).await?)
    }

    /// Gives something another name, unless that is taken.
    pub async fn rename(&self, from: &[u8], to: &[u8]) -> Result<Renamed, Fault> {
        // Our own sftpd refuses a taken name. Of other servers some replace, in silence, what nobody has kept.
        if self.remote.grade != Grade::Pair
            && let Some(seen) = self.remote.look(to).await?
        {
            return Ok(Renamed::Taken(seen));
        }
        match self.remote.client.rename(&self.remote.at(from), &self.remote.at(to)).await {
            Ok(()) => Ok(Renamed::Done),
            Err(error) if error.is_missing() => Ok(Renamed::Missing),
            Err(error) if error.is_lost() => Err(error.into()),
            Err(error) => self.remote.look(to).await?.map(Renamed::Taken).ok_or_else(|| error.into()),
        }
    }
}

/// A folder of the standby's own is for no file to replace.
pub fn folder_in_the_way() -> Fault {
    Fault::Problem("the standby has a folder where a file comes".into())
}

fn times_of(entry: &Entry) -> Attrs {
    let seconds = entry.mtime_s();
    Attrs { times: Some((seconds, seconds)), ..Attrs::default() }
}

async fn hash_of(opened: &Opened, length: u64) -> Result<blake3::Hash, Fault> {
    let (file, content) = (opened.file.clone(), opened.content.clone());
    blocking(move || {
        if let Some(content) = content {
            return Ok(blake3::hash(&content));
        }
        let (hash, count) = hash_of_file(&file, length)?;
        if count < length { Err(Fault::Changed) } else { Ok(hash) }
    })
    .await
}

/// Whether an open file is as it was when it was opened, and still the one at its path.
fn is_unchanged(source: &Source, path: &[u8], opened: &Opened) -> Result<(), Fault> {
    let same_file = entry_of_file(&opened.file)?.same_content(&opened.entry);
    let same_path = source.look(path)?.identity() == opened.entry.identity();
    if same_file && same_path { Ok(()) } else { Err(Fault::Changed) }
}

#[cfg(test)]
mod tests;
