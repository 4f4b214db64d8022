//! What waits, what is held, who is banned: the lists of the page. Pure.

use filesync::status::Report;
use pair::node::Role;
use web::figures;

use super::super::shown;
use super::text::{Clock, span};
use crate::safety::followed;
use crate::situation::{Mirror, PATHS_MAX, Situation};

/// Paths of held removals that are shown.
const HELD_SHOWN_MAX: usize = 10;

/// What a standby has not got yet, and when it was compared.
pub struct Backlog {
    /// The standby.
    pub standby: String,
    /// Its name for an address.
    pub query: String,
    /// Whether it is connected, in words.
    pub connection: String,
    /// Whether that is well: a class.
    pub class: &'static str,
    /// How far it is behind.
    pub lag: String,
    /// What is on its way.
    pub changes: String,
    /// Files of that.
    pub files: String,
    /// Their bytes.
    pub bytes: String,
    /// The oldest change; empty where there is none.
    pub oldest: String,
    /// When both trees were compared last.
    pub compared: String,
    /// When they were compared by content, and how that ended.
    pub verified: String,
}

/// Something that cannot be brought to a standby.
pub struct Problem {
    /// The standby.
    pub standby: String,
    /// Where.
    pub path: String,
    /// What is wrong.
    pub sentence: String,
    /// How often it was tried.
    pub tries: String,
    /// Since when.
    pub since: String,
}

/// Removals of a standby that wait for a person.
pub struct HeldBack {
    /// The standby, as it is named in an order.
    pub standby: String,
    /// How many entries would go.
    pub entries: u64,
    /// The same in words.
    pub sentence: String,
    /// The largest of the paths, with how many entries each has.
    pub paths: Vec<(String, String)>,
    /// How many more there are.
    pub more: u64,
}

/// A ban.
pub struct Banned {
    /// Whom, as it is named in an order.
    pub whom: String,
    /// Whom and what, in words.
    pub sentence: String,
    /// For how long.
    pub left: String,
}

/// Files that are set aside somewhere.
pub struct Aside {
    /// How many, and where.
    pub sentence: String,
    /// What shows them.
    pub command: &'static str,
}

/// The standbys of a master. A standby's own store tells of former times.
pub fn mirrors<'a>(situation: &'a Situation, clock: &Clock) -> Vec<&'a Mirror> {
    let is_standby = situation.status.as_ref().is_some_and(|status| status.role == Role::Standby);
    if is_standby { Vec::new() } else { followed(situation, clock.now_ms) }
}

/// What each standby has not got yet.
pub fn backlogs(situation: &Situation, clock: &Clock) -> Vec<Backlog> {
    mirrors(situation, clock).into_iter().map(|mirror| backlog(mirror, clock)).collect()
}

fn backlog(mirror: &Mirror, clock: &Clock) -> Backlog {
    let unknown = Report::default();
    let report = mirror.report.as_ref().unwrap_or(&unknown);
    let (connection, class) = match (report.silent_s(), report.connected) {
        (Some(_), _) => (format!("filesync does not run; seen {}", clock.ago_s(Some(report.at_s))), "bad-text"),
        (None, true) if report.followed => ("follows every change".to_owned(), "good-text"),
        (None, true) => ("connected, by comparison only".to_owned(), "warn-text"),
        (None, false) => (format!("not connected {}", clock.since(Some(report.since_s * 1000))), "bad-text"),
    };
    let verified = mirror.verified.as_ref().map_or("never".to_owned(), |found| {
        let when = clock.ago_s(Some(found.at_s));
        match found.differences {
            0 => format!("{when}: equal, {}", figures::of(found.files, "file", "files")),
            differences => format!("{when}: {} differ", figures::of(differences, "path", "paths")),
        }
    });
    Backlog {
        standby: shown(&mirror.name),
        query: form_urlencoded::byte_serialize(mirror.name.as_bytes()).collect(),
        connection,
        class,
        lag: if report.lag_ms == 0 { "0 ms".to_owned() } else { figures::milliseconds(report.lag_ms as f64) },
        changes: figures::count(report.changes_behind),
        files: figures::count(report.files_behind.max(report.files_pending)),
        bytes: figures::bytes(report.bytes_behind.max(report.bytes_pending)),
        oldest: report.oldest_path.as_deref().map(shown).unwrap_or_default(),
        compared: clock.ago_s(report.complete_at_s),
        verified,
    }
}

/// What cannot be brought, the oldest first, and how many more there are.
pub fn problems(situation: &Situation, clock: &Clock) -> (Vec<Problem>, u64) {
    let mirrors = mirrors(situation, clock);
    let count: u64 = mirrors.iter().map(|mirror| mirror.troubles_count).sum();
    let waiting = mirrors.iter().flat_map(|mirror| mirror.troubles.iter().map(move |waiting| (mirror, waiting)));
    let mut waiting: Vec<_> = waiting.collect();
    waiting.sort_by_key(|(_, waiting)| waiting.since_s);
    let shown: Vec<Problem> = waiting
        .into_iter()
        .take(PATHS_MAX)
        .map(|(mirror, waiting)| Problem {
            standby: shown(&mirror.name),
            path: shown(&waiting.path),
            sentence: shown(&waiting.sentence),
            tries: figures::count(waiting.tries),
            since: clock.moment(waiting.since_s.saturating_mul(1000)),
        })
        .collect();
    let more = count.saturating_sub(shown.len() as u64);
    (shown, more)
}

/// What waits for a person.
pub fn held(situation: &Situation, clock: &Clock) -> Vec<HeldBack> {
    let waiting = mirrors(situation, clock).into_iter().filter(|mirror| mirror.held_paths > 0);
    waiting.map(|mirror| held_back(mirror, clock)).collect()
}

fn held_back(mirror: &Mirror, clock: &Clock) -> HeldBack {
    let since_s = mirror.held.iter().map(|held| held.since_s).min();
    let reason = mirror.held.first().map(|held| held.reason.as_str()).unwrap_or_default();
    let sentence = format!(
        "The removal of {} from {} waits {}: {}.",
        figures::of(mirror.held_entries, "entry", "entries"),
        shown(&mirror.name),
        clock.since(since_s.map(|at_s| at_s.saturating_mul(1000))),
        shown(reason)
    );
    let largest = mirror.held.iter().take(HELD_SHOWN_MAX);
    let paths: Vec<_> = largest
        .map(|held| (shown(&filesync::tree::shown(&held.path)), figures::of(held.entries, "entry", "entries")))
        .collect();
    let more = mirror.held_paths.saturating_sub(paths.len() as u64);
    HeldBack { standby: mirror.name.clone(), entries: mirror.held_entries, sentence, paths, more }
}

/// Who is banned.
pub fn bans(situation: &Situation) -> Vec<Banned> {
    let ban = |ban: &pair::control::Ban| Banned {
        whom: ban.whom.clone(),
        sentence: match ban.is_account {
            true => format!("the password of {} from new addresses", shown(&ban.whom)),
            false => shown(&ban.whom),
        },
        left: span(i64::try_from(ban.left_s.saturating_mul(1000)).unwrap_or(i64::MAX)),
    };
    situation.bans.iter().map(ban).collect()
}

/// Files that are set aside, here and there.
pub fn aside(situation: &Situation) -> Vec<Aside> {
    let Some(status) = situation.status.as_deref() else { return Vec::new() };
    let files = |count: u64| figures::of(count, "file is", "files are");
    let own = (status.divergent > 0).then(|| Aside {
        sentence: format!("{} set aside on this machine: the master of now has not got them.", files(status.divergent)),
        command: "sftpd divergent list",
    });
    let theirs = status.peers.iter().filter_map(|peer| {
        let offers = peer.hello.as_ref()?.offers;
        (offers > 0).then(|| Aside {
            sentence: format!("{} set aside on {} and offered to this machine.", files(offers), shown(&peer.name)),
            command: "sftpd divergent list",
        })
    });
    own.into_iter().chain(theirs).collect()
}
