//! Who did what is on record, once, whatever the client, the network, the names and the disk of the logs do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Command;

use bytes::BufMut;
use pair::activity::{Activity, Level, Outcome};
use pair::wire::{Attrs, Code, kind, open_flag as flag, put_bytes};
use tests::raw::Answer;
use tests::step::NEW;
use tests::{ADMIN, Machine, Pair, Raw, USER, eventually, make_key, read_activity, run};

const OK: Answer = Answer::Status(Code::Ok);

/// Sender, path and outcome of all that a user did on files.
fn of_files(machine: &Machine) -> Vec<(String, String, Option<Outcome>)> {
    let on_files = machine.activity().into_iter().filter(|record| record.file_path.is_some());
    on_files.map(|record| (record.sender, record.file_path.unwrap_or_default(), record.outcome)).collect()
}

fn entry(sender: &str, path: &str, outcome: Outcome) -> (String, String, Option<Outcome>) {
    (sender.into(), path.into(), Some(outcome))
}

#[test]
fn a_session_is_on_record_from_login_to_logout_with_each_transfer_and_change_once() {
    let (master, folder) = (Machine::master().start(), tempfile::tempdir().unwrap());
    let file = folder.path().join("file");
    std::fs::write(&file, vec![7; 300_000]).unwrap();
    let (up, down) = (file.display(), folder.path().join("down"));
    let down = down.display();
    let batch = format!(
        "put {up} a\nput {up} a\nget a {down}\nmkdir d\nrename a d/b\nchmod 600 d/b\nsymlink d/b l\nln d/b h\nrm l\n-rmdir d\n\
         rm h\nrm d/b\nrmdir d\n-rm nothing\n-mkdir /\n"
    );
    master.sftp(USER).run(&batch).expect_ok();
    master.wait_for_activity("the end of the session", |record| record.sender == "logout");
    let expected = [
        entry("Upload", "/a", Outcome::Complete),
        entry("Upload", "/a", Outcome::Replaced),
        entry("Download", "/a", Outcome::Complete),
        entry("Mkdir", "/d", Outcome::Complete),
        entry("Rename", "/a", Outcome::Complete),
        entry("Chmod", "/d/b", Outcome::Complete),
        entry("Symlink", "/l", Outcome::Complete),
        entry("Link", "/d/b", Outcome::Complete),
        entry("Remove", "/l", Outcome::Complete),
        entry("Rmdir", "/d", Outcome::Refused),
        entry("Remove", "/h", Outcome::Complete),
        entry("Remove", "/d/b", Outcome::Complete),
        entry("Rmdir", "/d", Outcome::Complete),
    ];
    let found = of_files(&master);
    assert_eq!(found[..expected.len()], expected, "what is missing or there already is no failure");
    assert!(found[expected.len()..].iter().all(|(sender, path, _)| sender == "Mkdir" && path.is_empty()), "{found:?}");
    let records = master.activity();
    let (login, upload) = (&records[0], &records[1]);
    assert_eq!((login.sender.as_str(), login.method.as_deref()), ("login", Some("password")));
    assert!(login.client_version.as_deref().is_some_and(|version| version.starts_with("OpenSSH")), "{login:?}");
    assert_eq!((upload.size_bytes, upload.file_size, upload.protocol.as_str()), (Some(300_000), Some(300_000), "SFTP"));
    assert!(upload.remote_addr.starts_with("127.0.0.1:") && upload.elapsed_ms.is_some(), "{upload:?}");
    assert_eq!(records[5].target_path.as_deref(), Some("/d/b"), "the rename's new name");
    let refused = records.iter().find(|record| record.outcome == Some(Outcome::Refused)).unwrap();
    assert_eq!((refused.level, refused.error.as_deref()), (Level::Warn, Some("the folder is not empty")));
    let one = |record: &Activity| (record.username.clone(), record.connection_id.clone());
    assert!(records.iter().all(|record| one(record) == one(login)), "all of it on one connection");
    let times: Vec<_> = records.iter().map(|record| record.time.clone()).collect();
    assert!(times.is_sorted() && times[0].ends_with('Z'), "{times:?}");
    let printed = || master.program().lines().iter().filter(|line| line.starts_with("{\"id\":")).count();
    eventually("the same is on standard output", || printed() == records.len());
}

#[test]
fn logins_and_their_failures_are_on_record_with_what_was_tried() {
    let folder = tempfile::tempdir().unwrap();
    let (key, public) = make_key(folder.path());
    let (foreign, _) = make_key(tempfile::tempdir_in(folder.path()).unwrap().keep().as_path());
    let users = format!(
        "users:\n  A: {{name: admin, password: secret, admin: true}}\n  1: {{name: k, public_keys: [\"{public}\"]}}\n"
    );
    let master = Machine::master().users(&users).start();
    assert!(master.sftp(("k", "")).with_key(&key).can_log_in());
    let record = master.wait_for_activity("the login by key", |record| record.sender == "login");
    let (_, shown) = run(Command::new("ssh-keygen").arg("-lf").arg(&key));
    assert!(shown.contains(record.key_fingerprint.as_deref().unwrap()), "{record:?} {shown}");
    assert_eq!((record.username.as_str(), record.method.as_deref()), ("k", Some("publickey")));
    let failures = |method: &str, name: &str| {
        let is_it = |record: &&Activity| {
            record.sender == "connection_failed" && record.username == name && record.method.as_deref() == Some(method)
        };
        master.activity().iter().filter(is_it).count()
    };
    assert!(!master.sftp(("k", "")).with_key(&foreign).can_log_in());
    eventually("a key that nobody knows is on record", || failures("publickey", "k") == 1);
    assert!(!master.sftp(("nobody", "guess")).can_log_in());
    eventually("a wrong name is on record", || failures("password", "nobody") > 0);
    let text = std::fs::read_to_string(master.logs().join("activity.log")).unwrap();
    assert!(!text.contains("guess"), "no password is on record");
    // Whoever looks whether the port is open, and says nothing, is not.
    let before = master.activity().len();
    drop(std::net::TcpStream::connect(master.address()).unwrap());
    let mut scanner = std::net::TcpStream::connect(master.address()).unwrap();
    std::io::Write::write_all(&mut scanner, b"SSH-2.0-scanner\r\n").unwrap();
    std::io::Read::read_exact(&mut scanner, &mut [0; 4]).unwrap();
    drop(scanner);
    master.wait_for_activity("who left without a login", |record| {
        record.error.as_deref() == Some("the client left without a login")
    });
    assert_eq!(master.activity().len(), before + 1);
}

#[test]
fn an_upload_that_breaks_off_and_its_continuation_are_two_records() {
    let master = Machine::master().start();
    let mut first = Raw::greeted(&master, USER);
    let handle = first.open(b"file", NEW, None).handle();
    assert_eq!(first.write(&handle, 0, b"12345"), OK);
    drop(first);
    let broken = master.wait_for_activity("the upload that broke off", |record| record.sender == "Upload");
    assert_eq!((broken.outcome, broken.size_bytes), (Some(Outcome::Aborted), Some(5)));
    assert_eq!(broken.error.as_deref(), Some("the connection was lost"));
    let mut second = Raw::greeted(&master, USER);
    let handle = second.open(b"file", flag::WRITE, None).handle();
    // The last byte that has arrived is not shown, and comes again.
    assert_eq!(second.write(&handle, 4, b"5678"), OK);
    assert_eq!(second.on(kind::CLOSE, &handle), OK);
    let whole = master.wait_for_activity("the rest of it", |record| record.outcome == Some(Outcome::Resumed));
    assert_eq!((whole.size_bytes, whole.file_size), (Some(4), Some(8)));
    // Down: a part, and the rest of it.
    let handle = second.open(b"file", flag::READ, None).handle();
    assert_eq!(second.read(&handle, 0, 3), Answer::Data(b"123".to_vec()));
    assert_eq!(second.on(kind::CLOSE, &handle), OK);
    let handle = second.open(b"file", flag::READ, None).handle();
    assert_eq!(second.read(&handle, 3, 100), Answer::Data(b"45678".to_vec()));
    assert_eq!(second.on(kind::CLOSE, &handle), OK);
    let handle = second.open(b"file", flag::READ, None).handle();
    assert_eq!(second.read(&handle, 0, 1), Answer::Data(b"1".to_vec()));
    drop(second);
    master.wait_for_activity("the download that broke off", |record| {
        record.sender == "Download" && record.outcome == Some(Outcome::Aborted)
    });
    let downloads: Vec<_> = master.activity().into_iter().filter(|record| record.sender == "Download").collect();
    let outcomes: Vec<_> =
        downloads.iter().map(|record| (record.outcome.unwrap(), record.size_bytes.unwrap())).collect();
    assert_eq!(outcomes, [(Outcome::Partial, 3), (Outcome::Resumed, 5), (Outcome::Aborted, 1)]);
}

#[test]
fn an_upload_is_on_record_under_the_name_that_it_got_and_not_at_all_where_there_was_none() {
    let master = Machine::master().start();
    let mut raw = Raw::greeted(&master, USER);
    let mkdir = |raw: &mut Raw, path: &[u8]| {
        raw.ask(kind::MKDIR, |out| {
            put_bytes(out, path);
            Attrs::default().put(out);
        })
    };
    assert_eq!(mkdir(&mut raw, b"in"), OK);
    let handle = raw.open(b"in/file", NEW, None).handle();
    assert_eq!(raw.write(&handle, 0, b"x"), OK);
    let mut other = Raw::greeted(&master, USER);
    let renamed = other.ask(kind::RENAME, |out| {
        put_bytes(out, b"in");
        put_bytes(out, b"out");
    });
    assert_eq!(renamed, OK);
    assert_eq!(raw.on(kind::CLOSE, &handle), OK);
    master.wait_for_activity("the upload in the renamed folder", |record| {
        record.sender == "Upload" && record.file_path.as_deref() == Some("/out/file")
    });
    // Attributes that are set by a handle on a complete file are a change like any other; what is read by a
    // handle that writes is a download.
    let handle = raw.open(b"out/file", flag::READ, None).handle();
    let set = raw.ask(kind::FSETSTAT, |out| {
        put_bytes(out, &handle);
        Attrs { mode: Some(0o600), ..Attrs::default() }.put(out);
    });
    assert_eq!(set, OK);
    assert_eq!(raw.on(kind::CLOSE, &handle), OK);
    master.wait_for_activity("the mode set by a handle", |record| {
        record.sender == "Chmod" && record.file_path.as_deref() == Some("/out/file")
    });
    let handle = raw.open(b"out/file", flag::READ | flag::WRITE, None).handle();
    assert_eq!(raw.read(&handle, 0, 10), Answer::Data(b"x".to_vec()));
    assert_eq!(raw.on(kind::CLOSE, &handle), OK);
    master.wait_for_activity("what a handle that writes has read", |record| {
        record.sender == "Download" && record.outcome == Some(Outcome::Partial) && record.size_bytes == Some(1)
    });
    // An empty file is an upload; a handle that changes nothing is none.
    let handle = raw.open(b"empty", NEW, None).handle();
    assert_eq!(raw.on(kind::CLOSE, &handle), OK);
    let handle = raw.open(b"empty", flag::WRITE, None).handle();
    assert_eq!(raw.on(kind::CLOSE, &handle), OK);
    // One that its own connection removes is not complete.
    let handle = raw.open(b"gone", NEW, None).handle();
    assert_eq!(raw.write(&handle, 0, b"x"), OK);
    assert_eq!(raw.on(kind::REMOVE, b"gone"), OK);
    assert_eq!(raw.on(kind::CLOSE, &handle), OK);
    master.wait_for_activity("the removed upload's end", |record| record.outcome == Some(Outcome::Aborted));
    let uploads: Vec<_> = of_files(&master).into_iter().filter(|(sender, ..)| sender == "Upload").collect();
    let expected = [
        entry("Upload", "/out/file", Outcome::Complete),
        entry("Upload", "/empty", Outcome::Complete),
        entry("Upload", "/gone", Outcome::Aborted),
    ];
    assert_eq!(uploads, expected);
}

#[test]
fn two_handles_on_one_upload_replace_nothing() {
    let master = Machine::master().start();
    let mut raw = Raw::greeted(&master, USER);
    let handles = [raw.open(b"file", NEW, None).handle(), raw.open(b"file", flag::WRITE, None).handle()];
    for (number, handle) in handles.iter().enumerate() {
        assert_eq!(raw.write(handle, number as u64 * 4, b"part"), OK);
    }
    for handle in &handles {
        assert_eq!(raw.on(kind::CLOSE, handle), OK);
    }
    drop(raw);
    master.wait_for_activity("the end of the session", |record| record.sender == "logout");
    let expected = [entry("Upload", "/file", Outcome::Complete), entry("Upload", "/file", Outcome::Complete)];
    assert_eq!(of_files(&master), expected);
}

#[test]
fn however_long_names_are_records_stay_short() {
    let master = Machine::master().start();
    let long = "\u{1}".repeat(100_000);
    assert!(!master.sftp((&"n".repeat(2000), "x")).can_log_in());
    let mut raw = Raw::greeted(&master, USER);
    for kind in [kind::REMOVE, kind::RMDIR, kind::OPENDIR] {
        raw.on(kind, long.as_bytes());
    }
    drop(raw);
    master.wait_for_activity("the end of the session", |record| record.sender == "logout");
    let text = std::fs::read_to_string(master.logs().join("activity.log")).unwrap();
    assert!(text.lines().all(|line| line.len() < 40_000), "{:?}", text.lines().map(str::len).max());
}

#[test]
fn of_many_files_open_at_once_each_is_on_record_once() {
    let master = Machine::master().setting("DURABILITY", "none").start();
    let mut raw = Raw::greeted(&master, USER);
    let names: Vec<String> = (0..200).map(|number| format!("file{number:03}")).collect();
    let handles: Vec<_> = names.iter().map(|name| raw.open(name.as_bytes(), NEW, None).handle()).collect();
    for round in 0..3_u64 {
        for handle in &handles {
            assert_eq!(raw.write(handle, round * 10, &[7; 10]), OK);
        }
    }
    for handle in handles.iter().rev() {
        assert_eq!(raw.on(kind::CLOSE, handle), OK);
    }
    drop(raw);
    master.wait_for_activity("the end of the session", |record| record.sender == "logout");
    let uploads: Vec<_> = master.activity().into_iter().filter(|record| record.sender == "Upload").collect();
    let mut paths: Vec<_> = uploads.iter().filter_map(|record| record.file_path.clone()).collect();
    paths.sort();
    assert_eq!(paths, names.iter().map(|name| format!("/{name}")).collect::<Vec<_>>());
    assert!(uploads.iter().all(|record| record.size_bytes == Some(30) && record.outcome == Some(Outcome::Complete)));
}

#[test]
fn a_hostile_name_is_one_record_that_a_terminal_shows_as_it_is() {
    let master = Machine::master().start();
    let mut raw = Raw::greeted(&master, USER);
    let names: [&[u8]; 5] = [
        b"a\n{\"id\":1,\"sender\":\"login\"}",
        b"\x1b[2Jcleared",
        "gpj.\u{202e}exe".as_bytes(),
        b"\xff\xfe",
        b"quote\"s and \\ too",
    ];
    for name in names {
        let handle = raw.open(name, NEW, None).handle();
        assert_eq!(raw.on(kind::CLOSE, &handle), OK);
    }
    let linked = raw.ask(kind::SYMLINK, |out| {
        put_bytes(out, b"to\n\x1b]0;title\x07");
        put_bytes(out, b"link");
    });
    assert_eq!(linked, OK);
    let refused = raw.ask(kind::OPEN, |out| {
        put_bytes(out, "users\u{202e}\n".as_bytes());
        out.put_u32(flag::WRITE);
        Attrs::default().put(out);
    });
    assert_eq!(refused, Answer::Status(Code::NoSuchFile));
    drop(raw);
    master.wait_for_activity("the end of the session", |record| record.sender == "logout");
    let text = std::fs::read_to_string(master.logs().join("activity.log")).unwrap();
    assert_eq!(text.lines().count(), 1 + names.len() + 1 + 1);
    assert!(text.chars().all(|letter| letter == '\n' || letter.escape_debug().len() == 1 || "\"\\'".contains(letter)));
    let records = master.activity();
    for name in names {
        let shown = String::from_utf8_lossy(name);
        assert!(records.iter().any(|record| record.file_path == Some(format!("/{shown}"))), "{shown:?}");
    }
    let bytes = records.iter().find_map(|record| record.file_path_escaped.clone());
    assert_eq!(bytes.as_deref(), Some("/%FF%FE"));
}

#[test]
fn a_full_disk_for_the_logs_stops_no_transfer_and_what_is_missing_is_said() {
    let mut master = Machine::master().prepare();
    let logs = master.logs();
    let (mounted, text) = run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=16k", "none"]).arg(&logs));
    if !mounted.success() {
        println!("SKIPPED: cannot mount here: {text}");
        return;
    }
    std::fs::write(logs.join("ballast"), vec![0; 12 * 1024]).unwrap();
    master.start();
    let mut raw = Raw::greeted(&master, USER);
    let mut put = |name: &str| {
        let handle = raw.open(name.as_bytes(), NEW, None).handle();
        assert_eq!(raw.write(&handle, 0, b"content"), OK);
        assert_eq!(raw.on(kind::CLOSE, &handle), OK);
    };
    let lost = || {
        let metrics = master.page("/metrics").1;
        let line = metrics.lines().find_map(|line| line.strip_prefix("sftpd_activity_lost_total "));
        line.and_then(|number| number.parse::<u64>().ok()).unwrap_or_default()
    };
    let mut count = 0;
    while lost() == 0 {
        assert!(count < 1000, "the disk for the logs never fills");
        put(&format!("file{count}"));
        count += 1;
    }
    let whole = read_activity(&logs);
    assert!(!whole.is_empty(), "what found room is there, in whole lines");
    assert_eq!(std::fs::read_dir(master.path("EPuser", "")).unwrap().count(), count);
    std::fs::remove_file(logs.join("ballast")).unwrap();
    let mut number = 0;
    eventually("the log goes on and says what is missing", || {
        put(&format!("after{number}"));
        number += 1;
        read_activity(&logs).iter().any(|record| record.sender == "Lost")
    });
    assert_eq!(master.page("/readyz").0, 200, "{}", master.page("/readyz").1);
    drop(raw);
    drop(master);
    run(Command::new("umount").arg("-l").arg(&logs));
}

#[test]
fn the_log_is_closed_at_its_size_and_goes_on_after_a_kill() {
    let mut master = Machine::master().setting("ACTIVITY_LOG__FILE_SIZE", "4KB").setting("DURABILITY", "none").start();
    let mut raw = Raw::greeted(&master, USER);
    for number in 0..60 {
        let handle = raw.open(format!("file{number}").as_bytes(), NEW, None).handle();
        assert_eq!(raw.on(kind::CLOSE, &handle), OK);
    }
    let closed = || {
        let names = std::fs::read_dir(master.logs()).unwrap().flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().starts_with("activity-20")).count()
    };
    eventually("files are closed", || closed() > 2);
    master.wait_for_activity("the last upload", |record| record.file_path.as_deref() == Some("/file59"));
    let last = master.activity().last().unwrap().id;
    master.kill();
    drop(raw);
    master.start();
    assert!(master.sftp(USER).can_log_in());
    let login =
        master.wait_for_activity("the login after the kill", |record| record.sender == "login" && record.id > last);
    assert!(login.id > last);
}

#[test]
fn the_masters_log_outlives_the_masters_disk() {
    let pair = Pair::start();
    pair.master.sftp(USER).run("mkdir from-before\n").expect_ok();
    let from_master = || {
        let folders = std::fs::read_dir(pair.standby.logs()).unwrap().flatten().map(|entry| entry.path());
        folders.filter(|path| path.is_dir()).flat_map(|path| read_activity(&path)).collect::<Vec<_>>()
    };
    let same = || {
        let ours = pair.master.activity();
        !ours.is_empty() && from_master() == ours && ours.last().is_some_and(|record| record.sender == "logout")
    };
    eventually("the standby has the master's log", same);
    std::fs::remove_dir_all(pair.master.logs()).unwrap();
    pair.master.sftp(USER).run("mkdir from-after\n").expect_ok();
    let has = |path: &str| from_master().iter().any(|record| record.file_path.as_deref() == Some(path));
    eventually("the standby has both", || has("/from-before") && has("/from-after"));
}

#[test]
fn every_change_of_the_accounts_is_on_record_with_who_made_it() {
    let (master, folder) = (Machine::master().start(), tempfile::tempdir().unwrap());
    let file = folder.path().join("users.yaml");
    // No number: those of ports and times could hold it.
    std::fs::write(&file, tests::SEED.replace("\"1234\"", "\"new-password\"")).unwrap();
    let put = format!("put {} users.yaml\n", file.display());
    master.sftp(ADMIN).run(&put).expect_ok();
    std::fs::write(&file, "users: [").unwrap();
    assert!(!master.sftp(ADMIN).run(&put).ok);
    let refused = master.wait_for_activity("the refusal", |record| {
        record.sender == "Accounts" && record.outcome == Some(Outcome::Refused)
    });
    assert!(refused.error.as_deref().is_some_and(|error| error.starts_with("users.yaml:1:")), "{refused:?}");
    let records: Vec<_> = master.activity().into_iter().filter(|record| record.sender == "Accounts").collect();
    assert!(records.iter().all(|record| record.username == "admin" && !record.remote_addr.is_empty()), "{records:?}");
    assert_eq!(records.len(), 2);
    let text = std::fs::read_to_string(master.logs().join("activity.log")).unwrap();
    assert!(!text.contains("new-password"), "no password is on record");
}

#[test]
fn a_login_is_on_record_with_the_algorithms_that_its_connection_uses() {
    let master = Machine::master().start();
    let cases = [
        (["Ciphers=aes256-gcm@openssh.com", "KexAlgorithms=curve25519-sha256"], "aes256-gcm@openssh.com", None),
        (
            ["Ciphers=chacha20-poly1305@openssh.com", "MACs=hmac-sha2-256-etm@openssh.com"],
            "chacha20-poly1305@openssh.com",
            None,
        ),
        (
            ["Ciphers=aes192-ctr", "MACs=hmac-sha2-512-etm@openssh.com"],
            "aes192-ctr",
            Some("hmac-sha2-512-etm@openssh.com"),
        ),
    ];
    for (number, (options, cipher, mac)) in cases.into_iter().enumerate() {
        let client = options.iter().fold(master.sftp(USER), |client, option| client.option(option));
        // What OpenSSH itself says that it has agreed on.
        let (_, said) = run(client.command("sftp").args(["-v", "-b", "/dev/null", &client.target()]));
        assert!(said.contains(&format!("cipher: {cipher}")), "{said}");
        let is_it = |record: &&Activity| record.sender == "login";
        eventually("the login is on record", || master.activity().iter().filter(is_it).count() == number + 1);
        let record = master.activity().into_iter().rfind(|record| record.sender == "login").unwrap();
        assert_eq!((record.cipher.as_deref(), record.mac.as_deref()), (Some(cipher), mac), "{record:?}");
        let kex = record.kex.unwrap();
        assert!(said.contains(&format!("kex: algorithm: {kex}")), "{kex} {said}");
        assert_eq!(record.old_algorithms, None);
    }
}
