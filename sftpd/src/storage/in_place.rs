//! A file that is written under its own name: by accounts with `upload: direct`, in the middle of files too large for a
//! copy, at their end by who may only add there, and by replication, which has stages of its own.
//!
//! Always holds: for clients the journal is told `dirty` before the first byte changes, and `clean`, with everything on
//! the disk, when nobody writes the file any more: also when a connection dies. It promises nothing about what readers
//! see in between.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::oneshot;

use super::attributes::attributes_of;
use super::change::Change;
use super::committer::{Job, Queue};
use super::disk::Disk;
use super::failure::Failure;
use super::{NewAttributes, Quota, Result, StorageError, file_content};

/// How a change went that the committer was asked for.
type Answered = oneshot::Receiver<Result<()>>;

/// All files that clients are writing in place.
#[derive(Debug)]
pub(super) struct Writing {
    queue: Queue,
    disk: Disk,
    failed: Failure,
    /// How many handles write each, by device and inode, and the error of a flush: the system tells it once.
    // Held until the committer has been asked, so that it hears of `dirty` and `clean` in the order in which they are true.
    files: Mutex<HashMap<(u64, u64), (usize, Lost)>>,
}

/// What all have in common who write a file.
#[derive(Debug, Default)]
struct Shared {
    /// The error of a flush.
    lost: OnceLock<StorageError>,
    /// Held by who writes at the end, and there only: between the look at where that is and the writing.
    // Held for one write.
    at_end: Mutex<()>,
}

type Lost = Arc<Shared>;

/// A handle that writes a file in place.
#[derive(Debug)]
pub struct InPlace {
    writing: Arc<Writing>,
    file: Arc<OwnedFd>,
    identity: (u64, u64),
    quota: Option<Quota>,
    /// Whose changes are told of; none of replication's are.
    author: Option<Arc<str>>,
    /// Whether it may do nothing but add at the end.
    only_grows: bool,
    is_changed: AtomicBool,
    /// Whether it may be written: `dirty` is told, and CLOSE was not asked for.
    is_open: AtomicBool,
    is_over: AtomicBool,
    lost: Lost,
    /// The first WRITE that failed.
    broken: Mutex<Option<StorageError>>,
}

impl Writing {
    pub(super) fn new(queue: Queue, disk: Disk, failed: Failure) -> Arc<Writing> {
        Arc::new(Writing { queue, disk, failed, files: Mutex::default() })
    }

    /// How many files clients are writing.
    pub(super) fn count(&self) -> usize {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn ask(&self, change: Change, author: Option<Arc<str>>) -> Answered {
        let (answer, answered) = oneshot::channel();
        // A committer that is gone drops the answer, which its receiver sees.
        self.queue.send(Job::Change(change, author, answer));
        answered
    }

    /// Begins to write a file. Where it is told, nothing may be written before the answer. `folder` is where the file's
    /// name may be new.
    pub(super) fn begin(
        self: &Arc<Self>,
        file: OwnedFd,
        folder: Option<Arc<OwnedFd>>,
        quota: Option<Quota>,
        author: Option<Arc<str>>,
    ) -> Result<(InPlace, Option<Answered>)> {
        let (identity, file) = (attributes_of(file.as_fd())?.identity, Arc::new(file));
        let mut lost = Lost::default();
        let told = author.is_some().then(|| {
            let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            let writers = files.entry(identity).or_default();
            writers.0 += 1;
            lost = writers.1.clone();
            self.ask(Change::Dirty(file.clone(), folder), author.clone())
        });
        let in_place = InPlace {
            writing: self.clone(),
            file,
            identity,
            quota,
            author,
            only_grows: false,
            is_changed: AtomicBool::new(false),
            is_open: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            lost,
            broken: Mutex::default(),
        };
        Ok((in_place, told))
    }
}

impl InPlace {
    /// The same handle, by which the file only grows: what is there stays as it is.
    pub fn that_only_grows(mut self) -> InPlace {
        self.only_grows = true;
        self
    }

    /// The file, for reading.
    pub fn file(&self) -> Arc<OwnedFd> {
        self.file.clone()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn resize_in_quota(&self, size: u64, new_size: u64) -> Result<()> {
        match &self.quota {
            Some(quota) if size != new_size => quota.resize_in_place(size, new_size),
            _ => Ok(()),
        }
    }

    /// Makes a change that gives the file another size, which must fit. What does not happen is given back.
    fn change(&self, new_size: impl FnOnce(u64) -> u64, change: impl FnOnce(&Disk) -> Result<()>) -> Result<()> {
        if let Some(reason) = self.writing.failed.get() {
            return Err(StorageError::Refused(reason.clone()));
        }
        if !self.is_open.load(Ordering::Relaxed) {
            return Err(StorageError::Refused("the file is not open yet, or is closed already".into()));
        }
        self.is_changed.store(true, Ordering::Relaxed);
        // Without a quota nobody needs to know how long the file is.
        let (size, new_size) = match &self.quota {
            Some(_) => {
                let size = file_content::end_of(self.fd())?;
                (size, new_size(size))
            }
            None => (0, 0),
        };
        self.resize_in_quota(size, new_size)?;
        change(&self.writing.disk).or_else(|error| {
            self.resize_in_quota(new_size, file_content::end_of(self.fd()).unwrap_or(new_size))?;
            Err(error)
        })
    }

    /// Writes at an offset, or at the end where there is none, also while others write there.
    pub fn write(&self, offset: Option<u64>, data: &[u8]) -> Result<()> {
        let end = |size: u64| size.max(offset.unwrap_or(size).saturating_add(data.len() as u64));
        let write = || {
            self.change(end, |disk| match offset {
                Some(offset) => Ok(disk.write(self.fd(), data, offset)?),
                None => Ok(disk.append(self.fd(), data)?),
            })
        };
        let written = match self.only_grows {
            true => self.at_end(offset, write),
            false => write(),
        };
        written.inspect_err(|error| {
            let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
            broken.get_or_insert_with(|| error.clone());
        })
    }

    /// Does something that may only begin where the file ends.
    fn at_end(&self, offset: Option<u64>, write: impl FnOnce() -> Result<()>) -> Result<()> {
        let _turn = self.lost.at_end.lock().unwrap_or_else(PoisonError::into_inner);
        let end = file_content::end_of(self.fd())?;
        if offset.is_some_and(|offset| offset != end) {
            let sentence =
                format!("this file is only continued at its end: it has {end} bytes, and what is there stays");
            return Err(StorageError::Refused(sentence));
        }
        write()
    }

    /// From now on it may be written; first it is cut to nothing, if so asked. For files that are told only after `dirty`
    /// was answered.
    pub fn begin(&self, truncate: bool) -> Result<()> {
        let truncate = truncate && !self.only_grows;
        self.is_open.store(true, Ordering::Relaxed);
        if self.is_over.load(Ordering::Relaxed) {
            // Its client has not waited for OPEN to be answered.
            self.is_open.store(false, Ordering::Relaxed);
        }
        if truncate { self.change(|_| 0, |disk| Ok(disk.truncate(self.fd(), 0)?)) } else { Ok(()) }
    }

    /// Sets attributes; of a file that only grows its times, and a size that it has.
    pub fn set_attributes(&self, new: &NewAttributes) -> Result<()> {
        if !self.only_grows {
            return self.set(new);
        }
        let times = NewAttributes { times: new.times, ..NewAttributes::default() };
        self.at_end(new.size, || self.set(&times))
    }

    fn set(&self, new: &NewAttributes) -> Result<()> {
        self.change(|size| new.size.unwrap_or(size), |disk| disk.set_attributes(self.fd(), new))
    }

    /// Makes durable what was written so far.
    pub fn flush(&self) -> impl Future<Output = Result<()>> + Send + 'static {
        let (flushed, lost) = (self.writing.ask(Change::Flush(self.file.clone()), None), self.lost.clone());
        answer(Some(flushed), lost)
    }

    /// CLOSE. Comes back when everything is durable; an error says that not all of it was written.
    pub fn close(&self) -> impl Future<Output = Result<()>> + Send + 'static {
        let flushed = answer(self.end(), self.lost.clone());
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        async move {
            flushed.await?;
            match broken {
                Some(error) => Err(StorageError::Refused(format!("the file is incomplete: {error}"))),
                None => Ok(()),
            }
        }
    }

    /// Nobody writes by this handle any more: says so, once.
    fn end(&self) -> Option<Answered> {
        self.is_open.store(false, Ordering::Relaxed);
        if self.is_over.swap(true, Ordering::Relaxed) {
            return None;
        }
        let Some(author) = &self.author else {
            let is_changed = self.is_changed.load(Ordering::Relaxed);
            return is_changed.then(|| self.writing.ask(Change::Flush(self.file.clone()), None));
        };
        let mut files = self.writing.files.lock().unwrap_or_else(PoisonError::into_inner);
        let others = files.get_mut(&self.identity).map_or(0, |(writers, _)| {
            *writers = writers.saturating_sub(1);
            *writers
        });
        let change = if others == 0 {
            files.remove(&self.identity);
            Change::Clean(self.file.clone())
        } else {
            Change::Flush(self.file.clone())
        };
        Some(self.writing.ask(change, Some(author.clone())))
    }
}

impl Drop for InPlace {
    fn drop(&mut self) {
        // Its connection died: nobody waits for the answer.
        if self.author.is_some() {
            drop(self.end());
        }
    }
}

/// The committer's answer, or what it said before; nothing was asked for where there is none.
async fn answer(answered: Option<Answered>, lost: Lost) -> Result<()> {
    let Some(answered) = answered else { return Ok(()) };
    let flushed = answered.await.unwrap_or_else(|_| Err(super::volume::stopped()));
    if let Err(error) = flushed {
        let _ = lost.lost.set(error);
    }
    lost.lost.get().cloned().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests;
