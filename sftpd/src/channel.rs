//! One SFTP channel: bytes in, requests served, answers out.
//!
//! Requests are served right where their bytes arrive, inside russh's callback, without a task in between: that is what
//! makes the server fast. Two things can stand in the way: answers that the client does not take (its window is
//! closed, or keys are being exchanged), and a request that must wait for a change of its own session. Then a
//! *drainer*, a chore of the connection's own task, takes over until nothing waits any more. It sends through russh's bounded queue, which moves only
//! when the client takes data: so the reader of the channel never waits for its writer, and what waits is bounded.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use pair::wire::{Malformed, next_packet};
use russh::ChannelId;
use russh::server::{Handle, Session};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::chores::Chores;
use crate::connection::Connection;
use crate::daemon::Daemon;
use crate::dispatch::{self, Served};
use crate::fault::Fault;
use crate::pending::Pending;
use crate::sftp::Sftp;
use crate::socket::Clock;
use crate::transfer::Transfer;

mod answers;
mod handed;

use answers::Answering;
use handed::Unwritten;

/// Answers are handed on when they have grown to this size, in bytes: one READ of the largest size is never copied to make room for the next.
const BURST_BYTES: usize = 128 * 1024;

/// How long requests are served before others have their turn.
const BURST_TIME: Duration = Duration::from_millis(10);

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
    /// The request that must wait for a change of its own session, or for its next turn. It comes before everything in
    /// `stream`.
    waiting: Option<Bytes>,
    /// Whether the drainer serves; then arriving bytes are only put in. Else whoever puts them in does.
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
    clock: Arc<Clock>,
    chores: Arc<Chores>,
    daemon: Arc<Daemon>,
    /// The session's, for whoever must not wait for it.
    pending: Pending,
    // Held for a few lines, never across an await.
    inbox: Mutex<Inbox>,
    // Held for as long as a burst of requests is served and never across an await. `sftp` before `inbox`.
    sftp: Mutex<Sftp>,
    // Held for a few lines. `sftp` before it.
    answering: Mutex<Answering>,
    /// Whose answers come next: the drainer's, or those of changes. Held until all of them are handed over.
    line: tokio::sync::Mutex<()>,
    /// Wakes the task that answers.
    has_more: Notify,
    /// Woken whenever a change is over.
    changed: Notify,
    /// Answers of the drainer that russh has not taken out of its queue.
    in_queue: Arc<AtomicUsize>,
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
    /// There is more, and others have their turn first.
    Again,
}

impl Channel {
    /// A channel on which the client has started the subsystem.
    pub fn new(id: ChannelId, session: Handle, connection: &Connection, sftp: Sftp) -> Arc<Channel> {
        Arc::new(Channel {
            id,
            session,
            clock: connection.clock.clone(),
            chores: connection.chores.clone(),
            daemon: sftp.daemon.clone(),
            pending: sftp.pending.clone(),
            inbox: Mutex::default(),
            sftp: Mutex::new(sftp),
            answering: Mutex::default(),
            line: tokio::sync::Mutex::default(),
            has_more: Notify::new(),
            changed: Notify::new(),
            in_queue: Arc::default(),
            is_over: AtomicBool::new(false),
        })
    }

    /// Takes bytes of the client in and serves the requests that are whole.
    pub fn receive(self: &Arc<Self>, data: &[u8], session: &mut Session) -> Result<(), Broken> {
        {
            let mut inbox = lock(&self.inbox);
            inbox.stream.extend_from_slice(data);
            if inbox.stream.len() > self.daemon.config.limits.parked_bytes {
                return Err(Broken::Flooded);
            }
            if inbox.is_draining {
                return Ok(());
            }
        }
        // READs must be answered in turn: OpenSSH's scp cuts its file where they are not, and says nothing.
        if session.has_pending_data(self.id) || self.in_queue.load(Ordering::Acquire) > 0 {
            self.start_draining();
        } else {
            let mut out = BytesMut::new();
            let burst = self.serve_burst(&mut out)?;
            if !out.is_empty() && session.data(self.id, self.handed(out.freeze(), None)).is_err() {
                return Ok(());
            }
            // What is answered here stays in memory until all of it is: after one burst the drainer goes on.
            if matches!(burst, Burst::Wait | Burst::Again) || matches!(burst, Burst::Full) && !self.stop_draining()? {
                self.start_draining();
            }
        }
        Ok(())
    }

    /// The next whole request, unless the session is gone.
    fn next(&self) -> Result<Option<Bytes>, Malformed> {
        if self.is_over.load(Ordering::Relaxed) {
            return Ok(None);
        }
        lock(&self.inbox).next()
    }

    /// Serves whole requests until the answers fill a burst, or its time is over.
    fn serve_burst(self: &Arc<Self>, out: &mut BytesMut) -> Result<Burst, Broken> {
        let Some(packet) = self.next()? else {
            return Ok(Burst::Empty);
        };
        let began = Instant::now();
        // Requests read and write files. Where this thread may block by it, others take its other work over.
        if self.daemon.waits.are_expected(began) {
            tokio::task::block_in_place(|| self.serve_from(packet, began, out))
        } else {
            self.serve_from(packet, began, out)
        }
    }

    fn serve_from(self: &Arc<Self>, first: Bytes, began: Instant, out: &mut BytesMut) -> Result<Burst, Broken> {
        let mut sftp = lock(&self.sftp);
        let (mut packet, mut last) = (first, began);
        loop {
            let served = dispatch::serve(&mut sftp, &packet, out)?;
            let now = Instant::now();
            self.daemon.waits.note(now - std::mem::replace(&mut last, now), now);
            let burst = match served {
                Served::Answered => None,
                Served::Later(request, later) => {
                    self.answer_later(request, later);
                    None
                }
                Served::Wait => Some(Burst::Wait),
                Served::Again => Some(Burst::Again),
            };
            if let Some(burst) = burst {
                lock(&self.inbox).waiting = Some(packet);
                return Ok(burst);
            }
            if out.len() >= BURST_BYTES {
                return Ok(Burst::Full);
            }
            match self.next()? {
                Some(next) if now - began < BURST_TIME => packet = next,
                Some(next) => {
                    lock(&self.inbox).waiting = Some(next);
                    return Ok(Burst::Again);
                }
                None => return Ok(Burst::Empty),
            }
        }
    }

    /// Counts a panic that was caught here, where russh cannot see it.
    fn bug(&self) -> Fault {
        self.daemon.metrics.panic();
        Fault::failure("the request failed by a bug in the server")
    }

    fn start_draining(self: &Arc<Self>) {
        lock(&self.inbox).is_draining = true;
        let channel = self.clone();
        self.chores.take(async move {
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
        let (mut turn, mut handed) = (None, Unwritten::since(self.clock.writes()));
        while !self.is_over.load(Ordering::Relaxed) {
            // Asked for before serving: a change that ends in between is not missed.
            let changed = self.changed.notified();
            let mut out = BytesMut::new();
            let served = self.serve_burst(&mut out);
            self.daemon.begin_changes();
            let burst = served?;
            drop(turn.take());
            if matches!(burst, Burst::Empty) && out.is_empty() && self.stop_draining()? {
                break;
            }
            if self.hand_over(out.freeze(), &mut handed).await.is_err() {
                break;
            }
            match burst {
                Burst::Wait => changed.await,
                Burst::Again => turn = self.next_turn().await,
                Burst::Empty | Burst::Full => {}
            }
        }
        Ok(())
    }

    /// The drainer ends, unless something has come in since it looked.
    fn stop_draining(&self) -> Result<bool, Malformed> {
        let mut inbox = lock(&self.inbox);
        inbox.waiting = inbox.next()?;
        inbox.is_draining = inbox.waiting.is_some();
        Ok(!inbox.is_draining)
    }

    /// Waits for a turn at long work, of which only so many go on at once. Nothing that is sent here reaches the client, but
    /// it waits while the client takes no answers.
    async fn next_turn(&self) -> Option<OwnedSemaphorePermit> {
        let _ = self.session.data(self.id, Bytes::new()).await;
        self.daemon.turns.clone().acquire_owned().await.ok()
    }

    /// Whether something is being written or is on its way.
    pub fn is_busy(&self) -> bool {
        // Who serves requests now is asked again later.
        self.sftp
            .try_lock()
            .map_or(true, |sftp| !self.pending.are_none() || sftp.is_copying() || sftp.handles.are_writing())
    }

    /// Whether a request is being served that takes its time, or a change is on its way.
    pub fn is_working(&self) -> bool {
        self.sftp.try_lock().map_or(true, |sftp| !self.pending.are_none() || sftp.ongoing.is_some())
    }

    /// Whether a file is written in place. Waits while requests are served: not for an async thread.
    pub fn writes_in_place(&self) -> bool {
        lock(&self.sftp).handles.write_in_place()
    }

    /// What is being transferred. Waits while requests are served: not for an async thread.
    pub fn transfers(&self) -> Vec<Transfer> {
        lock(&self.sftp).handles.transfers().cloned().collect()
    }

    /// The client sends nothing more: answers what is on its way, then closes the channel as a program that ended well.
    pub fn finish(self: &Arc<Self>) {
        let channel = self.clone();
        tokio::spawn(async move {
            loop {
                let changed = channel.changed.notified();
                let is_draining = lock(&channel.inbox).is_draining;
                if channel.is_over.load(Ordering::Relaxed) || (!is_draining && channel.pending.are_none()) {
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
        self.daemon.volume.begin_changes(|| false);
        self.is_over.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while serving ends the session by itself; what is locked here is not used by any other.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
