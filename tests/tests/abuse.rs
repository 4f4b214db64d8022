//! Clients that break the rules: they lose their session at most, and nobody else notices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::io::Write;

use bytes::{BufMut, BytesMut};
use pair::wire::{Attrs, Code, Reader, kind, open_flag, put_bytes, put_packet};
use tests::raw::{Answer, packet};
use tests::{Machine, Raw, USER, eventually, within};

/// What one session may cost in memory, whatever its client does (docs/operations.md).
const SESSION_BYTES_MAX: u64 = 120 * 1024 * 1024;

fn memory_bytes(machine: &Machine) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", machine.program().id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Sends requests and reads no answer, until the session is ended for it; meanwhile memory stays bounded.
fn flood(master: &Machine, mut raw: Raw, requests: BytesMut, before: u64) {
    let mut input = raw.take_input();
    let sender = std::thread::spawn(move || input.write_all(&requests));
    let mut most = 0;
    within(std::time::Duration::from_secs(90), "the flood is ended", || {
        most = most.max(memory_bytes(master).saturating_sub(before));
        assert!(most < SESSION_BYTES_MAX, "{most} bytes are held for a client that does not read");
        master.program().lines().iter().any(|line| line.contains("does not take the answers"))
    });
    println!("at most {most} bytes were held");
    assert!(master.sftp(USER).can_log_in());
    drop(raw);
    let _ = sender.join().unwrap();
}

#[test]
fn what_is_no_sftp_ends_the_session_and_no_other() {
    let master = Machine::master().start();
    let mut other = Raw::greeted(&master, USER);
    let init = packet(kind::INIT, |out| out.put_u32(3));
    let cases: [(&str, Vec<u8>); 6] = [
        ("a length of 4 GiB", vec![0xff; 8]),
        ("an empty packet", vec![0; 8]),
        ("a length past the limit", (256 * 1024 + 1_u32).to_be_bytes().to_vec()),
        ("a request before the greeting", packet(kind::STAT, |out| out.put_u64(0)).to_vec()),
        ("two greetings", [&init[..], &init[..]].concat()),
        ("a packet that ends in its number", [&init[..], &packet(kind::STAT, |out| out.put_u16(0))[..]].concat()),
    ];
    for (what, bytes) in cases {
        let mut raw = Raw::connect(&master, USER);
        raw.send(&bytes);
        eventually(what, || raw.has_ended());
    }
    other.send(&packet(kind::STAT, |out| {
        out.put_u32(7);
        put_bytes(out, b"/");
    }));
    assert_eq!(other.receive()[0], kind::ATTRS);
    assert!(master.page("/metrics").1.contains("sftpd_session_panics_total 0"));
}

#[test]
fn a_garbled_request_is_answered_under_its_own_number() {
    let master = Machine::master().start();
    let mut raw = Raw::greeted(&master, USER);
    let requests = [
        packet(kind::OPEN, |out| {
            out.put_u32(1);
            out.put_u32(0xffff_ffff);
        }),
        packet(kind::READ, |out| {
            out.put_u32(2);
            put_bytes(out, &[b'x'; 4096]);
            out.put_u64(u64::MAX);
            out.put_u32(u32::MAX);
        }),
        packet(kind::REMOVE, |out| {
            out.put_u32(3);
            put_bytes(out, b"a\0b");
        }),
        packet(99, |out| out.put_u32(4)),
        packet(kind::EXTENDED, |out| {
            out.put_u32(5);
            put_bytes(out, b"nobody@example.org");
        }),
    ];
    for (number, request) in requests.iter().enumerate() {
        raw.send(request);
        let answer = raw.receive();
        let mut fields = Reader(&answer[1..]);
        assert_eq!((answer[0], fields.u32().unwrap() as usize), (kind::STATUS, number + 1));
        assert_ne!(fields.u32().unwrap(), 0);
    }
}

#[test]
fn thousands_of_requests_in_one_go_are_all_answered() {
    let master = Machine::master().start();
    let mut raw = Raw::greeted(&master, USER);
    let mut burst = BytesMut::new();
    for number in 0..20_000 {
        put_packet(&mut burst, kind::STAT, |out| {
            out.put_u32(number);
            put_bytes(out, b"/");
        });
    }
    let mut input = raw.take_input();
    let sender = std::thread::spawn(move || {
        input.write_all(&burst).unwrap();
        input
    });
    for number in 0..20_000 {
        let answer = raw.receive();
        assert_eq!(Reader(&answer[1..]).u32(), Ok(number));
    }
    drop(sender.join().unwrap());
}

#[test]
fn a_client_that_asks_and_never_reads_is_bounded_and_ended() {
    let master = Machine::master().start();
    std::fs::create_dir_all(master.path("EPuser", "")).unwrap();
    std::fs::File::create(master.path("EPuser", "large")).unwrap().set_len(1 << 30).unwrap();
    let mut raw = Raw::greeted(&master, USER);
    raw.send(&packet(kind::OPEN, |out| {
        out.put_u32(0);
        put_bytes(out, b"large");
        out.put_u32(open_flag::READ);
        Attrs::default().put(out);
    }));
    let answer = raw.receive();
    let handle = Reader(&answer[5..]).bytes().unwrap().to_vec();
    let before = memory_bytes(&master);
    let mut requests = BytesMut::new();
    for number in 0..1_500_000_u32 {
        put_packet(&mut requests, kind::READ, |out| {
            out.put_u32(number);
            put_bytes(out, &handle);
            out.put_u64(0);
            out.put_u32(255 * 1024);
        });
    }
    flood(&master, raw, requests, before);
}

#[test]
fn a_client_that_makes_changes_and_never_reads_is_bounded() {
    let master = Machine::master().setting("DURABILITY", "none").start();
    let raw = Raw::greeted(&master, USER);
    let mut requests = BytesMut::new();
    for number in 0..500_000_u32 {
        put_packet(&mut requests, kind::RMDIR, |out| {
            out.put_u32(number);
            put_bytes(out, format!("missing-{number}-{}", "x".repeat(100)).as_bytes());
        });
    }
    let before = memory_bytes(&master);
    flood(&master, raw, requests, before);
}

fn stat(number: u32) -> BytesMut {
    packet(kind::STAT, |out| {
        out.put_u32(number);
        put_bytes(out, b"/");
    })
}

#[test]
fn single_bytes_and_numbers_that_come_again_are_served_as_they_are() {
    let master = Machine::master().start();
    let mut raw = Raw::connect(&master, USER);
    let requests = [packet(kind::INIT, |out| out.put_u32(3)), stat(5), stat(5), stat(5)].concat();
    for byte in requests {
        raw.send(&[byte]);
    }
    assert_eq!(raw.receive()[0], kind::VERSION);
    for _ in 0..3 {
        let answer = raw.receive();
        assert_eq!((answer[0], Reader(&answer[1..]).u32()), (kind::ATTRS, Ok(5)));
    }
}

#[test]
fn a_read_of_4_gib_gives_one_packet_and_far_offsets_give_the_end() {
    let master = Machine::master().start();
    let mut raw = Raw::greeted(&master, USER);
    std::fs::File::create(master.path("EPuser", "large")).unwrap().set_len(1 << 30).unwrap();
    let handle = raw.open(b"large", open_flag::READ, None).handle();
    let Answer::Data(data) = raw.read(&handle, 0, u32::MAX) else { panic!("no data") };
    assert_eq!(data.len(), 255 * 1024);
    for offset in [1 << 30, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX - 1, u64::MAX] {
        assert_eq!(raw.read(&handle, offset, u32::MAX), Answer::Status(Code::Eof), "{offset}");
    }
    let upload = raw.open(b"new", open_flag::WRITE | open_flag::CREAT, None).handle();
    for offset in [i64::MAX as u64, u64::MAX] {
        assert_eq!(raw.write(&upload, offset, b"far"), Answer::Status(Code::Failure), "{offset}");
    }
    assert_eq!(raw.on(kind::CLOSE, &upload), Answer::Status(Code::Failure), "what failed is not published");
    assert!(!master.path("EPuser", "new").exists());
}

#[test]
fn a_handle_is_its_sessions_own() {
    let master = Machine::master().start();
    std::fs::create_dir_all(master.path("admin", "")).unwrap();
    let (mut one, mut other) = (Raw::greeted(&master, tests::ADMIN), Raw::greeted(&master, USER));
    let handle = one.open(b"users.yaml", open_flag::READ, None).handle();
    assert!(matches!(one.read(&handle, 0, 10), Answer::Data(_)));
    for kind in [kind::CLOSE, kind::FSTAT, kind::READDIR] {
        assert_eq!(other.on(kind, &handle), Answer::Status(Code::Failure));
    }
    assert_eq!(other.read(&handle, 0, 10), Answer::Status(Code::Failure));
    assert!(matches!(one.read(&handle, 0, 10), Answer::Data(_)), "it is still open where it belongs");
}

#[test]
fn a_hundred_thousand_opens_end_at_the_limit_and_leave_nothing_open() {
    let master = Machine::master().start();
    std::fs::create_dir_all(master.path("EPuser", "")).unwrap();
    std::fs::write(master.path("EPuser", "x"), "x").unwrap();
    let before = master.open_files_at_rest();
    let mut raw = Raw::greeted(&master, USER);
    let mut requests = BytesMut::new();
    for number in 0..100_000_u32 {
        put_packet(&mut requests, if number % 2 == 0 { kind::OPEN } else { kind::OPENDIR }, |out| {
            out.put_u32(number);
            put_bytes(out, if number % 2 == 0 { b"x" } else { b"/" });
            out.put_u32(open_flag::READ);
            Attrs::default().put(out);
        });
    }
    let mut input = raw.take_input();
    let sender = std::thread::spawn(move || {
        input.write_all(&requests).unwrap();
        input
    });
    let opened = (0..100_000).filter(|_| raw.receive()[0] == kind::HANDLE).count();
    assert_eq!(opened, 256);
    // A folder that is listed takes two.
    assert!(master.open_files() < before + 2 * 256);
    drop((sender.join().unwrap(), raw));
    eventually("everything is closed", || master.open_files() <= before);
}

#[test]
fn a_client_that_stops_in_a_packet_is_let_be_and_leaves_nothing_behind() {
    let master = Machine::master().start();
    let before = master.open_files_at_rest();
    let mut stuck: Vec<_> = (0..5).map(|_| Raw::greeted(&master, USER)).collect();
    for raw in &mut stuck {
        let upload = raw.open(b"x", open_flag::WRITE | open_flag::CREAT, None).handle();
        let write = packet(kind::WRITE, |out| {
            out.put_u32(9);
            put_bytes(out, &upload);
            out.put_u64(0);
            put_bytes(out, &[b'x'; 100_000]);
        });
        raw.send(&write[..50_000]);
    }
    assert!(master.sftp(USER).can_log_in(), "others are served");
    drop(stuck);
    eventually("no socket is left", || master.open_files() <= before);
}

#[test]
fn who_sends_no_more_gets_every_answer_and_a_good_end() {
    let master = Machine::master().start();
    std::fs::create_dir_all(master.path("EPuser", "")).unwrap();
    std::fs::File::create(master.path("EPuser", "large")).unwrap().set_len(50 << 20).unwrap();
    let mut raw = Raw::greeted(&master, USER);
    let handle = raw.open(b"large", open_flag::READ, None).handle();
    let mut requests = BytesMut::new();
    for number in 0..200_u32 {
        put_packet(&mut requests, kind::READ, |out| {
            out.put_u32(number);
            put_bytes(out, &handle);
            out.put_u64(u64::from(number) * 255 * 1024);
            out.put_u32(255 * 1024);
        });
    }
    // A change, too: its answer comes when it is on the disk.
    put_packet(&mut requests, kind::MKDIR, |out| {
        out.put_u32(200);
        put_bytes(out, b"new");
        Attrs::default().put(out);
    });
    raw.send(&requests);
    drop(raw.take_input());
    let mut answered: Vec<_> = (0..=200).map(|_| Reader(&raw.receive()[1..]).u32().unwrap()).collect();
    answered.sort_unstable();
    assert_eq!(answered, (0..=200).collect::<Vec<_>>());
    assert_eq!(raw.try_receive(), None);
    eventually("the client ends", || raw.has_ended());
}

#[test]
fn a_connection_is_kept_alive_while_the_server_works_for_it() {
    let master = Machine::master().start();
    std::fs::create_dir_all(master.path("EPuser", "")).unwrap();
    std::fs::File::create(master.path("EPuser", "large")).unwrap().set_len(4 << 30).unwrap();
    let mut raw = Raw::through(master.sftp(USER).option("ServerAliveInterval=1").option("ServerAliveCountMax=1"));
    raw.greet();
    let hashed = raw.extended("check-file-name", |out| {
        put_bytes(out, b"large");
        put_bytes(out, b"md5");
        out.put_slice(&[0; 20]);
    });
    assert!(matches!(hashed, Answer::Extended(_)), "{hashed:?}");
}

#[test]
fn compression_may_be_asked_for_and_is_not_needed() {
    let master = Machine::master().start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("up"), vec![b'x'; 1_000_000]).unwrap();
    let batch = format!("put {} x\n", folder.path().join("up").display());
    master.sftp(USER).option("Compression=yes").run(&batch).expect_ok();
    assert_eq!(std::fs::read(master.path("EPuser", "x")).unwrap().len(), 1_000_000);
}

#[test]
fn strangers_who_speak_no_ssh_are_hung_up_on() {
    let master = Machine::master().setting("LIMITS__LOGIN_GRACE", "2s").start();
    let before = master.open_files_at_rest();
    let greeting = b"SSH-2.0-test\r\n";
    let cases: [(&str, Vec<u8>); 5] = [
        ("a web browser", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("zeros", vec![0; 100_000]),
        ("a greeting without end", vec![b'S'; 100_000]),
        ("a packet of 4 GiB", [&greeting[..], &[0xff; 40_000]].concat()),
        ("silence behind the greeting", greeting.to_vec()),
    ];
    for (what, bytes) in cases {
        let mut stream = std::net::TcpStream::connect(master.address()).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        // It may hang up before it has read everything.
        let _ = stream.write_all(&bytes);
        let mut heard = Vec::new();
        let ended = std::io::Read::read_to_end(&mut stream, &mut heard);
        let is_reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(ended.is_ok() || ended.as_ref().is_err_and(is_reset), "{what}: {ended:?}");
    }
    assert!(master.sftp(USER).can_log_in());
    eventually("no socket is left", || master.open_files() <= before);
}

#[test]
fn nobodys_number_for_an_owner_is_no_number_and_breaks_nothing() {
    let master = Machine::master().start();
    let mut raw = Raw::greeted(&master, USER);
    let upload = raw.open(b"x", open_flag::WRITE | open_flag::CREAT, None).handle();
    let nobody = Attrs { owner: Some((u32::MAX, u32::MAX)), mode: Some(0o640), ..Attrs::default() };
    let set = |raw: &mut Raw, kind: u8, what: &[u8]| {
        raw.ask(kind, |out| {
            put_bytes(out, what);
            nobody.put(out);
        })
    };
    assert_eq!(set(&mut raw, kind::FSETSTAT, &upload), Answer::Status(Code::Ok));
    assert_eq!(raw.on(kind::CLOSE, &upload), Answer::Status(Code::Ok));
    assert_eq!(set(&mut raw, kind::SETSTAT, b"x"), Answer::Status(Code::Ok));
    let mkdir = raw.ask(kind::MKDIR, |out| {
        put_bytes(out, b"d");
        nobody.put(out);
    });
    assert_eq!(mkdir, Answer::Status(Code::Ok));
    assert_eq!(master.page("/readyz").0, 200, "changes are still made");
}
