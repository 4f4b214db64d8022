//! What the feed tells is on the standby at once: here no pass comes to help, but the first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::MetadataExt;

use tests::{Pair, USER, eventually};

/// A pair whose next pass is an hour away, with the first one over and the feed followed.
fn start() -> Pair {
    let pair = Pair::start_with(&[("FILESYNC_INTERVAL", "1h"), ("FILESYNC_FOLLOW", "true")]);
    eventually("the feed is followed", || {
        pair.mirror.metric("filesync_passes") >= 1.0 && pair.mirror.metric("filesync_followed") >= 1.0
    });
    pair
}

fn run(pair: &Pair, batch: &str) {
    pair.master.sftp(USER).run(batch).expect_ok();
}

/// Whether nothing is on its way.
fn is_settled(pair: &Pair) -> bool {
    pair.mirror.metric("filesync_changes_behind") == 0.0
}

/// The names below an account's folder, with what they hold; folders end in a slash.
fn names(folder: &std::path::Path) -> Vec<(String, String)> {
    let (mut names, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(inner) = folders.pop() {
        for entry in std::fs::read_dir(inner).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                names.push((name + "/", String::new()));
                folders.push(path);
            } else if kind.is_symlink() {
                names.push((name, std::fs::read_link(path).unwrap().display().to_string()));
            } else {
                let mode = entry.metadata().unwrap().mode();
                names.push((name, format!("{mode:o} {}", String::from_utf8_lossy(&std::fs::read(path).unwrap()))));
            }
        }
    }
    names.sort();
    names
}

fn wait_until_followed(pair: &Pair) {
    let both = || [&pair.master, &pair.standby].map(|machine| names(&machine.path("EPuser", "")));
    let is_equal = || {
        let [master, standby] = both();
        master == standby && is_settled(pair)
    };
    let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| eventually("both are equal", is_equal)));
    assert!(waited.is_ok(), "{:#?}\n{}", both(), pair.mirror.page("/metrics").1);
}

#[test]
fn every_change_is_on_the_standby_without_a_pass() {
    let pair = start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let put = |content: &str, name: &str| {
        std::fs::write(&file, content).unwrap();
        run(&pair, &format!("put {} {name}\n", file.display()));
    };
    put("first", "one");
    wait_until_followed(&pair);
    put("second", "one");
    run(&pair, "mkdir in\nmkdir in/deep\nrename one in/deep/one\nln -s in/deep/one link\n");
    put("third", "in/two");
    put("fourth", "three");
    run(&pair, "chmod 600 three\nrename in out\nln three second-name\n");
    wait_until_followed(&pair);
    assert_eq!(std::fs::read(pair.standby.path("EPuser", "out/deep/one")).unwrap(), b"second");
    run(&pair, "rm out/deep/one\nrmdir out/deep\nrename three out/two\nrm link\n");
    wait_until_followed(&pair);
    assert_eq!(std::fs::read(pair.standby.path("EPuser", "out/two")).unwrap(), b"fourth");
    assert_eq!(pair.mirror.metric("filesync_passes"), 1.0, "no pass has helped");
    assert_eq!(pair.mirror.metric("filesync_problems"), 0.0);
    eventually("nothing is behind", || pair.mirror.metric("filesync_lag_seconds") == 0.0);
}

#[test]
fn a_pass_finds_nothing_of_which_the_feed_has_not_told() {
    let pair = Pair::start_with(&[("FILESYNC_FOLLOW", "true")]);
    eventually("the feed is followed", || pair.mirror.metric("filesync_followed") >= 1.0);
    let folder = tempfile::tempdir().unwrap();
    for number in 0..30 {
        let file = folder.path().join("file");
        std::fs::write(&file, format!("content {number}")).unwrap();
        let rename = format!("rename part-{number} file-{number}\n");
        run(&pair, &format!("put {} part-{number}\n{rename}", file.display()));
        if number % 3 == 0 {
            run(&pair, &format!("rm file-{number}\n"));
        }
    }
    pair.wait_until_equal();
    assert_eq!(pair.mirror.metric("filesync_missed_events_total"), 0.0, "{}", pair.mirror.page("/metrics").1);
    // Another hand's change is found by a pass, and counted.
    std::fs::write(pair.master.path("EPuser", "by-another-hand"), "x").unwrap();
    pair.wait_until_equal();
    eventually("it is counted", || pair.mirror.metric("filesync_missed_events_total") == 1.0);
}

#[test]
fn a_large_file_holds_up_nothing_and_what_cannot_be_done_is_left_to_the_next_pass() {
    let pair = start();
    let folder = tempfile::tempdir().unwrap();
    let (large, small) = (folder.path().join("large"), folder.path().join("small"));
    std::fs::write(&large, vec![7; 40 << 20]).unwrap();
    std::fs::write(&small, "small").unwrap();
    run(
        &pair,
        &format!("put {} large\nput {} small\nput {} stuck\n", large.display(), small.display(), small.display()),
    );
    wait_until_followed(&pair);
    // Somebody has put a folder on the standby where a file is about to be removed.
    std::fs::remove_file(pair.standby.path("EPuser", "stuck")).unwrap();
    std::fs::create_dir(pair.standby.path("EPuser", "stuck")).unwrap();
    std::fs::write(pair.standby.path("EPuser", "stuck/theirs"), "kept").unwrap();
    run(&pair, &format!("rm stuck\nput {} behind-it\n", small.display()));
    eventually("what comes behind it is there", || pair.standby.path("EPuser", "behind-it").exists());
    eventually("it is settled", || is_settled(&pair));
    eventually("a pass has seen to it", || pair.mirror.metric("filesync_passes") >= 2.0);
}

#[test]
fn a_filesync_that_was_away_goes_on_where_it_was() {
    let mut pair = start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "content").unwrap();
    let put = |pair: &Pair, name: &str| run(pair, &format!("put {} {name}\n", file.display()));
    put(&pair, "before");
    wait_until_followed(&pair);
    pair.mirror.kill();
    put(&pair, "meanwhile");
    run(&pair, "rename before after\n");
    pair.mirror.start();
    wait_until_followed(&pair);
    // And over a kill of sftpd, after which the feed has a gap.
    pair.master.kill();
    pair.master.start();
    put(&pair, "at-last");
    wait_until_followed(&pair);
    eventually("the feed is followed again", || pair.mirror.metric("filesync_followed") >= 1.0);
}

#[test]
fn what_was_changed_before_its_rename_is_not_taken_for_what_the_standby_has() {
    let pair = start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    for number in 0..10 {
        std::fs::write(&file, format!("content {number}")).unwrap();
        let batch =
            format!("put {} tmp\nchmod 640 tmp\nrename tmp final-{number}\nchmod 600 final-{number}\n", file.display());
        run(&pair, &batch);
    }
    wait_until_followed(&pair);
    let replace = |content: &str| {
        std::fs::write(&file, content).unwrap();
        run(&pair, &format!("put {} tmp\nrename tmp status\n", file.display()));
    };
    // The same name is replaced again and again, and all that was is kept.
    (0..5).for_each(|number| replace(&format!("status {number}")));
    wait_until_followed(&pair);
    assert_eq!((pair.mirror.metric("filesync_problems"), pair.mirror.metric("filesync_passes")), (0.0, 1.0));
}
