//! How far a file has gone on one handle, and the record that is made of it in the end.
//!
//! A transfer is recorded once: when its handle is closed, or when its session ends first. A handle on which nothing
//! moved and nothing was meant to is no transfer.

use std::sync::Arc;
use std::time::Instant;

use pair::activity::{Activity, Outcome, sender};

use crate::activity::{Actor, failed};
use crate::fault::Fault;
use crate::sftp::{Later, Reply, Stop};

/// Which way a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To us.
    Up,
    /// To the client.
    Down,
}

/// A transfer.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Which way it goes.
    pub direction: Direction,
    /// The path, as its account sees it.
    pub path: Vec<u8>,
    /// Since when.
    pub started: Instant,
    /// Bytes that have gone over the wire.
    pub bytes: u64,
    /// The end of what has gone, in the file.
    pub furthest: u64,
    /// Whether it goes on where an earlier connection was.
    pub is_resumed: bool,
    /// Whether it takes the place of a complete file.
    pub replaces: bool,
    /// Whether it is one although no byte has moved: an empty file comes into being so.
    pub is_begun: bool,
}

impl Transfer {
    /// One that begins now.
    pub fn new(direction: Direction, path: Vec<u8>) -> Transfer {
        let started = Instant::now();
        Transfer {
            direction,
            path,
            started,
            bytes: 0,
            furthest: 0,
            is_resumed: false,
            replaces: false,
            is_begun: false,
        }
    }

    /// Bytes have gone, from an offset on.
    pub fn moved(&mut self, offset: u64, bytes: u64) {
        self.is_begun = true;
        self.bytes += bytes;
        self.furthest = self.furthest.max(offset.saturating_add(bytes));
    }

    /// What it is called in the log.
    pub fn sender(&self) -> &'static str {
        match self.direction {
            Direction::Up => sender::UPLOAD,
            Direction::Down => sender::DOWNLOAD,
        }
    }

    fn activity(&self, actor: &Actor) -> Activity {
        let mut activity = actor.activity(self.sender());
        activity.set_path(&self.path);
        activity.size_bytes = Some(self.bytes);
        activity.elapsed_ms = Some(self.started.elapsed().as_millis() as u64);
        activity
    }

    /// Records an upload whose handle has ended so.
    fn record_upload(&self, actor: &Actor, file_size: Option<u64>, result: Result<(), &str>) {
        if !self.is_begun {
            return;
        }
        let mut activity = Activity { file_size, ..self.activity(actor) };
        match result {
            Ok(()) if self.is_resumed => activity.outcome = Some(Outcome::Resumed),
            Ok(()) if self.replaces => activity.outcome = Some(Outcome::Replaced),
            Ok(()) => activity.outcome = Some(Outcome::Complete),
            Err(error) => activity = failed(activity, Outcome::Aborted, error),
        }
        actor.put(activity);
    }

    /// Records a download whose handle was closed, or is lost.
    pub fn record_download(&self, actor: &Actor, file_size: u64, is_lost: bool) {
        if !self.is_begun {
            return;
        }
        let has_ended = self.furthest >= file_size;
        let outcome = match has_ended {
            true if self.bytes >= file_size => Outcome::Complete,
            true => Outcome::Resumed,
            false if is_lost => Outcome::Aborted,
            false => Outcome::Partial,
        };
        let activity = Activity { file_size: Some(file_size), ..self.activity(actor) };
        actor.put(match outcome {
            Outcome::Aborted => failed(activity, outcome, "the connection was lost"),
            _ => Activity { outcome: Some(outcome), ..activity },
        });
    }

    /// Records what was read by a handle that writes: a part, whatever the file is in the end.
    pub fn record_read(&self, actor: &Actor) {
        if self.is_begun {
            actor.put(Activity { outcome: Some(Outcome::Partial), ..self.activity(actor) });
        }
    }

    /// Records an upload that its session leaves behind.
    pub fn record_lost_upload(&self, actor: &Actor) {
        self.record_upload(actor, None, Err("the connection was lost"));
    }

    /// Records an upload when the answer to its CLOSE is known.
    pub fn when_closed(
        self,
        actor: Option<Arc<Actor>>,
        file_size: Option<u64>,
        reply: Result<Reply, Stop>,
    ) -> Result<Reply, Stop> {
        let Some(actor) = actor else { return reply };
        let record = move |result: Result<(), &Fault>| {
            self.record_upload(&actor, file_size, result.map_err(|fault| fault.text.as_str()));
        };
        when_answered(reply, record)
    }
}

/// Has the result of a request told when its answer is known, now or later.
pub fn when_answered(
    reply: Result<Reply, Stop>,
    tell: impl FnOnce(Result<(), &Fault>) + Send + 'static,
) -> Result<Reply, Stop> {
    match reply {
        Ok(Reply::Later(Later { work, paths, opened })) => {
            let work = Box::pin(async move {
                let answer = work.await;
                tell(answer.as_ref().map(|_| ()));
                answer
            });
            Ok(Reply::Later(Later { work, paths, opened }))
        }
        Ok(reply) => {
            tell(Ok(()));
            Ok(reply)
        }
        Err(Stop::Fault(fault)) => {
            tell(Err(&fault));
            Err(fault.into())
        }
        Err(stop) => Err(stop),
    }
}
