//! The committer: the one thread through which every change of the volume goes, in groups.
//!
//! A group is whatever has come in while the one before was being flushed. Its order: contents durable, changes
//! applied in the order in which they came, folders durable, answers. So an answer of OK survives a power failure, and
//! many small files share their flushes. A flush that fails makes the volume read-only until a person has looked: the
//! kernel may have dropped what it could not write, and asking again would be told "fine".
//!
//! The journal of intents belongs between flushing the contents and applying the changes.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, Mode, RenameFlags};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::root::{NewAttributes, proc_path, set_attributes};
use super::{Durability, FileKind, Place, Result, Stage, StorageError};

/// Changes that wait for the committer at most; past it their sessions wait.
const QUEUE_CHANGES_MAX: usize = 4096;

/// Changes in one group at most.
const GROUP_CHANGES_MAX: usize = 512;

/// From this many things to flush on, one flush of the whole file system is cheaper than one of each.
const FLUSH_EACH_MAX: usize = 8;

/// A change of the volume.
#[derive(Debug)]
pub enum Change {
    /// A complete upload takes its name.
    Publish {
        /// The upload.
        stage: Stage,
        /// Its name.
        place: Place,
        /// Refuse where something has the name by now.
        exclusive: bool,
    },
    /// A name is changed.
    Rename {
        /// The old one.
        from: Place,
        /// The new one.
        to: Place,
        /// Whether a file that has the new name is replaced; else that is refused.
        replace: bool,
    },
    /// A file or link goes.
    Remove(Place),
    /// A folder comes, with this mode.
    MakeFolder(Place, u32),
    /// An empty folder goes.
    RemoveFolder(Place),
    /// A link comes, with this text.
    MakeLink(Place, Vec<u8>),
    /// A file gets a second name.
    HardLink {
        /// The first.
        from: Place,
        /// The second.
        to: Place,
    },
    /// Attributes of an open thing change.
    SetAttributes(Arc<OwnedFd>, NewAttributes),
    /// A file that is written in place is made durable.
    Flush(Arc<OwnedFd>),
}

type Answer = oneshot::Sender<Result<()>>;

/// The way to the committer's thread, which ends when the last of these is dropped.
#[derive(Debug)]
pub(super) struct Committer {
    queue: SyncSender<(Change, Answer)>,
    failed: Arc<OnceLock<String>>,
}

impl Committer {
    pub(super) fn start(volume: OwnedFd, durability: Durability) -> std::io::Result<Committer> {
        let (queue, changes) = std::sync::mpsc::sync_channel(QUEUE_CHANGES_MAX);
        let failed = Arc::new(OnceLock::new());
        let mut worker = Worker { volume, durability, failed: failed.clone() };
        std::thread::Builder::new().name("committer".into()).spawn(move || worker.run(&changes))?;
        Ok(Committer { queue, failed })
    }

    /// Hands a change over. The answer comes when it is durable.
    pub(super) fn submit(&self, change: Change) -> oneshot::Receiver<Result<()>> {
        let (answer, answered) = oneshot::channel();
        // A committer that is gone drops the answer, which its receiver sees.
        let _ = self.queue.send((change, answer));
        answered
    }

    /// The sentence that says why the volume is read-only, if it is.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }
}

struct Worker {
    volume: OwnedFd,
    durability: Durability,
    failed: Arc<OnceLock<String>>,
}

impl Worker {
    fn run(&mut self, changes: &Receiver<(Change, Answer)>) {
        while let Ok(first) = changes.recv() {
            let waiting = changes.try_iter().take(GROUP_CHANGES_MAX - 1);
            let group: Vec<_> = std::iter::once(first).chain(waiting).collect();
            self.commit(group);
        }
    }

    fn commit(&mut self, group: Vec<(Change, Answer)>) {
        let (mut changes, answers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let mut results: Vec<Result<()>> = match self.refusal() {
            Some(refusal) => changes.iter().map(|_| Err(refusal())).collect(),
            None => self.make_durable(&mut changes),
        };
        if let Some(refusal) = self.refusal() {
            results = results.into_iter().map(|result| result.and_then(|()| Err(refusal()))).collect();
        }
        // What a change held (a stage that was refused, say) is released before the client hears of it.
        drop(changes);
        for (answer, result) in answers.into_iter().zip(results) {
            // A session that is gone no longer wants to know.
            let _ = answer.send(result);
        }
    }

    fn refusal(&self) -> Option<impl Fn() -> StorageError + use<>> {
        let sentence = self.failed.get()?.clone();
        Some(move || StorageError::Refused(sentence.clone()))
    }

    fn make_durable(&mut self, changes: &mut [Change]) -> Vec<Result<()>> {
        let contents: Vec<_> = changes.iter().filter_map(content).collect();
        self.flush(&contents);
        if let Some(refusal) = self.refusal() {
            return changes.iter().map(|_| Err(refusal())).collect();
        }
        let results: Vec<_> = changes.iter_mut().map(apply).collect();
        let applied = changes.iter().zip(&results).filter(|(_, result)| result.is_ok());
        let mut touched: Vec<_> = applied.flat_map(|(change, _)| folders(change)).collect();
        touched.sort_by_key(Arc::as_ptr);
        touched.dedup_by_key(|folder| Arc::as_ptr(folder));
        let touched: Vec<_> = touched.iter().map(|folder| folder.as_fd()).collect();
        self.flush(&touched);
        results
    }

    /// Makes things durable, each by itself or all of the file system at once. A failure is kept in `failed`.
    fn flush(&mut self, things: &[std::os::fd::BorrowedFd<'_>]) {
        if self.durability == Durability::None || things.is_empty() {
            return;
        }
        let flushed = if things.len() > FLUSH_EACH_MAX {
            rustix::fs::syncfs(&self.volume)
        } else {
            things.iter().try_for_each(flush_one)
        };
        if let Err(error) = flushed {
            tracing::error!(%error, "a flush of the data volume failed: it is read-only until sftpd is started again");
            let _ = self.failed.set(format!("the volume is read-only since a flush failed: {error}"));
        }
    }
}

/// Flushes one thing. A thing opened only as a path (a link, a file without read permission) is flushed by way of
/// another descriptor where there can be one, else with the folder that holds it.
fn flush_one(thing: &std::os::fd::BorrowedFd<'_>) -> rustix::io::Result<()> {
    match rustix::fs::fsync(thing) {
        Err(Errno::BADF) => {
            let path = proc_path(*thing);
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
            match rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::empty()) {
                Ok(file) => rustix::fs::fsync(&file),
                Err(_) => Ok(()),
            }
        }
        result => result,
    }
}

/// What must be durable before the change may be applied.
fn content(change: &Change) -> Option<std::os::fd::BorrowedFd<'_>> {
    match change {
        Change::Publish { stage, .. } => Some(stage.file()),
        Change::Flush(file) => Some(file.as_fd()),
        _ => None,
    }
}

/// What must be durable after the change was applied.
fn folders(change: &Change) -> Vec<Arc<OwnedFd>> {
    match change {
        Change::Publish { place, .. }
        | Change::Remove(place)
        | Change::MakeFolder(place, _)
        | Change::RemoveFolder(place)
        | Change::MakeLink(place, _) => vec![place.folder.clone()],
        Change::Rename { from, to, .. } | Change::HardLink { from, to } => {
            vec![from.folder.clone(), to.folder.clone()]
        }
        Change::SetAttributes(thing, _) => vec![thing.clone()],
        Change::Flush(_) => Vec::new(),
    }
}

fn apply(change: &mut Change) -> Result<()> {
    match change {
        Change::Publish { stage, place, exclusive } => publish(stage, place, *exclusive),
        Change::Rename { from, to, replace } => rename(from, to, *replace),
        Change::Remove(place) => match place.attributes()?.kind {
            FileKind::Folder => Err(Errno::ISDIR.into()),
            _ => Ok(rustix::fs::unlinkat(&*place.folder, place.name(), AtFlags::empty())?),
        },
        Change::MakeFolder(place, mode) => {
            Ok(rustix::fs::mkdirat(&*place.folder, place.name(), Mode::from_raw_mode(*mode & 0o7777))?)
        }
        Change::RemoveFolder(place) => Ok(rustix::fs::unlinkat(&*place.folder, place.name(), AtFlags::REMOVEDIR)?),
        Change::MakeLink(place, text) => Ok(rustix::fs::symlinkat(text.as_slice(), &*place.folder, place.name())?),
        Change::HardLink { from, to } => {
            Ok(rustix::fs::linkat(&*from.folder, from.name(), &*to.folder, to.name(), AtFlags::empty())?)
        }
        Change::SetAttributes(thing, new) => set_attributes(thing.as_fd(), new),
        Change::Flush(_) => Ok(()),
    }
}

fn publish(stage: &mut Stage, place: &Place, exclusive: bool) -> Result<()> {
    let flags = if exclusive { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
    rustix::fs::renameat_with(&*stage.folder, stage.name.as_str(), &*place.folder, place.name(), flags)?;
    stage.published = true;
    Ok(())
}

fn rename(from: &Place, to: &Place, replace: bool) -> Result<()> {
    let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    Ok(rustix::fs::renameat_with(&*from.folder, from.name(), &*to.folder, to.name(), flags)?)
}
