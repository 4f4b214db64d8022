//! The archive of what agents send: a chain of digests over what came in, and retention.
//!
//! Always holds: only a master writes the chain; what the volume has of it is what counts, so that a crash or a takeover leaves neither a gap nor
//! a fork; retention removes what the chain has named before, and only what agents have sent. It does not decide who is an agent or what one may
//! do: that is users.yaml's and [`crate::access`]'s business.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pair::activity::{Activity, Outcome, sender};
use pair::node::Phase;
use tokio_util::sync::CancellationToken;

use crate::daemon::Daemon;

mod expiry;
mod folding;
mod gathered;
mod keeper;
pub mod ledger;
pub mod moment;
pub mod retention;
mod sealing;
mod steadiness;

use keeper::{Agent, Circumstances, Keeper, Turn};
pub use keeper::{Rhythm, Told};
use ledger::Ledger;

/// From one look at the journal to the next.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The shortest pause between two turns where there is much to do.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// What the keeper has said of itself last.
#[derive(Debug, Default)]
pub struct Board(Mutex<Told>);

impl Board {
    /// What it said last.
    pub fn told(&self) -> Told {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self, told: Told) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }
}

/// Keeps the archive until `shutdown`.
pub async fn keep(daemon: Arc<Daemon>, ledger: Arc<Ledger>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let begun = Instant::now();
    let rhythm = daemon.config.archive.rhythm();
    let anew = || Keeper::new(daemon.volume.clone(), ledger.clone(), rhythm);
    let mut keeper = anew();
    while !shutdown.is_cancelled() {
        let (asked, ending, turn_begun) = (daemon.clone(), shutdown.clone(), Instant::now());
        let took = tokio::task::spawn_blocking(move || {
            let turn = turn(&asked, &mut keeper, begun, &ending);
            (keeper, turn)
        });
        let turn = match took.await {
            Ok((back, turn)) => {
                keeper = back;
                turn
            }
            Err(_) => {
                tracing::error!("a bug in the server: the archive is looked at anew");
                keeper = anew();
                Turn::default()
            }
        };
        tell(&daemon, &turn);
        let told = keeper.told();
        daemon.metrics.archive(&told);
        daemon.archive.write(told);
        // It may use half of the disk's time.
        let pause = if turn.has_more { turn_begun.elapsed().max(PAUSE_MIN) } else { LOOK_EVERY };
        let pause = pause.min(LOOK_EVERY).min(rhythm.seal_every);
        shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
    Ok(())
}

fn turn(daemon: &Daemon, keeper: &mut Keeper, begun: Instant, shutdown: &CancellationToken) -> Turn {
    let (standing, chapter, accounts) = (daemon.roles.now(), daemon.volume.chapter(), daemon.accounts());
    let agents: Vec<Agent> = accounts
        .iter()
        .filter_map(|account| Some(Agent { home: account.home.clone().into_bytes(), keep: account.agent? }))
        .collect();
    let is_master = |phase: Phase| phase == Phase::Master;
    keeper.turn(&Circumstances {
        wall_ms: jiff::Timestamp::now().as_millisecond(),
        counted: begun.elapsed(),
        is_master: is_master(standing.phase()),
        machine: &standing.node.node,
        epoch: &chapter.epoch,
        agents: &agents,
        goes_on: &|| !shutdown.is_cancelled() && is_master(daemon.roles.now().phase()),
    })
}

/// Writes down what was done: a digest in the activity log is also where who rewrites the chain does not reach.
fn tell(daemon: &Daemon, turn: &Turn) {
    let record = |method: String| {
        let sender = sender::ARCHIVE.into();
        Activity { sender, method: Some(method), outcome: Some(Outcome::Complete), ..Activity::default() }
    };
    for sealed in &turn.sealed {
        let mut activity = record(format!("segment {} of the chain, digest {}", sealed.number, sealed.digest));
        activity.set_path(sealed.path.as_bytes());
        daemon.activity.put(activity);
    }
    for (path, bytes) in &turn.removed {
        let mut activity = Activity { size_bytes: Some(*bytes), ..record("removed by retention".into()) };
        activity.set_path(&path.0);
        daemon.activity.put(activity);
    }
    daemon.metrics.expired(turn.removed.len() as u64);
}

#[cfg(test)]
mod tests;
