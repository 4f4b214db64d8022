//! Who is the master, as a pure machine: what is so, what happens, what is so then. No clock, no disk, no wire.
//!
//! Always holds: what a machine does follows from its standing alone ([`Standing::phase`]); the newest epoch that it knows never grows older; a
//! machine that has heard of a newer epoch than its own is no master, and whoever becomes master draws an epoch of its own. What comes of it on the
//! disk is [`super::Roles`]' business, and all ways from one phase to another are in [`WAYS`].

use std::cmp::Ordering;

use pair::epoch::{Epoch, Reached};
use pair::node::{Follows, Handing, Node, Phase, Returning, Role};

/// What is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What survives a restart.
    pub node: Node,
    /// Whether the other machines were asked since the start.
    pub has_asked: bool,
    /// Whether writes are held back for a switchover.
    pub is_draining: bool,
    /// Offers that were taken back; they may still be on their way.
    pub withdrawn: Vec<String>,
}

/// What another machine has said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its id.
    pub node: String,
    /// What it is for.
    pub role: Role,
    /// The newest epoch that it knows.
    pub epoch: Option<Epoch>,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Everybody was asked, or none has answered for long enough.
    Asked,
    /// Another machine has said something. Whether this machine's journal has what the other's epoch began from comes with it.
    Heard(Word, bool),
    /// A person makes this machine the master, in an epoch with this id.
    Promote(String),
    /// A switchover begins.
    Drain,
    /// A switchover has failed before anything was offered.
    Resume,
    /// Another machine is offered this one's place: which one, the id of its epoch, and the last change.
    Offer(String, String, Reached),
    /// It has said yes.
    Taken,
    /// It has said no, or will never say yes.
    Withdrawn,
    /// This machine is offered the place of the master that it follows.
    TakeOver(Epoch),
    /// The master takes such an offer back.
    TakeBack(Epoch),
    /// The master says that everything up to a place is here.
    Reached(Reached),
    /// What only this machine has is set aside.
    SetAside,
    /// A standby has changes of this master that its journal does not know: its state came from a backup.
    Behind(String),
}

/// An event by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "they are those of `Event`")]
pub enum Trigger {
    Asked,
    Heard,
    Promote,
    Drain,
    Resume,
    Offer,
    Taken,
    Withdrawn,
    TakeOver,
    TakeBack,
    Reached,
    SetAside,
    Behind,
}

/// All ways from one phase to another. What is not here does not happen.
pub const WAYS: [(Phase, Trigger, Phase); 28] = {
    use Phase::*;
    use Trigger as On;
    [
        (Asking, On::Asked, Master),
        (Asking, On::Heard, Returning),
        (Asking, On::Heard, Stopped),
        (Asking, On::Promote, Master),
        (Asking, On::Behind, Stopped),
        (Master, On::Heard, Returning),
        (Master, On::Heard, Stopped),
        (Master, On::Drain, Draining),
        (Master, On::Behind, Stopped),
        (Draining, On::Heard, Returning),
        (Draining, On::Heard, Stopped),
        (Draining, On::Resume, Master),
        (Draining, On::Offer, Handing),
        (Draining, On::Behind, Stopped),
        (Handing, On::Heard, Standby),
        (Handing, On::Heard, Returning),
        (Handing, On::Heard, Stopped),
        (Handing, On::Taken, Standby),
        (Handing, On::Withdrawn, Master),
        (Handing, On::Promote, Master),
        (Handing, On::Behind, Stopped),
        (Standby, On::Promote, Master),
        (Standby, On::TakeOver, Master),
        (Returning, On::SetAside, Standby),
        (Returning, On::Promote, Master),
        (Stopped, On::Promote, Master),
        (Stopped, On::Heard, Returning),
        (Stopped, On::Heard, Standby),
    ]
};

/// What happened, or the sentence that says why it cannot.
pub type Outcome = Result<Standing, String>;

impl Event {
    /// Its name.
    pub fn trigger(&self) -> Trigger {
        match self {
            Event::Asked => Trigger::Asked,
            Event::Heard(..) => Trigger::Heard,
            Event::Promote(_) => Trigger::Promote,
            Event::Drain => Trigger::Drain,
            Event::Resume => Trigger::Resume,
            Event::Offer(..) => Trigger::Offer,
            Event::Taken => Trigger::Taken,
            Event::Withdrawn => Trigger::Withdrawn,
            Event::TakeOver(_) => Trigger::TakeOver,
            Event::TakeBack(_) => Trigger::TakeBack,
            Event::Reached(_) => Trigger::Reached,
            Event::SetAside => Trigger::SetAside,
            Event::Behind(_) => Trigger::Behind,
        }
    }
}

impl Standing {
    /// At the start of sftpd.
    pub fn new(node: Node) -> Standing {
        Standing { node, has_asked: false, is_draining: false, withdrawn: Vec::new() }
    }

    /// What this machine does now.
    pub fn phase(&self) -> Phase {
        match self.node.role {
            _ if self.node.stopped.is_some() => Phase::Stopped,
            Role::Standby if self.node.returning.is_some() => Phase::Returning,
            Role::Standby => Phase::Standby,
            Role::Master if self.node.handing.is_some() => Phase::Handing,
            Role::Master if !self.has_asked => Phase::Asking,
            Role::Master if self.is_draining => Phase::Draining,
            Role::Master => Phase::Master,
        }
    }

    /// What this machine says of itself.
    pub fn word(&self) -> Word {
        // What is only offered is known to nobody but us: who heard of it would take it for another's.
        let known = Node { handing: None, ..self.node.clone() };
        Word { node: self.node.node.clone(), role: self.node.role, epoch: known.newest().cloned() }
    }

    /// What is so after something has happened.
    pub fn after(&self, event: Event) -> Outcome {
        let trigger = event.trigger();
        let then = self.follows_from(event)?;
        let way = (self.phase(), trigger, then.phase());
        if way.0 == way.2 || WAYS.contains(&way) { Ok(then) } else { Err(format!("there is no such way: {way:?}")) }
    }

    fn follows_from(&self, event: Event) -> Outcome {
        match event {
            Event::Asked => Ok(Standing { has_asked: true, ..self.clone() }),
            Event::Heard(word, has_from) => Ok(self.heard(&word, has_from)),
            Event::Promote(id) => self.promoted(id),
            Event::Drain => self.only_in(Phase::Master, Standing { is_draining: true, ..self.clone() }),
            Event::Resume => self.only_in(Phase::Draining, Standing { is_draining: false, ..self.clone() }),
            Event::Offer(to, id, last) => self.offered(to, id, last),
            Event::Taken => match (&self.node.handing, self.phase()) {
                (Some(handing), Phase::Handing) => Ok(self.succeeded_by(handing.epoch.clone())),
                // The other machine's own hello has said so before its answer did.
                _ if self.node.role == Role::Standby => Ok(self.clone()),
                _ => Err(self.not_now()),
            },
            Event::Withdrawn => {
                let node = Node { handing: None, ..self.node.clone() };
                // Whoever holds an epoch that no other has taken is its master still.
                self.only_in(Phase::Handing, Standing { node, has_asked: true, is_draining: false, ..self.clone() })
            }
            Event::TakeOver(epoch) => self.taken_over(epoch),
            Event::TakeBack(epoch) => self.taken_back(epoch),
            Event::Reached(reached) => self.reached(reached),
            Event::SetAside => {
                let node = Node { returning: None, ..self.node.clone() };
                self.only_in(Phase::Returning, Standing { node, ..self.clone() })
            }
            Event::Behind(sentence) if self.node.role == Role::Master => Ok(self.stopped(sentence)),
            Event::Behind(_) => Ok(self.clone()),
        }
    }

    fn only_in(&self, phase: Phase, then: Standing) -> Outcome {
        if self.phase() == phase { Ok(then) } else { Err(self.not_now()) }
    }

    fn not_now(&self) -> String {
        match self.phase() {
            Phase::Stopped => self.node.stopped.clone().unwrap_or_default(),
            phase => format!("this machine is now: {}", phase.text()),
        }
    }

    fn stopped(&self, sentence: String) -> Standing {
        let stopped = Some(sentence);
        Standing { node: Node { stopped, ..self.node.clone() }, is_draining: false, ..self.clone() }
    }

    /// Another machine speaks, of what it knows.
    fn heard(&self, word: &Word, has_from: bool) -> Standing {
        let Some(theirs) = &word.epoch else { return self.clone() };
        if self.node.handing.as_ref().is_some_and(|offered| offered.epoch.id == theirs.id) {
            // The answer was lost, and here it is: nobody else could know of this epoch.
            return self.succeeded_by(theirs.clone());
        }
        let known = self.word().epoch;
        let Some(ours) = &known else { return self.following(theirs.clone()) };
        let is_writer = self.node.role == Role::Master && self.node.stopped.is_none();
        match theirs.counter.cmp(&ours.counter) {
            Ordering::Equal if theirs.id != ours.id && is_writer => self.stopped(two_masters(ours, theirs)),
            Ordering::Less | Ordering::Equal => self.clone(),
            Ordering::Greater if self.node.role == Role::Master => self.fenced(theirs, has_from),
            Ordering::Greater => self.following(theirs.clone()),
        }
    }

    /// A standby has heard of a newer master.
    fn following(&self, epoch: Epoch) -> Standing {
        let follows = Some(Follows { epoch, reached: None });
        Standing { node: Node { follows, stopped: None, ..self.node.clone() }, ..self.clone() }
    }

    /// A master has heard of a newer one: what that one may not have is to be set aside.
    fn fenced(&self, theirs: &Epoch, has_from: bool) -> Standing {
        let Some(own) = &self.node.epoch else { return self.succeeded_by(theirs.clone()) };
        let is_known = |from: &&Reached| from.epoch == own.id && has_from;
        let after = theirs.from.as_ref().filter(is_known).map(|from| from.seq);
        let returning = Some(Returning { epoch: own.id.clone(), after });
        let node = Node { role: Role::Standby, handing: None, returning, ..self.node.clone() };
        Standing { node, is_draining: false, ..self.clone() }.following(theirs.clone())
    }

    /// Another machine has taken over, with everything that this one had.
    fn succeeded_by(&self, epoch: Epoch) -> Standing {
        let node = Node { role: Role::Standby, handing: None, ..self.node.clone() };
        Standing { node, is_draining: false, ..self.clone() }.following(epoch)
    }

    /// Becomes the master under an epoch of its own.
    fn promoted(&self, id: String) -> Outcome {
        if matches!(self.phase(), Phase::Master | Phase::Draining) {
            return Err("this machine is the master already".into());
        }
        let Some(newest) = self.node.newest() else {
            // A standby that has never had a master begins the pair's history.
            return Ok(self.master_of(Epoch { counter: 1, id, parent: None, from: None }));
        };
        let follows = self.node.follows.as_ref().filter(|follows| follows.epoch.id == newest.id);
        let from = follows.and_then(|follows| follows.reached.clone());
        let epoch = newest.follow(id, from).ok_or("there is no epoch after this one")?;
        Ok(self.master_of(epoch))
    }

    fn master_of(&self, epoch: Epoch) -> Standing {
        let node = Node {
            role: Role::Master,
            epoch: Some(epoch),
            follows: None,
            handing: None,
            returning: None,
            stopped: None,
            ..self.node.clone()
        };
        Standing { node, has_asked: true, is_draining: false, ..self.clone() }
    }

    /// Offers the place to another machine.
    fn offered(&self, to: String, id: String, last: Reached) -> Outcome {
        let epoch = self.node.epoch.as_ref().and_then(|epoch| epoch.follow(id, Some(last)));
        let epoch = epoch.ok_or("this machine has no epoch to hand over")?;
        let handing = Some(Handing { epoch, to });
        self.only_in(Phase::Draining, Standing { node: Node { handing, ..self.node.clone() }, ..self.clone() })
    }

    /// The master's place is offered.
    fn taken_over(&self, epoch: Epoch) -> Outcome {
        if self.node.epoch.as_ref() == Some(&epoch) {
            return Ok(self.clone());
        }
        if self.withdrawn.contains(&epoch.id) {
            return Err("the offer was taken back".into());
        }
        let follows =
            self.node.follows.as_ref().filter(|_| self.phase() == Phase::Standby).ok_or_else(|| self.not_now())?;
        if epoch.parent.as_ref() != Some(&follows.epoch.id) {
            return Err(format!(
                "the offer comes from epoch {}, and this machine follows {}",
                epoch.parent.unwrap_or_default(),
                follows.epoch.id
            ));
        }
        if !covers(follows.reached.as_ref(), epoch.from.as_ref()) {
            return Err("this machine has not got everything yet".into());
        }
        Ok(self.master_of(epoch))
    }

    /// An offer is taken back, which is agreed to by whoever has not gone past it.
    fn taken_back(&self, epoch: Epoch) -> Outcome {
        let known = self.word().epoch.map_or(0, |newest| newest.counter);
        if known >= epoch.counter {
            return Err(format!("this machine knows epoch {known} already"));
        }
        let mut withdrawn = self.withdrawn.clone();
        if !withdrawn.contains(&epoch.id) {
            withdrawn.push(epoch.id);
        }
        Ok(Standing { withdrawn, ..self.clone() })
    }

    fn reached(&self, reached: Reached) -> Outcome {
        let follows =
            self.node.follows.as_ref().filter(|_| self.phase() == Phase::Standby).ok_or_else(|| self.not_now())?;
        if follows.epoch.id != reached.epoch {
            return Err(format!("this machine follows epoch {}, not {}", follows.epoch.id, reached.epoch));
        }
        let follows = Some(Follows { epoch: follows.epoch.clone(), reached: Some(reached) });
        Ok(Standing { node: Node { follows, ..self.node.clone() }, ..self.clone() })
    }
}

/// Whether a standby that has come so far has all that an epoch begins with.
fn covers(reached: Option<&Reached>, from: Option<&Reached>) -> bool {
    match (reached, from) {
        (Some(reached), Some(from)) => {
            reached.epoch == from.epoch && reached.run == from.run && reached.seq >= from.seq
        }
        (_, None) | (None, Some(_)) => false,
    }
}

fn two_masters(ours: &Epoch, theirs: &Epoch) -> String {
    format!(
        "two machines were made master apart from each other (epoch {} is {} here and {} there): nothing is written on either until one is \
         chosen. On the machine whose files are to count: sftpd promote --force, with the other machine's name. What only the other has is kept there",
        ours.counter, ours.id, theirs.id
    )
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
