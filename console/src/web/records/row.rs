//! A record as a row of a table. Pure.

use askama::Template;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use web::figures;

use super::text::shown;
use crate::questions::Record;

/// Rows as HTML: the same piece in a page and in an event.
#[derive(Clone, Debug, Template)]
#[template(path = "records_rows.html")]
pub struct Rows {
    /// The newest first.
    pub rows: Vec<Row>,
}

/// A row. Its texts are not escaped; the template does that.
#[derive(Clone, Debug)]
pub struct Row {
    /// When, in the zone of the pages.
    pub time: String,
    /// The same for programs.
    pub datetime: String,
    /// Who.
    pub account: String,
    /// What.
    pub operation: String,
    /// What became of it; empty where nothing is said.
    pub outcome: &'static str,
    /// Whether it failed.
    pub is_bad: bool,
    /// On which path.
    pub path: String,
    /// And where to.
    pub target: String,
    /// Bytes.
    pub size: String,
    /// How long it took.
    pub duration: String,
    /// From where.
    pub address: String,
    /// What was said.
    pub error: String,
}

impl Row {
    /// The row of a record.
    pub fn of(record: &Record, zone: &TimeZone) -> Row {
        let text = |text: &Option<String>| text.as_deref().map(shown).unwrap_or_default();
        let size = record.moved_bytes.or(record.file_bytes);
        let path = record.path_escaped.as_ref().or(record.path.as_ref());
        Row {
            time: local_time(record.time_ms, zone),
            datetime: rfc3339(record.time_ms, zone),
            account: shown(&record.account),
            operation: record.sender.as_deref().map_or_else(|| record.operation.name().replace('_', " "), shown),
            outcome: if record.outcome.name() == "unsaid" { "" } else { record.outcome.name() },
            is_bad: record.outcome.is_failure(),
            path: path.map(|path| shown(path)).unwrap_or_default(),
            target: text(&record.target),
            size: size.map(figures::bytes).unwrap_or_default(),
            duration: record.elapsed_ms.map(|ms| figures::milliseconds(ms as f64)).unwrap_or_default(),
            address: text(&record.address),
            error: text(&record.error),
        }
    }
}

/// A moment as people read it.
pub fn local_time(ms: i64, zone: &TimeZone) -> String {
    let time = Timestamp::from_millisecond(ms).unwrap_or_default();
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A moment with its offset.
pub fn rfc3339(ms: i64, zone: &TimeZone) -> String {
    let time = Timestamp::from_millisecond(ms).unwrap_or_default();
    time.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}
