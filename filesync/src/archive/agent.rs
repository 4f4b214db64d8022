//! The running agent: look, judge, send, again and again, over whichever machine is the master.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::carrier::{Carrier, Failure};
use super::config::Config;
use super::door::{Door, NoWay, Session};
use super::folders::Selection;
use super::job::{End, Hands, Job};
use super::judge::{Inode, Judge, Judgement, inode, lost};
use super::progress::Progress;
use super::record::{Note, Record, Scribe};
use super::sight::Sight;
use super::status::Board;
use super::survey::{Rest, Survey, look};
use super::{recheck, removal};
use crate::status::now_s;
use crate::throttle::Throttle;

/// Refusals one after the other, after which it is waited before the next try.
const REFUSALS_MAX: u32 = 8;
/// Files in which what was on its way is looked for.
const FILES_MAX: usize = 1000;
/// How long the record of a file that is gone is kept, in seconds. Its text is known for ever.
const FORGET_S: i64 = 30 * 86_400;

/// The agent, ready to run.
pub struct Agent {
    config: Config,
    selections: Arc<Vec<Selection>>,
    scribe: Scribe,
    door: Door,
    throttle: Arc<Throttle>,
    board: Arc<Board>,
    state: PathBuf,
    /// What a look needs and hands on to the next one.
    eyes: Option<Eyes>,
    session: Option<Arc<Session>>,
    backoff: Backoff,
    /// Before then nothing is tried.
    not_before: Instant,
    refusals: u32,
    queue: VecDeque<Job>,
    sending: JoinSet<(Job, Result<End, Failure>)>,
    /// Files and texts in the queue and on their way.
    files: HashSet<Inode>,
    texts: HashSet<i64>,
    /// Files of which not all has arrived, and since when that is known.
    unsettled: HashMap<Inode, (Sight, i64)>,
    /// Folders that the last look has seen whole, by their names; before the first look none.
    seen: HashSet<String>,
    progress: Progress,
}

struct Eyes {
    /// A connection of its own: looking into files may take long, and what has arrived must be noted meanwhile.
    record: Record,
    rest: Rest,
}

impl Agent {
    /// An agent by its settings.
    pub fn new(config: Config, board: Arc<Board>) -> anyhow::Result<Agent> {
        let selections = Arc::new(config.selections()?);
        let eyes = Some(Eyes { record: Record::open(&config.record())?, rest: Rest::default() });
        let scribe = Scribe::start(Record::open(&config.record())?);
        let remembered = scribe.record().setting("host_keys")?;
        let remembered = remembered.map(|text| text.lines().map(str::to_owned).collect()).unwrap_or_default();
        board.change(|report| report.agent = config.agent.clone());
        Ok(Agent {
            door: Door::new(&config, remembered)?,
            throttle: Arc::new(Throttle::new(&config.windows()?)),
            state: config.state.clone(),
            selections,
            scribe,
            board,
            eyes,
            session: None,
            backoff: Backoff::default(),
            not_before: Instant::now(),
            refusals: 0,
            queue: VecDeque::new(),
            sending: JoinSet::new(),
            files: HashSet::new(),
            texts: HashSet::new(),
            unsettled: HashMap::new(),
            seen: HashSet::new(),
            progress: Progress::new(),
            config,
        })
    }

    /// Runs until `shutdown`. What is on its way then is gone on with at the next start.
    pub async fn run(mut self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        super::parcel::clean(&self.state, &self.scribe.record().intents()?).context("the folder of packed files")?;
        let mut next_look = Instant::now();
        loop {
            self.fill();
            let try_at = self.not_before.max(Instant::now());
            let wants_server = self.session.is_none() && self.sending.is_empty();
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(ended) = self.sending.join_next(), if !self.sending.is_empty() => {
                    let (job, outcome) = ended.context("a send broke off")?;
                    self.take_in(job, outcome).await;
                }
                () = tokio::time::sleep_until(next_look.into()) => {
                    let began = Instant::now();
                    self.look().await?;
                    self.tell().await;
                    next_look = began + self.config.interval.get();
                }
                () = tokio::time::sleep_until(try_at.into()), if wants_server || self.is_paused() => {
                    self.not_before = Instant::now();
                    if self.session.is_none() {
                        self.enter().await?;
                        self.tell().await;
                    }
                }
            }
        }
        self.progress.end();
        Ok(())
    }

    fn is_paused(&self) -> bool {
        self.not_before > Instant::now()
    }

    /// Starts as many sends as there is room for.
    fn fill(&mut self) {
        let Some(session) = self.session.clone().filter(|_| !self.is_paused()) else { return };
        while self.sending.len() < self.config.uploads_max
            && let Some(job) = self.queue.pop_front()
        {
            let (scribe, throttle, board) = (self.scribe.clone(), self.throttle.clone(), self.board.clone());
            let carrier = Carrier { session: session.clone(), scribe, throttle, board };
            let hands = Hands { carrier, selections: self.selections.clone(), state: self.state.clone() };
            self.sending.spawn(async move {
                let outcome = hands.do_it(job.clone()).await;
                (job, outcome)
            });
        }
        self.progress.show(&self.board, self.queue.len() + self.sending.len());
    }

    /// Takes in how a send went.
    async fn take_in(&mut self, job: Job, outcome: Result<End, Failure>) {
        let (file, text) = job.keys();
        self.files.remove(&file);
        text.map(|text| self.texts.remove(&text));
        let (path, bytes) = (job.path(&self.selections), job.bytes());
        match outcome {
            Ok(end) => {
                self.refusals = 0;
                self.backoff.reset();
                self.board.change(|report| drop(report.problems.remove(&path)));
                match end {
                    End::Arrived(bytes) => {
                        if let Some((_, since_s)) = self.unsettled.get_mut(&file) {
                            // What comes behind it waits from now on.
                            *since_s = now_s();
                        }
                        self.board.change(|report| {
                            report.files_sent += 1;
                            report.bytes_sent += bytes;
                            report.last_sent_s = Some(now_s());
                        });
                        self.progress.say(&format!("shipped {} ({bytes} bytes)", path.escape_debug()));
                    }
                    End::Changed => {}
                    End::Gone => self.lost(&path, bytes),
                }
            }
            Err(Failure::Lost(sentence)) => self.leave(&sentence),
            Err(Failure::Refused(sentence) | Failure::Own(sentence)) => {
                if self.board.problem(&path, &sentence) {
                    tracing::warn!("{}: {sentence}; it is tried again", path.escape_debug());
                }
                self.refusals += 1;
                if self.refusals >= REFUSALS_MAX || self.queue.is_empty() {
                    self.not_before = Instant::now() + self.backoff.after_failure(false, chance());
                }
            }
            // Both are dealt with where they are met.
            Err(Failure::Taken | Failure::Changed) => {}
        }
        let (files, bytes) = self.pending();
        self.board.change(|report| (report.files_pending, report.bytes_pending) = (files, bytes));
    }

    fn pending(&self) -> (u64, u64) {
        let bytes = self.queue.iter().map(Job::bytes).sum();
        ((self.queue.len() + self.sending.len()) as u64, bytes)
    }

    fn lost(&self, path: &str, bytes: u64) {
        tracing::warn!("{}: {bytes} bytes were gone before they had been sent", path.escape_debug());
        self.board.change(|report| report.files_lost += 1);
    }

    /// The connection is of no use any more.
    fn leave(&mut self, sentence: &str) {
        if let Some(session) = self.session.take() {
            tracing::warn!("{} does not take files any more: {sentence}", session.address);
            self.board.change(|report| report.connected_to = None);
        }
    }

    /// Connects, and finds out what of before is still to be done there. Nothing is on its way meanwhile.
    async fn enter(&mut self) -> anyhow::Result<()> {
        let last = self.scribe.record().setting("last_server")?;
        let session = match self.door.enter(last.as_deref()).await {
            Ok(session) => session,
            Err(NoWay { sentence, is_refused }) => {
                let wait = self.backoff.after_failure(is_refused, chance());
                self.not_before = Instant::now() + wait;
                let before = self.board.report().no_way;
                if before.as_deref() != Some(&sentence) {
                    tracing::warn!("{sentence}; the next try is in {} s", wait.as_secs_f64().ceil());
                }
                self.board.change(|report| (report.no_way, report.connected_to) = (Some(sentence), None));
                return Ok(());
            }
        };
        if let Err(sentence) = self.settle(&session, last.as_deref()).await {
            self.not_before = Instant::now() + self.backoff.after_failure(false, chance());
            tracing::warn!("{}: {sentence}", session.address);
            self.board.change(|report| report.no_way = Some(format!("{}: {sentence}", session.address)));
            return Ok(());
        }
        tracing::info!("ships to {}", session.address);
        let address = session.address.clone();
        self.board.change(|report| (report.no_way, report.connected_to) = (None, Some(address)));
        self.session = Some(Arc::new(session));
        self.queue_left()
    }

    async fn settle(&mut self, session: &Session, last: Option<&str>) -> Result<(), String> {
        // The same address may have lost the place and got it back meanwhile, or lead to another machine.
        let last_epoch = self.scribe.record().setting("last_epoch").map_err(|error| error.to_string())?;
        let has_moved = last_epoch.is_some() && session.epoch.is_some() && last_epoch != session.epoch;
        if last.is_some_and(|last| last != session.address) || has_moved {
            // What waits was judged by what the record said before, which changes also where this breaks off.
            self.queue.clear();
            (self.files, self.texts) = (HashSet::new(), HashSet::new());
            let sights = self.unsettled.values().map(|(sight, _)| sight.clone()).collect();
            let lost = recheck::recheck(session, &self.scribe, &self.selections, sights).await?;
            self.board.change(|report| report.files_lost += lost);
        }
        self.scribe.note(Note::Setting("last_server", session.address.clone())).await?;
        if let Some(epoch) = &session.epoch {
            self.scribe.note(Note::Setting("last_epoch", epoch.clone())).await?;
        }
        self.scribe.note(Note::Setting("host_keys", self.door.remembered().join("\n"))).await?;
        Ok(())
    }

    /// Queues what was on its way, unless it is already; what lies in a folder that cannot be seen now waits for that.
    fn queue_left(&mut self) -> anyhow::Result<()> {
        let intents = self.scribe.record().intents()?;
        for intent in intents {
            let file = (intent.stamp.ino, intent.stamp.btime_ns);
            let is_known = self.files.contains(&file) || self.texts.contains(&intent.text);
            if is_known || !self.seen.contains(&intent.folder) {
                continue;
            }
            let may_hold = self.unsettled.iter().filter(|(_, (sight, _))| sight.stamp.size >= intent.to);
            let mut files: Vec<Sight> = may_hold.map(|(_, (sight, _))| sight.clone()).collect();
            files.sort_by_key(|sight| (!sight.stamp.is_same_file(&intent.stamp), sight.stamp.size));
            files.truncate(FILES_MAX);
            self.files.insert(file);
            self.texts.insert(intent.text);
            self.queue.push_front(Job::Left(Box::new(intent), files));
        }
        Ok(())
    }

    /// Looks at the folders, and queues what is to be sent.
    async fn look(&mut self) -> anyhow::Result<()> {
        if self.session.as_ref().is_some_and(|session| session.client.is_lost()) {
            self.leave("the connection is gone");
        }
        let Some(mut eyes) = self.eyes.take() else { return Ok(()) };
        let (selections, quiet) = (self.selections.clone(), self.config.quiet.get());
        let (busy, on_the_way) = (self.texts.clone(), self.files.clone());
        let continues = self.session.as_ref().is_none_or(|session| session.continues());
        let before = std::mem::take(&mut self.unsettled);
        let looked = tokio::task::spawn_blocking(move || {
            let survey = look(&selections);
            let now = Instant::now();
            eyes.rest.note(&survey.sights, now);
            let Eyes { record, rest } = &eyes;
            let judge =
                Judge { selections: &selections, record, rest, quiet, continues, busy: &busy, on_the_way: &on_the_way };
            let judgement = judge.judge(&survey, now)?;
            record.forget_missing(now_s() - FORGET_S)?;
            let lost = lost(&eyes.record, &survey, &before)?;
            Ok::<_, anyhow::Error>((eyes, survey, judgement, before, lost))
        });
        let (eyes, survey, judgement, before, lost) = looked.await.context("a look broke off")??;
        self.eyes = Some(eyes);
        for sight in lost {
            let bytes = sight.stamp.size;
            self.lost(&Job::Found(sight, None).path(&self.selections), bytes);
        }
        self.take_down(survey, judgement, &before).await
    }

    async fn take_down(
        &mut self,
        survey: Survey,
        judgement: Judgement,
        before: &HashMap<Inode, (Sight, i64)>,
    ) -> anyhow::Result<()> {
        let whole = survey.whole.iter().filter_map(|folder| self.selections.get(*folder));
        self.seen = whole.map(|folder| folder.name.clone()).collect();
        let Judgement { jobs, notes, settled, resting, unsettled, problems } = judgement;
        for note in notes {
            self.scribe.note(note).await.map_err(anyhow::Error::msg)?;
        }
        let now = now_s();
        let since = |sight: &Sight| before.get(&inode(sight)).map_or(now, |(_, since_s)| *since_s);
        self.unsettled = unsettled.into_iter().map(|sight| (inode(&sight), (sight.clone(), since(&sight)))).collect();
        for (sight, text) in jobs {
            let file = inode(&sight);
            text.as_ref().map(|text| self.texts.insert(text.id));
            if self.files.insert(file) {
                self.queue.push_back(Job::Found(sight, text.map(Box::new)));
            }
        }
        if self.session.is_some() {
            self.queue_left()?;
        }
        let (files, bytes) = self.pending();
        let (seen, done) = (survey.sights.len() as u64, settled.len() as u64);
        let oldest =
            self.queue.iter().filter_map(|job| self.unsettled.get(&job.keys().0)).map(|(_, since_s)| *since_s).min();
        let mut wrong: Vec<(String, String)> = survey.problems;
        wrong.extend(problems);
        self.board.change(|report| {
            (report.files_seen, report.files_settled, report.files_resting) = (seen, done, resting);
            (report.files_pending, report.bytes_pending, report.oldest_pending_s) = (files, bytes, oldest);
        });
        let paths: HashSet<String> = self.queue.iter().map(|job| job.path(&self.selections)).collect();
        self.board.change(|report| report.problems.retain(|path, _| paths.contains(path)));
        for (path, sentence) in wrong {
            if self.board.problem(&path, &sentence) {
                tracing::warn!("{}: {sentence}", path.escape_debug());
            }
        }
        self.remove_due(settled).await;
        Ok(())
    }

    async fn remove_due(&mut self, settled: Vec<(Sight, i64)>) {
        let Some(session) = self.session.clone() else { return };
        for sight in removal::due(settled, &self.selections) {
            let path = Job::Found(sight.clone(), None).path(&self.selections);
            match removal::remove(sight, &session, &self.scribe, &self.selections).await {
                Ok(true) => {
                    self.board.change(|report| report.files_removed += 1);
                    tracing::info!("{}: removed here; it is in the archive", path.escape_debug());
                }
                Ok(false) => {}
                Err(sentence) => {
                    self.board.problem(&path, &sentence);
                    tracing::warn!("{}: {sentence}", path.escape_debug());
                }
            }
        }
    }

    /// Writes the report down for `status`.
    async fn tell(&self) {
        let report = serde_json::to_string(&self.board.report()).unwrap_or_default();
        if let Err(sentence) = self.scribe.note(Note::Setting("report", report)).await {
            tracing::warn!("{sentence}");
        }
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    let drawn = pair::epoch::draw().unwrap_or_default();
    let number = drawn.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    number.map_or(1.0, |number| f64::from(number) / f64::from(u32::MAX))
}
