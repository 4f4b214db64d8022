//! The console as a person uses it: two machines with a filesync each, the program, and a browser, without scripts and with them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::time::Duration;

use pair::activity::{Activity, Level, Outcome, sender};
use tests::load::Chance;
use tests::step::NEW;
use tests::{ADMIN, Anybody, Browser, DESK, Duo, Machine, Raw, USER, View, Visitor, console, within};

const PATIENCE: Duration = Duration::from_secs(90);

const SAFE: &str = "Safe: everything acknowledged is on both machines";

/// A name that would be markup, a formula or a trick for the eye, where somebody forgot that it is text.
const HOSTILE: &str = "=<img src=x onerror=alert(1)><b>&amp;\u{202e}gpj.exe";

/// What stands in the page's first heading.
fn heading(text: &str) -> String {
    let begin = text.find("<h1").and_then(|at| text[at..].find('>').map(|end| at + end + 1)).unwrap_or(0);
    text[begin..].split("</h1>").next().unwrap_or_default().to_owned()
}

#[test]
fn an_admin_reads_whether_the_pair_is_safe_and_what_came_and_orders_a_drill_by_his_password() {
    let mut duo = Duo::start();
    let (_console, address) = console(&duo.machines[0]);
    let mut visitor = Visitor::at(&address, "/console/");
    assert_eq!(visitor.get("/console/records").header("location"), "/console/login");
    let refused = visitor.log_in(USER);
    assert!(refused.status == 403 && refused.text.contains("no administrator"), "{}", refused.text);
    assert_eq!(visitor.log_in(ADMIN).header("location"), "/console/");

    assert!(duo.machines[0].put(USER, "hello.txt", "hello"));
    let mut page = visitor.get("/console/");
    within(PATIENCE, "the state is safe", || {
        page = visitor.get("/console/");
        heading(&page.text).starts_with(SAFE)
    });
    within(PATIENCE, "the upload is in the records", || {
        visitor.get("/console/records?account=EPuser&what=upload").text.contains("hello.txt")
    });
    let csv = visitor.get("/console/records.csv?account=EPuser&what=upload");
    assert!(csv.header("content-type").starts_with("text/csv"), "{}", csv.head);
    let rows: Vec<&str> = csv.text.lines().collect();
    assert!(rows.len() == 2 && rows[1].contains("hello.txt") && rows[1].contains("EPuser"), "{}", csv.text);
    within(PATIENCE, "its receipt says that it is on the standby", || {
        let receipt = visitor.get("/console/files?text=hello.txt").text;
        receipt.contains("hello.txt") && receipt.to_lowercase().contains("standby")
    });

    // Orders want the password, and are refused without it.
    let csrf = page.csrf().to_owned();
    let asked = visitor.post("/console/orders/drill", &format!("csrf={csrf}"));
    assert!(asked.status == 200 && asked.text.contains("name=\"password\""), "{}", asked.text);
    let refused = visitor.post("/console/orders/drill", &format!("csrf={csrf}&password="));
    assert!(refused.status == 403 && refused.text.contains("Enter your password"), "{}", refused.text);
    assert_eq!(visitor.post("/console/orders/drill", "csrf=0&password=x").status, 403);
    let mut refused = refused.text;
    within(PATIENCE, "the password is looked at, and refused", || {
        refused = visitor.post("/console/orders/drill", &format!("csrf={csrf}&password=wrong")).text;
        refused.contains("The password is wrong: nothing was done")
    });
    assert!(duo.status(0).unwrap().role == pair::node::Role::Master, "nothing was done");

    // A standby that is away is no safe pair.
    duo.machines[1].stop();
    within(PATIENCE, "the state is not safe", || heading(&visitor.get("/console/").text).starts_with("Not safe: "));
    duo.machines[1].start();
    within(PATIENCE, "the state is safe again", || heading(&visitor.get("/console/").text).starts_with(SAFE));

    let mut done = String::new();
    within(PATIENCE, "the drill is done", || {
        done = visitor.post("/console/orders/drill", &format!("csrf={csrf}&password={}", ADMIN.1)).text;
        !done.contains("Too many tries")
    });
    assert!(heading(&done).contains("done") && !heading(&done).contains("not done"), "{done}");
    within(PATIENCE, "the drill is among the last moves", || visitor.get("/console/").text.contains("drill"));

    visitor.post("/console/logout", &format!("csrf={csrf}"));
    assert_eq!(visitor.get("/console/").header("location"), "/console/login");
}

#[test]
fn in_a_real_browser_charts_are_drawn_filters_stand_in_the_address_and_new_records_come_by_themselves() {
    if !Browser::is_there() {
        return;
    }
    let duo = Duo::start();
    let (_console, address) = console(&duo.machines[0]);
    let page = |path: &str| format!("http://{}{path}", address.trim_end_matches('/'));
    for name in ["one.csv", "two.csv", HOSTILE] {
        let client = duo.machines[0].sftp(USER);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), name).unwrap();
        client.run(&format!("put {} \"{name}\"\n", file.path().display())).expect_ok();
    }
    let browser = Browser::start();
    browser.log_in(&page("/"), ADMIN);

    browser.until("the state is safe", || browser.text("h1").starts_with(SAFE));
    browser.looks_well("the state");

    browser.until("the uploads are counted", || {
        browser.go(&page("/activity"));
        browser.count(".plot") > 0
    });
    charts_are_drawn(&browser);
    browser.looks_well("the activity");
    browser.type_into("#account", USER.0);
    browser.click("form.filter button");
    browser.until("the filter stands in the address", || browser.address().contains("account=EPuser"));
    browser.click_words("logarithmic");
    browser.until("the axis stands in the address", || {
        let address = browser.address();
        address.contains("axis=log") && address.contains("account=EPuser")
    });
    charts_are_drawn(&browser);
    let is_log = "const { layout } = document.querySelector('.plot[data-figure]');
        return layout.xaxis.type === 'log' || layout.yaxis.type === 'log'";
    assert_eq!(browser.run(is_log, &[]), true);

    let (_runtime, _visit) = hostile_visit(&duo.machines[0]);
    let mut raw = Raw::greeted(&duo.machines[0], USER);
    raw.open(HOSTILE.as_bytes(), NEW, None).handle();
    browser.go(&page("/connections"));
    browser.until("who is connected is shown, and what is on its way", || {
        let text = browser.text("main");
        text.contains("<script>alert(2)</script>") && text.contains("uploads /=<img src=x onerror=alert(1)>")
    });
    assert_eq!(browser.count("main script"), 0);
    browser.looks_well("the connections");
    drop(raw);
    browser.until("it goes by itself", || !browser.text("main").contains("uploads"));
    let end = "[...document.querySelectorAll('#live tr')].find(row => row.textContent.includes(arguments[0]))
        .querySelector('button').click(); return null";
    browser.run(end, &[USER.0.into()]);
    browser.until("the order is said in words", || browser.text("h1") == "End connections");
    assert!(browser.text("main").contains(USER.0) && browser.count("#password") == 1, "{}", browser.text("main"));
    browser.looks_well("the order");

    browser.go(&page("/records"));
    assert!(browser.text("main").contains("one.csv"), "{}", browser.text("main"));
    assert!(browser.text("main").contains("<img src=x onerror=alert(1)>"), "{}", browser.text("main"));
    browser.looks_well("the records");
    browser.run("window.isTheSamePage = true; return null", &[]);
    assert!(duo.machines[0].put(USER, "while-watched.txt", "new"));
    browser.until("a new upload comes by itself", || browser.text("main").contains("while-watched.txt"));
    assert_eq!(browser.run("return window.isTheSamePage", &[]), true, "without a reload");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Somebody is logged in whose client's name would be markup.
fn hostile_visit(machine: &Machine) -> (tokio::runtime::Runtime, russh::client::Handle<Anybody>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let name = "SSH-2.0-<script>alert(2)</script>".to_owned().into();
    let config = russh::client::Config { client_id: russh::SshId::Standard(name), ..russh::client::Config::default() };
    let address = machine.address();
    let mut visit = runtime.block_on(russh::client::connect(config.into(), address, Anybody::default())).unwrap();
    assert!(runtime.block_on(visit.authenticate_password(USER.0, USER.1)).unwrap().success());
    (runtime, visit)
}

/// Every chart has its drawing, and the browser has nothing to complain of.
#[track_caller]
fn charts_are_drawn(browser: &Browser) {
    browser.until("the charts are drawn", || {
        let missing = "return [...document.querySelectorAll('.plot[data-figure]')].filter(plot => {
            const drawing = plot.querySelector('svg.main-svg');
            return !drawing || drawing.getBoundingClientRect().width < 100;
        }).length";
        browser.count(".plot[data-figure]") > 0 && browser.run(missing, &[]) == 0
    });
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Draws the pictures in docs/images anew: `cargo test -p tests --test console_page pictures -- --ignored`.
#[test]
#[ignore = "it writes into docs/images"]
fn pictures_for_the_docs() {
    let duo = Duo::start_with(&[], &[]);
    let logs = duo.machines[0].logs();
    let lines: Vec<String> = history().iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect();
    std::fs::write(logs.join("activity-history.log"), lines.concat()).unwrap();
    let (_console, address) = console(&duo.machines[0]);
    let page = |path: &str| format!("http://{}{path}", address.trim_end_matches('/'));
    let images = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
    let browser = Browser::start();
    browser.log_in(&page("/"), ADMIN);
    for number in 0..3 {
        assert!(duo.machines[0].put(USER, &format!("measurement-{number:03}.csv"), "12.5;12.7;12.6"));
    }
    let picture = |name: &str, height: u32| {
        browser.run("scrollTo(0, 0); return null", &[]);
        browser.look_as(View { height, ..DESK });
        let settled = "return document.getAnimations().every(animation => animation.playState === 'finished')";
        browser.until("nothing moves any more", || browser.run(settled, &[]) == true);
        browser.picture(&images.join(name));
    };
    an_hour_of_lag(&duo);
    browser.until("the state is safe, and its line is drawn", || {
        let drawing = "return document.querySelector('figure.chart [role=img]')?.innerHTML.length ?? 0";
        browser.text("h1").starts_with(SAFE) && browser.run(drawing, &[]).as_u64().unwrap_or(0) > 5_000
    });
    picture("console-state.png", 1640);
    browser.go(&page("/activity"));
    browser.until("the history is counted", || {
        browser.go(&page("/activity"));
        browser.count(".plot[data-figure]") > 6
    });
    charts_are_drawn(&browser);
    picture("console-activity.png", 2000);
    browser.go(&page("/records?what=transfers"));
    picture("console-records.png", 900);
}

/// The samples that the console would have kept if it had run for an hour, with a standby that was restarted meanwhile.
fn an_hour_of_lag(duo: &Duo) {
    let db = rusqlite::Connection::open(duo.machines[0].state().join("console.db")).unwrap();
    db.busy_timeout(PATIENCE).unwrap();
    let (standby, now_ms) = (duo.machines[1].address().to_string(), jiff::Timestamp::now().as_millisecond());
    let mut chance = Chance::new(3);
    for number in 2..360_i64 {
        let lag_ms = match number {
            120..=125 => (126 - number) * 2_300,
            _ => 4 + chance.below(30) as i64 + if chance.one_in(25) { 400 } else { 0 },
        };
        let sql = "INSERT OR REPLACE INTO sample VALUES (?, ?, ?, 0, 0, 0, NULL)";
        db.execute(sql, (&standby, now_ms - number * 10_000, lag_ms)).unwrap();
    }
}

/// Four weeks of some partners: weekdays more than weekends, one who fetches, one whose key is wrong, one who guesses.
fn history() -> Vec<Activity> {
    let partners = [
        ("acme", 9, 300_000, 2),
        ("northwind", 5, 90_000_000, 6),
        ("logger-17", 24, 4_000, 1),
        ("globex", 2, 900_000_000, 20),
    ];
    let now = jiff::Timestamp::now().as_second();
    let mut stream = Chance::new(7);
    let mut chance = |below: u64| stream.below(below as usize) as u64;
    let mut records = Vec::new();
    for day in (0..=28).rev() {
        let midnight = now / 86_400 * 86_400 - day * 86_400;
        let is_weekend = (midnight / 86_400 + 3) % 7 >= 5;
        for (name, count, size, slowness) in partners {
            let count = if is_weekend && name != "logger-17" { count / 4 } else { count + chance(count / 2 + 1) };
            for _ in 0..count {
                let hour = if name == "logger-17" { chance(24) } else { 6 + chance(6) + chance(7) };
                let at = midnight + (hour * 3600 + chance(3600)) as i64;
                let (is_download, fails) = (name == "globex" && chance(3) == 0, chance(40) == 0);
                let bytes = size / 2 + chance(size);
                records.push(Activity {
                    sender: if is_download { sender::DOWNLOAD } else { sender::UPLOAD }.into(),
                    username: name.into(),
                    remote_addr: format!("198.51.100.{}:49152", 10 + name.len()),
                    client_version: None,
                    file_path: Some(format!("/in/{name}-{:05}.csv", chance(99_999))),
                    size_bytes: Some(bytes),
                    file_size: Some(bytes),
                    elapsed_ms: Some(bytes * slowness / 60_000 + 3),
                    outcome: Some(if fails { Outcome::Aborted } else { Outcome::Complete }),
                    error: fails.then(|| "the connection was lost".into()),
                    ..record(at, &mut chance)
                });
                if chance(4) == 0 {
                    let clients = ["SSH-2.0-WinSCP_release_6.5", "SSH-2.0-OpenSSH_9.2p1", "SSH-2.0-paramiko_3.5"];
                    let client = clients[name.len() % 3];
                    let login =
                        Activity { sender: sender::LOGIN.into(), username: name.into(), ..record(at - 1, &mut chance) };
                    records.push(Activity {
                        client_version: Some(client.into()),
                        method: Some("password".into()),
                        ..login
                    });
                }
            }
        }
        for _ in 0..chance(9) {
            let at = midnight + chance(86_400) as i64;
            let name = ["root", "test", "oracle"][chance(3) as usize];
            records.push(Activity {
                sender: sender::CONNECTION_FAILED.into(),
                level: Level::Warn,
                username: name.into(),
                remote_addr: format!("203.0.113.{}:40000", chance(9)),
                outcome: Some(Outcome::Refused),
                error: Some("a wrong password".into()),
                ..record(at, &mut chance)
            });
        }
    }
    records.retain(|record| record.id < now as u64 * 1_000_000);
    records.sort_by_key(|record| record.id);
    records
}

fn record(at_s: i64, chance: &mut impl FnMut(u64) -> u64) -> Activity {
    let id = at_s as u64 * 1_000_000 + chance(1_000_000);
    let time = jiff::Timestamp::from_microsecond(id as i64).unwrap();
    Activity {
        id,
        time: format!("{time:.3}"),
        protocol: "SFTP".into(),
        connection_id: format!("{id:x}-1"),
        ..Activity::default()
    }
}
