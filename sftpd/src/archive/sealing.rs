//! Makes segments: looks at what has come, and writes down what it is.
//!
//! Always holds: a segment is published where nothing is, behind the newest that the volume or the ledger knows; so no number comes twice,
//! whenever this ends. Only what the journal or a look at the volume says goes in, and what a file had once stays what the chain says of it:
//! a file that was altered behind sftpd's back is never written down anew.

use pair::chain::{Event, FOLDER, FORMAT, Header, Segment, What, digest};
use pair::record::{Position, VolumePath};

use super::folding::{Trust, fold};
use super::gathered::Came;
use super::keeper::{Circumstances, Keeper, Sealed};
use super::ledger::Head;
use super::moment;
use crate::storage::{Change, FileKind};

/// Files in one segment, at most.
const FILES_MAX: usize = 5000;

/// What is read for one segment, in bytes, unless one file is larger.
const READ_BYTES_MAX: u64 = 1 << 30;

/// What the lines of a segment may come to, in bytes: far below what a reader takes, also with the last file's lines on top.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// As long as an event's line can be, in bytes: a byte of its path may need three.
fn line_bytes_max(event: &Event) -> usize {
    3 * event.path.0.len() + 256
}

impl Keeper {
    /// Puts what waits into a segment, or the first of it. Gives none where there was nothing to tell.
    pub(super) fn seal(&mut self, now: &Circumstances<'_>) -> Result<Option<Sealed>, String> {
        let (mut events, mut done, mut read_bytes, mut text_bytes) = (Vec::new(), Vec::new(), 0, 0);
        let (mut problem, mut has_rest) = (None, false);
        for (path, came) in self.gathered.waiting() {
            let is_full = done.len() >= FILES_MAX || read_bytes >= READ_BYTES_MAX || text_bytes >= TEXT_BYTES_MAX;
            if is_full || !(now.goes_on)() {
                has_rest = true;
                break;
            }
            let mut read_with_it = read_bytes;
            match self.events_of(path, came, now.wall_ms, &mut read_with_it) {
                Ok(of_file) => {
                    read_bytes = read_with_it;
                    text_bytes += of_file.iter().map(line_bytes_max).sum::<usize>();
                    events.extend(of_file);
                    done.push(path.clone());
                }
                // It is looked at again with the next segment, and holds up no other: it counts towards no bound.
                Err(sentence) => problem = Some(sentence),
            }
        }
        (self.file_problem, self.has_rest) = (problem, has_rest);
        // Only what is in none of these came before `until` is not in the chain.
        let waiting = |keeper: &Keeper| keeper.gathered.len() > done.len() || keeper.gathered.must_compare();
        let until_ms = if waiting(self) { None } else { Some(self.read_ms) };
        let sealed = if events.is_empty() { None } else { Some(self.publish(now, events, until_ms)?) };
        done.iter().for_each(|path| self.gathered.done(path));
        Ok(sealed)
    }

    /// What is to be told of one file.
    fn events_of(&self, path: &[u8], came: &Came, now_ms: i64, read_bytes: &mut u64) -> Result<Vec<Event>, String> {
        let cannot = |error: &dyn std::fmt::Display| {
            format!("{} cannot be put into the archive's chain: {error}", VolumePath(path.to_vec()))
        };
        let known = self.ledger.known(path).map_err(|error| cannot(&error))?.filter(|known| known.expired_ms.is_none());
        let seen = self.volume.look_at(path).map_err(|error| cannot(&error))?;
        let size = seen.filter(|seen| seen.kind == FileKind::File).map(|seen| seen.size);
        let mut part = |from: u64, to: u64| {
            *read_bytes += to.saturating_sub(from);
            let hash = self.volume.hash_of_part(path, from, to).map_err(|error| cannot(&error))?;
            Ok::<_, String>(hash.map(|hash| hash.to_hex().to_string()))
        };
        let event = |event: What, from: u64, size: u64, blake3: String, ms: i64| Event {
            event,
            path: VolumePath(path.to_vec()),
            from,
            size,
            blake3: Some(blake3),
            time: moment::text(ms),
        };
        let mut events = Vec::new();
        let mut has = known.map(|known| known.size);
        if has.is_none() {
            let (what, ms) = if came.is_found { (What::Found, now_ms) } else { (What::Arrived, came.since_ms) };
            match (&came.whole, size) {
                (Some((whole, hash)), _) => {
                    events.push(event(what, 0, *whole, hash.clone(), ms));
                    has = Some(*whole);
                }
                (None, Some(size)) => {
                    if let Some(hash) = part(0, size)? {
                        events.push(event(what, 0, size, hash, ms));
                        has = Some(size);
                    }
                }
                // It has gone again, and what it was nobody can tell.
                (None, None) => {}
            }
        }
        if let (Some(from), Some(to)) = (has, size)
            && to > from
            && let Some(hash) = part(from, to)?
        {
            events.push(event(What::Grown, from, to, hash, came.last_ms));
        }
        Ok(events)
    }

    /// Writes a segment behind the newest.
    pub(super) fn publish(
        &mut self,
        now: &Circumstances<'_>,
        mut events: Vec<Event>,
        until_ms: Option<i64>,
    ) -> Result<Sealed, String> {
        let storage = |error: &dyn std::fmt::Display| format!("the archive's chain cannot be written: {error}");
        self.fold(now)?;
        let before = self.ledger.head().map_err(|error| storage(&error))?;
        if let Some(before) = &before {
            // By a clock in the past what comes would look old, and retention would take it. Of what goes the time stays: what has come anew
            // under its name is told by it.
            let came = events.iter_mut().filter(|event| event.event != What::Expired && event.time < before.time);
            came.for_each(|event| event.time.clone_from(&before.time));
        }
        let text = moment::text(now.wall_ms);
        // A clock that goes back does not turn the chain round.
        let time = before.as_ref().map_or(text.clone(), |before| before.time.clone().max(text.clone()));
        let until = until_ms.map(moment::text).or_else(|| before.as_ref().map(|before| before.until.clone()));
        let segment = Segment {
            header: Header {
                format: FORMAT.into(),
                number: before.as_ref().map_or(1, |before| before.number + 1),
                epoch: (now.epoch.counter, now.epoch.id.clone()),
                machine: now.machine.to_owned(),
                time,
                previous: before.as_ref().map(|before| before.digest.clone()),
                until: until.unwrap_or_else(|| moment::text(0)),
                through: Position { epoch: now.epoch.id.clone(), seq: self.read_to },
                agents: self.homes(now).into_iter().map(VolumePath).collect(),
            },
            events,
        };
        let content = segment.text().map_err(|error| storage(&error))?;
        let day = segment.day().to_owned();
        let name = pair::chain::file_name(segment.header.number);
        let publish = || {
            let place = self.volume.root(&format!("{FOLDER}/{day}"))?.place(name.as_bytes())?;
            let staged = self.volume.stage_new_file(content.as_bytes(), place)?;
            futures::executor::block_on(self.volume.commit_own(Change::Publish(staged)))
        };
        publish().map_err(|error| storage(&error))?;
        let Header { number, time, until, agents, epoch, .. } = segment.header;
        let head = Head { number, digest: digest(content.as_bytes()), time, until, day, epoch: epoch.1, agents };
        // Should this fail, the next look reads it from the volume.
        self.ledger.take_in(&head, &segment.events).map_err(|error| storage(&error))?;
        self.sealed_ms = Some(now.wall_ms);
        tracing::info!(
            number = head.number,
            digest = head.digest,
            events = segment.events.len(),
            "a segment of the archive's chain"
        );
        Ok(Sealed { number: head.number, digest: head.digest, path: format!("{FOLDER}/{}/{name}", head.day) })
    }

    /// Takes in what the volume has of the chain.
    pub(super) fn fold(&mut self, now: &Circumstances<'_>) -> Result<(), String> {
        let head = self.ledger.head().map_err(|error| format!("the archive's ledger cannot be used: {error}"))?;
        let trust = match head {
            _ if !now.is_master => Trust::Nobody,
            Some(head) if head.epoch == now.epoch.id => Trust::Ledger,
            _ => Trust::Volume,
        };
        self.chain_problem = fold(&self.volume, &self.ledger, trust)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_longer_than_is_counted_for_it() {
        for byte in 1..=255 {
            let event = Event {
                event: What::Arrived,
                path: VolumePath(vec![byte; 4000]),
                from: u64::MAX,
                size: u64::MAX,
                blake3: Some("f".repeat(64)),
                time: moment::text(0),
            };
            let line = serde_json::to_string(&event).unwrap();
            assert!(line.len() < line_bytes_max(&event), "{byte}: {}", line.len());
        }
    }
}
