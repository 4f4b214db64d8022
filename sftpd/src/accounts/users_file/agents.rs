//! `agents:`: accounts in one line, that send logs and do nothing else.
//!
//! What an agent is called is its login and its folder. Nobody writes into that folder beside it.

use std::collections::HashSet;

use super::{Check, MASK, Position, Scalar, User};
use crate::accounts::Keep;
use crate::accounts::form::{Labelled, RawAgent, RawAgentFields, RawUser};

/// Units of `keep`, in seconds.
const KEEP_UNITS: [(&str, u64); 3] = [("h", 3600), ("d", 24 * 3600), ("w", 7 * 24 * 3600)];

/// What may stand in a comment below `agents:` and is no agent's name.
const FIELDS: [&str; 11] = [
    "password",
    "public_keys",
    "keep",
    "keep_size",
    "quota",
    "upload_limit",
    "max_sessions",
    "allow_from",
    "expires",
    "disabled",
    "comment",
];

impl Check<'_> {
    /// The agents of a file, as users.
    pub(super) fn agents(&mut self, agents: Labelled<RawAgent>) -> Vec<User> {
        agents.0.into_iter().map(|(label, raw)| self.agent(label, raw)).collect()
    }

    fn agent(&mut self, label: String, raw: RawAgent) -> User {
        let (raw, keep) = match raw {
            RawAgent::Password(password) => (RawUser { password: Some(password), ..RawUser::default() }, None),
            RawAgent::Fields(fields) => {
                let (keep, keep_size, raw) = split(*fields);
                (raw, Some((keep, keep_size)))
            }
        };
        let (keep, keep_size) = keep.unwrap_or_default();
        let keep = Keep { for_s: self.keep(&label, keep), bytes: self.keep_size(&label, keep_size) };
        let name = Scalar { text: label.clone(), is_text: true };
        let mut user = self.user(label, RawUser { name, upload_only: true, ..raw });
        user.account.agent = Some(keep);
        user
    }

    fn keep(&mut self, label: &str, raw: Option<Scalar>) -> Option<u64> {
        let text = self.as_written(label, "keep", raw?);
        let unit = KEEP_UNITS.iter().find_map(|(unit, seconds)| Some((text.trim().strip_suffix(unit)?, seconds)));
        let keep_s = unit.and_then(|(number, seconds)| number.trim().parse::<u64>().ok()?.checked_mul(*seconds));
        let keep_s = keep_s.filter(|seconds| (1..=i64::MAX as u64 / 1000).contains(seconds));
        if keep_s.is_none() {
            let text = "`keep` says how long a file is kept after its last byte came: 400d, 52w, 36h";
            self.wrong(label, "keep", text.into());
        }
        keep_s
    }

    fn keep_size(&mut self, label: &str, raw: Option<Scalar>) -> Option<u64> {
        let text = self.as_written(label, "keep_size", raw?);
        let bytes = pair::units::bytes(&text);
        if bytes.is_none() {
            let text = "`keep_size` says how much the folder holds before the oldest files go: 50GiB, 1.5TiB, 500MB";
            self.wrong(label, "keep_size", text.into());
        }
        bytes
    }

    /// Who shares an agent's folder reads it and does nothing else. And a label that stands for a user stands for no agent:
    /// mistakes and masks are found by labels.
    pub(super) fn beside_agents(&mut self, users: &[User]) {
        let (agents, others): (Vec<&User>, Vec<&User>) = users.iter().partition(|user| user.account.agent.is_some());
        let homes: HashSet<&str> = agents.iter().map(|agent| agent.account.home.as_str()).collect();
        let labels: HashSet<&str> = others.iter().map(|user| user.account.label.as_str()).collect();
        for other in others.iter().filter(|other| homes.contains(other.account.home.as_str())) {
            let account = &other.account;
            if !account.read_only && !homes.contains(account.name.as_str()) {
                let text = format!(
                    "the home {:?} is an agent's: {} can be there only with `read_only: true`",
                    account.home, account.name
                );
                self.wrong(&account.label, "home", text);
            }
        }
        for agent in agents.iter().filter(|agent| labels.contains(agent.account.label.as_str())) {
            let label = &agent.account.label;
            let text = format!("the label {label:?} stands below `users:` and below `agents:`: give the user another");
            self.mistake(self.positions.label(label), text);
        }
    }

    /// An agent that was commented out has its password behind its name.
    pub(super) fn agents_comments(&mut self) {
        let mut is_below_agents = false;
        for (number, line) in self.text.lines().enumerate() {
            let is_key = line.starts_with(|letter: char| !letter.is_whitespace() && letter != '#');
            if is_key {
                is_below_agents = line.starts_with("agents:");
            }
            if is_below_agents && line.trim_start().starts_with('#') && looks_like_an_agent(line) {
                let text = format!(
                    "a comment holds what looks like an agent's password, which would stay readable: write {MASK}{MASK}{MASK} there"
                );
                self.mistake(Position { line: number + 1, column: 1 }, text);
            }
        }
    }
}

/// Whether a comment is `name: value`, with a value that may be a password.
fn looks_like_an_agent(comment: &str) -> bool {
    let text = comment.trim_start_matches(|letter: char| letter.is_whitespace() || letter == '#');
    let Some((name, value)) = text.split_once(':') else { return false };
    let name = name.trim().trim_matches(['"', '\'']);
    if name.is_empty() || name.contains(char::is_whitespace) || FIELDS.contains(&name) {
        return false;
    }
    let quote = value.trim_start().chars().next().filter(|first| matches!(first, '"' | '\''));
    let value = value.split(" #").next().unwrap_or_default().trim();
    // What has several words and no quotes is a sentence; what stands in braces names its password.
    let is_one = quote.is_some() || (value.split_whitespace().count() == 1 && !value.starts_with(['{', '[', '/']));
    let value = value.trim_matches(['"', '\'']);
    let is_harmless = value.is_empty() || value == "generate" || value.chars().all(|letter| letter == MASK);
    is_one && !is_harmless && !super::password::is_usable_hash(value)
}

/// What an agent's fields say of retention, and the rest as a user's.
fn split(fields: RawAgentFields) -> (Option<Scalar>, Option<Scalar>, RawUser) {
    let user = RawUser {
        password: fields.password,
        public_keys: fields.public_keys,
        quota: fields.quota,
        upload_limit: fields.upload_limit,
        max_sessions: fields.max_sessions,
        allow_from: fields.allow_from,
        expires: fields.expires,
        disabled: fields.disabled,
        comment: fields.comment,
        ..RawUser::default()
    };
    (fields.keep, fields.keep_size, user)
}

#[cfg(test)]
mod tests {
    use super::super::{Password, masked, parse};
    use super::*;
    use crate::accounts::mistake::Mistake;
    use crate::accounts::rendered::rendered;
    use crate::accounts::{Account, Accounts};

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ name";

    fn with(agents: &str) -> String {
        format!("users:\n  A: {{name: admin, password: secret, admin: true}}\nagents:\n{agents}")
    }

    fn users(text: &str) -> Vec<User> {
        parse(text, &Accounts::default()).map_err(|mistakes| panic!("{mistakes:?}")).unwrap_or_default().users
    }

    fn mistakes(text: &str) -> Vec<String> {
        parse(text, &Accounts::default()).err().unwrap_or_default().iter().map(Mistake::to_string).collect()
    }

    #[test]
    fn an_agent_is_a_line_or_a_few_fields_and_what_it_is_called_is_its_folder() {
        let text = with(&format!(
            "  a1: \"secret-1\"\n  a2: 0123\n  a3: generate\n  a4: {{public_keys: [\"{KEY}\"], keep: 400d, keep_size: 1.5GiB, quota: 2GiB}}\n  \
             a5:\n    password: yes\n    keep: 36 h\n    disabled: true\n"
        ));
        let users = users(&text);
        let said: Vec<_> =
            users[1..].iter().map(|user| (user.account.name.as_str(), user.account.home.as_str())).collect();
        assert_eq!(said, ["a1", "a2", "a3", "a4", "a5"].map(|name| (name, name)));
        assert!(users[1..].iter().all(|user| user.account.upload_only && !user.account.admin));
        assert!(
            users[1].password == Password::Plain("secret-1".into())
                && users[2].password == Password::Plain("0123".into())
        );
        assert!(users[3].password == Password::Generate && users[4].password == Password::None);
        assert!(users[5].password == Password::Plain("yes".into()) && users[5].account.disabled);
        assert_eq!(users[0].account.agent, None);
        assert_eq!(users[1].account.agent, Some(Keep::default()));
        assert_eq!(users[4].account.agent, Some(Keep { for_s: Some(400 * 86_400), bytes: Some(3 << 29) }));
        assert_eq!(users[5].account.agent, Some(Keep { for_s: Some(36 * 3600), bytes: None }));
        assert_eq!(users[4].account.quota_bytes, Some(2 << 30));
        assert_eq!(super::tests::users(&with("  {}\n")).len(), 1, "none at all");
    }

    #[test]
    fn passwords_of_one_line_are_masked_where_they_stand_and_a_mask_means_unchanged() {
        let text = with("  a1: \"secret-1\" # c\n  a2: 0123\n  \"a 3\": {password: 'it''s', keep: 1d}\n");
        let positions = crate::accounts::positions::Positions::of(&text);
        let written =
            ["a1", "a2", "a 3"].map(|label| &text[positions.scalar(label, "password").unwrap().bytes.clone()]);
        assert_eq!(written, ["secret-1", "0123", "it''s"]);
        let masked = masked(&text, &users(&text)).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        assert_eq!(masked.len(), text.len());
        assert!(
            masked.contains("a1: \"^^^^^^^^\" # c\n  a2: ^^^^\n  \"a 3\": {password: '^^^^^', keep: 1d}"),
            "{masked}"
        );
        let known = |user: User| Account { password_hash: Some("$".into()), ..user.account };
        let before = Accounts::new(1, users(&text).into_iter().map(known));
        let again = parse(&masked, &before).unwrap_or_default().users;
        assert!(again.len() == 4 && again.iter().all(|user| user.password == Password::Unchanged));
        let reset = super::super::with_password_masked(&text.replace("secret-1", "another1"), &before, "a1")
            .unwrap_or_default();
        assert!(reset.contains("a1: \"^^^^^^^^\""), "{reset}");
        assert!(
            mistakes(&with("  a1: ^^^^\n"))[0].contains("4:7: a1 has no password yet"),
            "{:?}",
            mistakes(&with("  a1: ^^^^\n"))
        );
    }

    #[test]
    fn mistakes_of_agents_are_named_with_line_and_column() {
        let user = |line: &str| {
            format!("users:\n  A: {{name: admin, password: secret, admin: true}}\n{line}agents:\n  a1: secret\n")
        };
        let cases = [
            (with("  a1: {password: x, keep: 400}\n"), "users.yaml:4:27: `keep` says how long a file is kept"),
            (with("  a1: {password: x, keep: 0d}\n"), "4:27: `keep` says"),
            (with("  a1: {password: x, keep: 99999999999999999d}\n"), "4:27: `keep` says"),
            (with("  a1: {password: x, keep_size: much}\n"), "4:32: `keep_size` says how much"),
            (with("  a1: {password: x, read_only: true}\n"), "agent a1: unknown field: there are"),
            (with("  a1: {password: x, kepp: 1d}\n"), "agent a1: unknown field: did you mean `keep`?"),
            (
                with("  a1: {password: x, disabled: 1}\n"),
                "agent a1, `disabled`: something else stands here, `true` or `false`",
            ),
            (with("  a1: [s3cret]\n"), "agent a1: something else stands here"),
            (with("  a1: {keep: 1d}\n"), "4:3: a1 could never log in"),
            (with("  a1:\n"), "the password of a1 is empty"),
            (with("  a/1: x\n"), "4:3: the name \"a/1\" holds a slash"),
            (with("  admin: x\n"), "is the admin folder"),
            (with("  a1: x\n  a1: y\n"), "5:3: this label comes twice (the other on line 4)"),
            (user("  1: {name: a1, password: x}\n"), "two accounts have the name \"a1\""),
            (
                user("  1: {name: b, password: x, home: a1}\n"),
                "3:35: the home \"a1\" is an agent's: b can be there only",
            ),
            (user("  1: {name: b, password: x, home: a1/b}\n"), "is inside \"a1\", the home of a1"),
            (user("  a1: {name: b, password: x}\n"), "the label \"a1\" stands below `users:` and below `agents:`"),
            (with("  # a1: s3cret-one\n  a2: x\n"), "4:1: a comment holds what looks like an agent's password"),
            (with("  # a1: \"s3cret one\"\n  a2: x\n"), "4:1: a comment holds what looks like"),
            ("agents:\n  a1: x\n".to_owned(), "missing field `users`"),
        ];
        for (text, expected) in cases {
            let mistakes = mistakes(&text);
            assert!(mistakes.iter().any(|mistake| mistake.contains(expected)), "{text}\n{mistakes:?}");
            assert!(!mistakes.iter().any(|mistake| mistake.contains("s3cret")), "{mistakes:?}");
        }
    }

    #[test]
    fn comments_that_hold_no_password_and_readers_of_an_agents_folder_are_taken() {
        let text = "users:\n  A: {name: admin, password: secret, admin: true}\n  # 7: seven\n  \
                    1: {name: auditor, password: x, home: a1, read_only: true}\nagents:\n  # a0: ^^^^\n  # keep: 400d\n  # of the plant: see there\n  \
                    # a9: {public_keys: [x]}\n  a1: \"secret\" # the first\n# note: elsewhere it is a note of two words\n";
        assert_eq!(mistakes(text), Vec::<String>::new());
    }

    #[test]
    fn agents_are_written_anew_as_they_were_and_changes_are_told() {
        let text = with(&format!(
            "  a1: secret\n  \"a 2\": {{public_keys: [\"{KEY}\"], keep: 36h, keep_size: 5GiB, comment: '# no', max_sessions: 2}}\n"
        ));
        let accounts = |users: Vec<User>| {
            users.into_iter().map(|user| Account {
                password_hash: (user.password != Password::None).then(|| "$".into()),
                ..user.account
            })
        };
        let before = Accounts::new(1, accounts(users(&text)));
        let again = parse(&rendered(&before), &before).map_err(|mistakes| panic!("{mistakes:?}")).unwrap_or_default();
        let again = Accounts::new(1, accounts(again.users));
        assert_eq!(again.changes_since(&before), Vec::<String>::new());
        assert_eq!(Accounts::from_json(&before.to_json().unwrap()).unwrap().get("a 2"), before.get("a 2"));
        let longer = Accounts::new(2, accounts(users(&text.replace("36h", "48h"))));
        assert_eq!(longer.changes_since(&before), ["~ a 2: new retention"]);
    }
}
