//! A server as a run uses it: connected to by many, but not by too many at once, and waited for only so long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use pair::client::{Client, ClientError, Handle, HostKeyCheck, Login, Name, connect};
use pair::wire::{Reader, open_flag, put_bytes};
use tokio::sync::Semaphore;

use crate::content::{Judge, Wrong};
use crate::plan::Target;
use crate::trouble::Trouble;

/// Connections that are being made at a time: sftpd takes ten of one address that have not logged in yet.
const CONNECTING_MAX: usize = 6;
/// Pieces of one file that are asked for or sent at a time.
pub const PIECES_MAX: usize = 8;
/// A file that is longer than it should be is read this far past its end, in bytes.
const PAST_END_BYTES_MAX: u64 = 1024 * 1024;

/// A server. A clone is the same one.
#[derive(Clone)]
pub struct Server {
    target: Target,
    login: Login,
    check: HostKeyCheck,
    connecting: Arc<Semaphore>,
    patience: Duration,
}

impl Server {
    /// One that is logged in to as `login` and may leave a request without an answer for `patience`.
    pub fn new(target: Target, login: Login, check: HostKeyCheck, patience: Duration) -> Server {
        Server { target, login, check, connecting: Arc::new(Semaphore::new(CONNECTING_MAX)), patience }
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.target.name
    }

    /// Who it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// How long a request may stay without an answer.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// A new connection.
    pub async fn connect(&self) -> Result<Client, Trouble> {
        let _turn = self.connecting.acquire().await.map_err(|error| Trouble::Lost(error.to_string()))?;
        Ok(connect(&self.target.address, self.login.clone(), self.check.clone()).await?)
    }

    /// Waits for an answer, but not for ever.
    pub async fn patiently<T>(&self, answer: impl Future<Output = Result<T, ClientError>>) -> Result<T, Trouble> {
        match tokio::time::timeout(self.patience, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Trouble::Timeout(self.patience.as_secs())),
        }
    }

    /// All entries of a folder.
    pub async fn list(&self, client: &Client, path: &str) -> Result<Vec<Name>, Trouble> {
        self.patiently(client.list(path.as_bytes())).await
    }

    /// Free bytes where a path lies; none where the server does not tell.
    pub async fn room(&self, client: &Client, path: &str) -> Result<Option<u64>, Trouble> {
        const STATVFS: &str = "statvfs@openssh.com";
        if !client.has(STATVFS) {
            return Ok(None);
        }
        let mut body = Vec::new();
        put_bytes(&mut body, path.as_bytes());
        let answer = self.patiently(client.extended(STATVFS, &body)).await?;
        let mut fields = Reader(&answer);
        let mut field = || fields.u64().map_err(|error| Trouble::Protocol(error.to_string()));
        let (_block, fragment, _blocks, _free, available) = (field()?, field()?, field()?, field()?, field()?);
        Ok(Some(fragment.saturating_mul(available)))
    }

    /// Reads a file to its end and tells whether it is right. What comes is counted as it comes.
    pub async fn read(
        &self,
        client: &Client,
        path: &str,
        size: u64,
        mut judge: Judge<'_>,
        bytes: &AtomicU64,
    ) -> Result<Result<(), Wrong>, Trouble> {
        let handle = self.patiently(client.open(path.as_bytes(), open_flag::READ, None)).await?;
        let read = self.read_open(client, &handle, size, &mut judge, bytes).await;
        // Also after a failure, so that the server has its handle back; what failed first is told.
        let closed = self.patiently(client.close(handle)).await;
        read?;
        closed?;
        Ok(judge.finish())
    }

    async fn read_open(
        &self,
        client: &Client,
        handle: &Handle,
        size: u64,
        judge: &mut Judge<'_>,
        bytes: &AtomicU64,
    ) -> Result<(), Trouble> {
        let piece = client.read_bytes_max() as u64;
        let whole = (0..size.div_ceil(piece)).map(|number| (number * piece, piece.min(size - number * piece)));
        // One byte more, to see that there is none.
        let ranges = whole.chain([(size, 1)]);
        let reads = ranges.map(|(offset, length)| self.read_range(client, handle, offset, length));
        let mut reads = futures::stream::iter(reads).buffered(PIECES_MAX);
        while let Some(parts) = reads.next().await {
            let (parts, is_end) = parts?;
            for part in parts {
                bytes.fetch_add(part.len() as u64, Ordering::Relaxed);
                judge.take(&part);
            }
            if is_end {
                return Ok(());
            }
        }
        while judge.read() < size.saturating_add(PAST_END_BYTES_MAX) {
            let more = self.patiently(client.read(handle, judge.read(), piece as usize)).await?;
            let Some(more) = more.filter(|more| !more.is_empty()) else { break };
            judge.take(&more);
        }
        Ok(())
    }

    /// What there is of a range, and whether the file ends in it. A server may give less than it was asked for.
    async fn read_range(
        &self,
        client: &Client,
        handle: &Handle,
        mut offset: u64,
        mut length: u64,
    ) -> Result<(Vec<bytes::Bytes>, bool), Trouble> {
        let mut parts = Vec::with_capacity(1);
        while length > 0 {
            let part = self.patiently(client.read(handle, offset, length as usize)).await?;
            let Some(part) = part.filter(|part| !part.is_empty()) else { return Ok((parts, true)) };
            let part = part.slice(..part.len().min(length as usize));
            offset += part.len() as u64;
            length -= part.len() as u64;
            parts.push(part);
        }
        Ok((parts, false))
    }
}
