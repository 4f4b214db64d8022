//! Clients that break the rules: they lose their session at most, and nobody else notices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::process::{Child, Stdio};

use bytes::{BufMut, BytesMut};
use pair::wire::{Attrs, Reader, kind, open_flag, put_bytes, put_packet};
use tests::{Machine, Sftp, USER, eventually, within};

/// A raw SFTP stream through OpenSSH's ssh.
struct Raw {
    child: Child,
    _sftp: Sftp,
}

impl Raw {
    fn connect(machine: &Machine) -> Raw {
        let sftp = machine.sftp(USER);
        let mut command = sftp.command("ssh");
        command.arg("-s").arg(sftp.target()).arg("sftp");
        let child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("ssh starts");
        Raw { child, _sftp: sftp }
    }

    fn greeted(machine: &Machine) -> Raw {
        let mut raw = Raw::connect(machine);
        raw.send(&packet(kind::INIT, |out| out.put_u32(3)));
        assert_eq!(raw.receive()[0], kind::VERSION);
        raw
    }

    fn send(&mut self, bytes: &[u8]) {
        let input = self.child.stdin.as_mut().expect("piped");
        // A session that was ended no longer takes anything; the test looks at what comes of it.
        let _ = input.write_all(bytes).and_then(|()| input.flush());
    }

    fn receive(&mut self) -> Vec<u8> {
        let output = self.child.stdout.as_mut().expect("piped");
        let mut length = [0; 4];
        output.read_exact(&mut length).expect("an answer");
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        output.read_exact(&mut body).expect("a whole answer");
        body
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_some()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn packet(kind: u8, body: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    put_packet(&mut out, kind, body);
    out
}

fn memory_bytes(machine: &Machine) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", machine.program().id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Sends requests and reads no answer, until the session is ended for it; meanwhile memory stays bounded.
fn flood(master: &Machine, mut raw: Raw, requests: BytesMut, before: u64) {
    let mut input = raw.child.stdin.take().unwrap();
    let sender = std::thread::spawn(move || input.write_all(&requests));
    within(std::time::Duration::from_secs(90), "the flood is ended", || {
        let grown = memory_bytes(master).saturating_sub(before);
        assert!(grown < 120 * 1024 * 1024, "{grown} bytes are held for a client that does not read");
        master.program().lines().iter().any(|line| line.contains("does not take the answers"))
    });
    assert!(master.sftp(USER).can_log_in());
    drop(raw);
    let _ = sender.join().unwrap();
}

#[test]
fn what_is_no_sftp_ends_the_session_and_no_other() {
    let master = Machine::master().start();
    let mut other = Raw::greeted(&master);
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
        let mut raw = Raw::connect(&master);
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
    let mut raw = Raw::greeted(&master);
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
    let mut raw = Raw::greeted(&master);
    let mut burst = BytesMut::new();
    for number in 0..20_000 {
        put_packet(&mut burst, kind::STAT, |out| {
            out.put_u32(number);
            put_bytes(out, b"/");
        });
    }
    let mut input = raw.child.stdin.take().unwrap();
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
    let mut raw = Raw::greeted(&master);
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
    let raw = Raw::greeted(&master);
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
