//! The extensions that OpenSSH's server cannot referee, and copies and checksums that take more than one turn.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use bytes::{BufMut, BytesMut};
use pair::extension::Whoami;
use pair::node::Role;
use pair::wire::{Code, Reader, kind, open_flag as flag, put_bytes};
use sha2::{Digest, Sha256};
use tests::matrix::content;
use tests::raw::{Answer, packet, parse};
use tests::step::NEW;
use tests::{ADMIN, Machine, Raw, USER};

/// More than two turns of the server.
const LARGE_BYTES: usize = 20 * 1024 * 1024 + 12_345;

fn digest(data: &[u8]) -> Vec<u8> {
    Sha256::digest(data).to_vec()
}

/// A machine with this file in the user's folder.
fn machine_with(name: &str, content: &[u8]) -> (Machine, Raw) {
    let machine = Machine::master().start();
    let raw = Raw::greeted(&machine, USER);
    std::fs::write(machine.path(USER.0, name), content).unwrap();
    (machine, raw)
}

fn check(out: &mut BytesMut, what: &[u8], algorithms: &str, start: u64, length: u64, block: u32) {
    put_bytes(out, what);
    put_bytes(out, algorithms.as_bytes());
    out.put_u64(start);
    out.put_u64(length);
    out.put_u32(block);
}

/// The algorithm that was used, and the hashes.
#[track_caller]
fn hashes(answer: Answer) -> (String, Vec<u8>) {
    let Answer::Extended(body) = answer else { panic!("no hashes but {answer:?}") };
    let mut fields = Reader(&body);
    (String::from_utf8(fields.bytes().unwrap().to_vec()).unwrap(), fields.0.to_vec())
}

#[test]
fn a_file_is_hashed_by_name_in_one_or_in_blocks() {
    let data = content(1, LARGE_BYTES);
    let (_machine, mut raw) = machine_with("x", &data);
    let mut ask = |algorithms: &str, start, length, block| {
        raw.extended("check-file-name", |out| check(out, b"x", algorithms, start, length, block))
    };
    assert_eq!(hashes(ask("crc32,sha256,md5", 0, 0, 0)), ("sha256".into(), digest(&data)));
    assert_eq!(hashes(ask("sha256", 1000, 50, 0)).1, digest(&data[1000..1050]));
    assert_eq!(hashes(ask("sha256", 1000, u64::MAX, 0)).1, digest(&data[1000..]), "past the end is to the end");
    assert_eq!(hashes(ask("sha256", LARGE_BYTES as u64, 0, 0)).1, digest(b""));
    let blocks: Vec<u8> = data[77..].chunks(5_000_000).flat_map(digest).collect();
    assert_eq!(hashes(ask("sha256", 77, 0, 5_000_000)).1, blocks);
    for (name, bytes) in [("sha512", 64), ("sha384", 48), ("sha224", 28), ("sha1", 20), ("md5", 16)] {
        assert_eq!(hashes(ask(name, 0, 0, 0)).1.len(), bytes, "{name}");
    }
    let refused = [("crc32", 0, 0, 0), ("sha256", 0, 0, 255), ("sha256", 0, 0, 256), ("sha256", u64::MAX, 0, 0)];
    for (algorithms, start, length, block) in refused {
        assert_eq!(
            ask(algorithms, start, length, block),
            Answer::Status(Code::Failure),
            "{algorithms} {start} {block}"
        );
    }
}

#[test]
fn a_handle_is_hashed_as_paramiko_asks_and_as_the_draft_has_it() {
    let (_machine, mut raw) = machine_with("x", b"content");
    let handle = raw.open(b"x", flag::READ, None).handle();
    let expected = ("sha256".to_owned(), Sha256::digest(b"content").to_vec());
    let found = raw.extended("check-file-handle", |out| check(out, &handle, "sha256", 0, 0, 0));
    assert_eq!(hashes(found), expected);
    let Answer::Extended(body) = raw.extended("check-file", |out| check(out, &handle, "sha256", 0, 0, 0)) else {
        panic!("no hashes")
    };
    let mut fields = Reader(&body);
    assert_eq!(fields.bytes(), Ok(&b"check-file"[..]));
    assert_eq!(hashes(Answer::Extended(fields.0.to_vec())), expected);

    let upload = raw.open(b"y", NEW, None).handle();
    raw.write(&upload, 0, b"half");
    let found = raw.extended("check-file-handle", |out| check(out, &upload, "sha256", 0, 0, 0));
    assert_eq!(hashes(found).1, Sha256::digest(b"half").to_vec(), "an upload as far as it has come");
    let missing = raw.extended("check-file-name", |out| check(out, b"../../etc/passwd", "sha256", 0, 0, 0));
    assert_eq!(missing, Answer::Status(Code::NoSuchFile));
}

#[test]
fn a_close_right_behind_a_large_copy_publishes_all_of_it() {
    let data = content(1, LARGE_BYTES);
    let (machine, mut raw) = machine_with("x", &data);
    let (from, to) = (raw.open(b"x", flag::READ, None).handle(), raw.open(b"y", NEW, None).handle());
    let copy = packet(kind::EXTENDED, |out| {
        out.put_u32(1001);
        put_bytes(out, b"copy-data");
        put_bytes(out, &from);
        out.put_u64(0);
        out.put_u64(0);
        put_bytes(out, &to);
        out.put_u64(0);
    });
    let on = |number: u32, kind: u8, handle: &[u8]| {
        packet(kind, |out| {
            out.put_u32(number);
            put_bytes(out, handle);
        })
    };
    raw.send(&[&copy[..], &on(1002, kind::FSTAT, &to), &on(1003, kind::CLOSE, &to)].concat());
    let mut answers: Vec<_> = (0..3).map(|_| parse(&raw.receive())).collect();
    answers.sort_by_key(|(number, _)| *number);
    assert_eq!((answers[0].0, &answers[0].1), (1001, &Answer::Status(Code::Ok)));
    let Answer::Attrs(attrs) = &answers[1].1 else { panic!("{answers:?}") };
    assert_eq!(attrs.size, Some(LARGE_BYTES as u64));
    assert_eq!((answers[2].0, &answers[2].1), (1003, &Answer::Status(Code::Ok)));
    assert!(std::fs::read(machine.path(USER.0, "y")).unwrap() == data);
}

#[test]
fn an_upload_is_not_copied_into_itself_for_ever() {
    let (_machine, mut raw) = machine_with("x", b"content");
    let one = raw.open(b"y", NEW, None).handle();
    raw.write(&one, 0, b"content");
    let other = raw.open(b"y", flag::READ, None).handle();
    for from in [&one, &other] {
        let refused = raw.extended("copy-data", |out| {
            put_bytes(out, from);
            out.put_u64(0);
            out.put_u64(0);
            put_bytes(out, &one);
            out.put_u64(100);
        });
        assert_eq!(refused, Answer::Status(Code::Failure));
    }
}

fn hash_request(number: u32, bytes: u64) -> BytesMut {
    packet(kind::EXTENDED, |out| {
        out.put_u32(number);
        put_bytes(out, b"check-file-name");
        check(out, b"x", "md5", 0, bytes, 0);
    })
}

/// A machine with a file of a TiB that holds nothing, and what it has open with nobody there.
fn machine_with_a_huge_file() -> (Machine, usize) {
    let machine = Machine::master().start();
    std::fs::create_dir_all(machine.path(USER.0, "")).unwrap();
    std::fs::File::create(machine.path(USER.0, "x")).unwrap().set_len(1 << 40).unwrap();
    let before = machine.open_files_at_rest();
    (machine, before)
}

#[test]
fn long_work_in_one_burst_leaves_others_their_turn() {
    let (machine, _) = machine_with_a_huge_file();
    let (mut busy, mut other) = (Raw::greeted(&machine, USER), Raw::greeted(&machine, USER));
    // Each of them fits in one turn.
    let requests: Vec<u8> = (0..400).flat_map(|number| hash_request(number, 8 << 20)).collect();
    busy.send(&requests);
    busy.send(&hash_request(400, 8 << 20));
    assert!(matches!(other.on(kind::STAT, b"x"), Answer::Attrs(_)));
    let (_, metrics) = machine.page("/metrics");
    let line = metrics.lines().find(|line| line.contains("\"check-file-name\"")).unwrap_or("0 0");
    let done: usize = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(done < 401, "all of it was over before anybody else had a turn");
    assert!(machine.sftp(USER).can_log_in());
    assert_eq!(machine.page("/healthz").0, 200);
    for number in 0..=400 {
        assert_eq!(parse(&busy.receive()).0, number);
    }
    assert!(machine.page("/metrics").1.contains("check-file-name\"} 401"), "each request counts once");
}

#[test]
fn long_work_ends_with_its_client() {
    let (machine, before) = machine_with_a_huge_file();
    let mut gone = Raw::greeted(&machine, USER);
    gone.send(&hash_request(1, 0));
    let behind: Vec<u8> = (2..2000).flat_map(|number| hash_request(number, 8 << 20)).collect();
    gone.send(&behind);
    drop(gone);
    tests::eventually("nothing is hashed any more", || machine.open_files() <= before);
    assert!(machine.page("/metrics").1.contains("sftpd_session_panics_total 0"));
}

#[test]
fn a_session_that_waits_for_long_work_is_not_idle() {
    let machine = Machine::master().setting("LIMITS__IDLE_TIMEOUT", "1s").start();
    let mut raw = Raw::greeted(&machine, USER);
    std::fs::File::create(machine.path(USER.0, "x")).unwrap().set_len(3 << 30).unwrap();
    assert!(matches!(raw.extended("check-file-name", |out| check(out, b"x", "md5", 0, 0, 0)), Answer::Extended(_)));
    assert_eq!(raw.try_receive(), None, "idle now, it is ended");
}

#[test]
fn half_a_copy_takes_no_name() {
    let (machine, mut raw) = machine_with("x", b"0123456789");
    std::fs::write(machine.path(USER.0, "y"), "old").unwrap();
    let (from, to) = (raw.open(b"x", flag::READ, None).handle(), raw.open(b"y", NEW, None).handle());
    let mut copy = |length: u64| {
        raw.extended("copy-data", |out| {
            put_bytes(out, &from);
            out.put_u64(0);
            out.put_u64(length);
            put_bytes(out, &to);
            out.put_u64(0);
        })
    };
    assert_eq!(copy(10), Answer::Status(Code::Ok));
    assert_eq!(copy(11), Answer::Status(Code::Eof));
    assert_eq!(raw.on(kind::CLOSE, &to), Answer::Status(Code::Failure));
    assert_eq!(std::fs::read(machine.path(USER.0, "y")).unwrap(), b"old");
}

#[test]
fn a_users_yaml_in_memory_is_copied_to_no_file() {
    let machine = Machine::master().start();
    let mut raw = Raw::greeted(&machine, tests::ADMIN);
    let draft = raw.open(b"users.yaml.new", NEW, None).handle();
    raw.write(&draft, 0, b"users: {A: {name: admin, password: a-very-secret-one, admin: true}}");
    assert_eq!(raw.on(kind::CLOSE, &draft), Answer::Status(Code::Ok));
    let from = raw.open(b"users.yaml.new", flag::READ, None).handle();
    let mut copy_to = |name: &[u8]| {
        let to = raw.open(name, NEW, None).handle();
        let copied = raw.extended("copy-data", |out| {
            put_bytes(out, &from);
            out.put_u64(0);
            out.put_u64(0);
            put_bytes(out, &to);
            out.put_u64(0);
        });
        (copied, raw.on(kind::CLOSE, &to))
    };
    assert_eq!(copy_to(b"backup").0, Answer::Status(Code::PermissionDenied));
    assert_eq!(
        copy_to(b"users.yaml"),
        (Answer::Status(Code::Ok), Answer::Status(Code::Ok)),
        "where it belongs it goes"
    );
    drop(raw);
    let (_, found) =
        tests::run(std::process::Command::new("grep").args(["-rl", "a-very-secret-one"]).arg(machine.data()));
    assert_eq!(found, "", "a plain password is on the disk");
    assert!(machine.sftp(("admin", "a-very-secret-one")).can_log_in());
}

#[test]
fn sftps_own_copy_command_copies_on_the_server() {
    let data = content(1, LARGE_BYTES);
    let (machine, _raw) = machine_with("x", &data);
    machine.sftp(USER).run("mkdir d\ncp x d/y\n").expect_ok();
    assert!(std::fs::read(machine.path(USER.0, "d/y")).unwrap() == data);
    let (_, metrics) = machine.page("/metrics");
    assert!(metrics.contains("sftpd_received_bytes_total 0\n"), "nothing went to the client and back:\n{metrics}");
}

#[test]
fn homes_and_owners_are_told_by_name_to_whom_they_belong_only() {
    let (machine, mut raw) = machine_with("x", b"content");
    std::os::unix::fs::chown(machine.path(USER.0, "x"), Some(4_000_000_000), Some(0)).unwrap_or_default();
    let mut home = |name: &[u8]| raw.extended("home-directory", |out| put_bytes(out, name));
    for name in [&b""[..], USER.0.as_bytes()] {
        let Answer::Names(names) = home(name) else { panic!("no home") };
        assert_eq!(names[0].name, b"/");
    }
    assert_eq!(home(b"admin"), Answer::Status(Code::Failure));
    assert_eq!(home(b"nobody"), Answer::Status(Code::Failure));

    let own = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(machine.data()).unwrap());
    let ids = |ids: &[u32]| ids.iter().flat_map(|id| id.to_be_bytes()).collect::<Vec<_>>();
    let Answer::Extended(body) = raw.extended("users-groups-by-id@openssh.com", |out| {
        put_bytes(out, &ids(&[own, 4_000_000_000]));
        put_bytes(out, &ids(&[]));
    }) else {
        panic!("no names")
    };
    let mut fields = Reader(&body);
    let mut users = Reader(fields.bytes().unwrap());
    assert_eq!((users.bytes(), users.bytes()), (Ok(USER.0.as_bytes()), Ok(&b""[..])));
    assert_eq!((users.0, fields.bytes()), (&b""[..], Ok(&b""[..])));
    let odd = raw.extended("users-groups-by-id@openssh.com", |out| {
        put_bytes(out, b"odd");
        put_bytes(out, b"");
    });
    assert!(matches!(odd, Answer::Status(_)));
}

#[test]
fn what_is_announced_is_what_openssh_announces_and_more() {
    let (machine, folder) = (Machine::master().start(), tempfile::tempdir().unwrap());
    let (theirs, ours) = (Raw::referee(folder.path()), Raw::greeted(&machine, USER));
    assert!(theirs.announced.len() >= 10, "{:?}", theirs.announced);
    for announced in theirs.announced.iter().chain(&[("check-file".into(), "1".into())]) {
        assert!(ours.announced.contains(announced), "{announced:?} is not announced");
    }
}

#[test]
fn who_asks_who_he_is_hears_his_account_and_whether_he_administers() {
    let machine = Machine::master().start();
    for (user, is_admin) in [(USER, false), (ADMIN, true)] {
        let mut raw = Raw::greeted(&machine, user);
        let Answer::Extended(body) = raw.extended("whoami@sftp-ha", |_| {}) else { panic!("no answer") };
        let told: Whoami = serde_json::from_slice(&body).unwrap();
        assert!(told.epoch.is_some());
        let expected =
            Whoami { account: user.0.into(), admin: is_admin, role: Role::Master, epoch: told.epoch.clone() };
        assert_eq!(told, expected);
    }
}

/// OpenSSH's scp takes it for granted: it cuts its file where an answer came out of turn, and says nothing.
#[test]
fn reads_are_answered_in_the_order_in_which_they_were_asked() {
    let (_machine, mut raw) = machine_with("x", &content(1, 100_000));
    let handle = raw.open(b"x", flag::READ, None).handle();
    let read = move |number: u32| {
        packet(kind::READ, |out| {
            out.put_u32(number);
            put_bytes(out, &handle);
            out.put_u64(u64::from(number % 1000));
            out.put_u32(10_000);
        })
    };
    // A change, and a look at what it changes, which must wait for it: so the answers behind it take the longer way.
    let change = |round: u32| {
        let change = packet(if round.is_multiple_of(2) { kind::MKDIR } else { kind::RMDIR }, |out| {
            out.put_u32(u32::MAX);
            put_bytes(out, b"d");
            pair::wire::Attrs::default().put(out);
        });
        let look = packet(kind::LSTAT, |out| {
            out.put_u32(u32::MAX);
            put_bytes(out, b"d");
        });
        [change, look].concat()
    };
    const READS: u32 = 20_000;
    // As scp does: so many under way at any time, and for each answer one request more.
    (0..16).for_each(|number| raw.send(&read(number)));
    for number in 0..READS {
        let found = loop {
            let (found, _) = parse(&raw.receive());
            if found != u32::MAX {
                break found;
            }
        };
        assert_eq!(found, number, "an answer came out of turn");
        if number.is_multiple_of(8) {
            raw.send(&change(number / 8));
        }
        raw.send(&read(number + 16));
    }
}
