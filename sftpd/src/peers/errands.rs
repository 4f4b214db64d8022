//! What is to be done after a hello, beside the next ones: one errand of a kind at a time for each machine.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pair::client::Client;
use pair::extension::{HOST_KEYS, Hello, TAKE_OVER, TakeOver};
use pair::keys::{exportable_host_keys, stored_host_keys};
use pair::node::{Handing, Phase, Role};
use pair::peer::say_hello;
use russh::keys::PublicKey;
use tokio_util::task::AbortOnDropHandle;

use crate::daemon::Daemon;
use crate::role::offers::take;
use crate::role::returning::set_aside;
use crate::role::standing::Event;

/// How long offers that could not be taken are let be: they may be large, and what is in their way may be room.
const REST: Duration = Duration::from_secs(30);

/// The errands that are under way for one machine. They end when this is dropped.
#[derive(Default)]
pub struct Errands {
    running: Option<AbortOnDropHandle<()>>,
    /// What has failed is let be for a while.
    rests_until: Arc<Mutex<Option<Instant>>>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    /// It is not known whether what was offered was taken.
    AskAboutOffer,
    /// What only this machine has is set aside, while the other is the new master.
    SetAside,
    /// The other has set aside what this master may lack.
    TakeOffers,
    /// It shows the host keys of the pair secret, and this master has others.
    SendHostKeys,
}

impl Errands {
    /// Begins what is to be done, unless something is still under way.
    pub fn send(&mut self, daemon: &Arc<Daemon>, client: &Arc<Client>, theirs: &Hello) {
        if theirs.role == Role::Master && daemon.is_standby() {
            daemon.guard.adopt(&theirs.bans);
        }
        if self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        let rest = *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        let is_resting = rest.is_some_and(|until| Instant::now() < until);
        let Some(errand) = errand(daemon, theirs).filter(|errand| !is_resting || *errand != Errand::TakeOffers) else {
            return;
        };
        let (daemon, client, rests_until) = (daemon.clone(), client.clone(), self.rests_until.clone());
        let run = async move {
            if let Err(sentence) = run(&daemon, &client, errand).await {
                *rests_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + REST);
                daemon.say_now_and_then(&sentence);
            }
        };
        self.running = Some(AbortOnDropHandle::new(tokio::spawn(run)));
    }
}

fn errand(daemon: &Daemon, theirs: &Hello) -> Option<Errand> {
    let standing = daemon.roles.now();
    match standing.phase() {
        // While a switchover is under way, that asks by itself.
        Phase::Handing if daemon.roles.moving.try_lock().is_ok() => {
            let is_asked = standing.node.handing.as_ref().is_some_and(|handing| handing.to == theirs.node);
            is_asked.then_some(Errand::AskAboutOffer)
        }
        Phase::Returning if theirs.role == Role::Master && theirs.epoch == standing.word().epoch => {
            Some(Errand::SetAside)
        }
        Phase::Master if theirs.offers > 0 && theirs.phase == Some(Phase::Standby) => Some(Errand::TakeOffers),
        Phase::Master if theirs.takes_host_keys && !has_our_host_keys(daemon, theirs) => Some(Errand::SendHostKeys),
        _ => None,
    }
}

async fn run(daemon: &Arc<Daemon>, client: &Client, errand: Errand) -> Result<(), String> {
    match errand {
        Errand::AskAboutOffer => ask_about_offer(daemon, client).await.map(drop),
        Errand::SetAside => {
            let standing = daemon.roles.now();
            let node = &standing.node;
            let (Some(returning), Some(follows)) = (&node.returning, &node.follows) else { return Ok(()) };
            if daemon.volume.written_in_place() > 0 {
                // Their sessions are ending, and say what they have written.
                return Ok(());
            }
            let done = set_aside(daemon, client, returning, &follows.epoch).await;
            done.map_err(|sentence| format!("what only this machine has cannot be set aside yet: {sentence}"))?;
            daemon.happens(Event::SetAside).await.map(drop)
        }
        Errand::TakeOffers => take(daemon, client).await.map(drop),
        Errand::SendHostKeys => {
            let keys = exportable_host_keys(&daemon.config.state).map_err(|error| format!("{error:#}"))?;
            let body = serde_json::to_vec(&keys).map_err(|error| error.to_string())?;
            let sent = client.extended_order(HOST_KEYS, &body).await;
            sent.map_err(|error| format!("the standby does not take this machine's host keys: {error}"))
        }
    }
}

/// Whether another machine shows the same host keys to clients.
pub fn has_our_host_keys(daemon: &Daemon, theirs: &Hello) -> bool {
    let own = stored_host_keys(&daemon.config.state).unwrap_or_default();
    let shown: Vec<_> = theirs.host_keys.iter().filter_map(|line| PublicKey::from_openssh(line).ok()).collect();
    own.len() == shown.len() && own.iter().all(|key| shown.iter().any(|one| one.key_data() == key.key_data()))
}

/// Takes an offer back whose answer was lost; tells whether it had been taken by then.
pub async fn ask_about_offer(daemon: &Arc<Daemon>, client: &Client) -> Result<bool, String> {
    let Some(Handing { epoch, .. }) = daemon.roles.now().node.handing.clone() else { return Ok(false) };
    let body = serde_json::to_vec(&TakeOver { epoch, is_withdrawn: true, begun: Vec::new() })
        .map_err(|error| error.to_string())?;
    let unknown =
        |error: &dyn std::fmt::Display| format!("it is not known whether the other machine has taken over: {error}");
    match client.extended_order(TAKE_OVER, &body).await {
        Ok(()) => daemon.happens(Event::Withdrawn).await.map(|_| false),
        Err(error) if error.is_lost() => Err(unknown(&error)),
        Err(error) => {
            // It says no: because it has taken over, which its hello says too.
            let theirs = say_hello(client, &daemon.hello()).await.map_err(|failure| unknown(&failure.sentence()))?;
            daemon.hear(&theirs).await?;
            if daemon.roles.now().phase() == Phase::Handing { Err(unknown(&error)) } else { Ok(true) }
        }
    }
}
