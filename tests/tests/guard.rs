//! The door: what guessing, idling and garbage cost, and whom they do not keep out. Loopback has many addresses, so one
//! machine can be many.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Command;

use pair::control::Ban;
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::{Machine, MachineBuilder, Sftp, USER, eventually, has_program, make_key, run};

/// A machine to which loopback is an address like any other.
fn guarded() -> MachineBuilder {
    Machine::master().setting("GUARD__NEVER", "192.0.2.1")
}

/// A login from an address of loopback.
fn login(machine: &Machine, from: &str, login: (&str, &str)) -> Sftp {
    machine.sftp(login).option(&format!("BindAddress={from}"))
}

/// A connection from an address of loopback.
fn connect(machine: &Machine, from: &str) -> TcpStream {
    let socket: OwnedFd = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &format!("{from}:0").parse::<SocketAddr>().unwrap()).unwrap();
    rustix::net::connect(&socket, &machine.address()).unwrap();
    TcpStream::from(socket)
}

fn bans(machine: &Machine) -> Vec<Ban> {
    let (done, text) = machine.order(&["bans", "--json"]);
    assert!(done, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Each failure costs five seconds, of which the time between them is taken off again.
fn guess_until_banned(machine: &Machine) {
    eventually("who guesses is banned", || {
        assert!(!login(machine, "127.0.0.7", (USER.0, "wrong")).can_log_in());
        !bans(machine).is_empty()
    });
}

/// Whether the server closes it without a word.
fn is_shut(mut stream: TcpStream) -> bool {
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    !matches!(stream.read(&mut [0; 10]), Ok(1..))
}

#[tokio::test(flavor = "multi_thread")]
async fn fail2ban_reads_failed_logins_out_of_the_log_and_is_not_fooled_by_names() {
    if !has_program("fail2ban-regex") {
        return;
    }
    let machine = Machine::master().start();
    assert!(!login(&machine, "127.0.0.7", (USER.0, "wrong")).can_log_in());
    // OpenSSH's client sends no such names.
    let secret = pair::secret::PairSecret::generate().unwrap();
    let key = std::sync::Arc::new(pair::keys::peer_key(&secret).unwrap());
    for name in ["x\",\"remote_addr\":\"203.0.113.9:1\",\"y\":\"", "\\", "\n{"] {
        let login = pair::client::Login::with_key(name, key.clone());
        let connected =
            pair::client::connect(&machine.address().to_string(), login, std::sync::Arc::new(|_| Ok(()))).await;
        assert!(connected.is_err());
    }
    assert!(login(&machine, "127.0.0.8", USER).can_log_in());
    eventually("all is on record", || machine.activity().iter().any(|record| record.sender == "logout"));
    let filter = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fail2ban/sftp-ha.conf");
    let log = machine.logs().join("activity.log");
    let (_, text) = run(Command::new("fail2ban-regex").args(["--out", "ip"]).arg(log).arg(filter));
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["127.0.0.7", "127.0.0.1", "127.0.0.1", "127.0.0.1"]);
}

#[test]
fn who_guesses_passwords_is_shut_out_and_nobody_else() {
    let machine = guarded().start();
    guess_until_banned(&machine);
    assert!(is_shut(connect(&machine, "127.0.0.7")));
    assert!(login(&machine, "127.0.0.8", USER).can_log_in(), "a neighbour");
    let banned = bans(&machine);
    assert_eq!((banned.len(), banned[0].whom.as_str(), banned[0].is_account), (1, "127.0.0.7/32", false));
    assert!((1..=20).contains(&banned[0].left_s), "{banned:?}");
    assert!(machine.order(&["bans"]).1.contains("127.0.0.7/32 for "));
    machine.wait_for_activity("the ban", |record| record.sender == "Ban" && record.remote_addr == "127.0.0.7");
    assert!(machine.page("/metrics").1.contains("sftpd_bans_total 1"));
    assert!(!machine.order(&["unban", "127.0.0.9"]).0, "nobody there");
    assert!(machine.order(&["unban", "127.0.0.7"]).0);
    assert!(login(&machine, "127.0.0.7", USER).can_log_in());
    assert!(machine.order(&["bans"]).1.contains("nobody is banned"));
    // Also by itself, when its time is over.
    guess_until_banned(&machine);
    assert!(is_shut(connect(&machine, "127.0.0.7")));
    eventually("the ban passes", || login(&machine, "127.0.0.7", USER).can_log_in());
}

#[test]
fn this_machine_itself_is_never_shut_out() {
    let machine = Machine::master().start();
    for _ in 0..5 {
        assert!(!machine.sftp((USER.0, "wrong")).can_log_in());
    }
    assert!(machine.sftp(USER).can_log_in());
    assert_eq!(bans(&machine), []);
}

#[test]
fn what_is_no_ssh_is_shut_out_at_once() {
    let machine = guarded().start();
    let mut garbage = connect(&machine, "127.0.0.7");
    garbage.write_all(&[b'x'; 100_000]).unwrap();
    assert!(is_shut(garbage) || !bans(&machine).is_empty());
    eventually("it is banned", || bans(&machine).iter().any(|ban| ban.whom == "127.0.0.7/32"));
    // Who only looks whether the port is open is a monitor.
    for _ in 0..20 {
        drop(connect(&machine, "127.0.0.8"));
    }
    assert!(login(&machine, "127.0.0.8", USER).can_log_in());
}

#[test]
fn idle_connections_from_many_addresses_keep_nobody_out() {
    let machine = guarded().setting("LIMITS__LOGIN_GRACE", "600s").start();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let count = limit.maximum.unwrap_or(u64::MAX).saturating_sub(100).min(2000);
    assert!(count > 200, "this process may open {count} connections only");
    let from = |number: u64| format!("127.0.{}.{}", 1 + number / 250, 1 + number % 250);
    let idle: Vec<_> = (0..count).map(|number| connect(&machine, &from(number))).collect();
    for from in ["127.0.0.8", "127.0.0.9"] {
        assert!(login(&machine, from, USER).can_log_in(), "{from}");
    }
    let metrics = machine.page("/metrics").1;
    assert!(metrics.contains("crowded out"), "{metrics}");
    let open = metrics.lines().find_map(|line| line.strip_prefix("sftpd_sessions ")).unwrap();
    assert!(open.parse::<u32>().unwrap() <= 110, "{open} connections are open");
    drop(idle);
}

#[test]
fn an_account_under_attack_stays_open_to_keys_and_to_where_it_was_before() {
    let folder = tempfile::tempdir().unwrap();
    let (key, public) = make_key(folder.path());
    let users = format!("{}    public_keys: [\"{public}\"]\n", tests::SEED);
    let machine = guarded().users(&users).setting("GUARD__ACCOUNT_THRESHOLD", "20s").start();
    assert!(login(&machine, "127.0.0.8", USER).can_log_in(), "at home");
    std::thread::scope(|scope| {
        for from in 1..=6 {
            let machine = &machine;
            scope.spawn(move || login(machine, &format!("127.0.3.{from}"), (USER.0, "wrong")).can_log_in());
        }
    });
    let banned = bans(&machine);
    assert_eq!((banned.len(), banned[0].whom.as_str(), banned[0].is_account), (1, USER.0, true));
    assert!(!login(&machine, "127.0.0.9", USER).can_log_in(), "the right password from somewhere new");
    assert!(login(&machine, "127.0.0.8", USER).can_log_in());
    assert!(login(&machine, "127.0.0.9", (USER.0, "")).with_key(&key).can_log_in());
    assert!(machine.order(&["unban", USER.0]).0);
    assert!(login(&machine, "127.0.0.9", USER).can_log_in());
}

/// What a server offers: its ident, and the lists of its KEXINIT.
fn offered(machine: &Machine) -> (String, Vec<String>) {
    let mut stream = connect(machine, "127.0.0.9");
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    stream.write_all(b"SSH-2.0-test\r\n").unwrap();
    let mut ident = Vec::new();
    while !ident.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        ident.push(byte[0]);
    }
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
    let mut packet = vec![0; length - 1];
    stream.read_exact(&mut packet).unwrap();
    assert_eq!(packet[0], 20, "a KEXINIT");
    // Behind the type and the cookie stand ten lists; the last two are languages.
    let mut rest = &packet[17..];
    let mut lists = Vec::new();
    for _ in 0..10 {
        let (length, behind) = rest.split_at(4);
        let (list, behind) = behind.split_at(u32::from_be_bytes(length.try_into().unwrap()) as usize);
        lists.push(String::from_utf8(list.to_vec()).unwrap());
        rest = behind;
    }
    (String::from_utf8(ident).unwrap(), lists)
}

#[test]
fn only_modern_algorithms_are_offered() {
    let machine = Machine::master().setting("ALGORITHMS", "modern").start();
    let (ident, lists) = offered(&machine);
    assert_eq!(ident, "SSH-2.0-sftp\r\n", "no version, no library");
    let ciphers =
        "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr";
    let macs = "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com";
    let expected = [
        "mlkem768x25519-sha256,curve25519-sha256,curve25519-sha256@libssh.org,ext-info-s,kex-strict-s-v00@openssh.com",
        "ssh-ed25519,ecdsa-sha2-nistp256",
        ciphers,
        ciphers,
        macs,
        macs,
        "none",
        "none",
        "",
        "",
    ];
    assert_eq!(lists, expected);
}

/// What a client of fifteen years ago knows.
const OLD: [&str; 3] = ["KexAlgorithms=diffie-hellman-group14-sha1", "Ciphers=aes128-cbc", "MACs=hmac-sha1"];

fn old_login(machine: &Machine, from: &str, user: (&str, &str)) -> Sftp {
    OLD.iter().fold(login(machine, from, user), |login, option| login.option(option))
}

#[test]
fn an_old_client_comes_in_by_its_accounts_exception_only_and_only_from_there() {
    let legacy = "legacy_algorithms: [diffie-hellman-group14-sha1, aes128-cbc, hmac-sha1]";
    let users = format!(
        "{}  2: {{name: old, password: x, allow_from: [127.0.5.0/24], {legacy}, legacy_until: 2100-01-01}}\n  \
         3: {{name: late, password: x, allow_from: [127.0.6.0/24], {legacy}, legacy_until: 2020-01-01}}\n",
        tests::SEED
    );
    let machine = guarded().users(&users).setting("ALGORITHMS", "modern").start();
    let old = ("old", "x");
    assert!(old_login(&machine, "127.0.5.1", old).can_log_in());
    let record = machine.wait_for_activity("the login", |record| record.sender == "login");
    assert_eq!(record.old_algorithms.as_deref(), Some("diffie-hellman-group14-sha1, aes128-cbc, hmac-sha1"));
    assert!(!old_login(&machine, "127.0.5.1", USER).can_log_in(), "somebody else from there");
    let record = machine.wait_for_activity("the refusal", |record| record.username == USER.0);
    assert!(record.error.as_deref().is_some_and(|error| error.contains("no exception")), "{record:?}");
    assert!(login(&machine, "127.0.5.1", old).can_log_in(), "with what is new");
    assert!(login(&machine, "127.0.5.1", USER).can_log_in(), "with what is new");
    // PuTTY names the old one first.
    let capable = login(&machine, "127.0.5.1", USER).option("MACs=hmac-sha1,hmac-sha2-256-etm@openssh.com");
    assert!(capable.option("Ciphers=aes128-ctr").can_log_in(), "what it could do without keeps nobody out");
    let logins = || machine.activity().into_iter().filter(|record| record.sender == "login");
    eventually("all four are on record", || logins().count() >= 4);
    let later = logins().skip(1);
    let with: Vec<_> = later.map(|record| record.old_algorithms.unwrap_or_default()).collect();
    assert_eq!(with, ["", "", "hmac-sha1"]);
    for (from, whose) in [("127.0.6.1", ("late", "x")), ("127.0.7.1", old)] {
        for _ in 0..5 {
            assert!(!old_login(&machine, from, whose).can_log_in());
        }
        let record = machine.wait_for_activity("what the client knows", |record| record.remote_addr.starts_with(from));
        let error = record.error.unwrap_or_default();
        assert!(error.contains("knows no key exchange") && error.contains("diffie-hellman-group14-sha1"), "{error}");
    }
    assert_eq!(bans(&machine), [], "who is old is not hostile");
}

/// HAProxy in front of a machine: where its clients connect.
fn load_balancer(machine: &Machine, folder: &std::path::Path) -> (tests::Program, SocketAddr) {
    let address = std::net::TcpListener::bind("127.0.44.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "defaults\n  mode tcp\n  timeout connect 20s\n  timeout client 60s\n  timeout server 60s\nfrontend in\n  bind {address}\n  \
         default_backend sftp\nbackend sftp\n  server one {} send-proxy-v2 check inter 100ms\n",
        machine.address()
    );
    std::fs::write(folder.join("haproxy.cfg"), config).unwrap();
    let program = tests::Program::start(Command::new("haproxy").arg("-db").arg("-f").arg(folder.join("haproxy.cfg")));
    eventually("HAProxy listens", || TcpStream::connect(address).is_ok());
    (program, address)
}

#[test]
fn behind_a_load_balancer_each_client_has_its_own_address() {
    if !has_program("haproxy") {
        return;
    }
    let machine = guarded().setting("PROXIES", "127.0.0.1").start();
    let folder = tempfile::tempdir().unwrap();
    let (_haproxy, front) = load_balancer(&machine, folder.path());
    let login = |from: &str, user| Sftp::new(front, user).option(&format!("BindAddress={from}"));
    assert!(login("127.0.5.1", USER).can_log_in());
    let record = machine.wait_for_activity("the login", |record| record.sender == "login");
    assert!(record.remote_addr.starts_with("127.0.5.1:"), "{record:?}");
    eventually("who guesses is banned", || {
        assert!(!login("127.0.5.2", (USER.0, "wrong")).can_log_in());
        bans(&machine).iter().any(|ban| ban.whom == "127.0.5.2/32")
    });
    assert!(login("127.0.5.1", USER).can_log_in(), "a neighbour behind the same load balancer");
    // HAProxy's own looks are no fault; one that forgets the header is told so.
    let refusal = "sends no PROXY header";
    assert!(!machine.program().lines().iter().any(|line| line.contains(refusal)));
    assert!(!machine.sftp(USER).can_log_in());
    eventually("it is said", || machine.program().lines().iter().any(|line| line.contains(refusal)));
    // From nobody else is a header believed.
    let forged = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &[127, 0, 5, 1, 127, 0, 0, 1, 0, 7, 0, 7][..]].concat();
    say(&machine, "127.0.8.1", &forged);
    let forger = "127.0.8.1 sends PROXY headers and is not listed";
    assert!(!machine.activity().iter().any(|record| record.remote_addr.starts_with("127.0.5.1:7")));
    eventually("who sends one is named", || machine.program().lines().iter().any(|line| line.contains(forger)));
    assert!(login("127.0.5.1", USER).can_log_in(), "whose name was used is not");
}

#[test]
fn what_waits_at_the_door_goes_when_its_address_is_banned() {
    let machine = guarded().setting("LIMITS__LOGIN_GRACE", "600s").start();
    let waiting: Vec<_> = (0..5).map(|_| connect(&machine, "127.0.0.7")).collect();
    let neighbour = connect(&machine, "127.0.0.8");
    guess_until_banned(&machine);
    for stream in &waiting {
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        // The greeting, and then the end.
        let mut said = Vec::new();
        let _ = (&*stream).read_to_end(&mut said);
        assert!(said.starts_with(b"SSH-2.0-"), "{said:?}");
    }
    neighbour.set_nonblocking(true).unwrap();
    let mut said = [0; 200];
    eventually("it has been greeted", || matches!((&neighbour).read(&mut said), Ok(1..)));
    assert!((&neighbour).read(&mut said).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
}

/// Something hostile, said on a connection of its own until the server hangs up.
fn say(machine: &Machine, from: &str, bytes: &[u8]) {
    let mut stream = connect(machine, from);
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    // The server may hang up in the middle of it, which is as well.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

/// A packet as it goes before keys are exchanged.
fn plain_packet(payload: &[u8]) -> Vec<u8> {
    let padding = 8 - (payload.len() + 5) % 8 + 8;
    let mut packet = (payload.len() as u32 + padding as u32 + 1).to_be_bytes().to_vec();
    packet.push(padding as u8);
    packet.extend_from_slice(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

/// A KEXINIT of a client that knows one cipher.
fn kexinit(kex: &str, mac: &str) -> Vec<u8> {
    let mut payload = vec![20];
    payload.extend_from_slice(&[7; 16]);
    let cipher = "aes128-ctr";
    for list in [kex, "ssh-ed25519", cipher, cipher, mac, mac, "none", "none", "", ""] {
        payload.extend_from_slice(&(list.len() as u32).to_be_bytes());
        payload.extend_from_slice(list.as_bytes());
    }
    payload.extend_from_slice(&[0; 5]);
    plain_packet(&payload)
}

#[test]
fn what_a_client_calls_its_algorithms_is_one_short_line() {
    let machine = Machine::master().start();
    let kex = format!("evil\n2001-01-01T00:00:00Z  WARN forged,{}", vec!["x"; 400].join(","));
    let packet = kexinit(&kex, "hmac-sha1");
    let mut stream = connect(&machine, "127.0.0.7");
    stream.write_all(&[b"SSH-2.0-hostile\r\n", &packet[..]].concat()).unwrap();
    let record = machine.wait_for_activity("what it knows", |record| record.remote_addr.starts_with("127.0.0.7:"));
    let error = record.error.unwrap();
    assert!(error.contains("It knows evil2001-01-01T00:00:00ZWARNforged, x, x") && error.ends_with('…'), "{error}");
    assert!(error.len() < 600, "{error}");
    let lines = machine.program().lines();
    assert!(lines.iter().any(|line| line.contains("It knows evil2001")));
    assert!(!lines.iter().any(|line| line.starts_with("2001")), "{lines:?}");
}

#[test]
fn hostile_peers_end_their_own_connection_only() {
    let machine = Machine::master().start();
    let ident: &[u8] = b"SSH-2.0-hostile\r\n";
    let string = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
    let ecdh_init = |point: &[u8]| plain_packet(&[&[30], string(point).as_slice()].concat());
    let service = |name: &str| plain_packet(&[&[5], string(name.as_bytes()).as_slice()].concat());
    let login =
        plain_packet(&[&[50], string(b"EPuser").as_slice(), &string(b"ssh-connection"), &string(b"none")].concat());
    let curve = kexinit("curve25519-sha256", "hmac-sha2-256");
    let said: Vec<Vec<u8>> = vec![
        vec![b'x'; 1_000_000],
        [b"SSH-2.0-", vec![b'y'; 1_000_000].as_slice()].concat(),
        b"HTTP/1.1 GET /\r\n".repeat(20_000),
        [ident, &[0xff; 5000]].concat(),
        [ident, &0x7fff_ffff_u32.to_be_bytes(), &[0; 100_000]].concat(),
        [ident, &[0; 4]].concat(),
        [ident, kexinit("none-such", "hmac-sha2-256").as_slice()].concat(),
        [ident, kexinit("curve25519-sha256", "").as_slice(), &ecdh_init(&[9; 32])].concat(),
        [ident, curve.as_slice(), &ecdh_init(&[0; 32])].concat(),
        [ident, curve.as_slice(), &ecdh_init(&[0; 31])].concat(),
        [ident, curve.as_slice(), &ecdh_init(&[])].concat(),
        [ident, service("ssh-userauth").as_slice(), &login].concat(),
        [ident, curve.as_slice(), &service("ssh-userauth"), &login].concat(),
        // That a login has succeeded is the server's to say; so is that a channel is open.
        [ident, curve.as_slice(), &plain_packet(&[52]), &plain_packet(&[90, 0, 0, 0, 7])].concat(),
        [ident, plain_packet(&[7, 0, 0, 0xff, 0xff]).repeat(1000).as_slice()].concat(),
        [ident, curve.repeat(200).as_slice()].concat(),
    ];
    let mut session = tests::Raw::greeted(&machine, USER);
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (machine, said) = (&machine, &said);
            scope.spawn(move || {
                for round in 0..64 {
                    say(machine, &format!("127.0.4.{}", 1 + worker), &said[(worker + round) % said.len()]);
                }
            });
        }
    });
    assert!(session.list(b"/").is_ok(), "who was there stays");
    assert!(machine.sftp(USER).can_log_in());
    let metrics = machine.page("/metrics").1;
    assert!(metrics.contains("sftpd_session_panics_total 0"), "{metrics}");
    let peak_kib = machine.program().peak_memory_kib();
    // 512 hostile peers, eight at a time, and the argon2 of two logins.
    assert!(peak_kib < 200 * 1024, "{peak_kib} KiB were held");
}

#[test]
fn all_names_are_answered_alike() {
    let users = format!(
        "{}  2: {{name: off, password: x, disabled: true}}\n  3: {{name: past, password: x, expires: 2020-01-01}}\n  \
         4: {{name: far, password: x, allow_from: [192.0.2.1]}}\n",
        tests::SEED
    );
    let machine = Machine::master().users(&users).start();
    // OpenSSH's client says which methods it was offered, and in which words it was refused.
    let answers: Vec<_> = ["EPuser", "nobody", "off", "past", "far"]
        .into_iter()
        .map(|name| {
            let mut command = machine.sftp((name, "wrong")).command("ssh");
            command.args(["-v", "-s", &format!("{name}@127.0.0.1"), "sftp"]);
            let (status, text) = run(&mut command);
            assert!(!status.success());
            let about_login =
                |line: &&str| line.contains("Authentications that can continue") || line.contains("denied");
            let said: Vec<_> = text.lines().filter(about_login).map(|line| line.replace(name, "NAME")).collect();
            assert!(!said.is_empty(), "{text}");
            said
        })
        .collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}
