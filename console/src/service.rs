//! The running console: it follows the logs, asks how the pair is, and serves its pages until it is told to end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pair::exit::usage;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::doorkeeper::doorkeeper;
use crate::follow::{Follower, Look, Watch};
use crate::questions::Readers;
use crate::{situation, web};

/// How long a burst of events is let pass before the folders are looked at.
const QUIET: Duration = Duration::from_millis(100);
/// How long to wait after the store could not be written.
const PAUSE: Duration = Duration::from_secs(5);
/// How often old records are let go.
const LETTING_GO: Duration = Duration::from_secs(600);

/// Follows the logs and serves the pages until `shutdown`.
///
/// # Errors
/// Where the settings are wrong, or another console has this state open.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(&config.listen)
        .await
        .map_err(|error| usage(format!("listen: cannot listen on {}: {error}", config.listen)))?;
    let (doorkeeper, tls) = (doorkeeper(&config)?, config.tls()?);
    // It makes the store, which the readers need.
    let follower = open(&config).await?;
    let readers = Arc::new(Readers::new(config.state.clone(), config.zone()?));
    let situation = situation::watch(&config, shutdown.clone());
    let pages = web::router(&config, readers, situation, Box::new(doorkeeper), shutdown.clone())?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    say(&format!("listening on {scheme}://{}/console/", listener.local_addr()?));
    let serving = async {
        ::web::serve(listener, pages, tls, shutdown.clone()).await;
        anyhow::Ok(())
    };
    tokio::try_join!(serving, keep_up(config, follower, shutdown.clone())).map(drop)
}

/// Follows the logs until `shutdown`, and shows nothing.
pub async fn follow(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let follower = open(&config).await?;
    keep_up(config, follower, shutdown).await
}

async fn open(config: &Config) -> anyhow::Result<Follower> {
    let config = config.clone();
    blocking(move || Follower::new(&config)).await?
}

async fn keep_up(config: Config, mut follower: Follower, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut watch = Watch::new();
    let (mut failed, mut next_letting_go) = (None, Instant::now());
    while !shutdown.is_cancelled() {
        watch.keep_up(&follower.folders());
        let is_time = Instant::now() >= next_letting_go;
        let (back, outcome) = one_round(follower, is_time, &shutdown).await?;
        follower = back;
        let pause = match outcome {
            Ok(has_more) => {
                if failed.take().is_some() {
                    tracing::info!("the logs are followed again");
                }
                if is_time && !has_more {
                    next_letting_go = Instant::now() + LETTING_GO;
                }
                if has_more { QUIET } else { config.look_interval.get() }
            }
            Err(error) => {
                let sentence = format!("{error:#}");
                if failed.as_ref() != Some(&sentence) {
                    tracing::warn!("the logs are not followed: {sentence}; nothing is lost, it is tried again");
                }
                failed = Some(sentence);
                PAUSE
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
            () = watch.changed(), if failed.is_none() => tokio::time::sleep(QUIET).await,
        }
    }
    Ok(())
}

/// Reads what there is, once, and says what it was.
pub async fn once(config: Config, shutdown: CancellationToken) -> anyhow::Result<Look> {
    blocking(move || {
        let mut follower = Follower::new(&config)?;
        let is_over = || shutdown.is_cancelled();
        let look = follower.look(&is_over)?;
        while follower.let_go()? && !is_over() {}
        Ok(look)
    })
    .await?
}

/// One look, and some letting go where it is time for it; tells whether there is more of that to do.
async fn one_round(
    mut follower: Follower,
    is_time: bool,
    shutdown: &CancellationToken,
) -> anyhow::Result<(Follower, anyhow::Result<bool>)> {
    let shutdown = shutdown.clone();
    blocking(move || {
        let outcome = follower.look(&|| shutdown.is_cancelled()).and_then(|look| {
            if look.records > 0 {
                tracing::debug!(?look, "read");
            }
            if is_time { follower.let_go() } else { Ok(false) }
        });
        (follower, outcome)
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| anyhow::anyhow!("a bug ended the work: {error}"))
}

#[allow(clippy::print_stdout, reason = "addresses go to standard output, whatever the log's level")]
fn say(line: &str) {
    println!("console: {line}");
}
