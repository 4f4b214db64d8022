//! Every wrong users.yaml that an admin has ever uploaded: what he reads, and that nothing has changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use tests::{ADMIN, Machine, SEED, USER};

fn with(lines: &str) -> Vec<u8> {
    format!("{SEED}{lines}").into_bytes()
}

fn utf16(text: &str) -> Vec<u8> {
    [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

/// What it is, what is uploaded, and what must stand in the result.
type Wrong = (&'static str, Vec<u8>, &'static str);

/// What is no users.yaml at all.
fn wrong_files() -> Vec<Wrong> {
    vec![
        ("nothing", Vec::new(), "1:1: missing field `users`: the file begins with `users:`"),
        (
            "a comment only",
            b"# users will come\n".to_vec(),
            "2:1: missing field `users`: the file begins with `users:`",
        ),
        (
            "a list",
            b"- name: a\n".to_vec(),
            "1:1: something else stands here, expected `users:` with the users below it",
        ),
        (
            "another key",
            b"accounts:\n  A: {name: a}\n".to_vec(),
            "1:1: unknown field: there are users, agents, trusted_ca",
        ),
        ("UTF-16", utf16(SEED), "1:1: the file is not UTF-8 (first on line 1): save it as UTF-8"),
        (
            "Latin-1",
            b"users:\n  A: {name: \"J\xfcrgen\", password: x, admin: true}\n".to_vec(),
            "1:1: the file is not UTF-8 (first on line 2): save it as UTF-8",
        ),
        (
            "a tab",
            SEED.replace("    name", "\tname").into_bytes(),
            "3:1: found character that cannot start any token: indent with spaces and not with tabs, and put a value that begins with @, ` or % in quotes",
        ),
        (
            "half of it",
            SEED.as_bytes()[..SEED.len() - 20].to_vec(),
            "7:11: EPuser could never log in: give it a password or public_keys",
        ),
        (
            "an open quote",
            SEED.replace("\"1234\"", "\"1234").into_bytes(),
            "9:1: found unexpected end of stream: a quote or a bracket is opened and not closed",
        ),
    ]
}

/// Users that cannot be.
fn wrong_users() -> Vec<Wrong> {
    vec![
        (
            "a key twice",
            SEED.replace("    password: \"1234\"", "    password: \"1234\"\n    password: \"5678\"").into_bytes(),
            "7:5: user 1: duplicate field `password`",
        ),
        (
            "a label twice",
            with("  1:\n    name: other\n    password: x-other\n"),
            "9:3: this label comes twice (the other on line 6)",
        ),
        (
            "a name twice",
            with("  2:\n    name: EPuser\n    password: x-other\n"),
            "10:11: two accounts have the name \"EPuser\" (the other on line 7)",
        ),
        ("an unknown field", with("    pasword: \"x\"\n"), "9:5: user 1: unknown field: did you mean `password`?"),
        ("no name", with("  2:\n    password: x-other\n"), "10:5: user 2: missing field `name`"),
        (
            "a name with a slash",
            with("  2:\n    name: a/b\n    password: x-other\n"),
            "10:11: the name \"a/b\" holds a slash or backslash",
        ),
        (
            "no way to log in",
            with("  2:\n    name: other\n"),
            "10:11: other could never log in: give it a password or public_keys",
        ),
        (
            "an empty password",
            with("  2:\n    name: other\n    password: \"\"\n"),
            "11:15: the password of other is empty",
        ),
    ]
}

/// Rights and promises that cannot be.
fn wrong_rights() -> Vec<Wrong> {
    vec![
        (
            "a promise that cannot be kept yet",
            with("    acknowledge: standby\n"),
            "9:18: `acknowledge: standby` is not there yet: an upload is answered when this machine has it (`local`)",
        ),
        (
            "a folder without its slash",
            with("    permissions: {/: read, inbox: upload}\n"),
            "9:28: a folder in `permissions` begins with a slash and has no dots: /inbox, /reports/2027",
        ),
        (
            "a right that is none",
            with("    permissions: {/: write}\n"),
            "9:19: what a folder in `permissions` allows is one of `none`, `read`, `upload`, `full`",
        ),
        (
            "rights in two ways",
            with("    read_only: true\n    permissions: {/in: upload}\n"),
            "10:19: EPuser is `read_only`: write `permissions: {/: read}` and the folders that differ",
        ),
        (
            "an old algorithm for the whole world",
            with("    legacy_algorithms: [hmac-sha1]\n    legacy_until: 2030-01-01\n"),
            "9:25: `legacy_algorithms` need `allow_from`",
        ),
        (
            "an old algorithm for ever",
            with("    allow_from: [192.0.2.1]\n    legacy_algorithms: [hmac-sha1]\n"),
            "10:25: `legacy_algorithms` need `legacy_until`",
        ),
        (
            "an algorithm that nobody may use",
            with(
                "    allow_from: [192.0.2.1]\n    legacy_until: 2030-01-01\n    legacy_algorithms: [hmac-sha1, arcfour]\n",
            ),
            "11:36: \"arcfour\" is no algorithm that can be allowed: there are ecdh-sha2-nistp256,",
        ),
        (
            "an authority that is none",
            format!("trusted_ca: [ssh-ed25519, nonsense]\n{SEED}").into_bytes(),
            "1:14: public key 1",
        ),
    ]
}

/// Values that cannot be.
fn wrong_values() -> Vec<Wrong> {
    let bomb = (1..12).fold(String::from("a0: &a0 [x, x]\n"), |text, level| {
        let below = level - 1;
        format!("{text}a{level}: &a{level} [*a{below}, *a{below}, *a{below}, *a{below}]\n")
    });
    vec![
        (
            "a mask for somebody new",
            with("  2:\n    name: other\n    password: \"^^^^^^^^\"\n"),
            "11:15: other has no password yet that `^^^` could stand for: write a new one",
        ),
        (
            "a hash of no known make",
            with("  2:\n    name: other\n    password: \"$1$abc$def\"\n"),
            "11:15: this hash cannot be used: taken are those of argon2 ($argon2id$v=19$…), bcrypt ($2b$…) and crypt ($6$…, $5$…, $y$…), or the password itself",
        ),
        (
            "a private key",
            with("    public_keys: [\"-----BEGIN OPENSSH PRIVATE KEY-----\"]\n"),
            "9:19: public key 1 is a private key: keep it secret, and give the line of the .pub file (PuTTYgen shows it as \"Public key for pasting\")",
        ),
        (
            "a key of PuTTY",
            with("    public_keys: [\"PuTTY-User-Key-File-3: ssh-ed25519\"]\n"),
            "9:19: public key 1 is a private key: keep it secret, and give the line of the .pub file (PuTTYgen shows it as \"Public key for pasting\")",
        ),
        (
            "half a key",
            with("    public_keys: [\"ssh-ed25519 AAAAC3Nz\"]\n"),
            "9:19: public key 1 cannot be read: a line such as \"ssh-ed25519 AAAA… name\" is taken",
        ),
        ("a home above", with("    home: ../other\n"), "9:11: the home \"../other\" begins with a dot"),
        (
            "a home in another's",
            with("  2:\n    name: other\n    password: x-other\n    home: EPuser/in\n"),
            "12:11: the home \"EPuser/in\" is inside \"EPuser\", the home of EPuser",
        ),
        (
            "no admin",
            SEED.replace("    admin: true\n", "1:1: no admin is left: one user needs `admin: true`").into_bytes(),
            "",
        ),
        (
            "a password in a comment",
            with("# password: \"secret-one\"\n"),
            "9:1: a comment holds a password, which would stay readable: write ^^^ there",
        ),
        (
            "a word for a truth",
            with("    read_only: maybe\n"),
            "9:16: user 1, `read_only`: something else stands here, `true` or `false` belongs here",
        ),
        (
            "an alias bomb",
            format!("{bomb}users: *a11\n").into_bytes(),
            "1:1: unknown field: there are users, agents, trusted_ca",
        ),
        (
            "a thousand brackets",
            format!("users: {}", "[".repeat(2000)).into_bytes(),
            "1:1: too many brackets are open at once",
        ),
        ("more than 4 MiB", with(&"# padding\n".repeat(480_000)), "1:1: users.yaml is larger than 4194304 bytes"),
        (
            "a picture",
            [&b"\x89PNG\r\n\x1a\n"[..], &[0; 100]].concat(),
            "1:1: the file is not UTF-8 (first on line 1): save it as UTF-8",
        ),
    ]
}

#[test]
fn every_wrong_file_is_answered_with_a_sentence_and_changes_nothing() {
    let machine = Machine::master().start();
    let before = std::fs::read(machine.path("admin", "users.yaml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.yaml");
    for (what, content, sentence) in
        wrong_files().into_iter().chain(wrong_users()).chain(wrong_rights()).chain(wrong_values())
    {
        std::fs::write(&file, content).unwrap();
        assert!(!machine.sftp(ADMIN).run(&format!("put {} users.yaml\n", file.display())).ok, "{what}");
        println!("{what}: {}", machine.result().lines().skip(1).collect::<Vec<_>>().join(" / "));
        assert!(
            machine.result().starts_with("REFUSED ") && machine.result().contains(sentence),
            "{what}: {}",
            machine.result()
        );
        assert_eq!(std::fs::read(machine.path("admin", "users.yaml")).unwrap(), before, "{what}");
    }
    assert!(machine.sftp(USER).can_log_in() && machine.sftp(ADMIN).can_log_in());
}
