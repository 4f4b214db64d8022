//! The pages at `/console/`: is the pair safe, and who moved what.
//!
//! In the order a person meets them: `state` says how the pair is, `connections` who is connected, and `orders` does what their buttons
//! ask for; `activity` has the charts and their tables, `records` the single records and those that arrive, `receipt` what is known of a
//! file, `archive` what agents have sent. Every page is rendered here and works without JavaScript; scripts draw charts and bring new
//! lines. Who may come in is decided by the `web` crate, in front of every page. What comes from a browser is a filter, a number or an
//! order of a fixed form; only `archive` takes paths, beneath the folders of agents, and the kernel keeps them there.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use web::{Asset, Assets, BASE_STYLE, Door, Doorkeeper, Session, Settings, page};

use crate::config::Config;
use crate::questions::{Reader, Readers};
use crate::situation::Situation;
use crate::visitors::Lookout;

mod connections;
mod state;

mod orders;

mod activity;
mod records;

mod receipt;

mod archive;

pub(crate) use records::shown;

/// Where everything lies.
pub const HOME: &str = "/console/";
/// How long a login may last, however much it is used.
const SESSION_AGE_MAX: Duration = Duration::from_secs(12 * 3600);
/// Browsers that are told of what is new, at a time.
const WATCHERS_MAX: usize = 64;

/// The pages in the line at the top.
const PAGES: [(&str, &str); 6] = [
    ("State", HOME),
    ("Connections", "/console/connections"),
    ("Activity", "/console/activity"),
    ("Records", "/console/records"),
    ("Find a file", "/console/files"),
    ("Archive", archive::HERE),
];

/// Everything that is served as it is, but for the script that draws charts, which [`activity`] brings.
const ASSETS: [Asset; 9] = [
    Asset::style("base.css", BASE_STYLE),
    Asset::style("console.css", include_str!("../assets/console.css")),
    Asset::style("state.css", include_str!("../assets/state.css")),
    Asset::style("activity.css", include_str!("../assets/activity.css")),
    Asset::style("archive.css", include_str!("../assets/archive.css")),
    Asset::script("archive.js", include_str!("../assets/archive.js")),
    Asset::script("state.js", include_str!("../assets/state.js")),
    Asset::script("activity.js", include_str!("../assets/activity.js")),
    Asset::drawing("icon.svg", include_str!("../assets/icon.svg")),
];

/// What all pages know.
#[derive(Clone)]
pub(crate) struct Site {
    config: Arc<Config>,
    readers: Arc<Readers>,
    situation: watch::Receiver<Arc<Situation>>,
    expected: watch::Receiver<crate::expected::Outlooks>,
    visitors: Arc<Lookout>,
    door: Arc<Door>,
    assets: Assets,
    watchers: Arc<Semaphore>,
    archive: Arc<archive::Desk>,
    shutdown: CancellationToken,
}

/// All pages behind their door.
pub(crate) fn router(
    config: &Config,
    readers: Arc<Readers>,
    situation: watch::Receiver<Arc<Situation>>,
    doorkeeper: Box<dyn Doorkeeper>,
    shutdown: CancellationToken,
) -> anyhow::Result<Router> {
    let assets = ASSETS.iter().copied().chain([activity::plotly()?]).collect::<Vec<_>>();
    let assets = Assets::new(HOME, &assets);
    let settings = Settings {
        title: "sftp-ha console",
        home: HOME,
        cookie: "console_session",
        idle_max: config.session_timeout.get(),
        age_max: SESSION_AGE_MAX,
        behind_proxy: config.behind_proxy,
    };
    let door = Door::new(settings, doorkeeper, assets.clone())?;
    let watchers = Arc::new(Semaphore::new(WATCHERS_MAX));
    let expected = crate::expected::watch(config, readers.clone(), shutdown.clone())?;
    let visitors = Lookout::start(config.state.clone(), shutdown.clone());
    let archive = archive::Desk::new(config);
    let config = Arc::new(config.clone());
    let site = Site {
        config,
        readers,
        situation,
        expected,
        visitors,
        door: door.clone(),
        assets,
        watchers,
        archive,
        shutdown,
    };
    let pages = Router::new()
        .route("/console/", get(state::show))
        .route("/console/state/events", get(state::events))
        .route("/console/connections", get(connections::show))
        .route("/console/connections/events", get(connections::events))
        .route("/console/orders/{order}", post(orders::take))
        .route("/console/activity", get(activity::show))
        .route("/console/activity/{table}", get(activity::csv))
        .route("/console/records", get(records::show))
        .route("/console/records.csv", get(records::csv))
        .route("/console/records/events", get(records::events))
        .route("/console/files", get(receipt::show))
        .merge(archive::routes())
        .fallback(missing)
        .with_state(site);
    Ok(door.house(pages))
}

/// What is around each page.
pub(crate) struct Frame {
    account: String,
    csrf: String,
    here: &'static str,
    icon: String,
    base_style: String,
    style: String,
}

impl Frame {
    fn pages(&self) -> &'static [(&'static str, &'static str)] {
        &PAGES
    }
}

impl Site {
    /// The frame of the page with an address of [`PAGES`].
    fn frame(&self, session: &Session, here: &'static str) -> Frame {
        Frame {
            account: session.account.clone(),
            csrf: session.csrf.clone(),
            here,
            icon: self.assets.url("icon.svg"),
            base_style: self.assets.url("base.css"),
            style: self.assets.url("console.css"),
        }
    }

    /// Asks the store something, on a thread that may wait for the disk.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let readers = self.readers.clone();
        tokio::task::spawn_blocking(move || readers.ask(question)).await?
    }

    /// A page that says what is wrong.
    fn fault(&self, session: &Session, status: StatusCode, title: &str, sentence: &str) -> Response {
        let frame = self.frame(session, "");
        page(status, &Missing { frame, title: title.to_owned(), sentence: sentence.to_owned() })
    }

    /// The page for a question that could not be answered. Its reason is in the log.
    fn failed(&self, session: &Session, error: &anyhow::Error) -> Response {
        tracing::error!("a question could not be answered: {error:#}");
        let sentence = format!("The console could not look into its records: {error:#}");
        self.fault(session, StatusCode::INTERNAL_SERVER_ERROR, "This cannot be shown now", &sentence)
    }
}

#[derive(Template)]
#[template(path = "missing.html")]
struct Missing {
    frame: Frame,
    title: String,
    sentence: String,
}

/// The page for an address that is none.
async fn missing(site: State<Site>, session: Extension<Session>) -> Response {
    site.fault(&session, StatusCode::NOT_FOUND, "Nothing here", "There is no such page.")
}

#[cfg(test)]
mod tests;
