//! What filesync on a master reports of each standby. Pure.

use filesync::remote::Grade;
use filesync::status::Report;
use pair::control::Status;
use web::figures;

use super::{Found, Level, followed};
use crate::situation::{Mirror, Situation};

/// A report older than this is that of a filesync that does not run any more, in milliseconds.
const REPORT_AGE_MAX_MS: i64 = 30_000;
/// What is on its way for so long is as good as there, in milliseconds.
const LAG_MAX_MS: u64 = 2_000;
/// From here on a standby does not just lag: filesync's own limit, as it is shipped.
const LAG_DANGER_MS: i64 = 300_000;

/// How long ago a filesync was seen last that does not run any more, in seconds.
pub fn silent_s(report: &Report, now_ms: i64) -> Option<i64> {
    let age_ms = now_ms.saturating_sub(report.at_s.saturating_mul(1000));
    (age_ms > REPORT_AGE_MAX_MS).then_some(age_ms / 1000)
}

/// What is not as it should be between a master and its standbys.
pub fn look(found: &mut Found, situation: &Situation, status: &Status, now_ms: i64) {
    if situation.mirrors.is_empty() && situation.mirrors_fault.is_none() && !status.peers.is_empty() {
        found.danger("filesync", "filesync has not run on this machine: nothing reaches the standby");
    }
    for mirror in followed(situation, now_ms) {
        match &mirror.report {
            Some(report) => {
                of_report(found, report, now_ms);
                of_lists(found, mirror, now_ms);
            }
            None => {
                found.danger(format!("silent {}", mirror.name), format!("nothing was heard of {} yet", mirror.name));
            }
        }
    }
}

fn of_report(found: &mut Found, report: &Report, now_ms: i64) {
    let name = &report.standby;
    if silent_s(report, now_ms).is_some() {
        let sentence = format!("filesync does not run on this machine: nothing new reaches {name}");
        found.danger(format!("silent {name}"), sentence).since_s(Some(report.at_s));
        return;
    }
    if !report.connected {
        let sentence = match report.sentence.as_deref() {
            // It names the standby itself.
            Some(why) if why.contains(name.as_str()) => why.to_owned(),
            why => format!("{name} is not connected: {}", why.unwrap_or("it was not reached yet")),
        };
        found.danger(format!("away {name}"), sentence).since_s(Some(report.since_s));
        return;
    }
    if report.settled_at_s.is_none() && !report.followed {
        let sentence = format!("no comparison has shown yet that {name} has everything");
        found.danger(format!("unsettled {name}"), sentence);
    } else if !report.followed {
        let why = report.feed_sentence.as_deref().unwrap_or("both sides are being compared first");
        let sentence = format!("changes do not reach {name} at once: {why}");
        found.attention(format!("feed {name}"), sentence).after_s(10);
    }
    if report.grade == Some(Grade::Plain) {
        let sentence = format!("{name} is a plain SFTP server: what it says is there may not survive a power failure");
        found.attention(format!("plain {name}"), sentence);
    }
    lag(found, report);
}

fn lag(found: &mut Found, report: &Report) {
    let name = &report.standby;
    let is_late = report.lag_ms as i64 > LAG_DANGER_MS;
    let level = if is_late { Level::Danger } else { Level::Attention };
    if report.changes_behind > 0 && report.lag_ms > LAG_MAX_MS {
        let changes = figures::of(report.changes_behind, "change", "changes");
        let lag = figures::milliseconds(report.lag_ms as f64);
        found.add(level, format!("lag {name}"), format!("{name} lacks {changes}, the oldest of {lag} ago"));
    }
    if report.files_pending > 0 {
        let (files, bytes) = (figures::of(report.files_pending, "file", "files"), figures::bytes(report.bytes_pending));
        let sentence = format!("{files} ({bytes}) that {name} lacks are still to be sent");
        found.add(level, format!("pending {name}"), sentence).after_s(2);
    }
}

/// Problems, removals that wait, differences.
fn of_lists(found: &mut Found, mirror: &Mirror, now_ms: i64) {
    let name = &mirror.name;
    if mirror.troubles_count > 0 {
        let oldest_s = mirror.troubles.first().map(|waiting| waiting.since_s);
        let open_ms = oldest_s.map_or(0, |since_s| now_ms.saturating_sub(since_s.saturating_mul(1000)));
        let level = if open_ms > LAG_DANGER_MS { Level::Danger } else { Level::Attention };
        let paths = figures::of(mirror.troubles_count, "path", "paths");
        let sentence = format!("{paths} cannot be brought to {name}");
        found.add(level, format!("troubles {name}"), sentence).since_s(oldest_s);
    }
    if mirror.held_paths > 0 {
        let entries = figures::of(mirror.held_entries, "entry", "entries");
        let since_s = mirror.held.iter().map(|held| held.since_s).min();
        let sentence = format!("the removal of {entries} from {name} waits for a person");
        found.attention(format!("held {name}"), sentence).since_s(since_s);
    }
    if let Some(verified) = mirror.verified.as_ref().filter(|verified| verified.differences > 0) {
        let paths = figures::of(verified.differences, "path", "paths");
        let sentence = format!("the last filesync verify has found {paths} that differ on {name}");
        found.attention(format!("differs {name}"), sentence).since_s(Some(verified.at_s));
    }
}
