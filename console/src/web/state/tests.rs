//! The state page, asked for through its router as a browser asks.

use std::sync::Arc;

use ::web::{Admission, Doorkeeper, Password, Refusal};
use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use filesync::remote::Grade;
use filesync::status::Report;
use filesync::store::{Held, Verified};
use futures::StreamExt;
use futures::future::BoxFuture;
use jiff::tz::TimeZone;
use pair::control::{Ban, Peer, Standby, Status};
use pair::extension::Hello;
use pair::node::Phase;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use crate::config::Config;
use crate::questions::Readers;
use crate::situation::{Mirror, Waiting};
use crate::web::router;

/// Lets everybody in whose password is right.
struct Open;

impl Doorkeeper for Open {
    fn admit<'a>(&'a self, name: &'a str, password: &'a Password) -> BoxFuture<'a, Result<Admission, Refusal>> {
        Box::pin(async move {
            if password.as_str() == "right" { Ok(Admission { account: name.to_owned() }) } else { Err(Refusal::Wrong) }
        })
    }
}

/// The console's pages over a situation of the test's own, and a browser that is logged in.
pub struct Visit {
    routes: axum::Router,
    cookie: String,
    pub csrf: String,
    pub situation: watch::Sender<Arc<Situation>>,
    pub folder: tempfile::TempDir,
}

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Visit {
    pub async fn begin(situation: Situation) -> Visit {
        let folder = tempfile::tempdir().unwrap();
        drop(crate::store::Store::open(folder.path(), TimeZone::UTC).unwrap());
        let config = Config { state: folder.path().into(), time_zone: "UTC".into(), ..Config::default() };
        let readers = Arc::new(Readers::new(folder.path().into(), TimeZone::UTC));
        let (situation, watch) = watch::channel(Arc::new(situation));
        let routes = router(&config, readers, watch, Box::new(Open), CancellationToken::new()).unwrap();
        let mut visit = Visit { routes, cookie: String::new(), csrf: String::new(), situation, folder };
        let form = visit.get("/console/login").await;
        visit.cookie = cookie_of(&form.headers);
        let login = format!("name=admin&password=right&csrf={}", csrf_of(&form.text));
        let inside = visit.post("/console/login", &login).await;
        assert_eq!(inside.status, 303, "{}", inside.text);
        visit.cookie = cookie_of(&inside.headers);
        visit.csrf = csrf_of(&visit.get("/console/").await.text);
        visit
    }

    fn request(&self, request: axum::http::request::Builder, body: String) -> Request<Body> {
        request.header(header::COOKIE, &self.cookie).body(Body::from(body)).unwrap()
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.routes.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 22).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Request::get(path), String::new())).await
    }

    pub async fn post(&self, path: &str, form: &str) -> Answer {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(self.request(request, form.to_owned())).await
    }

    /// Gives an order with the token of the session.
    pub async fn order(&self, name: &str, form: &str) -> Answer {
        self.post(&format!("/console/orders/{name}"), &format!("csrf={}&{form}", self.csrf)).await
    }
}

fn cookie_of(headers: &HeaderMap) -> String {
    let cookie = headers.get(header::SET_COOKIE).unwrap().to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

fn csrf_of(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"csrf\" value=\"").unwrap();
    rest[..64].to_owned()
}

/// A pair in which all is well, seen on this machine.
pub fn pair(role: Role) -> Situation {
    let now_s = jiff::Timestamp::now().as_second();
    let other = if role == Role::Master { Role::Standby } else { Role::Master };
    let hello = Hello { node: "bbbb".into(), role: other, accounts_generation: 7, ..Hello::default() };
    let peer =
        Peer { name: "b:22".into(), hello: Some(hello), heard_ms: Some(100), problem: None, has_our_host_keys: true };
    let standby = Standby { name: "b:22".into(), seq: Some(9), accounts_generation: Some(7), problem: None };
    let status = Status {
        role,
        node: "aaaa".into(),
        pair: "p".into(),
        version: "0.1".into(),
        refuses_uploads: None,
        since: "2026-11-22T10:00:00Z".into(),
        connections: 1,
        accounts: 2,
        accounts_generation: 7,
        volume_bytes: 1000,
        volume_free_bytes: 500,
        last_seq: 9,
        phase: if role == Role::Master { Phase::Master } else { Phase::Standby },
        epoch: None,
        stopped: None,
        reached: (role == Role::Standby).then_some(9),
        divergent: 0,
        peers: vec![peer],
        standbys: vec![standby],
        activity_lost: 0,
        is_volatile: false,
    };
    let report = Report {
        standby: "b:22".into(),
        at_s: now_s,
        grade: Some(Grade::Pair),
        connected: true,
        followed: true,
        settled_at_s: Some(now_s),
        ..Report::default()
    };
    let verified = Some(Verified { at_s: now_s - 7200, files: 12, ..Verified::default() });
    let mirror = Mirror { name: "b:22".into(), report: Some(report), verified, ..Mirror::default() };
    Situation {
        looked_ms: Some(now_s * 1000),
        is_pair: true,
        status: Some(Arc::new(status)),
        mirrors: vec![mirror],
        ..Situation::default()
    }
}

#[tokio::test]
async fn the_verdict_stands_on_top_in_its_colour() {
    let visit = Visit::begin(pair(Role::Master)).await;
    let page = visit.get("/console/").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("class=\"verdict good\""), "{}", page.text);
    for part in [
        "Safe: everything acknowledged is on both machines",
        "This machine",
        "b:22",
        "as here",
        "2 h ago: equal",
        "Hand over",
    ] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    assert!(!page.text.contains("orders/promote"), "a master is not promoted");
    assert_eq!(page.text.matches("<h1").count(), 1);
}

#[tokio::test]
async fn on_a_standby_the_page_offers_to_promote_and_shows_no_backlog_of_former_times() {
    let visit = Visit::begin(pair(Role::Standby)).await;
    let page = visit.get("/console/").await.text;
    assert!(page.contains("This is the standby") && page.contains("orders/promote"), "{page}");
    assert!(!page.contains("What the standby lacks") && !page.contains("orders/drill"), "{page}");
}

#[tokio::test]
async fn without_a_pair_the_page_says_so_and_offers_nothing() {
    let alone = Situation { looked_ms: Some(1), status_fault: Some("no sftpd answers".into()), ..Situation::default() };
    let page = Visit::begin(alone).await.get("/console/").await;
    assert!(page.text.contains("no sftpd answers beside this console"), "{}", page.text);
    assert!(page.status == 200 && !page.text.contains("/console/orders/"), "{}", page.text);
}

#[tokio::test]
async fn names_of_attackers_are_text_wherever_they_stand() {
    let evil = "<script>alert(1)</script>\u{202e}\"'&\n\u{1b}";
    let mut situation = pair(Role::Master);
    let status = Arc::make_mut(situation.status.as_mut().unwrap());
    status.peers[0].problem = Some(evil.into());
    status.peers[0].name = evil.into();
    situation.bans = vec![Ban { whom: evil.into(), is_account: true, left_s: 70 }];
    let mirror = &mut situation.mirrors[0];
    mirror.name = evil.into();
    mirror.report.as_mut().unwrap().oldest_path = Some(evil.into());
    mirror.troubles = vec![Waiting { path: evil.into(), sentence: evil.into(), tries: 2, since_s: 5 }];
    (mirror.troubles_count, mirror.held_paths, mirror.held_entries) = (1, 1, 5);
    mirror.held = vec![Held { path: evil.into(), entries: 5, reason: evil.into(), since_s: 5, approved: false }];
    let visit = Visit::begin(situation).await;
    let page = visit.get("/console/").await.text;
    assert!(!page.contains("<script>alert"), "{page}");
    // In what an order carries it stands as it is.
    let shown = page
        .replace("value=\"", "\u{0}")
        .split('\u{0}')
        .map(|part| part.split_once('"').map_or(part, |(_, rest)| rest))
        .collect::<String>();
    assert!(!shown.contains('\u{202e}') && !shown.contains('\u{1b}'), "{page}");
    assert!(page.contains("\\u{202e}"), "{page}");
}

#[tokio::test]
async fn live_events_bring_the_same_piece_and_the_next_one_when_something_changes() {
    let visit = Visit::begin(pair(Role::Master)).await;
    let request = Request::get("/console/state/events").header(header::ACCEPT, "text/event-stream");
    let answer = visit.routes.clone().oneshot(visit.request(request, String::new())).await.unwrap();
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut events = answer.into_body().into_data_stream();
    let first = String::from_utf8(events.next().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(first.contains("event: live") && first.contains("Safe: everything"), "{first}");
    assert!(first.contains(&visit.csrf), "its forms can be sent");
    let mut worse = pair(Role::Master);
    worse.mirrors[0].report.as_mut().unwrap().connected = false;
    visit.situation.send_replace(Arc::new(worse));
    let next = String::from_utf8(events.next().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(next.contains("verdict bad") && next.contains("is not connected"), "{next}");
}

#[tokio::test]
async fn the_page_needs_nothing_that_the_policy_for_browsers_forbids() {
    let visit = Visit::begin(pair(Role::Master)).await;
    for path in ["/console/", "/console/?over=week", "/console/?trash=b%3A22"] {
        let page = visit.get(path).await.text;
        for foreign in [" style=", "<style", " onclick", "javascript:", "http://", "https://"] {
            assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(foreign), "{foreign} in {path}: {page}");
        }
    }
}

#[tokio::test]
async fn the_trash_is_that_of_a_known_standby_and_without_the_secret_a_command() {
    let visit = Visit::begin(pair(Role::Master)).await;
    let page = visit.get("/console/?trash=b%3A22").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("It cannot be shown") && page.text.contains("filesync restore"), "{}", page.text);
    for other in ["c:22", "../b:22", "%3Cscript%3E"] {
        assert_eq!(visit.get(&format!("/console/?trash={other}")).await.status, 404, "{other}");
    }
}
