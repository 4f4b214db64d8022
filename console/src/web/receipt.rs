//! The look-up of a file: did it arrive, and is it safe?
//!
//! Always holds: nothing is promised that a record or a report does not say. Where nobody knows the moment at which a file came to the standby,
//! the page says up to when everything is there, and leaves it at that.

mod safe;

use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::tz::TimeZone;
use web::{Session, figures};

use super::activity::Asked;
use super::records::{HOWS, field, local_time, search_of, shown};
use super::{Frame, Site, page};
use crate::questions::{Came, Filter, How, Key, Reader, Record, Search, What};
use crate::record::Operation;
use crate::situation::Situation;
use safe::Line;

/// Where it lies.
const HERE: &str = "/console/files";
/// Files that are shown.
const FILES_MAX: usize = 20;

#[derive(Template)]
#[template(path = "receipt.html")]
struct Receipts {
    frame: Frame,
    style: String,
    here: &'static str,
    typed_text: String,
    typed_how: String,
    mistake: String,
    is_asked: bool,
    receipts: Vec<Receipt>,
    has_more: bool,
    /// Up to when the records are looked at, where that is not all of them.
    looked_back_to: String,
    records: String,
    zone: String,
}

/// What is known of a file that was uploaded.
struct Receipt {
    path: String,
    /// Under which name it came, where it was renamed since.
    came_as: String,
    account: String,
    address: String,
    received: String,
    size: String,
    outcome: &'static str,
    is_bad: bool,
    durable: Line,
    standbys: Vec<Line>,
    error: String,
}

/// An upload that was found, and the rename by which it got the name that was looked for.
struct Found {
    upload: Option<Record>,
    renamed: Option<Record>,
}

/// What was found, and where one would go on.
struct Answer {
    found: Vec<Found>,
    next: Option<Key>,
    zone: TimeZone,
}

/// Shows the page.
pub async fn show(State(site): State<Site>, session: Extension<Session>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let text = field(&query, "text").unwrap_or_default();
    let how = field(&query, "how").unwrap_or_default();
    let (search, mistake) = match search_of(text.trim(), &how, How::Exact) {
        Ok(search) => (search, String::new()),
        Err((_, sentence)) => (None, sentence),
    };
    let is_asked = search.is_some();
    let answer = match site.ask(move |reader| look_up(reader, search.as_ref())).await {
        Ok(answer) => answer,
        Err(error) => return site.failed(&session, &error),
    };
    let situation = site.situation.borrow().clone();
    let status = if mistake.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let asked = Asked::default();
    let is_far = answer.found.len() < FILES_MAX;
    let zone = &answer.zone;
    let shown = Receipts {
        frame: site.frame(&session, HERE),
        style: site.assets.url("activity.css"),
        here: HERE,
        receipts: answer.found.iter().filter_map(|found| receipt(found, &situation, zone)).collect(),
        has_more: answer.next.is_some() && !is_far,
        looked_back_to: answer.next.filter(|_| is_far).map_or_else(String::new, |key| local_time(key.time_ms, zone)),
        records: format!("/console/records?{}", asked.query_with(&[("text", text.trim()), ("how", &how)])),
        zone: zone.iana_name().unwrap_or("the system's own zone").to_owned(),
        typed_text: text,
        typed_how: if how.is_empty() { "exact".into() } else { how },
        mistake,
        is_asked,
    };
    page(status, &shown)
}

fn look_up(reader: &Reader, search: Option<&Search>) -> anyhow::Result<Answer> {
    let zone = reader.zone().clone();
    let Some(search) = search else { return Ok(Answer { found: Vec::new(), next: None, zone }) };
    let only = |operation, came| Filter { what: Some(What::Only(operation)), came, ..Filter::default() };
    let uploads = reader.find(&only(Operation::Upload, None), search, None, FILES_MAX)?;
    let renames = reader.find(&only(Operation::Rename, Some(Came::Done)), search, None, FILES_MAX)?;
    let mut found: Vec<Found> =
        uploads.records.into_iter().map(|record| Found { upload: Some(record), renamed: None }).collect();
    for rename in renames.records {
        let is_meant = rename.target.as_deref().is_some_and(|target| search.finds(target));
        if !is_meant {
            continue;
        }
        let source = Search { text: rename.path.clone().unwrap_or_default(), how: How::Exact };
        let filter = Filter { account: Some(rename.account.clone()), ..only(Operation::Upload, Some(Came::Done)) };
        let before = Key { time_ms: rename.time_ms, id: rename.id };
        let upload = reader.find(&filter, &source, Some(before), 1)?.records.into_iter().next();
        found.retain(|other| {
            other.renamed.is_some() || other.upload.as_ref().map(|one| one.id) != upload.as_ref().map(|one| one.id)
        });
        found.push(Found { upload, renamed: Some(rename) });
    }
    found.sort_by_key(|found| std::cmp::Reverse(found.last().map_or(0, |record| record.time_ms)));
    found.truncate(FILES_MAX);
    let next = uploads.next.into_iter().chain(renames.next).max_by_key(|key| (key.time_ms, key.id));
    Ok(Answer { found, next, zone })
}

impl Found {
    /// The record that gave the file the name that it has.
    fn last(&self) -> Option<&Record> {
        self.renamed.as_ref().or(self.upload.as_ref())
    }
}

fn receipt(found: &Found, situation: &Situation, zone: &TimeZone) -> Option<Receipt> {
    let last = found.last()?;
    let upload = found.upload.as_ref().unwrap_or(last);
    let is_renamed = found.renamed.is_some();
    let path = if is_renamed { last.target.as_deref() } else { last.path.as_deref() }.unwrap_or_default();
    let came_as = match (&found.renamed, &found.upload) {
        (Some(_), Some(upload)) => upload.path.as_deref().map(shown).unwrap_or_default(),
        (Some(rename), None) => {
            format!("{}, of which no upload is in the records", shown(rename.path.as_deref().unwrap_or_default()))
        }
        _ => String::new(),
    };
    let size = upload.file_bytes.or(upload.moved_bytes);
    let is_volatile = situation.status.as_ref().is_some_and(|status| status.is_volatile);
    Some(Receipt {
        path: shown(path),
        came_as,
        account: shown(&upload.account),
        address: upload.address.as_deref().map(shown).unwrap_or_default(),
        received: local_time(upload.time_ms, zone),
        size: size.map(figures::bytes).unwrap_or_default(),
        outcome: upload.outcome.name(),
        is_bad: upload.outcome.is_failure(),
        durable: safe::durable(upload.outcome, upload.is_ours, is_volatile),
        standbys: if upload.outcome.is_failure() { Vec::new() } else { safe::standbys(situation, last, path, zone) },
        error: upload.error.as_deref().map(shown).unwrap_or_default(),
    })
}
