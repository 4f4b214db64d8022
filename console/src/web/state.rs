//! The first page: is the pair safe, and what of it needs a person.
//!
//! What changes by itself is one piece of HTML, the same in the page and in every event, so it looks the same without JavaScript. There is no field
//! to type in in that piece. What comes from records is read when the page is loaded.

mod chart;
mod lists;
mod machines;
pub(super) mod text;
mod trash;

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::response::sse::Event;
use pair::node::Role;
use tokio::sync::watch;
use web::Session;

use self::chart::{Chart, Over};
use self::lists::{Aside, Backlog, Banned, HeldBack, Problem};
use self::machines::Card;
use self::text::Clock;
use super::activity::{Expectation, expectation};
use super::shown;
use super::{Frame, HOME, Site, page};
use crate::expected::Outlook;
use crate::questions::{Filter, Reader, What};
use crate::record::Operation;
use crate::safety::{Level, judge};
use crate::situation::Situation;

/// From one event to the next, at least.
const EVENT_INTERVAL: Duration = Duration::from_secs(1);
/// Commands that are looked through for the last moves.
const COMMANDS_MAX: usize = 300;
/// Sentences about logs that are shown.
const TROUBLES_MAX: usize = 5;

#[derive(Template)]
#[template(path = "state.html")]
struct Page {
    frame: Frame,
    style: String,
    script: String,
    over: Over,
    live: Live,
    moves: Vec<Moved>,
    logs: Vec<Log>,
    troubles: Vec<Trouble>,
}

/// What changes by itself.
#[derive(Template)]
#[template(path = "state_live.html")]
struct Live {
    csrf: String,
    class: &'static str,
    sentence: String,
    since: String,
    advice: String,
    reasons: Vec<Line>,
    looked: String,
    cards: Vec<Card>,
    is_known: bool,
    does_answer: bool,
    is_master: bool,
    over: Over,
    chart: Option<Chart>,
    backlogs: Vec<Backlog>,
    problems: Vec<Problem>,
    problems_more: u64,
    held: Vec<HeldBack>,
    bans: Vec<Banned>,
    aside: Vec<Aside>,
    expected: Vec<Expectation>,
}

/// One more thing that is not as it should be.
struct Line {
    class: &'static str,
    kind: &'static str,
    sentence: String,
    since: String,
}

/// When the master's place was moved last.
struct Moved {
    what: String,
    when: String,
    outcome: String,
    is_bad: bool,
}

/// A log that is followed.
struct Log {
    name: String,
    when: String,
    records: String,
}

/// Something in a log that could not be read.
struct Trouble {
    file: String,
    when: String,
    sentence: String,
}

/// What the page shows that is read when it is loaded.
#[derive(Default)]
struct FromRecords {
    moves: Vec<Moved>,
    logs: Vec<Log>,
    troubles: Vec<Trouble>,
}

/// The page.
pub async fn show(State(site): State<Site>, session: Extension<Session>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    if let Some(standby) = field(&query, "trash") {
        return trash::show(&site, &session, &standby).await;
    }
    let (over, clock) = (Over::of_query(&query), clock(&site));
    let asked = clock.clone();
    let records = site.ask(move |reader| from_records(reader, &asked)).await;
    let FromRecords { moves, logs, troubles } = records.unwrap_or_else(|error| {
        tracing::error!("the records cannot be asked: {error:#}");
        FromRecords::default()
    });
    let expected = site.expected.borrow().clone();
    let live = Live::of(&site.situation.borrow().clone(), &expected, &clock, over, &session.csrf);
    let (style, script) = (site.assets.url("state.css"), site.assets.url("state.js"));
    let frame = site.frame(&session, HOME);
    page(StatusCode::OK, &Page { frame, style, script, over, live, moves, logs, troubles })
}

/// Tells of every change.
pub async fn events(State(site): State<Site>, session: Extension<Session>, RawQuery(query): RawQuery) -> Response {
    let over = Over::of_query(&query.unwrap_or_default());
    let watch = site.situation.clone();
    let places = site.watchers.clone();
    let watcher = Watcher { watch, over, session: session.0, is_first: true, site };
    web::tell(&places, watcher)
}

/// One browser that is told.
struct Watcher {
    watch: watch::Receiver<Arc<Situation>>,
    over: Over,
    session: Session,
    is_first: bool,
    site: Site,
}

impl web::Watcher for Watcher {
    /// The next event; none where the stream ends: with the session, or with the program.
    async fn next(&mut self) -> Option<Event> {
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
        let situation = self.watch.borrow_and_update().clone();
        let expected = self.site.expected.borrow().clone();
        let live = Live::of(&situation, &expected, &clock(&self.site), self.over, &self.session.csrf);
        // An event's data has no carriage returns.
        Some(Event::default().event("live").data(live.render().ok()?.replace('\r', "")))
    }
}

/// What time it is where the console's dates are.
pub(super) fn clock(site: &Site) -> Clock {
    Clock::now(site.config.zone().unwrap_or(jiff::tz::TimeZone::UTC))
}

/// A field of an address or a form; none where it is empty.
pub(super) fn field(query: &str, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find_map(|(key, value)| (key == name && !value.is_empty()).then(|| value.into_owned()))
}

impl Live {
    /// What a snapshot shows.
    fn of(situation: &Situation, expected: &[Outlook], clock: &Clock, over: Over, csrf: &str) -> Live {
        let judged = judge(situation, clock.now_ms);
        let (problems, problems_more) = lists::problems(situation, clock);
        let role = situation.status.as_ref().map(|status| status.role);
        let reasons = judged.reasons.iter().map(|reason| Line {
            class: text_class(reason.level),
            kind: kind(reason.level),
            sentence: shown(&reason.sentence),
            since: clock.since(reason.since_ms),
        });
        Live {
            csrf: csrf.to_owned(),
            class: verdict_class(judged.level),
            sentence: shown(&judged.sentence),
            since: clock.since(judged.since_ms),
            advice: judged.advice.as_deref().map(shown).unwrap_or_default(),
            reasons: reasons.collect(),
            looked: situation.looked_ms.map_or("not yet".to_owned(), |at_ms| clock.time(at_ms)),
            cards: machines::cards(situation, clock),
            is_known: role.is_some(),
            does_answer: role.is_some() && situation.status_fault.is_none(),
            is_master: role == Some(Role::Master),
            over,
            chart: chart::lag(&situation.lines, over, clock),
            backlogs: lists::backlogs(situation, clock),
            problems,
            problems_more,
            held: lists::held(situation, clock),
            bans: lists::bans(situation),
            aside: lists::aside(situation),
            expected: expected.iter().map(expectation).collect(),
        }
    }
}

fn verdict_class(level: Level) -> &'static str {
    match level {
        Level::Safe => "good",
        Level::Danger => "bad",
        Level::Attention | Level::Unknown => "warn",
    }
}

fn text_class(level: Level) -> &'static str {
    match level {
        Level::Safe => "good-text",
        Level::Danger => "bad-text",
        Level::Attention | Level::Unknown => "warn-text",
    }
}

fn kind(level: Level) -> &'static str {
    match level {
        Level::Safe => "Well",
        Level::Danger => "Not safe",
        Level::Attention => "Attention",
        Level::Unknown => "Unknown",
    }
}

fn from_records(reader: &Reader, clock: &Clock) -> anyhow::Result<FromRecords> {
    let filter = Filter { what: Some(What::Only(Operation::Command)), ..Filter::default() };
    let commands = reader.newest(&filter, None, COMMANDS_MAX)?.records;
    let last = |what: &&str| {
        let record = commands.iter().find(|record| record.method.as_deref() == Some(what))?;
        let why = record.error.as_deref().map(|error| format!(": {}", shown(error))).unwrap_or_default();
        Some(Moved {
            what: (*what).to_owned(),
            when: clock.moment(record.time_ms),
            outcome: format!("{}{why}", record.outcome.name()),
            is_bad: record.outcome.is_failure(),
        })
    };
    let moves = ["switchover", "drill", "promote"].iter().filter_map(last).collect();
    let logs = reader.followed(TROUBLES_MAX)?.into_iter().map(|log| Log {
        name: shown(&format!("{}/{}", log.folder, log.name)),
        when: clock.ago(log.seen_ms),
        records: web::figures::count(log.records),
    });
    let troubles = reader.troubles(TROUBLES_MAX)?.into_iter().map(|trouble| Trouble {
        file: shown(&trouble.file),
        when: clock.moment(trouble.at_ms),
        sentence: shown(&trouble.sentence),
    });
    Ok(FromRecords { moves, logs: logs.collect(), troubles: troubles.collect() })
}

#[cfg(test)]
pub(super) mod tests;
