//! What comes of other servers' lists, and what is said about the rest.

use super::*;
use crate::accounts::users_file::Password;

const HASH: &str =
    "$6$uMlCXUwBPUVqB2jO$iWgb9PyDDbwTdhUuHP/dEZy.DLHBWBfyiwTYl8JUTtNc/xv3x3.vvyV2zRZoKkd59zK9XvYwYbeiiE/NyrNA51";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ someone";

/// The users of what was written, and the remarks.
fn taken(found: Found) -> (Vec<users_file::User>, String) {
    let (text, remarks) = users_yaml(found);
    let users = users_file::parse(&text, &Accounts::default());
    (users.unwrap_or_else(|_| panic!("it does not read back:\n{text}")).users, remarks.join("\n"))
}

fn named<'u>(users: &'u [users_file::User], name: &str) -> &'u users_file::User {
    users.iter().find(|user| user.account.name == name).unwrap_or_else(|| panic!("{name} is missing"))
}

#[test]
fn a_users_conf_of_atmoz_becomes_accounts_with_keys_and_hashes() {
    let text = format!(
        "# partners\nfoo:pa\"ss:1001:100:upload\nbar:{HASH}:e:1002\nkeys::1003\nold:$1$abc$def:e\n\nadmin:1234\n../x:1\n"
    );
    let keys = |name: &str| if name == "keys" { vec![format!("from=\"10.0.0.0/8\" {KEY}")] } else { Vec::new() };
    let (users, remarks) = taken(from_atmoz(&text, keys));
    assert!(named(&users, "foo").password == Password::Plain("pa\"ss".into()));
    assert!(named(&users, "bar").password == Password::Hash(HASH.into()));
    let with_key = named(&users, "keys");
    assert!(with_key.password == Password::None && with_key.account.public_keys.len() == 1);
    assert!(named(&users, "old").password == Password::Generate);
    assert!(named(&users, "sftp-admin").account.admin);
    assert!(users.iter().all(|user| user.account.name != "../x"));
    for said in
        ["../x is left out", "admin is left out", "foo: make its folders", "keys: a key has options", "old: its hash"]
    {
        assert!(remarks.contains(said), "{said}: {remarks}");
    }
}

#[test]
fn people_of_the_system_come_with_their_hashes_and_services_do_not() {
    let passwd = "root:x:0:0:root:/root:/bin/sh\nanna:x:1000:1000:Anna B,,,:/home/anna:/bin/sh\n\
                  ben:x:1001:50:Ben:/home/ben:/usr/sbin/nologin\nnobody:x:65534:65534::/nonexistent:/bin/false\n";
    let shadow = format!("root:*:1:0:9:7:::\nanna:{HASH}:1:0:9:7:::\nben:!{HASH}:1:0:9:7:::\n");
    let keys = |home: &str| if home == "/home/ben" { vec![KEY.to_owned()] } else { Vec::new() };
    let options = Options { shadow: Some(shadow.clone()), group: None };
    let (users, remarks) = taken(from_openssh(passwd, &options, keys));
    assert_eq!(users.len(), 3, "the admin, anna and ben");
    assert!(named(&users, "anna").password == Password::Hash(HASH.into()));
    assert_eq!(named(&users, "anna").account.comment.as_deref(), Some("Anna B"));
    assert_eq!(remarks, "ben: its password is locked there, so the account is disabled here");
    assert!(named(&users, "ben").password == Password::None && named(&users, "ben").account.disabled);
    let expired = Options { shadow: Some(format!("anna:{HASH}:1:0:9:7::1:\n")), group: None };
    let (users, remarks) = taken(from_openssh(passwd, &expired, keys));
    assert!(named(&users, "anna").account.disabled && remarks.contains("anna: the account has expired"), "{remarks}");
    let group = |name: &str| Some(("sftp:x:50:\nother:x:7:anna,x\n".to_owned(), name.to_owned()));
    for (name, member) in [("sftp", "ben"), ("other", "anna")] {
        let options = Options { shadow: Some(shadow.clone()), group: group(name) };
        let (users, _) = taken(from_openssh(passwd, &options, keys));
        assert_eq!(users.len(), 2, "{name}");
        named(&users, member);
    }
    let (users, remarks) = taken(from_openssh(passwd, &Options { shadow: None, group: group("none") }, keys));
    assert!(users.len() == 1 && remarks.contains("no group none"), "{remarks}");
}

#[test]
fn a_dump_of_sftpgo_keeps_quota_rights_and_status_and_names_what_is_lost() {
    let text = format!(
        r#"{{"version": 16, "folders": [], "users": [
            {{"username": "a", "password": "{HASH}", "status": 1, "quota_size": 1048576, "permissions": {{"/": ["*"]}},
              "description": "first: \"partner\"", "public_keys": ["{KEY}"]}},
            {{"username": "b", "password": "{{SSHA}}x", "status": 0, "permissions": {{"/": ["list", "download"]}}}},
            {{"username": "c", "permissions": {{"/": ["*"], "/in": ["upload"]}}, "expiration_date": 1, "groups": [{{}}], "max_sessions": 2,
              "filters": {{"allowed_ip": ["10.0.0.0/8"], "denied_protocols": ["SSH"]}}, "virtual_folders": [{{}}],
              "filesystem": {{"provider": 1}}, "upload_bandwidth": 5}}]}}"#
    );
    let (users, remarks) = taken(from_sftpgo(&text).unwrap());
    let (a, b) = (named(&users, "a"), named(&users, "b"));
    assert!(a.password == Password::Hash(HASH.into()) && a.account.public_keys.len() == 1);
    assert_eq!((a.account.quota_bytes, a.account.comment.as_deref()), (Some(1 << 20), Some("first: \"partner\"")));
    assert!(b.account.read_only && b.account.disabled && b.password == Password::Generate);
    assert!(named(&users, "c").account.disabled && !a.account.disabled);
    for said in [
        "b: its hash",
        "permissions",
        "c: the account has expired",
        "virtual folders",
        "storage",
        "bandwidth",
        "groups",
        "sessions",
        "addresses",
    ] {
        assert!(remarks.contains(said), "{said}: {remarks}");
    }
    assert!(from_sftpgo("[]").unwrap_err().contains("no dump of SFTPGo"));
}

#[test]
fn two_of_one_name_are_to_be_put_right_by_hand() {
    let (_, remarks) = users_yaml(from_atmoz("foo:1\nfoo:2\n", |_| Vec::new()));
    assert!(remarks.iter().any(|remark| remark.contains("by hand") && remark.contains("foo")), "{remarks:?}");
}
