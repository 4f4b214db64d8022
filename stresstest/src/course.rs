//! The course of one run, from the first look to the last removal. Whatever fails on the way, what was made is removed again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt;
use indicatif::BinaryBytes;
use pair::client::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::content::Contents;
use crate::files::Files;
use crate::identity::RunId;
use crate::inspection::Inspection;
use crate::leftovers::{self, Leftover, Leftovers};
use crate::load::Load;
use crate::plan::{Plan, Verify};
use crate::progress::Phase;
use crate::report::Ending;
use crate::server::Server;
use crate::standby::Standby;
use crate::tally::Tally;
use crate::trouble::Trouble;

mod record;

/// The mode of a run's folders.
const FOLDER_MODE: u32 = 0o750;
/// Folders that are made at a time.
const FOLDERS_AT_A_TIME: usize = 16;
/// How long the target is left in peace after the load, while files are on their way to the standby: reading everything back
/// would make them late.
const SETTLE: Duration = Duration::from_secs(10);
/// How long a standby may take to let the account in, and from one try to the next.
const STANDBY_READY_MAX: Duration = Duration::from_secs(20);
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// From one point of the course to the next.
const POINT_EVERY: Duration = Duration::from_secs(1);

/// By what a run is ended early.
#[derive(Clone, Default)]
pub struct Stops {
    /// The load ends; what was made is looked at.
    pub enough: CancellationToken,
    /// Nothing more is looked at; what was made is removed.
    pub abandoned: CancellationToken,
}

/// A run.
pub struct Course {
    run: RunId,
    plan: Plan,
    server: Server,
    standbys: Vec<Arc<Standby>>,
    files: Arc<Files>,
    contents: Arc<Contents>,
    tally: Arc<Tally>,
    leftovers: Arc<Leftovers>,
    arrival_timeout: Duration,
    stops: Stops,
    began: jiff::Timestamp,
}

/// What came of it, beside what the tally knows.
#[derive(Default)]
pub struct Outcome {
    ending: Ending,
    load: Duration,
    verify: Duration,
    right: u64,
    is_clean: bool,
    notes: Vec<String>,
}

impl Course {
    /// A run that has not begun.
    pub fn new(
        run: RunId,
        plan: Plan,
        servers: (Server, Vec<Server>),
        leftovers: Arc<Leftovers>,
        arrival_timeout: Duration,
        stops: Stops,
    ) -> Course {
        let (server, standbys) = servers;
        let files = Arc::new(Files::new(run.clone(), plan.files));
        let contents = Arc::new(Contents::new(run.clone(), plan.clone()));
        let tally = Arc::new(Tally::new(run.clone(), &plan));
        let standby = |server| Arc::new(Standby::new(server, files.clone(), contents.clone(), tally.clone()));
        let standbys = standbys.into_iter().map(standby).collect();
        let began = jiff::Timestamp::now();
        Course { run, plan, server, standbys, files, contents, tally, leftovers, arrival_timeout, stops, began }
    }

    /// What it has measured so far.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Runs to the end.
    pub async fn run(&self) -> Outcome {
        let mut outcome = Outcome::default();
        match self.prepare(&mut outcome.notes).await {
            Ok(()) => self.load_and_look(&mut outcome).await,
            Err(sentence) => outcome.ending = Ending::NotBegun(sentence),
        }
        self.clean(&mut outcome).await;
        outcome
    }

    /// Looks whether all is as it must be and makes the folders; the error is the sentence why the run cannot begin.
    async fn prepare(&self, notes: &mut Vec<String>) -> Result<(), String> {
        self.tally.enter(Phase::Preparing, Some(format!("connecting to {}", self.server.name())));
        let client = reach(&self.server).await?;
        for standby in &self.standbys {
            self.reach_standby(standby.server()).await?;
        }
        for leftover in self.leftovers.of(&self.server.target().address, &self.plan.account) {
            if leftover.kept {
                continue;
            }
            self.tally.enter(Phase::Preparing, Some(format!("removing what the run {} has left", leftover.run)));
            let removed = leftovers::remove(&self.server, &client, &leftover.run, &Default::default()).await;
            let gone = removed.map_err(|trouble| trouble.to_string());
            match gone.and_then(|()| self.leftovers.forget(&leftover).map_err(|error| format!("{error:#}"))) {
                Ok(()) => notes.push(format!("What the run {} had left was removed first.", leftover.run)),
                Err(reason) => {
                    notes.push(format!("What the run {} has left cannot be removed: {reason}", leftover.run))
                }
            }
        }
        self.check_room(&client, notes).await?;
        self.tally.enter(Phase::Preparing, Some("making folders".to_owned()));
        self.leftovers.note(self.leftover()).map_err(|error| format!("{error:#}"))?;
        self.make_folders(&client).await
    }

    /// A first connection to a standby. An account that has just logged in for the first time may have no folder there yet.
    async fn reach_standby(&self, server: &Server) -> Result<(), String> {
        let began = Instant::now();
        loop {
            self.tally.enter(Phase::Preparing, Some(format!("connecting to {}", server.name())));
            match server.connect().await {
                Ok(_) => return Ok(()),
                Err(trouble) if trouble.is_final() || began.elapsed() > STANDBY_READY_MAX => {
                    return Err(unreached(server, &trouble));
                }
                Err(_) => tokio::select! {
                    () = tokio::time::sleep(TRY_AGAIN_AFTER) => {}
                    () = self.stops.enough.cancelled() => return Err("it was stopped before".to_owned()),
                },
            }
        }
    }

    /// The volume must hold what is uploaded twice: with less, others would feel the run.
    async fn check_room(&self, client: &Client, notes: &mut Vec<String>) -> Result<(), String> {
        let room = self.server.room(client, "/").await.map_err(|trouble| format!("asking for room: {trouble}"))?;
        let needed = self.plan.bytes().saturating_mul(2);
        match room {
            None => notes.push("The target does not tell how much room it has.".to_owned()),
            Some(room) if room < needed => {
                return Err(format!(
                    "{} has room for {}, and this run wants {} free, twice what it uploads: take fewer or smaller files",
                    self.server.name(),
                    BinaryBytes(room),
                    BinaryBytes(needed)
                ));
            }
            Some(_) => {}
        }
        Ok(())
    }

    async fn make_folders(&self, client: &Client) -> Result<(), String> {
        let make = async |path: String| {
            let made = self.server.patiently(client.mkdir(path.as_bytes(), FOLDER_MODE)).await;
            made.map_err(|trouble| format!("{} does not make the folder {path}: {trouble}", self.server.name()))
        };
        make(self.run.folder()).await?;
        let folders: Vec<String> = (0..self.files.folders()).map(|folder| self.files.folder(folder)).collect();
        let mut made = futures::stream::iter(folders.into_iter().map(make)).buffer_unordered(FOLDERS_AT_A_TIME);
        while let Some(made) = made.next().await {
            made?;
        }
        Ok(())
    }

    fn leftover(&self) -> Leftover {
        let (address, account) = (self.server.target().address.clone(), self.plan.account.clone());
        Leftover { run: self.run.clone(), address, account, kept: self.plan.keep }
    }

    async fn load_and_look(&self, outcome: &mut Outcome) {
        let (load_over, late) = (CancellationToken::new(), self.stops.abandoned.child_token());
        let mut watches = JoinSet::new();
        for standby in &self.standbys {
            let (standby, load_over, late) = (standby.clone(), load_over.clone(), late.clone());
            watches.spawn(async move { standby.watch(&load_over, &late).await });
        }
        self.load(outcome).await;
        load_over.cancel();
        let expected = self.files.acknowledged() * self.standbys.len() as u64;
        self.tally.arrived_expected.store(expected, Ordering::Relaxed);
        let (too_late, timeout) = (late.clone(), self.arrival_timeout);
        let clock = tokio::spawn(async move {
            tokio::time::sleep(timeout).await;
            too_late.cancel();
        });
        if self.plan.verify >= Verify::Target {
            self.look(outcome, &mut watches, &late).await;
        }
        clock.abort();
        if self.stops.abandoned.is_cancelled() && self.plan.verify != Verify::Nothing {
            outcome.ending = Ending::Abandoned;
        }
    }

    async fn load(&self, outcome: &mut Outcome) {
        let load = Arc::new(Load {
            plan: self.plan.clone(),
            server: self.server.clone(),
            files: self.files.clone(),
            contents: self.contents.clone(),
            tally: self.tally.clone(),
        });
        let enough = &self.stops.enough;
        if self.plan.mix.upload == 0 {
            self.tally.enter(Phase::Preparing, Some("uploading the files that the load works with".to_owned()));
            load.prepare(enough).await;
        }
        self.tally.enter(Phase::Loading, None);
        self.tally.begin_points();
        let began = Instant::now();
        let loading = load.run(enough);
        let mut loading = std::pin::pin!(loading);
        let mut second = tokio::time::interval_at(tokio::time::Instant::now() + POINT_EVERY, POINT_EVERY);
        loop {
            tokio::select! {
                () = &mut loading => break,
                _ = second.tick() => self.tally.sample(),
            }
        }
        self.tally.sample();
        outcome.load = began.elapsed();
        if enough.is_cancelled() {
            outcome.ending = Ending::Stopped;
        } else if self.plan.duration.is_none() && outcome.load >= self.plan.load_max {
            outcome
                .notes
                .push("The load was ended when it had lasted as long as one may (limits.duration).".to_owned());
        }
    }

    /// Looks at the target, then at the standbys.
    async fn look(&self, outcome: &mut Outcome, watches: &mut JoinSet<()>, late: &CancellationToken) {
        let abandoned = &self.stops.abandoned;
        if !self.standbys.is_empty() {
            let arriving = async { while watches.join_next().await.is_some() {} };
            let sentence = "waiting for the last files to arrive on the standby".to_owned();
            self.tally.enter(Phase::Verifying, Some(sentence));
            let _settled = tokio::time::timeout(SETTLE, arriving).await;
        }
        self.tally.enter(Phase::Verifying, None);
        let began = Instant::now();
        let tally = self.tally.clone();
        let shown = move || {
            tally.verified.fetch_add(1, Ordering::Relaxed);
        };
        let (files, contents) = (self.files.clone(), self.contents.clone());
        let inspection = Arc::new(Inspection::new(self.server.clone(), files, contents, shown));
        for (name, finding) in inspection.look(0..self.files.folders(), abandoned).await.into_values().flatten() {
            self.tally.fault(&name, finding);
        }
        (outcome.right, outcome.verify) = (inspection.right(), began.elapsed());
        if self.standbys.is_empty() {
            return;
        }
        self.tally.enter(Phase::CheckingStandby, None);
        while watches.join_next().await.is_some() {}
        for standby in &self.standbys {
            for (name, finding) in standby.inspect(late, abandoned).await {
                self.tally.fault(&name, finding);
            }
        }
    }

    /// Removes what was made, unless it is to stay.
    async fn clean(&self, outcome: &mut Outcome) {
        let leftover = self.leftover();
        let is_noted = self.leftovers.list().contains(&leftover);
        if !is_noted {
            outcome.is_clean = true;
            return;
        }
        if self.plan.keep {
            outcome.notes.push(format!("The files stay in {} on {}.", self.run.folder(), self.server.name()));
            return;
        }
        self.tally.enter(Phase::Cleaning, None);
        let cleaned = async {
            let client = reach(&self.server).await?;
            let removed = leftovers::remove(&self.server, &client, &self.run, &self.tally.cleaned).await;
            removed.map_err(|trouble| trouble.to_string())?;
            self.leftovers.forget(&leftover).map_err(|error| format!("{error:#}"))
        };
        match cleaned.await {
            Ok(()) => outcome.is_clean = true,
            Err(reason) => outcome.notes.push(format!(
                "{} on {} could not be removed ({reason}): the next run of this account does it, or `stresstest clean`.",
                self.run.folder(),
                self.server.name()
            )),
        }
    }
}

/// A first connection; the error is a sentence that names the server.
async fn reach(server: &Server) -> Result<Client, String> {
    server.connect().await.map_err(|trouble| unreached(server, &trouble))
}

fn unreached(server: &Server, trouble: &Trouble) -> String {
    let address = &server.target().address;
    match server.name() == address {
        true => format!("{address}: {trouble}"),
        false => format!("{} ({address}): {trouble}", server.name()),
    }
}
