//! A users.yaml written from accounts, for when the admin's own is gone.

use russh::keys::PublicKey;

use super::users_file::MASK;
use super::{Account, Accounts, UploadMode};

/// A users.yaml that says what is in force, for when there is none left. Comments and order of the lost one are gone.
pub fn rendered(accounts: &Accounts) -> String {
    let mut text = String::from("# Written by sftpd from the accounts in force, because users.yaml was gone.\n");
    if !accounts.trusted_ca.is_empty() {
        text += &format!("trusted_ca: {}\n", lines(&accounts.trusted_ca));
    }
    text += "users:\n";
    for account in accounts.iter().filter(|account| account.agent.is_none()) {
        text += &format!("  {}:\n", quoted(&account.label));
        let mut line = |key: &str, value: String| text += &format!("    {key}: {value}\n");
        line("name", quoted(&account.name));
        if account.password_hash.is_some() {
            line("password", quoted(&MASK.to_string().repeat(8)));
        }
        if !account.public_keys.is_empty() {
            line("public_keys", lines(&account.public_keys));
        }
        if !account.admin && account.home != account.name {
            line("home", quoted(&account.home));
        }
        for (key, is_set) in [
            ("admin", account.admin),
            ("read_only", account.read_only),
            ("upload_only", account.upload_only),
            ("disabled", account.disabled),
        ] {
            if is_set {
                line(key, "true".into());
            }
        }
        if !account.permissions.is_empty() {
            let rights =
                account.permissions.0.iter().map(|(folder, right)| format!("{}: {}", quoted(folder), right.word()));
            line("permissions", format!("{{{}}}", rights.collect::<Vec<_>>().join(", ")));
        }
        if account.upload == UploadMode::Direct {
            line("upload", "direct".into());
        }
        if let Some(until) = account.legacy_until {
            line("legacy_algorithms", format!("[{}]", account.legacy_algorithms.join(", ")));
            line("legacy_until", quoted(&until.to_string()));
        }
        limits(account, &mut line);
    }
    text + &agents(accounts)
}

/// What stands below `agents:`: what an agent's label does not say.
fn agents(accounts: &Accounts) -> String {
    let mut text = String::new();
    for (account, keep) in accounts.iter().filter_map(|account| Some((account, account.agent?))) {
        if text.is_empty() {
            text += "agents:\n";
        }
        text += &format!("  {}:\n", quoted(&account.name));
        let mut line = |key: &str, value: String| text += &format!("    {key}: {value}\n");
        if account.password_hash.is_some() {
            line("password", quoted(&MASK.to_string().repeat(8)));
        }
        if !account.public_keys.is_empty() {
            line("public_keys", lines(&account.public_keys));
        }
        if let Some(seconds) = keep.for_s {
            // Hours divide every span that users.yaml takes.
            line("keep", format!("{}h", seconds / 3600));
        }
        if let Some(bytes) = keep.bytes {
            line("keep_size", bytes.to_string());
        }
        if account.disabled {
            line("disabled", "true".into());
        }
        limits(account, &mut line);
    }
    text
}

/// What users and agents can have in the same words.
fn limits(account: &Account, line: &mut dyn FnMut(&str, String)) {
    if let Some(bytes) = account.quota_bytes {
        line("quota", bytes.to_string());
    }
    let speeds = [("upload_limit", account.upload_bytes_per_s), ("download_limit", account.download_bytes_per_s)];
    for (key, speed) in speeds {
        if let Some(bytes) = speed {
            line(key, format!("{bytes}/s"));
        }
    }
    if let Some(sessions) = account.max_sessions {
        line("max_sessions", sessions.to_string());
    }
    if !account.allow_from.is_empty() {
        let nets: Vec<_> = account.allow_from.iter().map(|net| quoted(&net.to_string())).collect();
        line("allow_from", format!("[{}]", nets.join(", ")));
    }
    if let Some(expires) = account.expires {
        line("expires", quoted(&expires.to_string()));
    }
    if let Some(comment) = &account.comment {
        line("comment", quoted(comment));
    }
}

/// JSON's quoted texts are YAML's too, with whatever they hold.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn lines(keys: &[PublicKey]) -> String {
    let lines: Vec<String> = keys.iter().filter_map(|key| Some(quoted(&key.to_openssh().ok()?))).collect();
    format!("[{}]", lines.join(", "))
}
