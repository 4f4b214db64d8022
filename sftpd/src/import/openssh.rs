//! Users of the system, as OpenSSH lets them in: lines of /etc/passwd, hashes from /etc/shadow, members of a group. Who could not
//! log in there cannot here.

use std::collections::{BTreeMap, BTreeSet};

use super::{Account, Found, keys_in};
use crate::accounts::password::is_usable_hash;

/// People's uids, as Debian and most others give them.
const UIDS: std::ops::Range<u32> = 1000..60_000;

/// What is known beside passwd.
#[derive(Debug, Default)]
pub struct Options {
    /// The text of /etc/shadow.
    pub shadow: Option<String>,
    /// The text of /etc/group, and the group that is wanted; else all people are.
    pub group: Option<(String, String)>,
}

pub(super) fn read(passwd: &str, options: &Options, keys: impl Fn(&str) -> Vec<String>) -> Found {
    let mut found = Found::default();
    let shadows: BTreeMap<&str, Shadow> =
        options.shadow.iter().flat_map(|text| text.lines()).filter_map(shadow_of).collect();
    let members = options.group.as_ref().map(|(text, group)| members_of(text, group));
    if let (Some(None), Some((_, group))) = (&members, &options.group) {
        found.remark(format!("there is no group {group}"));
    }
    for line in passwd.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, gecos, home, ..] = fields[..] else {
            found.remark(format!("this line is none of a passwd file: {line}"));
            continue;
        };
        let is_wanted = match &members {
            Some(Some((number, names))) => gid == *number || names.contains(name),
            Some(None) => false,
            None => uid.parse().is_ok_and(|uid| UIDS.contains(&uid)),
        };
        if !is_wanted {
            continue;
        }
        let Shadow { hash, is_expired } = shadows.get(name).copied().unwrap_or_default();
        let is_locked = hash.starts_with('!') && hash.len() > 1;
        let password = Some(hash).filter(|hash| is_usable_hash(hash)).map(str::to_owned);
        if is_locked {
            found.remark(format!("{name}: its password is locked there, so the account is disabled here"));
        } else if is_expired {
            found.remark(format!("{name}: the account has expired there, so it is disabled here"));
        } else if hash.starts_with('$') && password.is_none() {
            found.remark(format!("{name}: its hash is of a make that is not taken; a new password is drawn"));
        }
        let public_keys = keys_in(&mut found, name, &keys(home));
        let comment = gecos.split(',').next().map(str::to_owned);
        found.accounts.push(Account {
            name: name.to_owned(),
            password,
            public_keys,
            disabled: is_locked || is_expired,
            comment,
            ..Account::default()
        });
    }
    found
}

/// What counts of a line of shadow(5).
#[derive(Clone, Copy, Default)]
struct Shadow<'t> {
    hash: &'t str,
    is_expired: bool,
}

fn shadow_of(line: &str) -> Option<(&str, Shadow<'_>)> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, hash, ..] = fields[..] else { return None };
    let today = jiff::Timestamp::now().as_second() / 86_400;
    let is_expired = fields.get(7).and_then(|day| day.parse::<i64>().ok()).is_some_and(|day| day <= today);
    Some((name, Shadow { hash, is_expired }))
}

/// A group's number and the names of its members.
fn members_of<'t>(text: &'t str, group: &str) -> Option<(&'t str, BTreeSet<&'t str>)> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next()? == group;
        let (number, members) = (fields.nth(1)?, fields.next()?);
        is_it.then(|| (number, members.split(',').collect()))
    })
}
