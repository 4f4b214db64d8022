//! users.yaml: parsed, checked, and masked.
//!
//! Parsing yields accounts or mistakes, each with line and column; there is no half-accepted file. A plain password is
//! never kept: in the stored file its bytes are overwritten by a mask of the same length ([`MASK`]), so that the file
//! keeps its size, comments and order. No I/O, no hashing here.

mod agents;
mod comments;
mod fields;
mod mask;

use std::collections::HashMap;

use russh::keys::PublicKey;

use super::form::{REPEATED_LABEL, RawFile, RawUser, Scalar};
use super::mistake::Mistake;
use super::positions::{Position, Positions, Style};
use super::{ADMIN_HOME, Account, Accounts, UploadMode, password};

pub use mask::{masked, with_password_masked};

/// The largest users.yaml, in bytes: ten thousand accounts with two keys each.
pub const BYTES_MAX: usize = 4 * 1024 * 1024;

/// What stands for a password that is kept elsewhere: as many of these as the password had bytes. It is valid YAML with
/// or without quotes. In an uploaded file it means "unchanged".
pub const MASK: char = '^';

/// Brackets open at once, in the whole text. The format needs three; the parser's time grows with the square of them.
const BRACKETS_MAX: i64 = 1000;

/// More mistakes than anybody reads.
const MISTAKES_MAX: usize = 100;

/// A password as the file gives it.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// None: only keys log in.
    None,
    /// Plain text, to be hashed.
    Plain(String),
    /// Already a hash.
    Hash(String),
    /// To be drawn and shown once.
    Generate,
    /// As before.
    Unchanged,
}

/// A user as the file gives it.
#[derive(Clone)]
pub struct User {
    /// The account, its password still missing.
    pub account: Account,
    /// The password as written.
    pub password: Password,
}

/// A users.yaml, as read.
#[derive(Clone, Default)]
pub struct UsersFile {
    /// The users, in order.
    pub users: Vec<User>,
    /// Authorities whose certificates let in whom they name.
    pub trusted_ca: Vec<PublicKey>,
}

/// Reads a users.yaml. `before` tells which accounts have a password that a mask can stand for.
pub fn parse(text: &str, before: &Accounts) -> Result<UsersFile, Vec<Mistake>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    refuse_deep_nesting(text)?;
    let positions = Positions::of(text);
    let file: RawFile = serde_yaml::from_str(text).map_err(|error| {
        let twice = positions.repeated_label().filter(|_| error.to_string().contains(REPEATED_LABEL));
        vec![twice.map_or_else(
            || Mistake::of_yaml(&error),
            |(first, again)| Mistake {
                position: again,
                text: format!("{REPEATED_LABEL} (the other on line {})", first.line),
            },
        )]
    })?;
    let has_authority = !file.trusted_ca.is_empty();
    let mut check = Check { text, positions: &positions, before, has_authority, mistakes: Vec::new() };
    let mut users: Vec<User> = file.users.0.into_iter().map(|(label, raw)| check.user(label, raw)).collect();
    users.extend(check.agents(file.agents));
    let trusted_ca = check.keys("", "trusted_ca", &file.trusted_ca);
    check.comments();
    check.agents_comments();
    check.repeated_passwords(&users);
    check.names(&users);
    check.homes(&users);
    check.beside_agents(&users);
    if !users.iter().any(|user| user.account.admin && !user.account.disabled) {
        check.mistake(Position { line: 1, column: 1 }, "no admin is left: one user needs `admin: true`".into());
    }
    let mut mistakes = check.mistakes;
    mistakes.sort_by_key(|mistake| mistake.position);
    if let Some(more) = mistakes.len().checked_sub(MISTAKES_MAX).filter(|more| *more > 0) {
        mistakes.truncate(MISTAKES_MAX);
        mistakes.extend(mistakes.last().map(|last| Mistake { text: format!("and {more} more"), ..last.clone() }));
    }
    if mistakes.is_empty() { Ok(UsersFile { users, trusted_ca }) } else { Err(mistakes) }
}

fn refuse_deep_nesting(text: &str) -> Result<(), Vec<Mistake>> {
    let mut open = 0;
    for (number, line) in text.lines().enumerate() {
        for byte in line.bytes() {
            open += match byte {
                b'[' | b'{' => 1,
                b']' | b'}' => -1,
                _ => 0,
            };
            if open > BRACKETS_MAX {
                let position = Position { line: number + 1, column: 1 };
                return Err(vec![Mistake { position, text: "too many brackets are open at once".into() }]);
            }
        }
    }
    Ok(())
}

/// Checks one file, collecting mistakes.
struct Check<'a> {
    text: &'a str,
    positions: &'a Positions,
    before: &'a Accounts,
    /// Whether certificates let in whom they name.
    has_authority: bool,
    mistakes: Vec<Mistake>,
}

impl Check<'_> {
    fn mistake(&mut self, position: Position, text: String) {
        self.mistakes.push(Mistake { position, text });
    }

    fn wrong(&mut self, label: &str, field: &str, text: String) {
        self.mistake(self.positions.field(label, field), text);
    }

    fn user(&mut self, label: String, raw: RawUser) -> User {
        let permissions = self.permissions(&label, &raw);
        let name = self.as_written(&label, "name", raw.name);
        if let Err(reason) = check_name(&name) {
            self.wrong(&label, "name", format!("the name {name:?} {reason}"));
        }
        let password = self.password(&label, &name, raw.password);
        let public_keys = self.keys(&label, "public_keys", &raw.public_keys);
        let has_key = self.has_authority || !raw.public_keys.is_empty();
        if password == Password::None && !has_key {
            self.wrong(&label, "name", format!("{name} could never log in: give it a password or public_keys"));
        }
        let home = self.home(&label, &name, raw.admin, raw.home);
        let upload = self.upload(&label, raw.upload);
        self.acknowledge(&label, raw.acknowledge);
        let quota_bytes = self.quota(&label, raw.quota);
        if raw.read_only && raw.upload_only {
            self.wrong(&label, "upload_only", format!("{name} cannot be both `read_only` and `upload_only`"));
        }
        if raw.upload_only && upload == UploadMode::Direct {
            let text =
                format!("{name} cannot be `upload_only` and write `direct`: what broke off could never be mended");
            self.wrong(&label, "upload", text);
        }
        let upload_bytes_per_s = self.speed(&label, "upload_limit", raw.upload_limit);
        let download_bytes_per_s = self.speed(&label, "download_limit", raw.download_limit);
        let max_sessions = self.max_sessions(&label, raw.max_sessions);
        let allow_from = self.allow_from(&label, &raw.allow_from);
        let expires = self.moment(&label, "expires", "the account is closed", raw.expires);
        let legacy_until = self.legacy(&label, &allow_from, &raw.legacy_algorithms, raw.legacy_until);
        let account = Account {
            label,
            name,
            password_hash: None,
            public_keys,
            home,
            admin: raw.admin,
            read_only: raw.read_only,
            upload_only: raw.upload_only,
            permissions,
            disabled: raw.disabled,
            upload,
            quota_bytes,
            upload_bytes_per_s,
            download_bytes_per_s,
            max_sessions,
            allow_from,
            expires,
            legacy_algorithms: raw.legacy_algorithms,
            legacy_until,
            comment: raw.comment,
            agent: None,
        };
        User { account, password }
    }

    /// A scalar's own text: `0123` without quotes is what the admin typed, not the number 123.
    fn as_written(&self, label: &str, field: &str, scalar: Scalar) -> String {
        match self.positions.scalar(label, field) {
            Some(at) if at.style == Style::Plain && !scalar.is_text => {
                self.text.get(at.bytes.clone()).unwrap_or(&scalar.text).to_owned()
            }
            _ => scalar.text,
        }
    }

    fn password(&mut self, label: &str, name: &str, raw: Option<Scalar>) -> Password {
        let Some(raw) = raw else {
            return Password::None;
        };
        let text = self.as_written(label, "password", raw);
        if self.ends_in_a_comment(label) {
            let text =
                format!("put the password of {name} in quotes: what follows ` #` is a comment, and stays readable");
            self.wrong(label, "password", text);
        }
        if text.is_empty() {
            self.wrong(label, "password", format!("the password of {name} is empty"));
        } else if text == "generate" {
            return Password::Generate;
        } else if text.chars().all(|letter| letter == MASK) {
            let known = self.before.get(name).is_some_and(|account| account.password_hash.is_some());
            if !known {
                let text =
                    format!("{name} has no password yet that `{MASK}{MASK}{MASK}` could stand for: write a new one");
                self.wrong(label, "password", text);
            }
            return Password::Unchanged;
        } else if password::is_usable_hash(&text) {
            return Password::Hash(text);
        } else if looks_like_a_hash(&text) {
            let text = "this hash cannot be used: taken are those of argon2 ($argon2id$v=19$…), bcrypt ($2b$…) and crypt ($6$…, $5$…, $y$…), or the password itself";
            self.wrong(label, "password", text.into());
        } else if text.len() > password::BYTES_MAX {
            let text = format!("the password of {name} is longer than {} bytes", password::BYTES_MAX);
            self.wrong(label, "password", text);
        } else if text.chars().any(char::is_control) {
            self.wrong(label, "password", format!("the password of {name} holds a control character"));
        }
        Password::Plain(text)
    }

    /// Whether a password without quotes has a comment right behind it: probably a part of it.
    fn ends_in_a_comment(&self, label: &str) -> bool {
        let plain = self.positions.scalar(label, "password").filter(|scalar| scalar.style == Style::Plain);
        let rest = plain.and_then(|scalar| self.text.get(scalar.bytes.end..));
        rest.is_some_and(|rest| rest.trim_start_matches([' ', '\t']).starts_with('#'))
    }

    /// Public keys of a list; `label` is empty for one of the file itself.
    fn keys(&mut self, label: &str, field: &str, keys: &[String]) -> Vec<PublicKey> {
        let mut parsed = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            match parse_public_key(key) {
                Ok(key) => parsed.push(key),
                Err(reason) => {
                    let text = format!("public key {} {reason}", number + 1);
                    self.mistake(self.positions.part(label, field, number), text);
                }
            }
        }
        parsed
    }

    fn home(&mut self, label: &str, name: &str, admin: bool, home: Option<String>) -> String {
        if admin {
            if home.as_deref().is_some_and(|home| home != ADMIN_HOME) {
                self.wrong(label, "home", format!("an admin's home is always {ADMIN_HOME}: leave it out"));
            }
            return ADMIN_HOME.into();
        }
        let home = home.unwrap_or_else(|| name.to_owned());
        if home.starts_with('/') {
            let text =
                "a home is a folder in the data folder, written without a slash in front: partner, or partners/acme";
            self.wrong(label, "home", text.into());
        } else if let Some(reason) = home.split('/').find_map(|component| check_name(component).err()) {
            self.wrong(label, "home", format!("the home {home:?} {reason}"));
        } else if home.split('/').next() == Some(ADMIN_HOME) {
            self.wrong(
                label,
                "home",
                format!("the home {home:?} is the admin folder: give {name} another `home`, or an agent another label"),
            );
        }
        home
    }

    fn names(&mut self, users: &[User]) {
        let mut first: HashMap<&str, &str> = HashMap::new();
        for user in users {
            let (name, label) = (user.account.name.as_str(), user.account.label.as_str());
            match first.get(name) {
                None => {
                    first.insert(name, label);
                }
                Some(other) => {
                    let line = self.positions.field(other, "name").line;
                    self.wrong(
                        label,
                        "name",
                        format!("two accounts have the name {name:?} (the other on line {line})"),
                    );
                }
            }
        }
    }

    fn homes(&mut self, users: &[User]) {
        // Sorted by components, a home stands right before those inside it.
        let mut homes: Vec<(Vec<&str>, &User)> =
            users.iter().map(|user| (user.account.home.split('/').collect(), user)).collect();
        homes.sort_by(|(home, _), (other, _)| home.cmp(other));
        let mut outer: Option<(&[&str], &User)> = None;
        for (home, user) in &homes {
            match outer {
                Some((outer_home, outer_user)) if home.len() > outer_home.len() && home.starts_with(outer_home) => {
                    let text = format!(
                        "the home {:?} is inside {:?}, the home of {}",
                        user.account.home, outer_user.account.home, outer_user.account.name
                    );
                    self.wrong(&user.account.label, "home", text);
                }
                _ => outer = Some((home, user)),
            }
        }
    }
}

fn looks_like_a_hash(text: &str) -> bool {
    ["$argon2", "$1$", "$2a$", "$2b$", "$2y$", "$5$", "$6$", "$y$"].iter().any(|prefix| text.starts_with(prefix))
}

/// What a login name or a component of a home must not be.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("is empty")
    } else if name.len() > 64 {
        Err("is longer than 64 bytes")
    } else if name.starts_with('.') {
        Err("begins with a dot")
    } else if name.chars().any(|letter| letter == '/' || letter == '\\') {
        Err("holds a slash or backslash")
    } else if name.chars().any(char::is_control) {
        Err("holds a control character")
    } else if name.trim() != name {
        Err("begins or ends with a space")
    } else {
        Ok(())
    }
}

fn parse_public_key(text: &str) -> Result<PublicKey, String> {
    if text.contains("PRIVATE KEY") || text.contains("PuTTY-User-Key-File") {
        return Err("is a private key: keep it secret, and give the line of the .pub file \
                    (PuTTYgen shows it as \"Public key for pasting\")"
            .into());
    }
    if text.contains("BEGIN SSH2 PUBLIC KEY") {
        return Err("is in RFC 4716 form: convert it with ssh-keygen -i -f FILE".into());
    }
    PublicKey::from_openssh(text.trim())
        .map_err(|_| "cannot be read: a line such as \"ssh-ed25519 AAAA… name\" is taken".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "users:\n  ADMIN:\n    name: \"admin\"\n    password: \"35oi3g4l3he\"\n    admin: true\n  1:\n    name: \"EPuser\"\n    \
                        password: \"1234\"\n";

    fn parse(text: &str, before: &Accounts) -> Result<Vec<User>, Vec<Mistake>> {
        super::parse(text, before).map(|file| file.users)
    }

    fn mistakes(text: &str) -> Vec<String> {
        parse(text, &Accounts::default()).err().unwrap_or_default().iter().map(Mistake::to_string).collect()
    }

    fn mask(text: &str, before: &Accounts) -> Result<String, Vec<Mistake>> {
        masked(text, &parse(text, before)?)
    }

    fn with(user: &str) -> String {
        format!("users:\n  A: {{name: admin, password: secret, admin: true}}\n{user}")
    }

    #[test]
    fn the_seed_form_is_read() {
        let users = parse(SEED, &Accounts::default()).unwrap_or_default();
        let homes: Vec<_> = users.iter().map(|user| (user.account.name.as_str(), user.account.home.as_str())).collect();
        assert_eq!(homes, [("admin", "admin"), ("EPuser", "EPuser")]);
        assert!(users[1].password == Password::Plain("1234".into()));
        assert!(users[0].account.admin && !users[1].account.admin);
    }

    #[test]
    fn a_scalar_is_taken_as_it_is_written() {
        for written in ["0123", "1e5", "1234", "yes", "0x1F", "1.50", "~x", "\"0123\""] {
            let users = parse(&with(&format!("  1: {{name: a, password: {written}}}\n")), &Accounts::default());
            assert!(
                users.unwrap_or_default()[1].password == Password::Plain(written.trim_matches('"').into()),
                "{written}"
            );
        }
    }

    #[test]
    fn mistakes_are_named_with_line_and_column() {
        let cases = [
            ("", "users.yaml:1:1: missing field `users`"),
            ("users:\n  A:\n    nam: x\n", "users.yaml:3:5: user A: unknown field: did you mean `name`?"),
            (&with("  # 3: {name: dora, password: \"geheim2\"}\n"), "users.yaml:3:1: a comment holds a password"),
            ("users: [", "users.yaml:"),
            (
                &with("  1: {name: a, password: x}\n  2: {name: a, password: y}\n"),
                "users.yaml:4:13: two accounts have the name \"a\" (the other on line 3)",
            ),
            (&with("  1: {name: a, password: x}\n  1: {name: b, password: y}\n"), "this label comes twice"),
            (&with("  1: {name: a, password: \"\"}\n"), "users.yaml:3:26: the password of a is empty"),
            (&with("  1: {name: a}\n"), "could never log in"),
            (
                &with("  1: {name: a, password: x, upload: s3cret}\n"),
                "users.yaml:3:37: `upload` is `atomic` or `direct`",
            ),
            (&with("  1: {name: a, password: x, quota: -1}\n"), "users.yaml:3:36: a quota is a number of bytes"),
            (
                &with("  1: {name: a, password: x, home: ../b}\n"),
                "users.yaml:3:35: the home \"../b\" begins with a dot",
            ),
            (&with("  1: {name: a, password: x, home: /b}\n"), "written without a slash in front"),
            (&with("  1: {name: a, password: x, home: b//c}\n"), "is empty"),
            (&with("  1: {name: a, password: x, home: .pair}\n"), "begins with a dot"),
            (
                &with("  1: {name: a, password: x, home: b}\n  2: {name: c, password: x, home: b/c}\n"),
                "is inside \"b\", the home of a",
            ),
            (&with("  1: {name: x, password: x, home: admin}\n"), "is the admin folder"),
            (&with("  1: {name: a/b, password: x}\n"), "holds a slash"),
            (&with("  1: {name: \"a\\0\", password: x}\n"), "control character"),
            (&with("  1: {name: a, password: ^^^^}\n"), "write a new one"),
            (&with("  1: {name: a, password: $6$salt$hash}\n"), "this hash cannot be used"),
            (&with("  1: {name: a, public_keys: [ssh-nonsense]}\n"), "public key 1 cannot be read"),
            (&with("  1: {name: a, public_keys: [\"-----BEGIN OPENSSH PRIVATE KEY-----\"]}\n"), "is a private key"),
            (&with("  1: {name: a, password: abc #def}\n  }\n"), "users.yaml:"),
            (&with("  1:\n    name: a\n    password: abc #def\n"), "put the password of a in quotes"),
            (&with("  1: {name: a, password: [x]}\n"), "a text or a number belongs here"),
            ("users:\n  1: {name: a, password: x}\n", "no admin is left"),
            ("users:\n  A: {name: admin, password: x, admin: true, disabled: true}\n", "no admin is left"),
            ("users:\n  A: {name: admin, password: x, admin: maybe}\n", "users.yaml:2:"),
        ];
        for (text, expected) in cases {
            let mistakes = mistakes(text);
            assert!(mistakes.iter().any(|mistake| mistake.contains(expected)), "{text}\n{mistakes:?}");
        }
    }

    #[test]
    fn a_password_in_the_wrong_place_is_not_repeated() {
        let texts = [
            "users:\n  bob: s3cret\n",
            "users: s3cret\n",
            "admin:s3cret\n",
            "s3cret",
            "users:\n  - s3cret\n",
            &with("  1: {name: a, password: x, admin: s3cret}\n"),
            &with("  1: {name: a, password: x, read_only: s3cret}\n"),
            &with("  1: {name: a, password: x, upload: s3cret}\n"),
            &with("  1: {name: a, password: x, upload: [s3cret]}\n"),
            &with("  1: {name: a, password: x, quota: s3cret}\n"),
            &with("  1: {name: a, password: x, public_keys: s3cret}\n"),
            &with("  1: {name: a, public_keys: [s3cret]}\n"),
            &with("  1: {name: a, password: [s3cret]}\n"),
            &with("  1: {name: a, password: {s3cret: 1}}\n"),
            &with("  1: {name: a, password: $6$s3cret}\n"),
            &with("  1: {name: a, password:s3cret}\n"),
            &with("  1: {name: a, s3cret}\n"),
            &with("  s3cret: {name: a, password: x}\n  s3cret: {name: b, password: x}\n"),
            &with("  # 1: {name: a, password: s3cret}\n"),
        ];
        for text in texts {
            let mistakes = mistakes(text);
            assert!(!mistakes.is_empty() && !mistakes.iter().any(|mistake| mistake.contains("s3cret")), "{mistakes:?}");
            assert!(!mistakes.iter().any(|mistake| mistake.contains("Raw")), "{mistakes:?}");
        }
    }

    #[test]
    fn two_accounts_may_share_a_home_and_neighbours_are_not_inside_each_other() {
        let text = with(
            "  1: {name: a, password: x, home: b}\n  2: {name: c, password: x, home: b}\n  3: {name: bb, password: x}\n  4: {name: b-b, password: x}\n",
        );
        assert_eq!(mistakes(&text), Vec::<String>::new());
    }

    #[test]
    fn an_alias_bomb_and_deep_nesting_are_refused_quickly() {
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned()
            + &(b'b'..=b'i')
                .map(|letter| {
                    format!("{0}: &{0} [{1}]\n", letter as char, format!("*{},", (letter - 1) as char).repeat(9))
                })
                .collect::<String>();
        assert!(!mistakes(&bomb).is_empty());
        assert!(!mistakes(&format!("users: {}", "[".repeat(1_000_000))).is_empty());
    }

    #[test]
    fn masking_keeps_size_comments_and_order() {
        let text = "\u{feff}# é our users\r\nusers:\r\n  A:\r\n    name: admin # the boss\r\n    password: 'it''s me'\r\n    admin: true\r\n  1: {name: b, password: 0123} # c\r\n  2: {name: c, password: generate}\r\n";
        let masked = mask(text, &Accounts::default()).unwrap_or_default();
        assert_eq!(masked.len(), text.len());
        assert!(masked.contains("password: '^^^^^^^^'\r\n") && masked.contains("password: ^^^^} # c"), "{masked}");
        assert!(
            masked.contains("password: ^^^^^^^^}\r\n") && masked.starts_with("\u{feff}# é our users\r\n"),
            "{masked}"
        );
        assert!(!masked.contains("it''s") && !masked.contains("0123"));
    }

    #[test]
    fn a_mask_means_unchanged_and_a_hash_stays() {
        let hash = password::hash("x").unwrap();
        let text = format!(
            "users:\n  A: {{name: admin, password: ^^^^, admin: true}}\n  1: {{name: b, password: \"{hash}\"}}\n"
        );
        let account = parse(SEED, &Accounts::default()).unwrap_or_default()[0].account.clone();
        let before = Accounts::new(1, [Account { password_hash: Some(hash.clone()), ..account }]);
        let users = parse(&text, &before).unwrap_or_default();
        assert!(users[0].password == Password::Unchanged && users[1].password == Password::Hash(hash));
        assert_eq!(mask(&text, &before).unwrap_or_default(), text);
    }

    #[test]
    fn a_quota_and_the_way_of_uploads_are_read() {
        let text =
            with("  1: {name: a, password: x, upload: direct, quota: 1.5GiB}\n  2: {name: b, password: x, quota: 7}\n");
        let users = parse(&text, &Accounts::default()).unwrap_or_default();
        let read: Vec<_> = users.iter().map(|user| (user.account.upload, user.account.quota_bytes)).collect();
        let expected = [(UploadMode::Atomic, None), (UploadMode::Direct, Some(3 << 29)), (UploadMode::Atomic, Some(7))];
        assert_eq!(read, expected);
    }

    #[test]
    fn a_rendered_file_reads_as_the_accounts_it_came_from() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ name";
        let text = with(&format!(
            "  \"odd: \\\"label\": {{name: 'a \"b', password: x, home: c/d, comment: '# no comment', read_only: true}}\n  \
             2: {{name: k, public_keys: [\"{key}\"], disabled: true, upload: direct, quota: 1.5KiB}}\n"
        ));
        let accounts = |users: Vec<User>| {
            users.into_iter().map(|user| Account {
                password_hash: (user.password != Password::None).then(|| "$".into()),
                ..user.account
            })
        };
        let before = Accounts::new(1, accounts(parse(&text, &Accounts::default()).unwrap_or_default()));
        let again =
            Accounts::new(1, accounts(parse(&super::super::rendered::rendered(&before), &before).unwrap_or_default()));
        assert_eq!(before.iter().count(), 3);
        assert_eq!(again.changes_since(&before), Vec::<String>::new());
    }

    #[test]
    fn a_comment_that_repeats_a_password_is_refused() {
        let text = with("  1: {name: a, password: long-enough-1} # a has long-enough-1\n");
        assert!(mistakes(&text).iter().any(|mistake| mistake.contains("3:1: a comment repeats the password of a")));
        let text = with("  1: {name: a, password: long-enough-1, comment: \"long-enough-1!\"}\n");
        assert!(
            mistakes(&text).iter().any(|mistake| mistake.contains("repeats the password of a")),
            "{:?}",
            mistakes(&text)
        );
        assert_eq!(
            mistakes(&with("  1: {name: a, password: abc} # abc\n")),
            Vec::<String>::new(),
            "short ones do by chance"
        );
    }

    #[test]
    fn a_password_that_cannot_be_masked_in_place_is_refused() {
        let block = "users:\n  A:\n    name: admin\n    admin: true\n    password: |\n      secret\n";
        let anchored = "users:\n  A: {name: admin, admin: true, password: &p secret, comment: *p}\n";
        for text in [block, anchored] {
            let refused = mask(text, &Accounts::default()).err().unwrap_or_default();
            assert!(!refused.is_empty(), "{text}");
        }
    }
}
