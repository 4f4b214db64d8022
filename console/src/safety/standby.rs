//! What sftpd on a standby says, and what a person can do there. Pure.
//!
//! A standby does not know whether it has everything: it knows what its master said last. So its page sends people to the master's.

use pair::control::{Peer, Status};
use pair::extension::Hello;
use pair::node::{Phase, Role};
use web::figures;

use super::{Found, answering, machines};
use crate::situation::Situation;

/// A machine of which nothing was heard for so long is away, in milliseconds.
const HEARD_MAX_MS: u64 = 10_000;

/// What is not as it should be on a standby.
pub fn look(found: &mut Found, status: &Status) {
    if let Some(why) = &status.stopped {
        found.danger("stopped", format!("nothing is written until a person has chosen the master: {why}"));
    } else if status.phase == Phase::Returning {
        found.attention("returning", "this machine was the master and sets aside what only it has");
    }
    match master(status) {
        None if status.peers.is_empty() => {
            found.danger("peers", "this is a standby that knows of no other machine");
        }
        None => {
            let said: Vec<String> = status.peers.iter().map(in_words).collect();
            found.danger("no master", format!("no machine answers as the master: {}", said.join("; "))).after_s(2);
        }
        Some((peer, hello)) => of_master(found, status, peer, hello),
    }
    machines::room(found, "this machine", status.volume_bytes, status.volume_free_bytes);
    machines::set_aside(found, status);
}

/// The machine that was the master when it was heard last.
pub fn master(status: &Status) -> Option<(&Peer, &Hello)> {
    let heard = status.peers.iter().filter_map(|peer| Some((peer, peer.hello.as_ref()?)));
    heard.filter(|(_, hello)| hello.role == Role::Master).min_by_key(|(peer, _)| peer.heard_ms)
}

fn in_words(peer: &Peer) -> String {
    match (&peer.problem, &peer.hello) {
        (Some(problem), _) => format!("{} {problem}", peer.name),
        (None, Some(hello)) => format!("{} is a {}", peer.name, hello.role),
        (None, None) => format!("nothing was heard of {}", peer.name),
    }
}

fn of_master(found: &mut Found, status: &Status, peer: &Peer, hello: &Hello) {
    let name = &peer.name;
    if let Some(problem) = &peer.problem {
        found.danger(format!("peer {name}"), format!("the master {name} does not answer: it {problem}"));
        return;
    }
    if peer.heard_ms.is_none_or(|heard_ms| heard_ms > HEARD_MAX_MS) {
        found.danger(format!("peer {name}"), format!("nothing is heard of the master {name} any more"));
    }
    if let Some(why) = &hello.refuses {
        found.danger(format!("refuses {name}"), format!("the master {name} takes no uploads: {why}"));
    }
    if status.reached.is_none() {
        let sentence = format!("the master {name} has not said yet up to where this machine has everything");
        found.attention(format!("reached {name}"), sentence).after_s(15);
    }
    machines::of_both(found, peer, hello);
}

/// How many of its master's changes a standby lacks; none where that is not known.
pub fn behind(status: &Status) -> Option<u64> {
    let (_, hello) = master(status)?;
    let is_same = hello.epoch.as_ref().map(|epoch| epoch.counter) == status.epoch;
    let theirs = hello.reached.as_ref().filter(|_| is_same)?.seq;
    Some(theirs.saturating_sub(status.reached?))
}

/// The sentence where nothing is wrong.
pub fn all_is_well(status: &Status) -> String {
    let name = master(status).map_or("", |(peer, _)| peer.name.as_str());
    let beginning = format!("This is the standby: it follows the master {name}");
    match behind(status) {
        None => beginning,
        Some(0) => format!("{beginning} and has everything"),
        Some(changes) => format!("{beginning}, {} behind", figures::of(changes, "change", "changes")),
    }
}

/// What a person can do, or should know.
pub fn advice(situation: &Situation) -> Option<String> {
    let Some(status) = answering(situation) else {
        let why = situation.status_fault.as_deref().unwrap_or("Nothing was heard of it.");
        return Some(match situation.is_pair {
            true => format!(
                "Look at sftpd's log on this machine, and at the other machine's console. What stands below is what was heard last. ({why})"
            ),
            false => "This page needs sftpd's state folder (the setting \"state\"). The other pages work without it."
                .to_owned(),
        });
    };
    if status.role == Role::Master {
        return None;
    }
    let is_alone = master(status).is_none_or(|(peer, _)| peer.problem.is_some());
    Some(match is_alone {
        true => "If the master is lost, promote this machine: it takes changes from then on. If only the line between the two is down, \
                 mend that."
            .to_owned(),
        false => "Whether all that was acknowledged is here is told on the master's page. Changes are made there; a switchover brings the \
                  master's place here."
            .to_owned(),
    })
}
