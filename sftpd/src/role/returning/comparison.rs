//! Compares one thing of this machine's with what the new master has at its path.
//!
//! What cannot be compared differs: it is set aside, which loses nothing. Only a lost connection, or a master that answers nothing, is an
//! error.

use std::sync::Arc;

use blake3::Hash;
use pair::client::{Client, ClientError};
use pair::record::{Operation, VolumePath};
use pair::wire::Attrs;

use super::walk::Local;
use crate::storage::{Entry, EntryKind, FileKind, Volume};

/// What is asked for to know whether a server answers at all.
const MARKER: &[u8] = b"/.pair/marker";

const TYPE_BITS: u32 = 0o170_000;

/// The entry of a thing that the master has not, or has another of; none where it has the same.
pub async fn compare(master: &Client, volume: &Arc<Volume>, local: Local) -> Result<Option<Entry>, String> {
    let there = match master.lstat(&at(&local.path)).await {
        Ok(found) => Some(found),
        Err(error) if error.is_missing() => None,
        Err(error) => not_told(master, error).await?,
    };
    let (is_same, hash) = match (local.seen.kind, there) {
        (FileKind::File, Some(there)) if is_like(&local, &there) => same_content(master, volume, &local).await?,
        (FileKind::Link, Some(there)) if is_like(&local, &there) => (same_text(master, &local).await?, None),
        (FileKind::Folder, Some(there)) => (is_like(&local, &there), None),
        _ => (false, known_hash(&local)),
    };
    Ok(if is_same { None } else { entry_of(local, hash) })
}

/// Whether kind and size are the same.
fn is_like(local: &Local, there: &Attrs) -> bool {
    let is_kind = there.mode.is_some_and(|mode| mode & TYPE_BITS == local.seen.mode & TYPE_BITS);
    is_kind && (local.seen.kind != FileKind::File || there.size == Some(local.seen.size))
}

/// A request was refused for another reason than that nothing is there. The master must answer something.
async fn not_told<T>(master: &Client, error: ClientError) -> Result<Option<T>, String> {
    if !error.is_lost() && master.lstat(MARKER).await.is_ok() {
        tracing::debug!(%error, "the new master does not tell what it has");
        return Ok(None);
    }
    Err(format!("the new master does not answer: {error}"))
}

/// Whether a file holds the same there, and its hash here where that is known.
async fn same_content(master: &Client, volume: &Arc<Volume>, local: &Local) -> Result<(bool, Option<Hash>), String> {
    let path = at(&local.path);
    let (ours, theirs) = futures::join!(hash_of(volume, local), digest(master, &path));
    let theirs = match theirs {
        Ok(theirs) => Some(theirs),
        Err(error) => not_told(master, error).await?,
    };
    Ok((ours.is_some_and(|ours| theirs == Some((ours, local.seen.size))), ours))
}

async fn hash_of(volume: &Arc<Volume>, local: &Local) -> Option<Hash> {
    if let Some(known) = known_hash(local) {
        return Some(known);
    }
    let (volume, path) = (volume.clone(), local.path.clone());
    let hashed = tokio::task::spawn_blocking(move || volume.hash_at(&path)).await.ok()?;
    hashed.inspect_err(|error| tracing::debug!(%error, "a file could not be hashed")).ok()
}

/// The hash that the journal has of a file, if it is still as it was then.
fn known_hash(local: &Local) -> Option<Hash> {
    let (record, seen) = (local.record.as_ref()?, &local.seen);
    let then = (record.inode, record.size, record.mtime_ns, record.ctime_ns);
    let now = (Some(seen.inode), Some(seen.size), Some(seen.mtime_ns), Some(seen.ctime_ns));
    let is_it = record.op == Operation::Put && record.path.0 == local.path && then == now;
    Hash::from_hex(record.hash.as_ref().filter(|_| is_it)?).ok()
}

/// The hash of a file over a connection, and how many bytes it is of.
pub async fn digest(client: &Client, path: &[u8]) -> Result<(Hash, u64), ClientError> {
    // To its end, wherever that is.
    let (hash, count) = pair::peer::digest(client, path, 0).await?;
    Ok((Hash::from_bytes(hash), count))
}

async fn same_text(master: &Client, local: &Local) -> Result<bool, String> {
    match master.readlink(&at(&local.path)).await {
        Ok(text) => Ok(Some(text) == local.seen.target),
        Err(error) => Ok(not_told::<()>(master, error).await?.is_some()),
    }
}

fn at(path: &[u8]) -> Vec<u8> {
    [b"/", path].concat()
}

fn entry_of(local: Local, hash: Option<Hash>) -> Option<Entry> {
    let Local { path, seen, record } = local;
    let kind = match seen.kind {
        FileKind::File => EntryKind::File,
        FileKind::Folder => EntryKind::Folder,
        FileKind::Link => EntryKind::Link,
        FileKind::Other => return None,
    };
    Some(Entry {
        // Told by who knows of the new master.
        successor: None,
        number: 0,
        epoch: String::new(),
        path: VolumePath(path),
        kind,
        size: if kind == EntryKind::File { seen.size } else { 0 },
        mtime_ns: seen.mtime_ns,
        mode: seen.mode,
        hash: hash.map(|hash| hash.to_hex().to_string()),
        account: record.as_ref().map(|record| record.account.clone()).unwrap_or_default(),
        seq: record.as_ref().map(|record| record.seq),
        time_ms: record.as_ref().map(|record| record.time_ms),
        target: seen.target.map(VolumePath),
    })
}
