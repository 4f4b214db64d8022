//! All records under a filter as a CSV, sent as it is read, up to a bound.
//!
//! Always holds: memory is that of a few pages, and no reader is held while a browser takes its time. A download that ends too early is
//! broken off, so that the browser says so.

use std::io;

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures::stream;
use jiff::tz::TimeZone;
use web::Session;

use super::super::Site;
use super::super::activity::{Asked, attachment};
use super::{Wanted, cell, line, rfc3339};
use crate::questions::{PAGE_RECORDS_MAX, Record};

/// Records of a CSV at most.
pub const ROWS_MAX: usize = 100_000;

const COLUMNS: [&str; 18] = [
    "time",
    "account",
    "operation",
    "outcome",
    "path",
    "target",
    "moved_bytes",
    "file_bytes",
    "elapsed_ms",
    "address",
    "port",
    "error",
    "protocol",
    "method",
    "client",
    "algorithms",
    "connection",
    "id",
];

/// What is still to be sent.
struct Rest {
    site: Site,
    session: Session,
    wanted: Wanted,
    zone: TimeZone,
    rows_left: usize,
    is_begun: bool,
    is_over: bool,
}

/// The records.
pub async fn csv(State(site): State<Site>, session: Extension<Session>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let mut asked = Asked::of(&query);
    let wanted = Wanted::of(&mut asked, &query);
    if asked.mistake.is_some() {
        return site.fault(&session, StatusCode::UNPROCESSABLE_ENTITY, "The filter is wrong", asked.sentence());
    }
    let zone = match site.config.zone() {
        Ok(zone) => zone,
        Err(error) => return site.failed(&session, &error),
    };
    let rest = Rest { site, session: session.0, wanted, zone, rows_left: ROWS_MAX, is_begun: false, is_over: false };
    let pieces = stream::unfold(rest, |mut rest| async move {
        let piece = rest.next().await?;
        Some((piece, rest))
    });
    attachment("records", Body::from_stream(pieces))
}

impl Rest {
    /// The next piece; none where the end is reached.
    async fn next(&mut self) -> Option<io::Result<String>> {
        if !std::mem::replace(&mut self.is_begun, true) {
            return Some(Ok(line(COLUMNS.iter().map(|name| (*name).to_owned()))));
        }
        if self.is_over || self.rows_left == 0 {
            return None;
        }
        let piece = self.piece().await;
        self.is_over |= piece.is_err();
        Some(piece)
    }

    async fn piece(&mut self) -> io::Result<String> {
        if self.site.shutdown.is_cancelled() || !self.site.door.is_open(&self.session) {
            return Err(io::Error::other("the session is over"));
        }
        let (wanted, records_max) = (self.wanted.clone(), self.rows_left.min(PAGE_RECORDS_MAX));
        let page = self.site.ask(move |reader| wanted.page(reader, records_max)).await.map_err(io::Error::other)?;
        self.rows_left = self.rows_left.saturating_sub(page.records.len());
        (self.is_over, self.wanted.before) = (page.next.is_none(), page.next);
        Ok(page.records.iter().map(|record| row(record, &self.zone)).collect())
    }
}

fn row(record: &Record, zone: &TimeZone) -> String {
    let text = |text: &Option<String>| text.as_deref().map(cell).unwrap_or_default();
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    let operation = record.sender.as_deref().unwrap_or(record.operation.name());
    let path = if record.path_escaped.is_some() { &record.path_escaped } else { &record.path };
    line([
        rfc3339(record.time_ms, zone),
        cell(&record.account),
        cell(operation),
        cell(record.outcome.name()),
        text(path),
        text(&record.target),
        number(record.moved_bytes),
        number(record.file_bytes),
        number(record.elapsed_ms),
        text(&record.address),
        number(record.port.map(u64::from)),
        text(&record.error),
        text(&record.protocol),
        text(&record.method),
        text(&record.client),
        text(&record.algorithms),
        text(&record.connection),
        record.id.to_string(),
    ])
}
