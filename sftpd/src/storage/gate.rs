//! Whose changes are taken: the one place at which a machine that is no master, or no standby, is kept from changing the volume.
//!
//! Always holds: when closing the gate was answered, every change that was answered with OK before is in the journal, and none is after it.
//! Who may open or close it is the daemon's affair.

use std::sync::Arc;

use super::change::Change;
use super::committer::Answer;
use super::{Result, StorageError};

/// Whether changes are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// They are.
    #[default]
    Open,
    /// They wait until the gate is opened or closed. Nobody hears of it.
    Held,
    /// They are refused with a sentence.
    Closed(String),
}

/// For whom the gate is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// What is told in the journal: the accounts' changes, and the daemon's own.
    pub clients: Way,
    /// What the other machine of the pair does.
    pub replication: Way,
}

/// A change that came, whose it is, and where its answer goes.
pub(super) type Arrived = (Change, Option<Arc<str>>, Answer);

impl Gate {
    fn way(&self, change: &Change, author: Option<&Arc<str>>) -> &Way {
        match (change, author) {
            // They change nothing: what has been written by then is made durable, and told.
            (Change::Clean(_) | Change::Flush(_) | Change::FlushStage(_), _) => &Way::Open,
            (_, Some(_)) => &self.clients,
            (_, None) => &self.replication,
        }
    }

    /// Why a change is not taken, if so.
    pub(super) fn permit(&self, change: &Change, author: Option<&Arc<str>>) -> Result<()> {
        match self.way(change, author) {
            Way::Closed(sentence) => Err(StorageError::Refused(sentence.clone())),
            Way::Open | Way::Held => Ok(()),
        }
    }

    /// Parts what waits from what is to be done or refused now. The order stays.
    pub(super) fn part(&self, arrived: Vec<Arrived>) -> (Vec<Arrived>, Vec<Arrived>) {
        if self.clients != Way::Held && self.replication != Way::Held {
            return (arrived, Vec::new());
        }
        arrived.into_iter().partition(|(change, author, _)| *self.way(change, author.as_ref()) != Way::Held)
    }
}
