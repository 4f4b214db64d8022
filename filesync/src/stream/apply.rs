//! Does on the standby what one change did here.
//!
//! Always holds: doing it again does no harm. Content is brought as it is now, because a later change tells of what came
//! since; names move and go only on the word of the change itself, and only the very object that it names. What is
//! replaced or removed is kept in the trash.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pair::record::{Operation, Record as Change};

use crate::courier::{Courier, LARGE_BYTES};
use crate::fault::{Fault, blocking};
use crate::lane::Job;
use crate::store::{Record, Store};
use crate::trash::Trash;
use crate::tree::{Base, Entry, Kind, Path, Seen, is_below, parent, upwards};

mod rename;

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
    /// Paths at which what a change told of was not found any more, and since when: it has been renamed or removed, of which
    /// a later change tells.
    gone: Mutex<BTreeMap<Path, Gone>>,
    /// Whether only a pass knows that all is right.
    is_unsure: AtomicBool,
}

/// Something that was not where a change told of it.
struct Gone {
    since: Instant,
    seq: u64,
    inode: Option<u64>,
}

/// Paths that are remembered as gone at most.
const GONE_PATHS_MAX: usize = 10_000;

/// How long one folder of the trash is used: it is named after its beginning, and goes by that.
const TRASH_SPAN: Duration = Duration::from_secs(600);

impl<'a> Applier<'a> {
    /// What brings changes over a connection.
    pub fn new(courier: &'a Courier, store: Arc<Mutex<Store>>) -> Applier<'a> {
        Applier { courier, store, trash: Mutex::default(), gone: Mutex::default(), is_unsure: AtomicBool::new(false) }
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
            Operation::Remove => {
                self.forget_below(path);
                self.remove(path).await
            }
            Operation::Rmdir => {
                self.forget_below(path);
                self.remove_folder(path).await
            }
            Operation::Rename => {
                let to = target_of(change)?;
                let renamed = self.rename(change, to).await?;
                self.move_gone(path, to).await?;
                if let Outcome::Large(..) = renamed {
                    return Ok(renamed);
                }
                self.find_again(change, to).await
            }
            Operation::Dirty => self.doubt(path).await,
            Operation::Heartbeat | Operation::Mark => Ok(Outcome::Done),
            Operation::Link => self.come(target_of(change)?, change).await,
            _ => self.come(path, change).await,
        }
    }

    /// Brings what a change has made or changed at a path, as it is now.
    async fn come(&self, path: &[u8], change: &Change) -> Result<Outcome, Fault> {
        let Some(entry) = self.find(path, change).await? else { return Ok(Outcome::Done) };
        match change.op {
            Operation::Clean => self.bring_written(path, entry).await,
            Operation::Setattr => self.attributes(path, entry).await,
            Operation::Mkdir => self.make_folder(path, entry).await,
            _ => self.bring(path, entry).await,
        }
    }

    fn gone(&self) -> MutexGuard<'_, BTreeMap<Path, Gone>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last change before all that is gone and of which nobody has told where it is.
    pub fn known_before(&self) -> u64 {
        self.gone().values().map(|gone| gone.seq.saturating_sub(1)).min().unwrap_or(u64::MAX)
    }

    /// Whether something was done of which only a pass knows that all is right; asked once.
    pub fn take_unsure(&self) -> bool {
        self.is_unsure.swap(false, Ordering::Relaxed)
    }

    /// Forgets what is gone if it is too much, or if nobody has told for so long where it is; tells whether there was any.
    pub fn forget_gone(&self, age: Duration) -> bool {
        let mut gone = self.gone();
        let is_old = gone.values().any(|gone| gone.since.elapsed() > age);
        if is_old || gone.len() > GONE_PATHS_MAX {
            gone.clear();
            return true;
        }
        false
    }

    fn note_gone(&self, path: &[u8], change: &Change) {
        let gone = Gone { since: Instant::now(), seq: change.seq, inode: change.inode };
        self.gone().insert(path.to_vec(), gone);
    }

    /// It is known what has become of a path, and of what was below it.
    fn forget_below(&self, path: &[u8]) {
        self.gone().retain(|gone, _| gone != path && !is_below(gone, path));
    }

    /// What is at a path here now, if it is the very thing that a change tells of. Else it is remembered as gone.
    async fn find(&self, path: &[u8], change: &Change) -> Result<Option<Entry>, Fault> {
        let is_it = |entry: &Entry| change.inode.is_none_or(|inode| inode == entry.ino);
        let found = self.look(path).await?.filter(is_it);
        match found {
            Some(_) => drop(self.gone().remove(path)),
            None => self.note_gone(path, change),
        }
        Ok(found)
    }

    /// A file is about to be written: what both sides agree on is to be compared from now on, whatever its times say.
    async fn doubt(&self, path: &[u8]) -> Result<Outcome, Fault> {
        if let Some(Base { source, remote }) = self.latest_base(path).await? {
            let base = Base { source: Entry { ctime_ns: 0, ..source }, remote };
            self.courier.ledger.record(Record::Agree(path.to_vec(), base)).await;
        }
        Ok(Outcome::Done)
    }

    /// What is at a path here now.
    pub async fn look(&self, path: &[u8]) -> Result<Option<Entry>, Fault> {
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
        let path = path.to_vec();
        self.stored(move |store| store.base(&path)).await
    }

    /// As [`Applier::base`], with all that was done before.
    async fn latest_base(&self, path: &[u8]) -> Result<Option<Base>, Fault> {
        self.courier.ledger.flush().await.map_err(Fault::Problem)?;
        self.base(path).await
    }

    /// A file or link as it is now. Where something else came in its place a later change tells.
    async fn bring(&self, path: &[u8], entry: Entry) -> Result<Outcome, Fault> {
        if entry.kind == Kind::Folder {
            return Ok(Outcome::Done);
        }
        let is_brought = |base: &Option<Base>| base.as_ref().is_some_and(|base| base.source == entry);
        let base = self.base(path).await?;
        if is_brought(&base) && is_brought(&self.latest_base(path).await?) {
            // A pass, or the time before a restart, has brought it already.
            return Ok(Outcome::Done);
        }
        if entry.size > LARGE_BYTES {
            let job = Job { bytes: entry.size, verify: false, replaces: false };
            return Ok(Outcome::Large(path.to_vec(), job));
        }
        let sent = match base.filter(|_| entry.kind == Kind::File) {
            Some(_) => self.courier.put_over(path, &self.trash()).await,
            None => self.send(path, &entry).await,
        };
        match sent {
            Err(Fault::NoFolder) => {
                // Made by another hand, or not made when it should have been.
                self.make_folders(parent(path)).await?;
                self.send(path, &entry).await?;
            }
            sent => sent?,
        }
        Ok(Outcome::Done)
    }

    async fn send(&self, path: &[u8], entry: &Entry) -> Result<(), Fault> {
        match entry.kind {
            Kind::Link => self.courier.link(path, entry, false, &self.trash()).await,
            _ => self.courier.put(path, false, &self.trash()).await,
        }
    }

    /// Makes a folder and those above it that the standby lacks.
    async fn make_folders(&self, path: &[u8]) -> Result<(), Fault> {
        let mut missing = Vec::new();
        for folder in upwards(path) {
            if self.courier.remote.look(folder).await?.is_some() {
                break;
            }
            missing.push(folder);
        }
        for folder in missing.into_iter().rev() {
            let entry = self.look(folder).await?.ok_or(Fault::Changed)?;
            self.make_folder(folder, entry).await?;
        }
        Ok(())
    }

    /// A file that was written in place. What agrees by its times need not: the last byte may have come in the same tick of
    /// the clock in which a pass has read the file.
    async fn bring_written(&self, path: &[u8], entry: Entry) -> Result<Outcome, Fault> {
        let is_known = entry.kind == Kind::File && self.latest_base(path).await?.is_some();
        if is_known { self.compare(path, &entry).await } else { self.bring(path, entry).await }
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

    async fn attributes(&self, path: &[u8], entry: Entry) -> Result<Outcome, Fault> {
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

    async fn make_folder(&self, path: &[u8], entry: Entry) -> Result<Outcome, Fault> {
        let remote = &self.courier.remote;
        if entry.kind != Kind::Folder {
            return Ok(Outcome::Done);
        }
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
            None => self.keep_gone(path).await?,
        }
        self.courier.ledger.record(Record::Forget(path.to_vec())).await;
        Ok(Outcome::Done)
    }

    /// What could not be made to go out of a folder has gone along with it.
    async fn move_gone(&self, from: &[u8], to: &[u8]) -> Result<(), Fault> {
        let (from, to) = (from.to_vec(), to.to_vec());
        self.stored(move |store| store.move_gone(&from, &to)).await
    }

    async fn stored<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let store = self.store.clone();
        blocking(move || {
            let store = &mut store.lock().unwrap_or_else(PoisonError::into_inner);
            work(store).map_err(|error| Fault::Problem(format!("the store does not work: {error}")))
        })
        .await
    }

    /// The standby has not got what was removed: perhaps under another name, of which the change of name failed. When it
    /// appears, a pass knows that it is to go.
    async fn keep_gone(&self, path: &[u8]) -> Result<(), Fault> {
        let path = path.to_vec();
        self.stored(move |store| store.add_gone(&path)).await
    }

    /// Only an empty folder goes: what the standby has in it is not for this change to remove.
    async fn remove_folder(&self, path: &[u8]) -> Result<Outcome, Fault> {
        if self.look(path).await?.is_some_and(|entry| entry.kind == Kind::Folder) {
            return Ok(Outcome::Done);
        }
        let remote = &self.courier.remote;
        match remote.client.rmdir(&remote.at(path)).await {
            Ok(()) => {}
            Err(error) if error.is_missing() => self.keep_gone(path).await?,
            Err(error) => return Err(error.into()),
        }
        self.courier.ledger.record(Record::Forget(path.to_vec())).await;
        Ok(Outcome::Done)
    }
}

fn target_of(change: &Change) -> Result<&[u8], Fault> {
    let target = change.target.as_ref().map(|target| target.0.as_slice());
    target.ok_or_else(|| Fault::Problem("the feed tells of a rename without its target".into()))
}
