//! What an operator asks the running daemon on the command line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use pair::activity::Outcome;
use pair::control::{Session, Status};
use pair::wire::Code;
use tests::raw::Answer;
use tests::step::NEW;
use tests::{ADMIN, Machine, Pair, Raw, USER, eventually};

fn said(machine: &Machine, arguments: &[&str]) -> String {
    let (done, text) = machine.order(arguments);
    assert!(done, "{arguments:?}: {text}");
    text
}

fn refused(machine: &Machine, arguments: &[&str], expected: &str) {
    let (done, text) = machine.order(arguments);
    assert!(!done && text.contains(expected), "{arguments:?}: {text}");
}

fn who(machine: &Machine) -> Vec<Session> {
    serde_json::from_str(&said(machine, &["who", "--json"])).unwrap()
}

#[test]
fn who_shows_each_session_with_what_it_transfers_and_kick_ends_it() {
    let master = Machine::master().start();
    assert_eq!(said(&master, &["who"]).trim(), "nobody is connected");
    let mut raw = Raw::greeted(&master, USER);
    let handle = raw.open("inbox\u{1b}[2J".as_bytes(), NEW, None).handle();
    assert_eq!(raw.write(&handle, 0, &[7; 5000]), Answer::Status(Code::Ok));
    let mut admin = Raw::greeted(&master, ADMIN);
    let sessions = who(&master);
    let names: Vec<_> = sessions.iter().map(|session| session.username.clone().unwrap_or_default()).collect();
    assert_eq!(names, ["EPuser", "admin"]);
    let first = &sessions[0];
    assert!(first.client_version.starts_with("OpenSSH") && first.received_bytes > 5000, "{first:?}");
    let transfer = &first.transfers[0];
    assert_eq!((transfer.sender.as_str(), transfer.size_bytes), ("Upload", 5000));
    assert!(sessions[1].transfers.is_empty());
    let shown = said(&master, &["who"]);
    assert!(shown.contains("Upload /inbox\\u{1b}[2J  4.9 KiB") && !shown.contains('\u{1b}'), "{shown}");
    refused(&master, &["kick", "nobody"], "nobody is connected");
    assert!(said(&master, &["kick", "EPuser"]).contains("1 connection ended"));
    eventually("the session is ended", || raw.has_ended());
    let end = master.wait_for_activity("the end of the session", |record| record.sender == "logout");
    assert_eq!(end.error.as_deref(), Some("ended by an operator"));
    master.wait_for_activity("the command", |record| {
        record.sender == "Command" && record.outcome == Some(Outcome::Complete)
    });
    assert!(admin.open(b"still-there", NEW, None) != Answer::Status(Code::Failure), "the others stay");
    let sessions = who(&master);
    let its = sessions.iter().find(|session| session.username.as_deref() == Some("admin"));
    let id = its.unwrap().connection_id.clone();
    said(&master, &["kick", &id]);
    eventually("the session is ended", || admin.has_ended());
    // Also who has not logged in is shown, and can be ended by his address.
    let mut silent = std::net::TcpStream::connect(master.address()).unwrap();
    let from = silent.local_addr().unwrap().to_string();
    eventually("the connection is shown", || who(&master).iter().any(|session| session.remote_addr == from));
    assert!(said(&master, &["who"]).contains("(not logged in)"));
    std::io::Write::write_all(&mut silent, b"SSH-2.0-silent\r\n").unwrap();
    eventually("it can be ended", || master.order(&["kick", &from]).0);
    eventually("it is gone", || who(&master).is_empty());
}

#[test]
fn status_says_how_both_machines_are() {
    let pair = Pair::start();
    let status = |machine: &Machine| serde_json::from_str::<Status>(&said(machine, &["status", "--json"])).unwrap();
    eventually("the master knows what the standby has", || {
        let master = status(&pair.master);
        master.standbys.first().is_some_and(|standby| {
            standby.accounts_generation == Some(1) && standby.seq == Some(master.last_seq) && standby.problem.is_none()
        })
    });
    let master = status(&pair.master);
    assert_eq!((master.refuses_uploads, master.accounts, master.accounts_generation), (None, 2, 1));
    assert!(master.volume_free_bytes > 0 && master.volume_bytes >= master.volume_free_bytes);
    let text = said(&pair.master, &["status"]);
    assert!(text.contains("master of pair") && text.contains("uploads: taken"), "{text}");
    assert!(text.contains("has all up to change") && text.contains("accounts: generation 1"), "{text}");
    let text = said(&pair.standby, &["status"]);
    assert!(text.contains("standby of pair") && text.contains("uploads: refused: this is the standby"), "{text}");
    let mut stopped = Machine::master().start();
    stopped.stop();
    refused(&stopped, &["status"], "no sftpd answers on");
}

#[test]
fn a_password_is_reset_on_both_machines_and_nothing_of_it_is_stored() {
    let mut pair = Pair::start();
    pair.wait_until_accounts_are_known();
    let text = said(&pair.master, &["reset-password", "EPuser"]);
    let password = text.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    // A standby that is slow to say so gets it all the same.
    let (has_them, is_slow) = (text.contains("has them, too"), text.contains("did not answer within"));
    assert!(text.contains("~ EPuser: new password") && (has_them || is_slow), "{text}");
    assert!(!pair.master.sftp(USER).can_log_in());
    assert!(pair.master.sftp(("EPuser", &password)).can_log_in());
    let can_log_in = || pair.standby.sftp(("EPuser", &password)).can_log_in();
    assert!(is_slow || can_log_in(), "said to have them, so it has");
    eventually("the standby has the new password", can_log_in);
    for machine in [&pair.master, &pair.standby] {
        let mut folders = vec![machine.data().to_owned(), machine.state(), machine.logs()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    let content = std::fs::read(entry.path()).unwrap();
                    let found = content.windows(password.len()).any(|part| part == password.as_bytes());
                    assert!(!found, "{}", entry.path().display());
                }
            }
        }
    }
    refused(&pair.master, &["reset-password", "nobody"], "there is no account nobody");
    refused(&pair.standby, &["reset-password", "EPuser"], "this is the standby");
    // The stored file still means the same: uploaded again it changes nothing.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.yaml");
    let again = format!("get users.yaml {0}\nput {0} users.yaml\n", file.display());
    pair.master.sftp(ADMIN).run(&again).expect_ok();
    assert!(pair.master.result().contains("nothing changed"), "{}", pair.master.result());
    assert!(pair.master.sftp(("EPuser", &password)).can_log_in());
    // Without its sidecar the master says that the standby has not answered, and does not wait for long.
    pair.mirror.kill();
    let text = said(&pair.master, &["reset-password", "EPuser"]);
    assert!(text.contains("did not answer within 2 s"), "{text}");
}

#[test]
fn a_hash_that_stood_in_users_yaml_does_not_come_back_after_a_reset() {
    let hash = "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/";
    let users = format!(
        "users:\n  A: {{name: admin, password: secret, admin: true}}\n  1: {{name: b, password: \"{hash}\"}}\n"
    );
    let master = Machine::master().users(&users).start();
    let text = said(&master, &["reset-password", "b"]);
    let password = text.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    let stored = std::fs::read_to_string(master.path("admin", "users.yaml")).unwrap();
    assert!(!stored.contains("$6$") && stored.len() == users.len(), "{stored}");
    assert!(master.sftp(("b", &password)).can_log_in());
    assert!(master.sftp(("admin", "secret")).can_log_in(), "everybody else's stays");
}

#[test]
fn a_users_yaml_is_tried_and_applied_by_command() {
    let master = Machine::master().start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new.yaml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, format!("{}  2: {{name: carol, password: xyz}}\n", tests::SEED)).unwrap();
    let text = said(&master, &["apply-users", "--check", path]);
    assert!(text.contains("WOULD BE ACCEPTED") && text.contains("+ carol"), "{text}");
    assert!(!master.sftp(("carol", "xyz")).can_log_in());
    let text = said(&master, &["apply-users", path]);
    assert!(text.contains("ACCEPTED") && text.contains("from sftpd apply-users: generation 2"), "{text}");
    assert!(master.sftp(("carol", "xyz")).can_log_in());
    std::fs::write(&file, "users:\n  1: {name: a}\n  2: {name: a}\n").unwrap();
    let (done, text) = master.order(&["apply-users", path]);
    assert!(!done && text.contains("new.yaml:2:") && text.contains("new.yaml:3:"), "every mistake: {text}");
    refused(&master, &["apply-users", "/nowhere"], "cannot read /nowhere");
    assert!(master.sftp(("carol", "xyz")).can_log_in());
}

#[test]
fn ten_thousand_accounts_in_one_file_are_taken_and_one_of_them_is_changed() {
    let (master, folder) = (Machine::master().start(), tempfile::tempdir().unwrap());
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    let line = |number: u32| format!("  {number}: {{name: partner{number:05}, public_keys: [\"{key}\"]}}\n");
    let mut users = tests::SEED.to_owned() + &(2..10_002).map(line).collect::<String>();
    let file = folder.path().join("users.yaml");
    let apply = |users: &str| {
        std::fs::write(&file, users).unwrap();
        let began = std::time::Instant::now();
        let text = said(&master, &["apply-users", file.to_str().unwrap()]);
        println!("{} accounts applied in {:?}", users.lines().count(), began.elapsed());
        text
    };
    assert!(apply(&users).contains("+ partner10001"));
    users = users.replace("name: partner00500,", "name: partner00500, disabled: true,");
    let text = apply(&users);
    assert!(text.contains("~ partner00500: disabled") && text.lines().count() == 3, "{text}");
    assert!(master.sftp(USER).can_log_in());
}
