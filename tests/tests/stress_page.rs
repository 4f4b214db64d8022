//! The stress page as a person uses it: a real pair, the program, and a browser without a script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use tests::{ADMIN, Pair, Program, USER, binary, within};

/// A browser: it keeps cookies, and follows no redirects by itself.
struct Browser {
    address: String,
    cookies: Vec<(String, String)>,
}

struct Answer {
    status: u16,
    head: String,
    text: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}: ")));
        line.map_or("", |line| line.split_once(": ").unwrap().1)
    }

    /// The token of the first form.
    fn csrf(&self) -> &str {
        let (_, rest) = self.text.split_once("name=\"csrf\" value=\"").expect("a form");
        rest.split('"').next().unwrap()
    }
}

impl Browser {
    fn get(&mut self, path: &str) -> Answer {
        self.send(&format!("GET {path}"), "")
    }

    fn post(&mut self, path: &str, form: &str) -> Answer {
        self.send(&format!("POST {path}"), form)
    }

    fn send(&mut self, what: &str, form: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).expect("the page answers");
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        write!(
            stream,
            "{what} HTTP/1.1\r\nHost: {0}\r\nOrigin: http://{0}\r\nConnection: close\r\nCookie: {1}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {2}\r\n\r\n{form}",
            self.address,
            cookies.join("; "),
            form.len()
        )
        .unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, text) = text.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        for line in head.lines().filter(|line| line.to_lowercase().starts_with("set-cookie: ")) {
            let (name, value) = line.split_once(": ").unwrap().1.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
        Answer { status, head: head.to_owned(), text: text.to_owned() }
    }

    fn log_in(&mut self, (name, password): (&str, &str)) -> Answer {
        let csrf = self.get("/stress/login").csrf().to_owned();
        self.post("/stress/login", &format!("csrf={csrf}&name={name}&password={password}"))
    }
}

/// The program beside a pair, and a browser at its page.
fn start(pair: &Pair, state: &std::path::Path) -> (Program, Browser) {
    let mut program = Program::start(
        Command::new(binary("stresstest"))
            .env("STRESSTEST_LISTEN", "127.0.0.1:0")
            .env("STRESSTEST_TARGETS", format!("master={}", pair.master.address()))
            .env("STRESSTEST_STANDBYS", format!("standby={}", pair.standby.address()))
            .env("STRESSTEST_STATE", state),
    );
    let line = program.wait_for_line("listening on http://");
    let address = line.trim().trim_end_matches("/stress/").to_owned();
    (program, Browser { address, cookies: Vec::new() })
}

#[test]
fn an_admin_runs_a_load_through_the_page_and_reads_that_nothing_was_lost() {
    let pair = Pair::start();
    pair.wait_until_accounts_are_known();
    let state = tempfile::tempdir().unwrap();
    let (_program, mut browser) = start(&pair, state.path());

    assert_eq!(browser.get("/stress/").header("location"), "/stress/login");
    let refused = browser.log_in(USER);
    assert!(refused.status == 403 && refused.text.contains("no administrator"), "{}", refused.text);
    let refused = browser.log_in((ADMIN.0, "wrong"));
    assert!(refused.status == 403 && refused.text.contains("The name or the password is wrong"), "{}", refused.text);
    let hasty = browser.log_in(ADMIN);
    assert!(hasty.status == 429, "after two tries the third has to wait: {}", hasty.text);
    within(Duration::from_secs(60), "he may try again", || browser.log_in(ADMIN).header("location") == "/stress/");

    let csrf = browser.get("/stress/").csrf().to_owned();
    let form = |password: &str| {
        format!(
            "csrf={csrf}&target=master&account={}&password={password}&files=60&sizes=range&size_from=1KiB&size_to=64KiB\
             &clients=3&upload=70&download=20&list=5&rename=5&verify=standby",
            USER.0
        )
    };
    let mut mistake = browser.post("/stress/start", &form("wrong"));
    within(Duration::from_secs(60), "the password is looked at", || {
        mistake = browser.post("/stress/start", &form("wrong"));
        mistake.text.contains("does not accept this account")
    });
    assert!(mistake.status == 422 && mistake.text.contains("id=\"password-mistake\""), "{}", mistake.text);
    assert!(mistake.text.contains("value=\"60\"") && !mistake.text.contains("wrong\""), "what was typed stays");

    let mut page = String::new();
    within(Duration::from_secs(60), "the run begins", || {
        page = browser.post("/stress/start", &form(USER.1)).header("location").to_owned();
        page.starts_with("/stress/runs/")
    });
    let events = browser.get("/stress/events");
    assert_eq!(events.header("content-type"), "text/event-stream");
    for part in ["event: live", "class=\"steps\"", "<svg", "event: over"] {
        assert!(events.text.contains(part), "{part}: {}", events.text);
    }
    let mut result = browser.get(&page);
    within(Duration::from_secs(120), "the run is over", || {
        result = browser.get(&page);
        result.text.contains("class=\"verdict")
    });
    assert!(result.text.contains("Passed") && result.text.contains("60 of 60"), "{}", result.text);

    let json: serde_json::Value = serde_json::from_str(&browser.get(&format!("{page}/report.json")).text).unwrap();
    assert_eq!(json["verdict"]["ok"], true, "{json}");
    let csv = browser.get(&format!("{page}/files.csv"));
    assert_eq!((csv.status, csv.text.lines().count()), (200, 61), "{}", csv.text);
    assert!(browser.get("/stress/").text.contains(&page), "it is among the earlier runs");

    browser.post("/stress/logout", &format!("csrf={csrf}"));
    assert_eq!(browser.get(&page).header("location"), "/stress/login");
}
