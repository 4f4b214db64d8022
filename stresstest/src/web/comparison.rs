//! Two runs side by side, drawn to one scale.

use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use web::Session;

use super::chart::{self, Chart};
use super::form::{Mistakes, Typed};
use super::overview::{self, Notice};
use super::result::{Judged, asked};
use super::{Frame, HOME, Site, figures, nothing_here, page};
use crate::identity::RunId;
use crate::plan::Operation;
use crate::report::Report;

#[derive(Template)]
#[template(path = "comparison.html")]
pub(super) struct Comparison {
    frame: Frame,
    sides: [Side; 2],
    measured: Vec<Measured>,
    asked: Vec<Asked>,
}

struct Side {
    run: String,
    began: String,
    judged: Judged,
    sentence: String,
    charts: Vec<Chart>,
}

struct Measured {
    name: &'static str,
    one: String,
    other: String,
    change: String,
}

struct Asked {
    name: &'static str,
    one: String,
    other: String,
    differs: bool,
}

/// The two runs that were chosen in the table of earlier ones.
pub async fn show(State(site): State<Site>, session: Extension<Session>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let pairs = form_urlencoded::parse(query.as_bytes());
    let runs: Result<Vec<RunId>, _> = pairs.filter(|(name, _)| name == "run").map(|(_, run)| run.parse()).collect();
    let (one, other) = match runs.as_deref() {
        Ok([one, other]) if one != other => (one.clone(), other.clone()),
        Ok([one]) => return Redirect::to(&format!("{HOME}runs/{one}")).into_response(),
        Ok(_) => return choose_two(&site, &session).await,
        Err(_) => return nothing_here(&site, &session, "That is not the name of a run."),
    };
    let runner = site.runner.clone();
    let read =
        tokio::task::spawn_blocking(move || anyhow::Ok((runner.reports().read(&one)?, runner.reports().read(&other)?)));
    match read.await {
        Ok(Ok((Some(one), Some(other)))) => page(StatusCode::OK, &comparison(site.frame(&session), &one, &other)),
        _ => nothing_here(&site, &session, "One of these runs has no report: it has been removed."),
    }
}

async fn choose_two(site: &Site, session: &Session) -> Response {
    let sentence = "Choose two runs of the table, then compare them.".to_owned();
    let typed = Typed::usual(!site.config.standbys.is_empty());
    let notice = Some(Notice { good: false, sentence });
    overview::answer(site, session, StatusCode::UNPROCESSABLE_ENTITY, typed, Mistakes::default(), notice).await
}

/// The older one is on the left.
pub(super) fn comparison(frame: Frame, one: &Report, other: &Report) -> Comparison {
    let (one, other) = if one.run <= other.run { (one, other) } else { (other, one) };
    let both = |of: fn(&[crate::progress::Point]) -> f64| of(&one.points).max(of(&other.points));
    let (throughput, latency) = (both(chart::throughput_max), both(chart::latency_max));
    let side = |report: &Report| Side {
        run: report.run.to_string(),
        began: figures::moment(&report.began),
        judged: Judged::of(report),
        sentence: report.verdict.sentence.clone(),
        charts: [chart::throughput(&report.points, Some(throughput)), chart::latency(&report.points, Some(latency))]
            .into_iter()
            .flatten()
            .collect(),
    };
    let pairs = asked(&one.plan).into_iter().map(|(name, value)| {
        let (_, second) = asked(&other.plan).into_iter().find(|(same, _)| *same == name).unwrap_or((name, "–".into()));
        Asked { name, differs: value != second, one: value, other: second }
    });
    Comparison { frame, sides: [side(one), side(other)], measured: measured(one, other), asked: pairs.collect() }
}

/// What is measured, and how it is written.
type Measure = (&'static str, fn(&Report) -> Option<f64>, fn(f64) -> String);

const MEASURES: [Measure; 10] = [
    ("Upload", |report| Some(report.totals.up_bytes_per_s), figures::rate),
    ("Files uploaded per second", |report| Some(report.totals.files_per_s), figures::pace),
    ("Download", |report| Some(report.totals.down_bytes_per_s), figures::rate),
    ("Upload, half within", |report| Some(report.latencies.get(&Operation::Upload)?.p50_ms), figures::milliseconds),
    (
        "Upload, 95 of 100 within",
        |report| Some(report.latencies.get(&Operation::Upload)?.p95_ms),
        figures::milliseconds,
    ),
    (
        "Upload, 99 of 100 within",
        |report| Some(report.latencies.get(&Operation::Upload)?.p99_ms),
        figures::milliseconds,
    ),
    ("On the standby, 99 of 100 within", slowest_arrival, figures::milliseconds),
    ("Load lasted", |report| Some(report.totals.load_s), figures::seconds),
    ("Errors", |report| Some(report.errors.values().sum::<u64>() as f64), whole),
    ("Lost or wrong", |report| Some(report.faults_by_kind.values().sum::<u64>() as f64), whole),
];

fn slowest_arrival(report: &Report) -> Option<f64> {
    report.arrivals.values().map(|arrivals| arrivals.latency.p99_ms).reduce(f64::max)
}

fn whole(number: f64) -> String {
    figures::count(number as u64)
}

fn measured(one: &Report, other: &Report) -> Vec<Measured> {
    let row = |(name, of, write): &Measure| {
        let (first, second) = (of(one), of(other));
        let text = |value: Option<f64>| value.map_or("–".to_owned(), write);
        let change = first.zip(second).map_or(String::new(), |(first, second)| figures::change(first, second));
        Measured { name, one: text(first), other: text(second), change }
    };
    MEASURES.iter().map(row).collect()
}
