//! The standby takes over, and the master of before comes back: with real programs, on either side.

use pair::node::Phase;
use tests::{Duo, USER, eventually};

/// Uploads a file by OpenSSH's client and gives whether it said that it arrived.
fn put(duo: &Duo, index: usize, name: &str, content: &str) -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    duo.machines[index].sftp(USER).run(&format!("put {} {name}\n", file.path().display())).ok
}

fn content(duo: &Duo, index: usize, name: &str) -> Option<String> {
    std::fs::read_to_string(duo.machines[index].path("EPuser", name)).ok()
}

#[test]
fn a_switchover_hands_over_without_losing_anything() {
    let duo = Duo::start();
    assert!(put(&duo, 0, "before", "one"));
    let moved = duo.moved(0, &["switchover"]);
    println!("{moved:?}");
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
    println!("{moved:?}");
    assert_eq!((moved.epoch, duo.phase(1)), (2, Some(Phase::Master)));
    assert!(put(&duo, 1, "file2", "two"));
    duo.machines[0].start();
    duo.mirrors[0].start();
    duo.wait_for_phase(0, Phase::Standby);
    duo.wait_until_equal();
    assert!(put(&duo, 1, "file3", "three"));
    duo.wait_until_equal();
}
