//! What a session may do: in general, and at the places where its account has other rights.
//!
//! General rights are decided before a request is served ([`crate::dispatch`]). Rights by folder are decided on what the
//! request has found: on the real path of an open thing, which no link and no rename by another session can turn into
//! another. Accounts without such rights pay nothing for them.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use pair::node::Phase;
use pair::wire::open_flag;
use rustix::io::Errno;

use crate::accounts::Permissions;
use crate::accounts::permissions::Right;
use crate::dispatch::Does;
use crate::fault::Fault;
use crate::handles::{Handle, Source};
use crate::role::RETURNING;
use crate::sftp::{Greeting, Identity, Sftp, Stop};
use crate::storage::{FileKind, FolderId, PATH_BYTES_MAX, Place, Publication, StorageError};

/// Uploads that a session which may only add is known to have made, at most.
const PUBLISHED_MAX: usize = 100_000;

/// How often what has lost its name is looked up again.
const LOOKUPS_MAX: usize = 16;

/// What a session may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read and write.
    Full,
    /// Read only; what writes is refused so.
    ReadOnly(Fault),
    /// Add only; what reads, replaces or removes is refused so.
    AddOnly(Fault),
    /// Look only; everything else is refused so.
    LookOnly(Fault),
    /// Nothing; refused so.
    Nothing(Fault),
}

impl Access {
    /// Refuses what may not be done.
    pub fn permit(self, does: Does) -> Result<(), Fault> {
        match self {
            Access::ReadOnly(fault) if matches!(does, Does::Adds | Does::Changes) => Err(fault),
            Access::AddOnly(fault) if matches!(does, Does::Reads | Does::Changes) => Err(fault),
            Access::LookOnly(fault) if does != Does::Looks => Err(fault),
            Access::Nothing(fault) => Err(fault),
            _ => Ok(()),
        }
    }
}

/// What a request has found.
#[derive(Clone, Copy)]
pub enum Found<'a> {
    /// A name in an open folder.
    Place(&'a Place),
    /// An open thing.
    Open(BorrowedFd<'a>),
}

impl<'a> From<&'a Place> for Found<'a> {
    fn from(place: &'a Place) -> Found<'a> {
        Found::Place(place)
    }
}

impl<'a, T: AsFd> From<&'a std::sync::Arc<T>> for Found<'a> {
    fn from(open: &'a std::sync::Arc<T>) -> Found<'a> {
        Found::Open(open.as_fd())
    }
}

impl<'a> From<BorrowedFd<'a>> for Found<'a> {
    fn from(open: BorrowedFd<'a>) -> Found<'a> {
        Found::Open(open)
    }
}

impl Sftp {
    /// What the session may do now, wherever its account has no other rights.
    pub fn access(&self) -> Access {
        match &self.identity {
            Identity::Peer => match self.peer_refusal() {
                Some(sentence) => Access::ReadOnly(Fault::denied(sentence)),
                None => Access::Full,
            },
            // A failure, because FileZilla and rclone show the sentence of no other code.
            Identity::Account(account) if let Some(sentence) = self.daemon.refuses_clients() => {
                let fault = Fault::failure(sentence);
                if account.upload_only { Access::LookOnly(fault) } else { Access::ReadOnly(fault) }
            }
            Identity::Account(account) if account.read_only => {
                Access::ReadOnly(Fault::denied(format!("the account {} may only read", account.name)))
            }
            Identity::Account(account) if account.upload_only => Access::AddOnly(Fault::denied(format!(
                "the account {} may only add files: it neither reads, replaces nor removes what is there",
                account.name
            ))),
            Identity::Account(_) => Access::Full,
        }
    }

    /// Why the other machine may not write here now, if so.
    fn peer_refusal(&self) -> Option<String> {
        let standing = self.daemon.roles.now();
        let node = &standing.node;
        match (standing.phase(), &*self.greeting()) {
            (Phase::Standby, Greeting::Master { epoch, stream }) => {
                let newest = &node.follows.as_ref()?.epoch;
                if newest.id != *epoch {
                    return Some(format!("another machine is the master now, in epoch {}", newest.counter));
                }
                let is_past = !stream.is_empty() && !self.daemon.streams.is_current(stream);
                is_past.then(|| "the master has connected anew since".into())
            }
            (Phase::Standby, Greeting::None) => Some("the other machine has not said hello".into()),
            (Phase::Standby, Greeting::Refused(sentence)) => Some(sentence.clone()),
            (Phase::Returning, _) => Some(RETURNING.into()),
            (Phase::Stopped, _) => node.stopped.clone(),
            // What replication would write to a master came from a wrong setting, or from a master of before.
            _ => Some("this machine is a master".into()),
        }
    }

    fn permissions(&self) -> Option<&Permissions> {
        match &self.identity {
            Identity::Account(account) if !account.permissions.is_empty() => Some(&account.permissions),
            _ => None,
        }
    }

    /// What the session may do with what a request has found.
    fn access_to(&self, found: Found<'_>) -> Access {
        match self.permissions() {
            Some(permissions) => self.access_at(permissions, self.real_path(found)),
            None => self.access(),
        }
    }

    /// The same for an account with rights by folder, by the real path of what was found.
    fn access_at(&self, permissions: &Permissions, path: Result<Vec<u8>, StorageError>) -> Access {
        match (self.access_by(permissions, path), self.access()) {
            (here, Access::Full) => here,
            // A standby's accounts read at most, and no more than on the master.
            (Access::AddOnly(_), Access::ReadOnly(fault)) => Access::LookOnly(fault),
            (nothing @ Access::Nothing(_), _) => nothing,
            (_, general) => general,
        }
    }

    fn access_by(&self, permissions: &Permissions, path: Result<Vec<u8>, StorageError>) -> Access {
        let name = self.identity.name();
        // A thing that has no path any more is in no folder that would allow it.
        let Ok(path) = path else { return Access::Nothing(Fault::denied("permission denied")) };
        let refusal = |text: &str| Fault::denied(format!("{name} {text} here"));
        match permissions.at(&path) {
            Right::Full => Access::Full,
            Right::Read => Access::ReadOnly(refusal("may only read")),
            Right::Upload => Access::AddOnly(refusal("may only add files, and neither read, replace nor remove them,")),
            // The way to a folder that is open must be seen, and nothing beside it.
            Right::None if permissions.leads_on(&path) => Access::LookOnly(refusal("has no access")),
            Right::None => Access::Nothing(refusal("has no access")),
        }
    }

    fn real_path(&self, found: Found<'_>) -> Result<Vec<u8>, StorageError> {
        match found {
            Found::Place(place) => self.root.path_of_place(place),
            Found::Open(open) => self.root.path_of(open),
        }
    }

    /// Refuses what may not be done with what a request has found.
    pub fn permit<'a>(&self, does: Does, found: impl Into<Found<'a>>) -> Result<(), Stop> {
        match self.permissions() {
            Some(_) => Ok(self.access_to(found.into()).permit(does)?),
            None => Ok(()),
        }
    }

    /// The names that a listing of a folder shows; none: all.
    pub fn shown_names(&self, folder: BorrowedFd<'_>) -> Option<BTreeSet<Vec<u8>>> {
        let permissions = self.permissions()?;
        permissions.names_shown(&self.root.path_of(folder).ok()?)
    }

    /// Refuses to look at a path of the account's own words.
    pub fn permit_canonical(&self, path: Vec<u8>) -> Result<Vec<u8>, Stop> {
        if let Some(permissions) = self.permissions() {
            self.access_by(permissions, Ok(path.clone())).permit(Does::Looks)?;
        }
        Ok(path)
    }

    /// What a lookup of a path has given. Why it failed is not told where the account may not look.
    pub fn looked_up<T>(&self, path: &[u8], result: Result<T, StorageError>) -> Result<T, Stop> {
        result.map_err(|error| match self.permissions() {
            Some(permissions) => self.not_found(permissions, path).map_or_else(|| error.into(), Stop::Fault),
            None => error.into(),
        })
    }

    /// Why nothing may be said about a path that leads nowhere: what there is of it lies where the account may not look.
    fn not_found(&self, permissions: &Permissions, path: &[u8]) -> Option<Fault> {
        let mut known = path;
        loop {
            if let Ok(thing) = self.root.handle_for_attributes(known, true) {
                let mut missing = self.root.path_of(thing.as_fd());
                let rest = path.get(known.len()..).unwrap_or_default().split(|byte| *byte == b'/');
                if let (Ok(missing), Some(name)) = (&mut missing, rest.into_iter().find(|name| !name.is_empty())) {
                    // What is missing is judged as if it were there.
                    if missing != b"/" {
                        missing.push(b'/');
                    }
                    missing.extend_from_slice(name);
                }
                return self.access_by(permissions, missing).permit(Does::Looks).err();
            }
            // The path without its last component. Nothing at all is the root, which is always there.
            let end = known.iter().rposition(|byte| *byte != b'/')?;
            let start = known.get(..end)?.iter().rposition(|byte| *byte == b'/');
            known = start.map_or(Some(b"".as_slice()), |start| known.get(..=start))?;
        }
    }

    /// Looks at what stands before each `..` of a path: the way back out of a folder would tell what is in it.
    pub fn check_ways_back(&self, path: &[u8]) -> Result<(), Stop> {
        if self.permissions().is_none() {
            return Ok(());
        }
        if path.len() >= PATH_BYTES_MAX {
            // Nothing can stand there, and looking for what leads to it would take its time.
            return Err(Errno::NAMETOOLONG.into());
        }
        if !path.windows(2).any(|two| two == b"..") {
            return Ok(());
        }
        let mut before = 0;
        for component in path.split(|byte| *byte == b'/') {
            if component == b".." {
                let way = path.get(..before).unwrap_or_default();
                let thing = self.looked_up(way, self.root.handle_for_attributes(way, true))?;
                self.permit(Does::Looks, thing.as_fd())?;
            }
            before += component.len() + 1;
        }
        Ok(())
    }

    /// What a path leads to, where that may be done with it. A thing that loses its name between being found and being judged is
    /// looked up again.
    pub fn find<T: AsFd>(
        &self,
        does: Does,
        path: &[u8],
        look_up: impl Fn() -> Result<T, StorageError>,
    ) -> Result<T, Stop> {
        let mut tries = 0;
        loop {
            let thing = self.looked_up(path, look_up())?;
            let Some(permissions) = self.permissions() else { return Ok(thing) };
            let real = self.root.path_of(thing.as_fd());
            if real.is_ok() || tries >= LOOKUPS_MAX {
                self.access_at(permissions, real).permit(does)?;
                return Ok(thing);
            }
            tries += 1;
        }
    }

    /// Refuses to rename or remove a folder on which rights rest: under another name its content would have others.
    pub fn permit_move(&self, place: &Place) -> Result<(), Stop> {
        let Some(permissions) = self.permissions() else { return Ok(()) };
        if permissions.rest_on(&self.root.path_of_place(place)?) {
            return Err(Fault::denied("the account's permissions rest on this folder: it keeps its name").into());
        }
        Ok(())
    }

    /// Refuses links by accounts with rights by folder: a link that leads through a closed folder would tell what is in it.
    pub fn check_makes_links(&self) -> Result<(), Stop> {
        match self.permissions() {
            Some(_) => Err(Fault::denied("an account with `permissions` makes no links").into()),
            None => Ok(()),
        }
    }

    /// Whether something may be done with what a request has found, by all rights of the account.
    pub fn may<'a>(&self, does: Does, found: impl Into<Found<'a>>) -> Result<(), Fault> {
        self.access_to(found.into()).permit(does)
    }

    /// Why the session may touch nothing that is there, if it may only add here.
    pub fn adds_only<'a>(&self, found: impl Into<Found<'a>>) -> Option<Fault> {
        match self.access_to(found.into()) {
            Access::AddOnly(fault) | Access::LookOnly(fault) | Access::Nothing(fault) => Some(fault),
            Access::Full | Access::ReadOnly(_) => None,
        }
    }

    /// Whether an OPEN of a complete file may add to its end, though its account may only add: a log that grows is sent so, and nothing
    /// of what is there is altered.
    pub fn continues_at_end(&self, flags: u32) -> bool {
        self.is_agent() && flags & (open_flag::TRUNC | open_flag::EXCL) == 0
    }

    /// Refuses a rename that would take something out of a folder to which may only be added: there it could be read.
    pub fn check_rename(&self, from: &Place, to: &Place) -> Result<(), Stop> {
        if self.is_agent() {
            // Under which name it has come is written down for ever.
            return Err(
                Fault::denied(format!("{} is an agent: what it sends keeps its name", self.identity.name())).into()
            );
        }
        self.permit(Does::Adds, from)?;
        self.permit(Does::Adds, to)?;
        self.permit_move(from)?;
        if from.attributes().is_ok_and(|found| found.kind == FileKind::Link) {
            // A link under the name of a folder with rights of its own would be another folder.
            self.permit_move(to)?;
        }
        match self.adds_only(from) {
            Some(fault) if self.permissions().is_some() && self.adds_only(to).is_none() => Err(fault.into()),
            _ => Ok(()),
        }
    }

    /// An upload of this session is about to take its name: where may only be added the file is its own from then on.
    pub fn note_published(&mut self, place: &Place, publication: &Publication) {
        if self.published.len() < PUBLISHED_MAX
            && self.adds_only(place).is_some()
            && let Ok(id) = publication.id()
        {
            self.published.insert(id);
        }
    }

    /// What a rename may take: where may only be added this session's own upload, and nothing that takes the name meanwhile.
    /// What rights by folder were decided on stays what is renamed, too.
    pub fn own_source(&self, from: Place) -> Result<Place, Stop> {
        let adds_only = self.adds_only(&from).is_some();
        if !adds_only && self.permissions().is_none() {
            return Ok(from);
        }
        let is_unfinished = || {
            let author = self.author.as_deref();
            author.is_some_and(|author| self.daemon.volume.is_unfinished(author, &from).unwrap_or(false))
        };
        if from.attributes().is_err() {
            return if is_unfinished() { Ok(from) } else { Err(Errno::NOENT.into()) };
        }
        self.check_own(&from)?;
        Ok(from.only_as_it_is()?)
    }

    /// Refuses to touch what is no upload of this session, where the account may only add. What it has not finished it
    /// may touch in any case, and asks before this.
    pub fn check_own<'a>(&self, found: impl Into<Found<'a>>) -> Result<(), Stop> {
        let found = found.into();
        let Some(fault) = self.adds_only(found) else { return Ok(()) };
        let id = match found {
            Found::Place(place) => place.id(),
            Found::Open(open) => FolderId::of(open),
        };
        if id.is_ok_and(|id| self.published.contains(&id)) { Ok(()) } else { Err(fault.into()) }
    }

    /// What is read of an open thing by its handle. Of an upload nothing, where may only be added.
    pub fn source(&mut self, handle: &[u8]) -> Result<Source, Stop> {
        let opened = self.handles.get(handle)?;
        let source = opened.source()?;
        if let Handle::Upload(upload) = opened {
            let place = upload.writer.place()?;
            self.permit(Does::Reads, &place)?;
        }
        Ok(source)
    }
}
