//! Files: those of a folder, or all that a question finds, whatever folder they are in; newest first unless asked otherwise.
//!
//! Always holds: what is asked stands in the address; a page has at most [`ROWS_MAX`] rows, however many files there are. Where a text is
//! looked for in them, `hits` answers instead.

use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::tz::TimeZone;
use web::{Caller, Session, figures};

use super::super::activity::today;
use super::super::records::{local_time, rfc3339};
use super::super::{Frame, Site, page};
use super::form::{Asked, CONTEXTS, HOWS, Quick, SHOWS, query};
use super::overview::{Choice, places};
use super::{Fault, HERE, hits, homes, text};
use crate::archive::{By, Entry, FILES_MAX, Found, Place, Told, Walked, list, sort, walk};

/// Rows of a page.
const ROWS_MAX: usize = 200;

#[derive(Template)]
#[template(path = "archive_files.html")]
struct Page {
    frame: Frame,
    style: String,
    script: String,
    asked: Asked,
    places: Vec<Choice>,
    quick: Vec<Quick>,
    crumbs: Vec<Choice>,
    columns: Vec<Column>,
    rows: Vec<Row>,
    in_all: String,
    remarks: Vec<String>,
    warning: String,
    earlier: String,
    later: String,
    position: String,
    zone: String,
}

/// A column that files can be sorted by.
struct Column {
    name: &'static str,
    query: String,
    /// For screen readers; empty where it is not the one that is sorted by.
    sorted: &'static str,
    is_number: bool,
}

struct Row {
    value: String,
    name: String,
    is_folder: bool,
    link: String,
    download: String,
    size: String,
    time: String,
    datetime: String,
}

/// What was found.
struct Answer {
    rows: Vec<(Place, Entry)>,
    count: usize,
    files: usize,
    bytes: u64,
    remarks: Vec<String>,
    is_folder: bool,
}

/// Shows the page.
pub async fn show(
    State(site): State<Site>,
    session: Extension<Session>,
    caller: Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Response {
    let zone = site.config.zone().unwrap_or(TimeZone::UTC);
    let asked = Asked::of(&query.unwrap_or_default(), &zone);
    let told = site.archive.known.told().await;
    if asked.pattern.is_some() && asked.mistake.is_none() {
        return hits::show(&site, (session.0, caller.0), asked, &told, &zone);
    }
    let answer = match asked.mistake {
        Some(_) => Ok(None),
        None => find(&site, &told, &asked).await.map(Some),
    };
    match answer {
        Ok(answer) => {
            let status = if answer.is_none() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
            page(status, &page_of(&site, &session, asked, &told, answer, &zone))
        }
        Err(fault) => fault.page(&site, &session),
    }
}

async fn find(site: &Site, told: &Told, asked: &Asked) -> Result<Answer, Fault> {
    let homes = homes(told, asked.place.as_ref())?;
    let asked = asked.clone();
    let single = asked.place.clone().filter(|_| asked.sieve.is_open());
    site.look(move |volume, bounds| {
        if let (Some(place), Some((_, home))) = (single, homes.first()) {
            let home = volume.home(home)?;
            match home.folder(&place.path) {
                Ok(folder) => return Ok(of_folder(&place, list(&folder)?, &asked)),
                // It may be a file, which is found alone.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let mut walked = Walked::default();
        let is_over = || bounds.over.is_cancelled() || std::time::Instant::now() >= bounds.until;
        for (place, home) in &homes {
            let looked = volume.home(home).and_then(|home| walk(&home, place, &asked.sieve, &is_over, &mut walked));
            match looked {
                // An agent that has sent nothing yet has no folder.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && place.path.is_empty() => {}
                looked => looked?,
            }
        }
        Ok(of_walk(walked, &asked))
    })
    .await
}

fn of_folder(place: &Place, mut listing: crate::archive::Listing, asked: &Asked) -> Answer {
    let files = listing.entries.iter().filter(|entry| !entry.is_folder);
    let (files, bytes) = files.fold((0, 0), |(files, bytes), entry| (files + 1, bytes + entry.size));
    sort(&mut listing.entries, asked.by, asked.is_descending);
    let mut remarks = Vec::new();
    if listing.is_cut {
        remarks.push("The folder has more entries than are looked at; what is shown is not all of it.".to_owned());
    }
    if listing.others > 0 {
        let others = figures::of(
            listing.others,
            "entry is no file and no folder, and is not shown",
            "entries are no files and no folders, and are not shown",
        );
        remarks.push(format!("{others}."));
    }
    let count = listing.entries.len();
    let rows = listing.entries.into_iter().skip(asked.page.saturating_mul(ROWS_MAX)).take(ROWS_MAX);
    let rows = rows.map(|entry| (place.child(&entry.name), entry)).collect();
    Answer { rows, count, files, bytes, remarks, is_folder: true }
}

fn of_walk(mut walked: Walked, asked: &Asked) -> Answer {
    sort_found(&mut walked.files, asked.by, asked.is_descending);
    let mut remarks = Vec::new();
    if walked.is_cut {
        let most = figures::count(FILES_MAX as u64);
        remarks.push(format!("There is more than was looked at: {most} files, or what half a minute is enough for. Ask for fewer: one agent, one day, some names."));
    }
    if walked.unreadable > 0 {
        remarks.push(format!("{} cannot be read.", figures::of(walked.unreadable, "folder", "folders")));
    }
    let (count, bytes) = (walked.files.len(), walked.files.iter().map(|file| file.size).sum());
    let rows = walked.files.into_iter().skip(asked.page.saturating_mul(ROWS_MAX)).take(ROWS_MAX);
    let rows = rows.map(|file| {
        let entry = Entry { name: file.place.whole(), is_folder: false, size: file.size, modified_s: file.modified_s };
        (file.place, entry)
    });
    Answer { rows: rows.collect(), count, files: count, bytes, remarks, is_folder: false }
}

/// Sorts files; what is equal by its place.
pub fn sort_found(files: &mut [Found], by: By, is_descending: bool) {
    files.sort_unstable_by(|one, other| {
        let wanted = match by {
            By::Name => one.place.cmp(&other.place),
            By::Size => one.size.cmp(&other.size),
            By::Time => one.modified_s.cmp(&other.modified_s),
        };
        let wanted = if is_descending { wanted.reverse() } else { wanted };
        wanted.then_with(|| one.place.cmp(&other.place))
    });
}

fn page_of(site: &Site, session: &Session, asked: Asked, told: &Told, answer: Option<Answer>, zone: &TimeZone) -> Page {
    let answer = answer.unwrap_or(Answer {
        rows: Vec::new(),
        count: 0,
        files: 0,
        bytes: 0,
        remarks: Vec::new(),
        is_folder: false,
    });
    let (first, shown) = (asked.page.saturating_mul(ROWS_MAX), answer.rows.len());
    let turned = |page: usize| format!("{HERE}/files?{}", asked.query_with(&[("page", &page.to_string())]));
    let folders = answer.rows.iter().filter(|(_, entry)| entry.is_folder).count();
    let in_all = format!("{}, {}", figures::of(answer.files as u64, "file", "files"), figures::bytes(answer.bytes));
    Page {
        frame: site.frame(session, HERE),
        style: site.assets.url("archive.css"),
        script: site.assets.url("archive.js"),
        places: places(told, asked.place.as_ref()),
        quick: asked.quick(today(zone)),
        crumbs: crumbs(asked.place.as_ref()),
        columns: columns(&asked),
        rows: answer.rows.iter().map(|(place, entry)| row(place, entry, answer.is_folder, zone)).collect(),
        in_all: if folders > 0 || asked.page > 0 && answer.is_folder {
            format!("{in_all} in this folder itself")
        } else {
            in_all
        },
        remarks: answer.remarks,
        warning: told.fault.as_deref().map(super::super::shown).unwrap_or_default(),
        earlier: if asked.page > 0 { turned(asked.page - 1) } else { String::new() },
        later: if first.saturating_add(shown) < answer.count { turned(asked.page + 1) } else { String::new() },
        position: match answer.count > ROWS_MAX && shown > 0 {
            true => format!("{} to {} of {}", first + 1, first + shown, figures::count(answer.count as u64)),
            false => String::new(),
        },
        zone: zone.iana_name().unwrap_or("the system's own zone").to_owned(),
        asked,
    }
}

/// The folders above a place, and itself.
pub fn crumbs(at: Option<&Place>) -> Vec<Choice> {
    let mut crumbs = Vec::new();
    let mut next = at.cloned();
    while let Some(place) = next {
        crumbs.push(Choice { value: query(&[("in", &place.text())]), name: text::name(place.name()) });
        next = place.parent();
    }
    crumbs.reverse();
    crumbs
}

fn columns(asked: &Asked) -> Vec<Column> {
    let all =
        [("Name", "name", By::Name, false), ("Size", "size", By::Size, true), ("Last change", "time", By::Time, false)];
    let column = |(name, key, by, is_number)| {
        let is_own = asked.by == by;
        // A second click turns the order around; the first shows what one looks for first.
        let is_descending = if is_own { !asked.is_descending } else { by != By::Name };
        let query = asked.query_with(&[("by", key), ("order", if is_descending { "down" } else { "up" })]);
        let sorted = match (is_own, asked.is_descending) {
            (false, _) => "",
            (true, true) => "descending",
            (true, false) => "ascending",
        };
        Column { name, query, sorted, is_number }
    };
    all.into_iter().map(column).collect()
}

fn row(place: &Place, entry: &Entry, is_listing: bool, zone: &TimeZone) -> Row {
    let value = place.text();
    let link = match entry.is_folder {
        true => format!("{HERE}/files?{}", query(&[("in", &value)])),
        false => format!("{HERE}/view?{}", query(&[("file", &value)])),
    };
    let modified_ms = entry.modified_s.saturating_mul(1000);
    Row {
        name: if is_listing { text::name(&entry.name) } else { text::name(&place.whole()) },
        is_folder: entry.is_folder,
        link,
        download: format!("{HERE}/file?{}", query(&[("file", &value)])),
        size: if entry.is_folder { String::new() } else { figures::bytes(entry.size) },
        time: local_time(modified_ms, zone),
        datetime: rfc3339(modified_ms, zone),
        value,
    }
}
