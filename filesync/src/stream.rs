//! Follows the feed for one standby: every change reaches it at once, beside the passes.
//!
//! Always holds: what is acknowledged is on the standby's disk, or is shown as a problem; what is left to a pass without
//! being a problem is acknowledged after that pass. The position is kept in the store before it is told. Without a feed (sftpd is away, or tells of what cannot be had any
//! more) the passes go on alone, and what is behind is said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use pair::epoch::Reached;
use pair::extension::REACHED;
use pair::feed::{Event, Subscription};
use pair::record::{Operation, Position, Record};

use crate::courier::Courier;
use crate::fault::Fault;
use crate::follower::Follower;
use crate::lane::{Job, Lane};
use crate::listing::Problem;
use crate::remote::Grade;
use crate::tree::Path;

mod apply;
mod claims;
mod left;
mod queue;

use apply::{Applier, Outcome};
pub use claims::Claims;
use claims::Told;
pub use left::{AtBegin, Left};
pub use queue::Behind;
use queue::{Queue, paths_of};

/// Changes that are being made at once; most are files in flight.
const CHANGES_MAX: usize = 48;
/// Changes that wait; past it no more are read from the feed.
const WAITING_MAX: usize = 8192;
/// How often a position is kept and told, while it moves.
const ACKNOWLEDGE: Duration = Duration::from_millis(100);
/// How often the standby is told how far it has come, while changes are on their way.
const TELL_STANDBY: Duration = Duration::from_millis(500);
/// How long a feed that cannot be had is left alone.
const PAUSE: Duration = Duration::from_secs(1);
/// How long it may stay unknown where something is that was told of.
const GONE_MAX: Duration = Duration::from_secs(2);
/// A feed that says nothing for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Why following has ended.
enum End {
    /// The feed is gone.
    Feed(String),
    /// The connection to the standby is.
    Standby(String),
}

/// How often a change is made whose paths change meanwhile.
const TRIES_MAX: u32 = 5;

/// A change, how often it was tried, and how it went the last time.
type Ended = (Record, u32, Result<Outcome, Fault>);

/// What the changes are made with.
struct Context<'a> {
    follower: &'a Follower,
    courier: &'a Courier,
    lane: &'a Lane,
    applier: Applier<'a>,
    /// When this connection was made.
    connected: Instant,
}

/// Where following has come to.
struct Progress {
    queue: Queue,
    /// Keeps passes away from the paths of changes that are not over.
    told: BTreeMap<u64, Arc<Told>>,
    epoch: String,
    /// The run of the master's journal.
    run: String,
    /// What was kept last.
    acknowledged: u64,
    /// What the standby was told that it has, and when.
    told_standby: Option<(u64, Instant)>,
    /// Only a pass that begins after this, and sees everything, covers what the feed does not tell.
    needs_pass_after: Option<Instant>,
}

/// Follows for ever; comes back with the reason when the standby's connection is lost.
pub async fn follow(follower: &Follower, courier: &Courier, lane: &Lane, connected: Instant) -> String {
    let applier = Applier::new(courier, follower.store());
    let context = Context { follower, courier, lane, applier, connected };
    loop {
        let reason = match context.subscribe().await {
            Ok((mut subscription, mut progress)) => match context.run(&mut subscription, &mut progress).await {
                End::Standby(sentence) => return sentence,
                End::Feed(reason) => reason,
            },
            Err(error) => format!("{error:#}"),
        };
        follower.board.feed_lost(&reason);
        tokio::time::sleep(PAUSE).await;
    }
}

impl Context<'_> {
    async fn subscribe(&self) -> anyhow::Result<(Subscription, Progress)> {
        // The courier has opened the folder meanwhile: changes are not brought from another disk.
        self.follower.check_volume().await.map_err(anyhow::Error::msg)?;
        let from = self.follower.stored(|store, _| store.position()).await.map_err(anyhow::Error::msg)?;
        let socket = pair::feed::path(self.follower.state());
        let subscribed = Subscription::connect(&socket, self.follower.name(), from.clone());
        let subscribed = tokio::time::timeout(SILENCE_MAX, subscribed).await;
        let subscription = subscribed.unwrap_or_else(|_| anyhow::bail!("the feed does not answer"))?;
        let hello = subscription.hello();
        let (epoch, run, began_after) = (hello.epoch.id.clone(), hello.run.clone(), hello.began_after);
        let known = from.filter(|from| from.epoch == epoch).map(|from| from.seq);
        let seq = known.unwrap_or(if subscription.is_new_epoch() { began_after } else { 0 });
        let (queue, told, acknowledged) = (Queue::new(seq), BTreeMap::new(), seq);
        let mut progress =
            Progress { queue, told, epoch, run, acknowledged, told_standby: None, needs_pass_after: None };
        if subscription.is_new_epoch() {
            tracing::info!("standby {}: a new epoch has begun: both sides are compared", self.follower.name());
            self.compare(&mut progress);
        }
        Ok((subscription, progress))
    }

    async fn run(&self, subscription: &mut Subscription, progress: &mut Progress) -> End {
        let (mut running, mut large) = (FuturesUnordered::new(), FuturesUnordered::new());
        let mut telling = FuturesUnordered::new();
        let mut acknowledge = tokio::time::interval(ACKNOWLEDGE);
        let mut heard = tokio::time::Instant::now();
        acknowledge.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let end = loop {
            while running.len() < CHANGES_MAX
                && let Some(record) = progress.queue.take()
            {
                running.push(self.make(record, progress));
            }
            self.show(progress);
            let has_room = progress.queue.len() < WAITING_MAX;
            if !has_room {
                // It is not asked, so its silence says nothing.
                heard = tokio::time::Instant::now();
            }
            let done: Ended = tokio::select! {
                event = tokio::time::timeout_at(heard + SILENCE_MAX, subscription.next()), if has_room => {
                    heard = tokio::time::Instant::now();
                    let event = event.unwrap_or_else(|_| Err(anyhow::anyhow!("the feed is silent")));
                    match event {
                        Ok(event) => {
                            self.take_in(event, progress);
                            continue;
                        }
                        Err(error) => break End::Feed(format!("{error:#}")),
                    }
                }
                Some(done) = running.next(), if !running.is_empty() => done,
                Some(done) = large.next(), if !large.is_empty() => done,
                _ = acknowledge.tick() => match self.acknowledge(subscription, progress).await {
                    Ok(news) => {
                        // Nothing waits for its answer.
                        telling.extend(news.filter(|_| telling.is_empty()).map(|news| self.tell_standby(news)));
                        continue;
                    }
                    Err(end) => break end,
                },
                Some(told) = telling.next(), if !telling.is_empty() => match told {
                    Ok(seq) => {
                        progress.told_standby = Some((seq, Instant::now()));
                        continue;
                    }
                    Err(sentence) => break End::Standby(sentence),
                },
            };
            match done {
                (record, tries, Ok(Outcome::Large(path, job))) => {
                    large.push(self.bring_large(record, tries, path, job));
                }
                (_, _, Err(Fault::Lost(error))) => break End::Standby(error.to_string()),
                (record, _, outcome) => self.finish(&record, outcome.err(), progress).await,
            }
        };
        // What is under way has handles open on the standby: it comes to its end while the connection lasts.
        while let End::Feed(_) = end
            && let Some((_, _, outcome)) = running.next().await
        {
            if let Err(Fault::Lost(error)) = outcome {
                return End::Standby(error.to_string());
            }
        }
        end
    }

    fn take_in(&self, event: Event, progress: &mut Progress) {
        match event {
            Event::Record(record) => {
                if record.op == Operation::Mark {
                    // Something before it may never have been told.
                    self.compare(progress);
                }
                let (seq, age, paths) = (record.seq, age_of(record.time_ms), paths_of(&record));
                // A large file that still waits there must not hold this up: who waits for it looks again.
                match record.op {
                    Operation::Rename | Operation::Remove | Operation::Rmdir => {
                        paths.iter().for_each(|path| self.lane.forget(path, true));
                    }
                    Operation::Put | Operation::Link => paths.iter().for_each(|path| self.lane.forget(path, false)),
                    _ => {}
                }
                let is_alone = matches!(record.op, Operation::Mkdir | Operation::Setattr);
                progress.told.insert(seq, Arc::new(self.follower.claims.tell(paths, is_alone)));
                for void in progress.queue.admit(*record, age) {
                    progress.told.remove(&void);
                }
            }
            Event::Reconcile { reason, seq } => {
                tracing::info!("standby {}: {reason}: both sides are compared", self.follower.name());
                progress.queue.pass(seq);
                self.compare(progress);
            }
            Event::Heartbeat { seq, .. } => progress.queue.pass(seq),
            // A position that the feed has noted already, after ours was lost: it goes on from there by itself.
            Event::Refused(sentence) => tracing::debug!(sentence, "the feed refuses"),
        }
    }

    fn compare(&self, progress: &mut Progress) {
        progress.needs_pass_after = Some(Instant::now());
        self.follower.pass_wanted.notify_one();
    }

    /// Makes a change, once no step of a pass is under way there.
    fn make(&self, record: Record, progress: &Progress) -> impl Future<Output = Ended> + use<'_> {
        let told = progress.told.get(&record.seq).cloned();
        async move {
            if let Some(told) = told {
                told.alone().await;
            }
            self.try_to_make(record, 0).await
        }
    }

    /// Makes a change as things are now; once more where they change meanwhile.
    async fn try_to_make(&self, record: Record, mut tries: u32) -> Ended {
        loop {
            tries += 1;
            match self.applier.apply(&record).await {
                Err(Fault::Changed) if tries < TRIES_MAX => {}
                outcome => return (record, tries, outcome),
            }
        }
    }

    async fn bring_large(&self, record: Record, tries: u32, path: Path, job: Job) -> Ended {
        // Only what waits in the lane is let go of there, so it is looked for again once it does.
        let look_again = async {
            if let Ok(None) = self.applier.look(&path).await {
                self.lane.forget(&path, false);
            }
        };
        let (brought, ()) = futures::join!(self.lane.bring(path.clone(), job), look_again);
        match brought {
            Err(Fault::Changed) if tries < TRIES_MAX => self.try_to_make(record, tries).await,
            // Its old name is still to go.
            Ok(()) if record.op == Operation::Rename => self.try_to_make(record, tries).await,
            done => (record, tries, done.map(|()| Outcome::Done)),
        }
    }

    /// A change is over, or left to the next pass: it is shown, and holds up nothing.
    async fn finish(&self, record: &Record, fault: Option<Fault>, progress: &mut Progress) {
        tracing::debug!(seq = record.seq, op = record.op.name(), ?fault, "{}", crate::tree::shown(&record.path.0));
        progress.queue.finish(record.seq);
        let Some(told) = progress.told.remove(&record.seq) else { return };
        let Some(fault) = fault else { return };
        self.follower.left.add(told.paths());
        if let Operation::Remove | Operation::Rmdir | Operation::Rename = record.op {
            // A pass then needs nobody's approval to remove it.
            let path = record.path.0.clone();
            if let Err(error) = self.follower.stored(move |store, _| store.add_gone(&path)).await {
                tracing::warn!("standby {}: {error}", self.follower.name());
            }
        }
        match fault {
            // Nobody is told of it, so the standby is behind until a pass has brought it.
            Fault::Changed => self.compare(progress),
            fault => {
                let problem = Problem { path: record.path.0.clone(), sentence: fault.in_words() };
                self.follower.show_problem(problem).await;
                self.follower.pass_wanted.notify_one();
            }
        }
    }

    /// Keeps how far the standby is, then tells the feed. Gives what the standby is to hear.
    async fn acknowledge(
        &self,
        subscription: &mut Subscription,
        progress: &mut Progress,
    ) -> Result<Option<Reached>, End> {
        if self.applier.forget_gone(GONE_MAX) || self.applier.take_unsure() {
            // Some other hand has moved or removed what was uploaded: nobody tells where it is.
            self.compare(progress);
        }
        if let Some(since) = progress.needs_pass_after {
            if self.follower.board.covered_since().is_none_or(|began| began < since) {
                return Ok(None);
            }
            progress.needs_pass_after = None;
        }
        // What is not where it was told to be is not on the standby yet.
        let seq = progress.queue.done().min(self.applier.known_before());
        let news = self.news_for_standby(seq, progress);
        // What the standby does not know that it has is not forgotten here, for it may become the master.
        let seq = seq.min(progress.told_standby.map_or(u64::MAX, |(told, _)| told));
        if seq <= progress.acknowledged {
            return Ok(news);
        }
        self.courier.ledger.flush().await.map_err(End::Standby)?;
        let position = Position { epoch: progress.epoch.clone(), seq };
        self.follower.stored(move |store, _| store.keep_position(&position)).await.map_err(End::Standby)?;
        progress.acknowledged = seq;
        subscription.acknowledge(seq).await.map_err(|error| End::Feed(format!("{error:#}")))?;
        Ok(news)
    }

    /// What the standby is to hear of how far it has come: at once where nothing is on its way, else now and then.
    fn news_for_standby(&self, seq: u64, progress: &Progress) -> Option<Reached> {
        let is_due = progress
            .told_standby
            .is_none_or(|(told, at)| told < seq && (progress.queue.len() == 0 || at.elapsed() > TELL_STANDBY));
        // What could not be brought is behind this machine's number, but not on the standby: as its successor that one must not claim it.
        let lacks = self.follower.board.report().problems > 0;
        if self.courier.remote.grade != Grade::Pair || lacks || !is_due || !self.is_current(progress) {
            return None;
        }
        Some(Reached { epoch: progress.epoch.clone(), run: progress.run.clone(), seq })
    }

    /// Tells the standby, which writes it down.
    async fn tell_standby(&self, reached: Reached) -> Result<u64, String> {
        let body = serde_json::to_vec(&reached).map_err(|error| error.to_string())?;
        let told = self.courier.remote.client.extended_order(REACHED, &body).await;
        told.map(|()| reached.seq).map_err(|error| format!("does not take how far it has come: {error}"))
    }

    /// Whether what the feed tells is all that the standby may lack. Before a pass has compared both sides over this connection the
    /// standby may be another one than it was.
    fn is_current(&self, progress: &Progress) -> bool {
        let is_compared = self.follower.board.covered_since().is_some_and(|since| since >= self.connected);
        is_compared && progress.needs_pass_after.is_none()
    }

    fn show(&self, progress: &Progress) {
        let is_current = self.is_current(progress);
        self.follower.board.feed(progress.queue.behind(), is_current);
        let heard = Some(Position { epoch: progress.epoch.clone(), seq: progress.queue.last() });
        self.follower.heard.send_if_modified(|known| {
            let is_news = *known != heard;
            *known = heard;
            is_news
        });
    }
}

fn age_of(time_ms: i64) -> Duration {
    let age_ms = jiff::Timestamp::now().as_millisecond().saturating_sub(time_ms);
    Duration::from_millis(age_ms.max(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_time_to_come_has_no_age() {
        let to_come = jiff::Timestamp::now().as_millisecond() + 3_600_000;
        assert_eq!(age_of(to_come), Duration::ZERO);
        assert!(age_of(to_come - 7_200_000) >= Duration::from_secs(3590));
    }
}
