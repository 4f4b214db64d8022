//! An SFTP version 3 client that keeps many requests in flight.
//!
//! It works over any stream of bytes ([`Client::over`]) or over SSH ([`connect`]). Names, handles and link texts are bytes.
//! A clone shares the connection; the last one to go closes it. It retries nothing and reconnects never: what to do after
//! [`ClientError::Lost`] only the caller knows.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::wire::{Attrs, Code, DATA_BYTES_MAX, Malformed, Reader, kind, open_flag, put_bytes};

mod packets;
mod pipeline;
mod ssh;

pub use russh::keys::{PrivateKey, PublicKey};
pub use ssh::{ConnectError, HostKeyCheck, Login, Proof, connect, is_known_host};

use packets::{encoded, greet, is_name, parse_names, put_both, put_extended, put_path_and_attrs};
pub use pipeline::Pending;
use pipeline::{Pipeline, take};

/// Handles open at once. Foreign servers give out few, and some name them in ways that break past 128.
pub const HANDLES_MAX: usize = 100;
/// Reads and writes of a server that does not announce its limits, in bytes.
const DATA_BYTES_UNANNOUNCED: usize = 32 * 1024;

/// Why a request was not answered as hoped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// The server's answer.
    Status {
        /// Its code.
        code: Code,
        /// Its sentence.
        message: String,
    },
    /// The connection is gone.
    Lost(String),
    /// The server does not keep to the protocol.
    Protocol(String),
}

impl ClientError {
    /// Whether a path does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, ClientError::Status { code: Code::NoSuchFile, .. })
    }

    /// Whether the connection is of no use any more.
    pub fn is_lost(&self) -> bool {
        !matches!(self, ClientError::Status { .. })
    }
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClientError::Status { code, message } if message.is_empty() => write!(f, "{code:?}"),
            ClientError::Status { message, .. } => f.write_str(message),
            ClientError::Lost(reason) => write!(f, "connection lost: {reason}"),
            ClientError::Protocol(reason) => write!(f, "the server breaks the SFTP protocol: {reason}"),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<Malformed> for ClientError {
    fn from(malformed: Malformed) -> ClientError {
        ClientError::Protocol(malformed.to_string())
    }
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, ClientError>;

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Its name.
    pub name: Vec<u8>,
    /// Its attributes, links not followed.
    pub attrs: Attrs,
}

/// An open file or folder. Dropping it does not close it on the server.
#[derive(Debug)]
pub struct Handle {
    bytes: Bytes,
    _place: OwnedSemaphorePermit,
}

/// A connection to an SFTP server.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    pipeline: Pipeline,
    handles: Arc<Semaphore>,
    extensions: BTreeMap<Vec<u8>, Vec<u8>>,
    read_bytes_max: usize,
    write_bytes_max: usize,
    /// What must live as long as the connection.
    _below: Option<Box<dyn Any + Send + Sync>>,
}

impl Client {
    /// Greets the server at the other end of a stream.
    pub async fn over<S>(mut stream: S) -> Result<Client>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (extensions, rest) = greet(&mut stream).await?;
        let mut inner = Inner {
            pipeline: Pipeline::start(stream, rest),
            handles: Arc::new(Semaphore::new(HANDLES_MAX)),
            extensions,
            read_bytes_max: DATA_BYTES_UNANNOUNCED,
            write_bytes_max: DATA_BYTES_UNANNOUNCED,
            _below: None,
        };
        if inner.extensions.contains_key(&b"limits@openssh.com"[..]) {
            let body = inner.extended("limits@openssh.com", &[]).await?;
            let mut limits = Reader(&body);
            let _packet_bytes = limits.u64()?;
            // 0 means that the server sets no limit.
            let limit = |announced: u64| match announced {
                0 => DATA_BYTES_MAX,
                announced => announced.min(DATA_BYTES_MAX as u64) as usize,
            };
            (inner.read_bytes_max, inner.write_bytes_max) = (limit(limits.u64()?), limit(limits.u64()?));
        }
        Ok(Client { inner: Arc::new(inner) })
    }

    /// The same client, which keeps `below` alive.
    fn kept_up_by(mut self, below: Box<dyn Any + Send + Sync>) -> Client {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner._below = Some(below);
        }
        self
    }

    /// What the server announced: extension names with their versions.
    pub fn extensions(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.inner.extensions
    }

    /// Whether the server announced an extension.
    pub fn has(&self, extension: &str) -> bool {
        self.inner.extensions.contains_key(extension.as_bytes())
    }

    /// Whether the connection is gone.
    pub fn is_lost(&self) -> bool {
        self.inner.pipeline.is_lost()
    }

    /// Largest useful read, in bytes.
    pub fn read_bytes_max(&self) -> usize {
        self.inner.read_bytes_max
    }

    /// Largest write, in bytes.
    pub fn write_bytes_max(&self) -> usize {
        self.inner.write_bytes_max
    }

    /// Attributes of a path, links not followed.
    pub async fn lstat(&self, path: &[u8]) -> Result<Attrs> {
        self.attributes(kind::LSTAT, path).await
    }

    /// Attributes of a path, links followed.
    pub async fn stat(&self, path: &[u8]) -> Result<Attrs> {
        self.attributes(kind::STAT, path).await
    }

    /// Attributes of an open file.
    pub async fn fstat(&self, handle: &Handle) -> Result<Attrs> {
        self.attributes(kind::FSTAT, &handle.bytes).await
    }

    async fn attributes(&self, kind: u8, of: &[u8]) -> Result<Attrs> {
        let body = self.inner.ask(kind, kind::ATTRS, of.len(), |out| put_bytes(out, of)).await?;
        Ok(Reader(&body).attrs()?)
    }

    /// Sets attributes of a path, links followed.
    pub async fn setstat(&self, path: &[u8], attrs: Attrs) -> Result<()> {
        self.inner.order(kind::SETSTAT, path.len(), |out| put_path_and_attrs(out, path, attrs)).await
    }

    /// Sets attributes of a path, links not followed: an extension of OpenSSH.
    pub async fn lsetstat(&self, path: &[u8], attrs: Attrs) -> Result<()> {
        let body = encoded(|out| put_path_and_attrs(out, path, attrs));
        self.inner.extended_order("lsetstat@openssh.com", &body).await
    }

    /// All entries of a folder but `.` and `..`, by name.
    pub async fn list(&self, path: &[u8]) -> Result<Vec<Name>> {
        let handle = self.inner.open(kind::OPENDIR, path.len(), |out| put_bytes(out, path)).await?;
        let mut names = Vec::new();
        let read = loop {
            let read = self.inner.ask(kind::READDIR, kind::NAME, 16, |out| put_bytes(out, &handle.bytes)).await;
            match read {
                Ok(body) => parse_names(&body, &mut names)?,
                Err(ClientError::Status { code: Code::Eof, .. }) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.close(handle).await?;
        read?;
        // What is no name would lead elsewhere; what is there twice would be two things under one path.
        names.retain(|name| is_name(&name.name));
        names.sort_by(|one, other| one.name.cmp(&other.name));
        names.dedup_by(|later, first| later.name == first.name);
        Ok(names)
    }

    /// Makes a folder.
    pub async fn mkdir(&self, path: &[u8], mode: u32) -> Result<()> {
        let attrs = Attrs { mode: Some(mode), ..Attrs::default() };
        self.inner.order(kind::MKDIR, path.len(), |out| put_path_and_attrs(out, path, attrs)).await
    }

    /// Removes an empty folder.
    pub async fn rmdir(&self, path: &[u8]) -> Result<()> {
        self.inner.order(kind::RMDIR, path.len(), |out| put_bytes(out, path)).await
    }

    /// Removes a file or link.
    pub async fn remove(&self, path: &[u8]) -> Result<()> {
        self.inner.order(kind::REMOVE, path.len(), |out| put_bytes(out, path)).await
    }

    /// Renames; servers refuse an existing target.
    pub async fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        self.inner.order(kind::RENAME, from.len() + to.len(), |out| put_both(out, from, to)).await
    }

    /// Renames, replacing an existing target in one step: an extension of OpenSSH.
    pub async fn posix_rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        self.inner.extended_order("posix-rename@openssh.com", &encoded(|out| put_both(out, from, to))).await
    }

    /// Makes a small file, whole and durable, where nothing is: an extension of the pair's ([`crate::extension::PUT`]).
    pub async fn put(&self, path: &[u8], attrs: Attrs, content: &[u8]) -> Result<()> {
        let body = encoded(|out| {
            put_path_and_attrs(out, path, attrs);
            put_bytes(out, content);
        });
        self.inner.extended_order(crate::extension::PUT, &body).await
    }

    /// Gives a file a second name: an extension of OpenSSH.
    pub async fn hardlink(&self, from: &[u8], to: &[u8]) -> Result<()> {
        self.inner.extended_order("hardlink@openssh.com", &encoded(|out| put_both(out, from, to))).await
    }

    /// Makes a symbolic link at `path`. On the wire the text comes first, as OpenSSH has it against the draft.
    pub async fn symlink(&self, text: &[u8], path: &[u8]) -> Result<()> {
        self.inner.order(kind::SYMLINK, text.len() + path.len(), |out| put_both(out, text, path)).await
    }

    /// The text of a symbolic link.
    pub async fn readlink(&self, path: &[u8]) -> Result<Vec<u8>> {
        let body = self.inner.ask(kind::READLINK, kind::NAME, path.len(), |out| put_bytes(out, path)).await?;
        let mut names = Vec::new();
        parse_names(&body, &mut names)?;
        let name = names.pop().ok_or_else(|| ClientError::Protocol("READLINK without a name".into()))?;
        Ok(name.name)
    }

    /// Opens a file ([`open_flag`]); `mode` counts where it is created.
    pub async fn open(&self, path: &[u8], flags: u32, mode: Option<u32>) -> Result<Handle> {
        let attrs = Attrs { mode: mode.filter(|_| flags & open_flag::CREAT != 0), ..Attrs::default() };
        let body = |out: &mut BytesMut| {
            put_bytes(out, path);
            out.put_u32(flags);
            attrs.put(out);
        };
        self.inner.open(kind::OPEN, path.len(), body).await
    }

    /// Reads at most `length` bytes; `None` at the end of the file.
    pub async fn read(&self, handle: &Handle, offset: u64, length: usize) -> Result<Option<Bytes>> {
        let length = length.min(self.inner.read_bytes_max);
        let body = |out: &mut BytesMut| {
            put_bytes(out, &handle.bytes);
            out.put_u64(offset);
            out.put_u32(length as u32);
        };
        // The answer is what fills the memory, so it is what counts.
        match self.inner.ask(kind::READ, kind::DATA, length, body).await {
            Ok(body) => {
                let found = Reader(&body).bytes()?;
                Ok(Some(body.slice_ref(found)))
            }
            Err(ClientError::Status { code: Code::Eof, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes at most [`Client::write_bytes_max`] bytes.
    pub async fn write(&self, handle: &Handle, offset: u64, data: &[u8]) -> Result<()> {
        self.begin_write(handle, offset, data).await?.done().await
    }

    /// Queues a write. What is queued for one handle is done in that order.
    pub async fn begin_write(&self, handle: &Handle, offset: u64, data: &[u8]) -> Result<Pending> {
        let body = |out: &mut BytesMut| {
            put_bytes(out, &handle.bytes);
            out.put_u64(offset);
            put_bytes(out, data);
        };
        Ok(Pending::of(self.inner.pipeline.submit(kind::WRITE, data.len() + 32, body).await?))
    }

    /// Has the server put a file on its disk: an extension of OpenSSH.
    pub async fn fsync(&self, handle: &Handle) -> Result<()> {
        self.begin_fsync(handle).await?.done().await
    }

    /// Queues an fsync.
    pub async fn begin_fsync(&self, handle: &Handle) -> Result<Pending> {
        let body = encoded(|out| put_bytes(out, &handle.bytes));
        let submit = |out: &mut BytesMut| put_extended(out, "fsync@openssh.com", &body);
        Ok(Pending::of(self.inner.pipeline.submit(kind::EXTENDED, 64, submit).await?))
    }

    /// Sets attributes of an open file.
    pub async fn fsetstat(&self, handle: &Handle, attrs: Attrs) -> Result<()> {
        self.begin_fsetstat(handle, attrs).await?.done().await
    }

    /// Queues new attributes for an open file.
    pub async fn begin_fsetstat(&self, handle: &Handle, attrs: Attrs) -> Result<Pending> {
        let body = |out: &mut BytesMut| put_path_and_attrs(out, &handle.bytes, attrs);
        Ok(Pending::of(self.inner.pipeline.submit(kind::FSETSTAT, 64, body).await?))
    }

    /// Closes a file or folder.
    pub async fn close(&self, handle: Handle) -> Result<()> {
        self.begin_close(&handle).await?.done().await
    }

    /// Queues the end of a file or folder; the handle is to be dropped once that is done.
    pub async fn begin_close(&self, handle: &Handle) -> Result<Pending> {
        Ok(Pending::of(self.inner.pipeline.submit(kind::CLOSE, 16, |out| put_bytes(out, &handle.bytes)).await?))
    }

    /// Sends a request by name whose answer carries data.
    pub async fn extended(&self, name: &str, body: &[u8]) -> Result<Bytes> {
        self.inner.extended(name, body).await
    }

    /// Sends a request by name whose answer is a status.
    pub async fn extended_order(&self, name: &str, body: &[u8]) -> Result<()> {
        self.inner.extended_order(name, body).await
    }
}

impl Inner {
    /// Sends a request and takes an answer of one type; a status instead of it is an error.
    async fn ask(&self, kind: u8, wanted: u8, size: usize, body: impl FnOnce(&mut BytesMut)) -> Result<Bytes> {
        take(self.pipeline.submit(kind, size, body).await?, wanted).await
    }

    /// Sends a request whose answer is a status.
    async fn order(&self, kind: u8, size: usize, body: impl FnOnce(&mut BytesMut)) -> Result<()> {
        Pending::of(self.pipeline.submit(kind, size, body).await?).done().await
    }

    async fn open(&self, kind: u8, size: usize, body: impl FnOnce(&mut BytesMut)) -> Result<Handle> {
        let place = self.handles.clone().acquire_owned().await;
        let _place = place.map_err(|_| ClientError::Lost("the connection was closed".into()))?;
        let body = self.ask(kind, kind::HANDLE, size, body).await?;
        let bytes = body.slice_ref(Reader(&body).bytes()?);
        Ok(Handle { bytes, _place })
    }

    async fn extended(&self, name: &str, body: &[u8]) -> Result<Bytes> {
        self.ask(kind::EXTENDED, kind::EXTENDED_REPLY, name.len() + body.len(), |out| put_extended(out, name, body))
            .await
    }

    async fn extended_order(&self, name: &str, body: &[u8]) -> Result<()> {
        self.order(kind::EXTENDED, name.len() + body.len(), |out| put_extended(out, name, body)).await
    }
}

#[cfg(test)]
mod tests;
