//! The feed: how sftpd tells other programs on its machine, line by line, what has changed on the volume.
//!
//! One message is one line of JSON, and a line has a limit. The server greets with `hello`; the client subscribes,
//! reads and acknowledges. Which records there are, and what an acknowledgement does, the server decides
//! (`sftpd/src/feed.rs`).

use std::path::{Path, PathBuf};

use anyhow::Context;
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::{FramedRead, LinesCodec};

use crate::epoch::Epoch;
use crate::record::{Position, Record};

/// The longest line that a server takes, in bytes.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// The longest line that a client takes, in bytes. A record with two long names needs 25 KiB; a state grows with its
/// standbys.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// The longest name of a standby, in characters.
pub const STANDBY_NAME_MAX: usize = 255;

/// Where a state folder has the feed's socket.
pub fn path(state: &Path) -> PathBuf {
    state.join("feed.sock")
}

/// Whether a standby may be called so: 1 to 255 printable characters.
pub fn is_standby_name(name: &str) -> bool {
    (1..=STANDBY_NAME_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Send what comes after a position, for one standby. Once per connection.
    Subscribe {
        /// The standby's name.
        standby: String,
        /// The last position that it has; none: it has nothing.
        from: Option<Position>,
    },
    /// The subscribed standby has everything up to a position. Only a refusal is answered.
    Acknowledge {
        /// That position.
        position: Position,
    },
    /// Send the state of the feed, with all that has happened before.
    Status {},
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Message {
    /// The first line of every connection.
    Hello(Hello),
    /// A change.
    Record(Box<Record>),
    /// Sent instead of changes that cannot be had any more.
    Reconcile {
        /// A sentence that says why.
        reason: String,
        /// Changes after this one follow; all up to it are on the volume by now.
        seq: u64,
    },
    /// Sent when there is nothing else to say.
    Heartbeat {
        /// All up to this one was sent.
        seq: u64,
        /// The server's clock, in milliseconds since 1970.
        time_ms: i64,
    },
    /// The state of the feed.
    Status {
        /// The master's epoch.
        epoch: Epoch,
        /// The last change. All that happened before the question is in it.
        last_seq: u64,
        /// Who has acknowledged what.
        standbys: Vec<Standby>,
    },
    /// A request was refused.
    Error {
        /// A sentence that says why.
        sentence: String,
    },
}

/// How a server greets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The master's epoch.
    pub epoch: Epoch,
    /// The run of the journal that is under way.
    #[serde(default)]
    pub run: String,
    /// The last change before the epoch.
    #[serde(default)]
    pub began_after: u64,
    /// The oldest change that can be had.
    pub first_seq: u64,
    /// The last change.
    pub last_seq: u64,
    /// The machine, as in its `node.yaml`.
    pub node: String,
}

/// A standby, as the feed's state shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standby {
    /// Its name.
    pub name: String,
    /// It has everything up to this one.
    pub seq: u64,
    /// When it said so, in milliseconds since 1970.
    pub time_ms: i64,
}

/// Sends one line. Cut off before its end it leaves half a line behind, after which the connection is of no use.
pub async fn send<W: AsyncWrite + Unpin>(to: &mut W, message: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line).await
}

/// Takes lines from the other end.
pub struct Lines<R>(FramedRead<R, LinesCodec>);

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Takes lines of up to `bytes_max` bytes.
    pub fn new(from: R, bytes_max: usize) -> Lines<R> {
        Lines(FramedRead::new(from, LinesCodec::new_with_max_length(bytes_max)))
    }

    /// The next line; none when the other end is done. Cut off before its end it loses nothing.
    pub async fn next<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        match self.0.next().await {
            Some(line) => Ok(Some(serde_json::from_str(&line?).context("this is no line of the feed")?)),
            None => Ok(None),
        }
    }
}

/// What a subscriber learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A change.
    Record(Box<Record>),
    /// Changes up to `seq` cannot be had one by one: compare everything. Changes after it follow.
    Reconcile {
        /// A sentence that says why.
        reason: String,
        /// The last change that the comparison covers.
        seq: u64,
    },
    /// All up to `seq` was sent.
    Heartbeat {
        /// The last one.
        seq: u64,
        /// The server's clock, in milliseconds since 1970.
        time_ms: i64,
    },
    /// The server did not do as it was asked, and says why.
    Refused(String),
}

/// The last change of all that has happened by now.
pub async fn last_seq(path: &Path) -> anyhow::Result<Position> {
    let stream = UnixStream::connect(path).await.with_context(|| format!("cannot reach {}", path.display()))?;
    let (read, mut write) = stream.into_split();
    let mut lines = Lines::new(read, MESSAGE_BYTES_MAX);
    send(&mut write, &Request::Status {}).await?;
    while let Some(message) = lines.next().await? {
        if let Message::Status { epoch, last_seq, .. } = message {
            return Ok(Position { epoch: epoch.id, seq: last_seq });
        }
    }
    anyhow::bail!("the feed ended before its answer")
}

/// The client's end of a subscription. It never reconnects: the caller knows from which position.
pub struct Subscription {
    hello: Hello,
    is_new_epoch: bool,
    lines: Lines<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Subscription {
    /// Subscribes to the changes after a position.
    pub async fn connect(path: &Path, standby: &str, from: Option<Position>) -> anyhow::Result<Subscription> {
        let stream = UnixStream::connect(path).await.with_context(|| format!("cannot reach {}", path.display()))?;
        let (read, mut write) = stream.into_split();
        let mut lines = Lines::new(read, MESSAGE_BYTES_MAX);
        let hello = match lines.next().await?.context("the feed ended before its greeting")? {
            Message::Hello(hello) => hello,
            other => anyhow::bail!("the feed greets with {other:?}"),
        };
        let is_new_epoch =
            from.as_ref().is_none_or(|from| from.epoch != hello.epoch.id) && hello.epoch.parent.is_some();
        // All of it is told: what went since it began then needs nobody's approval to go from the standby.
        let begin = Position { epoch: hello.epoch.id.clone(), seq: hello.began_after };
        let from = if is_new_epoch { Some(begin) } else { from };
        send(&mut write, &Request::Subscribe { standby: standby.to_owned(), from }).await?;
        Ok(Subscription { hello, is_new_epoch, lines, write })
    }

    /// Whether the changes are those of an epoch of which the caller had no position. What was there before it is not among them.
    pub fn is_new_epoch(&self) -> bool {
        self.is_new_epoch
    }

    /// What the server said first.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// The next event; an error when the connection is gone. Cut off before its end it loses nothing.
    pub async fn next(&mut self) -> anyhow::Result<Event> {
        Ok(match self.lines.next().await?.context("the feed has ended")? {
            Message::Record(record) => Event::Record(record),
            Message::Reconcile { reason, seq } => Event::Reconcile { reason, seq },
            Message::Heartbeat { seq, time_ms } => Event::Heartbeat { seq, time_ms },
            Message::Error { sentence } => Event::Refused(sentence),
            other @ (Message::Hello(_) | Message::Status { .. }) => anyhow::bail!("nobody asked for {other:?}"),
        })
    }

    /// Says that the standby has everything up to `seq`. To be awaited to its end. A refusal comes as an event.
    pub async fn acknowledge(&mut self, seq: u64) -> anyhow::Result<()> {
        let position = Position { epoch: self.hello.epoch.id.clone(), seq };
        Ok(send(&mut self.write, &Request::Acknowledge { position }).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_written_as_people_would_type_them() {
        let status = serde_json::to_string(&Request::Status {}).unwrap();
        assert_eq!(status, r#"{"status":{}}"#);
        let subscribe = Request::Subscribe { standby: "b".into(), from: Some(Position { epoch: "e".into(), seq: 7 }) };
        let line = serde_json::to_string(&subscribe).unwrap();
        assert_eq!(line, r#"{"subscribe":{"standby":"b","from":{"epoch":"e","seq":7}}}"#);
        let from_the_start: Request = serde_json::from_str(r#"{"subscribe":{"standby":"b"}}"#).unwrap();
        assert_eq!(from_the_start, Request::Subscribe { standby: "b".into(), from: None });
    }

    #[test]
    fn a_standby_has_a_name_that_can_be_printed() {
        assert!(is_standby_name("b.example.net:2223") && is_standby_name(&"ü".repeat(STANDBY_NAME_MAX)));
        let too_long = "x".repeat(STANDBY_NAME_MAX + 1);
        assert!(["", "a\nb", "\u{7f}", &too_long].iter().all(|name| !is_standby_name(name)));
    }

    #[tokio::test]
    async fn what_is_sent_is_what_the_other_end_takes() {
        let sent = Message::Heartbeat { seq: u64::MAX, time_ms: -1 };
        let mut wire = Vec::new();
        send(&mut wire, &sent).await.unwrap();
        let mut lines = Lines::new(wire.as_slice(), MESSAGE_BYTES_MAX);
        assert_eq!(lines.next::<Message>().await.unwrap(), Some(sent));
        assert_eq!(lines.next::<Message>().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_line_past_the_limit_and_one_that_is_no_message_are_refused() {
        let long = vec![b' '; REQUEST_BYTES_MAX + 1];
        for garbage in [long.as_slice(), b"hello\n", b"{\"status\":{}} {}\n", b"\xff\n", b"\n"] {
            assert!(Lines::new(garbage, REQUEST_BYTES_MAX).next::<Request>().await.is_err());
        }
    }
}
