//! Serves orders on a socket in the state folder: who is connected, how it is, end connections, change accounts.
//!
//! Who may open the socket may do everything that it offers: it is sftpd's own user's. What an operator changes is written
//! into the activity log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use pair::activity::{Activity, Outcome, sender};
use pair::control::{Answer, Ban, LINE_BYTES_MAX, Move, Order, Peer, Session, Standby, Status, Transfer, path};
use pair::feed::{Lines, send};
use pair::node::Phase;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::activity::failed;
use crate::admin_folder::By;
use crate::connection::Connection;
use crate::daemon::Daemon;
use crate::peers::{Seen, has_our_host_keys};
use crate::role::drill::drill;
use crate::role::promotion::promote;
use crate::role::switchover::switch_over;
use crate::storage::Durability;
use crate::{feed, local_socket};

mod archive;
mod divergent;

/// Connections at once; one more is closed.
const CONNECTIONS_MAX: usize = 50;

/// How long an order may take to arrive.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5);

/// For how long speeds are measured.
const MEASURED: Duration = Duration::from_secs(1);

/// Makes the socket, in place of one that a dead daemon has left.
pub fn bind(state: &Path) -> anyhow::Result<UnixListener> {
    let path = path(state);
    local_socket::bind(&path).with_context(|| format!("cannot take orders on {}", path.display()))
}

/// Serves until `shutdown`.
pub async fn serve(daemon: Arc<Daemon>, listener: UnixListener, shutdown: CancellationToken) {
    let take_order = |stream| {
        let daemon = daemon.clone();
        async move {
            if let Err(error) = answer(&daemon, stream).await {
                tracing::debug!(error = format!("{error:#}"), "an order was not answered");
            }
        }
    };
    local_socket::serve(listener, "control socket", CONNECTIONS_MAX, shutdown, take_order).await;
}

async fn answer(daemon: &Arc<Daemon>, stream: UnixStream) -> anyhow::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = Lines::new(read, LINE_BYTES_MAX);
    let order = tokio::time::timeout(ORDER_TIMEOUT, lines.next()).await.context("no order came")?;
    let answer = match order {
        Ok(Some(order)) => obey(daemon, order).await,
        Ok(None) => return Ok(()),
        Err(error) => Answer::Refused { text: format!("{error:#}") },
    };
    Ok(send(&mut write, &answer).await?)
}

async fn obey(daemon: &Arc<Daemon>, order: Order) -> Answer {
    match order {
        Order::Who {} => Answer::Who(who(daemon).await),
        Order::Status {} => Answer::Status(Box::new(status(daemon).await)),
        Order::Hello {} => Answer::Hello(Box::new(daemon.hello())),
        Order::Archive {} => archive::told(daemon).await,
        Order::Promote { force } => moved(daemon, "promote", promote(daemon, force.as_deref()).await),
        Order::Switchover { to } => moved(daemon, "switchover", switch_over(daemon, to.as_deref()).await),
        Order::Drill {} => moved(daemon, "drill", drill(daemon).await),
        Order::Kick { whom } => kick(daemon, &whom),
        Order::Bans {} => Answer::Bans(bans(daemon)),
        Order::Unban { whom } => unban(daemon, &whom),
        Order::Unbrought { standby, files } => {
            daemon.standbys.note_unbrought(standby, files);
            Answer::Done { text: String::new() }
        }
        Order::StandbyHas { standby, generation, problem } => {
            daemon.standbys.note(standby, generation, problem);
            Answer::Done { text: String::new() }
        }
        Order::ApplyUsers { .. } | Order::ResetPassword { .. } if daemon.is_standby() => {
            Answer::Refused { text: "this is the standby: its accounts come from the master, change them there".into() }
        }
        Order::Divergent { behind } => divergent::list(daemon, behind).await,
        Order::DivergentRestore { id, to, replace } => divergent::restore(daemon, id, to, replace).await,
        Order::DivergentRelease { which, is_sure } => divergent::release(daemon, which, is_sure).await,
        Order::ApplyUsers { content, only_try } => apply_users(daemon, content.into(), only_try).await,
        Order::ResetPassword { name } => reset_password(daemon, &name).await,
    }
}

/// How an order about the master's place has ended; in the activity log, too.
fn moved(daemon: &Daemon, what: &str, outcome: Result<Move, String>) -> Answer {
    let command = command(what.to_owned());
    match outcome {
        Ok(moved) => {
            daemon.activity.put(Activity { outcome: Some(Outcome::Complete), ..command });
            Answer::Moved(Box::new(moved))
        }
        Err(text) => {
            daemon.activity.put(failed(command, Outcome::Refused, &text));
            Answer::Refused { text }
        }
    }
}

/// Everybody, with the speed of the last second.
async fn who(daemon: &Arc<Daemon>) -> Vec<Session> {
    let moved = |connection: &Connection| {
        let (received, sent) = (&connection.clock.received, &connection.clock.sent);
        (received.load(Ordering::Relaxed), sent.load(Ordering::Relaxed))
    };
    let before: Vec<_> = daemon.connections.all().into_iter().map(|one| (moved(&one), one)).collect();
    tokio::time::sleep(MEASURED).await;
    let session = move |((received, sent), connection): ((u64, u64), Arc<Connection>)| {
        let now = moved(&connection);
        Session {
            connection_id: connection.id.clone(),
            username: connection.identity().map(|identity| identity.name().to_owned()),
            remote_addr: connection.peer.to_string(),
            client_version: connection.client(),
            since: connection.since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            received_bytes: now.0,
            sent_bytes: now.1,
            received_bytes_per_s: now.0.saturating_sub(received),
            sent_bytes_per_s: now.1.saturating_sub(sent),
            transfers: connection.transfers().iter().map(view).collect(),
        }
    };
    // Whoever serves a burst of requests is waited for.
    tokio::task::spawn_blocking(move || before.into_iter().map(session).collect()).await.unwrap_or_default()
}

fn view(transfer: &crate::transfer::Transfer) -> Transfer {
    Transfer {
        sender: transfer.sender().into(),
        file_path: String::from_utf8_lossy(&transfer.path).into_owned(),
        size_bytes: transfer.bytes,
        elapsed_ms: transfer.started.elapsed().as_millis() as u64,
    }
}

async fn status(daemon: &Arc<Daemon>) -> Status {
    let asked = daemon.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let refuses = match (asked.refuses_clients(), asked.roles.now().phase()) {
            (Some(sentence), _) => Err(sentence),
            (None, Phase::Master) => asked.volume.probe(),
            (None, phase) => Err(phase.text().to_owned()),
        };
        (refuses.err(), asked.volume.room_bytes(), feed::Source::acknowledgements(&*asked).unwrap_or_default())
    });
    let (refuses_uploads, room, positions) = looked.await.unwrap_or_default();
    let (accounts, standing) = (daemon.accounts(), daemon.roles.now());
    let (volume_bytes, volume_free_bytes) = room.unwrap_or_default();
    Status {
        role: standing.node.role,
        phase: standing.phase(),
        epoch: standing.node.newest().map(|epoch| epoch.counter),
        stopped: standing.node.stopped.clone(),
        reached: standing.node.follows.as_ref().and_then(|follows| Some(follows.reached.as_ref()?.seq)),
        divergent: daemon.volume.divergent().and_then(|divergent| divergent.count(|_| true)).unwrap_or_default(),
        peers: peers(daemon),
        node: standing.node.node.clone(),
        pair: daemon.volume.marker().pair.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        refuses_uploads,
        since: daemon.since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        connections: daemon.connections.all().len(),
        accounts: accounts.iter().count(),
        accounts_generation: accounts.generation,
        volume_bytes,
        volume_free_bytes,
        last_seq: *feed::Source::decided(&**daemon).borrow(),
        // What it knew of them as a master is of another time.
        standbys: if daemon.is_standby() { Vec::new() } else { standbys(daemon, positions) },
        activity_lost: daemon.metrics.lost_activity.get(),
        is_volatile: daemon.config.durability == Durability::None,
    }
}

/// What is known of the other machines.
fn peers(daemon: &Daemon) -> Vec<Peer> {
    let peer = |(name, seen): (String, Seen)| Peer {
        name,
        has_our_host_keys: seen.hello.as_ref().is_some_and(|(hello, _)| has_our_host_keys(daemon, hello)),
        heard_ms: seen.hello.as_ref().map(|(_, at)| at.elapsed().as_millis() as u64),
        hello: seen.hello.map(|(hello, _)| hello),
        problem: seen.problem,
    };
    daemon.peers.seen().into_iter().map(peer).collect()
}

/// What the journal and filesync know of each standby.
fn standbys(daemon: &Daemon, positions: Vec<(String, u64, i64)>) -> Vec<Standby> {
    let mut known: BTreeMap<String, Standby> = BTreeMap::new();
    let unknown = |name: &str| Standby { name: name.into(), seq: None, accounts_generation: None, problem: None };
    for (name, seq, _) in positions {
        known.entry(name.clone()).or_insert_with(|| unknown(&name)).seq = Some(seq);
    }
    for (name, word) in daemon.standbys.words() {
        let standby = known.entry(name.clone()).or_insert_with(|| unknown(&name));
        (standby.accounts_generation, standby.problem) = (word.generation, word.problem);
    }
    known.into_values().collect()
}

fn kick(daemon: &Daemon, whom: &str) -> Answer {
    let is_meant = |connection: &Connection| {
        let name = connection.identity().map(|identity| identity.name().to_owned());
        let from = [connection.peer.to_string(), connection.peer.ip().to_canonical().to_string()];
        name.as_deref() == Some(whom) || connection.id == whom || from.iter().any(|from| from == whom)
    };
    let meant: Vec<_> = daemon.connections.all().into_iter().filter(|one| is_meant(one)).collect();
    meant.iter().for_each(|connection| connection.end("ended by an operator"));
    let command = command(format!("kick {whom}"));
    if meant.is_empty() {
        let text = format!("nobody is connected under the name, from the address or with the id {whom}");
        daemon.activity.put(failed(command, Outcome::Refused, &text));
        return Answer::Refused { text };
    }
    daemon.activity.put(Activity { outcome: Some(Outcome::Complete), ..command });
    let ended = if meant.len() == 1 { "1 connection".to_owned() } else { format!("{} connections", meant.len()) };
    Answer::Done { text: format!("{ended} ended; who is to stay out needs `disabled: true` in users.yaml") }
}

fn bans(daemon: &Daemon) -> Vec<Ban> {
    let now = Instant::now();
    let ban = |whom: String, is_account, left: Duration| Ban { whom, is_account, left_s: left.as_secs() };
    let addresses = daemon.guard.bans(now).into_iter().map(|found| ban(found.source.to_string(), false, found.left));
    let accounts = daemon.guard.shut_accounts(now).into_iter().map(|(account, left)| ban(account, true, left));
    addresses.chain(accounts).collect()
}

fn unban(daemon: &Daemon, whom: &str) -> Answer {
    let command = command(format!("unban {whom}"));
    match daemon.guard.lift(whom) {
        0 => {
            let text = format!("{whom} is not banned");
            daemon.activity.put(failed(command, Outcome::Refused, &text));
            Answer::Refused { text }
        }
        lifted => {
            daemon.activity.put(Activity { outcome: Some(Outcome::Complete), ..command });
            Answer::Done { text: format!("lifted: {lifted}") }
        }
    }
}

fn command(text: String) -> Activity {
    Activity { sender: sender::COMMAND.into(), method: Some(text), ..Activity::default() }
}

async fn apply_users(daemon: &Arc<Daemon>, content: Bytes, only_try: bool) -> Answer {
    let by = By::way("sftpd apply-users");
    let told = match only_try {
        true => daemon.admin_folder.try_out(daemon, content, &by).await,
        false => daemon.admin_folder.apply(daemon, content, &by).await,
    };
    match told.fault {
        None => Answer::Done { text: told.text },
        Some(_) => Answer::Refused { text: told.text },
    }
}

async fn reset_password(daemon: &Arc<Daemon>, name: &str) -> Answer {
    let by = By::way(&format!("sftpd reset-password {name}"));
    match daemon.admin_folder.reset_password(daemon, name, &by).await {
        Ok((password, told)) => {
            Answer::Done { text: format!("password of {name}, shown only this once: {password}\n{}", told.text) }
        }
        Err(fault) => Answer::Refused { text: fault.text },
    }
}
