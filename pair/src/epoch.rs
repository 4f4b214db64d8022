//! Epochs: each machine's times as master, how far another has come in one, and how a restored backup is told by that.
//!
//! Always holds: one epoch belongs to one machine. Who becomes master draws a new one, whose counter is one more than that of
//! the newest it knows. Nothing here decides who may be master (`sftpd/src/role/`).

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::secret::hex;

/// Runs that a lineage remembers. Who was away for longer than so many starts is compared whole.
const RUNS_MAX: usize = 200;

/// One machine's time as master. Equal counters with different ids mean two masters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// One more than the parent's.
    pub counter: u64,
    /// Drawn at its start: 16 hexadecimal digits.
    pub id: String,
    /// The id of the epoch that it follows; none for the first.
    pub parent: Option<String>,
    /// How much of an earlier epoch its machine had when it began; none where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Reached>,
}

impl Epoch {
    /// The first epoch of a pair.
    pub fn first() -> anyhow::Result<Epoch> {
        Ok(Epoch { counter: 1, id: draw()?, parent: None, from: None })
    }

    /// An epoch that follows this one.
    pub fn next(&self) -> anyhow::Result<Epoch> {
        self.follow(draw()?, None).context("there is no epoch after this one")
    }

    /// An epoch that follows this one under an id that was drawn for it; none after the last counter.
    pub fn follow(&self, id: String, from: Option<Reached>) -> Option<Epoch> {
        Some(Epoch { counter: self.counter.checked_add(1)?, id, parent: Some(self.id.clone()), from })
    }
}

/// Draws an id: 16 hexadecimal digits.
pub fn draw() -> anyhow::Result<String> {
    let mut id = [0; 8];
    getrandom::fill(&mut id).context("the system has no random numbers")?;
    Ok(hex(&id))
}

/// A place in a master's changes: everything up to it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The epoch's id.
    pub epoch: String,
    /// A run of the master's journal that was under way then, or came later.
    pub run: String,
    /// The last change.
    pub seq: u64,
}

/// A run of the journal: from one start of sftpd to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its number, 8 hexadecimal digits, and 8 that are drawn.
    pub id: String,
    /// The last change before it.
    pub after: u64,
}

/// The runs of a journal, the oldest first. A journal that comes back from a backup lacks those since, and so does not know
/// what others have got from them, whatever its numbers have become meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage(pub Vec<Run>);

impl Lineage {
    /// One more run, behind all changes so far.
    pub fn begin(&mut self, after: u64) -> anyhow::Result<()> {
        let number = |run: &Run| u32::from_str_radix(run.id.get(..8)?, 16).ok();
        let number = self.0.last().and_then(number).map_or(1, |last| last.wrapping_add(1));
        let drawn: String = draw()?.chars().take(8).collect();
        self.push(Run { id: format!("{number:08x}{drawn}"), after });
        Ok(())
    }

    /// One more run, whose id was drawn.
    pub fn push(&mut self, run: Run) {
        self.0.push(run);
        let surplus = self.0.len().saturating_sub(RUNS_MAX);
        self.0.drain(..surplus);
    }

    /// The run that is under way.
    pub fn run(&self) -> &str {
        self.0.last().map_or("", |run| &run.id)
    }

    /// Whether a change that was made in a run is in this journal, whose last one is `last`. Of a run before those that are remembered it has all.
    pub fn has(&self, run: &str, seq: u64, last: u64) -> bool {
        let Some(index) = self.0.iter().position(|known| known.id == run) else {
            let oldest = self.0.first().filter(|_| self.0.len() >= RUNS_MAX);
            return oldest.is_some_and(|oldest| run.get(..8) < oldest.id.get(..8)) && seq <= last;
        };
        seq <= self.0.get(index + 1).map_or(last, |next| next.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_follows_another() {
        let first = Epoch::first().unwrap();
        let second = first.next().unwrap();
        assert_eq!((second.counter, second.parent.as_ref()), (2, Some(&first.id)));
        assert_ne!(first.id, second.id);
        assert!(Epoch { counter: u64::MAX, ..first }.next().is_err());
    }

    #[test]
    fn a_journal_from_a_backup_does_not_know_what_came_after_it() {
        let mut lineage = Lineage::default();
        lineage.begin(0).unwrap();
        let backup = lineage.clone();
        let first = lineage.run().to_owned();
        lineage.begin(500).unwrap();
        let second = lineage.run().to_owned();
        assert!(lineage.has(&first, 500, 700) && lineage.has(&second, 700, 700) && lineage.has(&second, 30, 700));
        assert!(!lineage.has(&first, 501, 700) && !lineage.has(&second, 701, 700) && !lineage.has("x", 1, 700));
        // The backup was made at 300. Its gap has brought it past what others have.
        let mut restored = backup;
        restored.begin(300).unwrap();
        assert!(!restored.has(&first, 400, 1301) && !restored.has(&second, 600, 1301));
        assert!(restored.has(&first, 300, 1301));
    }

    #[test]
    fn of_runs_before_those_that_are_remembered_everything_is_there() {
        let mut lineage = Lineage::default();
        lineage.begin(0).unwrap();
        let (first, backup) = (lineage.run().to_owned(), lineage.clone());
        for number in 1..=RUNS_MAX as u64 {
            lineage.begin(number).unwrap();
        }
        assert_eq!(lineage.0.len(), RUNS_MAX);
        assert!(lineage.has(&first, 1, 1000), "a machine that starts often is none from a backup");
        assert!(!backup.has(lineage.run(), 1, 1000));
    }
}
