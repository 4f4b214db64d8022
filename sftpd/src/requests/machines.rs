//! The requests by which the other machine tells who it is, how far this one has come, and who is to be the master.
//!
//! What they mean for this machine's role is decided in [`crate::role`].

use std::sync::{Arc, PoisonError};

use pair::extension::{Hello, TakeOver};
use pair::keys::adopt_host_keys;
use pair::node::Role;
use serde::de::DeserializeOwned;

use crate::daemon::Daemon;
use crate::fault::Fault;
use crate::role::standing::Event;
use crate::role::switchover::switch_over as hand_over;
use crate::sftp::{Greeting, Reply, Request, Sftp, Stop};

/// hello@sftp-ha. It is answered also where the other may not write, so that it learns why.
pub fn hello(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let theirs: Hello = body(request)?;
    let (daemon, greeting) = (sftp.daemon.clone(), sftp.shared_greeting());
    Ok(sftp.later(&[], async move {
        let said = greet(&daemon, &theirs).await;
        *greeting.lock().unwrap_or_else(PoisonError::into_inner) = said;
        let body = serde_json::to_vec(&daemon.hello()).map_err(|error| Fault::failure(error.to_string()))?;
        Ok(Reply::Extended(body))
    }))
}

async fn greet(daemon: &Arc<Daemon>, theirs: &Hello) -> Greeting {
    tracing::debug!(node = theirs.node, role = %theirs.role, version = theirs.version, "the other machine says hello");
    if let Err(sentence) = daemon.hear(theirs).await {
        return Greeting::Refused(sentence);
    }
    match (&theirs.epoch, theirs.role) {
        (Some(_), Role::Master) if daemon.is_ahead_of(theirs) => Greeting::Refused(
            "this standby has changes that the master's journal does not know: was the master restored from a backup? sftpd status says there what to do".into(),
        ),
        (Some(_), Role::Master) if theirs.phase.is_none() && daemon.has_reached() => {
            Greeting::Refused("the master's sftpd does not answer, so it is not known what its journal has".into())
        }
        (Some(epoch), Role::Master) if !daemon.follows(&epoch.id) => {
            Greeting::Refused("another machine is the master now".into())
        }
        (Some(_), Role::Master) if !daemon.streams.begin(&theirs.stream) => {
            Greeting::Refused("the master has connected anew since".into())
        }
        (Some(epoch), Role::Master) => Greeting::Master { epoch: epoch.id.clone(), stream: theirs.stream.clone() },
        _ => Greeting::Refused("only a master writes to this machine".into()),
    }
}

/// reached@sftp-ha.
pub fn reached(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let event = Event::Reached(body(request)?);
    Ok(happens(sftp, event))
}

/// take-over@sftp-ha.
pub fn take_over(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let TakeOver { epoch, is_withdrawn, begun } = body(request)?;
    if !is_withdrawn {
        sftp.daemon.roles.note_begun(&epoch.parent, begun);
    }
    let event = if is_withdrawn { Event::TakeBack(epoch) } else { Event::TakeOver(epoch) };
    Ok(happens(sftp, event))
}

/// switch-over@sftp-ha.
pub fn switch_over(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let to = String::from_utf8_lossy(request.fields.0).into_owned();
    let daemon = sftp.daemon.clone();
    if daemon.is_standby() {
        return Err(Fault::failure("this machine is no master").into());
    }
    Ok(sftp.later(&[], async move {
        hand_over(&daemon, Some(&to)).await.map_err(Fault::failure)?;
        Ok(Reply::Done)
    }))
}

/// host-keys@sftp-ha.
pub fn host_keys(sftp: &mut Sftp, request: &mut Request<'_>) -> Result<Reply, Stop> {
    let texts: Vec<String> = body(request)?;
    let daemon = sftp.daemon.clone();
    Ok(sftp.later(&[], async move {
        let keeper = daemon.clone();
        let adopted = tokio::task::spawn_blocking(move || adopt_host_keys(&keeper.config.state, &texts)).await;
        let adopted = adopted.map_err(|_| Fault::failure("the host keys could not be kept"))?;
        let keys = adopted.map_err(|error| Fault::failure(format!("{error:#}")))?;
        tracing::info!("this machine shows the master's host keys from now on");
        daemon.greetings.show(keys);
        Ok(Reply::Done)
    }))
}

fn happens(sftp: &Sftp, event: Event) -> Reply {
    let daemon = sftp.daemon.clone();
    sftp.later(&[], async move {
        daemon.happens(event).await.map_err(Fault::failure)?;
        Ok(Reply::Done)
    })
}

fn body<T: DeserializeOwned>(request: &Request<'_>) -> Result<T, Stop> {
    Ok(serde_json::from_slice(request.fields.0).map_err(|_| Fault::failure("that is said in other words"))?)
}
