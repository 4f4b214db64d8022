//! Lines of both servers become the same records, and what is none says why.

use super::*;
use pair::activity::Activity;
use proptest::prelude::*;

fn read(line: &str) -> Meaning {
    meaning(line.as_bytes(), &TimeZone::UTC)
}

#[track_caller]
fn record(line: &str) -> Entry {
    match read(line) {
        Meaning::Record(entry) => *entry,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn a_record_of_our_own_is_read_with_all_it_says() {
    let entry = record(
        r#"{"id":7,"time":"2026-11-21T22:48:11.030Z","level":"warn","sender":"Upload","username":"EPuser","remote_addr":"[2001:db8::1]:49276","connection_id":"1a-1","protocol":"SFTP","file_path":"/in/up.bin","file_path_escaped":"/in/%FF","target_path":"/t","size_bytes":300,"file_size":400,"elapsed_ms":7,"outcome":"aborted","error":"the connection was lost"}"#,
    );
    let expected = Entry {
        time_ms: 1_795_301_291_030,
        log_id: Some(7),
        operation: Some(Operation::Upload),
        outcome: Outcome::Aborted,
        account: "EPuser".into(),
        address: "2001:db8::1".into(),
        port: Some(49276),
        connection: "1a-1".into(),
        protocol: "SFTP".into(),
        path: Some("/in/up.bin".into()),
        path_escaped: Some("/in/%FF".into()),
        target: Some("/t".into()),
        moved_bytes: Some(300),
        file_bytes: Some(400),
        elapsed_ms: Some(7),
        error: Some("the connection was lost".into()),
        ..Entry::default()
    };
    assert_eq!(entry, expected);
    let unknown = record(r#"{"id":8,"time":"2026-11-21T22:48:11Z","sender":"Teleport"}"#);
    assert_eq!((unknown.operation, unknown.sender.as_deref()), (Some(Operation::Other), Some("Teleport")));
}

#[test]
fn sftpgos_transfers_and_commands_are_the_same_records() {
    let upload = record(
        r#"{"level":"info","time":"2026-10-01T16:53:57.751","sender":"Upload","local_addr":"10.0.0.1:22","remote_addr":"10.0.0.2:37628","elapsed_ms":12,"size_bytes":4000,"username":"p","file_path":"/srv/p/in/a.zip","virtual_path":"/in/a.zip","connection_id":"SFTP_ab_1","protocol":"SFTP"}"#,
    );
    assert_eq!((upload.path.as_deref(), upload.outcome), (Some("/in/a.zip"), Outcome::Complete));
    assert_eq!((upload.moved_bytes, upload.elapsed_ms, upload.log_id), (Some(4000), Some(12), None));
    let failed = record(
        r#"{"level":"error","time":"2026-10-01T16:53:57.751","sender":"Download","remote_addr":"10.0.0.2","size_bytes":0,"username":"p","file_path":"/srv/p/a","error":"denied"}"#,
    );
    assert_eq!((failed.outcome, failed.error.as_deref()), (Outcome::Aborted, Some("denied")));
    assert_eq!((failed.address.as_str(), failed.port), ("10.0.0.2", None));
    let rename = record(
        r#"{"level":"info","time":"2026-10-01T16:53:57.751","sender":"Rename","username":"p","file_path":"/a","target_path":"/b","filemode":"","uid":-1,"gid":-1,"access_time":"","size":-1,"elapsed":3,"ssh_command":"","connection_id":"c","protocol":"SFTP"}"#,
    );
    assert_eq!((rename.target.as_deref(), rename.elapsed_ms, rename.moved_bytes), (Some("/b"), Some(3), None));
    assert_eq!(rename.outcome, Outcome::Complete);
    for sender in ["Rmdir", "Mkdir", "Symlink", "Remove", "Chmod", "Chown", "Chtimes", "Truncate", "Copy", "SSHCommand"]
    {
        let entry = record(&format!(r#"{{"time":"2026-10-01T16:53:57.751","sender":"{sender}","file_path":"/a"}}"#));
        assert!(entry.kind().operation().is_change(), "{sender}");
    }
}

#[test]
fn sftpgos_logins_are_read_in_their_old_and_new_form() {
    let new = record(
        r#"{"level":"info","time":"2026-10-01T16:53:57.743","sender":"login","ip":"10.0.0.2","username":"p","method":"password","protocol":"SSH","connection_id":"ab","client":"SSH-2.0-OpenSSH_10.2","encrypted":true,"info":"negotiated algorithms: {KeyExchange:curve25519-sha256 HostKey:ssh-ed25519 Read:{Cipher:aes128-ctr MAC:hmac-sha2-256} Write:{Cipher:aes128-ctr MAC:hmac-sha2-256}}"}"#,
    );
    let old = record(
        r#"{"level":"info","time":"2026-10-01T16:53:57.743","sender":"SSH","connection_id":"ab","message":"User \"p\" logged in with \"password\", from ip \"10.0.0.2\", client version \"SSH-2.0-OpenSSH_10.2\", negotiated algorithms: {KeyExchange:curve25519-sha256 HostKey:ssh-ed25519 Read:{Cipher:aes128-ctr MAC:hmac-sha2-256 compression:} Write:{Cipher:aes128-ctr MAC:hmac-sha2-256}}"}"#,
    );
    assert_eq!(new.algorithms, "curve25519-sha256, ssh-ed25519, aes128-ctr, hmac-sha2-256");
    assert_eq!(new, old);
    assert_eq!((new.client.as_str(), new.method.as_str()), ("SSH-2.0-OpenSSH_10.2", "password"));
    let failed = record(
        r#"{"level":"debug","time":"2026-10-01T16:54:01.437","sender":"connection_failed","client_ip":"10.0.0.9","username":"x\"y","login_type":"password","protocol":"SSH","error":"invalid credentials"}"#,
    );
    assert_eq!((failed.outcome, failed.method.as_str()), (Outcome::Refused, "password"));
    assert_eq!((failed.account.as_str(), failed.address.as_str()), ("x\"y", "10.0.0.9"));
    let banned = r#"{"level":"info","time":"2026-10-01T16:54:01.437","sender":"defender","client_ip":"10.0.0.9","protocol":"SSH","event":"banned"}"#;
    assert_eq!(record(banned).operation, Some(Operation::Ban));
    let quoted = r#"{"time":"2026-10-01T16:54:01.437","sender":"SSH","message":"User \"a\\\" logged in with \\\"b\" logged in with \"publickey\", from ip \"::1\""}"#;
    assert_eq!(record(quoted).account, "a\" logged in with \"b", "a name that looks like the sentence");
}

#[test]
fn our_logins_tell_all_algorithms_and_older_ones_those_that_are_old() {
    let of = |more: &str| {
        record(&format!(r#"{{"id":1,"time":"2026-10-01T16:53:57.743Z","sender":"login","username":"p",{more}}}"#))
            .algorithms
    };
    let (ctr, kex) = (r#""cipher":"aes192-ctr","mac":"hmac-sha2-256""#, r#""kex":"curve25519-sha256""#);
    assert_eq!(of(&format!("{ctr},{kex}")), "aes192-ctr, hmac-sha2-256, curve25519-sha256");
    assert_eq!(of(&format!(r#""cipher":"aes256-gcm@openssh.com",{kex}"#)), "aes256-gcm@openssh.com, curve25519-sha256");
    assert_eq!(of(r#""old_algorithms":"hmac-sha1""#), "hmac-sha1");
    let both = of(r#""cipher":"aes128-cbc","mac":"hmac-sha1","kex":"x","old_algorithms":"aes128-cbc, hmac-sha1""#);
    assert_eq!(both, "aes128-cbc, hmac-sha1, x", "each once");
}

#[test]
fn what_sftpgo_says_of_itself_is_passed_over() {
    let lines = [
        r#"{"level":"debug","time":"2026-10-01T16:54:01.437","sender":"defender","client_ip":"10.0.0.9","event":"UserNotFound","score":8}"#,
        r#"{"level":"info","time":"2026-10-01T16:54:01.437","sender":"httpd","method":"GET","uri":"/","elapsed_ms":1}"#,
        r#"{"level":"debug","time":"x","sender":"sftpd","message":"User \"a"}"#,
        "  \r",
    ];
    for line in lines {
        assert_eq!(read(line), Meaning::PassedOver, "{line}");
    }
}

#[test]
fn a_time_without_a_zone_is_of_the_given_one() {
    let line = r#"{"time":"2026-07-01T12:00:00.000","sender":"Upload"}"#;
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    let Meaning::Record(there) = meaning(line.as_bytes(), &berlin) else { panic!() };
    assert_eq!(record(line).time_ms - there.time_ms, 2 * 3_600_000);
}

#[test]
fn what_is_no_record_says_why() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let cases = [
        ("{\"sender\":\"Upl", "ends before"),
        ("hello", "no JSON"),
        ("[]", "no record"),
        ("{}", "no sender"),
        ("7", "no record"),
        ("\u{0}\u{0}\u{0}", "no JSON"),
        (r#"{"sender":"Upload","time":"yesterday"}"#, "yesterday"),
        (r#"{"sender":"Upload"}"#, "time"),
        (r#"{"sender":"Upload","time":"2026-10-01T16:54:01Z","username":7}"#, "no record"),
        (&deep, "no record"),
    ];
    for (line, expected) in cases {
        let Meaning::Problem(sentence) = read(line) else { panic!("{line}") };
        assert!(sentence.contains(expected), "{line}: {sentence}");
    }
}

#[test]
fn bytes_that_are_no_utf8_are_marked_and_kept() {
    let line = b"{\"sender\":\"Upload\",\"time\":\"2026-10-01T16:54:01Z\",\"file_path\":\"/a\xff\"}";
    let Meaning::Record(entry) = meaning(line, &TimeZone::UTC) else { panic!() };
    assert_eq!(entry.path.as_deref(), Some("/a\u{fffd}"));
}

#[test]
fn numbers_that_nobody_means_do_no_harm() {
    let line = r#"{"sender":"Upload","time":"2026-10-01T16:54:01Z","size_bytes":99999999999999999999,"elapsed_ms":-5,"file_size":null}"#;
    let entry = record(line);
    assert_eq!((entry.moved_bytes, entry.elapsed_ms, entry.file_bytes), (Some(QUANTITY_MAX), None, None));
}

proptest! {
    #[test]
    fn every_record_that_sftpd_writes_is_read(path: Vec<u8>, username: String, error: String, id in 1..u64::MAX) {
        let mut activity = Activity { id, time: "2026-11-21T22:48:11.030Z".into(), sender: "Remove".into(), ..Activity::default() };
        activity.username.clone_from(&username);
        activity.error = Some(error.clone());
        activity.set_path(&path);
        let line = activity.line();
        let Meaning::Record(entry) = meaning(line.trim_ascii_end(), &TimeZone::UTC) else { panic!() };
        prop_assert_eq!(entry.account, username);
        prop_assert_eq!(entry.error.unwrap_or_default(), error);
        prop_assert_eq!(entry.path.unwrap_or_default(), activity.file_path.unwrap_or_default());
        prop_assert_eq!(entry.path_escaped, activity.file_path_escaped);
    }

    #[test]
    fn no_line_is_too_odd(line: Vec<u8>) {
        let _ = meaning(&line, &TimeZone::UTC);
    }
}
