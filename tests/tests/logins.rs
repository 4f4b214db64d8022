//! Who gets in, and what they get: the sftp subsystem and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use tests::{ADMIN, Machine, Sftp, USER, eventually, run};

fn make_key(folder: &std::path::Path, kind: &str) -> (std::path::PathBuf, String) {
    let key = folder.join(kind);
    let (status, text) = run(Command::new("ssh-keygen").args(["-q", "-N", "", "-t", kind, "-f"]).arg(&key));
    assert!(status.success(), "{text}");
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    (key, public.trim().to_owned())
}

#[test]
fn only_the_right_name_and_password_log_in() {
    let master = Machine::master().start();
    assert!(master.sftp(USER).can_log_in());
    assert!(master.sftp(ADMIN).can_log_in());
    for wrong in [("EPuser", "12345"), ("EPuser", ""), ("nobody", "1234"), ("epuser", "1234"), ("admin", "1234")] {
        assert!(!master.sftp(wrong).can_log_in(), "{wrong:?}");
    }
}

#[test]
fn who_mistypes_the_password_is_asked_again() {
    let (master, folder) = (Machine::master().start(), tempfile::tempdir().unwrap());
    let (asked, helper) = (folder.path().join("asked"), folder.path().join("askpass"));
    // Wrong at first, right from then on.
    let script =
        format!("#!/bin/sh\n[ -e '{0}' ] && echo {1} || echo wrong\necho x >> '{0}'\n", asked.display(), USER.1);
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut command = Command::new("sftp");
    for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "PreferredAuthentications=password"] {
        command.args(["-o", option]);
    }
    command.args([
        "-F",
        "/dev/null",
        "-o",
        "BatchMode=no",
        "-P",
        &master.address().port().to_string(),
        "-b",
        "/dev/null",
    ]);
    command.arg(format!("{}@127.0.0.1", USER.0)).env("SSH_ASKPASS", helper).env("SSH_ASKPASS_REQUIRE", "force");
    let (status, text) = run(&mut command);
    assert!(status.success(), "{text}");
    assert_eq!(std::fs::read_to_string(asked).unwrap().lines().count(), 2);
}

/// Signs a key with an authority's, as `ssh-keygen` does; the certificate lies beside the key.
fn sign(authority: &std::path::Path, key: &std::path::Path, options: &[&str]) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-s"]).arg(authority).args(["-I", "of the test", "-z", "42"]).args(options);
    let (status, text) = run(command.arg(key.with_extension("pub")));
    assert!(status.success(), "{text}");
}

#[test]
fn a_certificate_of_a_trusted_authority_logs_in_whom_it_names_until_it_is_trusted_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        make_key(&folder, "ed25519")
    });
    // Who logs in by certificate alone needs neither password nor key.
    let users = |authority: &str| format!("trusted_ca: [\"{authority}\"]\n{}  2: {{name: dora}}\n", tests::SEED);
    let master = Machine::master().users(&users(&ours.1)).start();
    let (key, _) = make_key(folder.path(), "ecdsa");
    let can_log_in = |name: &str| master.sftp((name, "")).with_key(&key).can_log_in();
    assert!(!can_log_in("EPuser"), "the bare key is nobody's");
    sign(&ours.0, &key, &["-n", "EPuser,carol"]);
    assert!(can_log_in("EPuser") && !can_log_in("admin") && !can_log_in("carol"), "carol has no account");
    sign(&ours.0, &key, &["-n", "dora"]);
    assert!(can_log_in("dora"));
    sign(&ours.0, &key, &["-n", "EPuser,carol"]);
    let login = master.wait_for_activity("the login", |record| record.sender == "login");
    assert_eq!(login.method.as_deref(), Some("certificate"));
    assert_eq!(login.certificate.as_deref(), Some("of the test (serial 42)"));
    let refused = master.wait_for_activity("the refusal", |record| record.username == "admin");
    assert_eq!(refused.error.as_deref(), Some("the certificate does not name admin"));
    let signed_so = |options: &[&str]| {
        sign(&ours.0, &key, options);
        can_log_in("EPuser")
    };
    assert!(signed_so(&["-n", "EPuser", "-O", "source-address=127.0.0.0/8", "-V", "-1h:+1h"]));
    assert!(!signed_so(&["-n", "EPuser", "-O", "source-address=192.0.2.0/24"]));
    assert!(!signed_so(&["-n", "EPuser", "-O", "force-command=/bin/sh"]));
    assert!(!signed_so(&["-n", "EPuser", "-V", "-2h:-1h"]));
    assert!(!signed_so(&[]), "one that names nobody");
    sign(&theirs.0, &key, &["-n", "EPuser"]);
    assert!(!can_log_in("EPuser"), "of an authority that is not trusted");
    sign(&ours.0, &key, &["-n", "EPuser"]);
    assert!(can_log_in("EPuser"));
    let mut session = tests::Raw::through(master.sftp(("EPuser", "")).with_key(&key));
    session.greet();
    let file = folder.path().join("users.yaml");
    std::fs::write(&file, tests::SEED).unwrap();
    master.sftp(ADMIN).run(&format!("put {} users.yaml\n", file.display())).expect_ok();
    assert!(master.result().contains("~ trusted_ca: changed"), "{}", master.result());
    assert!(!can_log_in("EPuser"));
    eventually("whom it has let in is sent away", || session.has_ended());
}

#[test]
fn any_of_several_keys_logs_in_and_others_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let (ed25519, ecdsa, foreign) =
        (make_key(folder.path(), "ed25519"), make_key(folder.path(), "ecdsa"), folder.path().join("other"));
    std::fs::create_dir(&foreign).unwrap();
    let foreign = make_key(&foreign, "ed25519");
    let users = format!("{}    public_keys: [\"{}\", \"{}\"]\n", tests::SEED, ed25519.1, ecdsa.1);
    let master = Machine::master().users(&users).start();
    let with = |key: &std::path::Path| Sftp::new(master.address(), USER).with_key(key).can_log_in();
    assert!(with(&ed25519.0) && with(&ecdsa.0));
    assert!(!with(&foreign.0));
    assert!(!Sftp::new(master.address(), ADMIN).with_key(&ed25519.0).can_log_in(), "a key is one account's");
}

#[test]
fn everything_but_sftp_is_refused_and_answered() {
    let master = Machine::master().start();
    let sftp = master.sftp(USER);
    let ssh = |arguments: &[&str]| run(sftp.command("ssh").args(arguments).arg(sftp.target()));
    let cases: [(&[&str], &str); 3] = [
        (&["-n"], "shell request failed"),
        (&["-tt"], "PTY allocation request failed"),
        (&["-n", "-W", "127.0.0.1:22"], "forwarding failed"),
    ];
    for (arguments, expected) in cases {
        let (status, text) = ssh(arguments);
        assert!(!status.success() && text.contains(expected), "{arguments:?}: {text}");
    }
    let (status, text) = run(sftp.command("ssh").arg("-s").arg(sftp.target()).arg("netconf"));
    assert!(!status.success() && text.contains("subsystem request failed"), "{text}");
    let (status, text) = run(sftp.command("ssh").arg(sftp.target()).arg("id"));
    assert!(!status.success() && text.contains("exec request failed"), "{text}");
    let (status, text) = run(sftp.command("scp").args(["-O", "/dev/null"]).arg(format!("{}:x", sftp.target())));
    assert!(!status.success(), "the old scp protocol is a command: {text}");
}

#[test]
fn both_machines_show_the_same_host_keys_and_keep_them_over_restarts() {
    let secret = pair::secret::PairSecret::generate().unwrap().to_hex();
    let mut master = Machine::master().secret(&secret).start();
    let standby = Machine::master().secret(&secret).standby().start();
    let keys = |machine: &Machine| {
        let mut scan = Command::new("ssh-keyscan");
        scan.args(["-p", &machine.address().port().to_string(), "127.0.0.1"]);
        let (_, text) = run(&mut scan);
        let mut keys: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(' '))
            .map(|(_, key)| key.to_owned())
            .collect();
        keys.sort();
        assert_eq!(keys.len(), 2, "{text}");
        keys
    };
    let before = keys(&master);
    assert_eq!(before, keys(&standby));
    master.restart();
    assert_eq!(before, keys(&master));
}

#[test]
fn a_removed_or_disabled_account_loses_its_live_sessions() {
    let master = Machine::master().start();
    let mut session = master.sftp(USER).start_endless_upload("endless");
    // A connection alone may log in after the change, and would be refused.
    master.wait_for_activity("the login", |record| record.sender == "login");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.yaml");
    std::fs::write(&file, format!("{}    disabled: true\n", tests::SEED.replace("\"1234\"", "\"^^^^\""))).unwrap();
    master.sftp(ADMIN).run(&format!("put {}\n", file.display())).expect_ok();
    session.wait_for_line("the account was removed, disabled or given other rights");
    assert!(!master.sftp(USER).can_log_in());
    assert!(!master.path("EPuser", "endless").exists(), "an unfinished upload has no name");
}

#[test]
fn a_client_that_takes_nothing_is_cut_off_too() {
    let master = Machine::master().start();
    let sockets = || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", master.program().id())).unwrap().flatten();
        open.filter_map(|fd| std::fs::read_link(fd.path()).ok())
            .filter(|path| path.to_string_lossy().starts_with("socket:"))
            .count()
    };
    let before = sockets();
    std::fs::create_dir_all(master.path("EPuser", "")).unwrap();
    std::fs::File::create(master.path("EPuser", "large")).unwrap().set_len(1 << 32).unwrap();
    let session = master.sftp(USER).start_batch("get large /dev/null\n");
    let sent = || {
        master
            .page("/metrics")
            .1
            .lines()
            .find_map(|line| line.strip_prefix("sftpd_sent_bytes_total ")?.parse::<u64>().ok())
    };
    eventually("the download runs", || sent().is_some_and(|bytes| bytes > 1_000_000));
    session.signal(rustix::process::Signal::STOP);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.yaml");
    std::fs::write(&file, format!("{}    disabled: true\n", tests::SEED.replace("\"1234\"", "\"^^^^\""))).unwrap();
    master.sftp(ADMIN).run(&format!("put {}\n", file.display())).expect_ok();
    eventually("its socket is closed", || sockets() <= before);
}

#[test]
fn an_account_has_no_more_sessions_than_it_may() {
    let master = Machine::master().setting("LIMITS__SESSIONS_PER_ACCOUNT", "1").start();
    let _session = master.sftp(USER).start_endless_upload("endless");
    eventually("the session is there", || master.page("/metrics").1.contains("name=\"succeeded\"} 1"));
    assert!(!master.sftp(USER).can_log_in());
    assert!(master.sftp(ADMIN).can_log_in());
}

#[test]
fn a_connection_that_does_not_log_in_is_ended() {
    let master = Machine::master()
        .setting("LIMITS__LOGIN_GRACE", "300ms")
        .setting("LIMITS__UNAUTHENTICATED_PER_ADDRESS", "2")
        .start();
    let connect = || std::net::TcpStream::connect(master.address()).unwrap();
    let ends = |mut stream: std::net::TcpStream| std::io::Read::read_to_end(&mut stream, &mut Vec::new()).map(|_| ());
    let (silent, greeting) = (connect(), connect());
    std::io::Write::write_all(&mut &greeting, b"SSH-2.0-x\r\n").unwrap();
    eventually("a third is refused at once", || ends(connect()).is_ok());
    let _ = (ends(silent), ends(greeting));
    eventually("there is room again", || master.sftp(USER).can_log_in());
}
