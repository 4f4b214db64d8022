//! Lines that are written to a file while it is looked at, about each second.
//!
//! Always holds: a stream ends with its session, with the program, and with the file: then it says why.

use std::time::Duration;

use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use web::Session;

use super::super::Site;
use super::form::{field, pattern_of, query};
use super::lines::Rows;
use super::view::row_of;
use super::{HERE, home_path};
use crate::archive::{Grown, Growth, Pattern, Place};

/// From one look to the next.
const LOOK: Duration = Duration::from_secs(1);

/// Tells of new lines.
pub async fn events(
    State(site): State<Site>,
    session: Extension<Session>,
    headers: HeaderMap,
    RawQuery(asked): RawQuery,
) -> Response {
    let asked = asked.unwrap_or_default();
    let (file, text, how) = (field(&asked, "file"), field(&asked, "text"), field(&asked, "how"));
    // A browser that lost the connection says what it has seen.
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse::<u64>().ok());
    let after = seen.map_or_else(|| field(&asked, "after").parse::<u64>(), Ok);
    let told = site.archive.known.told().await;
    let place = Place::parse(&file);
    let home = place.as_ref().and_then(|place| home_path(&told, place).ok());
    let (Some(place), Some(home), Ok(after)) = (place, home, after) else {
        return (StatusCode::NOT_FOUND, "There is no such file.\n").into_response();
    };
    let pattern = pattern_of(&text, &how).ok().flatten();
    let growth = Some(Growth::new(home, place, after));
    let places = site.watchers.clone();
    web::tell(&places, Watcher { site, session: session.0, growth, file, pattern })
}

/// One browser that is told.
struct Watcher {
    site: Site,
    session: Session,
    /// None once it has ended.
    growth: Option<Growth>,
    file: String,
    pattern: Option<Pattern>,
}

impl web::Watcher for Watcher {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.site.shutdown.is_cancelled() || !self.site.door.is_open(&self.session) {
                return None;
            }
            let mut growth = self.growth.take()?;
            let looked = self.site.look(move |volume, bounds| growth.look(volume, bounds).map(|grown| (growth, grown)));
            match looked.await {
                Ok((growth, Grown::Lines(lines))) => {
                    let seen = growth.offset().to_string();
                    self.growth = Some(growth);
                    if !lines.is_empty() {
                        let rows = lines.iter().map(|line| {
                            let around = line.offset.to_string();
                            let link =
                                format!("{HERE}/view?{}#hit", query(&[("file", &self.file), ("around", &around)]));
                            row_of(line, String::new(), link, self.pattern.as_ref(), false)
                        });
                        // An event's data has no carriage returns.
                        let html = Rows { rows: rows.collect() }.render().ok()?.replace('\r', "");
                        return Some(Event::default().event("lines").id(seen).data(html));
                    }
                }
                Ok((_, Grown::Ended(why))) => return Some(Event::default().event("ended").data(why)),
                Err(fault) => {
                    tracing::debug!(?fault, "a file cannot be followed");
                    return Some(Event::default().event("ended").data("The file cannot be read now."));
                }
            }
            tokio::select! {
                () = self.site.shutdown.cancelled() => return None,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}
