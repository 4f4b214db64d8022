//! `filesync verify` and `filesync restore`, as a person uses them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::FileTimes;
use std::path::Path;

use tests::{Pair, USER, eventually};

fn put(pair: &Pair, content: &str, name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, content).unwrap();
    pair.master.sftp(USER).run(&format!("put {} {name}\n", file.display())).expect_ok();
}

/// Writes into a file and hides that: its size and its time stay.
fn rot(path: &Path) {
    let mut content = std::fs::read(path).unwrap();
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    content[0] ^= 1;
    std::fs::write(path, content).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(modified)).unwrap();
}

#[test]
fn verify_says_that_both_are_equal_or_where_they_differ_and_how() {
    let mut pair = Pair::start();
    pair.master.sftp(USER).run("mkdir in\nln -s in link\n").expect_ok();
    for name in ["in/one", "in/two", "in/three", "in/four"] {
        put(&pair, &format!("the content of {name}"), name);
    }
    pair.wait_until_equal();
    let (is_ok, text) = pair.mirror.ask(&["verify"]);
    assert!(is_ok && text.contains(": equal: ") && text.contains("bytes compared by content"), "{text}");
    pair.mirror.stop();
    let there = |name: &str| pair.standby.path(USER.0, name);
    rot(&there("in/one"));
    std::fs::remove_file(there("in/two")).unwrap();
    std::fs::write(there("in/three"), "short").unwrap();
    std::fs::write(there("extra"), "nobody's").unwrap();
    let (is_ok, text) = pair.mirror.ask(&["verify", "--wait", "1ms"]);
    assert!(!is_ok && text.contains("NOT EQUAL") && text.contains("differs at 4 paths"), "{text}");
    for line in [
        "EPuser/extra is only on the standby",
        "EPuser/in/one has another content on the standby, with the same size and time",
        "EPuser/in/three has 23 bytes here and 5 on the standby",
        "EPuser/in/two is not on the standby",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    let (is_ok, text) = pair.mirror.ask(&["verify", "--wait", "1ms", "--json"]);
    let json = text.rsplit_once('}').unwrap().0.to_owned() + "}";
    assert!(!is_ok && json.contains("\"sentence\": \"is not on the standby\""), "{text}");
}

#[test]
fn verify_waits_for_what_is_on_its_way() {
    let mut pair = Pair::start();
    pair.mirror.stop();
    put(&pair, "content", "late");
    let verifying = std::thread::scope(|scope| {
        let verifying = scope.spawn(|| {
            let (status, text) = tests::run(pair.mirror.command().args(["verify", "--wait", "60s"]));
            (status.success(), text)
        });
        let path = pair.standby.path(USER.0, "late");
        let mut service = tests::Program::start(&mut pair.mirror.command());
        service.wait_for_line("health on ");
        eventually("the file arrives", || path.exists());
        let verified = verifying.join().unwrap();
        service.terminate();
        verified
    });
    assert!(verifying.0, "{}", verifying.1);
}

#[test]
fn what_was_replaced_or_removed_is_shown_and_brought_back() {
    let pair = Pair::start_with(&[("FILESYNC_FOLLOW", "true")]);
    eventually("the feed is followed", || pair.mirror.metric("filesync_followed") >= 1.0);
    let trash = || pair.mirror.ask(&["restore"]).1;
    pair.master.sftp(USER).run("mkdir in\n").expect_ok();
    for (version, content) in ["first", "second", "third"].into_iter().enumerate() {
        put(&pair, content, "in/report");
        pair.wait_until_equal();
        assert!(trash().contains(&format!("{version} files and links in the trash")), "{}", trash());
    }
    pair.master.sftp(USER).run("rm in/report\nrmdir in\n").expect_ok();
    pair.wait_until_equal();
    eventually("the last version is in the trash", || trash().contains("3 files and links"));
    let (_, text) = pair.mirror.ask(&["restore", "EPuser/in/report"]);
    let versions: Vec<&str> = text.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(versions.len(), 3, "{text}");
    let to = tempfile::tempdir().unwrap();
    let restore = |more: &[&str]| {
        let to = to.path().to_str().unwrap();
        pair.mirror.ask(&[&["restore", "EPuser/in/report", "--to", to], more].concat())
    };
    let mut contents: Vec<String> = Vec::new();
    for version in &versions {
        let (is_ok, text) = restore(&["--version", version]);
        assert!(is_ok && text.contains(&format!("as of {version} is in")), "{text}");
        let restored = to.path().join("report");
        contents.push(std::fs::read_to_string(&restored).unwrap());
        let (is_ok, text) = restore(&[]);
        assert!(!is_ok && text.contains("is there already"), "{text}");
        std::fs::remove_file(restored).unwrap();
    }
    contents.sort();
    assert_eq!(contents, ["first", "second", "third"]);
    let (is_ok, text) = pair.mirror.ask(&["restore", "EPuser/other", "--to", to.path().to_str().unwrap()]);
    assert!(!is_ok && text.contains("no trash holds EPuser/other"), "{text}");
    let (is_ok, text) = pair.mirror.ask(&["restore", "../etc/passwd"]);
    assert!(!is_ok && text.contains("is no path in the data folder"), "{text}");
}

#[test]
fn a_whole_folder_is_brought_back_with_what_was_in_it() {
    let mut pair = Pair::start();
    pair.master.sftp(USER).run("mkdir in\nmkdir in/deep\nln -s deep in/link\n").expect_ok();
    let large = "0123456789abcdef".repeat(400_000);
    put(&pair, &large, "in/deep/large");
    put(&pair, "", "in/empty");
    pair.wait_until_equal();
    pair.mirror.stop();
    std::fs::remove_dir_all(pair.master.path(USER.0, "in")).unwrap();
    pair.mirror.start();
    pair.wait_until_equal();
    let to = tempfile::tempdir().unwrap();
    let (is_ok, text) = pair.mirror.ask(&["restore", "/EPuser/in/", "--to", to.path().to_str().unwrap()]);
    assert!(is_ok, "{text}");
    assert!(std::fs::read_to_string(to.path().join("in/deep/large")).unwrap() == large);
    assert_eq!(std::fs::read(to.path().join("in/empty")).unwrap(), b"");
    assert_eq!(std::fs::read_link(to.path().join("in/link")).unwrap(), Path::new("deep"));
}
