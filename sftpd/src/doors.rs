//! The connections that have not logged in: how many there may be, and who goes where there are too many.
//!
//! Always holds: idle connections from a few addresses keep nobody else out.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::connection::Connection;
use crate::daemon::Daemon;

/// The connections that have not logged in, by address, the oldest first.
#[derive(Default)]
pub struct Doors {
    // Held for a few lines, never across an await.
    waiting: Mutex<HashMap<IpAddr, VecDeque<Arc<Connection>>>>,
}

/// A connection that has not logged in; dropped when it has.
pub struct Door {
    doors: Arc<Doors>,
    connection: Arc<Connection>,
}

impl Doors {
    /// Takes a connection in. Where all places are taken the oldest from the address with the most goes: so many idle ones from
    /// a few addresses keep nobody else out.
    pub fn enter(self: &Arc<Self>, connection: &Arc<Connection>, daemon: &Daemon) -> Option<Door> {
        let (limits, address) = (&daemon.config.limits, connection.peer.ip());
        let mut waiting = self.lock();
        if waiting.get(&address).map_or(0, VecDeque::len) >= limits.unauthenticated_per_address {
            return None;
        }
        if waiting.values().map(VecDeque::len).sum::<usize>() >= limits.unauthenticated {
            let most = waiting.values_mut().max_by_key(|from_there| from_there.len());
            if let Some(oldest) = most.and_then(VecDeque::pop_front) {
                daemon.metrics.refused("crowded out");
                oldest.end("too many connections wait to log in");
            }
        }
        waiting.entry(address).or_default().push_back(connection.clone());
        Some(Door { doors: self.clone(), connection: connection.clone() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, VecDeque<Arc<Connection>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let address = self.connection.peer.ip();
        let mut waiting = self.doors.lock();
        if let Some(from_there) = waiting.get_mut(&address) {
            from_there.retain(|waiting| waiting.number != self.connection.number);
            if from_there.is_empty() {
                waiting.remove(&address);
            }
        }
    }
}
