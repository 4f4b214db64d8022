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
    /// Drawn at its start: 16 hexadecimal digits.
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
    pub fn begin(&mut self, run: Run) {
        self.0.push(run);
        let surplus = self.0.len().saturating_sub(RUNS_MAX);
        self.0.drain(..surplus);
    }

    /// The run that is under way.
    pub fn run(&self) -> &str {
        self.0.last().map_or("", |run| &run.id)
    }

    /// Whether a change that was made in a run is in this journal, whose last one is `last`.
    pub fn has(&self, run: &str, seq: u64, last: u64) -> bool {
        let Some(index) = self.0.iter().position(|known| known.id == run) else { return false };
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
        let run = |id: &str, after| Run { id: id.into(), after };
        let mut lineage = Lineage::default();
        lineage.begin(run("a", 0));
        let backup = lineage.clone();
        lineage.begin(run("b", 500));
        assert!(lineage.has("a", 500, 700) && lineage.has("b", 700, 700) && lineage.has("b", 30, 700));
        assert!(!lineage.has("a", 501, 700) && !lineage.has("b", 701, 700) && !lineage.has("c", 1, 700));
        // The backup was made at 300. Its gap has brought it past what others have.
        let mut restored = backup;
        restored.begin(run("c", 300));
        assert!(!restored.has("a", 400, 1301) && !restored.has("b", 600, 1301));
        assert!(restored.has("a", 300, 1301));
    }

    #[test]
    fn only_the_newest_runs_are_remembered() {
        let mut lineage = Lineage::default();
        for number in 0..RUNS_MAX as u64 + 5 {
            lineage.begin(Run { id: number.to_string(), after: number });
        }
        assert_eq!((lineage.0.len(), lineage.run()), (RUNS_MAX, "204"));
        assert!(!lineage.has("4", 1, 1000) && lineage.has("5", 6, 1000));
    }
}
