//! What sftpd on a master says of itself and of the other machines. Pure.

use pair::control::{Peer, Status};
use pair::extension::Hello;
use pair::node::{Phase, Role};
use web::figures;

use super::Found;

/// Less room than this is little, in percent.
const ROOM_LITTLE_PERCENT: f64 = 10.0;
/// Less than this is next to nothing.
const ROOM_NONE_PERCENT: f64 = 3.0;
/// How long accounts and epochs may take from one machine to the other, in seconds.
const AGREEMENT_S: i64 = 15;

/// What is not as it should be on a master.
pub fn look(found: &mut Found, status: &Status) {
    own(found, status);
    if status.peers.is_empty() {
        found.danger("peers", "this machine knows of no other: there is one copy of everything");
    }
    for peer in &status.peers {
        let name = &peer.name;
        if let Some(problem) = &peer.problem {
            found.attention(
                format!("peer {name}"),
                format!("{name} does not answer this machine's sftpd: it {problem}"),
            );
        } else if let Some(hello) = &peer.hello {
            other(found, status, peer, hello);
        } else {
            found.attention(format!("peer {name}"), format!("nothing was heard of {name} yet")).after_s(AGREEMENT_S);
        }
    }
    accounts(found, status);
    set_aside(found, status);
}

/// What concerns this machine alone, in either role.
fn own(found: &mut Found, status: &Status) {
    if let Some(why) = &status.stopped {
        found.danger("stopped", format!("nothing is written until a person has chosen the master: {why}"));
    } else if status.phase != Phase::Master {
        let phase = status.phase.text();
        found.attention("phase", format!("this machine takes no changes now: it is a {phase}")).after_s(2);
    } else if let Some(why) = &status.refuses_uploads {
        found.danger("uploads", format!("uploads are refused: {why}"));
    }
    if status.is_volatile {
        let sentence = "durability is none on this machine: what it acknowledges may not survive a power failure";
        found.attention("durability", sentence);
    }
    room(found, "this machine", status.volume_bytes, status.volume_free_bytes);
}

/// What was set aside, and what was not written down; in either role.
pub fn set_aside(found: &mut Found, status: &Status) {
    if status.divergent > 0 {
        let files = figures::of(status.divergent, "file is", "files are");
        found.attention("divergent", format!("{files} set aside on this machine and nobody has decided about them"));
    }
    if status.activity_lost > 0 {
        let records = figures::of(status.activity_lost, "record", "records");
        found.attention("activity", format!("the activity log lacks {records} since sftpd was started"));
    }
}

/// What another machine says of itself.
fn other(found: &mut Found, status: &Status, peer: &Peer, hello: &Hello) {
    let name = &peer.name;
    let is_second_master = hello.role == Role::Master && hello.phase != Some(Phase::Stopped);
    if is_second_master {
        found.danger(format!("two {name}"), format!("{name} says that it is the master, too")).after_s(2);
        return;
    }
    let theirs = hello.epoch.as_ref().map(|epoch| epoch.counter);
    if theirs != status.epoch {
        let (ours, theirs) = (counter(status.epoch), counter(theirs));
        let sentence = format!("{name} is in {theirs}, and this machine in {ours}");
        found.attention(format!("epoch {name}"), sentence).after_s(AGREEMENT_S);
    }
    if let Some(why) = &hello.refuses {
        found.attention(format!("refuses {name}"), format!("{name} could take no uploads as a master: {why}"));
    }
    if hello.offers > 0 {
        let files = figures::of(hello.offers, "file", "files");
        found.attention(format!("offers {name}"), format!("{files} that only {name} has were set aside there"));
    }
    of_both(found, peer, hello);
}

/// What must be the same on both, and its room; whichever of them is the master.
pub fn of_both(found: &mut Found, peer: &Peer, hello: &Hello) {
    let name = &peer.name;
    if !peer.has_our_host_keys {
        let sentence = format!("{name} has other host keys: clients would be warned, so failover is not armed");
        found.attention(format!("host keys {name}"), sentence).after_s(AGREEMENT_S);
    }
    if let (Some(bytes), Some(free_bytes)) = (hello.volume_bytes, hello.volume_free_bytes) {
        room(found, name, bytes, free_bytes);
    }
}

/// Whether each standby has the accounts.
fn accounts(found: &mut Found, status: &Status) {
    for standby in &status.standbys {
        let name = &standby.name;
        let key = format!("accounts {name}");
        match (&standby.problem, standby.accounts_generation) {
            (Some(problem), _) => {
                found.attention(key, format!("{name} does not get the newest accounts: {problem}"));
            }
            (None, Some(generation)) if generation != status.accounts_generation => {
                let ours = status.accounts_generation;
                let sentence = format!("{name} has generation {generation} of the accounts, this machine {ours}");
                found.attention(key, sentence).after_s(AGREEMENT_S);
            }
            (None, None) => {
                found.attention(key, format!("it is not known which accounts {name} has")).after_s(AGREEMENT_S);
            }
            (None, Some(_)) => {}
        }
    }
}

/// Whether there is room.
pub fn room(found: &mut Found, whose: &str, bytes: u64, free_bytes: u64) {
    if bytes == 0 {
        return;
    }
    let free_percent = free_bytes as f64 / bytes as f64 * 100.0;
    let sentence = format!("the disk of {whose} is nearly full: {} are free", figures::bytes(free_bytes));
    match free_percent {
        percent if percent < ROOM_NONE_PERCENT => drop(found.danger(format!("room {whose}"), sentence)),
        percent if percent < ROOM_LITTLE_PERCENT => drop(found.attention(format!("room {whose}"), sentence)),
        _ => {}
    }
}

fn counter(counter: Option<u64>) -> String {
    counter.map_or("no epoch".to_owned(), |counter| format!("epoch {counter}"))
}
