//! A master of before comes back to a new one: which of its things are set aside.

use super::*;
use crate::role::tests::{Machine, two, until};
use crate::storage::{Change, State};

#[tokio::test(flavor = "multi_thread")]
async fn what_only_this_machine_has_goes_aside_and_what_both_have_stays() {
    let (old, new) = two().await;
    for machine in [&old, &new] {
        machine.write(b"alice/base", b"of before");
        machine.write(b"alice/over", b"of before");
        machine.write(b"alice/gone", b"of before");
    }
    let after = old.last().await;
    old.put(b"alice/over", b"newer, longer").await;
    old.put(b"alice/same size", b"one").await;
    new.write(b"alice/same size", b"two");
    old.put(b"alice/both", b"the same").await;
    new.write(b"alice/both", b"the same");
    old.put(b"alice/name\xff\n", b"any bytes").await;
    old.put(b"alice/kind", b"a file here").await;
    new.write(b"alice/kind/x", b"and a folder there");
    old.put(b"alice/was removed", b"x").await;
    old.remove(b"alice/was removed").await;
    old.remove(b"alice/gone").await;
    old.put(b"admin/users.yaml.result", b"differs always").await;
    let summary = old.comes_back_to(&new, Some(after)).await.unwrap();
    assert_eq!(summary, Summary { compared: 5, kept: 4 });
    assert_eq!(old.aside_paths(), ["alice/kind", "alice/name%FF%0A", "alice/over", "alice/same size"]);
    assert_eq!(old.aside_content(b"alice/over"), b"newer, longer");
    assert_eq!(old.aside_content(b"alice/name\xff\n"), b"any bytes");
    assert_eq!(old.content(b"alice/over"), None);
    assert_eq!(old.content(b"alice/both").unwrap(), b"the same");
    assert_eq!(old.content(b"alice/base").unwrap(), b"of before");
    assert_eq!(new.content(b"alice/over").unwrap(), b"of before", "readable until it is restored");
    let (entry, state) = old.aside().remove(2);
    assert_eq!((entry.account.as_str(), entry.size, state), ("alice", 13, State::Offered));
    assert_eq!(entry.hash.as_deref(), Some(blake3::hash(b"newer, longer").to_hex().as_str()));
    assert!(entry.seq.is_some_and(|seq| seq > after) && entry.time_ms.is_some());
    let again = old.comes_back_to(&new, Some(after)).await.unwrap();
    assert_eq!(again, Summary { compared: 1, kept: 0 }, "what was moved is no longer there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_folder_goes_aside_with_all_that_is_in_it() {
    let (old, new) = two().await;
    for machine in [&old, &new] {
        machine.write(b"alice/from/deep/x", b"x");
        machine.write(b"alice/from/y", b"y");
    }
    let after = old.last().await;
    old.rename(b"alice/from", b"alice/to").await;
    old.put(b"alice/to/z", b"z").await;
    old.mkdir(b"alice/empty").await;
    old.mkdir(b"alice/both").await;
    std::fs::create_dir(new.at(b"alice/both")).unwrap();
    let summary = old.comes_back_to(&new, Some(after)).await.unwrap();
    assert_eq!(summary.kept, 6);
    let expected = ["alice/empty", "alice/to", "alice/to/deep", "alice/to/deep/x", "alice/to/y", "alice/to/z"];
    assert_eq!(old.aside_paths(), expected);
    assert!(!old.at(b"alice/to").exists() && !old.at(b"alice/empty").exists() && old.at(b"alice/both").exists());
    let numbers: Vec<_> = old.aside().iter().map(|(entry, _)| entry.number).collect();
    assert!(numbers.is_sorted(), "folders come before what is in them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_empty_afterwards_stays() {
    let (old, new) = two().await;
    old.write(b"alice/x", b"");
    new.write(b"alice/x", b"");
    let after = old.last().await;
    old.mkdir(b"alice/folder").await;
    // Nobody has told of this file, and nobody looks for it.
    old.write(b"alice/folder/of another hand", b"y");
    for kept in [1, 0] {
        assert_eq!(old.comes_back_to(&new, Some(after)).await.unwrap().kept, kept);
        assert_eq!(old.aside_paths(), ["alice/folder"]);
        assert!(old.at(b"alice/folder/of another hand").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_go_aside_where_they_say_something_else() {
    let (old, new) = two().await;
    old.write(b"alice/file", b"content");
    new.write(b"alice/file", b"content");
    let after = old.last().await;
    for (name, text) in [("same", "file"), ("other", "here"), ("only", "fi\u{f6}")] {
        old.symlink(format!("alice/{name}").as_bytes(), text.as_bytes()).await;
    }
    std::os::unix::fs::symlink("file", new.at(b"alice/same")).unwrap();
    std::os::unix::fs::symlink("there", new.at(b"alice/other")).unwrap();
    let link = |root: &crate::storage::Root| {
        let (from, to) = (root.place(b"alice/file").unwrap(), root.place(b"alice/second").unwrap());
        Change::HardLink { from, to }
    };
    old.change(link).await;
    old.comes_back_to(&new, Some(after)).await.unwrap();
    assert_eq!(old.aside_paths(), ["alice/only", "alice/other", "alice/second"]);
    assert_eq!(old.aside()[0].0.target.as_ref().unwrap().0, "fi\u{f6}".as_bytes());
    assert_eq!(old.aside_content(b"alice/second"), b"content");
    assert_eq!(old.content(b"alice/file").unwrap(), b"content", "its other name stays");
}

/// What only the old master has beyond what its journal tells.
async fn with_a_file_that_nobody_told_of() -> (Machine, Machine) {
    let (old, new) = two().await;
    for machine in [&old, &new] {
        machine.write(b"alice/both", b"the same");
    }
    old.write(b"alice/in/untold", b"x");
    old.put(b"alice/told", b"y").await;
    (old, new)
}

const EVERYTHING: [&str; 3] = ["alice/in", "alice/in/untold", "alice/told"];

#[tokio::test(flavor = "multi_thread")]
async fn where_it_is_not_known_what_the_new_master_has_everything_is_compared() {
    let (old, new) = with_a_file_that_nobody_told_of().await;
    old.comes_back_to(&new, None).await.unwrap();
    assert_eq!(old.aside_paths(), EVERYTHING);
    let accounts: Vec<_> = old.aside().into_iter().map(|(entry, _)| entry.account).collect();
    assert_eq!(accounts, ["", "", "alice"]);
    assert!(old.content(b"admin/users.yaml").is_some(), "it is the same on both");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_has_lost_its_rows_compares_everything() {
    let (old, new) = with_a_file_that_nobody_told_of().await;
    let db = rusqlite::Connection::open(old.state().join("sftpd.db")).unwrap();
    let last = old.last().await;
    db.execute("DELETE FROM journal WHERE seq < ?", [last]).unwrap();
    db.execute("INSERT OR REPLACE INTO meta VALUES ('dropped', ?)", [(last - 1).to_string()]).unwrap();
    assert_eq!(old.comes_back_to(&new, Some(last - 1)).await.unwrap(), Summary { compared: 1, kept: 1 });
    old.comes_back_to(&new, Some(last - 2)).await.unwrap();
    assert_eq!(old.aside_paths(), EVERYTHING);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_is_told_and_the_next_try_does_the_rest() {
    let (old, mut new) = two().await;
    old.mkdir(b"alice").await;
    let after = old.last().await - 1;
    for number in 0..400 {
        old.put(format!("alice/{number:03}").as_bytes(), b"x").await;
    }
    let peer = new.peer().await;
    let moved = || std::fs::read_dir(old.at(b".pair/divergent")).is_ok_and(|mut all| all.next().is_some());
    let breaks = async {
        until("something was begun", moved).await;
        new.stop().await;
    };
    let daemon = old.daemon();
    let returning = Returning { epoch: daemon.volume.chapter().epoch.id.clone(), after: Some(after) };
    let successor = Epoch::first().unwrap();
    let (first, ()) = futures::join!(set_aside(&daemon, &peer, &returning, &successor), breaks);
    let sentence = first.unwrap_err();
    assert!(sentence.contains("the new master does not answer"), "{sentence}");
    assert!(old.at(b"alice").exists());
    new.restart_as(pair::node::Role::Master).await;
    old.comes_back_to(&new, Some(after)).await.unwrap();
    assert_eq!(old.aside_paths().len(), 401);
    assert!(!old.at(b"alice").exists());
    let refused = set_aside(&daemon, &peer, &returning, &successor).await;
    assert_eq!(refused.unwrap(), Summary::default(), "there is nothing to ask any more");
    old.mkdir(b"bob").await;
    assert!(set_aside(&daemon, &peer, &returning, &successor).await.is_err());
    assert!(old.at(b"bob").exists());
}
