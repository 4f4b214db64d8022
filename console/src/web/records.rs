//! The records page: the newest first, under a filter, with a search; those that arrive meanwhile; and all of them as a CSV.
//!
//! Always holds: pages follow each other by the last record that was seen. Whatever a log says is shown as text, and letters that are not
//! seen are written out. It changes nothing.

mod export;
mod live;
mod row;
mod text;

use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use web::Session;

use super::activity::{Asked, CAMES, Quick, WHATS, offered, today};
use super::{Frame, Site, page};
use crate::questions::{Filter, How, Key, Page, Reader, Search};

pub use export::csv;
pub use live::events;
pub use row::{Row, Rows, local_time, rfc3339};
pub use text::{cell, line, shown};

/// Where it lies.
const HERE: &str = "/console/records";
/// Rows of a page.
const ROWS_MAX: usize = 100;
/// The longest text that is looked for, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// How a text can be looked for.
pub const HOWS: [(&str, &str); 3] =
    [("contains", "Anywhere in the path"), ("exact", "Whole name or path"), ("prefix", "Beginning of either")];

#[derive(Template)]
#[template(path = "records.html")]
struct RecordsPage {
    frame: Frame,
    style: String,
    script: String,
    here: &'static str,
    asked: Asked,
    accounts: Vec<String>,
    quick: Vec<Quick>,
    rows: Vec<Row>,
    older: String,
    /// Up to when nothing more was found, where the search goes on.
    looked_back_to: String,
    is_first: bool,
    csv: String,
    csv_max: String,
    events: String,
    zone: String,
}

/// What a page of records is about.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The filter.
    pub filter: Filter,
    /// The search.
    pub search: Option<Search>,
    /// Where the page begins.
    pub before: Option<Key>,
}

impl Wanted {
    /// What stands in an address, with what is wrong put into `asked`.
    pub fn of(asked: &mut Asked, query: &str) -> Wanted {
        let before = field(query, "before").filter(|text| !text.is_empty());
        let key = before.as_deref().map(parse_key);
        if asked.mistake.is_none() && matches!(key, Some(None)) {
            asked.mistake = Some(("before".into(), "There is no such page.".into()));
        }
        let search = match search_of(&asked.typed.text, &asked.typed.how, How::Contains) {
            Ok(search) => search,
            Err((key, sentence)) => {
                asked.mistake.get_or_insert((key.into(), sentence));
                None
            }
        };
        Wanted { filter: asked.filter.clone(), search, before: key.flatten() }
    }

    /// The records.
    pub fn page(&self, reader: &Reader, records_max: usize) -> anyhow::Result<Page> {
        match &self.search {
            Some(search) => reader.find(&self.filter, search, self.before, records_max),
            None => reader.newest(&self.filter, self.before, records_max),
        }
    }
}

/// A search as it was typed, or the field that is wrong and why.
pub fn search_of(text: &str, how: &str, otherwise: How) -> Result<Option<Search>, (&'static str, String)> {
    let how = match how {
        "" => otherwise,
        "exact" => How::Exact,
        "prefix" => How::Prefix,
        "contains" => How::Contains,
        _ => return Err(("how", "A text is looked for whole, as a beginning, or anywhere.".into())),
    };
    if text.len() > TEXT_BYTES_MAX {
        return Err(("text", format!("The text is too long: it may have {TEXT_BYTES_MAX} bytes.")));
    }
    Ok((!text.is_empty()).then(|| Search { text: text.to_owned(), how }))
}

/// A field of an address.
pub fn field(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find_map(|(key, value)| (key == name).then(|| value.into_owned()))
}

/// A place, as `1795000000000-17`.
fn parse_key(text: &str) -> Option<Key> {
    let (time_ms, id) = text.rsplit_once('-')?;
    Some(Key { time_ms: time_ms.parse().ok()?, id: id.parse().ok().filter(|id| *id >= 0)? })
}

/// Shows the page.
pub async fn show(State(site): State<Site>, session: Extension<Session>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let mut asked = Asked::of(&query);
    let wanted = Wanted::of(&mut asked, &query);
    let (is_wrong, is_first) = (asked.mistake.is_some(), wanted.before.is_none());
    let question = move |reader: &Reader| {
        let last = reader.last_arrived()?;
        let found = if is_wrong { Page::default() } else { wanted.page(reader, ROWS_MAX)? };
        Ok((offered(reader)?, found, last, reader.zone().clone()))
    };
    let (accounts, found, last, zone) = match site.ask(question).await {
        Ok(answer) => answer,
        Err(error) => return site.failed(&session, &error),
    };
    let status = if is_wrong { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let typed = &asked.typed;
    let with = |more: &[(&str, &str)]| {
        let search = [("text", typed.text.as_str()), ("how", typed.how.as_str())];
        asked.query_with(&[&search, more].concat())
    };
    let next = found.next.map(|key| format!("{}-{}", key.time_ms, key.id)).unwrap_or_default();
    let shown = RecordsPage {
        frame: site.frame(&session, HERE),
        style: site.assets.url("activity.css"),
        script: site.assets.url("activity.js"),
        here: HERE,
        quick: asked.quick(today(&zone)),
        older: if next.is_empty() { String::new() } else { format!("{HERE}?{}", with(&[("before", &next)])) },
        looked_back_to: found
            .next
            .filter(|_| found.records.len() < ROWS_MAX)
            .map_or_else(String::new, |key| local_time(key.time_ms, &zone)),
        rows: found.records.iter().map(|record| Row::of(record, &zone)).collect(),
        is_first,
        csv: format!("/console/records.csv?{}", with(&[])),
        csv_max: web::figures::count(export::ROWS_MAX as u64),
        events: format!("{HERE}/events?{}", with(&[("after", &last.to_string())])),
        zone: zone.iana_name().unwrap_or("the system's own zone").to_owned(),
        accounts,
        asked,
    };
    page(status, &shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_an_address_is_two_numbers_or_none() {
        assert_eq!(parse_key("1795000000000-17"), Some(Key { time_ms: 1_795_000_000_000, id: 17 }));
        assert_eq!(parse_key("-5-17"), Some(Key { time_ms: -5, id: 17 }));
        for wrong in ["", "-", "1", "x-1", "1-x", "../1-2/..", "99999999999999999999-1", "1--1", "1-1;drop"] {
            assert_eq!(parse_key(wrong), None, "{wrong}");
        }
    }
}
