//! The activity page: who moved what, as charts with a table and a CSV under each; and what was expected and is not here.
//!
//! Always holds: what is asked for stands in the address, and nothing else is remembered. The tables are there without a script; charts are
//! drawn by one from the same numbers. It changes nothing.

mod answers;
mod form;
mod plots;
mod script;
mod tables;

use askama::Template;
use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use web::{Session, figures};

use super::{Frame, Site, page};
use crate::expected::{Outlook, Verdict};
use crate::questions::{Filter, Reader, Totals};
use answers::Answers;
use plots::Draw;
use tables::{Make, Table};

pub use form::{Asked, CAMES, Quick, WHATS};
pub use script::plotly;

/// Where it lies.
const HERE: &str = "/console/activity";
/// Rows of a table in the page.
const ROWS_SHOWN_MAX: usize = 100;
/// Rows of a CSV.
const ROWS_MAX: usize = 10_000;
/// Accounts that are offered in the form.
const ACCOUNTS_OFFERED_MAX: usize = 500;

/// A chart with its table.
struct Spec {
    /// Its name in addresses and files.
    key: &'static str,
    title: &'static str,
    lead: &'static str,
    /// The colours of its series, as variables of the page's style.
    colours: &'static str,
    draw: Draw,
    make: Make,
}

const fn spec(
    key: &'static str,
    title: &'static str,
    lead: &'static str,
    colours: &'static str,
    draw: Draw,
    make: Make,
) -> Spec {
    Spec { key, title, lead, colours, draw, make }
}

const THREE: &str = "--line-1 --line-2 --bad";

/// All of them, in the order of the page.
const CHARTS: [Spec; 11] = [
    spec("days", "Activity by day", "Uploads, downloads and failed transfers.", THREE, plots::days, tables::days),
    spec("bytes-by-day", "Bytes by day", "", THREE, plots::bytes_by_day, tables::bytes_by_day),
    spec("transfers", "Transfers per user", "", THREE, plots::transfers, tables::transfers),
    spec("bytes", "Total bytes per user", "", THREE, plots::bytes_of, tables::bytes_of),
    spec("average", "Average bytes per transfer", "For each user.", "--line-1", plots::average, tables::average),
    spec(
        "failures",
        "Failures by cause",
        "Names and numbers are left out of the causes.",
        "--bad",
        plots::failures,
        tables::failures,
    ),
    spec(
        "upload-hours",
        "Uploads over the hours of the week",
        "",
        "--line-1",
        plots::upload_hours,
        tables::upload_hours,
    ),
    spec(
        "download-hours",
        "Downloads over the hours of the week",
        "",
        "--line-2",
        plots::download_hours,
        tables::download_hours,
    ),
    spec(
        "slowest",
        "Slowest partners",
        "By transfers of 256 KiB and more.",
        "--line-3",
        plots::slowest,
        tables::slowest,
    ),
    spec(
        "clients",
        "Client versions and ciphers in use",
        "The cipher stands first, then what authenticates and what has exchanged keys. Only dates and account count here.",
        "--line-1",
        plots::clients,
        tables::clients,
    ),
    spec(
        "failed-logins",
        "Who fails to log in",
        "Names that were tried, and from where. Only dates and account count here.",
        "--bad",
        plots::failed_logins,
        tables::failed_logins,
    ),
];

#[derive(Template)]
#[template(path = "activity.html")]
struct Page {
    frame: Frame,
    style: String,
    script: String,
    plotly: String,
    here: &'static str,
    asked: Asked,
    accounts: Vec<String>,
    quick: Vec<Quick>,
    linear: String,
    logarithmic: String,
    records: String,
    tiles: Vec<Tile>,
    charts: Vec<Chart>,
    expected: Vec<Expectation>,
    zone: String,
}

/// A number with its name.
struct Tile {
    name: &'static str,
    figure: String,
    detail: String,
    is_bad: bool,
}

/// A chart with its table, as the page shows it.
struct Chart {
    key: &'static str,
    title: &'static str,
    lead: &'static str,
    colours: &'static str,
    /// What plotly.js takes; empty where there is nothing to draw.
    figure: String,
    table: Table,
    rows_left: usize,
    csv: String,
}

/// A rule about a file that is expected, as pages show it.
pub struct Expectation {
    /// The rule.
    pub rule: String,
    /// How it stands.
    pub word: &'static str,
    /// How well that is: a class.
    pub class: &'static str,
    /// More of it.
    pub detail: String,
}

/// Shows the page.
pub async fn show(State(site): State<Site>, session: Extension<Session>, RawQuery(query): RawQuery) -> Response {
    let asked = Asked::of(query.as_deref().unwrap_or_default());
    let is_wrong = asked.mistake.is_some();
    let ask = |half: fn(&Reader, &Filter, usize) -> anyhow::Result<Answers>| {
        let filter = (!is_wrong).then(|| asked.filter.clone());
        site.ask(move |reader| filter.map(|filter| half(reader, &filter, ROWS_SHOWN_MAX)).transpose())
    };
    let form = site.ask(|reader| Ok((offered(reader)?, reader.zone().clone())));
    // Each looks at everything that there is: beside each other.
    match tokio::try_join!(form, ask(Answers::of_sums), ask(Answers::of_faults)) {
        Err(error) => site.failed(&session, &error),
        Ok(((accounts, zone), sums, faults)) => {
            let answers = sums.zip(faults).map(|(sums, faults)| sums.with_faults(faults));
            let status = if is_wrong { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
            page(status, &page_of(&site, &session, asked, accounts, answers.as_ref(), &zone))
        }
    }
}

/// A table as a CSV.
pub async fn csv(
    State(site): State<Site>,
    session: Extension<Session>,
    file: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Response {
    let file = file.map(|Path(file)| file).unwrap_or_default();
    let key = file.strip_suffix(".csv").unwrap_or_default();
    let Some(spec) = CHARTS.iter().find(|spec| spec.key == key) else {
        return site.fault(&session, StatusCode::NOT_FOUND, "Nothing here", "There is no such table.");
    };
    let asked = Asked::of(query.as_deref().unwrap_or_default());
    if asked.mistake.is_some() {
        let sentence = asked.sentence();
        return site.fault(&session, StatusCode::UNPROCESSABLE_ENTITY, "The filter is wrong", sentence);
    }
    let make = spec.make;
    let question = move |reader: &Reader| {
        let answers = Answers::ask(reader, &asked.filter, ROWS_MAX)?;
        Ok(make(&answers, reader.zone()).csv())
    };
    match site.ask(question).await {
        Err(error) => site.failed(&session, &error),
        Ok(text) => attachment(spec.key, text),
    }
}

/// A CSV to be saved under a name of ours.
pub fn attachment(name: &str, body: impl IntoResponse) -> Response {
    let disposition = format!("attachment; filename=\"{name}.csv\"");
    let headers =
        [(header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    (headers, body).into_response()
}

/// Accounts to choose from. Names with letters that are not seen are left out: a choice must be what it looks like.
pub fn offered(reader: &Reader) -> anyhow::Result<Vec<String>> {
    let mut names = reader.accounts(ACCOUNTS_OFFERED_MAX)?;
    names.retain(|name| super::shown(name) == *name);
    Ok(names)
}

/// Today in a zone.
pub fn today(zone: &TimeZone) -> Date {
    zone.to_datetime(Timestamp::now()).date()
}

fn page_of(
    site: &Site,
    session: &Session,
    asked: Asked,
    accounts: Vec<String>,
    answers: Option<&Answers>,
    zone: &TimeZone,
) -> Page {
    let address = |query: String| format!("{HERE}?{query}");
    let charts = answers.map(|answers| CHARTS.iter().map(|spec| chart(spec, answers, &asked, zone)).collect());
    Page {
        frame: site.frame(session, HERE),
        style: site.assets.url("activity.css"),
        script: site.assets.url("activity.js"),
        plotly: site.assets.url(script::NAME),
        here: HERE,
        accounts,
        quick: asked.quick(today(zone)),
        linear: address(asked.query_with(&[])),
        logarithmic: address(asked.query_with(&[("axis", "log")])),
        records: format!("/console/records?{}", asked.query_with(&[])),
        tiles: answers.map(|answers| tiles(&answers.moved.totals)).unwrap_or_default(),
        charts: charts.unwrap_or_default(),
        expected: site.expected.borrow().iter().map(expectation).collect(),
        zone: zone.iana_name().unwrap_or("the system's own zone").to_owned(),
        asked,
    }
}

fn chart(spec: &Spec, answers: &Answers, asked: &Asked, zone: &TimeZone) -> Chart {
    let mut table = (spec.make)(answers, zone);
    let rows_left = table.rows.len().saturating_sub(ROWS_SHOWN_MAX);
    table.rows.truncate(ROWS_SHOWN_MAX);
    let plot = (spec.draw)(answers, asked.typed.is_log);
    Chart {
        key: spec.key,
        title: spec.title,
        lead: spec.lead,
        colours: spec.colours,
        figure: plot.map(|plot| plot.to_json()).unwrap_or_default(),
        table,
        rows_left,
        csv: format!("{HERE}/{}.csv?{}", spec.key, asked.query_with(&[])),
    }
}

fn tiles(totals: &Totals) -> Vec<Tile> {
    let tile = |name, figure, detail| Tile { name, figure, detail, is_bad: false };
    let failed = |name, times: u64, detail: &str| {
        let figure = figures::count(times);
        Tile { name, figure, detail: detail.to_owned(), is_bad: times > 0 }
    };
    let average = format!("{} on the average", figures::bytes(totals.average_bytes()));
    vec![
        tile("Uploads", figures::count(totals.uploads), figures::bytes(totals.uploaded_bytes)),
        tile("Downloads", figures::count(totals.downloads), figures::bytes(totals.downloaded_bytes)),
        tile("Bytes in all", figures::bytes(totals.uploaded_bytes + totals.downloaded_bytes), average),
        failed("Failed transfers", totals.failed_transfers, "they ended before their end"),
        tile(
            "Other changes",
            figures::count(totals.changes),
            format!("{} refused", figures::count(totals.refused_changes)),
        ),
        tile("Logins", figures::count(totals.logins), String::new()),
        failed("Failed logins", totals.failed_logins, "see who, below"),
    ]
}

/// How a rule stands.
pub fn expectation(outlook: &Outlook) -> Expectation {
    let (word, class) = match outlook.verdict {
        Verdict::Here => ("Here", "good-text"),
        Verdict::Late => ("Came late", "warn-text"),
        Verdict::Missed => ("Not here", "bad-text"),
        Verdict::Awaited => ("Not yet due", "muted"),
        Verdict::NotToday => ("Not today", "muted"),
    };
    Expectation { rule: super::shown(&outlook.rule), word, class, detail: super::shown(&outlook.sentence) }
}
