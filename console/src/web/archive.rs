//! The log archive: which agents send logs, what of theirs is here, and what stands in it.
//!
//! In the order a person meets them: this page has the agents, their retention and the chain; `files` lists and `hits` searches what `form`
//! asks for; `view` shows lines of a file and `follow` those that come; `send` hands out files. `lines` and `text` are how lines and names
//! look. Always holds: an address names an agent that sftpd knows and a path beneath its folder, which the kernel resolves
//! ([`crate::archive`]); what is read takes bounded memory and time; searches and downloads are logged with who ordered them.

mod files;
mod follow;
mod form;
mod hits;
mod lines;
mod overview;
mod send;
mod text;
mod view;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use web::{Caller, Session};

use super::Site;
use crate::archive::{Bounds, Content, Home, Known, Place, Stop, Told, UNPACKED_BYTES_MAX, Volume};
use crate::config::Config;

/// Where it lies.
pub const HERE: &str = "/console/archive";
/// Searches at once.
const SEARCHES_MAX: usize = 3;
/// Downloads at once.
const DOWNLOADS_MAX: usize = 6;
/// Looks into folders and files at once; more wait.
const LOOKS_MAX: usize = 8;
/// How long one look may take, with the waiting for its turn.
const LOOK_MAX: Duration = Duration::from_secs(30);

/// What the pages of the archive share.
pub struct Desk {
    volume: Arc<Volume>,
    known: Known,
    searches: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
    looks: Arc<Semaphore>,
}

impl Desk {
    /// Over the data volume of the settings.
    pub fn new(config: &Config) -> Arc<Desk> {
        Arc::new(Desk {
            volume: Arc::new(Volume::new(config.data.clone())),
            known: Known::new(config.state.clone()),
            searches: Arc::new(Semaphore::new(SEARCHES_MAX)),
            downloads: Arc::new(Semaphore::new(DOWNLOADS_MAX)),
            looks: Arc::new(Semaphore::new(LOOKS_MAX)),
        })
    }
}

/// The pages.
pub fn routes() -> Router<Site> {
    Router::new()
        .route(HERE, get(overview::show))
        .route("/console/archive/files", get(files::show))
        .route("/console/archive/view", get(view::show))
        .route("/console/archive/follow", get(follow::events))
        .route("/console/archive/file", get(send::file))
        .route("/console/archive/bundle", post(send::bundle))
}

/// Why something of the archive is not shown.
#[derive(Debug)]
pub enum Fault {
    /// It is not there, or nobody may see it.
    Missing,
    /// It was asked wrongly: a sentence.
    Wrong(String),
    /// Too many ask.
    Busy,
    /// A sentence about the disk.
    Failed(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        match (error.kind(), Stop::of(&error)) {
            (io::ErrorKind::NotFound, _) => Fault::Missing,
            (_, Some(stop)) => {
                Fault::Failed(format!("This place of the file cannot be shown: {stop}. Download the file instead."))
            }
            _ => Fault::Failed(format!("The disk does not give it: {error}.")),
        }
    }
}

impl Fault {
    /// The page that says so.
    fn page(&self, site: &Site, session: &Session) -> Response {
        let (status, title, sentence) = match self {
            Fault::Missing => (
                StatusCode::NOT_FOUND,
                "Nothing here",
                "There is no such file or folder in the archive: it may have been renamed, or removed by retention.",
            ),
            Fault::Wrong(sentence) => (StatusCode::UNPROCESSABLE_ENTITY, "This cannot be asked", sentence.as_str()),
            Fault::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many at once",
                "Too many people read the archive now. Wait a moment and load the page again.",
            ),
            Fault::Failed(sentence) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "This cannot be shown now", sentence.as_str())
            }
        };
        site.fault(session, status, title, sentence)
    }
}

/// The folder of a place's agent, where sftpd knows that agent.
fn home_path(told: &Told, place: &Place) -> Result<Vec<u8>, Fault> {
    told.agent(&place.agent).map(|agent| agent.home.0.clone()).ok_or(Fault::Missing)
}

/// How far one look may go; it ends with the guard.
fn bounds(over: &CancellationToken) -> Bounds {
    Bounds { over: over.clone(), until: Instant::now() + LOOK_MAX, bytes_max: UNPACKED_BYTES_MAX }
}

impl Site {
    /// Looks at the volume, on a thread that may wait for the disk. It is called off when nobody waits any more.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Volume, &Bounds) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let over = self.shutdown.child_token();
        let _called_off = over.clone().drop_guard();
        let (bounds, volume) = (bounds(&over), self.archive.volume.clone());
        let turn = tokio::time::timeout(LOOK_MAX, self.archive.looks.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Fault::Busy) };
        let looked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            look(&volume, &bounds)
        });
        Ok(looked.await.map_err(|error| Fault::Failed(format!("a bug ended the look: {error}")))??)
    }

    /// Opens a file.
    async fn open(&self, told: &Told, place: &Place) -> Result<Content, Fault> {
        let (home, path) = (home_path(told, place)?, place.path.clone());
        self.look(move |volume, _| volume.home(&home)?.file(&path).and_then(Content::of)).await
    }
}

/// The folders of the agents that a question is about: of one, or of all.
fn homes(told: &Told, at: Option<&Place>) -> Result<Vec<(Place, Vec<u8>)>, Fault> {
    match at {
        Some(place) => Ok(vec![(place.clone(), home_path(told, place)?)]),
        None => Ok(told.agents().iter().map(|agent| (Place::of(&agent.name), agent.home.0.clone())).collect()),
    }
}

/// Opened folders of agents, by name.
type Homes = std::collections::HashMap<String, Arc<Home>>;

/// Who orders something of the archive, and what became of it. Texts are written so that a line stays a line.
fn log(whose: &(Session, Caller), what: &str, of: &str, outcome: &str) {
    let (account, address) = (&whose.0.account, whose.1.address);
    tracing::info!(?account, %address, ?what, ?of, ?outcome, "the archive was read");
}

#[cfg(test)]
mod tests;
