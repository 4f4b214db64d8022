//! A run as it goes: the same piece of a page in the page itself and in every event.
//!
//! Events carry ready HTML, so the numbers and charts are made in one place and look the same without JavaScript, where the page loads itself
//! again every few seconds. A stream ends with the run, with the session, and with the program; browsers that watch are bounded.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::response::sse::Event;
use tokio::sync::watch;
use web::Session;

use super::chart::{self, Chart};
use super::{Frame, Site, figures, page};
use crate::identity::RunId;
use crate::plan::Operation;
use crate::progress::{Phase, Progress};

/// From one event to the next, at least.
const EVENT_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Template)]
#[template(path = "run.html")]
pub(super) struct RunPage {
    pub(super) frame: Frame,
    pub(super) run: String,
    pub(super) live: Live,
}

/// What changes while a run goes.
#[derive(Template)]
#[template(path = "live.html")]
pub struct Live {
    phase: &'static str,
    sentence: String,
    steps: Vec<Step>,
    bar: Bar,
    tiles: Vec<Tile>,
    charts: Vec<Chart>,
    errors: Vec<(String, String)>,
    faults: u64,
}

/// One of the things a run does after another.
struct Step {
    name: &'static str,
    is_past: bool,
    is_now: bool,
}

/// How far the present step is.
struct Bar {
    /// In thousandths; none where nobody can say.
    share: Option<u64>,
    sentence: String,
}

/// A number with its name.
pub struct Tile {
    /// What it is.
    pub name: &'static str,
    /// The number.
    pub figure: String,
    /// More of it.
    pub detail: String,
    /// Whether it should not be so.
    pub is_bad: bool,
}

impl Tile {
    /// A number that is neither good nor bad.
    pub fn new(name: &'static str, figure: String, detail: String) -> Tile {
        Tile { name, figure, detail, is_bad: false }
    }

    /// How often something happened that should not.
    pub fn never(name: &'static str, times: u64, detail: String) -> Tile {
        Tile { name, figure: figures::count(times), detail, is_bad: times > 0 }
    }
}

/// The page of the run that is under way.
pub fn show(site: &Site, session: &Session, run: &RunId, progress: &Progress) -> Response {
    let page_of = RunPage { frame: site.frame(session), run: run.to_string(), live: Live::of(progress) };
    page(StatusCode::OK, &page_of)
}

/// Tells of the run that is under way, until it is over.
pub async fn events(State(site): State<Site>, session: Extension<Session>) -> Response {
    let places = site.watchers.clone();
    let watcher = Watcher { watch: site.runner.watch(), session: session.0, is_first: true, is_over: false, site };
    web::tell(&places, watcher)
}

/// One browser that is told.
struct Watcher {
    watch: watch::Receiver<Arc<Progress>>,
    site: Site,
    session: Session,
    is_first: bool,
    is_over: bool,
}

impl web::Watcher for Watcher {
    /// The next event; none where the stream ends.
    async fn next(&mut self) -> Option<Event> {
        if self.is_over {
            return None;
        }
        if !self.is_first {
            let changed = async {
                tokio::time::sleep(EVENT_INTERVAL).await;
                self.watch.changed().await
            };
            tokio::select! {
                () = self.site.shutdown.cancelled() => return None,
                changed = changed => changed.ok()?,
            }
        }
        self.is_first = false;
        if !self.site.door.is_open(&self.session) {
            return None;
        }
        let progress = self.watch.borrow_and_update().clone();
        if !progress.is_running() {
            self.is_over = true;
            return Some(Event::default().event("over").data("over"));
        }
        // An event's data has no carriage returns.
        let html = Live::of(&progress).render().ok()?.replace('\r', "");
        Some(Event::default().event("live").data(html))
    }
}

impl Live {
    /// What a snapshot shows.
    pub fn of(progress: &Progress) -> Live {
        let points = &progress.points;
        let errors: u64 = progress.errors.values().sum();
        Live {
            phase: progress.phase.text(),
            sentence: progress.sentence.clone().unwrap_or_default(),
            steps: steps(progress),
            bar: bar(progress),
            tiles: tiles(progress, errors),
            charts: [chart::throughput(points, None), chart::latency(points, None), chart::lag(points)]
                .into_iter()
                .flatten()
                .collect(),
            errors: progress.errors.iter().map(|(kind, times)| (kind.clone(), figures::count(*times))).collect(),
            faults: progress.faults,
        }
    }
}

fn steps(progress: &Progress) -> Vec<Step> {
    let all = [
        (Phase::Preparing, "Prepare"),
        (Phase::Loading, "Load"),
        (Phase::Verifying, "Read back"),
        (Phase::CheckingStandby, "Check the standby"),
        (Phase::Cleaning, "Clean up"),
    ];
    let is_watched =
        progress.arrived_expected > 0 || progress.points.iter().any(|point| point.standby_lag_ms.is_some());
    let is_part = |phase| phase != Phase::CheckingStandby || is_watched || progress.phase == phase;
    let steps = all.into_iter().filter(|(phase, _)| is_part(*phase));
    let step = |(phase, name)| Step { name, is_past: phase < progress.phase, is_now: phase == progress.phase };
    steps.map(step).collect()
}

fn bar(progress: &Progress) -> Bar {
    let share = |part: u64, whole: u64| (whole > 0).then(|| part.min(whole).saturating_mul(1000) / whole);
    let of = |part: u64, whole: u64, done: &str| {
        format!("{} of {} {done}", figures::count(part), figures::of(whole, "file", "files"))
    };
    match progress.phase {
        Phase::Preparing => Bar { share: None, sentence: "looks whether all is as it must be".to_owned() },
        Phase::Loading => {
            let by_files = share(progress.acknowledged, progress.planned_files);
            let by_time = progress.planned_ms.and_then(|planned_ms| share(progress.elapsed_ms, planned_ms));
            let sentence = of(progress.acknowledged, progress.planned_files, "uploaded");
            let sentence = match progress.planned_ms {
                Some(ms) => format!("{sentence}, or until {} have passed", figures::seconds(ms as f64 / 1000.0)),
                None => sentence,
            };
            Bar { share: by_files.max(by_time), sentence }
        }
        Phase::Verifying => Bar {
            share: share(progress.verified, progress.acknowledged),
            sentence: of(progress.verified, progress.acknowledged, "read back from the target and compared"),
        },
        Phase::CheckingStandby => Bar {
            share: share(progress.arrived + progress.arrived_verified, progress.arrived_expected * 2),
            sentence: format!(
                "{}, {} compared",
                of(progress.arrived, progress.arrived_expected, "arrived on the standby"),
                figures::count(progress.arrived_verified)
            ),
        },
        Phase::Cleaning => Bar {
            share: share(progress.cleaned, progress.acknowledged),
            sentence: of(progress.cleaned, progress.acknowledged, "removed again"),
        },
        Phase::Done => Bar { share: Some(1000), sentence: "over".to_owned() },
    }
}

fn tiles(progress: &Progress, errors: u64) -> Vec<Tile> {
    let last = progress.points.last().copied().unwrap_or_default();
    let done = |operation: Operation| progress.done.get(&operation).map_or(0, |counts| counts.ok);
    let lag = last.standby_lag_ms.map(|ms| {
        let arrived = format!("{} arrived", figures::of(progress.arrived, "file", "files"));
        Tile::new("Standby is behind", figures::milliseconds(ms), arrived)
    });
    let acknowledged =
        (figures::count(progress.acknowledged), format!("{} uploaded", figures::bytes(progress.bytes_up)));
    let clients = figures::of(progress.clients as u64, "client", "clients");
    let downloads = figures::of(done(Operation::Download), "file", "files");
    let half = format!("half within {}", figures::milliseconds(last.p50_ms));
    let elapsed = figures::seconds(progress.elapsed_ms as f64 / 1000.0);
    let tiles = [
        Some(Tile::new("Files acknowledged", acknowledged.0, acknowledged.1)),
        Some(Tile::new("Upload", figures::rate(last.up_bytes_per_s), clients)),
        Some(Tile::new("Download", figures::rate(last.down_bytes_per_s), downloads)),
        Some(Tile::new("99 of 100 within", figures::milliseconds(last.p99_ms), half)),
        lag,
        Some(Tile::never("Errors", errors, "operations that failed".to_owned())),
        Some(Tile::never("Lost or wrong", progress.faults, "so far".to_owned())),
        Some(Tile::new("Time", elapsed, "since the beginning".to_owned())),
    ];
    tiles.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_never_past_its_end_and_says_what_it_counts() {
        let progress = Progress {
            phase: Phase::Loading,
            acknowledged: 30,
            planned_files: 10,
            elapsed_ms: 5,
            planned_ms: Some(60_000),
            ..Progress::default()
        };
        let bar = bar(&progress);
        assert_eq!(bar.share, Some(1000));
        assert_eq!(bar.sentence, "30 of 10 files uploaded, or until 1 min have passed");
    }

    #[test]
    fn what_comes_from_elsewhere_is_text_in_the_page() {
        let errors = [("<script>alert(1)</script>".to_owned(), 3)].into();
        let sentence = Some("\"><img src=x>".to_owned());
        let html = Live::of(&Progress { errors, sentence, ..Progress::default() }).render().unwrap();
        assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
    }
}
