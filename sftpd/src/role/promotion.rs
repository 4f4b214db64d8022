//! A person makes this machine the master.
//!
//! Always holds: nobody is promoted past a machine that answers as master, past a standby that has more, or where clients would be frightened by other
//! host keys, unless the person has typed the name of the machine that is given up.

use std::sync::Arc;
use std::time::Instant;

use pair::control::Move;
use pair::epoch::draw;
use pair::extension::Hello;
use pair::node::{Phase, Role};
use pair::peer::Failure;

use super::standing::Event;
use crate::daemon::Daemon;
use crate::peers::{ask_all_in_haste, has_our_host_keys};

/// What another machine has answered, by its address.
type Answer = (String, Result<Hello, Failure>);

/// Promotes this machine, or says why not. `force` is the other machine's address or id.
pub async fn promote(daemon: &Arc<Daemon>, force: Option<&str>) -> Result<Move, String> {
    let Ok(_moving) = daemon.roles.moving.try_lock() else {
        return Err("a switchover is under way here: wait for its end".into());
    };
    if matches!(daemon.roles.now().phase(), Phase::Master | Phase::Draining) {
        return Err("this machine is the master already".into());
    }
    let began = Instant::now();
    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let answers = ask_all_in_haste(daemon).await;
    if let Some(name) = force
        && !answers.iter().any(|(address, _)| is_called(daemon, address, name))
    {
        let known: Vec<_> = answers.iter().map(|(address, _)| address.as_str()).collect();
        return Err(format!("no other machine of the settings is called {name}; there is: {}", known.join(", ")));
    }
    if force.is_none() {
        refuse_what_needs_force(daemon, &answers)?;
    }
    let mut remarks = remarks(daemon, &answers);
    let standing = daemon.happens(Event::Promote(draw().map_err(|error| error.to_string())?)).await?;
    remarks
        .push("what only the old master has is kept in divergent/ when it comes back, and offered to this one".into());
    Ok(Move {
        what: "promote".into(),
        time,
        master: standing.node.node.clone(),
        epoch: standing.node.epoch.as_ref().map_or(0, |epoch| epoch.counter),
        elapsed_ms: began.elapsed().as_millis() as u64,
        gap_ms: None,
        steps: Vec::new(),
        remarks,
    })
}

/// Whether this is a machine's address, or the id that it said last, also where it does not answer now.
fn is_called(daemon: &Daemon, address: &str, name: &str) -> bool {
    let seen = daemon.peers.seen();
    seen.get(address).and_then(|seen| seen.hello.as_ref()).is_some_and(|(hello, _)| hello.node == name)
        || address == name
}

fn refuse_what_needs_force(daemon: &Daemon, answers: &[Answer]) -> Result<(), String> {
    let standing = daemon.roles.now();
    let reached = standing.node.follows.as_ref().and_then(|follows| follows.reached.as_ref());
    let answered = || answers.iter().filter_map(|(address, answer)| Some((address, answer.as_ref().ok()?)));
    // While there is a master nothing else matters.
    let is_master = |hello: &Hello| hello.role == Role::Master && hello.phase != Some(Phase::Stopped);
    if let Some((address, _)) = answered().find(|(_, hello)| is_master(hello)) {
        return Err(format!(
            "{address} answers as master: sftpd switchover hands over without losing anything (sftpd promote --force {address} takes its place all the same)"
        ));
    }
    for (address, hello) in answered() {
        let despite = format!("sftpd promote --force {address}");
        let has_more = match (&hello.reached, reached) {
            (Some(theirs), Some(ours)) => {
                hello.role == Role::Standby && theirs.epoch == ours.epoch && theirs.seq > ours.seq
            }
            (Some(theirs), None) => {
                hello.role == Role::Standby && standing.node.newest().is_some_and(|newest| newest.id == theirs.epoch)
            }
            _ => false,
        };
        if has_more {
            return Err(format!(
                "the standby {address} has more of the master's changes: promote that one ({despite} promotes this one all the same)"
            ));
        }
        if !has_our_host_keys(daemon, hello) {
            return Err(format!(
                "{address} shows other host keys than this machine: clients would be warned of an attack ({despite} promotes all the same)"
            ));
        }
    }
    if let Some(failure) = daemon.volume.failure() {
        return Err(format!("this machine could take no uploads: {failure}"));
    }
    if standing.phase() == Phase::Returning {
        let first = answers.first().map_or("NAME", |(address, _)| address.as_str());
        return Err(format!(
            "this machine has not compared its files with the new master's yet: it lacks what came since (sftpd promote --force {first} promotes it all the same)"
        ));
    }
    Ok(())
}

fn remarks(daemon: &Daemon, answers: &[Answer]) -> Vec<String> {
    let standing = daemon.roles.now();
    let reached = standing.node.follows.as_ref().and_then(|follows| follows.reached.as_ref());
    let mut remarks: Vec<String> = answers
        .iter()
        .filter_map(|(address, answer)| Some(format!("{address} {}", answer.as_ref().err()?.sentence())))
        .collect();
    remarks.extend(
        reached.map(|reached| format!("this machine has the old master's changes up to {} for certain", reached.seq)),
    );
    remarks
}
