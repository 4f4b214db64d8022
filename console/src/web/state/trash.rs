//! What a standby's trash holds: the newest versions, each with a button that brings it back to this machine.
//!
//! It is asked of the standby with the pair secret, as `filesync restore` does. Where the console has none, the page shows the command.

use std::time::Duration;

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;
use filesync::restore::{Version, trash_of};
use web::{Session, figures};

use super::super::shown;
use super::super::{Frame, HOME, Site, page};
use super::text::Clock;

/// Versions that are shown.
const VERSIONS_MAX: usize = 100;
/// How long the standby may take.
const ANSWER_MAX: Duration = Duration::from_secs(20);

#[derive(Template)]
#[template(path = "state_trash.html")]
struct Trash {
    frame: Frame,
    style: String,
    standby: String,
    shown_standby: String,
    sentence: String,
    versions: Vec<Row>,
    is_full: bool,
}

struct Row {
    version: String,
    path: String,
    /// The path's bytes, for the order.
    hex: String,
    kind: &'static str,
    size: String,
    modified: String,
}

/// The page.
pub async fn show(site: &Site, session: &Session, standby: &str) -> Response {
    let is_known = site.situation.borrow().mirrors.iter().any(|mirror| mirror.name == standby);
    if !is_known {
        return site.fault(session, StatusCode::NOT_FOUND, "Nothing here", "There is no such standby.");
    }
    let config = crate::web::orders::filesync_config(&site.config, standby);
    let asking = trash_of(&config, standby, None, VERSIONS_MAX);
    let found = tokio::time::timeout(ANSWER_MAX, asking).await;
    let (versions, sentence) = match found {
        Ok(Ok(versions)) => (versions, String::new()),
        Ok(Err(error)) => (Vec::new(), format!("{error:#}")),
        Err(_) => (Vec::new(), format!("{standby} did not show its trash within {} s", ANSWER_MAX.as_secs())),
    };
    let clock = super::clock(site);
    let is_full = versions.len() >= VERSIONS_MAX;
    let files = versions.iter().filter(|version| version.kind != "folder");
    let shown = Trash {
        frame: site.frame(session, HOME),
        style: site.assets.url("state.css"),
        standby: standby.to_owned(),
        shown_standby: shown(standby),
        sentence: shown(&sentence),
        versions: files.map(|version| row(version, &clock)).collect(),
        is_full,
    };
    page(StatusCode::OK, &shown)
}

fn row(version: &Version, clock: &Clock) -> Row {
    Row {
        version: version.version.clone(),
        path: shown(&version.shown),
        hex: pair::secret::hex(&version.path),
        kind: version.kind,
        size: figures::bytes(version.bytes),
        modified: clock.moment(i64::from(version.mtime_s) * 1000),
    }
}
