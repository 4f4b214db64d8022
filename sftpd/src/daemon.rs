//! What all sessions of one daemon share: settings, volume, identity, accounts, counters.
//!
//! Accounts are a snapshot on a watch channel, swapped whole; everything else never changes while the daemon runs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pair::extension::Hello;
use pair::node::{Node, Role};
use russh::keys::PublicKey;
use tokio::sync::watch;

use crate::accounts::Accounts;
use crate::accounts::password::Checker;
use crate::admin_folder::AdminFolder;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::storage::Volume;

/// The shared state of one daemon.
pub struct Daemon {
    /// Settings.
    pub config: Config,
    /// The data volume.
    pub volume: Arc<Volume>,
    /// Who this machine is.
    pub node: Node,
    /// The key by which the other machine logs in.
    pub peer_key: PublicKey,
    /// The admin folder.
    pub admin_folder: AdminFolder,
    /// Counters.
    pub metrics: Metrics,
    /// Checks passwords.
    pub passwords: Checker,
    accounts: watch::Sender<Arc<Accounts>>,
    // Held for a few lines, never across an await.
    sessions: Mutex<HashMap<String, usize>>,
    connections: AtomicU64,
}

impl Daemon {
    /// The shared state, with the accounts that were kept.
    pub fn new(config: Config, volume: Arc<Volume>, node: Node, peer_key: PublicKey, accounts: Accounts) -> Daemon {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let metrics = Metrics::new(node.role, accounts.generation);
        Daemon {
            config,
            volume,
            node,
            peer_key,
            admin_folder: AdminFolder::default(),
            metrics,
            passwords: Checker::new(cores),
            accounts: watch::channel(Arc::new(accounts)).0,
            sessions: Mutex::default(),
            connections: AtomicU64::new(1),
        }
    }

    /// A number that no other connection has.
    pub fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// The accounts now.
    pub fn accounts(&self) -> Arc<Accounts> {
        self.accounts.borrow().clone()
    }

    /// Tells of every change of the accounts.
    pub fn watch_accounts(&self) -> watch::Receiver<Arc<Accounts>> {
        self.accounts.subscribe()
    }

    /// Keeps accounts, then swaps them in. Writes a file: not for an async thread.
    pub fn set_accounts(&self, accounts: Accounts) -> anyhow::Result<()> {
        accounts.save(&self.config.state)?;
        self.metrics.generation(accounts.generation);
        self.accounts.send_replace(Arc::new(accounts));
        Ok(())
    }

    /// Whether this machine is a standby.
    pub fn is_standby(&self) -> bool {
        self.node.role == Role::Standby
    }

    /// What a client hears that wants to write to a standby.
    pub fn standby_sentence(&self) -> String {
        match self.config.master_address.as_str() {
            "" => "this is the standby: upload to the master".into(),
            address => format!("this is the standby: upload to the master at {address}"),
        }
    }

    /// What this machine says of itself.
    pub fn hello(&self) -> Hello {
        Hello {
            pair: self.volume.marker().pair.clone(),
            node: self.node.node.clone(),
            role: self.node.role,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// Says something to the person who started the daemon that belongs in no log.
    pub fn announce(&self, line: &str) {
        use std::io::Write;
        // Nobody may be listening any more, which is no reason to fail.
        let _ = writeln!(std::io::stdout(), "sftpd: {line}");
    }

    /// Counts a session of an account in, unless it has as many as it may. Dropping the ticket counts it out.
    pub fn enter(self: &Arc<Self>, name: &str) -> Option<SessionTicket> {
        let mut sessions = self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = sessions.entry(name.to_owned()).or_default();
        if *count >= self.config.limits.sessions_per_account && name != pair::keys::PEER_USER {
            return None;
        }
        *count += 1;
        Some(SessionTicket { daemon: self.clone(), name: name.to_owned() })
    }
}

/// One counted session.
pub struct SessionTicket {
    daemon: Arc<Daemon>,
    name: String,
}

impl Drop for SessionTicket {
    fn drop(&mut self) {
        let mut sessions = self.daemon.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(count) = sessions.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                sessions.remove(&self.name);
            }
        }
    }
}
