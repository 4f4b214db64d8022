//! Clears a standby's trash of what is old or takes the last room, and its stage of what filesync left there and nobody
//! will continue.
//!
//! It touches nothing outside `.pair/trash` and filesync's own names in `.pair/stage`, and removes a bounded number of
//! entries per call.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use pair::client::Result;
use pair::wire::{Reader, put_bytes};

use crate::courier::Courier;
use crate::fault::blocking;
use crate::lane::Lane;
use crate::plan::STAGE_PREFIX;
use crate::remote::Remote;
use crate::stage;
use crate::trash::Trash;
use crate::tree::{Kind, Path, join};

/// Entries removed per call.
const REMOVALS_MAX: usize = 10_000;
/// How long something is kept that was set aside in the middle of a rename, in seconds.
const STAGE_KEPT_S: i64 = 24 * 3600;

/// The trash gives way, the oldest first, where less than this is free of a standby's disk, in percent,
const FREE_PERCENT_MIN: u64 = 10;
/// until so much is.
const FREE_PERCENT_ENOUGH: u64 = 15;

/// Removes the oldest of the trash where the standby has little room left. Where its server does not tell, days decide
/// alone. The error is a lost connection.
pub async fn make_room(courier: &Courier, lane: &Lane) -> Result<()> {
    let remote = &courier.remote;
    if !is_short_of_room(remote, FREE_PERCENT_MIN).await? {
        return Ok(());
    }
    clear_stage(courier, lane).await?;
    let (mut left, mut gone) = (REMOVALS_MAX, 0);
    'dates: for (date, _) in sorted(list(remote, b".pair/trash").await?) {
        if date_of(&date).is_none() {
            continue;
        }
        let folder = join(b".pair/trash", &date);
        for (name, _) in sorted(list(remote, &folder).await?) {
            let path = join(&folder, &name);
            remove(remote, path, &mut left).await?;
            gone += 1;
            if left == 0 || !is_short_of_room(remote, FREE_PERCENT_ENOUGH).await? {
                break 'dates;
            }
        }
        lost(remote.client.rmdir(&remote.at(&folder)).await)?;
    }
    if gone > 0 {
        tracing::warn!(
            "the standby's disk is nearly full: the {gone} oldest folders of its trash are removed for good"
        );
    }
    Ok(())
}

/// Names of the trash are times: in their order the oldest comes first.
fn sorted(mut entries: Vec<(Vec<u8>, Entry)>) -> Vec<(Vec<u8>, Entry)> {
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    entries
}

/// Whether less than so much in a hundred is free, of bytes or of inodes (OpenSSH PROTOCOL, `statvfs@openssh.com`).
async fn is_short_of_room(remote: &Remote, percent: u64) -> Result<bool> {
    const STATVFS: &str = "statvfs@openssh.com";
    if !remote.client.has(STATVFS) {
        return Ok(false);
    }
    let mut body = BytesMut::new();
    put_bytes(&mut body, &remote.at(b""));
    let answer = match remote.client.extended(STATVFS, &body).await {
        Err(error) if error.is_lost() => return Err(error),
        answer => answer.unwrap_or_default(),
    };
    let mut fields = Reader(&answer);
    let numbers: Vec<u64> = std::iter::from_fn(|| fields.u64().ok()).collect();
    let [_, _, blocks, _, blocks_free, files, _, files_free, ..] = numbers[..] else { return Ok(false) };
    let is_short = |all: u64, free: u64| all > 0 && u128::from(free) * 100 < u128::from(all) * u128::from(percent);
    Ok(is_short(blocks, blocks_free) || is_short(files, files_free))
}

/// How far the clock may run ahead of the time that was lived through, in seconds.
const LEAP_MAX_S: i64 = 24 * 3600;

/// Whether the date can be believed. After a leap of the clock nothing is removed for its date until a day was lived
/// through: a wrong clock must not empty the trash.
#[derive(Debug, Default)]
pub struct Calendar {
    /// The clock when it was looked at last, in seconds since 1970, and how long ago that is, if it was in this run.
    last: Option<(i64, Option<Instant>)>,
    leapt: Option<Instant>,
}

impl Calendar {
    /// One that goes on from the clock's last state, if there is any.
    pub fn new(last_s: Option<i64>) -> Calendar {
        Calendar { last: last_s.map(|last_s| (last_s, None)), leapt: None }
    }

    /// Looks at the clock.
    pub fn is_sure(&mut self, now_s: i64, now: Instant) -> bool {
        if let Some((last_s, at)) = self.last {
            let lived_s = at.map_or(0, |at| now.saturating_duration_since(at).as_secs() as i64);
            if now_s.saturating_sub(last_s) > lived_s.saturating_add(LEAP_MAX_S) {
                self.leapt = Some(now);
            }
        }
        self.last = Some((now_s, Some(now)));
        let day = Duration::from_secs(LEAP_MAX_S.unsigned_abs());
        self.leapt.is_none_or(|leapt| now.saturating_duration_since(leapt) >= day)
    }
}

/// Removes what is old. The error is a lost connection; anything else is left for the next time.
pub async fn run(courier: &Courier, trash_days: u32, is_date_sure: bool, lane: &Lane) -> Result<()> {
    let (remote, mut left) = (&courier.remote, REMOVALS_MAX);
    for (name, _) in list(remote, b".pair/trash").await? {
        if is_date_sure && is_expired(&name, trash_days, Timestamp::now()) {
            remove(remote, join(b".pair/trash", &name), &mut left).await?;
        }
    }
    clear_stage(courier, lane).await
}

/// Removes what broken transfers have left and nobody goes on with. To be called when a pass has offered all large files.
async fn clear_stage(courier: &Courier, lane: &Lane) -> Result<()> {
    let remote = &courier.remote;
    // Listed before it is asked what is under way: what begins in between is not in the list.
    let found = list(remote, b".pair/stage").await?;
    let needed = needed(courier, lane.paths()).await;
    let trash = Trash::new(0);
    for (name, entry) in found {
        let Some(rest) = name.strip_prefix(STAGE_PREFIX.as_bytes()) else { continue };
        let path = join(b".pair/stage", &name);
        let outcome = if rest.starts_with(b"moved-") {
            // Set aside for a rename that never came: it holds what may be nowhere else.
            let is_old = i64::from(entry.mtime_s) + STAGE_KEPT_S < Timestamp::now().as_second();
            if is_old { trash.take(remote, &path).await } else { Ok(()) }
        } else if entry.kind != Kind::Folder
            && (courier.stages.is_left_over(&name) || stage::is_large(&name) && !needed.contains(&name))
        {
            remote.remove(&path).await
        } else {
            Ok(())
        };
        lost(outcome)?;
    }
    Ok(())
}

/// The stages of large files that are on their way, as these are now.
async fn needed(courier: &Courier, under_way: BTreeSet<Path>) -> BTreeSet<Path> {
    let source = courier.source.clone();
    let names = blocking(move || {
        let names = under_way.iter().filter_map(|path| Some(stage::large(path, &source.look(path).ok()?)));
        Ok(names.collect())
    });
    names.await.unwrap_or_default()
}

fn date_of(name: &[u8]) -> Option<Date> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

/// Whether a folder of the trash is older than it is kept. A name that is no date is nobody's business.
fn is_expired(name: &[u8], trash_days: u32, now: Timestamp) -> bool {
    let Some(date) = date_of(name) else { return false };
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
    fn a_clock_that_leaps_removes_nothing_for_a_day() {
        let (start, hour, day) = (Instant::now(), Duration::from_secs(3600), 24 * 3600);
        let mut calendar = Calendar::new(None);
        assert!(calendar.is_sure(1000, start) && calendar.is_sure(1000 + 3600, start + hour));
        // A day and two hours by the clock, in one hour.
        assert!(!calendar.is_sure(1000 + 3600 + day + 7200, start + 2 * hour));
        assert!(!calendar.is_sure(1000 + 2 * 3600 + day + 7200, start + 3 * hour));
        assert!(calendar.is_sure(1000 + 2 * day + 9200, start + 26 * hour), "a day was lived through");
        let mut away = Calendar::new(Some(1000));
        assert!(!away.is_sure(1000 + 30 * day, start), "away for long, or a wrong clock: nobody knows");
        assert!(Calendar::new(Some(1000)).is_sure(500, start) && Calendar::new(Some(1000)).is_sure(1000 + day, start));
    }

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
