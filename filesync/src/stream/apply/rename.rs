//! Renames on the standby: of what it has, of what it has not got yet, and what came into a folder just before.

use std::sync::atomic::Ordering;

use pair::record::Record as Change;

use super::{Applier, Outcome};
use crate::courier::{Renamed, folder_in_the_way};
use crate::fault::Fault;
use crate::store::Record;
use crate::tree::{Base, Entry, Kind, Path, is_below, join, move_all};

impl Applier<'_> {
    /// Renames what the standby has, or brings it under its new name.
    pub(super) async fn rename(&self, change: &Change, to: &[u8]) -> Result<Outcome, Fault> {
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
            Renamed::Taken(seen) if (base.source.kind, seen.kind) == (Kind::Folder, Kind::Folder) => {
                return self.merge(from, to).await;
            }
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
            self.trash().take(remote, to).await?;
            return Ok(remote.client.rename(&remote.at(from), &remote.at(to)).await?);
        }
        if there == Kind::Folder {
            return Err(folder_in_the_way());
        }
        Ok(self.trash().rename_over(remote, from, to).await?)
    }

    /// A folder of which it is not sure that it is what was renamed gets its new name. If a folder of the standby has that,
    /// a pass was earlier, and has made it with what is in it now: here nothing can have had the name that was not empty. What
    /// it has not got comes from the old folder; the rest of that is kept in the trash.
    async fn merge(&self, from: &[u8], to: &[u8]) -> Result<Outcome, Fault> {
        let remote = &self.courier.remote;
        self.is_unsure.store(true, Ordering::Relaxed);
        match self.courier.rename(from, to).await? {
            Renamed::Done => {
                self.courier.ledger.record(Record::Move(from.to_vec(), to.to_vec())).await;
                return Ok(Outcome::Done);
            }
            Renamed::Taken(there) if there.kind == Kind::Folder => {}
            // A folder above it is missing, or something else has the name: a pass sees to it.
            Renamed::Taken(_) | Renamed::Missing => return Ok(Outcome::Done),
        }
        let (mut open, mut emptied) = (vec![(from.to_vec(), to.to_vec())], Vec::new());
        while let Some((from, to)) = open.pop() {
            for (name, seen) in remote.list_folder(&from).await? {
                let (old, new) = (join(&from, &name), join(&to, &name));
                match self.courier.rename(&old, &new).await? {
                    Renamed::Done | Renamed::Missing => {}
                    Renamed::Taken(there) if (seen.kind, there.kind) == (Kind::Folder, Kind::Folder) => {
                        open.push((old, new));
                    }
                    Renamed::Taken(_) => self.trash().take(remote, &old).await?,
                }
            }
            emptied.push(from);
        }
        for folder in emptied.into_iter().rev() {
            remote.client.rmdir(&remote.at(&folder)).await?;
        }
        self.courier.ledger.record(Record::Forget(from.to_vec())).await;
        Ok(Outcome::Done)
    }

    /// A rename of something that the standby has not got as it was: it is brought under its new name.
    async fn rename_unknown(&self, change: &Change, to: &[u8]) -> Result<Outcome, Fault> {
        let from = &change.path.0;
        let is_it = |entry: &Entry| Some(entry.ino) == change.inode;
        // Done before, and told again.
        let is_there = self.base(to).await?.is_some_and(|base| Some(base.source.ino) == change.inode);
        let was_gone = self.gone().contains_key(from);
        match self.look(to).await?.filter(is_it) {
            // It moved on, or is gone: a later change tells.
            None => self.note_gone(to, change),
            // Made here, and renamed before it could be made there: then it is made now, with what has come into it.
            Some(entry) if entry.kind == Kind::Folder && was_gone => drop(self.make_folder(to, entry).await?),
            // With all that is in it it is for a pass.
            Some(entry) if entry.kind == Kind::Folder && !is_there => return Err(Fault::Changed),
            Some(entry) => {
                if let large @ Outcome::Large(..) = self.bring(to, entry).await? {
                    return Ok(large);
                }
            }
        }
        if self.look(from).await?.is_some() {
            return Ok(Outcome::Done);
        }
        let is_folder = change.mode.and_then(Kind::of_mode) == Some(Kind::Folder);
        match self.courier.remote.look(from).await? {
            Some(seen) if is_folder && seen.kind == Kind::Folder => self.merge(from, to).await,
            _ => self.remove(from).await,
        }
    }

    /// After a rename: what was not found below the old name, because it was renamed already, is looked for below the new one.
    pub(super) async fn find_again(&self, change: &Change, to: &[u8]) -> Result<Outcome, Fault> {
        let waiting: Vec<(Path, Option<u64>)> = {
            let mut gone = self.gone();
            if gone.get(to).is_some_and(|gone| gone.inode != change.inode) {
                // What had the name before was replaced by this.
                gone.remove(to);
            }
            move_all(&mut gone, &change.path.0, to);
            let there = gone.iter().filter(|(path, _)| *path == to || is_below(path, to));
            there.map(|(path, gone)| (path.clone(), gone.inode)).collect()
        };
        // Folders come before what is in them.
        for (path, inode) in waiting {
            let is_it = |entry: &Entry| inode.is_none_or(|inode| inode == entry.ino);
            let Some(entry) = self.look(&path).await?.filter(is_it) else { continue };
            let brought = match entry.kind {
                Kind::Folder => self.make_folder(&path, entry).await?,
                _ if self.latest_base(&path).await?.is_some() => self.bring_written(&path, entry).await?,
                _ => self.bring(&path, entry).await?,
            };
            self.gone().remove(&path);
            if brought != Outcome::Done {
                // The change is made again when this is over; then the next one is looked for.
                return Ok(brought);
            }
        }
        Ok(Outcome::Done)
    }
}
