//! Whether everything that was acknowledged is on both machines, in one sentence. Pure.
//!
//! Always holds: a pair is called safe only where everything that must be so was seen to be so a moment ago; what is not known is not safe.
//! Of several things that are not as they should be the worst stands in the sentence, and all others beside it. Nothing is asked and
//! nothing is done here.

mod machines;
mod mirrors;
mod standby;

use std::collections::BTreeMap;

use pair::control::Status;
use pair::node::Role;
use web::figures;

use crate::situation::{Mirror, Situation};

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All is as it should be.
    Safe,
    /// It cannot be told.
    Unknown,
    /// Somebody should look, soon.
    Attention,
    /// Something could be lost, or is not taken.
    Danger,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// How bad it is.
    pub level: Level,
    /// What it is, as the end of a sentence.
    pub sentence: String,
    /// Since when it is known to be so, in milliseconds since 1970.
    pub since_ms: Option<i64>,
}

/// What is to be said of the pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// How it is.
    pub level: Level,
    /// The one sentence.
    pub sentence: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// What else is not as it should be, the worst first.
    pub reasons: Vec<Reason>,
    /// What a person can do, or should know.
    pub advice: Option<String>,
}

/// Something that was seen, before it is known since when.
struct Condition {
    /// The same for as long as it lasts.
    key: String,
    level: Level,
    sentence: String,
    /// Since when, where who tells of it knows.
    since_ms: Option<i64>,
    /// How long it may be so before it counts.
    grace_ms: i64,
}

/// What was found.
#[derive(Default)]
struct Found(Vec<Condition>);

impl Found {
    fn add(&mut self, level: Level, key: impl Into<String>, sentence: impl Into<String>) -> &mut Condition {
        let condition = Condition { key: key.into(), level, sentence: sentence.into(), since_ms: None, grace_ms: 0 };
        self.0.push(condition);
        let last = self.0.len() - 1;
        #[allow(clippy::indexing_slicing, reason = "it was pushed two lines above")]
        &mut self.0[last]
    }

    fn danger(&mut self, key: impl Into<String>, sentence: impl Into<String>) -> &mut Condition {
        self.add(Level::Danger, key, sentence)
    }

    fn attention(&mut self, key: impl Into<String>, sentence: impl Into<String>) -> &mut Condition {
        self.add(Level::Attention, key, sentence)
    }
}

impl Condition {
    fn since_s(&mut self, since_s: Option<i64>) -> &mut Condition {
        self.since_ms = since_s.filter(|at_s| *at_s > 0).map(|at_s| at_s.saturating_mul(1000));
        self
    }

    /// It passes by itself in so many seconds, mostly.
    fn after_s(&mut self, grace_s: i64) -> &mut Condition {
        self.grace_ms = grace_s * 1000;
        self
    }
}

/// Since when each condition is there: what was so before stays as old as it was.
pub fn since(situation: &Situation, now_ms: i64) -> BTreeMap<String, i64> {
    let conditions = conditions(situation, now_ms);
    let begun = |condition: Condition| {
        let before = situation.since.get(&condition.key).copied().unwrap_or(now_ms);
        (condition.key, before.min(condition.since_ms.unwrap_or(before)))
    };
    conditions.0.into_iter().map(begun).collect()
}

/// What is to be said of a situation.
pub fn judge(situation: &Situation, now_ms: i64) -> Judgement {
    if situation.looked_ms.is_none() {
        let sentence = "One moment: the machines are being asked".to_owned();
        return Judgement { level: Level::Unknown, sentence, since_ms: None, reasons: Vec::new(), advice: None };
    }
    let mut reasons: Vec<Reason> = conditions(situation, now_ms)
        .0
        .into_iter()
        .filter_map(|condition| {
            let seen_ms = situation.since.get(&condition.key).copied();
            let since_ms = [seen_ms, condition.since_ms].into_iter().flatten().min();
            let lasted_ms = now_ms.saturating_sub(since_ms.unwrap_or(now_ms));
            let Condition { level, sentence, grace_ms, .. } = condition;
            (lasted_ms >= grace_ms).then_some(Reason { level, sentence, since_ms })
        })
        .collect();
    // Of equally bad ones the first stays the first.
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.level));
    let advice = standby::advice(situation);
    if reasons.is_empty() {
        return Judgement { level: Level::Safe, sentence: all_is_well(situation), since_ms: None, reasons, advice };
    }
    let worst = reasons.remove(0);
    let beginning = match worst.level {
        Level::Danger => "Not safe: ",
        Level::Attention => "Attention: ",
        Level::Unknown => "Unknown: ",
        Level::Safe => "",
    };
    let (level, since_ms) = (worst.level, worst.since_ms);
    Judgement { level, sentence: format!("{beginning}{}", worst.sentence), since_ms, reasons, advice }
}

/// All that is not as it should be, what matters most first.
fn conditions(situation: &Situation, now_ms: i64) -> Found {
    let mut found = Found::default();
    match answering(situation) {
        Some(status) if status.role == Role::Standby => standby::look(&mut found, status),
        Some(status) => {
            machines::look(&mut found, status);
            mirrors::look(&mut found, situation, status, now_ms);
        }
        None if situation.is_pair => {
            // Why stands in the advice: it is long.
            found.danger("sftpd", "sftpd on this machine does not answer");
        }
        None => {
            found.add(Level::Unknown, "sftpd", "no sftpd answers beside this console");
        }
    }
    if let Some(sentence) = &situation.mirrors_fault {
        found.attention("mirrors", format!("what filesync reports cannot be read: {sentence}"));
    }
    found
}

/// What sftpd says now; none where it does not answer.
fn answering(situation: &Situation) -> Option<&Status> {
    situation.status.as_deref().filter(|_| situation.status_fault.is_none())
}

/// The standbys that filesync follows: where it follows one, others are those of former settings.
pub fn followed(situation: &Situation, now_ms: i64) -> Vec<&Mirror> {
    let is_living =
        |mirror: &&Mirror| mirror.report.as_ref().is_some_and(|report| mirrors::silent_s(report, now_ms).is_none());
    let living: Vec<&Mirror> = situation.mirrors.iter().filter(is_living).collect();
    if living.is_empty() { situation.mirrors.iter().collect() } else { living }
}

/// The sentence where nothing is wrong.
fn all_is_well(situation: &Situation) -> String {
    let Some(status) = answering(situation) else { return "Safe".to_owned() };
    if status.role == Role::Standby {
        return standby::all_is_well(status);
    }
    let machines = if situation.mirrors.len() > 1 { "all machines" } else { "both machines" };
    let everything = format!("Safe: everything acknowledged is on {machines}");
    let reports = situation.mirrors.iter().filter_map(|mirror| mirror.report.as_ref());
    let behind = reports.filter(|report| report.changes_behind > 0).max_by_key(|report| report.lag_ms);
    behind.map_or(everything.clone(), |report| {
        let changes = figures::of(report.changes_behind, "change", "changes");
        format!("{everything}, but for the last {changes}, {} old", figures::milliseconds(report.lag_ms as f64))
    })
}

#[cfg(test)]
mod tests;
