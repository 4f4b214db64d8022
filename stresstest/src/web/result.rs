//! What came of a run: the verdict first, then the numbers, then how it was found out.

use askama::Template;
use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use web::Session;

use super::chart::{self, Chart};
use super::live::{self, Tile};
use super::overview::mix_in_words;
use super::{Frame, Site, figures, nothing_here, page};
use crate::identity::RunId;
use crate::plan::Operation;
use crate::report::{Arrivals, Asked, FAULTS_MAX, Report};

/// Findings that the page shows; the report has more.
const FINDINGS_SHOWN_MAX: usize = 200;

#[derive(Template)]
#[template(path = "result.html")]
pub(super) struct ResultPage {
    frame: Frame,
    run: String,
    began: String,
    judged: Judged,
    sentence: String,
    tiles: Vec<Tile>,
    proofs: Vec<Proof>,
    operations: Vec<OperationRow>,
    arrivals: Vec<ArrivalRow>,
    errors: Vec<(String, String)>,
    findings: Vec<Found>,
    findings_untold: String,
    charts: Vec<Chart>,
    asked: Vec<(&'static str, String)>,
    notes: Vec<String>,
    others: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "ended.html")]
struct Ended {
    frame: Frame,
    run: String,
    sentence: String,
}

/// A verdict in a word, with the class of its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// `good`, `warn` or `bad`.
    pub class: &'static str,
    /// A sign, so that nobody depends on the colour.
    pub sign: &'static str,
    /// The word.
    pub word: &'static str,
}

impl Judged {
    /// The word for a report.
    pub fn of(report: &Report) -> Judged {
        match (report.verdict.ok, report.verdict.safe) {
            (true, true) => Judged { class: "good", sign: "✓", word: "Passed" },
            (true, false) => Judged { class: "warn", sign: "?", word: "Done, but not checked" },
            (false, true) => Judged { class: "bad", sign: "✕", word: "Nothing lost, but errors" },
            (false, false) => Judged { class: "bad", sign: "✕", word: "Failed" },
        }
    }
}

/// What was looked at, and how.
struct Proof {
    good: bool,
    name: String,
    sentence: String,
}

struct OperationRow {
    name: &'static str,
    ok: String,
    failed: String,
    any_failed: bool,
    times: Vec<String>,
}

struct ArrivalRow {
    standby: String,
    arrived: String,
    times: Vec<String>,
}

struct Found {
    file: String,
    server: String,
    kind: String,
    detail: String,
}

/// The page of a run: as it goes, or what came of it.
pub async fn show(State(site): State<Site>, session: Extension<Session>, Path(run): Path<String>) -> Response {
    let Ok(run) = run.parse::<RunId>() else { return nothing_here(&site, &session, "That is not the name of a run.") };
    let progress = site.runner.watch().borrow().clone();
    let is_it = progress.run.as_ref() == Some(&run);
    if is_it && progress.is_running() {
        return live::show(&site, &session, &run, &progress);
    }
    let runner = site.runner.clone();
    let wanted = run.clone();
    let read = tokio::task::spawn_blocking(move || {
        let others: Vec<(String, String)> = runner.reports().list().iter().map(named).collect();
        (runner.reports().read(&wanted), others)
    });
    match read.await {
        Ok((Ok(Some(report)), others)) => {
            let others = others.into_iter().filter(|(other, _)| *other != report.run.as_str()).collect();
            page(StatusCode::OK, &result_page(site.frame(&session), &report, others))
        }
        Ok((Ok(None), _)) if is_it => {
            let sentence = progress.sentence.clone().unwrap_or_else(|| "It ended without a report.".to_owned());
            page(StatusCode::OK, &Ended { frame: site.frame(&session), run: run.to_string(), sentence })
        }
        Ok((Ok(None), _)) => {
            nothing_here(&site, &session, "There is no report of that run: it was never made, or has been removed.")
        }
        Ok((Err(error), _)) => {
            tracing::error!(%run, "a report cannot be read: {error:#}");
            nothing_here(&site, &session, "The report of that run cannot be read; the log says why.")
        }
        Err(_) => nothing_here(&site, &session, "The report of that run could not be read."),
    }
}

/// A run with what tells it from others.
fn named(report: &Report) -> (String, String) {
    let sizes = report.plan.sizes.replace("..", " – ");
    let text = format!("{}, {} × {sizes}", figures::moment(&report.began), figures::count(report.plan.files));
    (report.run.to_string(), text)
}

pub(super) fn result_page(frame: Frame, report: &Report, others: Vec<(String, String)>) -> ResultPage {
    let points = &report.points;
    let all: u64 = report.faults_by_kind.values().sum();
    let shown = report.faults.len().min(FINDINGS_SHOWN_MAX) as u64;
    let kind = |kind: crate::report::FaultKind| kind.text().to_owned();
    ResultPage {
        frame,
        run: report.run.to_string(),
        began: figures::moment(&report.began),
        judged: Judged::of(report),
        sentence: report.verdict.sentence.clone(),
        tiles: tiles(report),
        proofs: proofs(report),
        operations: operations(report),
        arrivals: report.arrivals.iter().map(|(standby, arrivals)| arrival_row(standby, arrivals)).collect(),
        errors: report.errors.iter().map(|(kind, times)| (kind.clone(), figures::count(*times))).collect(),
        findings: report
            .faults
            .iter()
            .take(FINDINGS_SHOWN_MAX)
            .map(|found| Found {
                file: found.file.clone(),
                server: found.server.clone(),
                kind: kind(found.kind),
                detail: found.detail.clone(),
            })
            .collect(),
        findings_untold: if all > shown {
            let first = figures::count(FAULTS_MAX as u64);
            format!("{} more; the report has the first {first}.", figures::count(all - shown))
        } else {
            String::new()
        },
        charts: [chart::throughput(points, None), chart::latency(points, None), chart::lag(points)]
            .into_iter()
            .flatten()
            .collect(),
        asked: asked(&report.plan),
        notes: report.notes.clone(),
        others,
    }
}

fn tiles(report: &Report) -> Vec<Tile> {
    let totals = &report.totals;
    let uploads = report.latencies.get(&Operation::Upload).copied().unwrap_or_default();
    let errors: u64 = report.errors.values().sum();
    let slowest = report.arrivals.values().map(|arrivals| arrivals.latency.p99_ms).fold(0.0, f64::max);
    let arrivals = (!report.arrivals.is_empty())
        .then(|| Tile::new("On the standby within", figures::milliseconds(slowest), "99 of 100 files".to_owned()));
    let pace = format!("{} files/s, {}", figures::pace(totals.files_per_s), figures::bytes(totals.bytes_up));
    let download = Tile::new("Download", figures::rate(totals.down_bytes_per_s), figures::bytes(totals.bytes_down));
    let half = format!("half within {}", figures::milliseconds(uploads.p50_ms));
    let wrong: u64 = report.faults_by_kind.values().sum();
    let acknowledged = format!("of {}", figures::of(totals.acknowledged, "file", "files"));
    let whole = format!("the whole run {}", figures::seconds(totals.run_s));
    let tiles = [
        Some(Tile::new("Upload", figures::rate(totals.up_bytes_per_s), pace)),
        Some(download).filter(|_| totals.bytes_down > 0),
        Some(Tile::new("99 of 100 uploads within", figures::milliseconds(uploads.p99_ms), half)),
        arrivals,
        Some(Tile::never("Errors", errors, "operations that failed".to_owned())),
        Some(Tile::never("Lost or wrong", wrong, acknowledged)),
        Some(Tile::new("Load lasted", figures::seconds(totals.load_s), whole)),
    ];
    tiles.into_iter().flatten().collect()
}

/// What was verified, where, and by what means.
fn proofs(report: &Report) -> Vec<Proof> {
    let totals = &report.totals;
    let mut proofs = Vec::new();
    let files = figures::of(totals.acknowledged, "file", "files");
    if report.plan.verify == "nothing" {
        proofs.push(Proof {
            good: false,
            name: report.plan.target.clone(),
            sentence: format!("Nothing was read back: that was asked for. The target acknowledged {files}."),
        });
    } else {
        proofs.push(Proof {
            good: totals.right == totals.acknowledged,
            name: report.plan.target.clone(),
            sentence: format!(
                "{} of {files} that the target acknowledged were right: each was read whole over new connections, its identity and \
                 its BLAKE3 hash compared, and the folder listed. That took {}.",
                figures::count(totals.right),
                figures::seconds(totals.verify_s)
            ),
        });
    }
    proofs.extend(report.arrivals.iter().map(|(standby, arrivals)| Proof {
        good: arrivals.right == arrivals.expected,
        name: standby.clone(),
        sentence: format!(
            "{} of {} arrived in time, and {} were read there whole and compared by their hash. Arrival is measured from the answer to \
             CLOSE on the target until the file was seen whole here, exact to {}.",
            figures::count(arrivals.arrived),
            figures::of(arrivals.expected, "file", "files"),
            figures::count(arrivals.right),
            figures::milliseconds(arrivals.exact_to_ms)
        ),
    }));
    proofs.push(Proof {
        good: totals.is_clean,
        name: "Cleaning up".to_owned(),
        sentence: match totals.is_clean {
            true => {
                format!("{} removed again; nothing is left.", figures::of(totals.cleaned, "file was", "files were"))
            }
            false => {
                format!("{} removed; the rest is still there.", figures::of(totals.cleaned, "file was", "files were"))
            }
        },
    });
    proofs
}

fn operations(report: &Report) -> Vec<OperationRow> {
    let rows = Operation::ALL.into_iter().filter_map(|operation| {
        let counts = report.totals.done.get(&operation)?;
        let latency = report.latencies.get(&operation).copied().unwrap_or_default();
        let times = [latency.p50_ms, latency.p95_ms, latency.p99_ms, latency.max_ms];
        Some(OperationRow {
            name: operation.text(),
            ok: figures::count(counts.ok),
            failed: figures::count(counts.failed),
            any_failed: counts.failed > 0,
            times: times.map(figures::milliseconds).to_vec(),
        })
    });
    rows.collect()
}

fn arrival_row(standby: &str, arrivals: &Arrivals) -> ArrivalRow {
    let latency = &arrivals.latency;
    let times = [latency.p50_ms, latency.p95_ms, latency.p99_ms, latency.max_ms];
    ArrivalRow {
        standby: standby.to_owned(),
        arrived: format!("{} of {}", figures::count(arrivals.arrived), figures::count(arrivals.expected)),
        times: times.map(figures::milliseconds).to_vec(),
    }
}

/// What was asked for, in words.
pub fn asked(plan: &Asked) -> Vec<(&'static str, String)> {
    let target = match plan.target == plan.address {
        true => plan.target.clone(),
        false => format!("{} ({})", plan.target, plan.address),
    };
    let checked = match plan.verify.as_str() {
        "standby" => "every file, on the standby too",
        "target" => "every file, on the target",
        _ => "nothing",
    };
    let mut asked = vec![
        ("Target", target),
        ("Account", plan.account.clone()),
        ("Files", format!("{}, {}", figures::count(plan.files), plan.sizes.replace("..", " – "))),
        (
            "Clients",
            format!("{}, {} at a time each", plan.clients, figures::of(plan.in_flight as u64, "file", "files")),
        ),
        ("Shares", mix_in_words(&plan.mix)),
        ("Duration", plan.duration_s.map_or("until all files are there".into(), figures::seconds)),
        ("Ramp", if plan.ramp_s > 0.0 { figures::seconds(plan.ramp_s) } else { "none".into() }),
        ("Checked", checked.to_owned()),
        ("Seed", plan.seed.to_string()),
    ];
    if !plan.standbys.is_empty() {
        asked.insert(1, ("Standbys", plan.standbys.join(", ")));
    }
    asked
}
