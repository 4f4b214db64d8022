//! Who is connected to this machine now, with a button that ends each connection.
//!
//! What changes is one piece of HTML, the same in the page and in every event. What clients call themselves and their files is strangers'
//! text. A button leads to the order, which is said in words first and asks for the password.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::response::sse::Event;
use pair::control::{Session as Connected, Transfer};
use tokio::sync::watch;
use web::{Session, figures};

use super::state::text::{Clock, span};
use super::state::{clock, field};
use super::{Frame, Site, page, shown};
use crate::visitors::Visitors;

/// Where it lies.
const HERE: &str = "/console/connections";
/// Connections on a page.
const SHOWN_MAX: usize = 50;
/// What is known before sftpd has answered.
static NOT_YET: Visitors = Visitors { looked_ms: None, sessions: Ok(Vec::new()) };
/// Transfers of a connection that are shown.
const TRANSFERS_MAX: usize = 5;
/// What is older than this is not shown, in milliseconds: it says nothing of who is connected now.
const FRESH_MS: i64 = 15_000;

#[derive(Template)]
#[template(path = "connections.html")]
struct Page {
    frame: Frame,
    style: String,
    script: String,
    number: usize,
    live: Live,
}

/// What changes by itself.
#[derive(Template)]
#[template(path = "connections_live.html")]
struct Live {
    csrf: String,
    /// Empty where sftpd has not answered yet.
    looked: String,
    fault: String,
    count: String,
    rows: Vec<Row>,
    /// How many stand on earlier pages, and how many on later ones.
    before: usize,
    after: usize,
    number: usize,
}

/// A connection, as it is shown.
struct Row {
    id: String,
    /// Whose it is, and from where: for the order.
    whose: String,
    name: String,
    is_somebody: bool,
    address: String,
    client: String,
    since: String,
    received: String,
    sent: String,
    transfers: Vec<Moving>,
    transfers_more: usize,
}

/// A file on its way.
struct Moving {
    what: &'static str,
    path: String,
    so_far: String,
}

/// The page.
pub async fn show(State(site): State<Site>, session: Extension<Session>, RawQuery(query): RawQuery) -> Response {
    let number = number_of(&query.unwrap_or_default());
    // The page waits for nobody: an answer takes sftpd a second, and comes by an event or with the next load.
    let (seen, clock) = (site.visitors.watch().borrow().clone(), clock(&site));
    let is_fresh = seen.looked_ms.is_some_and(|at_ms| clock.now_ms - at_ms < FRESH_MS);
    let live = Live::of(if is_fresh { &seen } else { &NOT_YET }, &clock, &session.csrf, number);
    let (style, script) = (site.assets.url("state.css"), site.assets.url("state.js"));
    page(StatusCode::OK, &Page { frame: site.frame(&session, HERE), style, script, number, live })
}

/// Tells who is connected, again and again.
pub async fn events(State(site): State<Site>, session: Extension<Session>, RawQuery(query): RawQuery) -> Response {
    let (number, watch) = (number_of(&query.unwrap_or_default()), site.visitors.watch());
    let places = site.watchers.clone();
    web::tell(&places, Watcher { watch, number, session: session.0, site })
}

/// The number of the page, from 1.
fn number_of(query: &str) -> usize {
    field(query, "page").and_then(|text| text.parse().ok()).unwrap_or(1).clamp(1, 1_000_000)
}

/// One browser that is told.
struct Watcher {
    watch: watch::Receiver<Arc<Visitors>>,
    number: usize,
    session: Session,
    site: Site,
}

impl web::Watcher for Watcher {
    async fn next(&mut self) -> Option<Event> {
        tokio::select! {
            () = self.site.shutdown.cancelled() => return None,
            changed = self.watch.changed() => changed.ok()?,
        }
        if !self.site.door.is_open(&self.session) {
            return None;
        }
        let seen = self.watch.borrow_and_update().clone();
        let live = Live::of(&seen, &clock(&self.site), &self.session.csrf, self.number);
        // An event's data has no carriage returns.
        Some(Event::default().event("live").data(live.render().ok()?.replace('\r', "")))
    }
}

impl Live {
    fn of(seen: &Visitors, clock: &Clock, csrf: &str, number: usize) -> Live {
        let (sessions, fault) = match &seen.sessions {
            Ok(sessions) => (sessions.as_slice(), String::new()),
            Err(sentence) => (&[][..], shown(sentence)),
        };
        let last = sessions.len().div_ceil(SHOWN_MAX).max(1);
        let number = number.min(last);
        let before = (number - 1) * SHOWN_MAX;
        let rows: Vec<Row> = sessions.iter().skip(before).take(SHOWN_MAX).map(|one| row(one, clock)).collect();
        Live {
            csrf: csrf.to_owned(),
            looked: seen.looked_ms.map(|at_ms| clock.time(at_ms)).unwrap_or_default(),
            fault,
            count: figures::of(sessions.len() as u64, "connection", "connections"),
            after: sessions.len().saturating_sub(before + rows.len()),
            rows,
            before,
            number,
        }
    }
}

fn row(one: &Connected, clock: &Clock) -> Row {
    let since_ms = one.since.parse::<jiff::Timestamp>().map(|since| since.as_millisecond());
    let name = match one.username.as_deref() {
        None => "nobody yet".to_owned(),
        Some(pair::keys::PEER_USER) => "the pair's other machine".to_owned(),
        Some(name) => shown(name),
    };
    let address = shown(&one.remote_addr);
    let transfers = one.transfers.iter().take(TRANSFERS_MAX).map(moving).collect();
    Row {
        id: one.connection_id.clone(),
        whose: format!("{name} from {}", one.remote_addr),
        name,
        is_somebody: one.username.is_some(),
        address,
        client: if one.client_version.is_empty() { "not said".to_owned() } else { shown(&one.client_version) },
        since: since_ms.map_or_else(|_| shown(&one.since), |at_ms| span(clock.now_ms.saturating_sub(at_ms))),
        received: moved(one.received_bytes_per_s, one.received_bytes),
        sent: moved(one.sent_bytes_per_s, one.sent_bytes),
        transfers,
        transfers_more: one.transfers.len().saturating_sub(TRANSFERS_MAX),
    }
}

fn moved(bytes_per_s: u64, bytes: u64) -> String {
    format!("{}, {} in all", figures::rate(bytes_per_s as f64), figures::bytes(bytes))
}

fn moving(transfer: &Transfer) -> Moving {
    Moving {
        what: if transfer.sender == "Upload" { "uploads" } else { "downloads" },
        path: shown(&transfer.file_path),
        so_far: format!(
            "{} in {}",
            figures::bytes(transfer.size_bytes),
            span(i64::try_from(transfer.elapsed_ms).unwrap_or(i64::MAX))
        ),
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    const HOSTILE: &str = "<img src=x onerror=alert(1)>\u{202e}\u{1b}[2J";

    fn connected(number: usize) -> Connected {
        let transfer = Transfer {
            sender: "Upload".into(),
            file_path: format!("/{HOSTILE}"),
            size_bytes: 300_000,
            elapsed_ms: 90_000,
        };
        Connected {
            connection_id: format!("1a2004bb3cd-{number}"),
            username: (number != 2).then(|| format!("partner{number}")),
            remote_addr: format!("198.51.100.7:{number}"),
            client_version: HOSTILE.into(),
            since: "2026-11-22T12:00:00Z".into(),
            received_bytes: 9_000_000,
            sent_bytes: 10,
            received_bytes_per_s: 2_000_000,
            sent_bytes_per_s: 0,
            transfers: vec![transfer; number % 8],
        }
    }

    fn live(count: usize, number: usize) -> Live {
        let seen = Visitors { looked_ms: Some(0), sessions: Ok((1..=count).map(connected).collect()) };
        Live::of(&seen, &Clock::now(TimeZone::UTC), "token", number)
    }

    #[test]
    fn what_clients_say_of_themselves_and_of_their_files_is_text() {
        let html = live(7, 1).render().unwrap();
        for wrong in ["<img", "\u{202e}", "\u{1b}"] {
            assert!(!html.contains(wrong), "{wrong:?} in {html}");
        }
        for right in ["partner1", "nobody yet", "198.51.100.7:3", "1a2004bb3cd-7", "uploads", "in 1 min", "2 more"] {
            assert!(html.contains(right), "{right:?} in {html}");
        }
    }

    #[test]
    fn so_many_are_shown_at_a_time_and_how_many_more_there_are_is_said() {
        let first = live(120, 1);
        assert_eq!((first.rows.len(), first.before, first.after), (50, 0, 70));
        let last = live(120, 9);
        assert_eq!((last.rows.len(), last.before, last.after, last.number), (20, 100, 0, 3), "there are three pages");
        assert!(first.render().unwrap().contains("And 70 more") && last.render().unwrap().contains("page=2"));
        let none = live(0, 4);
        assert_eq!((none.rows.len(), none.number), (0, 1));
        assert!(none.render().unwrap().contains("Nobody is connected"));
        assert_eq!(["page=7", "page=0", "page=x", "", "page=99999999999999999999999"].map(number_of), [7, 1, 1, 1, 1]);
    }

    #[test]
    fn where_sftpd_does_not_answer_the_page_says_so() {
        let seen = Visitors { looked_ms: Some(0), sessions: Err("no sftpd answers <here>".into()) };
        let html = Live::of(&seen, &Clock::now(TimeZone::UTC), "token", 1).render().unwrap();
        let html_before = Live::of(&NOT_YET, &Clock::now(TimeZone::UTC), "token", 1).render().unwrap();
        assert!(html_before.contains("is being asked") && !html_before.contains("Nobody"), "{html_before}");
        assert!(html.contains("no sftpd answers") && !html.contains("<here>") && !html.contains("Nobody is"), "{html}");
    }
}
