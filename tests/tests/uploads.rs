//! An upload: whole or not at all, confined, within limits, and sound after a kill.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use tests::{Machine, Snapshot, USER, eventually, fill_with_nasty_names};

fn file(folder: &Path, name: &str, bytes: usize) -> std::path::PathBuf {
    let path = folder.join(name);
    let content: Vec<u8> =
        (0..bytes as u32 / 4 + 1).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).take(bytes).collect();
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn a_large_file_survives_the_way_up_and_down_through_many_key_exchanges() {
    let (master, folder) = (Machine::master().start(), tempfile::tempdir().unwrap());
    let up = file(folder.path(), "up", 100_000_000);
    let down = folder.path().join("down");
    let batch = format!("put {} x\nget x {}\n", up.display(), down.display());
    master.sftp(USER).option("RekeyLimit=1M").run(&batch).expect_ok();
    assert!(std::fs::read(up).unwrap() == std::fs::read(&down).unwrap());
    assert!(std::fs::read(master.path("EPuser", "x")).unwrap() == std::fs::read(&down).unwrap());
}

#[test]
fn an_upload_that_dies_leaves_the_old_file_as_it_was() {
    let (mut master, folder) = (Machine::master().start(), tempfile::tempdir().unwrap());
    let old = file(folder.path(), "old", 1000);
    master.sftp(USER).run(&format!("put {} x\n", old.display())).expect_ok();
    let sizes = |master: &Machine| -> Vec<u64> {
        let stages = std::fs::read_dir(master.data().join(".pair/stage")).unwrap();
        stages.map(|stage| stage.unwrap().metadata().map_or(0, |stage| stage.len())).collect()
    };
    // Bytes come only after the OPEN was answered; what was not answered yet may be gone after a kill.
    let under_way = |master: &Machine| sizes(master).iter().sum::<u64>() > 0;
    let is_old = |master: &Machine| std::fs::read(master.path("EPuser", "x")).unwrap() == std::fs::read(&old).unwrap();

    let client = master.sftp(USER).start_endless_upload("x");
    eventually("the upload is under way", || under_way(&master));
    assert!(is_old(&master), "the old file is there while the new one comes");
    client.kill();
    assert!(is_old(&master));
    master.sftp(USER).run("rm x\n").expect_ok();
    assert!(sizes(&master).is_empty(), "what was left can be removed, and not the old file with it");
    assert!(is_old(&master));

    let _client = master.sftp(USER).start_endless_upload("x");
    eventually("the upload is under way", || under_way(&master));
    master.kill();
    assert!(is_old(&master));
    master.start();
    assert_eq!(sizes(&master).len(), 1, "it can be continued");
    assert!(is_old(&master));
}

#[test]
fn a_tree_with_nasty_names_goes_up_and_comes_down_as_it_was() {
    let (master, folder) = (Machine::master().start(), tempfile::tempdir().unwrap());
    let (up, down) = (folder.path().join("tree"), folder.path().join("down"));
    fill_with_nasty_names(&up);
    // OpenSSH's client passes over links when it copies folders.
    for link in ["link to a folder", "link outside", "dangling", "circle"] {
        std::fs::remove_file(up.join(link)).unwrap();
    }
    std::fs::create_dir(&down).unwrap();
    let batch = format!("put -Rp {}\nlcd {}\nget -Rp tree\n", up.display(), down.display());
    master.sftp(USER).run(&batch).expect_ok();
    let sent = Snapshot::of(&up);
    assert_eq!(sent.differences(&Snapshot::of(&master.path("EPuser", "tree"))), Vec::<String>::new());
    assert_eq!(sent.differences(&Snapshot::of(&down.join("tree"))), Vec::<String>::new());
}

#[test]
fn nothing_outside_the_accounts_folder_is_reached() {
    let master = Machine::master().start();
    std::fs::write(master.data().join("secret"), "outside").unwrap();
    std::os::unix::fs::symlink(master.data(), master.path("EPuser", "way out")).unwrap_or_else(|_| {
        std::fs::create_dir_all(master.path("EPuser", "")).unwrap();
        std::os::unix::fs::symlink(master.data(), master.path("EPuser", "way out")).unwrap();
    });
    let folder = tempfile::tempdir().unwrap();
    let got = folder.path().join("got");
    let paths = [
        "/secret",
        "../secret",
        "../../secret",
        "/../secret",
        "way\\ out/secret",
        "/admin/users.yaml",
        "/.pair/marker",
        "../.pair/marker",
    ];
    for path in paths {
        let outcome = master.sftp(USER).run(&format!("get {path} {}\n", got.display()));
        outcome.expect_failure("not found");
        assert!(!got.exists(), "{path}");
    }
    let up = file(folder.path(), "up", 10);
    master.sftp(USER).run(&format!("put {} ../../escaped\n", up.display())).expect_ok();
    assert!(master.path("EPuser", "escaped").exists() && !master.data().join("escaped").exists());
    assert!(!master.sftp(USER).run(&format!("put {} way\\ out/escaped\n", up.display())).ok);
}

#[test]
fn a_fresh_standby_knows_nobody_and_is_not_primary() {
    let secret = pair::secret::PairSecret::generate().unwrap().to_hex();
    let standby =
        Machine::master().secret(&secret).standby().setting("MASTER_ADDRESS", "sftp.example.org:2222").start();
    assert!(!standby.sftp(USER).can_log_in(), "a fresh standby knows nobody");
    assert_eq!(standby.page("/primary").0, 503);
    assert_eq!(standby.page("/readyz").0, 200);
}

#[test]
fn a_read_only_account_reads_and_does_not_write() {
    let master = Machine::master().users(&format!("{}    read_only: true\n", tests::SEED)).start();
    std::fs::create_dir_all(master.path("EPuser", "")).unwrap();
    std::fs::write(master.path("EPuser", "x"), "content").unwrap();
    let folder = tempfile::tempdir().unwrap();
    master.sftp(USER).run(&format!("get x {}\nls\n", folder.path().join("x").display())).expect_ok();
    let commands = [
        "put /dev/null x",
        "put /dev/null y",
        "rm x",
        "rename x y",
        "mkdir d",
        "chmod 600 x",
        "symlink x y",
        "ln x y",
        "rmdir d",
    ];
    for command in commands {
        assert!(!master.sftp(USER).run(&format!("{command}\n")).ok, "{command}");
    }
    assert_eq!(std::fs::read(master.path("EPuser", "x")).unwrap(), b"content");
    assert_eq!(std::fs::read_dir(master.path("EPuser", "")).unwrap().count(), 1);
}

#[test]
fn a_transfer_that_runs_at_shutdown_is_finished_and_idle_sessions_are_ended() {
    let (mut master, folder) = (Machine::master().start(), tempfile::tempdir().unwrap());
    let up = file(folder.path(), "up", 30_000_000);
    // At 64 Mbit/s it certainly runs when the signal comes.
    let transfer = master.sftp(USER).start_upload(&up, "x", 64_000);
    eventually("the upload is under way", || {
        std::fs::read_dir(master.data().join(".pair/stage")).unwrap().count() == 1
    });
    assert!(master.stop().success());
    assert!(
        std::fs::read(&up).unwrap() == std::fs::read(master.path("EPuser", "x")).unwrap(),
        "{:?}",
        transfer.lines()
    );
}
