//! SFTPGo's dump (`/api/v2/dumpdata`): JSON with a list of users. Only what has a meaning here is read.

use serde::Deserialize;

use super::{Account, Found, keys_in};
use crate::accounts::password::is_usable_hash;

#[derive(Deserialize)]
struct Dump {
    users: Vec<User>,
}

#[derive(Deserialize)]
#[serde(default)]
struct User {
    username: String,
    password: String,
    public_keys: Vec<String>,
    status: i64,
    description: String,
    quota_size: i64,
    expiration_date: i64,
    upload_bandwidth: i64,
    download_bandwidth: i64,
    permissions: std::collections::BTreeMap<String, Vec<String>>,
    virtual_folders: Vec<serde_json::Value>,
    groups: Vec<serde_json::Value>,
    max_sessions: i64,
    quota_files: i64,
    filters: Filters,
    filesystem: Filesystem,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Filters {
    allowed_ip: Vec<String>,
    denied_ip: Vec<String>,
    denied_protocols: Vec<String>,
    denied_login_methods: Vec<String>,
    two_factor_protocols: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Filesystem {
    provider: i64,
}

impl Default for User {
    fn default() -> User {
        User {
            username: String::new(),
            password: String::new(),
            public_keys: Vec::new(),
            // Who has none may log in.
            status: 1,
            description: String::new(),
            quota_size: 0,
            expiration_date: 0,
            upload_bandwidth: 0,
            download_bandwidth: 0,
            permissions: Default::default(),
            virtual_folders: Vec::new(),
            groups: Vec::new(),
            max_sessions: 0,
            quota_files: 0,
            filters: Filters::default(),
            filesystem: Filesystem::default(),
        }
    }
}

/// What may be done by somebody who changes nothing.
const READING: [&str; 2] = ["list", "download"];

pub(super) fn read(text: &str) -> Result<Found, String> {
    let dump: Dump = serde_json::from_str(text).map_err(|error| format!("this is no dump of SFTPGo: {error}"))?;
    let mut found = Found::default();
    for user in dump.users {
        let name = &user.username;
        let hash = Some(&user.password).filter(|hash| is_usable_hash(hash));
        if hash.is_none() && !user.password.is_empty() {
            found.remark(format!("{name}: its hash is of a make that is not taken; a new password is drawn"));
        }
        let is_reader = |rights: &Vec<String>| rights.iter().all(|right| READING.contains(&right.as_str()));
        let read_only = user.permissions.get("/").is_some_and(is_reader);
        let is_all = |rights: &Vec<String>| rights.iter().any(|right| right == "*");
        let is_plain =
            user.permissions.iter().all(|(path, rights)| path == "/" && (is_all(rights) || is_reader(rights)));
        let (filters, now_ms) = (&user.filters, jiff::Timestamp::now().as_millisecond());
        let is_barred = filters.denied_protocols.iter().any(|protocol| protocol == "SSH");
        let is_expired = (1..=now_ms).contains(&user.expiration_date);
        if is_barred || is_expired {
            let why = if is_expired { "has expired" } else { "may not use SFTP" };
            found.remark(format!("{name}: the account {why} there, so it is disabled here"));
        }
        for (is_lost, what) in [
            (!is_plain, "its permissions per folder, or of single operations"),
            (user.expiration_date > now_ms, "its date of expiry"),
            (!user.groups.is_empty(), "what its groups say"),
            (user.max_sessions > 0 || user.quota_files > 0, "how many sessions or files it may have"),
            (!filters.allowed_ip.is_empty() || !filters.denied_ip.is_empty(), "from which addresses it may come"),
            (!filters.denied_login_methods.is_empty(), "how it may log in"),
            (!filters.two_factor_protocols.is_empty(), "its second factor"),
            (user.upload_bandwidth > 0 || user.download_bandwidth > 0, "its bandwidth"),
            (!user.virtual_folders.is_empty(), "its virtual folders"),
            (user.filesystem.provider != 0, "its storage, which is not this machine's disk"),
        ] {
            if is_lost {
                found.remark(format!("{name}: not taken over: {what}"));
            }
        }
        let public_keys = keys_in(&mut found, name, &user.public_keys);
        found.accounts.push(Account {
            name: name.clone(),
            password: hash.cloned(),
            public_keys,
            read_only,
            disabled: user.status == 0 || is_barred || is_expired,
            quota_bytes: u64::try_from(user.quota_size).ok().filter(|bytes| *bytes > 0),
            comment: Some(user.description),
        });
    }
    Ok(found)
}
