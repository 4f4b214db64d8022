//! The pages, asked for through their router as a browser asks: over a store that the real follower has filled from log lines.

use std::path::Path;

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use futures::StreamExt;
use futures::future::BoxFuture;
use pair::activity::{Activity, Outcome};
use tower::ServiceExt;
use web::{Admission, Password, Refusal};

use super::*;
use crate::follow::Follower;

/// Lets in who says `right`.
struct Keeper;

impl Doorkeeper for Keeper {
    fn admit<'a>(&'a self, name: &'a str, password: &'a Password) -> BoxFuture<'a, Result<Admission, Refusal>> {
        let is_right = name == "admin" && password.as_str() == "right";
        Box::pin(async move { if is_right { Ok(Admission { account: name.to_owned() }) } else { Err(Refusal::Wrong) } })
    }
}

/// The console's pages over some lines of a log, and a browser that is logged in.
pub(super) struct Browser {
    routes: Router,
    pub(super) cookie: String,
    pub(super) csrf: String,
    pub(super) config: Config,
    follower: Follower,
    _situation: watch::Sender<Arc<Situation>>,
    folder: tempfile::TempDir,
}

/// What came back.
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
    pub(super) bytes: Vec<u8>,
}

/// A record of an upload that was done.
fn upload(id: u64, account: &str, path: &str) -> Activity {
    Activity {
        id,
        time: format!("{:.3}", jiff::Timestamp::from_second(1_795_000_000 + id as i64).unwrap()),
        sender: "Upload".into(),
        username: account.into(),
        remote_addr: "192.0.2.7:5000".into(),
        connection_id: format!("c{id}"),
        protocol: "SFTP".into(),
        file_path: Some(path.into()),
        outcome: Some(Outcome::Complete),
        size_bytes: Some(1 << 20),
        file_size: Some(1 << 20),
        elapsed_ms: Some(500),
        ..Activity::default()
    }
}

fn write(folder: &Path, lines: &[Activity]) {
    use std::io::Write;
    let mut file = std::fs::File::options().create(true).append(true).open(folder.join("activity.log")).unwrap();
    lines.iter().for_each(|line| file.write_all(&line.line()).unwrap());
}

impl Browser {
    async fn over(lines: &[Activity]) -> Browser {
        Browser::with(lines, |_| {}).await
    }

    pub(super) async fn with(lines: &[Activity], change: impl FnOnce(&mut Config)) -> Browser {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("logs");
        std::fs::create_dir(&logs).unwrap();
        write(&logs, lines);
        let mut config = Config {
            logs: vec![logs.to_str().unwrap().into()],
            state: folder.path().join("state"),
            time_zone: "UTC".into(),
            ..Config::default()
        };
        change(&mut config);
        let mut follower = Follower::new(&config).unwrap();
        assert_eq!(follower.look(&|| false).unwrap().records, lines.len() as u64);
        let readers = Arc::new(Readers::new(config.state.clone(), config.zone().unwrap()));
        let (_situation, seen) = watch::channel(Arc::default());
        let routes = router(&config, readers, seen, Box::new(Keeper), CancellationToken::new()).unwrap();
        let (cookie, csrf) = (String::new(), String::new());
        let mut browser = Browser { routes, cookie, csrf, config, follower, _situation, folder };
        browser.log_in().await;
        browser
    }

    async fn log_in(&mut self) {
        let form = self.get("/console/login").await;
        let before = std::mem::take(&mut self.cookie);
        self.cookie = format!("{before}; {}", cookie_of(&form.headers, "console_session_form"));
        let login = format!("name=admin&password=right&csrf={}", csrf_of(&form.text));
        let inside = self.post("/console/login", &login).await;
        assert_eq!(inside.status, 303, "{}", inside.text);
        self.cookie = cookie_of(&inside.headers, "console_session");
        self.csrf = csrf_of(&self.get("/console/activity").await.text);
    }

    pub(super) async fn raw(&self, request: axum::http::request::Builder, body: String) -> Response {
        let request =
            request.header(header::COOKIE, self.cookie.trim_start_matches("; ")).body(Body::from(body)).unwrap();
        self.routes.clone().oneshot(request).await.unwrap()
    }

    async fn send(&self, request: axum::http::request::Builder, body: String) -> Page {
        let (parts, body) = self.raw(request, body).await.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 24).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Page { status: parts.status.as_u16(), headers: parts.headers, text, bytes: bytes.into() }
    }

    pub(super) async fn get(&self, path: &str) -> Page {
        self.send(Request::get(path), String::new()).await
    }

    pub(super) async fn post(&self, path: &str, form: &str) -> Page {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request, form.to_owned()).await
    }
}

fn cookie_of(headers: &HeaderMap, name: &str) -> String {
    let texts = headers.get_all(header::SET_COOKIE).iter().map(|value| value.to_str().unwrap());
    let mut cookies = texts.map(|text| text.split(';').next().unwrap());
    cookies.find(|cookie| cookie.split('=').next() == Some(name)).unwrap().to_owned()
}

fn csrf_of(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"csrf\" value=\"").unwrap();
    rest[..64].to_owned()
}

/// Every page and export that shows what logs say.
const SHOWN: [&str; 9] = [
    "/console/activity",
    "/console/activity?axis=log",
    "/console/activity/transfers.csv",
    "/console/activity/failures.csv",
    "/console/activity/failed-logins.csv",
    "/console/activity/clients.csv",
    "/console/records",
    "/console/records.csv",
    "/console/files?text=/&how=prefix",
];

const HOSTILE: [&str; 9] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='x",
    "=HYPERLINK(\"http://evil\")",
    "+1",
    "@SUM(A1)",
    "a\r\nSet-Cookie: x=1",
    "gpj.\u{202e}exe",
    "nul\0byte\u{1b}[2J",
];

fn hostile_lines() -> Vec<Activity> {
    let mut lines = Vec::new();
    for (number, text) in HOSTILE.iter().enumerate() {
        let id = number as u64 * 10 + 1;
        lines.push(upload(id, text, &format!("/in/{text}")));
        let failed = Activity {
            outcome: Some(Outcome::Aborted),
            error: Some(format!("{text}: quota exceeded")),
            ..upload(id + 1, text, &format!("/{text}/x"))
        };
        lines.push(failed);
        let renamed = Activity {
            sender: "Rename".into(),
            target_path: Some(format!("/out/{text}")),
            ..upload(id + 2, text, "/in/y")
        };
        lines.push(renamed);
        let stranger = Activity {
            sender: "connection_failed".into(),
            outcome: Some(Outcome::Refused),
            error: Some((*text).into()),
            file_path: None,
            ..upload(id + 3, text, "")
        };
        lines.push(stranger);
        let login = Activity {
            sender: "login".into(),
            client_version: Some((*text).into()),
            outcome: None,
            file_path: None,
            ..upload(id + 4, text, "")
        };
        lines.push(login);
    }
    lines
}

#[tokio::test]
async fn hostile_names_are_text_in_every_page_and_export() {
    let browser = Browser::over(&hostile_lines()).await;
    for address in SHOWN {
        let answer = browser.get(address).await;
        assert_eq!(answer.status, 200, "{address}");
        for raw in ["<script>alert", "<img src=x", "' onmouseover='x", "\u{202e}", "\0", "\u{1b}"] {
            let is_csv = address.contains(".csv");
            // A CSV is no HTML; what is not seen is written out there, too.
            if !(is_csv && raw.len() > 3) {
                assert!(!answer.text.contains(raw), "{raw:?} in {address}");
            }
        }
        for forbidden in [" style=", "<style", " onclick=", "javascript:", "|safe"] {
            assert!(!answer.text.contains(forbidden), "{forbidden} in {address}");
        }
    }
    let page = browser.get("/console/records?account=%3Cscript%3Ealert(1)%3C/script%3E").await.text;
    assert!(page.contains("&#60;script&#62;alert(1)"), "{page}");
    assert!(browser.get("/console/records").await.text.contains("gpj.\\u{202e}exe"));
}

#[tokio::test]
async fn no_cell_of_an_export_is_a_formula_and_no_name_breaks_a_line() {
    let browser = Browser::over(&hostile_lines()).await;
    for address in SHOWN.iter().filter(|address| address.contains(".csv")) {
        let answer = browser.get(address).await;
        assert_eq!(answer.headers.get(header::CONTENT_TYPE).unwrap(), "text/csv; charset=utf-8");
        let disposition = answer.headers.get(header::CONTENT_DISPOSITION).unwrap().to_str().unwrap();
        let name = disposition.strip_prefix("attachment; filename=\"").unwrap().trim_end_matches('"');
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || b".-".contains(&byte)), "{disposition}");
        let text = answer.text.strip_suffix("\r\n").unwrap();
        let columns = cells(text.lines().next().unwrap()).len();
        for line in text.split("\r\n") {
            let cells = cells(line);
            assert!(!line.contains(['\r', '\n']) && cells.len() == columns, "{address}: {line}");
            assert!(cells.iter().all(|cell| !cell.starts_with(['=', '+', '-', '@', '\t'])), "{address}: {line}");
        }
    }
    assert_eq!(browser.get("/console/records.csv").await.text.lines().count(), hostile_lines().len() + 1);
}

/// The cells of a line, as RFC 4180 has them.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut is_quoted) = (vec![String::new()], false);
    for letter in line.chars() {
        match letter {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => cells.push(String::new()),
            letter => cells.last_mut().unwrap().push(letter),
        }
    }
    assert!(!is_quoted, "{line}");
    cells
}

const ROUTES: [&str; 10] = [
    "/console/",
    "/console/state/events",
    "/console/activity",
    "/console/activity/days.csv",
    "/console/records",
    "/console/records.csv",
    "/console/records/events",
    "/console/files",
    "/console/nothing",
    "/console/orders/promote",
];

#[tokio::test]
async fn nobody_sees_a_page_without_a_login() {
    let mut browser = Browser::over(&hostile_lines()).await;
    let csrf = browser.csrf.clone();
    for cookie in ["", "console_session=x", &format!("console_session={}", "0".repeat(64))] {
        browser.cookie = cookie.to_owned();
        for address in ROUTES {
            let answer = browser.get(address).await;
            assert_eq!(
                (answer.status, answer.headers.get(header::LOCATION).unwrap().to_str().unwrap()),
                (303, "/console/login"),
                "{address}"
            );
            let events =
                browser.send(Request::get(address).header(header::ACCEPT, "text/event-stream"), String::new()).await;
            assert_eq!(events.status, 401, "{address}");
            let posted = browser.post(address, &format!("csrf={csrf}")).await;
            assert!(posted.status == 303 && !posted.text.contains("alert"), "{address}: {}", posted.status);
        }
    }
}

#[tokio::test]
async fn a_form_without_its_token_does_nothing() {
    let browser = Browser::over(&[]).await;
    for form in ["", "csrf=", "csrf=0", &format!("csrf={}", "0".repeat(64))] {
        for address in ["/console/orders/promote", "/console/logout", "/console/activity"] {
            assert_eq!(browser.post(address, form).await.status, 403, "{address} {form}");
        }
    }
    assert_eq!(browser.get("/console/activity").await.status, 200, "nobody was logged out");
}

#[tokio::test]
async fn a_session_that_a_browser_brings_is_not_taken_over() {
    let mut browser = Browser::over(&[]).await;
    let brought = format!("console_session={}", "ab".repeat(32));
    browser.cookie.clone_from(&brought);
    browser.log_in().await;
    assert_ne!(browser.cookie, brought);
    let own = std::mem::replace(&mut browser.cookie, brought);
    assert_eq!(browser.get("/console/activity").await.status, 303, "the brought one opens nothing");
    browser.cookie = own;
    assert_eq!(browser.get("/console/activity").await.status, 200);
}

#[tokio::test]
async fn guessed_parameters_lead_nowhere_and_break_nothing() {
    let browser = Browser::over(&hostile_lines()).await;
    let long = "a".repeat(20_000);
    let guesses =
        ["..%2F..%2Fetc%2Fpasswd", "%2e%2e%2f", "%00", "%FF%FE", "days", "days.CSV", "days.csv%00", ".csv", &long];
    for guess in guesses {
        let answer = browser.get(&format!("/console/activity/{guess}")).await;
        assert_eq!(answer.status, 404, "{guess}");
    }
    for query in [
        "before=x",
        "before=1",
        "before=../1-2",
        "before=99999999999999999999-1",
        "how=x",
        "from=%FF",
        "to=0000",
        "what=%00",
        "came=%2e%2e",
    ] {
        for address in ["/console/records", "/console/records.csv", "/console/records/events"] {
            let answer = browser.get(&format!("{address}?{query}")).await;
            assert_eq!(answer.status, 422, "{address}?{query}");
        }
    }
    assert_eq!(browser.get("/console/records/events?after=x").await.status, 422);
    assert_eq!(browser.get(&format!("/console/files?text={long}")).await.status, 422);
    for query in [
        "text=%FF%FE%00",
        "account=%FF&folder=%00",
        "folder=../..",
        "before=-9223372036854775808-0",
        "before=9223372036854775807-9223372036854775807",
        "text=%25_%5C&how=contains",
    ] {
        for address in ["/console/activity", "/console/records", "/console/files", "/console/records.csv"] {
            assert_eq!(browser.get(&format!("{address}?{query}")).await.status, 200, "{address}?{query}");
        }
    }
}

#[tokio::test]
async fn every_answer_has_the_policy() {
    let browser = Browser::over(&hostile_lines()).await;
    for address in ROUTES.iter().filter(|address| !address.ends_with("events")).chain(&SHOWN) {
        let answer = browser.get(address).await;
        let policy = answer.headers.get(header::CONTENT_SECURITY_POLICY).unwrap().to_str().unwrap();
        assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{address}: {policy}");
    }
    for asset in ["plotly.js", "activity.js", "activity.css"] {
        let answer = browser.get(&format!("/console/assets/{asset}")).await;
        assert!(answer.status == 200 && answer.headers.contains_key(header::CONTENT_SECURITY_POLICY), "{asset}");
    }
}

#[tokio::test]
async fn the_activity_page_has_a_chart_a_table_and_a_csv_of_each_kind() {
    let browser = Browser::over(&hostile_lines()).await;
    let page = browser.get("/console/activity").await.text;
    assert_eq!(page.matches("class=\"plot\"").count(), 10, "all but the downloads, of which there are none");
    assert_eq!(page.matches("role=\"img\"").count(), page.matches("<summary>Table").count());
    for link in
        page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).filter(|link| link.contains(".csv"))
    {
        let link = link.replace("&#38;", "&");
        assert_eq!(browser.get(&link).await.status, 200, "{link}");
    }
    for figure in page.split("data-figure=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        let json = figure
            .replace("&#34;", "\"")
            .replace("&#60;", "<")
            .replace("&#62;", ">")
            .replace("&#39;", "'")
            .replace("&#38;", "&");
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(parsed["data"][0].is_object(), "{json}");
    }
    let wrong = browser.get("/console/activity?from=soon&account=anna").await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.text.contains("is no date") && wrong.text.contains("value=\"anna\""), "{}", wrong.text);
    let none = browser.get("/console/activity?from=2001-01-01&to=2001-01-02").await.text;
    assert!(!none.contains("class=\"plot\"") && none.contains("Nothing of that kind"));
}

#[tokio::test]
async fn records_come_in_pages_and_all_of_them_once() {
    let lines: Vec<Activity> = (1..=250).map(|id| upload(id, "anna", &format!("/in/{id}.csv"))).collect();
    let browser = Browser::over(&lines).await;
    let (mut address, mut seen) = ("/console/records".to_owned(), Vec::new());
    for _ in 0..3 {
        let page = browser.get(&address).await.text;
        seen.extend(page.split("<bdi>/in/").skip(1).map(|rest| rest.split('<').next().unwrap().to_owned()));
        let Some((before, _)) = page.split_once("\">Older</a>") else { break };
        address = before.rsplit("href=\"").next().unwrap().replace("&#38;", "&");
    }
    assert_eq!(seen, (1..=250).rev().map(|id| format!("{id}.csv")).collect::<Vec<_>>());
    let found = browser.get("/console/records?text=/in/17.csv&how=exact").await.text;
    assert_eq!(found.matches("<bdi>/in/").count(), 1);
}

#[tokio::test]
async fn records_that_arrive_are_told_and_only_those_that_are_meant() {
    let mut browser = Browser::over(&[upload(1, "anna", "/in/1.csv")]).await;
    let response =
        browser.raw(Request::get("/console/records/events?account=anna&text=new&after=1"), String::new()).await;
    assert_eq!(response.headers().get(header::CONTENT_TYPE).unwrap(), "text/event-stream");
    let mut events = response.into_body().into_data_stream();
    let logs = browser.folder.path().join("logs");
    write(&logs, &[upload(2, "bob", "/in/new-bob"), upload(3, "anna", "/in/old"), upload(4, "anna", "/in/new<b>")]);
    assert_eq!(browser.follower.look(&|| false).unwrap().records, 3);
    let told = tokio::time::timeout(Duration::from_secs(20), events.next()).await.unwrap().unwrap().unwrap();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(
        told.contains("event: records") && told.contains("data: 1\n") && told.contains("/in/new&#60;b&#62;"),
        "{told}"
    );
    assert!(!told.contains("bob") && !told.contains("/in/old"), "{told}");
}

#[tokio::test]
async fn a_file_is_found_by_the_name_that_it_has_now() {
    let part = upload(1, "anna", "/in/x.csv.part");
    let renamed = Activity {
        sender: "Rename".into(),
        target_path: Some("/in/x.csv".into()),
        ..upload(2, "anna", "/in/x.csv.part")
    };
    let aborted = Activity { outcome: Some(Outcome::Aborted), ..upload(3, "bob", "/in/y.csv") };
    let browser = Browser::over(&[part, renamed, aborted]).await;
    for query in ["text=x.csv", "text=/in/x.csv", "text=x.cs&how=prefix"] {
        let page = browser.get(&format!("/console/files?{query}")).await.text;
        assert_eq!(page.matches("class=\"card receipt\"").count(), 1, "{query}: {page}");
        for part in [
            "<bdi>/in/x.csv</bdi>",
            "<bdi>/in/x.csv.part</bdi>",
            "1.00 MiB",
            "durable on the machine",
            "No standby is followed",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }
    let page = browser.get("/console/files?text=y.csv").await.text;
    assert!(page.contains("not acknowledged") && !page.contains("durable on the machine"), "{page}");
    let page = browser.get("/console/files?text=z.csv").await.text;
    assert!(page.contains("No upload of that name is in the records"), "{page}");
}

#[tokio::test]
async fn what_was_expected_and_is_not_here_is_said() {
    let browser = Browser::with(&[], |config| config.expected = vec!["anna /in/daily-*.csv by 00:00".into()]).await;
    assert_eq!(browser.config.expected.len(), 1);
    let looked = async {
        loop {
            let page = browser.get("/console/activity").await.text;
            if page.contains("daily-*.csv") {
                return page;
            }
            tokio::task::yield_now().await;
        }
    };
    let page = tokio::time::timeout(Duration::from_secs(20), looked).await.unwrap();
    assert!(page.contains("Not here") && page.contains("no such file has come since midnight"), "{page}");
    let page = browser.get("/console/").await.text;
    assert!(page.contains("Expected today") && page.contains("daily-*.csv") && page.contains("Not here"), "{page}");
}
