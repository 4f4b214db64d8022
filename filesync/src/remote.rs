//! A standby's folder over a connection: where things are in it, what the server can do, what it has.
//!
//! Paths are relative to the standby's base folder, as in the source. What could not be listed is named as blind, like in
//! [`crate::listing`].

use std::sync::Arc;

use blake3::Hash;
use bytes::{Bytes, BytesMut};
use futures::stream::{FuturesOrdered, FuturesUnordered, StreamExt};
use pair::client::{Client, ClientError, Handle, Result};
use pair::extension::DIGEST;
use pair::wire::{Attrs, Code, open_flag};
use serde::{Deserialize, Serialize};

use crate::listing::{Problem, Unseen};
use crate::plan::PRIVATE;
use crate::tree::{Image, Kind, PERMISSIONS, Path, Seen, join};

mod walk;

pub use walk::Walk;

/// Reads in flight where a file is read back.
const READS_MAX: usize = 16;

/// What a server can promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// Our own sftpd: proves content by hash.
    Pair,
    /// OpenSSH's extensions: files are put on disk and replaced in one step; folders are flushed by nobody.
    OpenSsh,
    /// SFTP version 3 and nothing more: what arrived may be lost with the power.
    #[serde(rename = "not durable")]
    Plain,
}

impl Grade {
    /// The grade for people.
    pub fn text(self) -> &'static str {
        match self {
            Grade::Pair => "pair",
            Grade::OpenSsh => "openssh",
            Grade::Plain => "not durable",
        }
    }
}

/// A standby's folder.
#[derive(Clone)]
pub struct Remote {
    /// The connection.
    pub client: Client,
    /// What the server can promise.
    pub grade: Grade,
    /// Whether it puts files on disk when asked.
    pub fsync: bool,
    /// Whether it replaces a file in one step.
    pub posix_rename: bool,
    /// Whether a file can have a second name.
    pub hardlink: bool,
    /// Whether attributes of links can be set.
    pub lsetstat: bool,
    base: Arc<[u8]>,
}

/// What a standby has.
#[derive(Debug, Default)]
pub struct RemoteListing {
    /// All entries.
    pub image: Image,
    /// Folders that could not be listed whole.
    pub blind: Vec<Path>,
    /// Why.
    pub problems: Vec<Problem>,
}

impl Remote {
    /// A folder of a server; the empty base is the root of a pair's sftpd.
    pub fn new(client: Client, base: &[u8], is_pair: bool) -> Remote {
        let (fsync, posix_rename) = (client.has("fsync@openssh.com"), client.has("posix-rename@openssh.com"));
        let grade = match (is_pair, fsync && posix_rename) {
            (true, _) => Grade::Pair,
            (false, true) => Grade::OpenSsh,
            (false, false) => Grade::Plain,
        };
        let (hardlink, lsetstat) = (client.has("hardlink@openssh.com"), client.has("lsetstat@openssh.com"));
        Remote { client, grade, fsync, posix_rename, hardlink, lsetstat, base: base.into() }
    }

    /// The path on the server.
    pub fn at(&self, path: &[u8]) -> Vec<u8> {
        [&self.base, &b"/"[..], path].concat()
    }

    /// Makes a folder unless there is one.
    pub async fn ensure_folder(&self, path: &[u8]) -> Result<()> {
        let path = self.at(path);
        let Err(error) = self.client.mkdir(&path, 0o700).await else { return Ok(()) };
        match self.client.lstat(&path).await {
            Ok(found) if found.mode.and_then(Kind::of_mode) == Some(Kind::Folder) => Ok(()),
            Err(lost) if lost.is_lost() => Err(lost),
            _ => Err(error),
        }
    }

    /// Makes our own folders.
    pub async fn prepare(&self) -> Result<()> {
        self.ensure_folder(PRIVATE).await?;
        self.ensure_folder(b".pair/stage").await?;
        self.ensure_folder(b".pair/trash").await
    }

    /// Takes a plain server's folder for this pair: it must be empty or ours already, because what the source has not is
    /// removed from it. The error is the sentence for people.
    pub async fn claim(&self, pair: &str) -> std::result::Result<(), String> {
        let shown = crate::tree::shown(&self.base);
        self.ensure_folder(b"")
            .await
            .map_err(|error| format!("has no folder {shown} and lets us make none: {error}"))?;
        let line = format!("pair: {pair}\n");
        match self.read_small(b".pair/marker").await {
            Ok(found) if found.windows(line.len()).any(|part| part == line.as_bytes()) => return Ok(()),
            Ok(_) => {
                return Err(format!(
                    "has a folder {shown} that belongs to another pair (.pair/marker): use an empty one"
                ));
            }
            Err(error) if !error.is_missing() => {
                return Err(format!("has a .pair/marker that cannot be read: {error}"));
            }
            Err(_) => {}
        }
        let names = self.client.list(&self.at(b"")).await.map_err(|error| format!("cannot list {shown}: {error}"))?;
        if names.iter().any(|name| name.name != PRIVATE) {
            return Err(format!(
                "has files in {shown} that are not this pair's: use an empty folder; if it holds a copy of this volume, put \
                 the line \"pair: {pair}\" into {shown}/.pair/marker there"
            ));
        }
        let cannot = |error: ClientError| format!("cannot be marked as this pair's: {error}");
        self.ensure_folder(PRIVATE).await.map_err(cannot)?;
        self.write_small(b".pair/marker", line.as_bytes()).await.map_err(cannot)
    }

    /// Writes a small file in place.
    pub async fn write_small(&self, path: &[u8], content: &[u8]) -> Result<()> {
        let flags = open_flag::WRITE | open_flag::CREAT | open_flag::TRUNC;
        let handle = self.client.open(&self.at(path), flags, Some(0o600)).await?;
        let size = self.client.write_bytes_max();
        for (part, data) in content.chunks(size).enumerate() {
            self.client.write(&handle, (part * size) as u64, data).await?;
        }
        if self.fsync {
            self.client.fsync(&handle).await?;
        }
        self.client.close(handle).await
    }

    async fn read_small(&self, path: &[u8]) -> Result<Bytes> {
        let handle = self.client.open(&self.at(path), open_flag::READ, None).await?;
        let content = self.client.read(&handle, 0, 4096).await;
        self.client.close(handle).await?;
        Ok(content?.unwrap_or_default())
    }

    /// Everything below the base but our own folder. The error is a lost connection.
    pub async fn list(&self) -> Result<RemoteListing> {
        self.list_below(b"").await
    }

    /// Everything below a folder; below the base all but our own folder. The error is a lost connection.
    pub async fn list_below(&self, top: &[u8]) -> Result<RemoteListing> {
        let (mut walk, mut image) = (Walk::below(self, top), Image::new());
        while let Some((path, seen)) = walk.next().await? {
            image.insert(path, seen);
        }
        let Unseen { blind, problems } = walk.unseen;
        Ok(RemoteListing { image, blind, problems })
    }

    /// What is in a folder, by name.
    pub async fn list_folder(&self, folder: &[u8]) -> Result<Vec<(Vec<u8>, Seen)>> {
        let names = self.client.list(&self.at(folder)).await?;
        let entries = names.into_iter().filter_map(|name| Some((name.name, seen_of(&name.attrs)?)));
        let mut entries: Vec<(Vec<u8>, Seen)> = entries.collect();
        let mut links = FuturesUnordered::new();
        for (name, seen) in entries.iter_mut().filter(|(_, seen)| seen.kind == Kind::Link) {
            links.push(self.read_link(join(folder, name), seen));
        }
        while let Some(outcome) = links.next().await {
            outcome?;
        }
        drop(links);
        Ok(entries)
    }

    async fn read_link(&self, path: Path, seen: &mut Seen) -> Result<()> {
        match self.client.readlink(&self.at(&path)).await {
            Ok(text) => seen.target = text.into(),
            Err(error) if error.is_lost() => return Err(error),
            // Gone, or no link any more: a text that no link has makes it differ.
            Err(_) => {}
        }
        Ok(())
    }

    /// Removes a file or link.
    pub async fn remove(&self, path: &[u8]) -> Result<()> {
        self.client.remove(&self.at(path)).await
    }

    /// What is at a path; `None` for nothing, and for what is neither file, folder nor link.
    pub async fn look(&self, path: &[u8]) -> Result<Option<Seen>> {
        match self.client.lstat(&self.at(path)).await {
            Ok(attrs) => Ok(seen_of(&attrs)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The hash of the first `length` bytes of a file, and how many there were.
    pub async fn digest(&self, path: &[u8], length: u64) -> Result<(Hash, u64)> {
        if length == 0 {
            return Ok((blake3::hash(b""), 0));
        }
        if !self.client.has(DIGEST) {
            return self.read_back(path, length).await;
        }
        let (hash, count) = pair::peer::digest(&self.client, &self.at(path), length).await?;
        Ok((Hash::from_bytes(hash), count))
    }

    /// A server without hashes sends the content itself.
    async fn read_back(&self, path: &[u8], length: u64) -> Result<(Hash, u64)> {
        let handle = self.client.open(&self.at(path), open_flag::READ, None).await?;
        let outcome = self.hash_open(&handle, length).await;
        self.client.close(handle).await?;
        outcome
    }

    /// What a file holds from an offset on, a good part of it, up to its length; nothing at the end.
    pub async fn read_parts(&self, handle: &Handle, offset: u64, length: u64) -> Result<BytesMut> {
        let part = self.client.read_bytes_max() as u64;
        let offsets = (0..READS_MAX as u64).map(|number| offset + number * part).filter(|offset| *offset < length);
        let mut parts: FuturesOrdered<_> =
            offsets.map(|offset| self.read_whole(handle, offset, part.min(length - offset) as usize)).collect();
        let mut data = BytesMut::new();
        while let Some(part) = parts.next().await {
            data.extend_from_slice(&part?);
        }
        Ok(data)
    }

    /// The folders in a folder; none where there is no such folder.
    pub async fn folders(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, Seen)>> {
        match self.list_folder(path).await {
            Ok(entries) => Ok(entries.into_iter().filter(|(_, seen)| seen.kind == Kind::Folder).collect()),
            Err(error) if error.is_missing() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn hash_open(&self, handle: &Handle, length: u64) -> Result<(Hash, u64)> {
        let part = self.client.read_bytes_max() as u64;
        let (mut hasher, mut count, mut offset) = (blake3::Hasher::new(), 0, 0);
        let mut parts = FuturesOrdered::new();
        loop {
            while parts.len() < READS_MAX && offset < length {
                let wanted = part.min(length - offset);
                parts.push_back(self.read_whole(handle, offset, wanted as usize));
                offset += wanted;
            }
            let Some(data) = parts.next().await else { return Ok((hasher.finalize(), count)) };
            let data = data?;
            hasher.update(&data);
            count += data.len() as u64;
        }
    }

    async fn read_whole(&self, handle: &Handle, offset: u64, length: usize) -> Result<BytesMut> {
        let mut data = BytesMut::new();
        while data.len() < length {
            let rest = length - data.len();
            let Some(read) = self.client.read(handle, offset + data.len() as u64, rest).await? else { break };
            if read.is_empty() {
                return Err(ClientError::Status { code: Code::Failure, message: "the server reads nothing".into() });
            }
            data.extend_from_slice(&read);
        }
        Ok(data)
    }
}

/// What attributes say; the text of a link is not among them.
fn seen_of(attrs: &Attrs) -> Option<Seen> {
    let mode = attrs.mode?;
    let kind = Kind::of_mode(mode)?;
    Some(Seen {
        kind,
        mode: if kind == Kind::Link { 0o777 } else { mode & PERMISSIONS },
        size: if kind == Kind::File { attrs.size? } else { 0 },
        mtime_s: attrs.times.map_or(0, |(_, modified)| modified),
        target: Box::default(),
    })
}
