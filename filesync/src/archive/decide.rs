//! Decides what is done with a file, from what a look shows and what the record knows. Pure, but for the proofs that it asks for.
//!
//! Always holds: what cannot be proven to be in the archive is sent. Names decide nothing; an inode only says which proofs to try
//! first. A clock decides nothing either: whether a file is at rest was seen on the monotonic one.

use std::io;

use super::sight::{Proof, Stamp};

/// A text that may be the one in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its number in the record.
    pub text: i64,
    /// By what it is known again.
    pub proof: Proof,
    /// Whether the file that held it last is this very file.
    pub is_own: bool,
    /// Whether the file that held it last does not any more, so that another one may have come of it: renamed, or copied away.
    pub is_orphan: bool,
    /// Whether some of it is on its way just now.
    pub is_busy: bool,
}

/// What is known of a file but for its content.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// What the look showed.
    pub stamp: Stamp,
    /// What it showed when all of it was in the archive.
    pub noted: Option<Stamp>,
    /// Whether it has not changed for long enough.
    pub is_quiet: bool,
    /// Whether it was met so lately that it may be a copy which is being made.
    pub is_young: bool,
    /// Whether it is shipped as it grows.
    pub tail: bool,
}

/// What is done with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it is empty, or in the archive as it is.
    Settled,
    /// Nothing yet: it is written to, copied, or on its way.
    Wait,
    /// All of it is in the archive as this text; that is noted.
    Known(i64),
    /// It is this text, of which the rest is sent.
    GoesOn(i64),
    /// It is a text that nothing is known of.
    New,
}

/// Whether a verdict needs no look into the file.
pub fn at_a_glance(view: &View) -> Option<Verdict> {
    if view.stamp.size == 0 || view.noted == Some(view.stamp) {
        return Some(Verdict::Settled);
    }
    (!view.tail && !view.is_quiet).then_some(Verdict::Wait)
}

/// Judges a file. `holds` tells whether what was shipped of a candidate stands at the file's beginning.
pub fn decide(
    view: &View,
    candidates: &[Candidate],
    mut holds: impl FnMut(&Candidate) -> io::Result<bool>,
) -> io::Result<Verdict> {
    if let Some(verdict) = at_a_glance(view) {
        return Ok(verdict);
    }
    let size = view.stamp.size;
    if candidates.iter().any(|candidate| candidate.is_own && candidate.is_busy) {
        return Ok(Verdict::Wait);
    }
    let mut best: Option<&Candidate> = None;
    for candidate in candidates.iter().filter(|candidate| (1..=size).contains(&candidate.proof.sent)) {
        let is_better = best.is_none_or(|best| rank(candidate) > rank(best));
        if is_better && holds(candidate)? {
            best = Some(candidate);
        }
    }
    // A file that is copied has a part, or all, of a text that another file still holds.
    let may_be_copying = view.is_young && !view.is_quiet;
    match best {
        Some(found) if found.is_busy => Ok(Verdict::Wait),
        Some(found) if found.is_own || found.is_orphan => {
            let is_all = found.proof.sent == size;
            Ok(if is_all { Verdict::Known(found.text) } else { Verdict::GoesOn(found.text) })
        }
        // Another file that says the same, from its first byte on, is a file of its own.
        Some(_) => Ok(if may_be_copying { Verdict::Wait } else { Verdict::New }),
        None => {
            let is_part = candidates.iter().any(|candidate| candidate.proof.sent > size);
            Ok(if is_part && may_be_copying { Verdict::Wait } else { Verdict::New })
        }
    }
}

/// What may go on in this file before what may not; of those what was shipped furthest.
fn rank(candidate: &Candidate) -> (bool, u64, bool, i64) {
    (candidate.is_own || candidate.is_orphan, candidate.proof.sent, candidate.is_own, -candidate.text)
}

#[cfg(test)]
mod tests;
