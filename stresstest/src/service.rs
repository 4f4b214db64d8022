//! The running page: bound, announced, served until it is told to end.

use std::time::Duration;

use pair::exit::usage;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::runner::Runner;
use crate::web;

/// How long a run that is under way may take to remove its files at the end. What stays is remembered.
const CLOSE_MAX: Duration = Duration::from_secs(6);

/// Serves the page until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    for plain in config.plain_servers() {
        tracing::info!("standbys: {plain} is no machine of the pair: what arrives there is not looked at");
    }
    let (runner, tls) = (Runner::new(&config, None)?, config.tls()?);
    let listener = TcpListener::bind(&config.listen)
        .await
        .map_err(|error| usage(format!("listen: cannot listen on {}: {error}", config.listen)))?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    say(&format!("listening on {scheme}://{}/stress/", listener.local_addr()?));
    let served = web::serve(listener, &config, runner.clone(), tls, shutdown.clone()).await;
    runner.close(CLOSE_MAX).await;
    served
}

#[allow(clippy::print_stdout, reason = "addresses go to standard output, whatever the log's level")]
fn say(line: &str) {
    println!("stresstest: {line}");
}
