//! Writes notes down in batches: what several uploads want to know durable at the same time costs one flush.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::{Note, Record};
use crate::status::now_s;

/// Notes that may wait.
const QUEUE_MAX: usize = 1024;
/// Notes in one transaction.
const BATCH_MAX: usize = 256;

type Message = (Note, oneshot::Sender<Result<i64, String>>);

/// The door to the record: reading at once, writing in batches.
#[derive(Clone)]
pub struct Scribe {
    record: Arc<Mutex<Record>>,
    queue: mpsc::Sender<Message>,
}

impl Scribe {
    /// Starts the writing thread. It ends when the last clone is gone.
    pub fn start(record: Record) -> Scribe {
        let (queue, mut queued) = mpsc::channel(QUEUE_MAX);
        let record = Arc::new(Mutex::new(record));
        let written = record.clone();
        tokio::task::spawn_blocking(move || {
            while let Some(message) = queued.blocking_recv() {
                write(&written, message, &mut queued);
            }
        });
        Scribe { record, queue }
    }

    /// The record, for reading. Not for an async thread.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a note down; it is on the disk when this is over. Gives the text's number.
    ///
    /// # Errors
    /// A sentence: the state folder's disk is full, or broken.
    pub async fn note(&self, note: Note) -> Result<i64, String> {
        let (done, wait) = oneshot::channel();
        let _ended = self.queue.send((note, done)).await;
        wait.await.unwrap_or_else(|_| Err("the agent is ending".into()))
    }
}

fn write(record: &Mutex<Record>, first: Message, queued: &mut mpsc::Receiver<Message>) {
    let (mut notes, mut waiting) = (vec![first.0], vec![first.1]);
    while notes.len() < BATCH_MAX
        && let Ok((note, done)) = queued.try_recv()
    {
        notes.push(note);
        waiting.push(done);
    }
    let written = record.lock().unwrap_or_else(PoisonError::into_inner).write(&notes, now_s());
    match written {
        Ok(numbers) => {
            for (number, done) in numbers.into_iter().zip(waiting) {
                let _nobody_waits = done.send(Ok(number));
            }
        }
        Err(error) => {
            for done in waiting {
                let _nobody_waits = done.send(Err(format!("the record cannot be written: {error}")));
            }
        }
    }
}
