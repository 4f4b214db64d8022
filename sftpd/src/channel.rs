//! One SFTP channel: bytes in, requests served, answers out.
//!
//! Requests are served right where their bytes arrive, inside russh's callback, without a task in between: that is what
//! makes the server fast. Two things can stand in the way: answers that the client does not take (its window is
//! closed, or keys are being exchanged), and a request that must wait for a change of its own session. Then a
//! *drainer* task takes over until nothing waits any more. It sends through russh's bounded queue, which moves only
//! when the client takes data: so the reader of the channel never waits for its writer, and what waits is bounded.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use pair::wire::{Malformed, next_packet};
use russh::ChannelId;
use russh::server::{Handle, Session};
use tokio::sync::Notify;

use crate::dispatch::{self, Served, put_reply, put_status};
use crate::fault::Fault;
use crate::requests::content;
use crate::sftp::{Later, Sftp};

/// Answers are handed on when they have grown to this size, in bytes.
const BURST_BYTES: usize = 1024 * 1024;

/// Why a channel cannot go on. The session ends by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The client sent something that is no SFTP.
    Malformed,
    /// More requests wait than may.
    Flooded,
}

impl From<Malformed> for Broken {
    fn from(_: Malformed) -> Broken {
        Broken::Malformed
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Broken::Malformed => "the client sent a malformed SFTP packet",
            Broken::Flooded => "the client sends requests and does not take the answers",
        })
    }
}

/// Bytes that have arrived and are not served yet.
#[derive(Default)]
struct Inbox {
    stream: BytesMut,
    /// The request that must wait for a change of its own session. It comes before everything in `stream`.
    waiting: Option<Bytes>,
    /// Whether the drainer serves; then arriving bytes are only put in.
    is_draining: bool,
}

impl Inbox {
    fn next(&mut self) -> Result<Option<Bytes>, Malformed> {
        match self.waiting.take() {
            Some(packet) => Ok(Some(packet)),
            None => next_packet(&mut self.stream),
        }
    }
}

/// One SFTP channel.
pub struct Channel {
    id: ChannelId,
    session: Handle,
    parked_bytes_max: usize,
    // Both are held for as long as a burst of requests is served and never across an await. `inbox` before `sftp`.
    inbox: Mutex<Inbox>,
    sftp: Mutex<Sftp>,
    /// Woken whenever a change is over.
    changed: Notify,
    is_over: AtomicBool,
}

/// What serving a burst has led to.
enum Burst {
    /// All whole requests are served.
    Empty,
    /// There are more.
    Full,
    /// The next one must wait.
    Wait,
}

impl Channel {
    /// A channel on which the client has started the subsystem.
    pub fn new(id: ChannelId, session: Handle, sftp: Sftp) -> Arc<Channel> {
        let parked_bytes_max = sftp.daemon.config.limits.parked_bytes;
        Arc::new(Channel {
            id,
            session,
            parked_bytes_max,
            inbox: Mutex::default(),
            sftp: Mutex::new(sftp),
            changed: Notify::new(),
            is_over: AtomicBool::new(false),
        })
    }

    /// Takes bytes of the client in and serves the requests that are whole.
    pub fn receive(self: &Arc<Self>, data: &[u8], session: &mut Session) -> Result<(), Broken> {
        let mut inbox = lock(&self.inbox);
        inbox.stream.extend_from_slice(data);
        if inbox.stream.len() > self.parked_bytes_max {
            return Err(Broken::Flooded);
        }
        while !inbox.is_draining {
            if session.has_pending_data(self.id) {
                self.start_draining(&mut inbox);
                break;
            }
            let mut out = BytesMut::new();
            let burst = self.serve_burst(&mut inbox, &mut out)?;
            if !out.is_empty() && session.data(self.id, out.freeze()).is_err() {
                break;
            }
            match burst {
                Burst::Empty => break,
                Burst::Full => {}
                Burst::Wait => self.start_draining(&mut inbox),
            }
        }
        Ok(())
    }

    /// Serves whole requests until the answers fill a burst.
    fn serve_burst(self: &Arc<Self>, inbox: &mut Inbox, out: &mut BytesMut) -> Result<Burst, Broken> {
        let Some(mut packet) = inbox.next()? else {
            return Ok(Burst::Empty);
        };
        // Requests read and write files. This thread may block by it; others take its other work over.
        tokio::task::block_in_place(|| {
            let mut sftp = lock(&self.sftp);
            loop {
                match dispatch::serve(&mut sftp, &packet, out)? {
                    Served::Answered => {}
                    Served::Later(request, later) => self.answer_later(&mut sftp, request, later),
                    Served::Wait => {
                        inbox.waiting = Some(packet);
                        return Ok(Burst::Wait);
                    }
                }
                if out.len() >= BURST_BYTES {
                    return Ok(Burst::Full);
                }
                match inbox.next()? {
                    Some(next) => packet = next,
                    None => return Ok(Burst::Empty),
                }
            }
        })
    }

    /// Sends the answer to a request when its work is done.
    fn answer_later(self: &Arc<Self>, sftp: &mut Sftp, request: u32, later: Later) {
        let (number, opened) = (sftp.begin(later.paths), later.opened);
        let channel = self.clone();
        tokio::spawn(async move {
            let result = AssertUnwindSafe(later.work).catch_unwind().await;
            let result = result.unwrap_or_else(|_| Err(channel.bug()));
            if let (Err(_), Some(handle)) = (&result, opened) {
                // Closing a file can take its time.
                tokio::task::block_in_place(|| content::forget(&mut lock(&channel.sftp), &handle));
            }
            channel.conclude(number);
            let mut out = BytesMut::new();
            match &result {
                Ok(reply) => put_reply(&mut out, request, reply),
                Err(fault) => put_status(&mut out, request, fault.code, &fault.text),
            }
            // A session that is gone does not want the answer; the change stands all the same.
            let _ = channel.session.data(channel.id, out.freeze()).await;
            channel.forget(number);
        });
    }

    /// The change is done: requests on its paths may go on.
    fn conclude(&self, number: u64) {
        lock(&self.sftp).conclude(number);
        self.changed.notify_waiters();
    }

    /// The change is answered, too. Only now it no longer counts: a client that takes no answers starts no more changes,
    /// and the channel is not closed in front of an answer.
    fn forget(&self, number: u64) {
        lock(&self.sftp).forget(number);
        self.changed.notify_waiters();
    }

    /// Counts a panic that was caught here, where russh cannot see it.
    fn bug(&self) -> Fault {
        lock(&self.sftp).daemon.metrics.panic();
        Fault::failure("the request failed by a bug in the server")
    }

    fn start_draining(self: &Arc<Self>, inbox: &mut Inbox) {
        inbox.is_draining = true;
        let channel = self.clone();
        tokio::spawn(async move {
            let reason = match AssertUnwindSafe(channel.drain()).catch_unwind().await {
                Ok(Ok(())) => return,
                Ok(Err(broken)) => broken.to_string(),
                Err(_) => channel.bug().text,
            };
            tracing::warn!(reason, "connection ended");
            let by = russh::Disconnect::ProtocolError;
            let _ = channel.session.disconnect(by, reason, String::new()).await;
        });
    }

    /// Serves what waits, no faster than the client takes the answers, until nothing waits any more.
    async fn drain(self: &Arc<Self>) -> Result<(), Broken> {
        while !self.is_over.load(Ordering::Relaxed) {
            // Asked for before serving: a change that ends in between is not missed.
            let changed = self.changed.notified();
            let mut out = BytesMut::new();
            let burst = {
                let mut inbox = lock(&self.inbox);
                let burst = self.serve_burst(&mut inbox, &mut out)?;
                if matches!(burst, Burst::Empty) && out.is_empty() {
                    inbox.is_draining = false;
                    break;
                }
                burst
            };
            if !out.is_empty() && self.session.data(self.id, out.freeze()).await.is_err() {
                break;
            }
            if matches!(burst, Burst::Wait) {
                changed.await;
            }
        }
        Ok(())
    }

    /// Whether something is being written or is on its way.
    pub fn is_busy(&self) -> bool {
        let sftp = lock(&self.sftp);
        sftp.has_pending() || sftp.handles.are_writing()
    }

    /// The client sends nothing more: answers what is on its way, then closes the channel as a program that ended well.
    pub fn finish(self: &Arc<Self>) {
        let channel = self.clone();
        tokio::spawn(async move {
            loop {
                let changed = channel.changed.notified();
                let is_draining = lock(&channel.inbox).is_draining;
                if channel.is_over.load(Ordering::Relaxed) || !(is_draining || lock(&channel.sftp).has_pending()) {
                    break;
                }
                // The drainer tells nobody when it ends, so it is looked after as well.
                let _ = tokio::time::timeout(std::time::Duration::from_millis(20), changed).await;
            }
            // Through the same queue as the answers, so behind them.
            let _ = channel.session.exit_status_request(channel.id, 0).await;
            let _ = channel.session.eof(channel.id).await;
            let _ = channel.session.close(channel.id).await;
        });
    }

    /// The session is gone: nothing is served any more.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.changed.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while serving ends the session by itself; what is locked here is not used by any other.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
