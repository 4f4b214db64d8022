//! The pages of the archive, asked for through their router, over a folder of files and a socket that answers as sftpd does.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use axum::http::{Request, header};
use futures::StreamExt;
use pair::control::{Agent, Answer as Told, Archive, Chain, Expiring, ExpiringFile, Expiry, Order, Segment};
use pair::record::VolumePath;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

use super::super::tests::{Browser, Page};
use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// A name that would be markup, where somebody forgot that it is text.
const HOSTILE: &str = "<img src=x onerror=alert(1)>\u{202e}\r\n'\".log";

/// The pages over the folders of two agents, and of somebody who is none.
struct Pages {
    browser: Browser,
    data: PathBuf,
}

/// Answers each order for the archive.
async fn sftpd(socket: UnixListener, archive: Archive) {
    while let Ok((stream, _)) = socket.accept().await {
        let (read, mut write) = stream.into_split();
        let Ok(Some(line)) = BufReader::new(read).lines().next_line().await else { continue };
        let answer = match serde_json::from_str(&line) {
            Ok(Order::Archive {}) => Told::Archive(Box::new(archive.clone())),
            _ => Told::Refused { text: "not here".into() },
        };
        let line = serde_json::to_string(&answer).unwrap() + "\n";
        // Who asked may have gone.
        let _ = write.write_all(line.as_bytes()).await;
    }
}

fn archive() -> Archive {
    let agent = |name: &str| Agent { name: name.into(), home: VolumePath(name.into()), ..Agent::default() };
    let gone = |name: &str, why| ExpiringFile {
        path: VolumePath(format!("agent01/{name}").into_bytes()),
        size: 2048,
        arrived: "2025-01-02T03:04:05Z".into(),
        why,
    };
    let expiring =
        Expiring { files: 70, bytes: 5 << 20, first: vec![gone(HOSTILE, Expiry::Age), gone("old.log", Expiry::Size)] };
    let one = Agent {
        keep_s: Some(400 * 86_400),
        keep_bytes: Some(50 << 30),
        files: Some(1234),
        bytes: Some(5 << 30),
        last_arrival: Some("2026-11-22T10:00:00Z".into()),
        expiring: Some(expiring),
        ..agent("agent01")
    };
    let last = Segment {
        number: 17,
        path: VolumePath(b"admin/archive-chain/2026-11-22/000017.chain".to_vec()),
        digest: "ab".repeat(32),
        time: "2026-11-22T11:00:00Z".into(),
    };
    let chain = Chain { last: Some(last), unsealed_files: 3, unsealed_since: None, problem: None };
    Archive { agents: vec![one, agent("agent02")], retention_at: Some("2026-11-23T02:00:00Z".into()), chain }
}

impl Pages {
    async fn new() -> Pages {
        Pages::telling(Some(archive())).await
    }

    async fn telling(archive: Option<Archive>) -> Pages {
        let mut data = PathBuf::new();
        let browser = Browser::with(&[], |config| {
            data = config.state.with_file_name("data");
            config.data.clone_from(&data);
        })
        .await;
        for folder in ["agent01/var/log", "agent02", "EPuser"] {
            std::fs::create_dir_all(data.join(folder)).unwrap();
        }
        std::fs::write(data.join("EPuser/secret.txt"), "secret ERROR\n").unwrap();
        let lines: String = (1..=1000).map(|number| format!("line {number}\n")).collect();
        std::fs::write(data.join("agent01/var/log/syslog"), lines + "an ERROR at last\n").unwrap();
        std::fs::write(data.join("agent02/app.log"), "warning: <b>bold</b>\nERROR of two\n").unwrap();
        if let Some(archive) = archive {
            let socket = UnixListener::bind(pair::control::path(&browser.config.state)).unwrap();
            tokio::spawn(sftpd(socket, archive));
        }
        Pages { browser, data }
    }

    async fn get(&self, path: &str) -> Page {
        self.browser.get(path).await
    }

    async fn post(&self, form: &str) -> Page {
        self.browser.post("/console/archive/bundle", &format!("csrf={}&{form}", self.browser.csrf)).await
    }
}

#[tokio::test]
async fn the_first_page_has_agents_what_goes_and_the_chain() {
    let pages = Pages::new().await;
    let page = pages.get("/console/archive").await;
    for part in [
        "1,234",
        "400 days, the newest 50.00 GiB",
        "70 files, 5.00 MiB",
        "2026-11-23 02:00:00",
        "too old",
        "And 68 more",
        "&#60;img src=x onerror=alert(1)&#62;\\u{202e}\\r\\n",
        "000017.chain",
        &"ab".repeat(32),
        "3 files are not sealed yet",
        "filesync archive verify",
        "Last errors",
    ] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    assert!(page.text.contains("href=\"/console/archive\" aria-current=\"page\""));
}

#[tokio::test]
async fn without_sftpd_or_without_the_folder_the_page_says_so_and_others_work() {
    let pages = Pages::telling(None).await;
    let page = pages.get("/console/archive").await;
    assert!(page.status == 200 && page.text.contains("No agents are known"), "{}", page.text);
    assert_eq!(pages.get("/console/archive/files?in=agent01").await.status, 404);
    assert_eq!(pages.get("/console/records").await.status, 200);
    let pages = Pages::new().await;
    std::fs::remove_dir_all(&pages.data).unwrap();
    let page = pages.get("/console/archive").await;
    assert!(page.status == 200 && page.text.contains("There is no folder"), "{}", page.text);
    assert_eq!(pages.get("/console/archive/view?file=agent01/var/log/syslog").await.status, 404);
    let none = Archive { agents: Vec::new(), ..archive() };
    let page = Pages::telling(Some(none)).await.get("/console/archive").await;
    assert!(page.text.contains("There are no agents"), "{}", page.text);
}

#[tokio::test]
async fn nothing_but_agents_folders_is_reached_by_any_address() {
    let pages = Pages::new().await;
    symlink("../EPuser/secret.txt", pages.data.join("agent01/link.log")).unwrap();
    symlink("/etc", pages.data.join("agent01/etc")).unwrap();
    let long = format!("agent01/{}", "x/".repeat(3000) + "y");
    let places = [
        "EPuser",
        "EPuser/secret.txt",
        "agent01/../EPuser/secret.txt",
        "agent01/%2E%2E/EPuser/secret.txt",
        "agent01/link.log",
        "agent01/etc/passwd",
        "/etc/passwd",
        "..",
        ".pair/marker",
        "agent01//etc/passwd",
        "agent01/%00",
        "agent01/a%0D%0Ab",
        "agent01/%ff",
        "agent01/var/log",
        "",
        "%",
        &long,
    ];
    for place in places {
        let place: String = form_urlencoded::byte_serialize(place.as_bytes()).collect();
        for address in ["view?file=", "file?file=", "follow?after=0&file="] {
            let answer = pages.get(&format!("/console/archive/{address}{place}")).await;
            // What an agent might have there may also be gone while it is followed.
            let is_closed =
                answer.status == 404 || address.starts_with("follow") && answer.text.contains("event: ended");
            assert!(is_closed, "{address}{place}: {} {}", answer.status, answer.text);
            assert!(!answer.text.contains("secret") && !answer.text.contains("root:"));
        }
        let ticked = pages.post(&format!("which=ticked&pack=tar&file={place}")).await;
        assert!(!ticked.text.contains("secret ERROR") && !ticked.text.contains("root:"), "{place}");
        let listed = pages.get(&format!("/console/archive/files?in={place}&text=secret")).await;
        assert!(!listed.text.contains("secret ERROR"), "{place}: {}", listed.text);
    }
    let all = pages.get("/console/archive/files?text=ERROR").await.text;
    assert!(all.contains("2 lines in 2 files") && !all.contains("EPuser"), "{all}");
    let bundle = pages.post("which=found&pack=tar").await;
    assert!(bundle.status == 200 && !bundle.text.contains("secret ERROR") && bundle.text.contains("ERROR of two"));
}

#[tokio::test]
async fn nobody_sees_or_takes_anything_without_a_login_and_its_token() {
    let mut pages = Pages::new().await;
    assert_eq!(pages.browser.post("/console/archive/bundle", "which=found").await.status, 403);
    pages.browser.cookie = String::new();
    for address in [
        "",
        "/files",
        "/files?text=x",
        "/view?file=agent02/app.log",
        "/file?file=agent02/app.log",
        "/follow?file=agent02/app.log&after=0",
    ] {
        let answer = pages.get(&format!("/console/archive{address}")).await;
        assert!(answer.status == 303 && !answer.text.contains("ERROR"), "{address}");
    }
}

#[tokio::test]
async fn hostile_names_and_lines_are_text_everywhere() {
    let pages = Pages::new().await;
    std::fs::write(pages.data.join("agent02").join(HOSTILE), format!("{HOSTILE}\u{1b}[2J\0 needle\n")).unwrap();
    let place = crate::archive::Place::of("agent02").child(HOSTILE.as_bytes()).text();
    let place: String = form_urlencoded::byte_serialize(place.as_bytes()).collect();
    for address in
        ["files?in=agent02", "files", "files?text=needle", "files?text=%3Cimg&how=regex", &format!("view?file={place}")]
    {
        let page = pages.get(&format!("/console/archive/{address}")).await;
        assert_eq!(page.status, 200, "{address}");
        assert!(page.text.contains("&#60;img src=x onerror=alert(1)&#62;"), "{address}: {}", page.text);
        for raw in ["<img", "\u{202e}", "\u{1b}", "\0", " style=", "javascript:"] {
            assert!(!page.text.contains(raw), "{raw:?} in {address}");
        }
    }
    let file = pages.get(&format!("/console/archive/file?file={place}")).await;
    let header = |name| file.headers.get(name).unwrap().to_str().unwrap();
    assert!(header(header::CONTENT_DISPOSITION).starts_with("attachment; filename=\""));
    assert_eq!(header(header::CONTENT_TYPE), "application/octet-stream");
    assert_eq!(header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
    assert!(file.text.ends_with("needle\n"));
}

#[tokio::test]
async fn files_are_found_by_folder_name_and_day_and_sorted() {
    let pages = Pages::new().await;
    let yesterday = std::time::SystemTime::now() - Duration::from_secs(86_400);
    for number in 0..450 {
        let file = std::fs::File::create(pages.data.join(format!("agent02/{number:03}.txt"))).unwrap();
        file.set_len(number).unwrap();
        file.set_modified(yesterday).unwrap();
    }
    let names = |page: &Page| -> Vec<String> {
        let parts = page.text.split("name=\"file\" value=\"").skip(1);
        parts.map(|part| part.split('"').next().unwrap().to_owned()).collect()
    };
    let page = pages.get("/console/archive/files?in=agent02&by=name").await;
    assert_eq!((names(&page).len(), names(&page)[0].as_str()), (200, "agent02/000.txt"));
    let last = pages.get("/console/archive/files?in=agent02&by=name&page=2").await;
    assert_eq!(names(&last).len(), 51);
    let largest = pages.get("/console/archive/files?in=agent02&by=size").await;
    assert_eq!(names(&largest)[0], "agent02/449.txt");
    let day = jiff::Timestamp::try_from(yesterday).unwrap().strftime("%Y-%m-%d").to_string();
    let page = pages.get(&format!("/console/archive/files?from={day}&to={day}&name=44*&by=name")).await;
    assert_eq!(names(&page).len(), 10, "{}", page.text);
    let newest = names(&pages.get("/console/archive/files").await);
    assert_eq!(newest[..2].iter().filter(|name| name.ends_with(".txt")).count(), 0, "those of today come first");
    let page = pages.get("/console/archive/files?in=agent01").await;
    assert!(page.text.contains("class=\"folder\"") && page.text.contains("in=agent01%2Fvar"), "{}", page.text);
    for wrong in ["name=%5B", "from=soon", "text=(&how=regex", "text=x&how=x"] {
        let page = pages.get(&format!("/console/archive/files?{wrong}")).await;
        assert!(page.status == 422 && page.text.contains("role=\"alert\""), "{wrong}: {}", page.text);
    }
    for odd in ["page=99999999999999999999", "page=18446744073709551615", "context=999", "by=x&order=y"] {
        assert_eq!(pages.get(&format!("/console/archive/files?{odd}")).await.status, 200, "{odd}");
    }
}

#[tokio::test]
async fn hits_lead_to_their_line_and_lines_to_those_around_them() {
    let pages = Pages::new().await;
    let page = pages.get("/console/archive/files?text=line+50%24&how=regex&in=agent01&context=2").await;
    assert!(page.text.contains("1 line in 1 file") && page.text.contains("id=\"end\""), "{}", page.text);
    let hit = page.text.split("class=\"line hit\"").nth(1).unwrap();
    let link = hit.split("href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&#38;", "&");
    let view = pages.get(link.trim_end_matches("#hit")).await;
    let target = view.text.split("id=\"hit\"").nth(1).unwrap();
    assert!(target.contains(">50</a><code><mark class=\"found\">line 50</mark></code>"), "{}", &target[..300]);
    assert!(view.text.contains(">30</a>") && view.text.contains(">229</a>") && !view.text.contains(">230</a>"));
    let tail = pages.get("/console/archive/view?file=agent01/var/log/syslog").await.text;
    assert!(tail.contains("<mark class=\"error\">ERROR</mark>") && tail.contains("The file ends here"), "{tail}");
    let earlier = tail.split("rel=\"prev\" href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&#38;", "&");
    let before = pages.get(&earlier).await.text;
    assert!(before.contains("line 801<") && !before.contains("line 802<"), "{before}");
    let unwrapped = pages.get("/console/archive/view?file=agent01/var/log/syslog&wrap=no&start=0&line=1").await.text;
    assert!(unwrapped.contains("lines unwrapped") && unwrapped.contains(">1</a><code>line 1</code>"));
}

#[tokio::test]
async fn too_many_searches_are_told_so_and_who_leaves_makes_room_at_once() {
    let pages = Pages::new().await;
    // A hole takes no room, and long to be read.
    std::fs::File::create(pages.data.join("agent01/hole.log")).unwrap().set_len(256 << 30).unwrap();
    let address = "/console/archive/files?text=nothing-of-that&in=agent01";
    let mut running = Vec::new();
    for _ in 0..SEARCHES_MAX {
        let mut body = pages.browser.raw(Request::get(address), String::new()).await.into_body().into_data_stream();
        let head = body.next().await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&head).contains("Searching"), "the page begins before the search is over");
        running.push(body);
    }
    let refused = pages.get(address).await;
    assert!(refused.status == 503 && refused.text.contains("Other searches are running"), "{}", refused.text);
    let told = tokio::time::timeout(PATIENCE, running[0].next()).await.unwrap().unwrap().unwrap();
    assert!(String::from_utf8_lossy(&told).contains("class=\"progress"), "it says how far it is");
    drop(running);
    let room = async {
        while pages.get("/console/archive/files?text=ERROR&in=agent02").await.status == 503 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, room).await.expect("a search that nobody waits for ends at once");
}

#[tokio::test]
async fn what_is_written_to_a_file_is_told_and_its_end_too() {
    let pages = Pages::new().await;
    let path = pages.data.join("agent02/app.log");
    let length = std::fs::metadata(&path).unwrap().len();
    let address = format!("/console/archive/follow?file=agent02/app.log&after={length}");
    let response = pages.browser.raw(Request::get(&address), String::new()).await;
    assert_eq!(response.headers().get(header::CONTENT_TYPE).unwrap(), "text/event-stream");
    let mut events = response.into_body().into_data_stream();
    let mut file = std::fs::File::options().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, b"new <i>line</i>\nhalf").unwrap();
    let told = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.contains("event: lines") && told.contains("new &#60;i&#62;line") && !told.contains("half"), "{told}");
    assert!(told.contains(&format!("id: {}", length + 16)), "{told}");
    std::fs::rename(&path, path.with_extension("1")).unwrap();
    let rest = events.map(|event| String::from_utf8_lossy(&event.unwrap()).into_owned()).collect::<Vec<_>>();
    let rest = tokio::time::timeout(PATIENCE, rest).await.unwrap().concat();
    assert!(rest.contains("event: ended") && rest.contains("not there any more"), "{rest}");
}

#[tokio::test]
async fn what_is_ticked_and_what_was_found_comes_as_an_archive() {
    let pages = Pages::new().await;
    let names = |bytes: &[u8]| -> Vec<String> {
        let mut child = std::process::Command::new("tar");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), bytes).unwrap();
        let listed = child.arg("-tf").arg(folder.path().join("x")).output().unwrap();
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect()
    };
    for (form, expected) in [
        ("which=ticked&pack=tar&file=agent02/app.log&file=agent01/var&file=agent01/var/log/syslog", 2),
        ("which=found&pack=gz", 2),
        ("which=found&pack=zst&in=agent02", 1),
        ("which=found&pack=tar&name=sys*", 1),
    ] {
        let answer = pages.post(form).await;
        assert_eq!(answer.status, 200, "{form}");
        assert!(answer.headers.get(header::CONTENT_DISPOSITION).unwrap().to_str().unwrap().contains("logs-20"));
        assert_eq!(names(&answer.bytes).len(), expected, "{form}");
    }
    let none = pages.post("which=ticked&pack=tar").await;
    assert!(none.status == 422 && none.text.contains("No file was chosen"), "{}", none.text);
    assert_eq!(pages.post("which=found&from=soon").await.status, 422);
}
