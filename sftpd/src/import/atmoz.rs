//! atmoz/sftp's users.conf: `name:password[:e][:uid[:gid[:folder,…]]]`, a line each; `e` says that the password is a hash.

use super::{Account, Found, keys_in};
use crate::accounts::password::is_usable_hash;

pub(super) fn read(text: &str, keys: impl Fn(&str) -> Vec<String>) -> Found {
    let mut found = Found::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut fields: Vec<&str> = line.split(':').collect();
        let is_hash = fields.get(2) == Some(&"e");
        if is_hash {
            fields.remove(2);
        }
        let (name, password) =
            (fields.first().copied().unwrap_or_default(), fields.get(1).copied().unwrap_or_default());
        if is_hash && !is_usable_hash(password) {
            found.remark(format!("{name}: its hash is of a make that is not taken; a new password is drawn"));
        }
        if fields.get(2).is_some_and(|uid| !uid.is_empty()) {
            found.remark(format!(
                "{name}: its uid and gid are not used; all files belong to the user that sftpd runs as"
            ));
        }
        if let Some(folders) = fields.get(4).filter(|folders| !folders.is_empty()) {
            found.remark(format!("{name}: make its folders if they are not there: {folders}"));
        }
        let password = Some(password).filter(|password| !password.is_empty() && (!is_hash || is_usable_hash(password)));
        let public_keys = keys_in(&mut found, name, &keys(name));
        found.accounts.push(Account {
            name: name.to_owned(),
            password: password.map(str::to_owned),
            public_keys,
            ..Account::default()
        });
    }
    found
}
