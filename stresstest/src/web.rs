//! The page at `/stress/`: what is asked for, how it goes, what came of it, and what came of earlier runs.
//!
//! In the order a person meets them: `overview` holds the form and the earlier runs, `form` what was typed, `orders` does what a form
//! asks for, `live` shows a run as it goes, `result` what came of it, `comparison` two runs side by side, `download` what can be taken
//! away. All of it works without JavaScript; the script only brings new numbers without a reload. Who may come in is decided by the
//! `web` crate, in front of every page here. Nothing from a browser is used as a path or as an address: targets are found by their
//! configured names, runs by names of a fixed form.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use web::{Asset, Assets, BASE_STYLE, Door, Doorkeeper, Gate, Session, Settings, SftpDoorkeeper, Tls, figures, page};

use crate::config::Config;
use crate::plan::Target;
use crate::runner::Runner;

mod overview;

mod form;
mod orders;

mod live;
mod result;

mod comparison;
mod download;

mod chart;

/// Where everything lies.
pub const HOME: &str = "/stress/";
/// How long a login may last, however much it is used.
const SESSION_AGE_MAX: Duration = Duration::from_secs(12 * 3600);
/// Browsers that are told of a run as it goes, at a time.
const WATCHERS_MAX: usize = 64;

const ASSETS: [Asset; 4] = [
    Asset::style("base.css", BASE_STYLE),
    Asset::style("stress.css", include_str!("../assets/stress.css")),
    Asset::script("stress.js", include_str!("../assets/stress.js")),
    Asset::drawing("icon.svg", include_str!("../assets/icon.svg")),
];

/// What all pages know.
#[derive(Clone)]
pub(crate) struct Site {
    config: Arc<Config>,
    runner: Runner,
    door: Arc<Door>,
    assets: Assets,
    watchers: Arc<Semaphore>,
    shutdown: CancellationToken,
}

/// Serves the page until `shutdown`.
///
/// # Errors
/// Where the settings are wrong.
pub async fn serve(
    listener: TcpListener,
    config: &Config,
    runner: Runner,
    tls: Option<Arc<Tls>>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let doorkeeper = doorkeeper(config, &runner)?;
    let routes = router(config, runner, Box::new(doorkeeper), shutdown.clone())?;
    web::serve(listener, routes, tls, shutdown).await;
    Ok(())
}

/// All pages behind their door.
pub(crate) fn router(
    config: &Config,
    runner: Runner,
    doorkeeper: Box<dyn Doorkeeper>,
    shutdown: CancellationToken,
) -> anyhow::Result<Router> {
    let assets = Assets::new(HOME, &ASSETS);
    let settings = Settings {
        title: "Stress test",
        home: HOME,
        cookie: "stress_session",
        idle_max: config.session_timeout.get(),
        age_max: SESSION_AGE_MAX,
        behind_proxy: config.behind_proxy,
    };
    let door = Door::new(settings, doorkeeper, assets.clone())?;
    let watchers = Arc::new(Semaphore::new(WATCHERS_MAX));
    let site = Site { config: Arc::new(config.clone()), runner, door: door.clone(), assets, watchers, shutdown };
    let pages = Router::new()
        .route("/stress/", get(overview::show))
        .route("/stress/start", post(orders::start))
        .route("/stress/stop", post(orders::stop))
        .route("/stress/clean", post(orders::clean))
        .route("/stress/events", get(live::events))
        .route("/stress/runs/{run}", get(result::show))
        .route("/stress/runs/{run}/report.json", get(download::json))
        .route("/stress/runs/{run}/files.csv", get(download::csv))
        .route("/stress/compare", get(comparison::show))
        .fallback(missing)
        .with_state(site);
    Ok(door.house(pages))
}

/// An administrator of the pair is who is one at a target, or, where no target answers, at a standby.
fn doorkeeper(config: &Config, runner: &Runner) -> anyhow::Result<SftpDoorkeeper> {
    let servers = config.targets()?.into_iter().chain(config.standbys()?);
    Ok(SftpDoorkeeper::new(servers.map(|server| gate(server, runner.clone())).collect()))
}

fn gate(server: Target, runner: Runner) -> Gate {
    Gate {
        name: server.name.clone(),
        connect: Arc::new(move |login| {
            let (runner, server) = (runner.clone(), server.clone());
            Box::pin(async move { runner.connect(&server, login).await })
        }),
    }
}

/// What is around each page.
pub(crate) struct Frame {
    account: String,
    csrf: String,
    base_style: String,
    style: String,
    script: String,
}

impl Site {
    fn frame(&self, session: &Session) -> Frame {
        Frame {
            account: session.account.clone(),
            csrf: session.csrf.clone(),
            base_style: self.assets.url("base.css"),
            style: self.assets.url("stress.css"),
            script: self.assets.url("stress.js"),
        }
    }
}

#[derive(Template)]
#[template(path = "missing.html")]
struct Missing {
    frame: Frame,
    sentence: &'static str,
}

/// The page for an address that is none, or a run that is not kept.
async fn missing(site: State<Site>, session: Extension<Session>) -> Response {
    nothing_here(&site, &session, "There is no such page.")
}

fn nothing_here(site: &Site, session: &Session, sentence: &'static str) -> Response {
    page(StatusCode::NOT_FOUND, &Missing { frame: site.frame(session), sentence })
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
