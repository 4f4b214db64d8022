//! Many requests in flight over one byte stream, each answered by its number.
//!
//! One task reads and one writes: nothing that reads ever waits for writing, so two busy ends cannot block each other.
//! What is under way is bounded by count and by bytes. A dead stream fails every waiting request at once. There is no
//! time limit per request: on a slow line a request may wait long behind others, and only the connection's keepalives
//! tell a slow peer from a dead one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::ClientError;
use crate::wire::{Code, Reader, kind, next_packet, put_packet};

/// Requests in flight.
pub(super) const REQUESTS_MAX: usize = 64;
/// Bytes of requests in flight; about 32 WRITEs of full size.
pub(super) const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Small requests are joined up to this size before they are written, in bytes.
const JOIN_BYTES: usize = 64 * 1024;

const CLOSED: &str = "the connection was closed";

/// The answer to a request that was queued.
pub(super) struct Answer(oneshot::Receiver<Result<Bytes, ClientError>>);

impl Answer {
    /// Waits for it: the packet's type and what follows the number.
    pub async fn receive(self) -> Result<(u8, Bytes), ClientError> {
        let mut packet = self.0.await.unwrap_or_else(|_| Err(ClientError::Lost(CLOSED.into())))?;
        let kind = Reader(&packet).u8()?;
        // Type and number were read before it got here.
        let body = packet.split_off(5.min(packet.len()));
        Ok((kind, body))
    }
}

/// A request that was queued and whose answer is a status.
pub struct Pending(Answer);

impl Pending {
    pub(super) fn of(answer: Answer) -> Pending {
        Pending(answer)
    }

    /// Waits for the status.
    pub async fn done(self) -> Result<(), ClientError> {
        // No answer has type 0, so every status comes back as an error, OK too.
        match take(self.0, 0).await {
            Err(ClientError::Status { code: Code::Ok, .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Takes an answer of one type; a status instead of it is an error.
pub(super) async fn take(answer: Answer, wanted: u8) -> Result<Bytes, ClientError> {
    match answer.receive().await? {
        (found, body) if found == wanted => Ok(body),
        (kind::STATUS, body) => {
            let mut status = Reader(&body);
            let code = Code::from_wire(status.u32()?);
            // Old servers send no sentence.
            let message = String::from_utf8_lossy(status.bytes().unwrap_or_default()).into_owned();
            Err(ClientError::Status { code, message })
        }
        (found, _) => Err(ClientError::Protocol(format!("packet type {found} where {wanted} was due"))),
    }
}

/// Sends requests and hands each its answer.
pub(super) struct Pipeline {
    queue: mpsc::Sender<BytesMut>,
    waiting: Arc<Mutex<Waiting>>,
    slots: Arc<Semaphore>,
    queue_bytes: Arc<Semaphore>,
    next_id: AtomicU32,
    tasks: [AbortHandle; 2],
}

#[derive(Default)]
struct Waiting {
    answers: HashMap<u32, Unanswered>,
    /// Why the stream is dead, once it is.
    lost: Option<String>,
}

struct Unanswered {
    answer: oneshot::Sender<Result<Bytes, ClientError>>,
    // Held until the answer is there, even when nobody waits for it any more.
    _slot: OwnedSemaphorePermit,
    _queue_bytes: OwnedSemaphorePermit,
}

impl Pipeline {
    /// Starts on a stream on which the greeting was exchanged. `rest` is what was read past it.
    pub fn start<S>(stream: S, rest: BytesMut) -> Pipeline
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reading, writing) = tokio::io::split(stream);
        let (queue, queued) = mpsc::channel(REQUESTS_MAX);
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let reader = tokio::spawn(read(reading, rest, waiting.clone()));
        let writer = tokio::spawn(write(writing, queued, waiting.clone()));
        Pipeline {
            queue,
            waiting,
            slots: Arc::new(Semaphore::new(REQUESTS_MAX)),
            queue_bytes: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            next_id: AtomicU32::new(0),
            tasks: [reader.abort_handle(), writer.abort_handle()],
        }
    }

    /// Queues one request of about `size` bytes; its answer comes later. Requests of one caller go out in the order in
    /// which it queued them.
    pub async fn submit(&self, kind: u8, size: usize, body: impl FnOnce(&mut BytesMut)) -> Result<Answer, ClientError> {
        let closed = |_| ClientError::Lost(CLOSED.into());
        let _slot = self.slots.clone().acquire_owned().await.map_err(closed)?;
        let weight = size.clamp(1, QUEUE_BYTES_MAX) as u32;
        let _queue_bytes = self.queue_bytes.clone().acquire_many_owned(weight).await.map_err(closed)?;

        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut packet = BytesMut::with_capacity(size + 64);
        put_packet(&mut packet, kind, |out| {
            out.extend_from_slice(&id.to_be_bytes());
            body(out);
        });
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if let Some(reason) = &waiting.lost {
                return Err(ClientError::Lost(reason.clone()));
            }
            waiting.answers.insert(id, Unanswered { answer, _slot, _queue_bytes });
        }
        // Never full: it has room for as many as there are slots.
        if self.queue.try_send(packet).is_err() {
            lose(&self.waiting, CLOSED);
        }
        Ok(Answer(answered))
    }

    /// Whether the stream is dead.
    pub fn is_lost(&self) -> bool {
        lock(&self.waiting).lost.is_some()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        lose(&self.waiting, CLOSED);
    }
}

/// A few lines run under this lock and none of them panics; a poisoned one is as good as any.
fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Marks the stream dead and fails all that wait; the first reason stays.
fn lose(waiting: &Mutex<Waiting>, reason: &str) {
    let mut waiting = lock(waiting);
    let reason = waiting.lost.get_or_insert_with(|| reason.to_owned()).clone();
    for (_, pending) in waiting.answers.drain() {
        let _nobody_waits = pending.answer.send(Err(ClientError::Lost(reason.clone())));
    }
}

async fn read(mut stream: impl AsyncRead + Unpin, mut buffer: BytesMut, waiting: Arc<Mutex<Waiting>>) {
    let reason = loop {
        match next_packet(&mut buffer) {
            Ok(Some(packet)) => {
                if let Err(reason) = deliver(packet, &waiting) {
                    break reason;
                }
                continue;
            }
            Ok(None) => buffer.reserve(JOIN_BYTES),
            Err(malformed) => break malformed.to_string(),
        }
        match stream.read_buf(&mut buffer).await {
            Ok(0) => break "the other side closed the connection".to_owned(),
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    lose(&waiting, &reason);
}

fn deliver(packet: Bytes, waiting: &Mutex<Waiting>) -> Result<(), String> {
    let mut reader = Reader(&packet);
    let id = reader.u8().and_then(|_| reader.u32()).map_err(|malformed| malformed.to_string())?;
    let pending = lock(waiting).answers.remove(&id);
    let pending = pending.ok_or_else(|| format!("an answer to request {id}, which was not asked"))?;
    let _nobody_waits = pending.answer.send(Ok(packet));
    Ok(())
}

async fn write(mut stream: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<BytesMut>, waiting: Arc<Mutex<Waiting>>) {
    while let Some(mut packets) = queue.recv().await {
        while packets.len() < JOIN_BYTES {
            let Ok(packet) = queue.try_recv() else { break };
            packets.extend_from_slice(&packet);
        }
        let sent = async {
            stream.write_all(&packets).await?;
            stream.flush().await
        };
        if let Err(error) = sent.await {
            lose(&waiting, &error.to_string());
            return;
        }
    }
}
