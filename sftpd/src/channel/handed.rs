//! What is handed to russh, and how much of it at once. It puts all that was handed to it between two writes to the socket into one buffer, whose
//! room it keeps as long as the connection lives: so a drainer hands over a little, and waits until something was written.
//!
//! It promises no more than a bound: what others of the connection write in between lets a drainer go on as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::{BURST_BYTES, Channel};
use crate::daemon::Daemon;

/// So many bytes are handed over before something must have been written, in pieces of that size.
const HANDED_BYTES_MAX: usize = 128 * 1024;

/// Answers on their way to russh, perhaps through its queue. It drops them when it has put them in line behind all that came before.
struct Handed {
    answers: Bytes,
    daemon: Arc<Daemon>,
    in_queue: Option<Arc<AtomicUsize>>,
}

impl AsRef<[u8]> for Handed {
    fn as_ref(&self) -> &[u8] {
        &self.answers
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        self.daemon.rooms.give_back_from(std::mem::take(&mut self.answers));
        if let Some(count) = &self.in_queue {
            count.fetch_sub(1, Ordering::Release);
        }
    }
}

/// What a drainer has handed to russh since that has written something.
pub(super) struct Unwritten {
    bytes: usize,
    writes: u64,
}

impl Unwritten {
    /// Nothing yet, after so many writes.
    pub(super) fn since(writes: u64) -> Unwritten {
        Unwritten { bytes: 0, writes }
    }
}

impl Channel {
    /// Hands answers to russh, no more at once than it shall keep room for. Nobody else's come between two pieces, which may be parts
    /// of one answer.
    pub(super) async fn hand_over(&self, mut answers: Bytes, handed: &mut Unwritten) -> Result<(), Bytes> {
        let _line = self.line.lock().await;
        while !answers.is_empty() {
            while handed.bytes >= HANDED_BYTES_MAX {
                // Asked for before looking: neither is missed.
                let (written, over) = (self.clock.next_write(), self.changed.notified());
                let writes = self.clock.writes();
                if self.is_over.load(Ordering::Acquire) {
                    return Ok(());
                }
                if writes == handed.writes {
                    tokio::select! { () = written => {} () = over => {} }
                } else {
                    *handed = Unwritten::since(writes);
                }
            }
            let piece = answers.split_to(answers.len().min(HANDED_BYTES_MAX));
            handed.bytes += piece.len();
            self.in_queue.fetch_add(1, Ordering::Relaxed);
            self.session.data(self.id, self.handed(piece, Some(self.in_queue.clone()))).await?;
        }
        Ok(())
    }

    /// Hands over answers of changes that are done.
    pub(super) async fn hand_over_between(&self, answers: Bytes) -> Result<(), Bytes> {
        let _line = self.line.lock().await;
        self.session.data(self.id, answers).await
    }

    /// Answers as they are handed over.
    pub(super) fn handed(&self, answers: Bytes, in_queue: Option<Arc<AtomicUsize>>) -> Bytes {
        if in_queue.is_none() && answers.len() < BURST_BYTES {
            return answers;
        }
        Bytes::from_owner(Handed { answers, daemon: self.daemon.clone(), in_queue })
    }
}
