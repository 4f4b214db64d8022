//! Answers that come later: when a change is done. One task waits for all changes of a channel that are on their way, so that answers which come together
//! are sent together: one task, one packet and one wake-up each would cost more than the changes.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::BytesMut;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};

use super::{Channel, lock};
use crate::dispatch::{put_reply, put_status};
use crate::fault::Fault;
use crate::requests::content;
use crate::sftp::{Later, Reply};

/// What is waited for.
#[derive(Default)]
pub(super) struct Answering {
    /// What the task has not taken yet.
    new: Vec<Waiting>,
    /// Whether there is a task.
    is_running: bool,
}

/// A change whose request waits for its answer.
struct Waiting {
    request: u32,
    number: u64,
    later: Later,
}

/// How it went.
struct Done {
    request: u32,
    number: u64,
    result: Result<Reply, Fault>,
}

/// Answers that are not on their way yet, and whose they are.
#[derive(Default)]
struct Batch {
    answers: BytesMut,
    numbers: Vec<u64>,
}

impl Channel {
    /// Sends the answer to a request when its work is done.
    pub(super) fn answer_later(self: &Arc<Self>, request: u32, mut later: Later) {
        let number = self.pending.begin(std::mem::take(&mut later.paths));
        let mut answering = lock(&self.answering);
        answering.new.push(Waiting { request, number, later });
        if std::mem::replace(&mut answering.is_running, true) {
            self.has_more.notify_one();
        } else {
            tokio::spawn(self.clone().answer_or_end());
        }
    }

    async fn answer_or_end(self: Arc<Self>) {
        if AssertUnwindSafe(self.answer_all()).catch_unwind().await.is_err() {
            let reason = self.bug().text;
            let _ = self.session.disconnect(russh::Disconnect::ProtocolError, reason, String::new()).await;
        }
    }

    /// Answers until nothing is waited for any more. Changes go on while the client does not take its answers.
    async fn answer_all(self: &Arc<Self>) {
        let mut running = FuturesUnordered::new();
        let (mut batch, mut sending): (Batch, Option<BoxFuture<'_, Vec<u64>>>) = Default::default();
        loop {
            let new = {
                let mut answering = lock(&self.answering);
                if answering.new.is_empty() && running.is_empty() && sending.is_none() && batch.numbers.is_empty() {
                    answering.is_running = false;
                    return;
                }
                std::mem::take(&mut answering.new)
            };
            running.extend(new.into_iter().map(|waiting| self.work(waiting)));
            if sending.is_none() && !batch.numbers.is_empty() {
                sending = Some(Box::pin(self.send(std::mem::take(&mut batch))));
            }
            tokio::select! {
                Some(done) = running.next(), if !running.is_empty() => {
                    self.put(done, &mut batch);
                    while let Some(Some(done)) = running.next().now_or_never() {
                        self.put(done, &mut batch);
                    }
                    self.changed.notify_waiters();
                }
                numbers = async { match &mut sending { Some(sending) => sending.await, None => std::future::pending().await } } => {
                    sending = None;
                    // Only now they no longer count: a client that takes no answers starts no more changes, and the channel is not closed in
                    // front of an answer.
                    numbers.into_iter().for_each(|number| self.pending.forget(number));
                    self.changed.notify_waiters();
                }
                () = self.has_more.notified() => {}
            }
        }
    }

    async fn work(self: &Arc<Self>, waiting: Waiting) -> Done {
        let Waiting { request, number, later } = waiting;
        let result = AssertUnwindSafe(later.work).catch_unwind().await;
        let result = result.unwrap_or_else(|_| Err(self.bug()));
        if let (Err(_), Some(handle)) = (&result, later.opened) {
            // Closing a file can take its time.
            tokio::task::block_in_place(|| content::forget(&mut lock(&self.sftp), &handle));
        }
        Done { request, number, result }
    }

    /// A change is done: requests on its paths may go on, and its answer goes with the next batch.
    fn put(&self, done: Done, batch: &mut Batch) {
        self.pending.conclude(done.number);
        match &done.result {
            Ok(reply) => put_reply(&mut batch.answers, done.request, reply),
            Err(fault) => put_status(&mut batch.answers, done.request, fault.code, &fault.text),
        }
        batch.numbers.push(done.number);
    }

    async fn send(self: &Arc<Self>, batch: Batch) -> Vec<u64> {
        // A session that is gone does not want the answers; the changes stand all the same.
        let _ = self.hand_over_between(batch.answers.freeze()).await;
        batch.numbers
    }
}
