//! `sftpd import-users`: a users.yaml made of the accounts of another server.
//!
//! What comes out has been read as a users.yaml would be: an account that could not be taken is left out and named. Nothing
//! here looks at a volume or changes anything.

use crate::accounts::{Accounts, users_file};

mod atmoz;
mod openssh;
mod sftpgo;

pub use openssh::Options;

/// The label of the admin, who is in no other server's list.
const ADMIN_LABEL: &str = "ADMIN";

/// An account as another server has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The login.
    pub name: String,
    /// A plain password, or a hash; `None` where there is none that can be used.
    pub password: Option<String>,
    /// Public keys, each a line.
    pub public_keys: Vec<String>,
    /// Whether it may only read.
    pub read_only: bool,
    /// Whether it may not log in.
    pub disabled: bool,
    /// How much its folder may hold, in bytes.
    pub quota_bytes: Option<u64>,
    /// What people wrote about it.
    pub comment: Option<String>,
}

/// What was found, and what a person should know of it.
#[derive(Debug, Default)]
pub struct Found {
    accounts: Vec<Account>,
    remarks: Vec<String>,
}

impl Found {
    fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }
}

/// Of atmoz/sftp: a users.conf, and where the keys of each account lie.
pub fn from_atmoz(text: &str, keys: impl Fn(&str) -> Vec<String>) -> Found {
    atmoz::read(text, keys)
}

/// Of the system: lines of passwd, with what belongs to them.
pub fn from_openssh(passwd: &str, options: &Options, keys: impl Fn(&str) -> Vec<String>) -> Found {
    openssh::read(passwd, options, keys)
}

/// Of SFTPGo: what its `dumpdata` has written. The error is a sentence.
pub fn from_sftpgo(text: &str) -> Result<Found, String> {
    sftpgo::read(text)
}

/// The users.yaml, and what a person should know.
pub fn users_yaml(found: Found) -> (String, Vec<String>) {
    let Found { accounts, mut remarks } = found;
    let name = ["admin", "sftp-admin", "pair-admin"]
        .into_iter()
        .find(|name| accounts.iter().all(|account| account.name != *name));
    let admin = format!(
        "users:\n  {ADMIN_LABEL}:\n    name: {}\n    # Drawn and shown once, when this file is first taken.\n    password: generate\n    admin: true\n",
        name.unwrap_or("the-admin-of-this-pair")
    );
    let mut text = format!("# Written by sftpd import-users. Read it before you upload it.\n{admin}");
    for (number, account) in accounts.iter().enumerate() {
        let entry = entry(number + 1, account);
        // Behind the admin alone: so each mistake is one of this account.
        match users_file::parse(&format!("{admin}{entry}"), &Accounts::default()) {
            Ok(_) => text += &entry,
            Err(mistakes) => {
                let sentences: Vec<&str> = mistakes.iter().map(|mistake| mistake.text.as_str()).collect();
                remarks.push(format!("{} is left out: {}", account.name, sentences.join("; ")));
            }
        }
    }
    // Together they may be wrong though each is right: two with one name.
    if let Err(mistakes) = users_file::parse(&text, &Accounts::default()) {
        remarks.extend(mistakes.iter().map(|mistake| format!("to be put right by hand: {}", mistake.at("users.yaml"))));
    }
    (text, remarks)
}

fn entry(number: usize, account: &Account) -> String {
    // JSON's quoted texts are YAML's too, with whatever they hold.
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let mut text = format!("  {number}:\n    name: {}\n", quoted(&account.name));
    match &account.password {
        Some(password) => text += &format!("    password: {}\n", quoted(password)),
        None if account.public_keys.is_empty() => {
            text += "    # There was none that can be used here.\n    password: generate\n"
        }
        None => {}
    }
    if !account.public_keys.is_empty() {
        text += "    public_keys:\n";
        text.extend(account.public_keys.iter().map(|key| format!("      - {}\n", quoted(key))));
    }
    for (key, is_set) in [("read_only", account.read_only), ("disabled", account.disabled)] {
        if is_set {
            text += &format!("    {key}: true\n");
        }
    }
    if let Some(bytes) = account.quota_bytes {
        text += &format!("    quota: {bytes}\n");
    }
    if let Some(comment) = account.comment.as_ref().filter(|comment| !comment.is_empty()) {
        text += &format!("    comment: {}\n", quoted(comment));
    }
    text
}

/// The keys in lines of an authorized_keys file; options before a key are dropped, which is remarked upon.
fn keys_in(found: &mut Found, name: &str, lines: &[String]) -> Vec<String> {
    const KINDS: [&str; 4] = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"];
    let mut keys = Vec::new();
    for line in lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if KINDS.iter().any(|kind| line.starts_with(kind)) {
            keys.push(line.to_owned());
            continue;
        }
        let key = KINDS.iter().filter_map(|kind| line.find(&format!(" {kind}"))).min();
        match key.and_then(|start| line.get(start + 1..)) {
            Some(key) => {
                keys.push(key.to_owned());
                found.remark(format!("{name}: a key has options (from=, command=), which are not taken over"));
            }
            None => found.remark(format!("{name}: a line of its keys cannot be read")),
        }
    }
    keys
}

#[cfg(test)]
mod tests;
