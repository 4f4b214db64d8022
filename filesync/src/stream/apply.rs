//! Does on the standby what one change did here.
//!
//! Always holds: doing it again does no harm. Content is brought as it is now, because a later change tells of what came
//! since; names move and go only on the word of the change itself, and only the very object that it names. What is
//! replaced or removed is kept in the trash.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pair::record::{Operation, Record as Change};

use crate::courier::{Courier, Fault, LARGE_BYTES, Renamed, blocking, folder_in_the_way};
use crate::lane::Job;
use crate::store::{Record, Store};
use crate::trash::Trash;
use crate::tree::{Base, Entry, Kind, Path, Seen};

/// What a change has come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The standby has it, or a later change tells of what became of it.
    Done,
    /// A large file is to be brought on its own way.
    Large(Path, Job),
}

/// Brings changes to one standby.
pub struct Applier<'a> {
    courier: &'a Courier,
    store: Arc<Mutex<Store>>,
    /// Where things go that are replaced or removed, and since when.
    trash: Mutex<Option<(Instant, Arc<Trash>)>>,
}

/// How long one folder of the trash is used: it is named after its beginning, and goes by that.
const TRASH_SPAN: Duration = Duration::from_secs(600);

impl<'a> Applier<'a> {
    /// What brings changes over a connection.
    pub fn new(courier: &'a Courier, store: Arc<Mutex<Store>>) -> Applier<'a> {
        Applier { courier, store, trash: Mutex::default() }
    }

    fn trash(&self) -> Arc<Trash> {
        let mut trash = self.trash.lock().unwrap_or_else(PoisonError::into_inner);
        match &*trash {
            Some((since, folder)) if since.elapsed() < TRASH_SPAN => folder.clone(),
            _ => {
                let folder = Arc::new(Trash::of_feed());
                *trash = Some((Instant::now(), folder.clone()));
                folder
            }
        }
    }

    /// Does one change.
    pub async fn apply(&self, change: &Change) -> Result<Outcome, Fault> {
        let path = &change.path.0;
        match change.op {
            Operation::Put | Operation::Symlink => self.bring(path).await,
            Operation::Clean => self.bring_written(path).await,
            Operation::Link => self.bring(target_of(change)?).await,
            Operation::Setattr => self.attributes(change).await,
            Operation::Mkdir => self.make_folder(path).await,
            Operation::Remove => self.remove(path).await,
            Operation::Rmdir => self.remove_folder(path).await,
            Operation::Rename => self.rename(change, target_of(change)?).await,
            Operation::Dirty => {
                // What both sides agree on is over: whatever comes is compared or sent anew.
                self.courier.ledger.record(Record::Forget(path.clone())).await;
                Ok(Outcome::Done)
            }
            Operation::Heartbeat | Operation::Mark => Ok(Outcome::Done),
        }
    }

    /// What is at a path here now.
    async fn look(&self, path: &[u8]) -> Result<Option<Entry>, Fault> {
        let (source, path) = (self.courier.source.clone(), path.to_vec());
        blocking(move || match source.look(&path) {
            Ok(entry) => Ok(Some(entry)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error.into()),
        })
        .await
    }

    /// What both sides agreed on. The ledger may still have something newer in its queue, unless it was flushed.
    async fn base(&self, path: &[u8]) -> Result<Option<Base>, Fault> {
        let (store, path) = (self.store.clone(), path.to_vec());
        blocking(move || {
            let store = store.lock().unwrap_or_else(PoisonError::into_inner);
            store.base(&path).map_err(|error| Fault::Problem(format!("the store does not work: {error}")))
        })
        .await
    }

    /// As [`Applier::base`], with all that was done before.
    async fn latest_base(&self, path: &[u8]) -> Result<Option<Base>, Fault> {
        self.courier.ledger.flush().await.map_err(Fault::Problem)?;
        self.base(path).await
    }

    /// A file or link as it is now. What is gone, or is a folder now, a later change tells of.
    async fn bring(&self, path: &[u8]) -> Result<Outcome, Fault> {
        let Some(entry) = self.look(path).await? else { return Ok(Outcome::Done) };
        if entry.kind == Kind::Folder {
            return Ok(Outcome::Done);
        }
        let is_brought = |base: Option<Base>| base.is_some_and(|base| base.source == entry);
        if is_brought(self.base(path).await?) && is_brought(self.latest_base(path).await?) {
            // A pass, or the time before a restart, has brought it already.
            return Ok(Outcome::Done);
        }
        match entry.kind {
            Kind::Link => self.courier.link(path, &entry, false, &self.trash()).await?,
            _ if entry.size > LARGE_BYTES => {
                let job = Job { bytes: entry.size, verify: false, replaces: false };
                return Ok(Outcome::Large(path.to_vec(), job));
            }
            _ => self.courier.put(path, false, &self.trash()).await?,
        }
        Ok(Outcome::Done)
    }

    /// A file that was written in place. What agrees by its times need not: the last byte may have come in the same tick of
    /// the clock in which a pass has read the file.
    async fn bring_written(&self, path: &[u8]) -> Result<Outcome, Fault> {
        let Some(entry) = self.look(path).await?.filter(|entry| entry.kind == Kind::File) else {
            return Ok(Outcome::Done);
        };
        if self.latest_base(path).await?.is_some() { self.compare(path, &entry).await } else { self.bring(path).await }
    }

    /// Compares a file by its content, a large one on its own way.
    async fn compare(&self, path: &[u8], entry: &Entry) -> Result<Outcome, Fault> {
        if entry.size > LARGE_BYTES {
            let job = Job { bytes: entry.size, verify: true, replaces: true };
            return Ok(Outcome::Large(path.to_vec(), job));
        }
        self.courier.verify(path, &self.trash()).await?;
        Ok(Outcome::Done)
    }

    async fn attributes(&self, change: &Change) -> Result<Outcome, Fault> {
        let path = &change.path.0;
        let Some(entry) = self.look(path).await? else { return Ok(Outcome::Done) };
        let base = self.latest_base(path).await?;
        if base.as_ref().is_some_and(|base| base.source == entry) {
            return Ok(Outcome::Done);
        }
        if entry.kind == Kind::File && !base.is_some_and(|base| base.source.same_but_for_ctime(&entry)) {
            return self.compare(path, &entry).await;
        }
        if entry.kind != Kind::Link || self.courier.remote.lsetstat {
            self.courier.set_attributes(path, &entry).await?;
        }
        Ok(Outcome::Done)
    }

    async fn make_folder(&self, path: &[u8]) -> Result<Outcome, Fault> {
        let remote = &self.courier.remote;
        let Some(entry) = self.look(path).await?.filter(|entry| entry.kind == Kind::Folder) else {
            return Ok(Outcome::Done);
        };
        // What comes into it needs the rights; the next pass sets its own mode and time.
        let mode = entry.mode | 0o700;
        if let Err(error) = remote.client.mkdir(&remote.at(path), mode).await {
            match remote.look(path).await? {
                Some(seen) if seen.kind == Kind::Folder => {}
                // What had the name before was removed here.
                Some(_) => {
                    self.trash().take(remote, path).await?;
                    remote.client.mkdir(&remote.at(path), mode).await?;
                }
                None => return Err(error.into()),
            }
        }
        let remote = Seen { kind: Kind::Folder, mode, size: 0, mtime_s: 0, target: Box::default() };
        self.courier.ledger.record(Record::Agree(path.to_vec(), Base { source: entry, remote })).await;
        Ok(Outcome::Done)
    }

    async fn remove(&self, path: &[u8]) -> Result<Outcome, Fault> {
        if self.look(path).await?.is_some_and(|entry| entry.kind != Kind::Folder) {
            return Ok(Outcome::Done);
        }
        let remote = &self.courier.remote;
        match remote.look(path).await? {
            Some(seen) if seen.kind == Kind::Folder => {
                return Err(Fault::Problem("a file was removed here, and the standby has a folder there".into()));
            }
            Some(_) => self.trash().take(remote, path).await?,
            None => {}
        }
        self.courier.ledger.record(Record::Forget(path.to_vec())).await;
        Ok(Outcome::Done)
    }

    /// Only an empty folder goes: what the standby has in it is not for this change to remove.
    async fn remove_folder(&self, path: &[u8]) -> Result<Outcome, Fault> {
        if self.look(path).await?.is_some_and(|entry| entry.kind == Kind::Folder) {
            return Ok(Outcome::Done);
        }
        let remote = &self.courier.remote;
        match remote.client.rmdir(&remote.at(path)).await {
            Err(error) if !error.is_missing() => return Err(error.into()),
            _ => self.courier.ledger.record(Record::Forget(path.to_vec())).await,
        }
        Ok(Outcome::Done)
    }

    async fn rename(&self, change: &Change, to: &[u8]) -> Result<Outcome, Fault> {
        let from = &change.path.0;
        // Inodes are given away again: what has come under the old name since is younger than the change.
        let is_it =
            |base: &Base| Some(base.source.ino) == change.inode && Some(base.source.ctime_ns) <= change.ctime_ns;
        let base = self.latest_base(from).await?.filter(is_it);
        let Some(base) = base else {
            return self.rename_unknown(change, to).await;
        };
        match self.courier.rename(from, to).await? {
            Renamed::Done => {}
            Renamed::Missing => return self.rename_unknown(change, to).await,
            Renamed::Taken(seen) => self.replace(base.source.kind, from, to, seen.kind).await?,
        }
        self.courier.ledger.record(Record::Move(from.clone(), to.to_vec())).await;
        self.agree_after_rename(change, to, base).await
    }

    /// A rename gives a file another ctime here, and nothing else: then both sides still agree. If anything else is new,
    /// the file is compared: a change of before may have found its old name gone, and done nothing.
    async fn agree_after_rename(&self, change: &Change, to: &[u8], base: Base) -> Result<Outcome, Fault> {
        let is_it = |now: &Entry| now.kind == base.source.kind && now.ino == base.source.ino;
        let Some(now) = self.look(to).await?.filter(is_it) else { return Ok(Outcome::Done) };
        let is_last = change.ctime_ns == Some(now.ctime_ns) && now.mode == base.source.mode;
        if is_last && now.same_but_for_ctime(&base.source) {
            let base = Base { source: now, remote: base.remote };
            self.courier.ledger.record(Record::Agree(to.to_vec(), base)).await;
        } else if now.kind == Kind::File {
            return self.compare(to, &now).await;
        }
        Ok(Outcome::Done)
    }

    /// Renames onto something that is there.
    async fn replace(&self, kind: Kind, from: &[u8], to: &[u8], there: Kind) -> Result<(), Fault> {
        let remote = &self.courier.remote;
        if remote.look(from).await?.is_none_or(|seen| seen.kind != kind) {
            return Err(Fault::Changed);
        }
        if kind == Kind::Folder {
            // Only an empty one gives way: what is in it is not for this change to remove.
            remote.client.rmdir(&remote.at(to)).await?;
            return Ok(remote.client.rename(&remote.at(from), &remote.at(to)).await?);
        }
        if there == Kind::Folder {
            return Err(folder_in_the_way());
        }
        Ok(self.trash().rename_over(remote, from, to).await?)
    }

    /// A rename of something that the standby has not got as it was: it is brought under its new name.
    async fn rename_unknown(&self, change: &Change, to: &[u8]) -> Result<Outcome, Fault> {
        let from = &change.path.0;
        let is_it = |entry: &Entry| Some(entry.ino) == change.inode;
        // Done before, and told again.
        let is_there = self.base(to).await?.is_some_and(|base| Some(base.source.ino) == change.inode);
        match self.look(to).await?.filter(is_it) {
            // It moved on, or is gone: a later change tells.
            None => {}
            // Renamed before the standby had it: with all that is in it it is for a pass.
            Some(entry) if entry.kind == Kind::Folder && !is_there => return Err(Fault::Changed),
            Some(_) => {
                if let large @ Outcome::Large(..) = self.bring(to).await? {
                    return Ok(large);
                }
            }
        }
        if self.look(from).await?.is_some() || self.courier.remote.look(from).await?.is_none() {
            return Ok(Outcome::Done);
        }
        self.remove(from).await
    }
}

fn target_of(change: &Change) -> Result<&[u8], Fault> {
    let target = change.target.as_ref().map(|target| target.0.as_slice());
    target.ok_or_else(|| Fault::Problem("the feed tells of a rename without its target".into()))
}
