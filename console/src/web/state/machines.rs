//! Both machines side by side, as far as this one knows. Pure.

use pair::control::{Peer, Status};
use pair::extension::Hello;
use pair::node::Role;
use web::figures;

use super::super::shown;
use super::text::{Clock, span};
use crate::situation::Situation;

/// A machine.
pub struct Card {
    /// Which.
    pub title: &'static str,
    /// Its name.
    pub name: String,
    /// What it is now.
    pub role: String,
    /// Whether all that is said of it is of before.
    pub is_away: bool,
    /// What is known of it.
    pub facts: Vec<Fact>,
}

/// One thing that is known.
pub struct Fact {
    /// What.
    pub name: &'static str,
    /// How it is.
    pub value: String,
    /// Whether that is good or bad: a class, or nothing.
    pub class: &'static str,
}

fn fact(name: &'static str, value: impl Into<String>) -> Fact {
    Fact { name, value: value.into(), class: "" }
}

/// `value` is good or bad.
fn judged(name: &'static str, value: impl Into<String>, is_good: bool) -> Fact {
    Fact { name, value: value.into(), class: if is_good { "good-text" } else { "bad-text" } }
}

/// This machine, then the others.
pub fn cards(situation: &Situation, clock: &Clock) -> Vec<Card> {
    let Some(status) = situation.status.as_deref() else { return Vec::new() };
    let is_stale = situation.status_fault.is_some();
    let others = status.peers.iter().map(|peer| other(status, peer, is_stale));
    std::iter::once(own(situation, status, clock)).chain(others).collect()
}

fn own(situation: &Situation, status: &Status, clock: &Clock) -> Card {
    let is_away = situation.status_fault.is_some();
    let answers = match &situation.status_fault {
        None => judged("Reached", "answers", true),
        Some(why) => judged("Reached", shown(why), false),
    };
    let uploads = match &status.refuses_uploads {
        None => judged("Uploads", "are taken", true),
        Some(why) if status.role == Role::Standby => fact("Uploads", shown(why)),
        Some(why) => judged("Uploads", format!("are refused: {}", shown(why)), false),
    };
    let mut facts = vec![
        answers,
        fact("Epoch", status.epoch.map_or("none yet".to_owned(), |epoch| epoch.to_string())),
        uploads,
        fact("Accounts", format!("{}, generation {}", status.accounts, status.accounts_generation)),
    ];
    facts.extend(room(status.volume_bytes, status.volume_free_bytes));
    let forecast = situation.lines.full_in_days.map(|days| match days {
        days if days < 1.0 => "in less than a day".to_owned(),
        days => format!("in about {}", figures::of(days.round() as u64, "day", "days")),
    });
    facts.extend(forecast.map(|when| judged("Disk full", when, situation.lines.full_in_days > Some(14.0))));
    let since = status.since.parse::<jiff::Timestamp>().map(|at| clock.moment(at.as_millisecond()));
    facts.push(fact("Running since", since.unwrap_or_else(|_| shown(&status.since))));
    facts.push(fact("Connections", figures::count(status.connections as u64)));
    facts.extend(status.reached.map(|seq| fact("Has all up to change", figures::count(seq))));
    facts.extend((status.role == Role::Master).then(|| fact("Last change", figures::count(status.last_seq))));
    facts.push(fact("Version", shown(&status.version)));
    let (name, role) = (shown(&status.node), status.phase.text().to_owned());
    Card { title: "This machine", name, role, is_away, facts }
}

/// `is_stale`: sftpd on this machine does not answer, so nobody knows how the others are now.
fn other(status: &Status, peer: &Peer, is_stale: bool) -> Card {
    let heard = peer.heard_ms.map_or("was never heard".to_owned(), |heard_ms| match heard_ms {
        0..5_000 => "heard just now".to_owned(),
        heard_ms => format!("heard {} ago", span(heard_ms as i64)),
    });
    let reached = match &peer.problem {
        _ if is_stale => fact("Reached", "not known: sftpd on this machine does not answer"),
        None => judged("Reached", format!("answers, {heard}"), peer.heard_ms.is_some()),
        Some(problem) => judged("Reached", format!("{}; {heard}", shown(problem)), false),
    };
    let mut facts = vec![reached];
    if let Some(hello) = &peer.hello {
        facts.extend(said(status, peer, hello));
    }
    let role = peer.hello.as_ref().map_or("not known".to_owned(), |hello| {
        hello.phase.map_or(hello.role.to_string(), |phase| phase.text().to_owned())
    });
    Card { title: "Other machine", name: shown(&peer.name), role, is_away: peer.problem.is_some() || is_stale, facts }
}

/// What a machine has said of itself.
fn said(status: &Status, peer: &Peer, hello: &Hello) -> Vec<Fact> {
    let epoch = hello.epoch.as_ref().map(|epoch| epoch.counter);
    let in_words = epoch.map_or("none yet".to_owned(), |epoch| epoch.to_string());
    let epoch = match epoch == status.epoch {
        true => judged("Epoch", format!("{in_words}, as here"), true),
        false => judged("Epoch", in_words, false),
    };
    let generation = hello.accounts_generation;
    let accounts = match generation == status.accounts_generation {
        true => judged("Accounts", format!("generation {generation}, as here"), true),
        false => judged("Accounts", format!("generation {generation}"), false),
    };
    let keys = match peer.has_our_host_keys {
        true => judged("Host keys", "as here", true),
        false => judged("Host keys", "others than here", false),
    };
    let mut facts = vec![epoch, accounts, keys];
    facts.extend(room(hello.volume_bytes.unwrap_or(0), hello.volume_free_bytes.unwrap_or(0)));
    let reached = hello.reached.as_ref().map(|reached| figures::count(reached.seq));
    facts.extend(reached.map(|seq| match hello.role {
        Role::Master => fact("Last change", seq),
        Role::Standby => fact("Has all up to change", seq),
    }));
    facts.push(fact("Version", shown(&hello.version)));
    facts.push(fact("Id", shown(&hello.node)));
    facts
}

/// Room on a disk; none where it is not known.
fn room(bytes: u64, free_bytes: u64) -> Option<Fact> {
    if bytes == 0 {
        return None;
    }
    let free_percent = free_bytes as f64 / bytes as f64 * 100.0;
    let value = format!("{} free of {} ({free_percent:.0}\u{a0}%)", figures::bytes(free_bytes), figures::bytes(bytes));
    let class = if free_percent < 10.0 { "bad-text" } else { "" };
    Some(Fact { name: "Disk", value, class })
}
