//! The archive's pages as a person uses them: sftpd with agents, the console over its volume, and a browser, without scripts and with them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use tests::load::Chance;
use tests::{ADMIN, Browser, DESK, Machine, View, Visitor, console, within};

const PATIENCE: Duration = Duration::from_secs(90);
const DAY: Duration = Duration::from_secs(86_400);

/// Three that send logs.
const AGENTS: [&str; 3] = ["agent01", "agent02", "agent03"];

/// A name that would be markup, where somebody forgot that it is text.
const HOSTILE: &str = "<img src=x onerror=alert(1)><b>&amp;\u{202e}gpj.log";

/// A machine that knows the agents, and what they have sent: a log of each, of today and of yesterday.
fn archive() -> Machine {
    let agents: String = AGENTS
        .iter()
        .map(|name| format!("  {name}: {{password: \"secret-{name}\", keep: 400d, keep_size: 50GiB}}\n"))
        .collect();
    let users =
        format!("users:\n  A: {{name: {}, password: \"{}\", admin: true}}\nagents:\n{agents}", ADMIN.0, ADMIN.1);
    let machine = Machine::master().users(&users).start();
    for name in AGENTS {
        assert!(machine.put((name, &format!("secret-{name}")), "first.log", "it is here\n"), "an agent sends a log");
        let folder = machine.path(name, "var/log");
        std::fs::create_dir_all(&folder).unwrap();
        let lines: String =
            (1..=3000).map(|number| format!("10:00:{:02} {name} request {number} done\n", number % 60)).collect();
        std::fs::write(folder.join("app.log"), format!("{lines}10:50:01 {name} ERROR: the disk of {name} is full\n"))
            .unwrap();
        let old = folder.join("app.log.1.gz");
        let mut gzip =
            Command::new("gzip").stdin(Stdio::piped()).stdout(std::fs::File::create(&old).unwrap()).spawn().unwrap();
        gzip.stdin.take().unwrap().write_all(format!("09:00:00 {name} ERROR of yesterday\n").as_bytes()).unwrap();
        assert!(gzip.wait().unwrap().success());
        std::fs::File::options().write(true).open(&old).unwrap().set_modified(SystemTime::now() - DAY).unwrap();
    }
    machine
}

/// The names in a tar archive that came as text.
fn names_in(tar: &str) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), tar).unwrap();
    let listed = Command::new("tar").arg("-tf").arg(file.path()).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn an_admin_finds_the_last_errors_of_an_agent_and_takes_yesterdays_logs_of_all_and_it_is_logged() {
    let machine = archive();
    let (console, address) = console(&machine);
    let mut visitor = Visitor::at(&address, "/console/");
    assert_eq!(visitor.get("/console/archive").header("location"), "/console/login");
    assert_eq!(visitor.log_in(ADMIN).header("location"), "/console/");
    let page = visitor.get("/console/archive");
    assert!(AGENTS.iter().all(|name| page.text.contains(name)), "{}", page.text);
    assert!(page.text.contains("400 days, the newest 50.00 GiB") && page.text.contains("Goes next"), "{}", page.text);
    within(PATIENCE, "what came is sealed, and the digest is shown", || {
        visitor.get("/console/archive").text.contains("Last segment")
    });
    let (_, errors) =
        page.text.split_once("Last errors").map(|(before, _)| before.rsplit_once("href=\"").unwrap()).unwrap();
    let errors = errors.split('"').next().unwrap().replace("&#38;", "&");
    let found = visitor.get(&errors).text;
    assert!(found.contains("2 lines in 2 files") && found.contains("the disk of agent01 is full"), "{found}");
    assert!(found.find("is full").unwrap() < found.find("of yesterday").unwrap(), "the newest file comes first");

    let (before, _) = page.text.split_once("\">Yesterday's logs of all agents").unwrap();
    let yesterday = before.rsplit("href=\"").next().unwrap().replace("&#38;", "&");
    let listed = visitor.get(&yesterday);
    assert_eq!(listed.text.matches("/var/log/app.log.1.gz\" aria-label=").count(), 3, "{}", listed.text);
    let day = yesterday.split("from=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let form = format!("csrf={}&which=found&pack=tar&from={day}&to={day}&name=app", listed.csrf());
    let taken = visitor.post("/console/archive/bundle", &form);
    assert!(taken.header("content-disposition").starts_with("attachment; filename=\"logs-"), "{}", taken.head);
    // Packed files are no text, but their names in the archive are.
    for name in AGENTS {
        assert!(taken.text.contains(&format!("{name}/var/log/app.log.1.gz")));
    }
    let form =
        format!("csrf={}&which=ticked&pack=tar&file=agent02/var/log/app.log&file=agent03/first.log", listed.csrf());
    assert_eq!(
        names_in(&visitor.post("/console/archive/bundle", &form).text),
        ["agent02/var/log/app.log", "agent03/first.log"]
    );
    let one = visitor.get("/console/archive/file?file=agent02/first.log");
    assert!(one.text == "it is here\n" && one.header("x-content-type-options") == "nosniff", "{}", one.head);

    within(PATIENCE, "searches and downloads are logged, with who and what", || {
        let lines = console.lines().join("\n");
        let has = |what: &str| {
            lines
                .lines()
                .any(|line| line.contains("the archive was read") && line.contains(ADMIN.0) && line.contains(what))
        };
        has("search") && has("2 lines in 2 files") && has("bundle") && has("agent02/first.log")
    });
}

#[test]
fn in_a_real_browser_hits_lead_to_lines_lines_come_by_themselves_and_a_search_stops_at_once() {
    if !Browser::is_there() {
        return;
    }
    let machine = archive();
    std::fs::write(machine.path("agent03", HOSTILE), format!("{HOSTILE}\n")).unwrap();
    let (_console, address) = console(&machine);
    let page = |path: &str| format!("http://{}{path}", address.trim_end_matches('/'));
    let browser = Browser::start();
    browser.log_in(&page("/"), ADMIN);
    browser.click_words("Archive");
    browser.until("the agents are there", || browser.text("main").contains("agent03"));
    browser.looks_well("the archive");

    browser.click_words("Last errors");
    browser.until("the search is over", || browser.count("#end") == 1);
    assert_eq!(browser.run("return getComputedStyle(document.querySelector('.running')).display", &[]), "none");
    assert_eq!(browser.count(".line.hit"), 2);
    browser.looks_well("the hits");
    browser.click(".line.hit .number");
    browser.until("the line is shown among others", || browser.text("#hit").contains("ERROR: the disk of agent01"));
    assert!(browser.text("#lines").contains("request 3000 done"));
    browser.looks_well("a file");

    browser.go(&page("/archive/view?file=agent01/var/log/app.log"));
    browser.run("window.isTheSamePage = true; return null", &[]);
    browser.click("#follow");
    let path = machine.path("agent01", "var/log/app.log");
    let mut log = std::fs::File::options().append(true).open(&path).unwrap();
    log.write_all(b"11:00:00 WARNING: <b>it goes on</b>\nand hal").unwrap();
    browser.until("a new line comes by itself", || browser.text("#lines").contains("WARNING: <b>it goes on</b>"));
    log.write_all(b"f a line\n").unwrap();
    browser.until("half a line comes once it is whole", || browser.text("#lines").contains("and half a line"));
    std::fs::rename(&path, path.with_extension("log.2")).unwrap();
    std::fs::write(&path, "a new one\n").unwrap();
    browser.until("the end is said", || browser.count("#ended:not([hidden])") == 1);
    assert_eq!(browser.run("return window.isTheSamePage", &[]), true, "without a reload");

    browser.go(&page("/archive/files?in=agent03"));
    assert!(browser.text("main").contains("<img src=x onerror=alert(1)>"), "{}", browser.text("main"));
    browser.looks_well("the files");
    browser.click("#all");
    assert_eq!(browser.count("input[name=file]:checked"), browser.count("input[name=file]"));
    a_search_stops(&machine, &browser, &page("/archive/files?text=ERROR&in=agent02&name=app"));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// A search that would take minutes is stopped in a tab that is still loading, and makes room.
#[track_caller]
fn a_search_stops(machine: &Machine, browser: &Browser, address: &str) {
    // A hole takes no room, and long to be read.
    let hole = std::fs::File::create(machine.path("agent02", "app-hole.log")).unwrap();
    hole.set_len(64 << 30).unwrap();
    hole.set_modified(SystemTime::now() - 2 * DAY).unwrap();
    browser.run("window.tab = window.open(arguments[0]); return null", &[address.into()]);
    let seen = |script: &str| browser.run(&format!("const page = window.tab.document; return {script}"), &[]);
    browser.until("the first hits are there while it is searched", || {
        seen("page.querySelectorAll('.line.hit').length > 0 && !page.getElementById('end')") == true
    });
    browser.until("it can be stopped", || seen("page.getElementById('stop')?.hidden === false") == true);
    seen("page.getElementById('stop').click()");
    assert_eq!(seen("page.getElementById('stopped').hidden"), false);
    assert_eq!(seen("page.getElementById('end') === null"), true);
    browser.run("window.tab.close(); return null", &[]);
}

/// Draws the pictures in docs/images anew: `cargo test -p tests --test archive_pages pictures -- --ignored`.
#[test]
#[ignore = "it writes into docs/images"]
fn pictures_for_the_docs() {
    let machine = archive();
    for (name, count) in [("agent01", 4000), ("agent02", 900), ("agent03", 2500)] {
        some_logs(&machine.path(name, "var/log"), count);
    }
    let (_console, address) = console(&machine);
    let page = |path: &str| format!("http://{}{path}", address.trim_end_matches('/'));
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
    let browser = Browser::start();
    browser.log_in(&page("/"), ADMIN);
    browser.until("what came is sealed", || {
        browser.go(&page("/archive"));
        browser.text("main").contains("Last segment")
    });
    let picture = |path: &str, name: &str, height: u32| {
        browser.go(&page(path));
        browser.look_as(View { height, ..DESK });
        browser.picture(&images.join(name));
    };
    picture("/archive", "console-archive.png", 1480);
    picture(
        "/archive/files?in=agent01&text=%5Cb(error|fatal)%5Cb&how=regex&context=2&show=last",
        "console-archive-search.png",
        1100,
    );
    picture("/archive/view?file=agent01/var/log/nginx/access.log", "console-archive-file.png", 900);
}

/// Logs as a machine has them.
fn some_logs(folder: &Path, count: usize) {
    let mut chance = Chance::new(count as u64);
    for (name, service) in [("syslog", "kernel"), ("nginx/access.log", "nginx"), ("postgres.log", "postgres")] {
        let said = [
            "connection from 198.51.100.7",
            "checkpoint complete",
            "GET /orders/17 200",
            "warning: slow query, 1204 ms",
        ];
        let mut lines = String::new();
        for number in 0..count {
            let what = match chance.below(400) {
                0 => "error: could not write to /var/lib: no space left on device",
                _ => said[chance.below(said.len())],
            };
            lines += &format!(
                "2026-11-22T{:02}:{:02}:{:02}Z {service}[{}]: {what}\n",
                number * 9 / count,
                number % 60,
                number * 7 % 60,
                300 + number % 7
            );
        }
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, lines).unwrap();
    }
}

/// What a search over many logs costs: `ARCHIVE_GB=10 cargo nextest run -p tests --test archive_pages --run-ignored all -E 'test(gigabytes)' --no-capture`.
#[test]
#[ignore = "it takes 10 GB of disk and some minutes"]
fn gigabytes_of_logs_are_searched_beside_grep() {
    let bytes_all: u64 = std::env::var("ARCHIVE_GB").ok().and_then(|text| text.parse().ok()).unwrap_or(10) << 30;
    let machine = archive();
    let folder = machine.path("agent01", "var/log");
    let (plain, packed) = fill(&folder, bytes_all);
    let (console, address) = console(&machine);
    let mut visitor = Visitor::at(&address, "/console/");
    visitor.log_in(ADMIN);
    let before_kib = console.peak_memory_kib();
    for (what, text) in [("often", "slow query"), ("never", "nothing of that kind")] {
        let address = format!("/console/archive/files?in=agent01&how=exact&text={}", text.replace(' ', "+"));
        let begun = Instant::now();
        let (first, whole) = timed(&mut visitor, &address);
        let (first, whole_s) = (first.map(|at| at.duration_since(begun)), begun.elapsed().as_secs_f64());
        let end = whole.split("id=\"end\"").nth(1).unwrap_or_default();
        println!("{what}: first hit after {first:?}, the page after {whole_s:.1} s: {}", &end[..end.len().min(260)]);
    }
    println!("memory: {before_kib} KiB before, {} KiB at most", console.peak_memory_kib());
    let folder = folder.display();
    for command in [
        format!("grep -r -a -c -F 'nothing of that kind' {folder} --include=*.log"),
        format!("find {folder} -name '*.zst' | while read f; do zstdgrep -a -c -F 'nothing of that kind' $f; done"),
    ] {
        let begun = Instant::now();
        let _ = Command::new("sh").args(["-c", &command]).stdout(Stdio::null()).status().unwrap();
        println!("{command}: {:.1} s", begun.elapsed().as_secs_f64());
    }
    println!("{plain} bytes plain, {packed} bytes that lie packed by zstd");
}

/// Fills a folder with so many bytes of logs, a quarter of which is packed; gives what is plain, and the plain size of what is packed.
fn fill(folder: &Path, bytes_all: u64) -> (u64, u64) {
    some_logs(folder, 400_000);
    let piece = std::fs::read(folder.join("postgres.log")).unwrap();
    let copies = (256 << 20) / piece.len();
    let (mut plain, mut packed, mut number) = (0, 0, 0_u64);
    while plain + packed < bytes_all {
        let path = folder.join(format!("old-{number:04}.log"));
        let mut file = std::fs::File::create(&path).unwrap();
        (0..copies).for_each(|_| file.write_all(&piece).unwrap());
        let bytes = (copies * piece.len()) as u64;
        if number % 4 == 3 {
            assert!(Command::new("zstd").args(["-1", "-q", "--rm"]).arg(&path).status().unwrap().success());
            packed += bytes;
        } else {
            plain += bytes;
        }
        number += 1;
    }
    (plain, packed)
}

/// Asks for a page, and gives when its first hit came, and the page.
fn timed(visitor: &mut Visitor, path: &str) -> (Option<Instant>, String) {
    let mut stream = TcpStream::connect(visitor.address()).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nCookie: {}\r\n\r\n",
        visitor.address(),
        visitor.cookies()
    )
    .unwrap();
    let (mut whole, mut first, mut space) = (Vec::new(), None, [0; 65536]);
    loop {
        let count = stream.read(&mut space).unwrap();
        if count == 0 {
            return (first, String::from_utf8_lossy(&whole).into_owned());
        }
        whole.extend_from_slice(&space[..count]);
        if first.is_none() && whole.windows(8).any(|window| window == b"line hit") {
            first = Some(Instant::now());
        }
    }
}
