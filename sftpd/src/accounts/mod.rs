//! Accounts: who may log in, how, and to which folder.
//!
//! A snapshot that is swapped whole. It comes out of users.yaml (see [`users_file`]) or, on a standby, from the master;
//! it holds hashes only, and is kept in `/state/accounts.json` so that the last good accounts outlive everything.

pub mod certificate;
pub mod checker;
mod form;
pub mod mistake;
pub mod password;
pub mod permissions;
mod positions;
pub mod rendered;
pub mod users_file;

pub use permissions::Permissions;
pub use positions::Position;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use pair::exit::usage;
use pair::node::replace_file;
use russh::keys::PublicKey;
use serde::{Deserialize, Serialize};

/// The folder of every admin, and the name that no other account's folder can have.
pub const ADMIN_HOME: &str = "admin";

/// One account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Its label in users.yaml.
    pub label: String,
    /// The login name.
    pub name: String,
    /// The password as a PHC string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// Public keys that log in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public_keys: Vec<PublicKey>,
    /// Its folder, relative to the data folder.
    pub home: String,
    /// Whether it may change users.yaml.
    #[serde(default)]
    pub admin: bool,
    /// Whether it may only read.
    #[serde(default)]
    pub read_only: bool,
    /// Whether it may add files and folders, and neither read, replace nor remove what is there.
    #[serde(default, skip_serializing_if = "is_false")]
    pub upload_only: bool,
    /// What it may do in which of its folders.
    #[serde(default, skip_serializing_if = "Permissions::is_empty")]
    pub permissions: Permissions,
    /// Whether it is kept out.
    #[serde(default)]
    pub disabled: bool,
    /// How its uploads are written.
    #[serde(default, skip_serializing_if = "UploadMode::is_atomic")]
    pub upload: UploadMode,
    /// How much its folder may hold, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<u64>,
    /// How fast all its sessions together may send, in bytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_bytes_per_s: Option<NonZeroU32>,
    /// How fast all its sessions together may receive, in bytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download_bytes_per_s: Option<NonZeroU32>,
    /// How many sessions it may have at once; the daemon's limit counts as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_sessions: Option<usize>,
    /// From where it may log in; empty: from everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_from: Vec<IpNet>,
    /// From when on it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Old algorithms that its client may use, from where the account may log in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legacy_algorithms: Vec<String>,
    /// From when on it may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy_until: Option<Timestamp>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// An agent that sends logs, and how long they are kept; none: an account like any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Keep>,
}

/// How long what an agent has sent is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Seconds from a file's last byte on; none: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u64>,
    /// Bytes in its folder before the oldest go; none: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The network that a text names; an address is a network of one.
pub fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

impl Account {
    /// Whether it is open at a moment, to who comes from an address.
    pub fn admits(&self, from: IpAddr, now: Timestamp) -> bool {
        // An address of before IPv6 may come in its form for IPv6.
        let from = from.to_canonical();
        let is_from_there = self.allow_from.is_empty() || self.allow_from.iter().any(|net| net.contains(&from));
        !self.disabled && is_from_there && self.expires.is_none_or(|expires| now < expires)
    }
}

impl Account {
    /// Whether it may do the same in the same place as another.
    pub fn has_rights_of(&self, other: &Account) -> bool {
        let kinds = |of: &Account| (of.admin, of.read_only, of.upload_only, of.agent.is_some(), of.upload);
        kinds(self) == kinds(other) && self.permissions == other.permissions && self.home == other.home
    }

    /// Whether its client may use an old algorithm at a moment.
    pub fn has_exception_for(&self, algorithm: &str, now: Timestamp) -> bool {
        self.legacy_until.is_some_and(|until| now < until)
            && self.legacy_algorithms.iter().any(|name| name == algorithm)
    }
}

/// How an account's uploads are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UploadMode {
    /// Beside the file, which is replaced when the upload is complete.
    #[default]
    Atomic,
    /// Straight under its name: for loggers that keep a file open for days.
    Direct,
}

impl UploadMode {
    fn is_atomic(&self) -> bool {
        *self == UploadMode::Atomic
    }
}

/// Earlier users.yaml that are known by their hashes.
const REPLACED_MAX: usize = 16;

/// All accounts at one moment.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// Counts the changes; the standby has the same number.
    pub generation: u64,
    /// BLAKE3 of the users.yaml that they came from, as it is stored: tells whether another hand changed it.
    pub users_yaml: Option<String>,
    /// The same of those before it, the newest last: one of them on the volume has come late.
    pub replaced: Vec<String>,
    /// Authorities whose certificates let in whom they name.
    pub trusted_ca: Vec<PublicKey>,
    by_name: BTreeMap<String, Arc<Account>>,
}

/// The file form of [`Accounts`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    generation: u64,
    #[serde(default)]
    users_yaml: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replaced: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    trusted_ca: Vec<PublicKey>,
    accounts: Vec<Account>,
}

impl Accounts {
    /// A snapshot.
    pub fn new(generation: u64, accounts: impl IntoIterator<Item = Account>) -> Accounts {
        let by_name = accounts.into_iter().map(|account| (account.name.clone(), Arc::new(account))).collect();
        Accounts { generation, users_yaml: None, replaced: Vec::new(), trusted_ca: Vec::new(), by_name }
    }

    /// These come from a users.yaml, in place of others.
    pub fn from_users_yaml(mut self, text: &str, before: &Accounts) -> Accounts {
        self.users_yaml = Some(blake3::hash(text.as_bytes()).to_hex().to_string());
        self.replaced = before.replaced.iter().chain(&before.users_yaml).cloned().collect();
        let surplus = self.replaced.len().saturating_sub(REPLACED_MAX);
        self.replaced.drain(..surplus);
        self
    }

    /// The account with a login name, disabled or not.
    pub fn get(&self, name: &str) -> Option<&Arc<Account>> {
        self.by_name.get(name)
    }

    /// How much a folder may hold: the smallest quota of the accounts that share it.
    pub fn quota_of(&self, home: &str) -> Option<u64> {
        self.iter().filter(|account| account.home == home).filter_map(|account| account.quota_bytes).min()
    }

    /// Old algorithms that some account may use from an address at a moment.
    pub fn old_algorithms_for(&self, address: IpAddr, now: Timestamp) -> Vec<String> {
        let mut names: Vec<String> = self
            .iter()
            .filter(|account| !account.legacy_algorithms.is_empty() && account.admits(address, now))
            .flat_map(|account| account.legacy_algorithms.iter().filter(|name| account.has_exception_for(name, now)))
            .cloned()
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.by_name.values()
    }

    /// What changed from `before` to here, a line each, in the words of the result file.
    pub fn changes_since(&self, before: &Accounts) -> Vec<String> {
        let names: std::collections::BTreeSet<&String> = self.by_name.keys().chain(before.by_name.keys()).collect();
        let ca = (self.trusted_ca != before.trusted_ca).then(|| "~ trusted_ca: changed".to_owned());
        ca.into_iter()
            .chain(names.into_iter().filter_map(|name| match (before.get(name), self.get(name)) {
                (None, Some(_)) => Some(format!("+ {name}")),
                (Some(_), None) => Some(format!("- {name}")),
                (Some(old), Some(new)) if old != new => Some(format!("~ {name}: {}", differences(old, new).join(", "))),
                _ => None,
            }))
            .collect()
    }

    /// Reads the form in which accounts are kept and travel.
    pub fn from_json(text: &[u8]) -> anyhow::Result<Accounts> {
        let stored: Stored = serde_json::from_slice(text)?;
        let accounts = Accounts::new(stored.generation, stored.accounts);
        Ok(Accounts {
            users_yaml: stored.users_yaml,
            replaced: stored.replaced,
            trusted_ca: stored.trusted_ca,
            ..accounts
        })
    }

    /// The form in which accounts are kept and travel.
    pub fn to_json(&self) -> anyhow::Result<Vec<u8>> {
        let accounts = self.iter().map(|account| Account::clone(account)).collect();
        Ok(serde_json::to_vec_pretty(&Stored {
            generation: self.generation,
            users_yaml: self.users_yaml.clone(),
            replaced: self.replaced.clone(),
            trusted_ca: self.trusted_ca.clone(),
            accounts,
        })?)
    }

    /// Reads the kept accounts; `None` before the first start.
    pub fn load(state: &Path) -> anyhow::Result<Option<Accounts>> {
        let path = path(state);
        match std::fs::read(&path) {
            Ok(text) => Accounts::from_json(&text)
                .map(Some)
                .map_err(|error| usage(format!("the kept accounts {} cannot be read: {error}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(usage(format!("cannot read {}: {error}", path.display()))),
        }
    }

    /// Keeps the accounts, durably.
    pub fn save(&self, state: &Path) -> anyhow::Result<()> {
        replace_file(&path(state), &self.to_json()?, 0o600)
    }
}

fn path(state: &Path) -> PathBuf {
    state.join("accounts.json")
}

fn differences(old: &Account, new: &Account) -> Vec<&'static str> {
    let mut differences = Vec::new();
    let mut note = |different: bool, text| {
        if different {
            differences.push(text);
        }
    };
    note(old.password_hash != new.password_hash, "new password");
    note(old.public_keys != new.public_keys, "new keys");
    note(old.home != new.home, "new home");
    note(old.admin != new.admin, if new.admin { "admin now" } else { "no admin any more" });
    note(old.read_only != new.read_only, if new.read_only { "read-only now" } else { "may write now" });
    note(
        old.upload_only != new.upload_only,
        if new.upload_only { "may only add now" } else { "may read and change now" },
    );
    note(
        old.agent.is_some() != new.agent.is_some(),
        if new.agent.is_some() { "an agent now" } else { "no agent any more" },
    );
    note(old.agent.zip(new.agent).is_some_and(|(old, new)| old != new), "new retention");
    note(old.permissions != new.permissions, "new permissions");
    note(old.disabled != new.disabled, if new.disabled { "disabled" } else { "enabled" });
    note(old.upload != new.upload, if new.upload.is_atomic() { "uploads atomic now" } else { "uploads direct now" });
    note(old.quota_bytes != new.quota_bytes, "new quota");
    let limits = |account: &Account| (account.upload_bytes_per_s, account.download_bytes_per_s);
    note(limits(old) != limits(new), "new speed limits");
    note(old.max_sessions != new.max_sessions, "new max_sessions");
    note(old.allow_from != new.allow_from, "new allow_from");
    note(old.expires != new.expires, "new expires");
    let legacy = |of: &Account| (of.legacy_algorithms.clone(), of.legacy_until);
    note(legacy(old) != legacy(new), "new exception for old algorithms");
    note(old.comment != new.comment || old.label != new.label, "new comment or label");
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Account {
        Account {
            label: "1".into(),
            name: name.into(),
            password_hash: Some("$argon2id$x".into()),
            home: name.into(),
            ..Account::default()
        }
    }

    #[test]
    fn accounts_are_kept_and_read_back() {
        let state = tempfile::tempdir().unwrap();
        assert!(Accounts::load(state.path()).unwrap().is_none());
        Accounts::new(7, [account("alice")]).save(state.path()).unwrap();
        let loaded = Accounts::load(state.path()).unwrap().unwrap();
        assert_eq!((loaded.generation, loaded.get("alice").unwrap().as_ref()), (7, &account("alice")));
        std::fs::write(path(state.path()), "{").unwrap();
        assert!(Accounts::load(state.path()).unwrap_err().to_string().contains("accounts.json"));
    }

    #[test]
    fn accounts_that_were_kept_before_there_were_quotas_are_read() {
        let kept = r#"{"generation": 3, "accounts": [{"label": "1", "name": "alice", "home": "alice"}]}"#;
        let accounts = Accounts::from_json(kept.as_bytes()).unwrap();
        let alice = accounts.get("alice").unwrap();
        assert_eq!((alice.upload, alice.quota_bytes), (UploadMode::Atomic, None));
        assert!(!String::from_utf8(accounts.to_json().unwrap()).unwrap().contains("quota"), "an older one can read it");
    }

    #[test]
    fn of_the_quotas_of_a_shared_folder_the_smallest_counts() {
        let sharing = |name: &str, quota_bytes| Account { home: "x".into(), quota_bytes, ..account(name) };
        let accounts = Accounts::new(1, [sharing("a", Some(7)), sharing("b", None), sharing("c", Some(5))]);
        assert_eq!((accounts.quota_of("x"), accounts.quota_of("a")), (Some(5), None));
    }

    #[test]
    fn changes_are_told_a_line_each() {
        let before = Accounts::new(1, [account("alice"), account("bob")]);
        let bob = Account { disabled: true, password_hash: None, ..account("bob") };
        let after = Accounts::new(2, [bob, account("carol")]);
        assert_eq!(after.changes_since(&before), ["- alice", "~ bob: new password, disabled", "+ carol"]);
        let bob = Account { upload: UploadMode::Direct, quota_bytes: Some(1), ..account("bob") };
        let changed = Accounts::new(2, [bob]).changes_since(&Accounts::new(1, [account("bob")]));
        assert_eq!(changed, ["~ bob: uploads direct now, new quota"]);
        assert!(after.changes_since(&after).is_empty());
    }
}
