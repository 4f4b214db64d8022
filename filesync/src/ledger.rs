//! Takes records from all tasks of a standby and writes them in batches, in order.
//!
//! One thread owns the store's connection for writing. What waits is written in one transaction; so the busier it is, the
//! larger the batches. A full queue slows the senders down.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::store::{Record, Store};

/// Records that may wait.
const QUEUE_MAX: usize = 1024;
/// Records in one transaction.
const BATCH_MAX: usize = 200;

enum Message {
    Record(Box<Record>),
    Flushed(oneshot::Sender<Result<(), String>>),
}

/// Where proven things are sent to be remembered.
#[derive(Clone)]
pub struct Ledger {
    queue: mpsc::Sender<Message>,
}

impl Ledger {
    /// Starts the writing thread. It ends when the last clone is gone.
    pub fn start(store: Arc<Mutex<Store>>) -> Ledger {
        let (queue, queued) = mpsc::channel(QUEUE_MAX);
        tokio::task::spawn_blocking(move || write(&store, queued));
        Ledger { queue }
    }

    /// Sends a record.
    pub async fn record(&self, record: Record) {
        // With the writer gone the service is ending; an unwritten record costs a comparison next time.
        let _ended = self.queue.send(Message::Record(Box::new(record))).await;
    }

    /// Waits until everything sent so far is written. The error is that of the first write that failed since.
    pub async fn flush(&self) -> Result<(), String> {
        let (done, wait) = oneshot::channel();
        let _ended = self.queue.send(Message::Flushed(done)).await;
        wait.await.unwrap_or_else(|_| Err("the store's writer has ended".into()))
    }
}

fn write(store: &Mutex<Store>, mut queue: mpsc::Receiver<Message>) {
    let mut outcome = Ok(());
    while let Some(message) = queue.blocking_recv() {
        let (mut batch, mut flushed) = (Vec::new(), None);
        let mut next = Some(message);
        while let Some(message) = next {
            match message {
                Message::Record(record) => batch.push(*record),
                Message::Flushed(done) => flushed = Some(done),
            }
            next = if batch.len() < BATCH_MAX && flushed.is_none() { queue.try_recv().ok() } else { None };
        }
        if !batch.is_empty() {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            let written = store.record(&batch, crate::status::now_s());
            outcome = outcome.and(written.map_err(|error| error.to_string()));
        }
        if let Some(done) = flushed {
            let _nobody_waits = done.send(std::mem::replace(&mut outcome, Ok(())));
        }
    }
}
