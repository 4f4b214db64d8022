//! A pair: what happens on the master is on the standby.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tests::power::{Mounted, Workplace, format, missing};
use tests::{
    ADMIN, LFTP, Machine, Mirror, Pair, SEED, USER, eventually, fill_with_nasty_names, new_secret, real_tree, run,
};

#[test]
fn an_upload_to_the_master_is_on_the_standby_and_a_new_account_logs_in_on_both() {
    let pair = Pair::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report");
    std::fs::write(&file, "the report").unwrap();
    pair.master.sftp(USER).run(&format!("put -p {}\n", file.display())).expect_ok();
    pair.wait_until_equal();
    assert_eq!(std::fs::read(pair.standby.path("EPuser", "report")).unwrap(), b"the report");

    let users = SEED.to_owned() + "  2: {name: alice, password: wonderland}\n";
    std::fs::write(&file, users).unwrap();
    pair.master.sftp(ADMIN).run(&format!("put {} users.yaml\n", file.display())).expect_ok();
    for machine in [&pair.master, &pair.standby] {
        eventually("alice can log in", || machine.sftp(("alice", "wonderland")).can_log_in());
    }
    let address = format!("sftp://127.0.0.1:{}/x", pair.standby.address().port());
    assert!(!pair.standby.sftp(USER).run(&format!("put {} x\n", file.display())).ok);
    if tests::has_program("lftp") {
        let put = format!("{LFTP}; put '{}' -o x; bye", file.display());
        let (_, text) = tests::run(std::process::Command::new("lftp").args([
            "-u",
            "EPuser,1234",
            "-e",
            &put,
            address.trim_end_matches('x'),
        ]));
        let sentence = format!("this is the standby: upload to the master at {}", pair.master.address());
        assert!(text.contains(&sentence), "{text}");
    }
    let down = folder.path().join("down");
    pair.standby.sftp(USER).run(&format!("get report {}\n", down.display())).expect_ok();
    assert_eq!(std::fs::read(down).unwrap(), b"the report");
    pair.wait_until_equal();
}

#[test]
fn every_name_and_shape_is_mirrored_as_it_is_and_follows_changes() {
    let pair = Pair::start();
    let home = pair.master.path("EPuser", "tree");
    fill_with_nasty_names(&home);
    pair.wait_until_equal();
    // A file becomes a folder, a folder a link, a link a file; a mode, a time, a content of the same size and time.
    std::fs::remove_file(home.join("no bytes")).unwrap();
    std::fs::create_dir(home.join("no bytes")).unwrap();
    std::fs::remove_dir_all(home.join("empty")).unwrap();
    std::os::unix::fs::symlink("elsewhere", home.join("empty")).unwrap();
    std::fs::remove_file(home.join("dangling")).unwrap();
    std::fs::write(home.join("dangling"), "a file").unwrap();
    std::fs::set_permissions(home.join("script"), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::rename(home.join("two words"), home.join("three more words")).unwrap();
    let private = home.join("private");
    let before = std::fs::metadata(&private).unwrap().modified().unwrap();
    std::fs::write(&private, "PRIVATE").unwrap();
    std::fs::File::options().write(true).open(&private).unwrap().set_modified(before).unwrap();
    pair.wait_until_equal();
}

#[test]
fn what_another_hand_did_to_the_standby_is_repaired() {
    let pair = Pair::start();
    let write = |path: &str, content: &str| {
        std::fs::create_dir_all(pair.master.path("EPuser", "")).unwrap();
        std::fs::write(pair.master.path("EPuser", path), content).unwrap();
    };
    write("changed", "content");
    write("removed", "content");
    pair.wait_until_equal();
    std::fs::write(pair.standby.path("EPuser", "changed"), "something else").unwrap();
    std::fs::remove_file(pair.standby.path("EPuser", "removed")).unwrap();
    std::fs::write(pair.standby.path("EPuser", "extra"), "not from here").unwrap();
    pair.wait_until_equal();
}

#[test]
fn a_standby_that_was_away_catches_up_and_is_spoken_of_once() {
    let mut pair = Pair::start();
    pair.standby.kill();
    std::fs::create_dir_all(pair.master.path("EPuser", "")).unwrap();
    std::fs::write(pair.master.path("EPuser", "meanwhile"), "x").unwrap();
    let address = pair.standby.address().to_string();
    let complaints = |pair: &Pair| {
        let lines = pair.mirror.program().lines();
        lines.iter().filter(|line| line.contains("WARN") && line.contains(&address)).count()
    };
    eventually("it is missed", || complaints(&pair) == 1);
    assert_ne!(pair.mirror.page("/readyz").0, 200);
    pair.standby.start();
    pair.wait_until_equal();
    assert_eq!(complaints(&pair), 1, "{:?}", pair.mirror.program().lines());
    eventually("it is ready again", || pair.mirror.page("/readyz").0 == 200);
}

#[test]
fn a_transfer_that_is_cut_off_goes_on_where_it_was() {
    // Slow enough to be caught on its way.
    let mut pair = Pair::start_with(&[("FILESYNC_BANDWIDTH", "60MiB/s")]);
    std::fs::create_dir_all(pair.master.path("EPuser", "")).unwrap();
    let content: Vec<u8> =
        (0..80_000_000_u32).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    // It comes whole, as an upload does: a half-written one would be another file to the mirror.
    let aside = pair.master.data().join(".pair/large");
    std::fs::write(&aside, &content).unwrap();
    std::fs::rename(&aside, pair.master.path("EPuser", "large")).unwrap();
    let stage = pair.standby.data().join(".pair/stage");
    let arrived = || -> u64 {
        let entries = std::fs::read_dir(&stage).unwrap().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
    };
    eventually("a part has arrived", || arrived() > 30_000_000);
    pair.standby.kill();
    let before = arrived();
    assert!(!pair.standby.path("EPuser", "large").exists(), "too quick to be cut off");
    pair.standby.start();
    pair.wait_until_equal();
    let received = pair.standby.page("/metrics").1;
    let received: u64 =
        received.lines().find_map(|line| line.strip_prefix("sftpd_received_bytes_total ")).unwrap().parse().unwrap();
    assert!(received < content.len() as u64 - before / 2, "{received} bytes were sent again, {before} had arrived");
}

#[test]
fn an_emptied_home_is_held_until_somebody_approves() {
    let pair = Pair::start();
    let home = pair.master.path("EPuser", "");
    std::fs::create_dir_all(&home).unwrap();
    for number in 0..20 {
        std::fs::write(home.join(number.to_string()), "x").unwrap();
    }
    pair.wait_until_equal();
    std::fs::remove_dir_all(&home).unwrap();
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("new"), "copied all the same").unwrap();
    std::fs::remove_file(home.join("new")).unwrap();
    eventually("the deletes are held", || pair.mirror.ask(&["status"]).1.contains("HELD"));
    assert!(pair.standby.path("EPuser", "7").exists());
    let (approved, text) = pair.mirror.ask(&["approve-deletes"]);
    assert!(approved, "{text}");
    pair.wait_until_equal();
    let trash = pair.standby.data().join(".pair/trash");
    assert!(std::fs::read_dir(trash).unwrap().count() > 0, "what was removed is kept for a while");
}

#[test]
fn a_volume_that_is_not_mounted_deletes_nothing() {
    let mut pair = Pair::start();
    std::fs::create_dir_all(pair.master.path("EPuser", "")).unwrap();
    std::fs::write(pair.master.path("EPuser", "kept"), "x").unwrap();
    pair.wait_until_equal();
    pair.master.stop();
    let (data, aside) = (pair.master.data().to_owned(), pair.master.data().with_extension("aside"));
    std::fs::rename(&data, &aside).unwrap();
    std::fs::create_dir(&data).unwrap();
    eventually("the mirror notices", || pair.mirror.page("/readyz").0 != 200);
    assert!(pair.standby.path("EPuser", "kept").exists());
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&aside, &data).unwrap();
    pair.master.start();
    pair.wait_until_equal();
    eventually("the mirror is ready again", || pair.mirror.page("/readyz").0 == 200);
}

/// The whole job on real input: a tree of more than 10,000 files and 500 MB goes up with OpenSSH's client while the
/// mirror runs; then a folder is renamed, a third deleted, some overwritten, the standby cut off in the middle.
#[test]
fn a_real_tree_is_mirrored_and_stays_equal_through_changes_and_an_outage() {
    let mut pair = Pair::start();
    let folder =
        tempfile::tempdir_in(std::env::var_os("CARGO_HOME").map_or_else(std::env::temp_dir, Into::into)).unwrap();
    let tree = folder.path().join("tree");
    let files = real_tree(&tree);
    assert!(files >= 10_000, "only {files} files to be had");
    pair.master.sftp(USER).run(&format!("put -Rp {}\n", tree.display())).expect_ok();
    pair.wait_until_equal_within(Duration::from_secs(600));

    let home = pair.master.path("EPuser", "tree");
    std::fs::rename(home.join("src"), home.join("renamed")).unwrap();
    let registry = std::fs::read_dir(home.join("renamed")).unwrap().flatten().next().unwrap().path();
    let mut crates: Vec<_> = std::fs::read_dir(&registry).unwrap().flatten().map(|entry| entry.path()).collect();
    crates.sort();
    pair.standby.kill();
    for (number, path) in crates.iter().enumerate() {
        match number % 3 {
            0 => std::fs::remove_dir_all(path).unwrap(),
            1 => std::fs::write(path.join("Cargo.toml"), "overwritten").unwrap(),
            _ => {}
        }
    }
    pair.standby.start();
    eventually("the many deletes are held", || pair.mirror.ask(&["status"]).1.contains("HELD"));
    assert!(pair.mirror.ask(&["approve-deletes"]).0);
    pair.wait_until_equal_within(Duration::from_secs(600));
    pair.mirror.kill();
    pair.mirror.start();
    eventually("a mirror that was killed is ready again", || pair.mirror.page("/readyz").0 == 200);
    pair.wait_until_equal();
}

#[test]
fn a_full_standby_keeps_what_it_has_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("small");
    std::fs::create_dir(&disk).unwrap();
    let (mounted, text) =
        run(std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "none"]).arg(&disk));
    if !mounted.success() {
        println!("SKIPPED: cannot mount here: {text}");
        return;
    }
    let secret = new_secret();
    let master = Machine::master().secret(&secret).start();
    let standby = Machine::master().secret(&secret).standby().data(&disk.join("data")).start();
    let mut mirror = Mirror::of(&master, &secret, &standby.address().to_string());
    mirror.start();
    let pair = Pair { master, standby, mirror };
    let (report, ballast) = (pair.master.path("EPuser", "report"), disk.join("ballast"));
    std::fs::create_dir_all(pair.master.path("EPuser", "")).unwrap();
    std::fs::write(&report, vec![1; 1_000_000]).unwrap();
    pair.wait_until_equal();
    assert!(std::fs::write(&ballast, vec![0; 8 << 20]).is_err(), "it takes what there is");
    std::fs::write(&report, vec![2; 1_000_000]).unwrap();
    std::fs::create_dir(pair.master.path("EPuser", "folder")).unwrap();
    eventually("it is shown", || pair.mirror.ask(&["status"]).1.contains("problem: EPuser/report"));
    eventually("the rest goes on", || pair.standby.path("EPuser", "folder").is_dir());
    assert_eq!(std::fs::read(pair.standby.path("EPuser", "report")).unwrap(), vec![1; 1_000_000]);
    std::fs::remove_file(&ballast).unwrap();
    pair.wait_until_equal();
    eventually("no problem is left", || pair.mirror.metric("filesync_problems") == 0.0);
    drop(pair);
    run(std::process::Command::new("umount").arg("-l").arg(&disk));
}

#[test]
fn a_lost_store_removes_nothing_before_all_was_compared() {
    let mut pair = Pair::start();
    std::fs::create_dir_all(pair.master.path("EPuser", "")).unwrap();
    for name in ["kept", "going"] {
        std::fs::write(pair.master.path("EPuser", name), "x").unwrap();
    }
    pair.wait_until_equal();
    pair.mirror.kill();
    for suffix in ["", "-wal", "-shm"] {
        let _absent = std::fs::remove_file(pair.master.state().join(format!("filesync.db{suffix}")));
    }
    std::fs::remove_file(pair.master.path("EPuser", "going")).unwrap();
    // One pass, and the next is an hour away.
    pair.mirror.set("FILESYNC_INTERVAL", "1h");
    pair.mirror.start();
    eventually("both sides were compared", || pair.mirror.metric("filesync_passes") >= 1.0);
    assert!(pair.standby.path("EPuser", "going").exists(), "removed by a filesync that knew nothing");
    pair.mirror.kill();
    pair.mirror.set("FILESYNC_INTERVAL", "1s");
    pair.mirror.start();
    pair.wait_until_equal();
}

#[test]
fn times_far_away_and_an_edit_with_an_older_time_are_mirrored() {
    let pair = Pair::start();
    let home = pair.master.path("EPuser", "");
    std::fs::create_dir_all(&home).unwrap();
    let write = |name: &str, content: &str, seconds: u64| {
        let path = home.join(name);
        std::fs::write(&path, content).unwrap();
        let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    };
    let (long_ago, to_come) = (86_400, 4_102_444_800);
    write("from the future", "first", to_come);
    write("from the past", "first", long_ago);
    pair.wait_until_equal();
    write("from the future", "other", long_ago);
    write("from the past", "other", to_come);
    pair.wait_until_equal();
}

#[test]
fn what_has_rotted_on_the_master_is_not_copied() {
    if let Some(reason) = missing() {
        println!("SKIPPED: {reason}");
        return;
    }
    let workplace = Workplace::new().unwrap();
    let image = workplace.folder("image").join("image");
    std::fs::write(&image, format(64 << 20, &workplace)).unwrap();
    let mount = || Mounted::mount(&image, workplace.folder("master")).unwrap();
    // Before the pair, so that it goes after it.
    let mut disk = Some(mount());
    let secret = new_secret();
    let master = Machine::master().secret(&secret).data(&disk.as_ref().unwrap().folder("data")).start();
    let standby = Machine::master().secret(&secret).standby().start();
    let mut mirror = Mirror::of(&master, &secret, &standby.address().to_string());
    mirror.start();
    let mut pair = Pair { master, standby, mirror };
    let content = "a line that will rot\n".repeat(1000);
    std::fs::create_dir_all(pair.master.path("EPuser", "")).unwrap();
    std::fs::write(pair.master.path("EPuser", "report"), &content).unwrap();
    pair.wait_until_equal();
    // Until it is known what both sides have agreed on: what is not known is compared, and then the master counts.
    let passes = pair.mirror.metric("filesync_passes");
    eventually("it is known", || pair.mirror.metric("filesync_passes") >= passes + 2.0);

    pair.mirror.stop();
    pair.master.stop();
    disk.as_ref().unwrap().flush();
    drop(disk.take());
    let mut bytes = std::fs::read(&image).unwrap();
    let blocks = (0..bytes.len()).step_by(4096);
    let places: Vec<_> = blocks.filter(|at| bytes[*at..].starts_with(&content.as_bytes()[..4096])).collect();
    assert!(!places.is_empty(), "the content is not on the disk");
    places.into_iter().for_each(|at| bytes[at] ^= 1);
    std::fs::write(&image, bytes).unwrap();
    disk = Some(mount());
    assert_ne!(std::fs::read_to_string(pair.master.path("EPuser", "report")).unwrap(), content, "it has rotted");

    pair.master.start();
    pair.mirror.start();
    eventually("it was looked at", || pair.mirror.metric("filesync_passes") >= 3.0);
    assert_eq!(std::fs::read_to_string(pair.standby.path("EPuser", "report")).unwrap(), content);
    drop(pair);
    drop(disk);
}

#[test]
fn a_standby_on_a_copied_disk_is_compared_and_nothing_is_sent() {
    let secret = new_secret();
    let master = Machine::master().secret(&secret).start();
    let home = master.path("EPuser", "");
    std::fs::create_dir_all(home.join("in")).unwrap();
    for (name, bytes) in [("one", 10), ("in/two", 100_000), ("in/large", 10 << 20)] {
        std::fs::write(home.join(name), vec![7; bytes]).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("data");
    std::fs::create_dir(&copy).unwrap();
    let (status, text) = run(std::process::Command::new("cp").arg("-a").arg(&home).arg(&copy));
    assert!(status.success(), "{text}");
    let standby = Machine::master().secret(&secret).standby().data(&copy).start();
    let mut mirror = Mirror::of(&master, &secret, &standby.address().to_string());
    mirror.start();
    let pair = Pair { master, standby, mirror };
    eventually("both were compared", || pair.mirror.metric("filesync_passes") >= 3.0);
    pair.wait_until_equal();
    // The admin's users.yaml and what came of it.
    assert!(pair.mirror.metric("filesync_bytes_sent") < 10_000.0);
    let (is_equal, text) = pair.mirror.ask(&["verify"]);
    assert!(is_equal, "{text}");
}
