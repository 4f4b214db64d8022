//! A users.yaml written from accounts, for when the admin's own is gone.

use super::users_file::MASK;
use super::{Accounts, UploadMode};

/// A users.yaml that says what is in force, for when there is none left. Comments and order of the lost one are gone.
pub fn rendered(accounts: &Accounts) -> String {
    // JSON's quoted texts are YAML's too, with whatever they hold.
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let mut text =
        String::from("# Written by sftpd from the accounts in force, because users.yaml was gone.\nusers:\n");
    for account in accounts.iter() {
        text += &format!("  {}:\n", quoted(&account.label));
        let mut line = |key: &str, value: String| text += &format!("    {key}: {value}\n");
        line("name", quoted(&account.name));
        if account.password_hash.is_some() {
            line("password", quoted(&MASK.to_string().repeat(8)));
        }
        if !account.public_keys.is_empty() {
            let keys: Vec<String> = account.public_keys.iter().filter_map(|key| key.to_openssh().ok()).collect();
            line("public_keys", format!("[{}]", keys.iter().map(|key| quoted(key)).collect::<Vec<_>>().join(", ")));
        }
        if !account.admin && account.home != account.name {
            line("home", quoted(&account.home));
        }
        for (key, is_set) in
            [("admin", account.admin), ("read_only", account.read_only), ("disabled", account.disabled)]
        {
            if is_set {
                line(key, "true".into());
            }
        }
        if account.upload == UploadMode::Direct {
            line("upload", "direct".into());
        }
        if let Some(bytes) = account.quota_bytes {
            line("quota", bytes.to_string());
        }
        if let Some(comment) = &account.comment {
            line("comment", quoted(comment));
        }
    }
    text
}
