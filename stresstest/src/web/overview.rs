//! The first page: the form of a run, the earlier runs, and what was left on servers.

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use web::Session;

use super::form::{Mistakes, Typed};
use super::result::Judged;
use super::{Frame, Site, figures, page};
use crate::config::Limits;
use crate::leftovers::Leftover;
use crate::plan::{Mix, Operation, Sizes, Target};
use crate::report::Report;

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    running: Option<String>,
    notice: Option<Notice>,
    targets: Vec<String>,
    standbys: Vec<String>,
    hints: Hints,
    typed: Typed,
    mistakes: Mistakes,
    history: Vec<Row>,
    leftovers: Vec<Left>,
}

/// What is said above everything else.
pub struct Notice {
    /// Whether it went well.
    pub good: bool,
    /// What happened.
    pub sentence: String,
}

/// What is said below fields, with the limits of the settings.
struct Hints {
    files: String,
    clients: String,
    duration: String,
    size: String,
    size_to: String,
}

impl Hints {
    fn of(limits: &Limits) -> Hints {
        let (files, bytes) = (figures::count(limits.files), figures::bytes(limits.bytes.0));
        let duration = figures::seconds(limits.duration.get().as_secs_f64());
        let size = Sizes::Fixed(limits.file_size.0);
        Hints {
            files: format!("At most {files}, {bytes} together."),
            clients: format!("Connections at the same time, at most {}.", limits.clients),
            duration: format!("As 60s or 5m, at most {duration}. Empty: until all files are there."),
            size: format!("As 64KiB or 5MiB, at most {size}."),
            size_to: format!("As 1MiB, at most {size}."),
        }
    }
}

/// An earlier run.
struct Row {
    run: String,
    began: String,
    target: String,
    account: String,
    files: String,
    sizes: String,
    clients: usize,
    throughput: String,
    files_per_s: String,
    p99: String,
    judged: Judged,
}

/// Folders of runs at one server, of one account.
struct Left {
    server: String,
    account: String,
    folders: String,
    kept: bool,
}

/// The page as it is at first.
pub async fn show(State(site): State<Site>, session: Extension<Session>) -> Response {
    let typed = Typed::usual(!site.config.standbys.is_empty());
    answer(&site, &session, StatusCode::OK, typed, Mistakes::default(), None).await
}

/// The page with what was typed and what is wrong with it.
pub async fn answer(
    site: &Site,
    session: &Session,
    status: StatusCode,
    typed: Typed,
    mistakes: Mistakes,
    notice: Option<Notice>,
) -> Response {
    let names = |servers: anyhow::Result<Vec<Target>>| -> Vec<String> {
        servers.unwrap_or_default().into_iter().map(|server| server.name).collect()
    };
    let progress = site.runner.watch().borrow().clone();
    let running = progress.run.as_ref().filter(|_| progress.is_running()).map(ToString::to_string);
    // Reports are files: they are read off the async threads.
    let runner = site.runner.clone();
    let reports = tokio::task::spawn_blocking(move || runner.reports().list()).await.unwrap_or_default();
    let overview = Overview {
        frame: site.frame(session),
        running,
        notice,
        targets: names(site.config.targets()),
        standbys: names(site.config.standbys()),
        hints: Hints::of(&site.config.limits),
        typed,
        mistakes,
        history: reports.iter().map(row).collect(),
        leftovers: left(site, &site.runner.leftovers()),
    };
    page(status, &overview)
}

fn row(report: &Report) -> Row {
    let (asked, totals) = (&report.plan, &report.totals);
    let uploads = report.latencies.get(&Operation::Upload);
    Row {
        run: report.run.to_string(),
        began: figures::moment(&report.began),
        target: asked.target.clone(),
        account: asked.account.clone(),
        files: figures::count(totals.acknowledged),
        sizes: asked.sizes.replace("..", " – "),
        clients: asked.clients,
        throughput: figures::rate(totals.up_bytes_per_s),
        files_per_s: figures::pace(totals.files_per_s),
        p99: uploads.map_or("–".into(), |latency| figures::milliseconds(latency.p99_ms)),
        judged: Judged::of(report),
    }
}

fn left(site: &Site, leftovers: &[Leftover]) -> Vec<Left> {
    let known = site.config.targets().unwrap_or_default();
    let mut groups: Vec<(&Leftover, u64)> = Vec::new();
    for one in leftovers {
        let same = |group: &&mut (&Leftover, u64)| {
            let other = group.0;
            (&other.address, &other.account, other.kept) == (&one.address, &one.account, one.kept)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.1 += 1,
            None => groups.push((one, 1)),
        }
    }
    let shown = groups.into_iter().filter_map(|(one, folders)| {
        // What is at a server that is configured no more cannot be reached from here.
        let server = known.iter().find(|server| server.address == one.address)?;
        Some(Left {
            server: server.name.clone(),
            account: one.account.clone(),
            folders: figures::of(folders, "folder", "folders"),
            kept: one.kept,
        })
    });
    shown.collect()
}

/// Shares in words: `70 % upload, 20 % download`, in which no number stands apart from its sign.
pub fn mix_in_words(mix: &str) -> String {
    let Ok(Mix { upload, download, list, rename }) = mix.parse() else { return mix.to_owned() };
    let shares = [("upload", upload), ("download", download), ("list", list), ("rename", rename)];
    let shares: Vec<String> =
        shares.iter().filter(|(_, share)| *share > 0).map(|(name, share)| format!("{share}\u{a0}% {name}")).collect();
    shares.join(", ")
}
