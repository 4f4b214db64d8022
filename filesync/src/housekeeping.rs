//! Clears a standby's trash of what is old, and its stage of what filesync left there and nobody will continue.
//!
//! It touches nothing outside `.pair/trash` and filesync's own names in `.pair/stage`, and removes a bounded number of
//! entries per call.

use std::collections::BTreeSet;

use futures::stream::{FuturesUnordered, StreamExt};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use pair::client::Result;

use crate::plan::STAGE_PREFIX;
use crate::remote::Remote;
use crate::trash::Trash;
use crate::tree::{Kind, Path, join};

/// Entries removed per call.
const REMOVALS_MAX: usize = 10_000;
/// How long a broken transfer may be continued, in seconds.
const STAGE_KEPT_S: i64 = 24 * 3600;

/// Removes what is old. The error is a lost connection; anything else is left for the next time.
pub async fn run(remote: &Remote, trash_days: u32, under_way: &BTreeSet<Path>) -> Result<()> {
    let mut left = REMOVALS_MAX;
    for (name, _) in list(remote, b".pair/trash").await? {
        if is_expired(&name, trash_days, Timestamp::now()) {
            remove(remote, join(b".pair/trash", &name), &mut left).await?;
        }
    }
    // A large file on its way may have begun long ago: while there is one, its stage is not told from others.
    if !under_way.is_empty() {
        return Ok(());
    }
    let trash = Trash::new(0);
    for (name, entry) in list(remote, b".pair/stage").await? {
        let is_ours = name.starts_with(STAGE_PREFIX.as_bytes());
        let is_old = i64::from(entry.mtime_s) + STAGE_KEPT_S < Timestamp::now().as_second();
        let path = join(b".pair/stage", &name);
        let outcome = match entry.kind {
            _ if !is_ours || !is_old => continue,
            // Set aside for a rename that never came: it holds what may be nowhere else.
            _ if name.starts_with(format!("{STAGE_PREFIX}moved-").as_bytes()) => trash.take(remote, &path).await,
            Kind::Folder => Ok(()),
            _ => remote.remove(&path).await,
        };
        lost(outcome)?;
    }
    Ok(())
}

/// Whether a folder of the trash is older than it is kept. A name that is no date is nobody's business.
fn is_expired(name: &[u8], trash_days: u32, now: Timestamp) -> bool {
    let Some(date) = std::str::from_utf8(name).ok().and_then(|name| name.parse::<Date>().ok()) else { return false };
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    date.checked_add(i64::from(trash_days).days()).is_ok_and(|until| until < today)
}

async fn list(remote: &Remote, folder: &[u8]) -> Result<Vec<(Vec<u8>, Entry)>> {
    let names = match remote.client.list(&remote.at(folder)).await {
        Err(error) if error.is_lost() => return Err(error),
        names => names.unwrap_or_default(),
    };
    let entry = |attrs: pair::wire::Attrs| {
        Some(Entry {
            kind: Kind::of_mode(attrs.mode?)?,
            mtime_s: attrs.times.map_or(u32::MAX, |(_, modified)| modified),
        })
    };
    Ok(names.into_iter().filter_map(|name| Some((name.name, entry(name.attrs)?))).collect())
}

struct Entry {
    kind: Kind,
    mtime_s: u32,
}

/// Removes a folder with what is in it, as far as the limit goes: the deepest first.
async fn remove(remote: &Remote, top: Path, left: &mut usize) -> Result<()> {
    let (mut open, mut emptied) = (vec![top], Vec::new());
    while let Some(folder) = open.pop() {
        let mut files = Vec::new();
        for (name, entry) in list(remote, &folder).await? {
            let path = join(&folder, &name);
            match entry.kind {
                Kind::Folder => open.push(path),
                _ => files.push(path),
            }
        }
        files.truncate(*left);
        *left -= files.len();
        let mut removals = FuturesUnordered::new();
        for path in &files {
            removals.push(remote.remove(path));
        }
        while let Some(outcome) = removals.next().await {
            lost(outcome)?;
        }
        emptied.push(folder);
        if *left == 0 {
            break;
        }
    }
    for folder in emptied.into_iter().rev() {
        // Fails where something is left inside; then it goes another time.
        lost(remote.client.rmdir(&remote.at(&folder)).await)?;
    }
    Ok(())
}

fn lost(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.is_lost() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trash_is_kept_for_its_days_and_foreign_names_for_ever() {
        let now: Timestamp = "2026-11-21T00:30:00Z".parse().unwrap();
        let cases = [("2026-11-21", false), ("2026-11-14", false), ("2026-11-13", true), ("1999-01-01", true)];
        for (name, expected) in cases {
            assert_eq!(is_expired(name.as_bytes(), 7, now), expected, "{name}");
        }
        assert!(!is_expired(b"keep", 7, now) && !is_expired(b"\xff", 7, now) && !is_expired(b"2027-01-01", 0, now));
    }
}
