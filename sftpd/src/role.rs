//! Who is the master: what this machine has promised, and what is done when that changes.
//!
//! Always holds: what follows from what is decided by [`standing`] alone, one event after the other. A machine that loses the right to write has closed its
//! gate before anybody hears of it; one that gains it has written that down before it opens the gate.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use pair::activity::{Activity, Outcome, sender};
use pair::epoch::draw;
use pair::extension::Hello;
use pair::node::{self, Node, Phase, Role};
use pair::record::VolumePath;
use tokio::sync::{Mutex, watch};

use crate::activity::failed;
use crate::daemon::Daemon;
use crate::sftp::Identity;
use crate::storage::{Durability, Gate, Way};

pub mod asking;
pub mod drill;
pub mod offers;
pub mod promotion;
pub mod returning;
pub mod standing;
pub mod switchover;

use standing::{Event, Standing, Word};

/// For so long after it has left the master's place a machine lets no account in: the way to the new master may still lead here, because a load
/// balancer looks twice before it believes. Clients whose uploads are refused, or who are cut off at once, have soon used up their tries.
const LEFT: Duration = Duration::from_secs(3);

/// What this machine is, and its identity.
pub struct Roles {
    standing: watch::Sender<Arc<Standing>>,
    /// Held while one event is dealt with.
    turn: Mutex<()>,
    /// Held while the master's place is moved from here by a person's order.
    pub moving: Mutex<()>,
    /// Drawn at this start.
    pub instance: String,
    /// What the master that is followed has told of unfinished uploads.
    // Held for a line, never across an await.
    begun: std::sync::Mutex<Vec<(String, VolumePath)>>,
    /// When it left the master's place.
    // Held for a line, never across an await.
    left: std::sync::Mutex<Option<Instant>>,
}

impl Roles {
    /// At the start.
    pub fn new(node: Node) -> anyhow::Result<Roles> {
        let standing = watch::Sender::new(Arc::new(Standing::new(node)));
        Ok(Roles {
            standing,
            turn: Mutex::default(),
            moving: Mutex::default(),
            instance: draw()?,
            begun: Default::default(),
            left: Default::default(),
        })
    }

    /// What is so now.
    pub fn now(&self) -> Arc<Standing> {
        self.standing.borrow().clone()
    }

    /// Notes what a master has told of unfinished uploads, if it is the one that is followed.
    pub fn note_begun(&self, epoch: &Option<String>, begun: Vec<(String, VolumePath)>) {
        let standing = self.now();
        let follows = standing.node.follows.as_ref().map(|follows| &follows.epoch.id);
        if follows.is_some() && follows == epoch.as_ref() {
            *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = begun;
        }
    }

    /// How long accounts are not let in any more because this machine was the master a moment ago; none where they are.
    pub fn keeps_out_for(&self) -> Option<Duration> {
        if self.now().node.role == Role::Master {
            return None;
        }
        let left = *self.left.lock().unwrap_or_else(PoisonError::into_inner);
        LEFT.checked_sub(left?.elapsed())
    }

    /// Tells of every change.
    pub fn watch(&self) -> watch::Receiver<Arc<Standing>> {
        self.standing.subscribe()
    }

    /// Comes back when something is so.
    pub async fn wait_until(&self, is_so: impl Fn(&Standing) -> bool) {
        // The sender lives as long as this.
        let _ = self.watch().wait_for(|standing| is_so(standing)).await;
    }
}

impl Daemon {
    /// Something has happened that concerns who is the master. Comes back when all that follows from it is done; an error says why
    /// nothing has.
    pub async fn happens(self: &Arc<Self>, event: Event) -> Result<Arc<Standing>, String> {
        let daemon = self.clone();
        // Whoever asks may be gone before it is done.
        let done = tokio::spawn(async move { daemon.deal_with(event).await });
        done.await.unwrap_or_else(|_| Err("a bug in the server: the role may be half changed, start it again".into()))
    }

    async fn deal_with(self: &Arc<Self>, event: Event) -> Result<Arc<Standing>, String> {
        let _turn = self.roles.turn.lock().await;
        let before = self.roles.now();
        // What another machine relies on.
        let (is_offer, is_report) = (matches!(event, Event::Offer(..)), matches!(event, Event::Reached(_)));
        let after = Arc::new(before.after(event)?);
        if after == before {
            return Ok(after);
        }
        let is_writer = after.phase() == Phase::Master;
        if (before.node.role, after.node.role) == (Role::Master, Role::Standby) {
            *self.roles.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        if !is_closed(&before) && is_closed(&after) {
            // A connection that is gone makes clients come again; an error in its place does not.
            self.end_clients();
        }
        if before.phase() != after.phase() {
            let gate = if is_writer { waiting() } else { self.gate_of(&after) };
            self.set_gate(gate).await?;
        }
        if after.node != before.node
            && let Err(error) = self.keep(&after.node).await
        {
            if is_report {
                return Err(format!("it cannot be written down: {error}"));
            }
            if is_writer || is_offer {
                return Err(self.back_to(&before, format!("it cannot be written down: {error}")).await);
            }
            tracing::error!(
                error,
                "what this machine is now cannot be written down: do not start it again before that can be"
            );
        }
        let epoch = after.node.epoch.as_ref().filter(|epoch| epoch.id != self.volume.chapter().epoch.id);
        if let Some(epoch) = epoch
            && let Err(error) = self.volume.begin_epoch(epoch.clone()).await
        {
            return Err(self.back_to(&before, format!("the journal cannot begin another epoch: {error}")).await);
        }
        self.roles.standing.send_replace(after.clone());
        // Before anything is told to a standby that has it then.
        self.peers.hold_records(self);
        if is_writer {
            if before.node.role == Role::Standby {
                self.take_over_uploads().await;
            }
            self.set_gate(self.gate_of(&after)).await?;
        }
        if before.node.role != after.node.role || after.phase() == Phase::Stopped {
            self.end_clients();
        }
        self.tell(&before, &after);
        Ok(after)
    }

    /// Takes the place that node.yaml gives, before anybody can connect. One that knows no other machine has nobody to ask.
    pub async fn take_place(self: &Arc<Self>) -> anyhow::Result<()> {
        self.set_gate(self.gate_of(&self.roles.now())).await.map_err(anyhow::Error::msg)?;
        self.peers.hold_records(self);
        if self.roles.now().phase() == Phase::Handing {
            // It may take long until it is known what has become of the offer.
            self.refuse_while_unknown().await.map_err(anyhow::Error::msg)?;
        }
        if self.peers.seen().is_empty() {
            self.happens(Event::Asked).await.map_err(anyhow::Error::msg)?;
        }
        Ok(())
    }

    /// Clients that were cut off find nothing arrived of what they had begun at the other machine.
    async fn take_over_uploads(self: &Arc<Self>) {
        let (volume, connection) = (self.volume.clone(), self.connections.next_number());
        let begun = std::mem::take(&mut *self.roles.begun.lock().unwrap_or_else(PoisonError::into_inner));
        // Whatever fails there is about single uploads, and said there.
        let _ = tokio::task::spawn_blocking(move || volume.take_over_uploads(&begun, connection)).await;
        // What replication brought was not counted. That may take long, and nobody waits for it.
        let volume = self.volume.clone();
        tokio::task::spawn_blocking(move || volume.recount());
    }

    /// A step that could not be made is taken back. Where not even that can be written down nothing is written any more.
    async fn back_to(&self, before: &Arc<Standing>, sentence: String) -> String {
        let undone = match self.keep_again(&before.node).await {
            Ok(()) => self.set_gate(self.gate_of(before)).await,
            Err(error) => {
                Err(format!("nor can it be taken back: {error}. Make room in the state folder and start sftpd again"))
            }
        };
        match undone {
            Ok(()) => sentence,
            Err(error) => {
                let sentence = format!("{sentence}; {error}");
                let stopped = Node { stopped: Some(sentence.clone()), ..before.node.clone() };
                let standing = Arc::new(Standing { node: stopped, ..(**before).clone() });
                // It may fail as well, and then the volume takes nothing anyway.
                let _ = self.set_gate(self.gate_of(&standing)).await;
                self.tell(before, &standing);
                self.roles.standing.send_replace(standing);
                sentence
            }
        }
    }

    /// What another machine says of itself is taken in. An error says why it is no machine to follow.
    pub async fn hear(self: &Arc<Self>, theirs: &Hello) -> Result<(), String> {
        // All that this machine has to say of itself would be read from disks for it.
        let ours = Hello {
            pair: self.volume.marker().pair.clone(),
            node: self.roles.now().node.node.clone(),
            instance: self.roles.instance.clone(),
            ..Hello::default()
        };
        pair::peer::refuse_strangers(&ours, theirs).map_err(|sentence| format!("that machine {sentence}"))?;
        let chapter = self.volume.chapter();
        let last = *self.volume.decided().borrow();
        let has = |reached: &pair::epoch::Reached| chapter.lineage.has(&reached.run, reached.seq, last);
        let has_from = theirs.epoch.as_ref().and_then(|epoch| epoch.from.as_ref()).is_some_and(has);
        let word = Word { node: theirs.node.clone(), role: theirs.role, epoch: theirs.epoch.clone() };
        let standing = self.happens(Event::Heard(word, has_from)).await?;
        if theirs.role == Role::Master {
            self.roles.note_begun(&theirs.epoch.as_ref().map(|epoch| epoch.id.clone()), theirs.begun.clone());
        }
        let Some(reached) = &theirs.reached else { return Ok(()) };
        let own = standing.node.epoch.as_ref().filter(|_| standing.node.role == Role::Master);
        let is_lost = self.config.durability == Durability::Fsync && !has(reached);
        if theirs.role == Role::Standby && own.is_some_and(|own| own.id == reached.epoch) && is_lost {
            self.happens(Event::Behind(behind(&theirs.node, reached.seq))).await?;
        }
        Ok(())
    }

    /// Whether this machine is the standby of an epoch.
    pub fn follows(&self, epoch: &str) -> bool {
        self.roles.now().node.follows.as_ref().is_some_and(|follows| follows.epoch.id == epoch)
    }

    /// Whether its master has said how far it has come.
    pub fn has_reached(&self) -> bool {
        self.roles.now().node.follows.as_ref().is_some_and(|follows| follows.reached.is_some())
    }

    /// Whether another machine's journal has all that this standby has got from its epoch.
    pub fn is_ahead_of(&self, theirs: &Hello) -> bool {
        let standing = self.roles.now();
        let reached = standing.node.follows.as_ref().and_then(|follows| follows.reached.as_ref());
        match (reached, &theirs.epoch, &theirs.reached) {
            (Some(ours), Some(epoch), Some(last)) if ours.epoch == epoch.id => {
                !theirs.lineage.has(&ours.run, ours.seq, last.seq)
            }
            _ => false,
        }
    }

    /// Nobody waits for longer for what an offer has become: writes are refused until that is known.
    pub async fn refuse_while_unknown(&self) -> Result<(), String> {
        let _turn = self.roles.turn.lock().await;
        if self.roles.now().phase() != Phase::Handing {
            return Ok(());
        }
        let sentence = "this machine is handing over to another, which does not say whether it has taken over";
        let way = Way::Closed(sentence.into());
        self.set_gate(Gate { clients: way.clone(), replication: way }).await
    }

    async fn set_gate(&self, gate: Gate) -> Result<(), String> {
        match self.volume.set_gate(gate).await {
            // A volume that takes nothing any more is as good as closed.
            Err(_) if self.volume.failure().is_some() => Ok(()),
            set => set.map_err(|error| error.to_string()),
        }
    }

    async fn keep(&self, node: &Node) -> Result<(), String> {
        let (state, node) = (self.config.state.clone(), node.clone());
        let kept = tokio::task::spawn_blocking(move || node::write(&state, &node)).await;
        kept.map_err(|error| error.to_string())?.map_err(|error| format!("{error:#}"))
    }

    /// Makes sure that what was kept before is what is kept now. On a full disk it often is.
    async fn keep_again(&self, node: &Node) -> Result<(), String> {
        let state = self.config.state.clone();
        let kept = tokio::task::spawn_blocking(move || node::read(&state)).await;
        match kept {
            Ok(Ok(Some(kept))) if kept == *node => Ok(()),
            _ => self.keep(node).await,
        }
    }

    /// Whose changes are taken.
    pub fn gate_of(&self, standing: &Standing) -> Gate {
        let closed = |sentence: &str| Way::Closed(sentence.to_owned());
        match standing.phase() {
            Phase::Master => Gate { clients: Way::Open, ..waiting() },
            Phase::Asking | Phase::Draining | Phase::Handing => waiting(),
            Phase::Standby => Gate { clients: Way::Closed(self.standby_sentence()), replication: Way::Open },
            Phase::Returning => Gate { clients: Way::Closed(self.standby_sentence()), replication: closed(RETURNING) },
            Phase::Stopped => {
                let sentence = standing.node.stopped.clone().unwrap_or_default();
                Gate { clients: Way::Closed(sentence.clone()), replication: Way::Closed(sentence) }
            }
        }
    }

    /// Ends the connections of all accounts: they find the machine that is for them now.
    fn end_clients(&self) {
        for connection in self.connections.all() {
            if !matches!(connection.identity(), Some(Identity::Peer)) {
                connection.end(OTHER_ROLE);
            }
        }
    }

    fn tell(&self, before: &Standing, after: &Standing) {
        let (was, is) = (before.phase(), after.phase());
        self.metrics.role(after);
        if was == is {
            return;
        }
        if (was, is) == (Phase::Asking, Phase::Master) {
            // An ordinary start is no news.
            return tracing::info!("this machine is the master");
        }
        let epoch = after.node.newest().map_or(0, |epoch| epoch.counter);
        let sentence = format!("{}; was: {}; epoch {epoch}", is.text(), was.text());
        let record = Activity { sender: sender::ROLE.into(), method: Some(sentence.clone()), ..Activity::default() };
        match &after.node.stopped {
            Some(why) => {
                tracing::error!("{sentence}: {why}");
                self.activity.put(failed(record, Outcome::Refused, why));
            }
            None => {
                tracing::warn!("this machine is now: {sentence}");
                self.activity.put(Activity { outcome: Some(Outcome::Complete), ..record });
            }
        }
    }
}

/// What clients hear that are cut off.
pub const OTHER_ROLE: &str = "this machine has another role now: connect again";

/// Why a machine that returns takes no files.
pub const RETURNING: &str =
    "this machine was the master and sets aside what only it has: it takes files again when that is done";

/// Whether no client may write, now or in a moment.
fn is_closed(standing: &Standing) -> bool {
    standing.node.role != Role::Master || standing.node.stopped.is_some()
}

fn waiting() -> Gate {
    Gate { clients: Way::Held, replication: Way::Closed("this machine is a master".into()) }
}

fn behind(standby: &str, seq: u64) -> String {
    format!(
        "the standby {standby} has changes up to {seq} that this machine's journal does not know: was this machine's disk restored from a backup? Nothing is \
         written. To go on with the standby's newer files: sftpd promote --force, there, with this machine's name. To go on with these older ones: the same here"
    )
}

#[cfg(test)]
pub mod tests;
