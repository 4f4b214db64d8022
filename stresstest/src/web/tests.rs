//! The pages, asked for through their router as a browser asks.

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use futures::future::BoxFuture;
use tower::ServiceExt;
use web::{Admission, Password, Refusal};

use super::*;

/// Lets everybody in.
struct Open;

impl Doorkeeper for Open {
    fn admit<'a>(&'a self, name: &'a str, _: &'a Password) -> BoxFuture<'a, Result<Admission, Refusal>> {
        Box::pin(async move { Ok(Admission { account: name.to_owned() }) })
    }
}

/// The page of a program with two targets, of which none answers, and a browser that is logged in.
struct Visit {
    routes: Router,
    cookie: String,
    csrf: String,
    state: tempfile::TempDir,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Visit {
    async fn begin() -> Visit {
        Visit::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Visit {
        let state = tempfile::tempdir().unwrap();
        let mut config = Config {
            // Nobody listens on port 1.
            targets: vec!["first=127.0.0.1:1".into(), "second=127.0.0.1:1".into()],
            standbys: vec!["spare=127.0.0.1:1".into()],
            state: state.path().into(),
            ..Config::default()
        };
        change(&mut config);
        let runner = Runner::new(&config, None).unwrap();
        let routes = router(&config, runner, Box::new(Open), CancellationToken::new()).unwrap();
        let mut visit = Visit { routes, cookie: String::new(), csrf: String::new(), state };
        let form = visit.get("/stress/login").await;
        visit.cookie = cookie_of(&form.headers);
        let login = format!("name=admin&password=x&csrf={}", csrf_of(&form.text));
        let inside = visit.post("/stress/login", &login).await;
        assert_eq!(inside.status, 303, "{}", inside.text);
        visit.cookie = cookie_of(&inside.headers);
        visit.csrf = csrf_of(&visit.get("/stress/").await.text);
        visit
    }

    async fn send(&self, request: axum::http::request::Builder, body: String) -> Answer {
        let request = request.header(header::COOKIE, &self.cookie).body(Body::from(body)).unwrap();
        let (parts, body) = self.routes.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 22).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path), String::new()).await
    }

    async fn post(&self, path: &str, form: &str) -> Answer {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request, form.to_owned()).await
    }

    /// Sends the form of a run.
    async fn start(&self, form: &str) -> Answer {
        self.post("/stress/start", &format!("csrf={}&{form}", self.csrf)).await
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

const RIGHT: &str =
    "target=first&account=alice&password=secret&files=10&sizes=fixed&size=1KiB&clients=2&upload=100&verify=target";

#[tokio::test]
async fn the_form_offers_configured_servers_by_name_and_never_an_address() {
    let visit = Visit::begin().await;
    let page = visit.get("/stress/").await;
    assert_eq!(page.status, 200);
    for part in ["<option>first</option>", "<option>second</option>", "on the standby too", "None yet.", "100,000"] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    assert!(!page.text.contains("127.0.0.1"), "{}", page.text);
}

#[tokio::test]
async fn without_targets_the_page_says_what_to_set() {
    let visit = Visit::with(|config| (config.targets, config.standbys) = (Vec::new(), Vec::new())).await;
    let page = visit.get("/stress/").await;
    assert!(page.text.contains("STRESSTEST_TARGETS"), "{}", page.text);
    assert!(!page.text.contains("on the standby too,"), "{}", page.text);
}

#[tokio::test]
async fn mistakes_stand_beside_their_fields_and_what_was_typed_stays() {
    let visit = Visit::begin().await;
    let form = "target=first&account=al%22ice&password=secret&files=many&sizes=range&size_from=9KiB&size_to=2KiB&clients=99999\
        &upload=50&download=1&duration=soon&ramp=x&verify=target&seed=abc";
    let page = visit.start(form).await;
    assert_eq!(page.status, 422);
    for field in ["files", "clients", "duration", "ramp", "seed", "sizes", "mix"] {
        assert!(page.text.contains(&format!("id=\"{field}-mistake\"")), "{field}: {}", page.text);
    }
    for typed in ["value=\"many\"", "value=\"99999\"", "value=\"al&#34;ice\"", "value=\"9KiB\"", "value=\"soon\""] {
        assert!(page.text.contains(typed), "{typed}: {}", page.text);
    }
    assert!(!page.text.contains("secret"), "a password is never shown again");
}

#[tokio::test]
async fn a_target_that_is_not_configured_is_refused_whatever_the_browser_says() {
    let visit = Visit::begin().await;
    for target in ["third", "10.0.0.1:22", "127.0.0.1:2", "../first"] {
        let page = visit.start(&RIGHT.replace("target=first", &format!("target={target}"))).await;
        assert_eq!(page.status, 422);
        assert!(page.text.contains("id=\"target-mistake\""), "{}", page.text);
    }
}

#[tokio::test]
async fn a_target_that_does_not_answer_is_said_beside_it_and_no_run_begins() {
    let visit = Visit::begin().await;
    let page = visit.start(RIGHT).await;
    assert_eq!(page.status, 422);
    assert!(page.text.contains("first cannot be used"), "{}", page.text);
    let page = visit.start(&RIGHT.replace("password=secret", "password=")).await;
    assert!(page.text.contains("id=\"password-mistake\""), "{}", page.text);
}

#[tokio::test]
async fn a_form_without_its_token_starts_nothing() {
    let visit = Visit::begin().await;
    for path in ["/stress/start", "/stress/stop", "/stress/clean"] {
        assert_eq!(visit.post(path, RIGHT).await.status, 403, "{path}");
    }
}

#[tokio::test]
async fn what_is_no_runs_name_is_looked_for_nowhere() {
    let visit = Visit::begin().await;
    let names = ["x", "..%2F..%2Fetc%2Fpasswd", "20261122-021530-9f3c1a.json", "20261122-021530-9f3c1A", "%00"];
    for name in names {
        for path in ["", "/report.json", "/files.csv"] {
            let answer = visit.get(&format!("/stress/runs/{name}{path}")).await;
            assert_eq!(answer.status, 404, "{name}{path}");
            assert!(answer.text.contains("not the name of a run"), "{}", answer.text);
        }
        assert_eq!(visit.get(&format!("/stress/compare?run={name}&run={name}")).await.status, 404);
    }
    assert_eq!(visit.get("/stress/runs/20261122-021530-9f3c1a").await.status, 404);
    assert_eq!(visit.get("/stress/compare").await.status, 422);
}

#[tokio::test]
async fn events_end_at_once_where_no_run_is_under_way() {
    let visit = Visit::begin().await;
    let answer = visit.get("/stress/events").await;
    assert_eq!(answer.headers.get(header::CONTENT_TYPE).unwrap(), "text/event-stream");
    assert!(answer.text.contains("event: over"), "{}", answer.text);
}

#[tokio::test]
async fn no_page_holds_what_the_policy_for_browsers_forbids() {
    let visit = Visit::begin().await;
    for path in ["/stress/", "/stress/nothing", "/stress/compare"] {
        let page = visit.get(path).await;
        assert!(page.headers.contains_key(header::CONTENT_SECURITY_POLICY), "{path}");
        for forbidden in [" style=", "<style", " onclick=", "javascript:", "http://", "https://"] {
            assert!(!page.text.contains(forbidden), "{forbidden} in {path}");
        }
    }
    for asset in ["base.css", "stress.css", "stress.js", "icon.svg"] {
        assert_eq!(visit.get(&format!("/stress/assets/{asset}")).await.status, 200, "{asset}");
    }
}

fn frame() -> Frame {
    let text = || "x".to_owned();
    Frame { account: "admin".into(), csrf: text(), base_style: text(), style: text(), script: text() }
}

#[test]
fn a_result_says_its_verdict_in_a_word_and_a_sentence_and_what_was_checked() {
    let html = result::result_page(frame(), &sample::passed(), Vec::new()).render().unwrap();
    for part in
        ["Passed", "All 10,000 files arrived whole", "10,000 of 10,000 files", "397 ms", "report.json", "files.csv"]
    {
        assert!(html.contains(part), "{part}: {html}");
    }
    assert!(!html.contains("lost or wrong</h2>") && !html.contains("Compare it"), "{html}");
    let failed = sample::failed();
    let html = result::result_page(frame(), &failed, vec![(sample::RUN.into(), "then".into())]).render().unwrap();
    for part in ["Failed", "swapped with another", "f000977", "&#60;of&#62;", "connection lost", "Compare it"] {
        assert!(html.contains(part), "{part}: {html}");
    }
    assert!(!html.contains(" style=") && !html.contains("<script"), "{html}");
}

#[test]
fn a_verdict_has_another_word_for_each_way_a_run_can_end() {
    let judged = |ok, safe| {
        let mut report = sample::passed();
        (report.verdict.ok, report.verdict.safe) = (ok, safe);
        result::Judged::of(&report)
    };
    let all = [judged(true, true), judged(true, false), judged(false, true), judged(false, false)];
    assert_eq!(all.map(|judged| judged.class), ["good", "warn", "bad", "bad"]);
    let words: std::collections::BTreeSet<_> = all.iter().map(|judged| judged.word).collect();
    assert_eq!(words.len(), 4);
}

#[test]
fn findings_that_are_not_shown_are_counted() {
    let mut report = sample::failed();
    report.faults = vec![report.faults[0].clone(); 1000];
    report.faults_by_kind = [(crate::report::FaultKind::Lost, 1500)].into();
    let html = result::result_page(frame(), &report, Vec::new()).render().unwrap();
    assert_eq!(html.matches("<code>/stress-").count(), 200);
    assert!(html.contains("1,300 more"), "{html}");
}

#[test]
fn two_runs_stand_side_by_side_the_older_one_first_and_in_one_scale() {
    let (older, later) = (sample::passed(), sample::failed());
    let html = comparison::comparison(frame(), &later, &older).render().unwrap();
    assert!(html.find(older.run.as_str()) < html.find(later.run.as_str()), "{html}");
    for part in ["−50 %", "78.30 MiB/s", "39.10 MiB/s", "differs"] {
        assert!(html.contains(part), "{part}: {html}");
    }
}

#[test]
fn a_run_that_goes_shows_its_numbers_and_refreshes_itself_without_a_script() {
    let live = live::Live::of(&sample::progress());
    let html = live::RunPage { frame: frame(), run: sample::RUN.into(), live }.render().unwrap();
    for part in [
        "6,412 of 10,000 files uploaded",
        "value=\"641\"",
        "connection lost",
        "<noscript><meta http-equiv=\"refresh\"",
        "<svg",
    ] {
        assert!(html.contains(part), "{part}: {html}");
    }
    for forbidden in [" style=", "<style", "onclick"] {
        assert!(!html.contains(forbidden), "{forbidden}: {html}");
    }
}

#[tokio::test]
async fn kept_runs_are_listed_shown_compared_and_taken_away() {
    let visit = Visit::begin().await;
    let reports = visit.state.path().join("reports");
    for report in [sample::passed(), sample::failed()] {
        std::fs::write(reports.join(format!("{}.json", report.run)), serde_json::to_vec(&report).unwrap()).unwrap();
        std::fs::write(reports.join(format!("{}.csv", report.run)), "file,size\n").unwrap();
    }
    let other = sample::failed().run;
    let overview = visit.get("/stress/").await.text;
    for part in ["Passed", "Failed", "10,000", "4KiB – 1MiB", "Compare two runs"] {
        assert!(overview.contains(part), "{part}: {overview}");
    }
    let page = visit.get(&format!("/stress/runs/{}", sample::RUN)).await;
    assert!(page.status == 200 && page.text.contains("Compare it with"), "{}", page.text);

    let compared = visit.get(&format!("/stress/compare?run={}&run={other}", sample::RUN)).await;
    assert!(compared.status == 200 && compared.text.contains("Two runs side by side"), "{}", compared.text);
    let alone = visit.get(&format!("/stress/compare?run={other}")).await;
    assert_eq!(alone.headers.get(header::LOCATION).unwrap(), &format!("/stress/runs/{other}"));

    let json = visit.get(&format!("/stress/runs/{other}/report.json")).await;
    let back: crate::report::Report = serde_json::from_str(&json.text).unwrap();
    assert_eq!((&back.run, &back.verdict, &back.faults), (&other, &sample::failed().verdict, &sample::failed().faults));
    let disposition = json.headers.get(header::CONTENT_DISPOSITION).unwrap();
    assert_eq!(disposition, &format!("attachment; filename=\"stress-{other}.json\""));
    let csv = visit.get(&format!("/stress/runs/{other}/files.csv")).await;
    assert_eq!((csv.status, csv.text.as_str()), (200, "file,size\n"));
}
