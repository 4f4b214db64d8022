//! One SFTP session: who it is for, what it holds open, and which of its changes are still on their way.
//!
//! A request on a path waits while a change of that path, of something in it or of a folder above it is on its way in
//! the same session. So a client that does not wait for answers still sees its own changes in order.

use std::collections::HashMap;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::BytesMut;
use pair::wire::{Attrs, Reader};

use crate::accounts::{Account, UploadMode};
use crate::daemon::Daemon;
use crate::fault::Fault;
use crate::handles::Handles;
use crate::storage::{Attributes, Change, Place, Quota, Root, StorageError};

/// Changes of one session that are on their way at once. A client that does not take its answers starts no more.
const PENDING_MAX: usize = 512;

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
}

/// What a session may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read and write.
    Full,
    /// Read only; what writes is refused so.
    ReadOnly(Fault),
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
}

impl<F: Into<Fault>> From<F> for Stop {
    fn from(fault: F) -> Stop {
        Stop::Fault(fault.into())
    }
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
    /// How much its folder may hold.
    pub quota: Option<Quota>,
    /// What it takes for `/`.
    pub root: Root,
    /// What it holds open.
    pub handles: Handles,
    /// Whether it has uploaded a users.yaml under another name, which waits for its rename.
    pub has_uploaded_draft: bool,
    greeted: bool,
    pending: HashMap<u64, Vec<Vec<u8>>>,
    next_pending: u64,
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
    ) -> Result<Sftp, StorageError> {
        let author = match &identity {
            Identity::Account(account) => Some(account.name.as_str().into()),
            Identity::Peer => None,
        };
        let root = match &identity {
            Identity::Account(account) => daemon.volume.home(&account.home, !daemon.is_standby())?,
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
            quota,
            root,
            handles,
            has_uploaded_draft: false,
            greeted: false,
            pending: HashMap::new(),
            next_pending: 0,
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

    /// Counts a request.
    pub fn count(&self, name: &'static str) {
        self.daemon.metrics.request(name);
    }

    /// What the session may do now.
    pub fn access(&self) -> Access {
        match &self.identity {
            // What replication would write to a master came from a wrong setting, or from a master of before.
            Identity::Peer if !self.daemon.is_standby() => Access::ReadOnly(Fault::denied("this machine is a master")),
            Identity::Peer => Access::Full,
            // A failure, because FileZilla and rclone show the sentence of no other code.
            _ if self.daemon.is_standby() => Access::ReadOnly(Fault::failure(self.daemon.standby_sentence())),
            Identity::Account(account) if account.read_only => {
                Access::ReadOnly(Fault::denied(format!("the account {} may only read", account.name)))
            }
            Identity::Account(_) => Access::Full,
        }
    }

    /// The next field as a path, once nothing of this session is changing there.
    pub fn path<'a>(&self, fields: &mut Reader<'a>) -> Result<&'a [u8], Stop> {
        let path = fields.bytes()?;
        if path.contains(&0) {
            return Err(Fault::failure("a path cannot hold a NUL byte").into());
        }
        if self.is_changing(path) {
            return Err(Stop::Wait);
        }
        Ok(path)
    }

    /// Whether a change of this session concerns a path.
    pub fn is_changing(&self, path: &[u8]) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let path = plain(path);
        self.pending.values().flatten().any(|changing| is_in(&path, changing) || is_in(changing, &path))
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

    /// Notes that paths are changing; the number ends it.
    pub fn begin(&mut self, paths: Vec<Vec<u8>>) -> u64 {
        self.next_pending += 1;
        self.pending.insert(self.next_pending, paths);
        self.next_pending
    }

    /// The change is done: its paths are free.
    pub fn conclude(&mut self, number: u64) {
        self.pending.entry(number).or_default().clear();
    }

    /// The change is done and answered.
    pub fn forget(&mut self, number: u64) {
        self.pending.remove(&number);
    }

    /// Whether so many changes are on their way that the next request must wait.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= PENDING_MAX
    }

    /// Whether changes are on their way or not answered yet.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }
}

/// A path without dots and doubled slashes, by text alone. Good enough to tell which requests of one session concern
/// the same thing; never used to find or confine anything.
fn plain(path: &[u8]) -> Vec<u8> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop();
            }
            _ => components.push(component),
        }
    }
    let mut plain = Vec::with_capacity(path.len() + 1);
    for component in components {
        plain.push(b'/');
        plain.extend_from_slice(component);
    }
    plain
}

/// Whether a plain path is another one or lies in it.
fn is_in(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_in_their_plain_form() {
        let cases = [("a", "/a"), ("/a/./b//c/", "/a/b/c"), ("/a/../b", "/b"), ("/../..", ""), (".", "")];
        for (path, expected) in cases {
            assert_eq!(plain(path.as_bytes()), expected.as_bytes(), "{path}");
        }
        assert!(is_in(b"/a/b", b"/a") && is_in(b"/a", b"/a") && is_in(b"/a", b""));
        assert!(!is_in(b"/ab", b"/a") && !is_in(b"/a", b"/a/b"));
    }
}
