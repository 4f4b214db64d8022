//! What the feed tells is on the standby at once: here no pass comes to help, but the first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::MetadataExt;

use tests::{Direction, Duo, Link, Machine, Mirror, Pair, SEED, USER, eventually, fill_with_nasty_names, new_secret};

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
            // What goes between two looks at it is not there.
            let Ok(found) = entry.metadata() else { continue };
            if found.is_dir() {
                names.push((name + "/", String::new()));
                folders.push(path);
            } else if found.is_symlink() {
                let Ok(target) = std::fs::read_link(path) else { continue };
                names.push((name, target.display().to_string()));
            } else {
                let Ok(content) = std::fs::read(path) else { continue };
                names.push((name, format!("{:o} {}", found.mode(), String::from_utf8_lossy(&content))));
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
    assert_eq!(pair.mirror.metric("filesync_missed_events_total"), 0.0, "no pass has helped");
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
    // Another hand's change is found by a pass, and counted, if all that the feed has told of is over when that begins.
    eventually("nothing is behind", || is_settled(&pair) && pair.mirror.metric("filesync_followed") >= 1.0);
    let passes = pair.mirror.metric("filesync_passes");
    eventually("another pass is over", || pair.mirror.metric("filesync_passes") > passes);
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
    let metric = |name: &str| pair.mirror.metric(name);
    assert_eq!((metric("filesync_problems"), metric("filesync_missed_events_total")), (0.0, 0.0));
}

/// A pair over a link, with the first pass over and the feed followed; the next pass is an hour away.
fn start_over_a_link() -> (Pair, Link) {
    let secret = new_secret();
    let master = Machine::master().secret(&secret).start();
    let standby = Machine::master().secret(&secret).standby().start();
    let link = Link::to(standby.address());
    let mut mirror = Mirror::of(&master, &secret, &link.address().to_string());
    mirror.set("FILESYNC_INTERVAL", "1h");
    mirror.set("FILESYNC_FOLLOW", "true");
    mirror.start();
    let pair = Pair { master, standby, mirror };
    eventually("the feed is followed", || {
        pair.mirror.metric("filesync_passes") >= 1.0 && pair.mirror.metric("filesync_followed") >= 1.0
    });
    (pair, link)
}

#[test]
fn what_came_into_a_folder_just_before_its_rename_is_under_its_new_name() {
    let (pair, link) = start_over_a_link();
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    std::fs::write(&one, "one").unwrap();
    std::fs::write(&two, "two").unwrap();
    run(&pair, "mkdir in\n");
    wait_until_followed(&pair);
    // The second version waits for the first, and finds the folder renamed when its turn comes.
    link.hold(Direction::Up);
    let behind = || pair.mirror.metric("filesync_changes_behind");
    run(&pair, &format!("put {} in/x\n", one.display()));
    // Two that are told at once would wait as one.
    eventually("the first is under way", || behind() >= 1.0);
    run(&pair, &format!("put {} in/x\nrename in out\n", two.display()));
    eventually("all three are told", || behind() >= 3.0);
    link.mend();
    wait_until_followed(&pair);
    assert_eq!(std::fs::read(pair.standby.path("EPuser", "out/x")).unwrap(), b"two");
}

#[test]
fn the_lag_grows_while_nothing_gets_through_and_is_nothing_when_idle() {
    let (pair, link) = start_over_a_link();
    let lag = || pair.mirror.metric("filesync_lag_seconds");
    eventually("an idle pair has no lag", || lag() == 0.0);
    link.hold(Direction::Up);
    run(&pair, "mkdir held\n");
    eventually("the lag grows", || lag() > 2.0);
    assert!(!pair.standby.path("EPuser", "held").exists());
    link.mend();
    wait_until_followed(&pair);
    eventually("the lag is gone", || lag() == 0.0);
}

#[test]
fn a_journal_that_was_lost_is_made_up_for_by_a_pass() {
    let mut pair = start();
    run(&pair, "mkdir before\n");
    wait_until_followed(&pair);
    pair.master.stop();
    for suffix in ["", "-wal", "-shm"] {
        // The latter two are there only after a kill.
        let _absent = std::fs::remove_file(pair.master.state().join(format!("sftpd.db{suffix}")));
    }
    std::fs::write(pair.master.path("EPuser", "untold"), "x").unwrap();
    pair.master.start();
    wait_until_followed(&pair);
    eventually("the feed is followed again", || pair.mirror.metric("filesync_followed") >= 1.0);
    assert!(pair.standby.path("EPuser", "untold").exists() && pair.mirror.metric("filesync_passes") >= 2.0);
}

#[test]
fn what_comes_while_the_first_pass_runs_is_not_lost() {
    let secret = new_secret();
    let master = Machine::master().secret(&secret).start();
    let standby = Machine::master().secret(&secret).standby().start();
    let mut mirror = Mirror::of(&master, &secret, &standby.address().to_string());
    mirror.set("FILESYNC_INTERVAL", "1h");
    mirror.set("FILESYNC_FOLLOW", "true");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "content").unwrap();
    let put = |number: u32| format!("mkdir in-{number}\nput {} in-{number}/file\n", file.display());
    let batch: String = (0..300).map(put).collect();
    let _client = master.sftp(USER).start_batch(&batch);
    eventually("it has begun", || master.path("EPuser", "in-9").exists());
    mirror.start();
    let pair = Pair { master, standby, mirror };
    eventually("all has come", || pair.master.path("EPuser", "in-299/file").exists());
    wait_until_followed(&pair);
}

#[test]
fn names_that_are_no_text_come_by_the_feed_too() {
    let pair = start();
    let folder = tempfile::tempdir().unwrap();
    let up = folder.path().join("tree");
    fill_with_nasty_names(&up);
    // OpenSSH's client passes over links when it copies folders.
    for link in ["link to a folder", "link outside", "dangling", "circle"] {
        std::fs::remove_file(up.join(link)).unwrap();
    }
    run(&pair, &format!("put -Rp {}\n", up.display()));
    wait_until_followed(&pair);
    let metric = |name: &str| pair.mirror.metric(name);
    assert_eq!((metric("filesync_problems"), metric("filesync_missed_events_total")), (0.0, 0.0));
}

#[test]
fn a_folder_of_the_standby_that_was_swapped_for_a_link_leads_nowhere() {
    let pair = start();
    let folder = tempfile::tempdir().unwrap();
    let (file, outside) = (folder.path().join("file"), folder.path().join("outside"));
    std::fs::write(&file, "new").unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "precious").unwrap();
    run(&pair, &format!("mkdir in\nput {} in/file\n", file.display()));
    wait_until_followed(&pair);
    std::fs::remove_dir_all(pair.standby.path("EPuser", "in")).unwrap();
    std::os::unix::fs::symlink(&outside, pair.standby.path("EPuser", "in")).unwrap();
    run(&pair, &format!("rm in/file\nput {} in/other\n", file.display()));
    wait_until_followed(&pair);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "nothing came in");
    assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"precious");
}

#[test]
fn what_cannot_be_done_is_shown_holds_up_nothing_and_is_done_after_a_restart() {
    let mut pair = Pair::start_with(&[("FILESYNC_FOLLOW", "true")]);
    eventually("the feed is followed", || pair.mirror.metric("filesync_followed") >= 1.0);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "content").unwrap();
    run(&pair, "mkdir before\n");
    pair.wait_until_equal();
    // Somebody has put a folder on the standby where a file is about to come.
    let in_the_way = pair.standby.path("EPuser", "stuck");
    std::fs::create_dir(&in_the_way).unwrap();
    (0..150).for_each(|number| std::fs::write(in_the_way.join(number.to_string()), "theirs").unwrap());
    run(&pair, &format!("put {0} stuck\nput {0} behind-it\n", file.display()));
    eventually("what comes behind it is there", || pair.standby.path("EPuser", "behind-it").exists());
    eventually("it is shown", || pair.mirror.ask(&["status"]).1.contains("stuck"));
    eventually("what stays stuck is an alarm", || {
        let (is_well, text) = pair.mirror.ask(&["status", "--max-lag", "2s"]);
        !is_well && text.contains("paths have problems")
    });
    eventually("the position goes on", || is_settled(&pair));
    pair.mirror.kill();
    std::fs::remove_dir_all(&in_the_way).unwrap();
    pair.mirror.start();
    pair.wait_until_equal();
    eventually("nothing is open", || {
        pair.mirror.metric("filesync_problems") == 0.0 && pair.mirror.metric("filesync_deletes_held") == 0.0
    });
}

#[test]
fn a_folder_that_is_renamed_onto_one_that_the_standby_has_already_is_merged_into_it() {
    let pair = start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "content").unwrap();
    let put = |name: &str| format!("put {} {name}\n", file.display());
    run(&pair, &format!("mkdir in\nmkdir in/deep\n{}{}{}", put("in/one"), put("in/two"), put("in/deep/three")));
    wait_until_followed(&pair);
    // As if a pass had seen the new name before the feed told of it, and had broken off.
    let there = pair.standby.path("EPuser", "out");
    std::fs::create_dir_all(there.join("deep")).unwrap();
    std::fs::write(there.join("one"), "other").unwrap();
    run(&pair, "rename in out\n");
    pair.wait_until_equal();
    eventually("nothing is open", || pair.mirror.metric("filesync_problems") == 0.0 && is_settled(&pair));
    let (_, trash) = pair.mirror.ask(&["restore"]);
    assert!(trash.contains("EPuser/in/one (7 bytes)"), "{trash}");
}

/// Files in a machine's trash.
fn trashed(machine: &Machine) -> Vec<String> {
    names(&machine.data().join(".pair/trash"))
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| !name.ends_with('/'))
        .collect()
}

/// A log of 4 MB that grows 20 times by a kilobyte costs the way to the standby some kilobytes, and the standby's trash nothing.
#[test]
fn of_a_log_that_grows_only_the_new_end_is_sent_and_no_old_version_is_kept() {
    const AGENT: (&str, &str) = ("agent01", "let-me-log-1");
    let users = format!("{SEED}agents:\n  {}: \"{}\"\n", AGENT.0, AGENT.1);
    let mut duo = Duo::start_with(&[("USERS_YAML", &users)], &[]);
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("app.log");
    let paths = [0, 1].map(|index: usize| duo.machines[index].path(AGENT.0, "app.log"));
    let shown = log.display();
    let mut content: Vec<u8> = (0..4_000_000_u32).flat_map(|number| number.to_le_bytes()).take(4_000_000).collect();
    std::fs::write(&log, &content).unwrap();
    duo.machines[0].sftp(AGENT).run(&format!("put {shown} app.log\n")).expect_ok();
    let is_there = |content: &[u8]| std::fs::read(&paths[1]).is_ok_and(|there| there == content);
    eventually("the first of it is on the standby", || is_there(&content));
    let sent = |duo: &Duo| duo.mirrors[0].metric("filesync_bytes_sent");
    eventually("it was counted", || sent(&duo) >= 4_000_000.0);
    let before = sent(&duo);
    let grow = |duo: &Duo, content: &mut Vec<u8>| {
        content.extend_from_slice(&[content.len() as u8; 1000]);
        std::fs::write(&log, &*content).unwrap();
        duo.machines[0].sftp(AGENT).run(&format!("reput {shown} app.log\n")).expect_ok();
    };
    for _ in 0..20 {
        grow(&duo, &mut content);
        eventually("what was added is on the standby", || is_there(&content));
    }
    eventually("it was counted", || sent(&duo) - before >= 20_000.0);
    assert!(sent(&duo) - before < 100_000.0, "{} bytes were sent", sent(&duo) - before);
    assert_eq!(trashed(&duo.machines[1]), Vec::<String>::new());
    // While the standby was away it grew as well: the next pass brings its new end alone.
    duo.machines[1].kill();
    grow(&duo, &mut content);
    duo.machines[1].start();
    eventually("what was added meanwhile is on the standby", || is_there(&content));
    assert!(sent(&duo) - before < 100_000.0, "{} bytes were sent", sent(&duo) - before);
    assert_eq!(trashed(&duo.machines[1]), Vec::<String>::new());
    let mode = |index: usize| std::fs::metadata(&paths[index]).map(|it| (it.mode(), it.mtime())).unwrap();
    eventually("mode and time are the same", || mode(0) == mode(1));
}
