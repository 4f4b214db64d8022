//! Restores one thing that was set aside, or says why not.
//!
//! Always holds: what has come under the path in between stays. A thing that is there already, whoever brought it, counts as restored.

use std::sync::{Arc, Mutex, PoisonError};

use pair::record::VolumePath;
use pair::volume::PRIVATE_FOLDER;
use rustix::io::Errno;

use super::holder::{Holder, Unread};
use super::touched::Touched;
use crate::accounts::ADMIN_HOME;
use crate::role::returning::blocking;
use crate::storage::{Change, Entry, EntryKind, FileKind, NewAttributes, Place, Seen, StorageError, Volume, Wanted};

/// Whose a thing is in the journal of which nobody knows.
const NOBODY: &str = "sftpd";

const PERMISSIONS: u32 = 0o7777;

/// What became of a thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was there.
    There,
    /// It is there now.
    Made,
    /// It is not, for this reason.
    Kept(String),
}

impl Verdict {
    /// Whether it is there.
    pub fn is_here(&self) -> bool {
        !matches!(self, Verdict::Kept(_))
    }
}

/// Why a thing was not restored.
enum Stop {
    /// It stays where it lies.
    Kept(String),
    /// Nothing can be restored now.
    Failed(String),
}

impl From<Unread> for Stop {
    fn from(unread: Unread) -> Stop {
        match unread {
            Unread::Broken(sentence) => Stop::Failed(sentence),
            Unread::Refused(sentence) => Stop::Kept(sentence),
        }
    }
}

/// What is needed to restore things.
pub struct Restoring<'a> {
    /// Where to.
    pub volume: &'a Arc<Volume>,
    /// Where from.
    pub holder: &'a Holder,
    /// What was changed here; none where that is no matter.
    pub touched: Option<Arc<Mutex<Touched>>>,
}

impl Restoring<'_> {
    /// Restores a thing whose content is at a path of the holder's; under the path that a person wants, or its own.
    pub async fn restore(&self, entry: &Entry, content: &[u8], wanted: Option<&Wanted>) -> Result<Verdict, String> {
        match self.try_to(entry, content, wanted).await {
            Ok(verdict) => Ok(verdict),
            Err(Stop::Kept(reason)) => Ok(Verdict::Kept(reason)),
            Err(Stop::Failed(sentence)) => Err(sentence),
        }
    }

    async fn try_to(&self, entry: &Entry, content: &[u8], wanted: Option<&Wanted>) -> Result<Verdict, Stop> {
        let path = wanted.map_or(&entry.path, |wanted| &wanted.path);
        if !is_for_clients(&path.0) {
            return Err(Stop::Kept(format!("{path} is no path that a client could have")));
        }
        if is_users_yaml(&path.0) {
            return Err(Stop::Kept(
                "accounts are changed by an upload: fetch it from here, and put it to the master".into(),
            ));
        }
        if is_of_the_chain(&path.0) {
            return Err(Stop::Kept(
                "the chain over the archive is the master's: what another has written of it stays set aside".into(),
            ));
        }
        if let Some(slash) = path.0.iter().rposition(|byte| *byte == b'/') {
            let folder = path.0.get(..slash).unwrap_or_default().to_vec();
            if self.look(&folder).await?.is_none_or(|found| found.kind != FileKind::Folder) {
                return Err(Stop::Kept(format!("the folder {} is not there", VolumePath(folder))));
            }
        }
        let there = self.look(&path.0).await?;
        if let Some(there) = &there
            && self.is_it(entry, content, &path.0, there).await?
        {
            return Ok(Verdict::There);
        }
        let is_heir = entry.successor.as_ref() == Some(&self.volume.chapter().epoch.id);
        let claim = Claim { path: path.0.clone(), kind: entry.kind, wanted: wanted.cloned(), is_heir };
        // Before anything is fetched for nothing.
        self.claim(&claim).await?;
        let changes = match entry.kind {
            EntryKind::File => self.file(entry, content, &claim).await?,
            EntryKind::Folder => {
                vec![Change::MakeFolder(self.claim(&claim).await?, entry.mode & PERMISSIONS)]
            }
            EntryKind::Link => {
                let place = self.claim(&claim).await?;
                let text = entry.target.clone().unwrap_or_default().0;
                let removed = place.is_expected().then(|| Change::Remove(place.clone()));
                removed.into_iter().chain([Change::MakeLink(place, text)]).collect()
            }
        };
        self.commit(entry, path, changes).await?;
        Ok(Verdict::Made)
    }

    async fn look(&self, path: &[u8]) -> Result<Option<Seen>, Stop> {
        let (volume, shown) = (self.volume.clone(), path.to_vec());
        let look = move || {
            volume.look_at(&shown).map_err(|error| format!("{} cannot be looked at: {error}", VolumePath(shown)))
        };
        blocking(look).await.map_err(Stop::Kept)
    }

    /// Whether what is at the path is just what was set aside.
    async fn is_it(&self, entry: &Entry, content: &[u8], path: &[u8], there: &Seen) -> Result<bool, Stop> {
        match (entry.kind, there.kind) {
            (EntryKind::Folder, FileKind::Folder) => return Ok(true),
            (EntryKind::Link, FileKind::Link) => {
                return Ok(there.target == entry.target.as_ref().map(|target| target.0.clone()));
            }
            (EntryKind::File, FileKind::File) if there.size == entry.size => {}
            _ => return Ok(false),
        }
        let (volume, path) = (self.volume.clone(), path.to_vec());
        let Ok(ours) = blocking(move || volume.hash_at(&path).map_err(|error| error.to_string())).await else {
            return Ok(false);
        };
        Ok(match &entry.hash {
            Some(hash) => *hash == ours.to_hex().as_str(),
            None => self.holder.digest(content).await? == ours,
        })
    }

    /// The place for a thing, if it may be put there. It expects what is there now.
    async fn claim(&self, claim: &Claim) -> Result<Place, Stop> {
        let (volume, touched, claim) = (self.volume.clone(), self.touched.clone(), claim.clone());
        let claimed = blocking(move || Ok(claim.place(&volume, touched.as_deref()))).await;
        claimed.map_err(Stop::Failed)?
    }

    async fn file(&self, entry: &Entry, content: &[u8], claim: &Claim) -> Result<Vec<Change>, Stop> {
        let (volume, mode) = (self.volume.clone(), entry.mode & PERMISSIONS);
        let begun = blocking(move || volume.receive(mode).map_err(|error| error.to_string())).await;
        let incoming = self.holder.fetch(content, entry.size, begun.map_err(Stop::Failed)?).await?;
        if entry.hash.as_ref().is_some_and(|hash| *hash != incoming.hash().to_hex().as_str()) {
            return Err(Stop::Kept("it is no longer what was set aside: its hash is another".into()));
        }
        let place = self.claim(claim).await?;
        let attributes = NewAttributes { mode: Some(mode), ..times_of(entry) };
        let publication = incoming.publication(&attributes, place);
        Ok(vec![Change::Publish(publication.map_err(|error| Stop::Failed(error.to_string()))?)])
    }

    /// Makes changes, one behind the other with nothing in between.
    async fn commit(&self, entry: &Entry, path: &VolumePath, changes: Vec<Change>) -> Result<(), Stop> {
        if let Some(touched) = &self.touched {
            touched.lock().unwrap_or_else(PoisonError::into_inner).restores(&path.0);
        }
        let author = author_of(&entry.account);
        let committed: Vec<_> =
            changes.into_iter().map(|change| self.volume.commit(change, Some(author.clone()))).collect();
        for committed in committed {
            committed.await.map_err(|error| match error {
                StorageError::System(
                    Errno::EXIST | Errno::NOENT | Errno::ISDIR | Errno::NOTDIR | Errno::NOTEMPTY | Errno::LOOP,
                ) => Stop::Kept(MEANWHILE.into()),
                error => Stop::Failed(format!("{path} cannot be restored: {error}")),
            })?;
        }
        Ok(())
    }
}

const MEANWHILE: &str = "something was changed there just when it was to be restored";

/// What is to be put where.
#[derive(Clone)]
struct Claim {
    path: Vec<u8>,
    kind: EntryKind,
    wanted: Option<Wanted>,
    /// Whether what has the path now is older for certain, if nobody has changed it in this epoch.
    is_heir: bool,
}

impl Claim {
    fn place(&self, volume: &Volume, touched: Option<&Mutex<Touched>>) -> Result<Place, Stop> {
        let found = volume.whole().and_then(|root| root.place(&self.path)).and_then(|place| match place.attributes() {
            Ok(found) => Ok((place.only_as_it_is()?, Some(found.kind))),
            Err(StorageError::System(Errno::NOENT)) => Ok((place, None)),
            Err(error) => Err(error),
        });
        let (place, there) = found.map_err(|error| match error {
            StorageError::System(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Stop::Kept(MEANWHILE.into()),
            error => Stop::Failed(error.to_string()),
        })?;
        // After it is settled what the place expects: what comes from now on is seen by the committer.
        if let (None, Some(touched)) = (&self.wanted, touched) {
            let mut touched = touched.lock().unwrap_or_else(PoisonError::into_inner);
            touched.look_again(volume).map_err(|error| Stop::Failed(format!("{error:#}")))?;
            let is_tree = self.kind == EntryKind::Folder || there == Some(FileKind::Folder);
            if let Some(reason) = touched.reason(&self.path, is_tree) {
                return Err(Stop::Kept(reason));
            }
        }
        let replaces = self.wanted.as_ref().is_none_or(|wanted| wanted.replace);
        match there {
            Some(FileKind::Folder) => Err(Stop::Kept("a folder has that name".into())),
            Some(FileKind::Other) => Err(Stop::Kept("something that is no file has that name".into())),
            Some(_) if self.kind == EntryKind::Folder => Err(Stop::Kept("a file or link has that name".into())),
            Some(_) if !replaces => Err(Stop::Kept("something else has that name".into())),
            Some(_) if self.wanted.is_none() && !self.is_heir => Err(Stop::Kept(
                "something else has that name, and there was another master in between: which is newer is not known"
                    .into(),
            )),
            _ => Ok(place),
        }
    }
}

/// Whether a path is of the archive's chain: two machines' would be a fork.
fn is_of_the_chain(path: &[u8]) -> bool {
    path.strip_prefix(pair::chain::FOLDER.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Whether a path is the accounts' own file: what is in it counts by being put there, and was masked.
fn is_users_yaml(path: &[u8]) -> bool {
    path.strip_prefix(ADMIN_HOME.as_bytes()).and_then(|rest| rest.strip_prefix(b"/")) == Some(b"users.yaml")
}

/// Whether a path may be one of a client's: in no way the pair's own, and without dots.
pub fn is_for_clients(path: &[u8]) -> bool {
    let mut components = path.split(|byte| *byte == b'/');
    let is_plain = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    components.clone().all(is_plain) && components.next() != Some(PRIVATE_FOLDER.as_bytes())
}

/// Whose a change is in the journal.
pub fn author_of(account: &str) -> Arc<str> {
    if account.is_empty() { NOBODY.into() } else { account.into() }
}

/// The times that a thing had.
pub fn times_of(entry: &Entry) -> NewAttributes {
    let seconds = u32::try_from(entry.mtime_ns.div_euclid(1_000_000_000).max(0)).unwrap_or(u32::MAX);
    NewAttributes { times: Some((seconds, seconds)), ..NewAttributes::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_a_client_could_have_are_restored() {
        for path in ["a", "a/b", ".pairs", "a/.pair", "..."] {
            assert!(is_for_clients(path.as_bytes()), "{path}");
        }
        for path in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", ".pair", ".pair/stage/x", "a\0"] {
            assert!(!is_for_clients(path.as_bytes()), "{path}");
        }
    }
}
