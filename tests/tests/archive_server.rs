//! What agents may do, the chain over what they send, and what verifies it: real programs and real clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Command;

use pair::control::{Answer, Archive, Order};
use pair::wire::{Attrs, Code, kind, open_flag as flag, put_bytes};
use tests::raw::Answer as Raws;
use tests::step::NEW;
use tests::{ADMIN, Duo, Machine, Raw, SEED, binary, eventually};

const OK: Raws = Raws::Status(Code::Ok);
const DENIED: Raws = Raws::Status(Code::PermissionDenied);
const FAILED: Raws = Raws::Status(Code::Failure);

const AGENT: (&str, &str) = ("agent01", "let-me-log-1");

fn users(more: &str) -> String {
    format!("{SEED}agents:\n  agent01: \"let-me-log-1\"\n{more}")
}

/// A machine with agents that seals each second.
fn machine() -> Machine {
    let machine = Machine::master().users(&users("")).setting("ARCHIVE__SEAL_EVERY", "1s").start();
    std::fs::create_dir_all(machine.path(AGENT.0, "")).unwrap();
    machine
}

fn put(raw: &mut Raw, path: &[u8], content: &[u8]) -> Raws {
    let handle = raw.open(path, NEW, None).handle();
    assert_eq!(raw.write(&handle, 0, content), OK);
    raw.on(kind::CLOSE, &handle)
}

fn append(raw: &mut Raw, path: &[u8], offset: u64, content: &[u8]) -> Raws {
    let handle = raw.open(path, flag::WRITE, None).handle();
    assert_eq!(raw.write(&handle, offset, content), OK);
    raw.on(kind::CLOSE, &handle)
}

fn read(machine: &Machine, path: &str) -> String {
    std::fs::read_to_string(machine.path(AGENT.0, path)).unwrap()
}

fn set(raw: &mut Raw, request: u8, what: &[u8], attrs: Attrs) -> Raws {
    raw.ask(request, |out| {
        put_bytes(out, what);
        attrs.put(out);
    })
}

fn archive(machine: &Machine) -> Archive {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(pair::control::ask(&machine.state(), &Order::Archive {})).unwrap() {
        Answer::Archive(archive) => *archive,
        other => panic!("{other:?}"),
    }
}

/// Waits until all that has come is in the chain, and gives its newest digest.
fn sealed(machine: &Machine, files: u64) -> String {
    eventually("all is sealed", || {
        let archive = archive(machine);
        archive.chain.unsealed_files == 0 && archive.agents.iter().filter_map(|agent| agent.files).sum::<u64>() == files
    });
    archive(machine).chain.last.unwrap().digest
}

/// `filesync archive verify`: whether all is well, and what it says.
fn verify(machine: &Machine, options: &[&str]) -> (bool, String) {
    let mut command = Command::new(binary("filesync"));
    command.arg("--data").arg(machine.data()).args(["archive", "verify"]).args(options);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn an_agent_continues_a_complete_file_at_its_end_and_alters_nothing_of_it() {
    let machine = machine();
    let mut raw = Raw::greeted(&machine, AGENT);
    assert_eq!(put(&mut raw, b"app.log", b"first\n"), OK);
    assert_eq!(append(&mut raw, b"app.log", 6, b"second\n"), OK);
    assert_eq!(read(&machine, "app.log"), "first\nsecond\n");
    // Where it wrote itself a moment ago it alters nothing either, nor does it leave a gap.
    for offset in [0, 5, 12, 14, 1 << 40] {
        let handle = raw.open(b"app.log", flag::WRITE, None).handle();
        assert_eq!(raw.write(&handle, offset, b"EVIL"), FAILED, "{offset}");
        assert_eq!(raw.on(kind::CLOSE, &handle), FAILED, "it must not be told that all was written");
    }
    let (first, second) =
        (raw.open(b"app.log", flag::WRITE, None), raw.open(b"app.log", flag::WRITE | flag::APPEND, None));
    let (first, second) = (first.handle(), second.handle());
    assert_eq!(raw.write(&first, 13, b"third\n"), OK);
    assert_eq!(raw.write(&second, 0, b"appended\n"), OK);
    assert_eq!(raw.write(&first, 19, b"EVIL"), FAILED);
    assert_eq!(raw.read(&first, 0, 10), DENIED);
    for attrs in [Attrs { size: Some(3), ..Attrs::default() }, Attrs { size: Some(1 << 20), ..Attrs::default() }] {
        assert_eq!(set(&mut raw, kind::FSETSTAT, &second, attrs), FAILED);
    }
    let times = Attrs { times: Some((7, 7)), mode: Some(0), size: Some(28), ..Attrs::default() };
    assert_eq!(set(&mut raw, kind::FSETSTAT, &second, times), OK);
    assert_eq!(raw.on(kind::CLOSE, &second), OK);
    drop(raw);
    assert_eq!(read(&machine, "app.log"), "first\nsecond\nthird\nappended\n", "also where its mode was to be taken");
}

#[test]
fn an_agent_neither_reads_cuts_replaces_renames_nor_removes() {
    let machine = machine();
    let mut raw = Raw::greeted(&machine, AGENT);
    assert_eq!(put(&mut raw, b"app.log", b"evidence"), OK);
    for flags in [flag::READ, flag::READ | flag::CREAT] {
        assert_eq!(raw.open(b"app.log", flags, None), DENIED);
    }
    for flags in [
        NEW,
        flag::WRITE | flag::TRUNC,
        flag::WRITE | flag::CREAT | flag::EXCL,
        flag::WRITE | flag::APPEND | flag::TRUNC,
    ] {
        assert!(!matches!(raw.open(b"app.log", flags, None), Raws::Handle(_)), "{flags:x}");
    }
    assert_eq!(raw.on(kind::REMOVE, b"app.log"), DENIED);
    for attrs in [Attrs { size: Some(0), ..Attrs::default() }, Attrs { owner: Some((1, 1)), ..Attrs::default() }] {
        assert_eq!(set(&mut raw, kind::SETSTAT, b"app.log", attrs), DENIED);
    }
    let two = |raw: &mut Raw, request: &str, old: &[u8], new: &[u8]| {
        let body = |out: &mut bytes::BytesMut| {
            put_bytes(out, old);
            put_bytes(out, new);
        };
        if request == "rename" { raw.ask(kind::RENAME, body) } else { raw.extended(request, body) }
    };
    for request in ["rename", "posix-rename@openssh.com", "hardlink@openssh.com"] {
        assert_eq!(two(&mut raw, request, b"app.log", b"moved"), DENIED, "{request}");
        assert_eq!(put(&mut raw, format!("new.{request}").as_bytes(), b"x"), OK);
        assert_eq!(two(&mut raw, request, format!("new.{request}").as_bytes(), b"app.log"), DENIED, "{request}");
    }
    assert_eq!(read(&machine, "app.log"), "evidence");
    assert!(!machine.path(AGENT.0, "moved").exists());
}

#[test]
fn sftp_continues_a_log_with_reput_and_cannot_get_it() {
    let machine = machine();
    let folder = tempfile::tempdir().unwrap();
    let (log, copy) = (folder.path().join("app.log"), folder.path().join("copy"));
    std::fs::write(&log, "one\n").unwrap();
    let sftp = machine.sftp(AGENT);
    sftp.run(&format!("put {}\n", log.display())).expect_ok();
    std::fs::write(&log, "one\ntwo\n").unwrap();
    sftp.run(&format!("reput {}\n", log.display())).expect_ok();
    assert_eq!(read(&machine, "app.log"), "one\ntwo\n");
    sftp.run(&format!("put {}\n", log.display())).expect_failure("ermission denied");
    sftp.run(&format!("get app.log {}\n", copy.display())).expect_failure("ermission denied");
    sftp.run("rename app.log other\n").expect_failure("ermission denied");
    assert_eq!(read(&machine, "app.log"), "one\ntwo\n");
}

#[test]
fn only_agents_continue_what_is_complete() {
    let more = "  2:\n    name: box\n    password: drop-box-1\n    upload_only: true\n";
    let users = format!("{SEED}{more}agents:\n  agent01: \"let-me-log-1\"\n");
    let machine = Machine::master().users(&users).start();
    let mut raw = Raw::greeted(&machine, ("box", "drop-box-1"));
    assert_eq!(put(&mut raw, b"x", b"complete"), OK);
    assert_eq!(raw.open(b"x", flag::WRITE, None), DENIED);
    assert_eq!(raw.open(b"x", flag::WRITE | flag::APPEND, None), DENIED);
}

#[test]
fn agents_come_and_go_with_users_yaml_and_their_passwords_are_masked() {
    let machine = machine();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.yaml");
    let stored = || std::fs::read_to_string(machine.path("admin", "users.yaml")).unwrap();
    assert!(stored().contains("agent01: \"^^^^^^^^^^^^\"") && !stored().contains("let-me"), "{}", stored());
    std::fs::write(&file, stored() + "  agent02: {password: another-one, keep: 400d, keep_size: 1GiB}\n").unwrap();
    machine.sftp(ADMIN).run(&format!("put {} users.yaml\n", file.display())).expect_ok();
    let result = std::fs::read_to_string(machine.path("admin", "users.yaml.result")).unwrap();
    assert!(result.starts_with("ACCEPTED") && result.contains("+ agent02"), "{result}");
    let agents = archive(&machine).agents;
    assert_eq!(agents.iter().map(|agent| agent.name.as_str()).collect::<Vec<_>>(), ["agent01", "agent02"]);
    assert_eq!((agents[1].keep_s, agents[1].keep_bytes), (Some(400 * 86_400), Some(1 << 30)));
    assert!(machine.sftp(AGENT).can_log_in() && machine.sftp(("agent02", "another-one")).can_log_in());
    let (before, wrong) = (stored(), stored().replace("keep: 400d", "keep: 400"));
    std::fs::write(&file, wrong).unwrap();
    machine.sftp(ADMIN).run(&format!("put {} users.yaml\n", file.display())).expect_failure("Failure");
    let result = machine.result();
    assert!(result.starts_with("REFUSED") && result.contains("`keep` says how long a file is kept"), "{result}");
    assert_eq!(stored(), before);
}

#[test]
fn the_chain_tells_of_all_that_came_and_verify_names_whoever_tampered_with_it() {
    let machine = machine();
    let mut raw = Raw::greeted(&machine, AGENT);
    assert_eq!(put(&mut raw, b"app.log", b"first\n"), OK);
    assert_eq!(put(&mut raw, b"other.log", b"other\n"), OK);
    let early = sealed(&machine, 2);
    assert_eq!(append(&mut raw, b"app.log", 6, b"second\n"), OK);
    eventually("it has grown in the chain", || archive(&machine).agents[0].bytes == Some(19));
    let digest = sealed(&machine, 2);
    assert_ne!(early, digest);
    let (is_clean, text) = verify(&machine, &["--expect", &digest]);
    assert!(is_clean && text.contains("all is as it was sent"), "{text}");
    machine.wait_for_activity("the digest", |record| {
        record.sender == "Archive" && record.method.as_ref().is_some_and(|method| method.contains(&digest))
    });
    // Sealed by the machine itself, and its clients cannot come near it.
    assert!(!machine.sftp(AGENT).run("ls /admin\n").ok);
    std::fs::write(machine.path(AGENT.0, "app.log"), "first\nSecond\n").unwrap();
    let (is_clean, text) = verify(&machine, &[]);
    assert!(
        !is_clean && text.contains("ALTERED") && text.contains("agent01/app.log: its bytes from 6 to 13"),
        "{text}"
    );
    std::fs::remove_file(machine.path(AGENT.0, "app.log")).unwrap();
    let (is_clean, text) = verify(&machine, &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&text[..=text.rfind('}').unwrap()]).unwrap();
    assert!(!is_clean && json["findings"][0]["fault"] == "missing", "{text}");
    assert!(verify(&machine, &["--agent", "agent02"]).0, "it is about no other agent");
}

#[test]
fn a_kill_in_the_middle_leaves_a_whole_chain() {
    let mut machine = machine();
    for round in 0..5 {
        let mut raw = Raw::greeted(&machine, AGENT);
        for number in 0..10 {
            assert_eq!(put(&mut raw, format!("log.{round}.{number}").as_bytes(), b"content"), OK);
        }
        drop(raw);
        machine.kill();
        machine.start();
    }
    let digest = sealed(&machine, 50);
    let (is_clean, text) = verify(&machine, &["--expect", &digest]);
    assert!(is_clean, "{text}");
}

#[test]
fn after_a_takeover_the_chain_goes_on_with_what_was_in_no_segment_and_both_machines_verify_it() {
    let mut duo = Duo::start_with(&[("USERS_YAML", &users("")), ("ARCHIVE__SEAL_EVERY", "1h")], &[]);
    let mut raw = Raw::greeted(&duo.machines[0], AGENT);
    assert_eq!(put(&mut raw, b"sealed.log", b"first\n"), OK);
    let digest = sealed(&duo.machines[0], 1);
    // Within the hour nothing more is sealed.
    assert_eq!(append(&mut raw, b"sealed.log", 6, b"second\n"), OK);
    assert_eq!(put(&mut raw, b"young.log", b"young\n"), OK);
    drop(raw);
    duo.wait_until_equal();
    eventually("the standby lets the agent in", || duo.machines[1].sftp(AGENT).can_log_in());
    for machine in &duo.machines {
        let (is_clean, text) = verify(machine, &["--expect", &digest]);
        assert!(is_clean && text.contains("2 files came or grew since"), "{text}");
    }
    duo.machines[0].kill();
    duo.mirrors[0].kill();
    duo.moved(1, &["promote"]);
    let newest = sealed(&duo.machines[1], 2);
    assert_eq!(archive(&duo.machines[1]).chain.last.unwrap().number, 2);
    let (is_clean, text) = verify(&duo.machines[1], &["--expect", &digest]);
    assert!(is_clean && !text.contains("came or grew"), "{text}");
    duo.machines[0].start();
    duo.mirrors[0].start();
    duo.wait_until_follows(0);
    duo.wait_until_equal();
    let (is_clean, text) = verify(&duo.machines[0], &["--expect", &newest]);
    assert!(is_clean, "{text}");
    // For a moment after it was the master it sends everybody away.
    eventually("the old master lets the agent in", || duo.machines[0].sftp(AGENT).can_log_in());
    let on_standby = Raw::greeted(&duo.machines[0], AGENT).open(b"sealed.log", flag::WRITE, None);
    assert!(!matches!(on_standby, Raws::Handle(_)), "a standby takes nothing");
}
