//! Retention at work: what is to go is named in the chain, durably, and only then it is removed, a little at a time.
//!
//! Whoever takes over in between, or starts again, finds in the chain what is still to be removed. What has come anew under such a name stays.

use pair::chain::{Event, What, home_of};
use pair::record::VolumePath;
use rustix::io::Errno;

use super::keeper::{Circumstances, Keeper, Turn};
use super::ledger::Known;
use super::moment;
use super::retention::Picker;
use super::steadiness::Clocks;
use crate::storage::{Change, FileKind, StorageError};

/// Files that retention names in one segment.
const EXPIRED_AT_ONCE: usize = 1000;

/// Removals that are asked for together: clients' changes come between them.
const REMOVED_AT_ONCE: usize = 16;

/// Files that a standby looks after in one look.
const FORGOTTEN_AT_ONCE: usize = 5000;

/// Removals in one turn.
const REMOVED_IN_TURN: usize = 256;

fn ledger(error: rusqlite::Error) -> String {
    format!("the archive's ledger cannot be used: {error}")
}

impl Keeper {
    /// At its time what is to go is named in the chain, and then it goes.
    pub(super) fn retain(&mut self, now: &Circumstances<'_>, turn: &mut Turn) -> Result<(), String> {
        let before_ms = self.ledger.looked_ms().ok().flatten();
        let (is_believed, has_leapt) = self.steadiness.look(Clocks { wall_ms: now.wall_ms, counted: now.counted });
        if has_leapt {
            tracing::warn!("the clock has leapt: retention removes nothing of the archive for a day");
        }
        // Written now and then: a start needs to know the day, and no more.
        if before_ms.is_none_or(|before_ms| now.wall_ms.abs_diff(before_ms) > 3_600_000) {
            let _ = self.ledger.set_looked(now.wall_ms);
        }
        let at_ms = *self.retention_ms.get_or_insert(moment::next(now.wall_ms, self.rhythm.retention_at_s));
        if now.wall_ms >= at_ms || has_leapt {
            self.retention_ms = Some(moment::next(now.wall_ms, self.rhythm.retention_at_s));
            self.is_expiring = is_believed && now.wall_ms >= at_ms;
        }
        if self.is_expiring && is_believed {
            self.is_expiring = self.expire(now, turn)?;
        }
        self.remove(now, turn)
    }

    /// Holds the clock against what is known from before, at the beginning as the master and ahead of the first segment, which would carry a
    /// wrong time already. The newest segment counts too: a machine that never was the master has nothing of its own to go by.
    pub(super) fn doubt_the_clock(&mut self, now: &Circumstances<'_>) {
        let of_chain = self.ledger.head().ok().flatten().map(|head| moment::from_text(&head.time));
        let before_ms = self.ledger.looked_ms().ok().flatten().max(of_chain);
        if self.steadiness.begin(Clocks { wall_ms: now.wall_ms, counted: now.counted }, before_ms) {
            tracing::warn!(
                clock = moment::text(now.wall_ms),
                before = moment::text(before_ms.unwrap_or_default()),
                "the clock is far from when the archive was looked at last: retention names nothing for a day"
            );
        }
    }

    /// Names what goes in a segment; whether there may be more.
    pub(super) fn expire(&mut self, now: &Circumstances<'_>, turn: &mut Turn) -> Result<bool, String> {
        let mut events = Vec::new();
        for agent in now.agents {
            let totals = self.ledger.totals(&agent.home).map_err(ledger)?;
            let mut picker = Picker::new(&agent.keep, &totals, now.wall_ms);
            let mut take = |file: Known| {
                if picker.look(&file).is_none() || events.len() >= EXPIRED_AT_ONCE {
                    return false;
                }
                if !self.gathered.concerns(&file.path) {
                    let (path, time) = (VolumePath(file.path), moment::text(now.wall_ms));
                    events.push(Event { event: What::Expired, path, from: 0, size: file.size, blake3: None, time });
                }
                true
            };
            self.ledger.oldest_first(&agent.home, &mut take).map_err(ledger)?;
        }
        if events.is_empty() {
            return Ok(false);
        }
        let has_more = events.len() >= EXPIRED_AT_ONCE;
        turn.sealed.push(self.publish(now, events, None)?);
        Ok(has_more)
    }

    /// Removes what the chain says is to go. What lies in no agent's folder any more is a user's, and is forgotten and left alone.
    fn remove(&mut self, now: &Circumstances<'_>, turn: &mut Turn) -> Result<(), String> {
        let homes = self.homes(now);
        let leaving = self.ledger.leaving(REMOVED_IN_TURN).map_err(ledger)?;
        let removed_before = turn.removed.len();
        let mut has_forgotten = false;
        for some in leaving.chunks(REMOVED_AT_ONCE) {
            let mut asked = Vec::new();
            for file in some {
                if !homes.contains(home_of(&file.path)) {
                    self.ledger.forget(&file.path).map_err(ledger)?;
                    has_forgotten = true;
                    continue;
                }
                match self.removal(file) {
                    Ok(Some(change)) => asked.push((file, self.volume.commit_own(change))),
                    Ok(None) => {}
                    Err(error) => self.problem = Some(cannot(file, &error)),
                }
            }
            for (file, answer) in asked {
                match futures::executor::block_on(answer) {
                    Ok(()) => {
                        turn.removed.push((VolumePath(file.path.clone()), file.size));
                        self.is_gone(&file.path)?;
                    }
                    Err(StorageError::System(Errno::NOENT)) => self.is_gone(&file.path)?,
                    // It has grown since it was looked at: what the chain says of it comes first.
                    Err(StorageError::System(Errno::BUSY)) => self.gathered.touch(&file.path, self.read_ms, true),
                    Err(error) => self.problem = Some(cannot(file, &error)),
                }
            }
        }
        // What cannot be removed is not tried again at once.
        turn.has_more |= leaving.len() == REMOVED_IN_TURN && (has_forgotten || turn.removed.len() > removed_before);
        Ok(())
    }

    /// A standby removes nothing, but forgets what the master has removed.
    pub(super) fn forget_what_is_gone(&self) -> Result<(), String> {
        for file in self.ledger.leaving(FORGOTTEN_AT_ONCE).map_err(ledger)? {
            if matches!(self.volume.look_at(&file.path), Ok(None)) {
                self.ledger.forget(&file.path).map_err(ledger)?;
            }
        }
        Ok(())
    }

    /// How a file is removed; none where it is gone, or is another by now.
    fn removal(&mut self, file: &Known) -> Result<Option<Change>, String> {
        if self.gathered.concerns(&file.path) {
            // Something has come under its name, or it grows: what the chain says of it comes first.
            return Ok(None);
        }
        let text = |error: StorageError| error.to_string();
        let Some(seen) = self.volume.look_at(&file.path).map_err(text)? else {
            self.is_gone(&file.path)?;
            return Ok(None);
        };
        let expired_ms = file.expired_ms.unwrap_or(i64::MAX);
        // The chain names seconds.
        let is_it =
            seen.kind == FileKind::File && seen.size == file.size && seen.ctime_ns / 1_000_000 < expired_ms + 1000;
        if !is_it {
            self.gathered.touch(&file.path, self.read_ms, true);
            return Ok(None);
        }
        Ok(Some(Change::Remove(
            self.volume.place_in(&file.path).and_then(|place| place.only_so_long(file.size)).map_err(text)?,
        )))
    }

    /// A file is gone; folders that hold nothing any more go with it, but not the agent's own.
    fn is_gone(&mut self, path: &[u8]) -> Result<(), String> {
        self.ledger.forget(path).map_err(ledger)?;
        let mut folder = path;
        while let Some(slash) = folder.iter().rposition(|byte| *byte == b'/') {
            folder = folder.get(..slash).unwrap_or_default();
            let is_empty =
                folder != home_of(folder) && self.volume.names_in(folder).is_ok_and(|names| names.is_empty());
            let place = if is_empty { self.volume.place_in(folder).ok() } else { None };
            let Some(place) = place else { break };
            if futures::executor::block_on(self.volume.commit_own(Change::RemoveFolder(place))).is_err() {
                // Something has come into it.
                break;
            }
        }
        Ok(())
    }
}

fn cannot(file: &Known, error: &dyn std::fmt::Display) -> String {
    format!("{} cannot be removed, though it is to go: {error}", VolumePath(file.path.clone()))
}
