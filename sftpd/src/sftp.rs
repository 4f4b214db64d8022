//! One SFTP session: who it is for, what it holds open, and which of its changes are still on their way.
//!
//! A request on a path waits while a change of that path, of something in it or of a folder above it is on its way in
//! the same session. So a client that does not wait for answers still sees its own changes in order.

use std::collections::HashSet;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use pair::wire::{Attrs, Reader};

use crate::accounts::{Account, UploadMode};
use crate::activity::Actor;
use crate::daemon::Daemon;
use crate::fault::Fault;
use crate::handles::Handles;
use crate::modes::Modes;
use crate::pending::{Pending, plain};
use crate::requests::Ongoing;
use crate::requests::owners::Owners;
use crate::storage::{Attributes, Change, FileKind, FolderId, NewAttributes, Place, Quota, Root, StorageError};

/// Who logged in.
#[derive(Clone, Debug)]
pub enum Identity {
    /// A user.
    Account(Arc<Account>),
    /// The other machine of the pair.
    Peer,
}

impl Identity {
    /// The login name.
    pub fn name(&self) -> &str {
        match self {
            Identity::Account(account) => &account.name,
            Identity::Peer => pair::keys::PEER_USER,
        }
    }

    /// Whether its client may use an old algorithm now.
    pub fn has_exception_for(&self, algorithm: &str) -> bool {
        match self {
            Identity::Account(account) => account.has_exception_for(algorithm, jiff::Timestamp::now()),
            Identity::Peer => false,
        }
    }
}

/// A request being served.
pub struct Request<'a> {
    /// The client's number for it.
    pub id: u32,
    /// Its fields, behind the number.
    pub fields: Reader<'a>,
    /// Where answers go.
    pub out: &'a mut BytesMut,
}

/// The answer to a request.
pub enum Reply {
    /// OK.
    Done,
    /// A handle.
    Handle(String),
    /// Attributes.
    Attributes(Attrs),
    /// One name.
    Name(Vec<u8>),
    /// The body of an EXTENDED_REPLY.
    Extended(Vec<u8>),
    /// The request has written its answer itself.
    Written,
    /// It comes when this is done.
    Later(Later),
}

/// An answer that comes later.
pub struct Later {
    /// What is going on, ending in the answer.
    pub work: Pin<Box<dyn Future<Output = Result<Reply, Fault>> + Send>>,
    /// The paths that are changing meanwhile, in the form of [`plain`].
    pub paths: Vec<Vec<u8>>,
    /// The handle that ends if this fails, because the client never hears of it.
    pub opened: Option<String>,
}

/// Why a request got no answer yet.
pub enum Stop {
    /// It fails.
    Fault(Fault),
    /// It must wait for a change of its own session.
    Wait,
    /// It takes long and is served in part: it goes on where [`Sftp::ongoing`] says, after others had their turn.
    Again,
}

impl<F: Into<Fault>> From<F> for Stop {
    fn from(fault: F) -> Stop {
        Stop::Fault(fault.into())
    }
}

/// What the other machine has said of itself in a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Greeting {
    /// Nothing.
    #[default]
    None,
    /// It is the master.
    Master {
        /// The id of its epoch.
        epoch: String,
        /// On which stream of filesync's; empty where it is its sftpd.
        stream: String,
    },
    /// Something for which it may not write.
    Refused(String),
}

/// One SFTP session.
pub struct Sftp {
    /// The daemon it is a session of.
    pub daemon: Arc<Daemon>,
    /// Who it is for.
    pub identity: Identity,
    /// Whose changes they are; the other machine's are nobody's.
    pub author: Option<Arc<str>>,
    /// The connection that it belongs to.
    pub connection: u64,
    /// Who acts, for the log; none for the other machine of the pair.
    pub actor: Option<Arc<Actor>>,
    /// How much its folder may hold.
    pub quota: Option<Quota>,
    /// What it takes for `/`.
    pub root: Root,
    /// What it holds open.
    pub handles: Handles,
    /// Whether it has uploaded a users.yaml under another name, which waits for its rename.
    pub has_uploaded_draft: bool,
    /// How far the request has come that takes more than one turn. It stays at the head of its channel meanwhile.
    pub ongoing: Option<Ongoing>,
    /// Files that this session has uploaded where its account may only add.
    pub published: HashSet<FolderId>,
    greeted: bool,
    /// What the other machine has said of itself in this session.
    greeting: Arc<Mutex<Greeting>>,
    /// Its changes that are on their way.
    pub pending: Pending,
}

impl Sftp {
    /// A session for somebody who has logged in.
    ///
    /// `open_handles` counts what its whole connection, number `connection`, holds open.
    pub fn new(
        daemon: Arc<Daemon>,
        identity: Identity,
        connection: u64,
        open_handles: Arc<AtomicUsize>,
        actor: Option<Arc<Actor>>,
    ) -> Result<Sftp, StorageError> {
        let author = match &identity {
            Identity::Account(account) => Some(account.name.as_str().into()),
            Identity::Peer => None,
        };
        let root = match &identity {
            Identity::Account(account) => {
                // Hashes are in the admin's users.yaml: for nobody who reads the data as a member of a group.
                let mode = if account.admin { 0o700 } else { daemon.config.modes().of_home() };
                daemon.volume.home(&account.home, Some(mode).filter(|_| !daemon.is_standby()))?
            }
            Identity::Peer => daemon.volume.whole()?,
        };
        let quota = match &identity {
            Identity::Account(account) if !daemon.is_standby() => {
                let bytes_max = daemon.accounts().quota_of(&account.home);
                bytes_max.map(|bytes_max| daemon.volume.quota(&account.home, bytes_max)).transpose()?
            }
            _ => None,
        };
        let handles = Handles::new(daemon.config.limits.handles_per_session, open_handles);
        Ok(Sftp {
            daemon,
            identity,
            author,
            connection,
            actor,
            quota,
            root,
            handles,
            has_uploaded_draft: false,
            ongoing: None,
            published: HashSet::new(),
            greeted: false,
            greeting: Arc::default(),
            pending: Pending::default(),
        })
    }

    /// Whether INIT was answered.
    pub fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// INIT was answered.
    pub fn set_greeted(&mut self) {
        self.greeted = true;
    }

    /// Whether this is the other machine of the pair.
    pub fn is_peer(&self) -> bool {
        matches!(self.identity, Identity::Peer)
    }

    /// What the other machine has said of itself.
    pub fn greeting(&self) -> MutexGuard<'_, Greeting> {
        self.greeting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for who hears it later.
    pub fn shared_greeting(&self) -> Arc<Mutex<Greeting>> {
        self.greeting.clone()
    }

    /// The settings for modes, which are the accounts' only: replication does as the master has it.
    fn modes(&self) -> Modes {
        if self.is_peer() { Modes::default() } else { self.daemon.config.modes() }
    }

    /// The mode of a new file.
    pub fn mode_of_new_file(&self, asked: &Attrs) -> u32 {
        self.modes().of_new_file(asked) | if self.is_agent() { 0o600 } else { 0 }
    }

    /// The mode of a new folder.
    pub fn mode_of_new_folder(&self, asked: &Attrs) -> u32 {
        self.modes().of_new_folder(asked) | if self.is_agent() { 0o700 } else { 0 }
    }

    /// What may be set of what a client wants to set on such a thing.
    pub fn settable(&self, kind: FileKind, asked: NewAttributes) -> NewAttributes {
        let is_settable = self.modes().are_settable(kind) && !self.is_agent();
        if is_settable { asked } else { NewAttributes { mode: None, ..asked } }
    }

    /// Whether it is one of `agents:`, whose files are read here: by their modes they must not be closed to that.
    pub fn is_agent(&self) -> bool {
        matches!(&self.identity, Identity::Account(account) if account.agent.is_some())
    }

    /// Under which names the session sees owners.
    pub fn owners(&self) -> Owners {
        Owners::of(self.identity.name())
    }

    /// Counts a request.
    pub fn count(&self, name: &'static str) {
        self.daemon.metrics.request(name);
    }

    /// The next field as a path, once nothing of this session is changing there.
    pub fn path<'a>(&self, fields: &mut Reader<'a>) -> Result<&'a [u8], Stop> {
        let path = fields.bytes()?;
        self.check_path(path)?;
        Ok(path)
    }

    /// Refuses a path that cannot be one, and waits for a change of this session there.
    pub fn check_path(&self, path: &[u8]) -> Result<(), Stop> {
        if path.contains(&0) {
            return Err(Fault::failure("a path cannot hold a NUL byte").into());
        }
        if self.pending.concern(path) {
            return Err(Stop::Wait);
        }
        self.check_ways_back(path)
    }

    /// The place that a path leads to, where this account has unfinished uploads at all.
    pub fn unfinished_place(&self, path: &[u8], follow: bool) -> Option<Place> {
        let account = self.author.as_deref()?;
        // Most accounts have none: then no path is looked up twice.
        if !self.daemon.volume.has_unfinished(account) {
            return None;
        }
        if follow { self.root.place_behind_links(path).ok() } else { self.root.place(path).ok() }
    }

    /// What this account sees at a place where it has an unfinished upload.
    pub fn unfinished_at(&self, place: &Place) -> Option<Attributes> {
        self.daemon.volume.unfinished_at(self.author.as_deref()?, self.connection, place)
    }

    /// The file of an upload that this connection writes.
    pub fn unfinished_reader(&self, place: &Place) -> Option<Arc<OwnedFd>> {
        self.daemon.volume.unfinished_reader(self.author.as_deref()?, self.connection, place)
    }

    /// Whether the account's uploads are written straight under their names.
    pub fn writes_in_place(&self) -> bool {
        matches!(&self.identity, Identity::Account(account) if account.upload == UploadMode::Direct)
    }

    /// A change whose answer comes when it is durable. `paths` are the client's, as it gave them.
    pub fn change(&self, change: Change, paths: &[&[u8]]) -> Reply {
        let committed = self.daemon.volume.commit(change, self.author.clone());
        self.later(paths, async move {
            committed.await?;
            Ok(Reply::Done)
        })
    }

    /// An answer that comes later.
    pub fn later(&self, paths: &[&[u8]], work: impl Future<Output = Result<Reply, Fault>> + Send + 'static) -> Reply {
        Reply::Later(Later {
            work: Box::pin(work),
            paths: paths.iter().map(|path| plain(path)).collect(),
            opened: None,
        })
    }

    /// Whether a copy is being made.
    pub fn is_copying(&self) -> bool {
        matches!(self.ongoing, Some(Ongoing::Copying(_)))
    }
}

impl Drop for Sftp {
    /// What was being transferred has ended by this.
    fn drop(&mut self) {
        if let Some(actor) = &self.actor {
            self.handles.record_lost(actor);
        }
    }
}
