//! The first page of the archive: where to look, who sends logs, what retention removes next, and how far the chain is.

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pair::control::{Agent, Expiry};
use web::{Session, figures};

use super::super::activity::today;
use super::super::records::local_time;
use super::super::{Frame, Site, page};
use super::form::{Asked, CONTEXTS, HOWS, Quick, SHOWS, query};
use super::{HERE, text};
use crate::archive::{Place, Told};

/// What counts as an error when a person asks for errors.
const ERRORS: &str = r"\b(error|fatal|critical|panic|exception)\b";

#[derive(Template)]
#[template(path = "archive.html")]
struct Page {
    frame: Frame,
    style: String,
    script: String,
    asked: Asked,
    places: Vec<Choice>,
    quick: Vec<Quick>,
    /// Why nothing can be shown; empty where something can.
    fault: String,
    /// Why what sftpd says is old, or not there.
    warning: String,
    agents: Vec<Row>,
    /// When retention acts; empty where that is not known here.
    retention: String,
    chain: Option<Chain>,
    chain_problem: String,
    unsealed: String,
    yesterday: String,
    zone: String,
}

/// A place to choose.
pub struct Choice {
    /// As it stands in an address.
    pub value: String,
    /// As people read it.
    pub name: String,
}

struct Row {
    name: String,
    files_link: String,
    errors_link: String,
    is_disabled: bool,
    files: String,
    unsealed: String,
    bytes: String,
    last: String,
    kept: String,
    expiring: Option<Goes>,
}

/// What retention removes of an agent.
struct Goes {
    files: String,
    bytes: String,
    is_nothing: bool,
    first: Vec<Gone>,
    left: String,
}

struct Gone {
    path: String,
    size: String,
    arrived: String,
    why: &'static str,
}

struct Chain {
    number: String,
    digest: String,
    time: String,
    path: String,
}

/// Shows the page.
pub async fn show(State(site): State<Site>, session: Extension<Session>) -> Response {
    let zone = site.config.zone().unwrap_or(TimeZone::UTC);
    let told = site.archive.known.told().await;
    let volume = site.archive.volume.clone();
    let fault = tokio::task::spawn_blocking(move || volume.fault()).await.unwrap_or_default();
    page(StatusCode::OK, &page_of(&site, &session, &told, fault, &zone))
}

fn page_of(site: &Site, session: &Session, told: &Told, fault: Option<String>, zone: &TimeZone) -> Page {
    let (asked, now) = (Asked::default(), today(zone));
    let chain = told.archive.as_ref().map(|archive| archive.chain.clone()).unwrap_or_default();
    let yesterday = now.yesterday().unwrap_or(now).to_string();
    let retention = told.archive.as_ref().and_then(|archive| archive.retention_at.as_deref());
    Page {
        frame: site.frame(session, HERE),
        style: site.assets.url("archive.css"),
        script: site.assets.url("archive.js"),
        places: places(told, None),
        quick: asked.quick(now),
        asked,
        fault: fault.unwrap_or_default(),
        warning: told.fault.as_deref().map(super::super::shown).unwrap_or_default(),
        agents: told.agents().iter().map(|agent| row(agent, zone)).collect(),
        retention: retention.map(|at| moment(at, zone)).unwrap_or_default(),
        unsealed: match chain.unsealed_files {
            0 => String::new(),
            files => {
                let since = chain.unsealed_since.as_deref().map(|at| format!(", since {}", moment(at, zone)));
                format!("{} not sealed yet{}", figures::of(files, "file is", "files are"), since.unwrap_or_default())
            }
        },
        chain_problem: chain.problem.as_deref().map(super::super::shown).unwrap_or_default(),
        chain: chain.last.map(|last| Chain {
            number: last.number.to_string(),
            digest: super::super::shown(&last.digest),
            time: moment(&last.time, zone),
            path: text::name(&last.path.0),
        }),
        yesterday: query(&[("from", &yesterday), ("to", &yesterday)]),
        zone: zone.iana_name().unwrap_or("the system's own zone").to_owned(),
    }
}

/// The places that a form offers: all agents, each one, and where one is.
pub fn places(told: &Told, at: Option<&Place>) -> Vec<Choice> {
    let all = Choice { value: String::new(), name: "all agents".into() };
    let each = told.agents().iter().map(|agent| Place::of(&agent.name));
    let deeper = at.filter(|place| !place.path.is_empty()).cloned();
    let choice = |place: Place| Choice { value: place.text(), name: text::name(&place.whole()) };
    std::iter::once(all).chain(each.chain(deeper).map(choice)).collect()
}

fn row(agent: &Agent, zone: &TimeZone) -> Row {
    let place = Place::of(&agent.name).text();
    let unknown = || "not known here".to_owned();
    let kept = match (agent.keep_s, agent.keep_bytes) {
        (None, None) => "for ever".to_owned(),
        (Some(keep_s), None) => age(keep_s),
        (None, Some(bytes)) => format!("the newest {}", figures::bytes(bytes)),
        (Some(keep_s), Some(bytes)) => format!("{}, the newest {}", age(keep_s), figures::bytes(bytes)),
    };
    Row {
        name: text::name(agent.name.as_bytes()),
        files_link: query(&[("in", &place)]),
        errors_link: query(&[("in", &place), ("text", ERRORS), ("how", "regex"), ("show", "last")]),
        is_disabled: agent.is_disabled,
        files: agent.files.map_or_else(unknown, figures::count),
        unsealed: match agent.unsealed_files {
            0 => String::new(),
            files => format!("{} came or grew since", figures::count(files)),
        },
        bytes: agent.bytes.map_or_else(unknown, figures::bytes),
        last: agent.last_arrival.as_deref().map_or_else(|| "never".to_owned(), |at| moment(at, zone)),
        kept,
        expiring: agent.expiring.as_ref().map(|goes| Goes {
            files: figures::of(goes.files, "file", "files"),
            bytes: figures::bytes(goes.bytes),
            is_nothing: goes.files == 0,
            left: match goes.files.saturating_sub(goes.first.len() as u64) {
                0 => String::new(),
                left => figures::count(left),
            },
            first: goes.first.iter().map(|file| gone(file, agent, zone)).collect(),
        }),
    }
}

fn gone(file: &pair::control::ExpiringFile, agent: &Agent, zone: &TimeZone) -> Gone {
    let own = file.path.0.strip_prefix(agent.home.0.as_slice()).and_then(|path| path.strip_prefix(b"/"));
    Gone {
        path: text::name(own.unwrap_or(&file.path.0)),
        size: figures::bytes(file.size),
        arrived: moment(&file.arrived, zone),
        why: match file.why {
            Expiry::Age => "too old",
            Expiry::Size => "too much in all",
        },
    }
}

fn age(seconds: u64) -> String {
    match seconds % 86_400 {
        0 => figures::of(seconds / 86_400, "day", "days"),
        _ => figures::seconds(seconds as f64),
    }
}

/// A moment of RFC 3339 in the pages' zone; the text itself where it is none.
fn moment(rfc3339: &str, zone: &TimeZone) -> String {
    let parsed: Result<Timestamp, _> = rfc3339.parse();
    parsed.map_or_else(|_| super::super::shown(rfc3339), |at| local_time(at.as_millisecond(), zone))
}
