//! The stress page as a person uses it: a real pair, the program, and a browser, without scripts and with them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Command;
use std::time::Duration;

use tests::{ADMIN, Browser, DESK, Machine, PHONE, Pair, Program, USER, Visitor, binary, run, within};

/// The program beside a pair, and a browser at its page.
fn start(pair: &Pair, state: &std::path::Path) -> (Program, Visitor) {
    let mut program = Program::start(
        Command::new(binary("stresstest"))
            .env("STRESSTEST_LISTEN", "127.0.0.1:0")
            .env("STRESSTEST_TARGETS", format!("master={}", pair.master.address()))
            .env("STRESSTEST_STANDBYS", format!("standby={}", pair.standby.address()))
            .env("STRESSTEST_STATE", state),
    );
    let line = program.wait_for_line("listening on http://");
    let visitor = Visitor::at(&line, "/stress/");
    (program, visitor)
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
    // Two tries at once; more come back only slowly.
    let mut answers = (0..20).map(|_| browser.log_in((ADMIN.0, "wrong")).status);
    assert!(answers.any(|status| status == 429), "after two tries the next has to wait");
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

#[test]
fn a_real_browser_shows_the_page_as_it_is_meant_over_tls_too() {
    if !Browser::is_there() {
        return;
    }
    let machine = Machine::master().start();
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    let (made, text) = run(openssl.args(["-subj", "/CN=localhost", "-keyout"]).arg(&key).arg("-out").arg(&certificate));
    assert!(made.success(), "{text}");
    let mut command = Command::new(binary("stresstest"));
    command.env("STRESSTEST_LISTEN", "127.0.0.1:0").env("STRESSTEST_STATE", folder.path());
    command.env("STRESSTEST_TARGETS", format!("master={}", machine.address()));
    command.env("STRESSTEST_TLS_CERTIFICATE", &certificate).env("STRESSTEST_TLS_KEY", &key);
    let mut program = Program::start(&mut command);
    let page = format!("https://{}", program.wait_for_line("listening on https://").trim());

    let browser = Browser::start();
    browser.log_in(&page, ADMIN);
    assert!(browser.text("h1").starts_with("Load the pair"), "{}", browser.text("main"));
    for view in [DESK, PHONE] {
        browser.look_as(view);
        assert_eq!(browser.sticks_out(), "", "{view:?}");
    }
    let cookies = browser.run("return document.cookie", &[]);
    assert_eq!(cookies, "", "a script sees no cookie");
    assert_eq!(browser.complaints(), Vec::<String>::new());
    // That it would have complained.
    browser.run("document.body.setAttribute('style', 'color: red'); return null", &[]);
    browser.run("const s = document.createElement('script'); s.textContent = '1'; document.body.append(s)", &[]);
    browser.until("the browser complains of an inline script", || {
        browser.complaints().iter().any(|complaint| complaint.contains("Content Security Policy"))
    });
}
