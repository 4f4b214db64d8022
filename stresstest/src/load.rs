//! Loads the target as its users would: clients that connect, do one thing after another, and come back when they are cut off.
//!
//! What a client does next follows from the seed. Nothing is tried twice: what failed stays failed, and is counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use pair::client::Client;
use tokio_util::sync::CancellationToken;

use crate::content::Contents;
use crate::files::Files;
use crate::plan::{Mix, Operation, Plan, scattered};
use crate::server::Server;
use crate::tally::Tally;
use crate::trouble::Trouble;

mod step;

/// How long a client that was cut off waits before it comes back: at first, and at most.
const RETURN_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long what is under way may still take when the load is to end.
const LAST_MOMENTS: Duration = Duration::from_secs(5);
/// How long a client waits that finds no file to work with.
const NOTHING_FREE: Duration = Duration::from_millis(5);

/// The load of one run.
pub struct Load {
    /// What was asked for.
    pub plan: Plan,
    /// Who is loaded.
    pub server: Server,
    /// The files.
    pub files: Arc<Files>,
    /// What they hold.
    pub contents: Arc<Contents>,
    /// Who is told.
    pub tally: Arc<Tally>,
}

/// One stretch of the load.
struct Stretch {
    mix: Mix,
    /// Operations that are left; none where the files or the time end it.
    left: Option<AtomicU64>,
    /// Cancelled from outside.
    enough: CancellationToken,
    /// Whether there is nothing left to do.
    is_over: AtomicBool,
}

impl Stretch {
    fn goes_on(&self) -> bool {
        !self.enough.is_cancelled() && !self.is_over.load(Ordering::Relaxed)
    }

    /// Takes one operation of those that are left.
    fn take(&self) -> bool {
        let taken = self.left.as_ref().is_none_or(|left| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        });
        if !taken {
            self.is_over.store(true, Ordering::Relaxed);
        }
        taken
    }
}

/// One of many numbers that look like chance and follow from the seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        scattered(self.0)
    }
}

impl Load {
    /// Uploads what a run without uploads is to work with.
    pub async fn prepare(self: &Arc<Load>, enough: &CancellationToken) {
        self.bounded(Mix::default(), None, self.plan.load_max, enough).await;
    }

    /// Loads the target until all is done, the time is over, or `enough` is said.
    pub async fn run(self: &Arc<Load>, enough: &CancellationToken) {
        let mix = self.plan.mix;
        let operations = (mix.upload == 0 && self.plan.duration.is_none()).then_some(self.plan.files);
        let longest = self.plan.duration.unwrap_or(self.plan.load_max);
        self.bounded(mix, operations, longest, enough).await;
    }

    async fn bounded(
        self: &Arc<Load>,
        mix: Mix,
        operations: Option<u64>,
        longest: Duration,
        enough: &CancellationToken,
    ) {
        let enough = enough.child_token();
        let end = enough.clone();
        let clock = tokio::spawn(async move {
            tokio::time::sleep(longest).await;
            end.cancel();
        });
        self.stretch(mix, operations, &enough).await;
        clock.abort();
    }

    async fn stretch(self: &Arc<Load>, mix: Mix, operations: Option<u64>, enough: &CancellationToken) {
        let stretch = Arc::new(Stretch {
            mix,
            left: operations.map(AtomicU64::new),
            enough: enough.clone(),
            is_over: AtomicBool::new(false),
        });
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..self.plan.clients {
            let (load, stretch) = (self.clone(), stretch.clone());
            clients.spawn(async move {
                let last_moments = async {
                    stretch.enough.cancelled().await;
                    tokio::time::sleep(LAST_MOMENTS).await;
                };
                tokio::select! {
                    () = load.client(number, &stretch) => {}
                    () = last_moments => {}
                }
            });
        }
        while clients.join_next().await.is_some() {}
    }

    /// One client, from its beginning to its end, over as many connections as it takes.
    async fn client(&self, number: usize, stretch: &Stretch) {
        let begins_after = self.plan.ramp.mul_f64(number as f64 / self.plan.clients as f64);
        let (mut wait, mut silent_since) = (RETURN_AFTER.0, Instant::now() + begins_after);
        tokio::select! {
            () = tokio::time::sleep(begins_after) => {}
            () = stretch.enough.cancelled() => return,
        }
        let mut chance = Chance(scattered(self.plan.seed ^ scattered(number as u64)));
        while stretch.goes_on() {
            let began = Instant::now();
            match self.server.connect().await {
                Ok(client) => {
                    self.tally.done(Operation::Connect, began.elapsed());
                    self.tally.clients.fetch_add(1, Ordering::Relaxed);
                    let at_work = AtWork(&self.tally);
                    let worked = self.work(&client, &mut chance, stretch).await;
                    drop(at_work);
                    if worked {
                        (wait, silent_since) = (RETURN_AFTER.0, Instant::now());
                    }
                }
                Err(trouble) => {
                    self.tally.failed(Operation::Connect, trouble.kind());
                    if trouble.is_final() || silent_since.elapsed() > self.server.patience() {
                        return;
                    }
                }
            }
            if stretch.goes_on() {
                tokio::select! {
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETURN_AFTER.1),
                    () = stretch.enough.cancelled() => return,
                }
            }
        }
    }

    /// Works on one connection until it is lost or there is nothing to do; tells whether anything was done.
    async fn work(&self, client: &Client, chance: &mut Chance, stretch: &Stretch) -> bool {
        let (is_lost, has_worked) = (AtomicBool::new(false), AtomicBool::new(false));
        let (is_lost, has_worked) = (&is_lost, &has_worked);
        let lanes = (0..self.plan.in_flight).map(|_| {
            let mut chance = Chance(chance.next());
            async move {
                while !is_lost.load(Ordering::Relaxed) && stretch.goes_on() {
                    match self.step(client, &mut chance, stretch).await {
                        Ok(()) => has_worked.store(true, Ordering::Relaxed),
                        Err(trouble) if trouble.is_lost() => is_lost.store(true, Ordering::Relaxed),
                        Err(_) => {}
                    }
                }
            }
        });
        join_all(lanes).await;
        has_worked.load(Ordering::Relaxed)
    }
}

/// A client at work; it is counted as long as this lives.
struct AtWork<'a>(&'a Tally);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}
