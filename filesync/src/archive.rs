//! `filesync archive`: ships the log files of one machine to the archive of a pair.
//!
//! In the order a log meets them: a survey of the folders; the judge, who brings together what the record knows and what stands in the
//! files; `decide`, which is pure; a parcel; the carrier, over a session that the door has opened; the record of what has arrived.
//! It removes nothing in the archive and replaces nothing there, and here only what it was told to.

use std::fs::File;
use std::sync::Arc;

use anyhow::Context;
use pair::exit::usage;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

mod agent;
mod backoff;
mod carrier;
mod config;
mod decide;
mod door;
mod folders;
mod health;
mod job;
mod judge;
mod names;
mod parcel;
mod progress;
mod recheck;
mod record;
mod removal;
mod sight;
mod status;
mod survey;

pub use config::{Config, KEYS};
pub use status::{Report, status_text};

use agent::Agent;
use door::{Door, can_be_looked_up};
use health::Health;
use record::Record;
use status::Board;

/// Runs the agent until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    config.check()?;
    pair::folder::claim_state(&config.state)?;
    let _lock = lock(&config)?;
    let listener = TcpListener::bind(&config.health_listen)
        .await
        .map_err(|error| usage(format!("health_listen: cannot listen on {}: {error}", config.health_listen)))?;
    say(&format!("health on {}", listener.local_addr().context("the health port has no address")?));
    let board = Arc::new(Board::default());
    let agent = Agent::new(config, board.clone())?;
    let pages = pair::health::serve(listener, Arc::new(Health(board)), shutdown.clone());
    let (pages, work) = tokio::join!(pages, async {
        let outcome = agent.run(&shutdown).await;
        shutdown.cancel();
        outcome
    });
    pages.context("the health port failed")?;
    work
}

#[allow(clippy::print_stdout, reason = "addresses go to standard output, whatever the log's level")]
fn say(line: &str) {
    println!("filesync archive: {line}");
}

/// Makes sure that no other agent works with this state: both would send the same files.
fn lock(config: &Config) -> anyhow::Result<File> {
    let path = config.state.join("archive.lock");
    let cannot = |error: &dyn std::fmt::Display| usage(format!("state: cannot lock {}: {error}", path.display()));
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(|error| cannot(&error))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => {
            Err(usage(format!("another agent is running on {}: only one may", config.state.display())))
        }
        Err(error) => Err(cannot(&error)),
    }
}

/// Logs in once, as the agent would: a sentence for people.
///
/// # Errors
/// Why it cannot; exit code 2 where a person must change something.
pub async fn try_login(config: &Config) -> anyhow::Result<String> {
    for server in config.servers()? {
        can_be_looked_up(&server).map_err(|sentence| usage(format!("server: {sentence}")))?;
    }
    let remembered = match config.record().is_file() {
        true => Record::open(&config.record())?.setting("host_keys")?.unwrap_or_default(),
        false => String::new(),
    };
    let door = Door::new(config, remembered.lines().map(str::to_owned).collect())?;
    match door.enter(None).await {
        Ok(session) if session.adds_only => {
            Ok(format!("{} lets {} in, and takes files", session.address, config.agent))
        }
        Ok(session) => Ok(format!(
            "{} lets {} in; but the account may read or change files: an agent's account (`agents:` in users.yaml) only adds",
            session.address, config.agent
        )),
        Err(no_way) if no_way.is_refused => Err(usage(no_way.sentence)),
        Err(no_way) => Err(anyhow::anyhow!(no_way.sentence)),
    }
}
