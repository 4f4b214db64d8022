//! Records that arrive while their page is looked at: ready rows, about each second.
//!
//! Always holds: a stream ends with its session and with the program; browsers that watch are bounded. Where more arrives than one
//! event may have, the next event goes on behind it.

use std::time::Duration;

use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use web::Session;

use super::super::Site;
use super::super::activity::Asked;
use super::{Row, Rows, Wanted, field};
use crate::questions::{Reader, Record, Search};
use crate::record::Operation;

/// From one look to the next.
const LOOK: Duration = Duration::from_secs(1);
/// Records of one event.
const ROWS_MAX: usize = 100;

/// Tells of new records.
pub async fn events(State(site): State<Site>, session: Extension<Session>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let mut asked = Asked::of(&query);
    let wanted = Wanted::of(&mut asked, &query);
    let after = field(&query, "after").map(|text| text.parse::<i64>().ok().filter(|id| *id >= 0));
    if asked.mistake.is_some() || matches!(after, Some(None)) {
        return (StatusCode::UNPROCESSABLE_ENTITY, "The filter is wrong.\n").into_response();
    }
    let places = site.watchers.clone();
    let watcher = Watcher { site, session: session.0, wanted, after: after.flatten() };
    web::tell(&places, watcher)
}

/// One browser that is told.
struct Watcher {
    site: Site,
    session: Session,
    wanted: Wanted,
    /// The last record that it knows; none: whatever is the last now.
    after: Option<i64>,
}

impl web::Watcher for Watcher {
    /// The next event; none where the stream ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.site.shutdown.is_cancelled() || !self.site.door.is_open(&self.session) {
                return None;
            }
            match self.arrived().await {
                Ok(Some(event)) => return Some(event),
                Ok(None) => {}
                Err(error) => tracing::warn!("new records cannot be shown: {error:#}"),
            }
            tokio::select! {
                () = self.site.shutdown.cancelled() => return None,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}

impl Watcher {
    async fn arrived(&mut self) -> anyhow::Result<Option<Event>> {
        let (wanted, after) = (self.wanted.clone(), self.after);
        let question = move |reader: &Reader| {
            let last = reader.last_arrived()?;
            let after = after.unwrap_or(last);
            let found = if last > after { reader.arrived_after(&wanted.filter, after, ROWS_MAX)? } else { Vec::new() };
            // Where there are more than an event has, the next one goes on behind the last of these.
            let last =
                if found.len() < ROWS_MAX { last.max(after) } else { found.last().map_or(last, |record| record.id) };
            let is_meant = |record: &Record| wanted.search.as_ref().is_none_or(|search| is_found(search, record));
            let rows: Vec<Row> = found
                .iter()
                .rev()
                .filter(|record| is_meant(record))
                .map(|record| Row::of(record, reader.zone()))
                .collect();
            Ok((last, rows))
        };
        let (last, rows) = self.site.ask(question).await?;
        self.after = Some(last);
        if rows.is_empty() {
            return Ok(None);
        }
        // An event's data has no carriage returns.
        let (count, html) = (rows.len(), Rows { rows }.render()?.replace('\r', ""));
        Ok(Some(Event::default().event("records").data(format!("{count}\n{html}"))))
    }
}

/// Whether a record is what is looked for, as the store would say.
fn is_found(search: &Search, record: &Record) -> bool {
    let is_login = matches!(record.operation, Operation::Login | Operation::Logout);
    let places = [record.path.as_deref(), record.target.as_deref()];
    !is_login && places.into_iter().flatten().any(|path| search.finds(path))
}
