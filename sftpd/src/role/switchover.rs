//! A switchover: the master holds writes back, waits until its standby has everything, and gives it its place.
//!
//! Always holds: a step that fails leaves this machine the master, and nobody has heard of it but by a short wait. Only when an answer to the offer was lost nobody knows
//! who is the master until the other machine is asked; meanwhile neither writes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pair::client::Client;
use pair::control::{Move, Step};
use pair::epoch::{Reached, draw};
use pair::extension::{Hello, SWITCH_OVER, TAKE_OVER, TakeOver};
use pair::node::{Phase, Role};

use super::standing::Event;
use crate::daemon::Daemon;
use crate::peers::{ask_about_offer, ask_all, has_our_host_keys, meet};

/// How long a standby that lags may come no further, while clients notice nothing.
const STANDSTILL_MAX: Duration = Duration::from_secs(10);

/// How long writes are held back at most until the standby has everything.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How long the other machine may take to answer the offer.
const OFFER_MAX: Duration = Duration::from_secs(5);

/// How often the standby is asked how far it has come.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Where the place goes.
struct Successor {
    address: String,
    node: String,
    client: Arc<Client>,
}

/// What was done, and how long it took.
struct Clock {
    began: Instant,
    step_began: Instant,
    steps: Vec<Step>,
}

impl Clock {
    fn start() -> Clock {
        Clock { began: Instant::now(), step_began: Instant::now(), steps: Vec::new() }
    }

    fn done(&mut self, name: &str) {
        let elapsed_ms = std::mem::replace(&mut self.step_began, Instant::now()).elapsed().as_millis() as u64;
        self.steps.push(Step { name: name.into(), elapsed_ms });
    }
}

/// Hands over to a standby (its address or id; none: the only one), or has the master hand over to this machine.
pub async fn switch_over(daemon: &Arc<Daemon>, to: Option<&str>) -> Result<Move, String> {
    if daemon.is_standby() {
        let node = daemon.roles.now().node.node.clone();
        if let Some(other) = to.filter(|to| *to != node) {
            return Err(format!(
                "on a standby the place comes here, to {node}, not to {other}: leave --to out, or run it on the master"
            ));
        }
        return have_it_handed_over(daemon).await;
    }
    let Ok(_moving) = daemon.roles.moving.try_lock() else {
        return Err("a switchover is under way already".into());
    };
    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut clock = Clock::start();
    let successor = preflight(daemon, to).await?;
    clock.done("the standby is ready");
    catch_up(daemon, &successor).await?;
    clock.done("the standby is near");
    let held = Instant::now();
    daemon.happens(Event::Drain).await?;
    let last = match drain(daemon, &successor).await {
        Ok(last) => last,
        Err(sentence) => {
            daemon.happens(Event::Resume).await?;
            return Err(format!("{sentence}; this machine is the master as before"));
        }
    };
    clock.done("the standby has everything");
    hand_over(daemon, &successor, last).await?;
    clock.done("the standby has taken over");
    let standing = daemon.roles.now();
    let master = standing.node.follows.as_ref();
    Ok(Move {
        what: "switchover".into(),
        time,
        master: successor.node,
        epoch: master.map_or(0, |follows| follows.epoch.counter),
        elapsed_ms: clock.began.elapsed().as_millis() as u64,
        gap_ms: Some(held.elapsed().as_millis() as u64),
        steps: clock.steps,
        remarks: vec![format!("{} is the master now; this machine is its standby", successor.address)],
    })
}

/// Finds the standby and makes sure that it can take over.
async fn preflight(daemon: &Arc<Daemon>, to: Option<&str>) -> Result<Successor, String> {
    let standing = daemon.roles.now();
    if standing.phase() != Phase::Master {
        return Err(format!("this machine is now: {}", standing.phase().text()));
    }
    let mut answers = ask_all(daemon).await;
    answers.retain(|(address, answer)| {
        to.is_none_or(|name| name == address || answer.as_ref().is_ok_and(|hello| hello.node == name))
    });
    let (address, answer) = match (answers.pop(), answers.len()) {
        (Some(only), 0) => only,
        (None, _) => return Err("there is no such machine in the settings (peers)".into()),
        (Some(_), _) => return Err("there are several other machines: say to which (--to)".into()),
    };
    let hello = answer.map_err(|failure| format!("{address} {}", failure.sentence()))?;
    let epoch = standing.node.epoch.as_ref();
    let reason = match hello.phase {
        Some(Phase::Standby) if hello.epoch.as_ref() != epoch => Some("does not follow this machine yet".to_owned()),
        Some(Phase::Standby) => hello.refuses.as_ref().map(|reason| format!("would take no uploads: {reason}")),
        phase => Some(format!("is now: {}", phase.map_or("unknown", Phase::text))),
    };
    let shows_others = !has_our_host_keys(daemon, &hello);
    let has_others = hello.accounts_generation != daemon.accounts().generation;
    let reason = reason
        .or_else(|| shows_others.then(|| "shows other host keys: clients would be warned of an attack".into()))
        .or_else(|| has_others.then(|| "has not got the newest accounts yet".into()))
        .or_else(|| {
            daemon
                .standbys
                .unbrought(&address)
                .map(|count| format!("lacks {count} files that cannot be brought there: see filesync status"))
        });
    if let Some(reason) = reason {
        return Err(format!("{address} {reason}"));
    }
    let client = daemon.peers.client(&address).ok_or("the connection was lost")?;
    Ok(Successor { address, node: hello.node, client })
}

/// Waits until the standby has what there is now. Clients go on meanwhile.
async fn catch_up(daemon: &Arc<Daemon>, successor: &Successor) -> Result<(), String> {
    let last = last_change(daemon).await?;
    wait_until_reached(daemon, successor, &last, STANDSTILL_MAX, true).await
}

/// Waits until nothing is on its way any more and the standby has it all. Gives the last change.
async fn drain(daemon: &Arc<Daemon>, successor: &Successor) -> Result<Reached, String> {
    let all = daemon.connections.all();
    let end = move || {
        for connection in all.into_iter().filter(|connection| connection.writes_in_place()) {
            connection.end("this machine hands over to another: connect again");
        }
    };
    tokio::task::spawn_blocking(end).await.map_err(|error| error.to_string())?;
    let until = Instant::now() + DRAIN_MAX;
    while daemon.volume.written_in_place() > 0 {
        if Instant::now() > until {
            return Err("a file is still being written in place".into());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    let last = last_change(daemon).await?;
    wait_until_reached(daemon, successor, &last, until.saturating_duration_since(Instant::now()), false).await?;
    Ok(last)
}

async fn last_change(daemon: &Arc<Daemon>) -> Result<Reached, String> {
    let seq = daemon.volume.decide_all().await.map_err(|error| error.to_string())?;
    Ok(daemon.volume.chapter().reached(seq))
}

/// Waits until the standby has a change, for so long; where it `may_lag` the time begins anew with each step forward.
async fn wait_until_reached(
    daemon: &Arc<Daemon>,
    successor: &Successor,
    last: &Reached,
    longest: Duration,
    may_lag: bool,
) -> Result<(), String> {
    let (mut until, mut before) = (Instant::now() + longest, None);
    loop {
        let hello = meet(daemon, &successor.address, OFFER_MAX).await;
        let hello = hello.map_err(|failure| format!("{} {}", successor.address, failure.sentence()))?;
        let reached = hello.reached.filter(|it| it.epoch == last.epoch && it.run == last.run).map(|it| it.seq);
        if reached >= Some(last.seq) {
            return Ok(());
        }
        if may_lag && reached > before {
            (until, before) = (Instant::now() + longest, reached);
        }
        if Instant::now() > until {
            let has = reached
                .map_or("nothing of this master's".to_owned(), |seq| format!("changes up to {seq} of {}", last.seq));
            let waited = longest.as_secs_f64();
            return Err(format!("{} has {has} after {waited:.1} s: is filesync running here?", successor.address));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Offers the place. What an answer that was lost has said is asked for.
async fn hand_over(daemon: &Arc<Daemon>, successor: &Successor, last: Reached) -> Result<(), String> {
    let id = draw().map_err(|error| error.to_string())?;
    let offer = Event::Offer(successor.node.clone(), id, last);
    let standing = match daemon.happens(offer).await {
        Ok(standing) => standing,
        Err(sentence) => {
            daemon.happens(Event::Resume).await?;
            return Err(format!("{sentence}; this machine is the master as before"));
        }
    };
    let handing = standing.node.handing.as_ref().ok_or("there is nothing to offer")?;
    let offer = TakeOver { epoch: handing.epoch.clone(), is_withdrawn: false, begun: daemon.volume.begun() };
    let body = serde_json::to_vec(&offer).map_err(|error| error.to_string())?;
    let answer = tokio::time::timeout(OFFER_MAX, successor.client.extended_order(TAKE_OVER, &body)).await;
    let sentence = match answer {
        Ok(Ok(())) => return daemon.happens(Event::Taken).await.map(drop),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", OFFER_MAX.as_secs()),
    };
    match find_out(daemon, successor).await? {
        Found::Taken => Ok(()),
        Found::NotTaken => {
            Err(format!("{} has not taken over ({sentence}); this machine is the master as before", successor.address))
        }
        Found::Unknown(unknown) => Err(format!(
            "{unknown} ({sentence}). Neither machine writes until this one has asked it; if it never answers again: sftpd promote --force {}",
            successor.address
        )),
    }
}

/// What has become of an offer.
enum Found {
    Taken,
    NotTaken,
    Unknown(String),
}

/// Asks what has become of an offer, for a while.
async fn find_out(daemon: &Arc<Daemon>, successor: &Successor) -> Result<Found, String> {
    let until = Instant::now() + OFFER_MAX;
    let mut unknown = "it is not known whether the other machine has taken over".to_owned();
    while Instant::now() < until {
        let _ = meet(daemon, &successor.address, OFFER_MAX).await;
        match (daemon.roles.now().phase(), daemon.peers.client(&successor.address)) {
            (Phase::Standby | Phase::Returning, _) => return Ok(Found::Taken),
            (Phase::Handing, Some(client)) => match ask_about_offer(daemon, &client).await {
                Ok(true) => return Ok(Found::Taken),
                Ok(false) => return Ok(Found::NotTaken),
                Err(sentence) => unknown = sentence,
            },
            _ => {}
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    daemon.refuse_while_unknown().await?;
    Ok(Found::Unknown(unknown))
}

/// Asks the master to hand over to this machine.
async fn have_it_handed_over(daemon: &Arc<Daemon>) -> Result<Move, String> {
    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut clock = Clock::start();
    let answers = ask_all(daemon).await;
    let is_master = |(address, answer): (String, Result<Hello, pair::peer::Failure>)| {
        answer.ok().filter(|hello| hello.role == Role::Master).map(|_| address)
    };
    let address = answers
        .into_iter()
        .find_map(is_master)
        .ok_or("no other machine answers as master: sftpd promote makes this one it")?;
    let client = daemon.peers.client(&address).ok_or("the connection was lost")?;
    let node = daemon.roles.now().node.node.clone();
    let answer = client.extended_order(SWITCH_OVER, node.as_bytes()).await;
    let standing = daemon.roles.now();
    if standing.node.role != Role::Master {
        let why = answer.err().map_or("it has not".to_owned(), |error| error.to_string());
        return Err(format!("{address} has not handed over: {why}"));
    }
    clock.done("the master has handed over");
    Ok(Move {
        what: "switchover".into(),
        time,
        master: node,
        epoch: standing.node.epoch.as_ref().map_or(0, |epoch| epoch.counter),
        elapsed_ms: clock.began.elapsed().as_millis() as u64,
        gap_ms: None,
        steps: clock.steps,
        remarks: vec![format!("this machine is the master now; {address} is its standby")],
    })
}
