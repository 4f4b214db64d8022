//! The standby takes over, and the master of before comes back: with real programs, on either side.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Command;

use pair::control::{Divergent, Move};
use pair::node::Phase;
use tests::{ADMIN, Duo, Link, Machine, USER, eventually, new_secret, own_address, run};

fn put(duo: &Duo, index: usize, name: &str, content: &str) -> bool {
    duo.machines[index].put(USER, name, content)
}

fn content(duo: &Duo, index: usize, name: &str) -> Option<String> {
    std::fs::read_to_string(duo.machines[index].path("EPuser", name)).ok()
}

#[test]
fn a_switchover_hands_over_without_losing_anything() {
    let duo = Duo::start();
    assert!(put(&duo, 0, "before", "one"));
    let moved = duo.moved(0, &["switchover"]);
    assert_eq!(moved.epoch, 2);
    assert_eq!((duo.phase(0), duo.phase(1)), (Some(Phase::Standby), Some(Phase::Master)));
    assert_eq!(content(&duo, 1, "before").as_deref(), Some("one"));
    assert!(put(&duo, 1, "after", "two"), "the new master takes files at once");
    assert!(!put(&duo, 0, "refused", "three"), "the old one takes none");
    duo.wait_until_follows(0);
    eventually("it is on the standby", || content(&duo, 0, "after").as_deref() == Some("two"));
    duo.wait_until_equal();
    // And back, asked for on the machine that is to be the master.
    let back = duo.moved(0, &["switchover"]);
    assert_eq!((back.epoch, duo.phase(0)), (3, Some(Phase::Master)));
    assert!(put(&duo, 0, "again", "four"));
    duo.wait_until_equal();
}

#[test]
fn a_promotion_is_refused_while_the_master_answers_and_done_when_it_is_gone() {
    let mut duo = Duo::start();
    assert!(put(&duo, 0, "file", "one"));
    duo.wait_until_equal();
    let (done, text) = duo.machines[1].order(&["promote"]);
    assert!(!done && text.contains("answers as master"), "{text}");
    duo.machines[0].kill();
    duo.mirrors[0].kill();
    let moved = duo.moved(1, &["promote"]);
    assert_eq!((moved.epoch, duo.phase(1)), (2, Some(Phase::Master)));
    assert!(put(&duo, 1, "file2", "two"));
    duo.machines[0].start();
    duo.mirrors[0].start();
    duo.wait_for_phase(0, Phase::Standby);
    duo.wait_until_equal();
    assert!(put(&duo, 1, "file3", "three"));
    duo.wait_until_equal();
}

fn divergent(machine: &Machine) -> Vec<Divergent> {
    let (done, text) = machine.order(&["divergent", "list", "--json"]);
    assert!(done, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn state_of(machine: &Machine, path: &str) -> Option<Divergent> {
    divergent(machine).into_iter().find(|thing| thing.path.0 == path.as_bytes())
}

#[test]
fn what_only_the_old_master_has_comes_back_where_nobody_has_touched_its_path_and_is_kept_where_somebody_has() {
    let mut links = Vec::new();
    let duo = Duo::start_over(&[], &[], |address| {
        links.push(Link::to(address));
        links.last().unwrap().address()
    });
    assert!(put(&duo, 0, "both", "first"));
    duo.wait_until_equal();
    links.iter().for_each(Link::cut);
    for (name, text) in [("only-here", "one"), ("both", "second"), ("touched", "by the old master")] {
        assert!(put(&duo, 0, name, text));
    }
    assert_eq!(duo.moved(1, &["promote"]).epoch, 2);
    assert!(put(&duo, 1, "touched", "by the new master"));
    links.iter().for_each(Link::mend);
    duo.wait_for_phase(0, Phase::Standby);
    eventually("what was set aside is answered", || {
        divergent(&duo.machines[0]).len() == 3
            && divergent(&duo.machines[0]).iter().all(|thing| ["restored", "kept"].contains(&thing.state.as_str()))
    });
    duo.wait_until_equal();
    for (name, text) in [("only-here", "one"), ("both", "second"), ("touched", "by the new master")] {
        assert_eq!(content(&duo, 1, name).as_deref(), Some(text), "{name}");
    }
    let kept = state_of(&duo.machines[0], "EPuser/touched").unwrap();
    assert!(kept.state == "kept" && kept.detail.unwrap().contains("was changed here"), "{}", kept.state);
    // A person has it under another name, and then lets go of everything.
    let (done, text) = duo.machines[0].order(&["divergent", "restore", &kept.id, "--as", "EPuser/touched.old"]);
    assert!(done, "{text}");
    eventually("it is at the master", || content(&duo, 1, "touched.old").as_deref() == Some("by the old master"));
    let (done, text) = duo.machines[0].order(&["divergent", "release", "--all"]);
    assert!(done || text.contains("--yes"), "{text}");
    eventually("all of it may go", || duo.machines[0].order(&["divergent", "release", "--all", "--yes"]).0);
    assert!(divergent(&duo.machines[0]).is_empty());
}

#[test]
fn two_machines_that_were_both_made_master_stop_until_one_is_chosen() {
    let secret = new_secret();
    let addresses = [own_address(), own_address()];
    let build = |own: usize| {
        let machine = Machine::master().secret(&secret).address(addresses[own]).setting("PEERS_WAIT", "10ms");
        machine.setting("PEERS", &addresses[1 - own].to_string()).start()
    };
    let machines = [build(0), build(1)];
    let says = |machine: &Machine, text: &str| machine.order(&["status"]).1.contains(text);
    for machine in &machines {
        eventually("it has stopped", || says(machine, "two machines were made master apart from each other"));
        let refused = machine.sftp(ADMIN).run("mkdir folder\n");
        assert!(!refused.ok, "{}", refused.text);
        assert_eq!(machine.page("/primary").0, 503);
    }
    let (done, text) = machines[0].order(&["promote", "--force", &addresses[1].to_string()]);
    assert!(done, "{text}");
    assert!(machines[0].sftp(ADMIN).run("mkdir folder\n").ok);
    eventually("the other gives way", || says(&machines[1], "standby of pair"));
}

/// Copies a folder as a backup program would.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    let (status, text) = run(Command::new("cp").arg("-a").arg(from).arg(to));
    assert!(status.success(), "{text}");
}

#[test]
fn a_master_that_comes_back_from_a_backup_stops_and_asks() {
    let mut duo = Duo::start();
    assert!(put(&duo, 0, "old", "one"));
    duo.wait_until_equal();
    let backup = tempfile::tempdir().unwrap();
    duo.machines[0].stop();
    let folders = [duo.machines[0].data().to_owned(), duo.machines[0].state()];
    folders.iter().for_each(|folder| copy(folder, backup.path()));
    duo.machines[0].start();
    duo.wait_until_settled();
    let seq = |duo: &Duo| duo.status(1).and_then(|status| status.reached);
    let before = seq(&duo);
    assert!(put(&duo, 0, "new", "two"));
    eventually("the standby knows that it has it", || seq(&duo) > before && content(&duo, 1, "new").is_some());
    duo.wait_until_equal();
    duo.mirrors[0].stop();
    duo.machines[0].kill();
    for folder in &folders {
        std::fs::remove_dir_all(folder).unwrap();
        copy(&backup.path().join(folder.file_name().unwrap()), folder);
    }
    duo.machines[0].start();
    duo.wait_for_phase(0, Phase::Stopped);
    let (_, text) = duo.machines[0].order(&["status"]);
    assert!(text.contains("was this machine's disk restored from a backup?"), "{text}");
    // The mirror of the old state does nothing to the standby.
    duo.mirrors[0].start();
    let first = duo.machines[0].address().to_string();
    duo.moved(1, &["promote", "--force", &first]);
    duo.wait_until_settled();
    duo.wait_until_equal();
    assert_eq!(content(&duo, 0, "new").as_deref(), Some("two"), "nothing newer was lost");
}

#[test]
fn a_new_standby_shows_the_host_keys_of_its_master() {
    let mut duo = Duo::prepare(&[], &[], |address| address);
    let keys = duo.machines[0].state().join("keys");
    std::fs::create_dir_all(&keys).unwrap();
    let file = keys.join("ssh_host_ed25519_key");
    let (made, text) = run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&file));
    assert!(made.success(), "{text}");
    duo.run();
    let shown = |index: usize| {
        let address = duo.machines[index].address();
        let mut scan = Command::new("ssh-keyscan");
        let (_, text) = run(scan.args(["-t", "ed25519", "-p", "2222"]).arg(address.ip().to_string()));
        text.lines()
            .find(|line| line.contains("ssh-ed25519"))
            .and_then(|line| line.split(' ').nth(2).map(str::to_owned))
    };
    eventually("both show the same key", || shown(0).is_some() && shown(0) == shown(1));
    eventually("failover is armed", || {
        duo.status(0).is_some_and(|status| status.peers.iter().all(|peer| peer.has_our_host_keys))
    });
    duo.moved(0, &["switchover"]);
}

#[test]
fn a_drill_goes_there_and_back_and_keeps_its_report() {
    let duo = Duo::start();
    assert!(put(&duo, 0, "file", "one"));
    let drill = duo.moved(0, &["drill"]);
    assert_eq!((drill.epoch, duo.phase(0), duo.phase(1)), (3, Some(Phase::Master), Some(Phase::Standby)));
    assert!(drill.gap_ms.is_some() && drill.steps.iter().any(|step| step.name == "and back"), "{drill:?}");
    let kept: Vec<_> = std::fs::read_dir(duo.machines[0].state().join("drills")).unwrap().flatten().collect();
    assert_eq!(kept.len(), 1);
    let report: Move = serde_json::from_str(&std::fs::read_to_string(kept[0].path()).unwrap()).unwrap();
    assert_eq!((report.what.as_str(), report.epoch), ("drill", 3));
    assert!(put(&duo, 0, "file", "two"));
    duo.wait_until_equal();
}

#[test]
fn machines_that_change_places_twice_send_nothing_again() {
    let duo = Duo::start();
    for number in 0..20 {
        assert!(put(&duo, 0, &format!("file-{number}"), "content"));
    }
    duo.wait_until_equal();
    for master in [1, 0] {
        duo.moved(1 - master, &["switchover"]);
        eventually("the new master's filesync has compared everything", || {
            duo.mirrors[master].metric("filesync_followed") == 1.0
        });
    }
    for machine in &duo.machines {
        let replaced =
            Command::new("find").arg(machine.data().join(".pair")).args(["-path", "*/trash/*", "-type", "f"]).output();
        assert_eq!(String::from_utf8(replaced.unwrap().stdout).unwrap(), "");
    }
}

#[test]
fn a_switchover_that_cannot_be_done_leaves_everything_as_it_was() {
    let mut duo = Duo::start();
    duo.mirrors[0].kill();
    assert!(put(&duo, 0, "file", "one"));
    let (done, text) = duo.machines[0].order(&["switchover"]);
    assert!(!done && text.contains("is filesync running here?"), "{text}");
    assert_eq!((duo.phase(0), duo.phase(1)), (Some(Phase::Master), Some(Phase::Standby)));
    assert!(put(&duo, 0, "file", "two"), "the master takes files as before");
    let refused = duo.machines[0].wait_for_activity("the order that was refused", |record| {
        record.method.as_deref() == Some("switchover") && record.error.is_some()
    });
    assert!(refused.error.unwrap().contains("filesync"));
    duo.mirrors[0].start();
    duo.wait_until_equal();
    duo.machines[1].kill();
    let (done, text) = duo.machines[0].order(&["switchover"]);
    assert!(!done && (text.contains("cannot be reached") || text.contains("does not answer within")), "{text}");
    assert!(put(&duo, 0, "file", "three"));
}

#[test]
fn who_asks_for_the_primary_hears_it_from_the_master_alone() {
    let duo = Duo::start();
    let primary = |index: usize| duo.machines[index].page("/primary").0;
    assert_eq!((primary(0), primary(1)), (200, 503));
    duo.moved(0, &["switchover"]);
    assert_eq!((primary(0), primary(1)), (503, 200));
    let role = duo.machines[1].wait_for_activity("the change of its role", |record| record.sender == "Role");
    assert!(role.method.unwrap().contains("master; was: standby"));
    assert!(duo.machines[1].page("/metrics").1.contains("sftpd_phase{name=\"master\"} 1"));
}

#[test]
fn accounts_that_came_before_their_file_are_in_force_on_the_new_master_and_the_file_is_written_anew() {
    let mut duo = Duo::start();
    let path = duo.machines[1].path("admin", "users.yaml");
    eventually("the file is there", || path.exists());
    let older = std::fs::read(&path).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let more = "  2:\n    name: \"late\"\n    password: \"5678-long\"\n";
    std::fs::write(file.path(), String::from_utf8(older.clone()).unwrap() + more).unwrap();
    let put = format!("put {} users.yaml\n", file.path().display());
    duo.machines[0].sftp(ADMIN).run(&put).expect_ok();
    duo.wait_until_equal();
    eventually("the standby has the accounts", || {
        let kept = std::fs::read_to_string(duo.machines[1].state().join("accounts.json"));
        kept.is_ok_and(|kept| kept.contains("\"late\""))
    });
    for index in [0, 1] {
        duo.mirrors[index].kill();
        duo.machines[index].kill();
    }
    std::fs::write(&path, &older).unwrap();
    duo.machines[1].start();
    duo.moved(1, &["promote"]);
    eventually("the file says what is in force", || {
        std::fs::read_to_string(&path).is_ok_and(|text| text.contains("\"late\"") || text.contains("name: late"))
    });
    assert!(duo.machines[1].sftp(("late", "5678-long")).can_log_in());
}
