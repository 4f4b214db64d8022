//! Serves the feed on a socket in the state folder: what was done on the volume, to whoever subscribes on this machine.
//!
//! A subscriber gets every change after its position, in order, or is told to reconcile: nothing is left out in
//! silence. It is served from the journal, a batch at a time, so one that reads slowly costs a batch of memory and
//! holds nobody. What is in the journal, and how long, is the journal's affair.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use pair::exit::usage;
use pair::feed::{
    Hello, Lines, Message, REQUEST_BYTES_MAX, Request, STANDBY_NAME_MAX, Standby, is_standby_name, path, send,
};
use pair::record::{Position, Record};
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::daemon::Daemon;
use crate::local_socket;
use crate::storage::Chapter;

/// How long nothing is said before a heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Records that are read from the journal at once.
const BATCH: usize = 500;
/// Connections at once; one more is closed.
const CONNECTIONS_MAX: usize = 100;
/// Answers that wait for a client to read; then its requests wait.
const ANSWERS_MAX: usize = 16;
/// How long a client that says nothing more may take to read what it is owed.
const GOODBYE: Duration = Duration::from_secs(5);

/// Where the changes come from.
pub trait Source: Send + Sync + 'static {
    /// What the numbers belong to. Whoever follows begins anew when that changes.
    fn chapters(&self) -> watch::Receiver<Arc<Chapter>>;
    /// The machine, as in its `node.yaml`.
    fn node(&self) -> String;
    /// The last `seq` all of whose predecessors are decided.
    fn decided(&self) -> watch::Receiver<u64>;
    /// Comes back when all that has happened before is decided, if that can be. Blocks.
    fn settle(&self);
    /// The oldest `seq` from which on nothing was dropped; one past the decided one where nothing is kept. Raised with
    /// or before the drop, never after: else a subscriber that reads in between misses records in silence. Blocks.
    fn first_seq(&self) -> anyhow::Result<u64>;
    /// What was done after `seq`, up to the decided one, in order: all of it if that is less than `max`. Blocks.
    fn records_after(&self, seq: u64, max: usize) -> anyhow::Result<Vec<Record>>;
    /// Notes that a standby has everything up to `seq`. Blocks.
    fn acknowledge(&self, standby: &str, seq: u64) -> anyhow::Result<()>;
    /// What the standbys have: name, `seq`, and when they said so in milliseconds since 1970. Blocks.
    fn acknowledgements(&self) -> anyhow::Result<Vec<(String, u64, i64)>>;
}

impl Source for Daemon {
    fn chapters(&self) -> watch::Receiver<Arc<Chapter>> {
        self.volume.chapters()
    }

    fn node(&self) -> String {
        self.roles.now().node.node.clone()
    }

    fn decided(&self) -> watch::Receiver<u64> {
        self.volume.decided()
    }

    fn settle(&self) {
        // A volume that is read-only decides nothing more.
        let _ = futures::executor::block_on(self.volume.decide_all());
    }

    fn first_seq(&self) -> anyhow::Result<u64> {
        self.volume.first_seq()
    }

    fn records_after(&self, seq: u64, max: usize) -> anyhow::Result<Vec<Record>> {
        self.volume.records_after(seq, max)
    }

    fn acknowledge(&self, standby: &str, seq: u64) -> anyhow::Result<()> {
        Ok(self.volume.acknowledge(standby, seq)?)
    }

    fn acknowledgements(&self) -> anyhow::Result<Vec<(String, u64, i64)>> {
        self.volume.acknowledgements()
    }
}

/// Makes the socket, in place of one that a dead daemon has left.
pub fn bind(state: &Path) -> anyhow::Result<UnixListener> {
    let path = path(state);
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        return Err(usage(format!("{} is served: another sftpd runs on this state folder", path.display())));
    }
    local_socket::bind(&path).with_context(|| format!("cannot serve the feed on {}", path.display()))
}

/// Serves until `shutdown`; then every connection ends at once, since a subscriber can always ask again.
pub async fn serve(source: Arc<dyn Source>, listener: UnixListener, shutdown: CancellationToken) {
    let feed = Arc::new(Feed { source, acknowledging: Mutex::new(()) });
    local_socket::serve(listener, "feed", CONNECTIONS_MAX, shutdown, |stream| connection(feed.clone(), stream)).await;
}

/// Requests are taken while answers are written: else a client that acknowledges and a server that sends could wait
/// for each other for ever.
async fn connection(feed: Arc<Feed>, stream: UnixStream) {
    let (read, write) = stream.into_split();
    let (answers, answered) = mpsc::channel(ANSWERS_MAX);
    let requests = async {
        take_requests(&feed, read, answers).await;
        tokio::time::sleep(GOODBYE).await;
    };
    let ended = tokio::select! {
        ended = write_answers(&feed, write, answered) => ended,
        () = requests => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(error = format!("{error:#}"), "a connection to the feed ended");
    }
}

/// What the writer of a connection is to do.
enum Answer {
    Send(Message),
    Follow(Option<Position>),
}

fn refusal(sentence: impl std::fmt::Display) -> Message {
    Message::Error { sentence: sentence.to_string() }
}

/// Ends when the client is done, or has said something that makes no sense: that is answered before the end.
async fn take_requests(feed: &Arc<Feed>, read: OwnedReadHalf, answers: mpsc::Sender<Answer>) {
    let mut lines = Lines::new(read, REQUEST_BYTES_MAX);
    let mut standby = None;
    loop {
        let taken = match lines.next().await {
            Ok(Some(request)) => feed.take(request, &mut standby).await,
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let (answer, goes_on) = match taken {
            Ok(answer) => (answer, true),
            Err(error) => (Some(Answer::Send(refusal(format!("{error:#}")))), false),
        };
        if let Some(answer) = answer
            && answers.send(answer).await.is_err()
        {
            return;
        }
        if !goes_on {
            return;
        }
    }
}

/// Ends when no more answers can come, or nobody reads them.
async fn write_answers(
    feed: &Arc<Feed>,
    write: OwnedWriteHalf,
    mut answers: mpsc::Receiver<Answer>,
) -> anyhow::Result<()> {
    let mut write = BufWriter::new(write);
    let mut decided = feed.source.decided();
    let mut sent: Option<u64> = None;
    let mut chapters = feed.source.chapters();
    send(&mut write, &feed.blocking(Feed::hello).await?).await?;
    loop {
        write.flush().await?;
        let heartbeat = Instant::now() + HEARTBEAT;
        tokio::select! {
            answer = answers.recv() => match answer {
                Some(Answer::Send(message)) => send(&mut write, &message).await?,
                Some(Answer::Follow(from)) => {
                    let (seq, reconcile) = feed.blocking(move |feed| Ok(feed.start(from.as_ref()))).await?;
                    if let Some(message) = reconcile {
                        send(&mut write, &message).await?;
                    }
                    sent = Some(seq);
                }
                None => return Ok(()),
            },
            seq = behind(&mut decided, sent) => {
                let seq = seq?;
                let (now_sent, messages) = match feed.blocking(move |feed| feed.batch(seq)).await {
                    Ok(batch) => batch,
                    Err(error) => {
                        send(&mut write, &refusal(format!("{error:#}"))).await?;
                        return Ok(write.flush().await?);
                    }
                };
                for message in messages {
                    send(&mut write, &message).await?;
                }
                sent = Some(now_sent);
            }
            _ = chapters.changed() => return Ok(()),
            () = tokio::time::sleep_until(heartbeat) => {
                if let Some(seq) = sent {
                    send(&mut write, &Message::Heartbeat { seq, time_ms: now_ms() }).await?;
                }
            }
        }
    }
}

/// Waits until there is more than what was sent, and says what was sent. For ever where nobody has subscribed.
async fn behind(decided: &mut watch::Receiver<u64>, sent: Option<u64>) -> anyhow::Result<u64> {
    let Some(seq) = sent else { return std::future::pending().await };
    decided.wait_for(|decided| *decided > seq).await.context("the journal is closed")?;
    Ok(seq)
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// What all connections share.
struct Feed {
    source: Arc<dyn Source>,
    /// Held from looking at a standby's last acknowledgement to noting the next.
    acknowledging: Mutex<()>,
}

impl Feed {
    /// Runs what may wait for the disk where no session waits with it.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Feed>,
        work: impl FnOnce(&Feed) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let feed = self.clone();
        let worked = tokio::task::spawn_blocking(move || work(&feed)).await.context("a bug in the journal")?;
        worked.inspect_err(|error| tracing::error!(error = format!("{error:#}"), "the feed cannot be served"))
    }

    fn chapter(&self) -> Arc<Chapter> {
        self.source.chapters().borrow().clone()
    }

    fn last_seq(&self) -> u64 {
        *self.source.decided().borrow()
    }

    fn hello(&self) -> anyhow::Result<Message> {
        let (chapter, node, first_seq) = (self.chapter(), self.source.node(), self.source.first_seq()?);
        let (epoch, run, began_after) = (chapter.epoch.clone(), chapter.lineage.run().to_owned(), chapter.began_after);
        Ok(Message::Hello(Hello { epoch, run, began_after, first_seq, last_seq: self.last_seq(), node }))
    }

    /// Does what a client asks. An error ends the connection.
    async fn take(self: &Arc<Feed>, request: Request, standby: &mut Option<String>) -> anyhow::Result<Option<Answer>> {
        match (request, standby.as_ref()) {
            (Request::Status {}, _) => Ok(Some(Answer::Send(self.blocking(Feed::status).await?))),
            (Request::Subscribe { .. }, Some(name)) => anyhow::bail!("this connection has subscribed for {name}"),
            (Request::Subscribe { standby: name, .. }, None) if !is_standby_name(&name) => {
                anyhow::bail!("a standby's name has 1 to {STANDBY_NAME_MAX} printable characters")
            }
            (Request::Subscribe { standby: name, from }, None) => {
                *standby = Some(name);
                Ok(Some(Answer::Follow(from)))
            }
            (Request::Acknowledge { .. }, None) => anyhow::bail!("subscribe first, then acknowledge"),
            (Request::Acknowledge { position }, Some(name)) => {
                let name = name.clone();
                let refused = self.blocking(move |feed| feed.acknowledge(&name, &position)).await?;
                Ok(refused.map(|sentence| Answer::Send(refusal(sentence))))
            }
        }
    }

    fn status(&self) -> anyhow::Result<Message> {
        self.source.settle();
        let standbys = self.source.acknowledgements()?.into_iter();
        let standbys = standbys.map(|(name, seq, time_ms)| Standby { name, seq, time_ms }).collect();
        Ok(Message::Status { epoch: self.chapter().epoch.clone(), last_seq: self.last_seq(), standbys })
    }

    /// Notes an acknowledgement, or says why not.
    fn acknowledge(&self, standby: &str, position: &Position) -> anyhow::Result<Option<String>> {
        let _turn = self.acknowledging.lock().unwrap_or_else(PoisonError::into_inner);
        let (epoch, last, seq) = (self.chapter().epoch.id.clone(), self.last_seq(), position.seq);
        if position.epoch != epoch {
            return Ok(Some(format!("{seq} of epoch {} is not of this feed: its epoch is {epoch}", position.epoch)));
        }
        if seq > last {
            return Ok(Some(format!("{seq} cannot be acknowledged: the last change is {last}")));
        }
        let before = self.source.acknowledgements()?.into_iter().find(|(name, ..)| name == standby);
        if let Some((_, before, _)) = before.filter(|(_, before, _)| *before > seq) {
            return Ok(Some(format!("{standby} has acknowledged {before}: {seq} would take that back")));
        }
        self.source.acknowledge(standby, seq)?;
        Ok(None)
    }

    /// Where a subscriber starts, and what it must be told first. Whether its position is too old shows in `batch`.
    fn start(&self, from: Option<&Position>) -> (u64, Option<Message>) {
        let (chapter, last) = (self.chapter(), self.last_seq());
        let epoch = &chapter.epoch;
        let reason = match from {
            // The first epoch starts with the volume; a later one knows nothing of what was there before.
            None if epoch.parent.is_some() => "what was there before this epoch is not in its records".to_owned(),
            None => return (0, None),
            Some(from) if from.epoch != epoch.id => format!("epoch {} is not this one, {}", from.epoch, epoch.id),
            Some(from) if from.seq > last => format!("{} is newer than the last change, {last}", from.seq),
            Some(from) => return (from.seq, None),
        };
        (last, Some(Message::Reconcile { reason, seq: last }))
    }

    /// What to send to one that has everything up to `sent`, and what it has then.
    fn batch(&self, sent: u64) -> anyhow::Result<(u64, Vec<Message>)> {
        // Looked at before the records are read: what is decided meanwhile may not be among them.
        let last = self.last_seq();
        let records = self.source.records_after(sent, BATCH)?;
        // Looked at after: what is dropped meanwhile may be missing among them.
        let first = self.source.first_seq()?;
        if first > sent.saturating_add(1) {
            let reason = format!("the changes after {sent} are not kept: the oldest is {first}");
            return Ok((last, vec![Message::Reconcile { reason, seq: last }]));
        }
        let last_read = records.last().map_or(sent, |record| record.seq);
        let now_sent = if records.len() < BATCH { last.max(last_read) } else { last_read };
        let mut messages: Vec<_> = records.into_iter().map(|record| Message::Record(Box::new(record))).collect();
        if now_sent > last_read {
            // The last changes came to nothing: who waits for them hears so.
            messages.push(Message::Heartbeat { seq: now_sent, time_ms: now_ms() });
        }
        Ok((now_sent, messages))
    }
}

#[cfg(test)]
mod tests;
