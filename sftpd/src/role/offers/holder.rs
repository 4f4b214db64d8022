//! Where things lie that were set aside: on a standby, or on this machine. How their content is got from there.
//!
//! Memory is bounded: some reads of one file are under way, and what has come is written before more is asked for.

use std::sync::Arc;

use blake3::Hash;
use bytes::BytesMut;
use futures::stream::{FuturesOrdered, StreamExt};
use pair::client::{Client, ClientError, Handle};
use pair::wire::open_flag;

use crate::role::returning::{blocking, digest};
use crate::storage::{Incoming, Volume, file_content};

/// Reads of one file in flight.
const READS_MAX: usize = 16;

/// How much is written at once, in bytes.
const WRITE_BYTES: usize = 1024 * 1024;

/// Why content was not got.
#[derive(Debug, PartialEq, Eq)]
pub enum Unread {
    /// There is no use in asking for another one now either.
    Broken(String),
    /// This one cannot be had.
    Refused(String),
}

impl From<ClientError> for Unread {
    fn from(error: ClientError) -> Unread {
        match error.is_lost() {
            true => Unread::Broken(format!("the standby does not answer: {error}")),
            false => Unread::Refused(format!("the standby cannot read it: {error}")),
        }
    }
}

/// Where things lie.
pub enum Holder {
    /// On a standby.
    Standby(Client),
    /// On this machine.
    Here(Arc<Volume>),
}

impl Holder {
    /// BLAKE3 of a file.
    pub async fn digest(&self, path: &[u8]) -> Result<Hash, Unread> {
        match self {
            Holder::Standby(client) => Ok(digest(client, path).await?.0),
            Holder::Here(volume) => {
                let (volume, path) = (volume.clone(), path.to_vec());
                blocking(move || volume.hash_at(&path).map_err(|error| error.to_string()))
                    .await
                    .map_err(Unread::Refused)
            }
        }
    }

    /// Gets so many bytes of a file.
    pub async fn fetch(&self, path: &[u8], size: u64, into: Incoming) -> Result<Incoming, Unread> {
        match self {
            Holder::Standby(client) => {
                let handle = client.open(path, open_flag::READ, None).await?;
                let fetched = pour(client, &handle, size, into).await;
                if !client.is_lost() {
                    client.close(handle).await?;
                }
                fetched
            }
            Holder::Here(volume) => {
                let (volume, path) = (volume.clone(), path.to_vec());
                blocking(move || Ok(copy(&volume, &path, size, into))).await.map_err(Unread::Broken)?
            }
        }
    }
}

async fn pour(client: &Client, handle: &Handle, size: u64, mut into: Incoming) -> Result<Incoming, Unread> {
    let part = client.read_bytes_max() as u64;
    let (mut asked, mut reads, mut waiting) = (0, FuturesOrdered::new(), BytesMut::new());
    loop {
        while reads.len() < READS_MAX && asked < size {
            let length = part.min(size - asked);
            reads.push_back(read_whole(client, handle, asked, length as usize));
            asked += length;
        }
        let read = reads.next().await;
        let is_end = read.is_none();
        waiting.extend_from_slice(&read.transpose()?.unwrap_or_default());
        if waiting.len() >= WRITE_BYTES || is_end {
            let data = std::mem::take(&mut waiting);
            let write = move || {
                into.write(&data).map_err(|error| format!("what a standby offers cannot be taken: {error}"))?;
                Ok(into)
            };
            into = blocking(write).await.map_err(Unread::Broken)?;
        }
        if is_end {
            return Ok(into);
        }
    }
}

async fn read_whole(client: &Client, handle: &Handle, offset: u64, length: usize) -> Result<BytesMut, Unread> {
    let mut data = BytesMut::new();
    while data.len() < length {
        match client.read(handle, offset + data.len() as u64, length - data.len()).await? {
            Some(read) if !read.is_empty() => data.extend_from_slice(&read),
            _ => return Err(shorter()),
        }
    }
    Ok(data)
}

fn shorter() -> Unread {
    Unread::Refused("it is shorter than when it was set aside".into())
}

/// The same within this machine.
fn copy(volume: &Volume, path: &[u8], size: u64, mut into: Incoming) -> Result<Incoming, Unread> {
    use std::os::fd::AsFd;
    let refused = |error: &dyn std::fmt::Display| Unread::Refused(format!("it cannot be read: {error}"));
    let opened = volume.whole().and_then(|root| root.open_file(path));
    let (file, _) = opened.map_err(|error| refused(&error))?;
    let mut buffer = vec![0; WRITE_BYTES];
    while into.bytes() < size {
        let wanted = usize::try_from(size - into.bytes()).unwrap_or(usize::MAX).min(WRITE_BYTES);
        let space = buffer.get_mut(..wanted).unwrap_or_default();
        let count = file_content::read_at(file.as_fd(), space, into.bytes()).map_err(|error| refused(&error))?;
        if count == 0 {
            return Err(shorter());
        }
        let written = into.write(space.get(..count).unwrap_or_default());
        written.map_err(|error| Unread::Broken(format!("what was set aside cannot be restored: {error}")))?;
    }
    Ok(into)
}
