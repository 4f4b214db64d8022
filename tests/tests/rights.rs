//! What an account may do, and when and from where: as users.yaml says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use pair::wire::{Attrs, Code, kind, open_flag as flag, put_bytes};
use tests::raw::Answer;
use tests::step::NEW;
use tests::{ADMIN, Machine, Raw, SEED, USER, eventually};

const OK: Answer = Answer::Status(Code::Ok);
const DENIED: Answer = Answer::Status(Code::PermissionDenied);

/// A machine whose user has more lines.
fn machine_with(lines: &str) -> Machine {
    let machine = Machine::master().users(&format!("{SEED}{lines}")).start();
    std::fs::create_dir_all(machine.path(USER.0, "")).unwrap();
    machine
}

/// Gives the user other lines, as an admin does.
fn change(machine: &Machine, lines: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.yaml");
    std::fs::write(&file, format!("{SEED}{lines}")).unwrap();
    machine.sftp(ADMIN).run(&format!("put {} users.yaml\n", file.display())).expect_ok();
}

fn put(raw: &mut Raw, path: &[u8], flags: u32) -> Answer {
    match raw.open(path, flags, None) {
        Answer::Handle(handle) => {
            assert_eq!(raw.write(&handle, 0, b"new"), OK);
            raw.on(kind::CLOSE, &handle)
        }
        refused => refused,
    }
}

fn set(raw: &mut Raw, path: &[u8], attrs: Attrs) -> Answer {
    raw.ask(kind::SETSTAT, |out| {
        put_bytes(out, path);
        attrs.put(out);
    })
}

fn two(raw: &mut Raw, request: &str, old: &[u8], new: &[u8]) -> Answer {
    let body = |out: &mut bytes::BytesMut| {
        put_bytes(out, old);
        put_bytes(out, new);
    };
    if request == "rename" { raw.ask(kind::RENAME, body) } else { raw.extended(request, body) }
}

#[test]
fn a_drop_box_takes_what_is_new_and_gives_replaces_and_removes_nothing() {
    let machine = machine_with("    upload_only: true\n");
    std::fs::write(machine.path(USER.0, "theirs"), "of another partner").unwrap();
    std::fs::create_dir(machine.path(USER.0, "folder")).unwrap();
    let mut raw = Raw::greeted(&machine, USER);
    assert_eq!(put(&mut raw, b"mine", NEW), OK);
    assert_eq!(put(&mut raw, b"folder/mine", NEW | flag::EXCL), OK);
    assert!(raw.list(b"/").unwrap().iter().any(|entry| entry.name == b"theirs"), "names and sizes are seen");
    for path in [&b"theirs"[..], b"mine"] {
        for flags in [flag::READ, flag::READ | flag::CREAT, flag::READ | flag::TRUNC, 1 << 30] {
            assert_eq!(raw.open(path, flags, None), DENIED, "{flags:x}");
        }
        for flags in [NEW, flag::WRITE, flag::WRITE | flag::APPEND, flag::WRITE | flag::READ] {
            assert_eq!(put(&mut raw, path, flags), DENIED, "{flags:x}");
        }
        assert_eq!(raw.on(kind::REMOVE, path), DENIED);
        for attrs in [Attrs { size: Some(0), ..Attrs::default() }, Attrs { owner: Some((1, 1)), ..Attrs::default() }] {
            assert_eq!(set(&mut raw, path, attrs), DENIED);
        }
    }
    assert_eq!(set(&mut raw, b"theirs", Attrs { mode: Some(0), ..Attrs::default() }), DENIED);
    assert_eq!(set(&mut raw, b"/", Attrs { mode: Some(0o500), ..Attrs::default() }), DENIED);
    assert_eq!(raw.on(kind::REMOVE, b"missing"), Answer::Status(Code::NoSuchFile));
    assert_eq!(raw.on(kind::RMDIR, b"folder"), DENIED);
    assert_eq!(two(&mut raw, "hardlink@openssh.com", b"theirs", b"link"), DENIED);
    assert_eq!(two(&mut raw, "rename", b"theirs", b"moved"), DENIED);
    assert_eq!(two(&mut raw, "rename", b"folder", b"moved"), DENIED);
    for rename in ["rename", "posix-rename@openssh.com"] {
        assert_eq!(two(&mut raw, rename, b"mine", b"theirs"), Answer::Status(Code::Failure), "{rename}");
    }
    // What clients do around their uploads: a temporary name, and the time.
    assert_eq!(two(&mut raw, "rename", b"mine", b"renamed"), OK);
    assert_eq!(set(&mut raw, b"renamed", Attrs { times: Some((7, 7)), ..Attrs::default() }), OK);
    let handle = raw.open(b"reading back", NEW | flag::READ, None).handle();
    assert_eq!(raw.read(&handle, 0, 10), DENIED);
    assert_eq!(std::fs::read_to_string(machine.path(USER.0, "theirs")).unwrap(), "of another partner");
}

#[test]
fn a_second_handle_of_a_drop_box_changes_nothing_that_is_complete() {
    let machine = machine_with("    upload_only: true\n");
    let mut raw = Raw::greeted(&machine, USER);
    let [first, second] = [0, 1].map(|_| raw.open(b"x", NEW, None).handle());
    assert_eq!(raw.write(&first, 0, b"complete"), OK);
    assert_eq!(raw.on(kind::CLOSE, &first), OK);
    assert_eq!(raw.write(&second, 0, b"EVIL"), DENIED);
    assert_eq!(raw.on(kind::CLOSE, &second), Answer::Status(Code::Failure));
    assert_eq!(std::fs::read_to_string(machine.path(USER.0, "x")).unwrap(), "complete");
}

#[test]
fn what_another_account_completes_meanwhile_is_safe_from_a_drop_box() {
    let users =
        format!("{SEED}    upload_only: true\n  2:\n    name: other\n    password: other-one\n    home: EPuser\n");
    let machine = Machine::master().users(&users).start();
    let (mut drop_box, mut other) = (Raw::greeted(&machine, USER), Raw::greeted(&machine, ("other", "other-one")));
    assert_eq!(put(&mut drop_box, b"mine", NEW), OK);
    for round in 0..60 {
        let name = format!("file-{round}");
        let handle = other.open(name.as_bytes(), NEW, None).handle();
        assert_eq!(other.write(&handle, 0, b"theirs"), OK);
        let close = tests::raw::packet(kind::CLOSE, |out| {
            bytes::BufMut::put_u32(out, 7);
            put_bytes(out, &handle);
        });
        // While it is on its way to its name, the name is to be removed and to be replaced.
        other.send(&close);
        drop_box.on(kind::REMOVE, name.as_bytes());
        two(&mut drop_box, "posix-rename@openssh.com", b"mine", name.as_bytes());
        let closed = tests::raw::parse(&other.receive()).1;
        let there = std::fs::read_to_string(machine.path(USER.0, &name));
        if closed == OK && machine.path(USER.0, "mine").exists() {
            assert_eq!(there.unwrap(), "theirs", "round {round}");
        } else if closed == OK {
            // The rename came first, and the upload behind it replaced it, as that account may.
            assert_eq!(there.unwrap(), "theirs", "round {round}");
            assert_eq!(put(&mut drop_box, b"mine", NEW), OK);
        }
    }
}

#[test]
fn a_drop_box_lets_a_broken_upload_be_continued_and_removed() {
    let machine = machine_with("    upload_only: true\n");
    let mut raw = Raw::greeted(&machine, USER);
    let handle = raw.open(b"x", NEW, None).handle();
    assert_eq!(raw.write(&handle, 0, b"half"), OK);
    drop(raw);
    let mut raw = Raw::greeted(&machine, USER);
    eventually("the first connection is gone", || matches!(raw.open(b"x", flag::WRITE, None), Answer::Handle(_)));
    let handle = raw.open(b"x", flag::WRITE, None).handle();
    assert_eq!(raw.write(&handle, 0, b"all of it"), OK);
    assert_eq!(raw.on(kind::CLOSE, &handle), OK);
    let broken = raw.open(b"y", NEW, None).handle();
    assert_eq!(raw.write(&broken, 0, b"half"), OK);
    assert_eq!(raw.on(kind::REMOVE, b"y"), OK);
}

#[test]
fn real_clients_fill_a_drop_box() {
    let machine = machine_with("    upload_only: true\n");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("up"), "content").unwrap();
    let up = folder.path().join("up");
    machine
        .sftp(USER)
        .run(&format!("put -p {} a\nls -l\nmkdir d\nput {} d/b\n", up.display(), up.display()))
        .expect_ok();
    let refused = machine.sftp(USER).run(&format!("get a {}\n", folder.path().join("down").display()));
    assert!(!refused.ok && !folder.path().join("down").exists(), "{}", refused.text);
    for client in tests::matrix::CLIENTS.iter().filter(|client| client.is_there() && client.needs != "filezilla") {
        let desk = tests::matrix::Desk::new(&machine, machine.address(), USER);
        let act = tests::matrix::Act::Put(&up, client.needs);
        let (_, text) = tests::run(&mut (client.command)(&desk, &act).unwrap());
        let arrived = std::fs::read_to_string(machine.path(USER.0, client.needs));
        assert!(arrived.is_ok_and(|arrived| arrived == "content"), "{}: {text}", client.name);
    }
}

#[test]
fn an_account_has_no_more_sessions_than_its_own_line_says() {
    let machine = machine_with("    max_sessions: 1\n");
    let first = Raw::greeted(&machine, USER);
    assert!(!machine.sftp(USER).can_log_in());
    assert!(machine.sftp(ADMIN).can_log_in(), "of others it says nothing");
    drop(first);
    eventually("there is room again", || machine.sftp(USER).can_log_in());
}

#[test]
fn who_comes_from_elsewhere_is_a_stranger() {
    let machine = machine_with("    allow_from: [\"198.51.100.0/24\", \"2001:db8::/32\"]\n");
    assert!(!machine.sftp(USER).can_log_in());
    assert!(machine.sftp(ADMIN).can_log_in());
    change(&machine, "    allow_from: [\"127.0.0.0/8\"]\n");
    let mut raw = Raw::greeted(&machine, USER);
    assert!(machine.sftp(USER).can_log_in());
    change(&machine, "    allow_from: [\"203.0.113.7\"]\n");
    assert_eq!(raw.try_receive(), None, "who is there already must leave");
    assert!(machine.result().contains("~ EPuser: new allow_from"), "{}", machine.result());
}

#[test]
fn an_account_ends_on_its_day_also_for_who_is_there() {
    let machine = machine_with("    expires: 2020-01-31\n");
    assert!(!machine.sftp(USER).can_log_in());
    change(&machine, "    expires: 2100-01-31\n");
    assert!(machine.sftp(USER).can_log_in());
    let mut raw = Raw::greeted(&machine, USER);
    let (_, soon) =
        tests::run(std::process::Command::new("date").args(["-u", "-d", "+3 seconds", "+%Y-%m-%dT%H:%M:%SZ"]));
    change(&machine, &format!("    expires: \"{}\"\n", soon.trim()));
    assert_eq!(raw.try_receive(), None, "the session ends with the account");
    assert!(!machine.sftp(USER).can_log_in());
}

#[test]
fn what_is_limited_arrives_whole_and_a_new_limit_counts_at_once() {
    let machine = machine_with("    upload_limit: 2MB/s\n    download_limit: 2MB/s\n");
    let folder = tempfile::tempdir().unwrap();
    let (up, down) = (folder.path().join("up"), folder.path().join("down"));
    std::fs::write(&up, tests::matrix::content(1, 3_000_001)).unwrap();
    machine.sftp(USER).run(&format!("put {} x\nget x {}\n", up.display(), down.display())).expect_ok();
    assert!(std::fs::read(&up).unwrap() == std::fs::read(&down).unwrap());
    // At a KiB a second this upload takes half an hour, unless the limit goes while it is under way.
    change(&machine, "    upload_limit: 2KiB/s\n");
    let slow = machine.sftp(USER).start_upload(&up, "y", 50_000);
    let stages = || std::fs::read_dir(machine.data().join(".pair/stage")).unwrap().count();
    eventually("it has begun", || stages() == 1);
    assert!(!machine.path(USER.0, "y").exists());
    change(&machine, "");
    eventually("it is there", || machine.path(USER.0, "y").exists());
    drop(slow);
    assert!(std::fs::read(&up).unwrap() == std::fs::read(machine.path(USER.0, "y")).unwrap());
}

#[test]
fn wrong_lines_are_named_with_what_to_write() {
    let machine = machine_with("");
    let cases = [
        ("upload_limit: fast", "9:19: `upload_limit` is a number of bytes per second: 5MB/s, 512KiB/s"),
        ("download_limit: 100B/s", "9:21: `download_limit` is below 1KiB/s"),
        ("max_sessions: none", "9:19: `max_sessions` is a number from 1 on"),
        ("allow_from: [\"10.0.0.0/33\"]", "\"10.0.0.0/33\" is no address or network"),
        ("expires: tomorrow", "9:14: `expires` is the day from which on the account is closed (2027-01-31, in UTC)"),
        ("upload_only: true\n    upload: direct", "EPuser cannot be `upload_only` and write `direct`"),
        ("upload_only: true\n    read_only: true", "EPuser cannot be both `read_only` and `upload_only`"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.yaml");
    for (line, sentence) in cases {
        std::fs::write(&file, format!("{SEED}    {line}\n")).unwrap();
        assert!(!machine.sftp(ADMIN).run(&format!("put {} users.yaml\n", file.display())).ok);
        assert!(machine.result().contains(sentence), "{line}: {}", machine.result());
    }
    assert!(machine.sftp(USER).can_log_in());
}

#[test]
fn a_hash_that_sftpd_has_made_logs_in_and_says_nothing() {
    let hash = |password: &str| {
        let mut child = std::process::Command::new(tests::binary("sftpd"))
            .arg("hash-password")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), password.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, made) = hash("correct horse\n");
    assert_eq!(code, Some(0));
    assert!(made.starts_with("$argon2id$") && !made.contains("horse"), "{made}");
    let machine = machine_with("");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.yaml");
    std::fs::write(&file, SEED.replace("\"1234\"", &format!("\"{}\"", made.trim()))).unwrap();
    machine.sftp(ADMIN).run(&format!("put {} users.yaml\n", file.display())).expect_ok();
    assert!(machine.sftp((USER.0, "correct horse")).can_log_in() && !machine.sftp(USER).can_log_in());
    assert_eq!(hash("\n").0, Some(2));
    assert_eq!(hash("tab\there\n").0, Some(2));
}
