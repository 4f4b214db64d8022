//! What all sessions of one daemon share: settings, volume, identity, accounts, counters.
//!
//! Accounts are a snapshot on a watch channel, swapped whole; everything else never changes while the daemon runs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pair::activity::{Activity, Level, sender};
use pair::epoch::Lineage;
use pair::extension::Hello;
use pair::keys::{are_derived, stored_host_keys};
use pair::node::{Node, Phase, Role};
use pair::peer::Identity as PairIdentity;
use pair::wire::DATA_BYTES_MAX;
use russh::keys::{PrivateKey, PublicKey};
use tokio::sync::{Semaphore, watch};

use crate::accounts::Accounts;
use crate::accounts::checker::Checker;
use crate::activity::{ActivityLog, Received};
use crate::admin_folder::AdminFolder;
use crate::algorithms::Greetings;
use crate::archive::Board;
use crate::config::Config;
use crate::connection::{Connection, Connections};
use crate::gateway::Gateway;
use crate::guard::{Guard, Offence};
use crate::metrics::Metrics;
use crate::overheard::Overheard;
use crate::pace::Paces;
use crate::peers::{Peers, addresses};
use crate::requests::content::DATA_HEADER_BYTES;
use crate::role::Roles;
use crate::rooms::Rooms;
use crate::sftp::Identity;
use crate::standbys::Standbys;
use crate::storage::Volume;
use crate::streams::Streams;
use crate::volume_room::VolumeRoom;
use crate::waits::Waits;

/// Bans that the other machine hears of, at most.
const BANS_TOLD_MAX: usize = 1000;

/// What strangers can bring about is warned of this often at most, in seconds.
const WARNING_REST_S: u64 = 60;

/// The shared state of one daemon.
pub struct Daemon {
    /// Settings.
    pub config: Config,
    /// The data volume.
    pub volume: Arc<Volume>,
    /// Who this machine is, and what it is for.
    pub roles: Roles,
    /// The other machines.
    pub peers: Peers,
    /// On which connections replication comes.
    pub streams: Streams,
    /// What clients are offered.
    pub greetings: Greetings,
    /// The key by which the other machine logs in.
    pub peer_key: PublicKey,
    /// The admin folder.
    pub admin_folder: AdminFolder,
    /// What the keeper of the archive says of itself.
    pub archive: Board,
    /// What the standbys have.
    pub standbys: Standbys,
    volume_room: Arc<VolumeRoom>,
    /// Since when it runs.
    pub since: jiff::Timestamp,
    /// Counters.
    pub metrics: Metrics,
    /// Checks passwords.
    pub passwords: Checker,
    /// Turns at work that takes long: a few at once for each core, because some wait for the disk.
    pub turns: Arc<Semaphore>,
    /// Room for READs of full size.
    pub rooms: Rooms,
    /// Whether requests have to wait for the disk.
    pub waits: Waits,
    accounts: watch::Sender<Arc<Accounts>>,
    // Held for a few lines, never across an await.
    sessions: Mutex<HashMap<String, Sessions>>,
    /// Who is connected.
    pub connections: Arc<Connections>,
    /// Who did what.
    pub activity: ActivityLog,
    /// What other machines of the pair have written down.
    pub received_activity: Received,
    /// Whether clients' addresses arrive.
    pub gateway: Gateway,
    /// Who may knock.
    pub guard: Guard,
    /// When something was said last that is said now and then, in seconds since 1970.
    warned_s: AtomicI64,
}

impl Daemon {
    /// The shared state, with the accounts that were kept.
    pub fn new(
        config: Config,
        volume: Arc<Volume>,
        node: Node,
        pair: PairIdentity,
        keys: Vec<PrivateKey>,
        accounts: Accounts,
    ) -> anyhow::Result<Daemon> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let metrics = Metrics::new(accounts.generation);
        let roles = Roles::new(node)?;
        metrics.role(&roles.now());
        let keep = config.activity_log.keep();
        let activity =
            ActivityLog::start(&config.logs, keep, config.activity_log.stdout, metrics.lost_activity.clone())?;
        let gateway = Gateway::of_this_machine();
        let mut guard = config.guard.clone();
        // All partners stand behind a load balancer.
        guard.never.extend(&config.proxies);
        let guard = Guard::new(guard, gateway.address());
        Ok(Daemon {
            activity,
            received_activity: Received::new(&config.logs, keep),
            connections: Arc::default(),
            volume,
            roles,
            peer_key: pair.key().public_key().clone(),
            peers: Peers::new(pair, &addresses(&config.peers)?),
            greetings: Greetings::new(keys, config.algorithms),
            admin_folder: AdminFolder::default(),
            archive: Board::default(),
            standbys: Standbys::default(),
            streams: Streams::default(),
            volume_room: Arc::default(),
            since: jiff::Timestamp::now(),
            metrics,
            passwords: Checker::new(cores)?,
            turns: Arc::new(Semaphore::new(4 * cores)),
            rooms: Rooms::new(DATA_HEADER_BYTES + DATA_BYTES_MAX),
            waits: Waits::default(),
            accounts: watch::channel(Arc::new(accounts)).0,
            sessions: Mutex::default(),
            guard,
            gateway,
            warned_s: AtomicI64::new(0),
            config,
        })
    }

    /// Begins with the changes that wait for others; right here, unless the disk has lately kept somebody waiting.
    pub fn begin_changes(&self) {
        let mut here = None;
        self.volume.begin_changes(|| !self.waits.are_expected(*here.insert(Instant::now())));
        // Mostly nothing waits, and no clock is read.
        if let Some(began) = here {
            let now = Instant::now();
            self.waits.note(now - began, now);
        }
    }

    /// The accounts now.
    pub fn accounts(&self) -> Arc<Accounts> {
        self.accounts.borrow().clone()
    }

    /// Who listens to a connection from an address. It knows what is offered there beyond the usual: what accounts that may come from
    /// there have an exception for.
    pub fn listener_for(&self, address: IpAddr) -> Arc<Overheard> {
        let exceptions = self.accounts().old_algorithms_for(address, jiff::Timestamp::now());
        Arc::new(Overheard::new(self.config.algorithms, exceptions))
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
        self.set_paces();
        Ok(())
    }

    /// Whether this machine is a standby.
    pub fn is_standby(&self) -> bool {
        self.roles.now().node.role == Role::Standby
    }

    /// Why accounts may not write here now, if so. What only waits for a moment is not refused.
    pub fn refuses_clients(&self) -> Option<String> {
        let standing = self.roles.now();
        match standing.phase() {
            Phase::Asking | Phase::Master | Phase::Draining | Phase::Handing => None,
            Phase::Standby | Phase::Returning => Some(self.standby_sentence()),
            Phase::Stopped => standing.node.stopped.clone(),
        }
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
        let standing = self.roles.now();
        let (word, chapter) = (standing.word(), self.volume.chapter());
        let (lineage, reached) = match word.role {
            Role::Master => (chapter.lineage.clone(), Some(chapter.reached(*self.volume.decided().borrow()))),
            Role::Standby => (Lineage::default(), standing.node.follows.clone().and_then(|follows| follows.reached)),
        };
        let state = &self.config.state;
        let shown = stored_host_keys(state).unwrap_or_default();
        let bans = self.guard.bans(Instant::now()).into_iter().take(BANS_TOLD_MAX);
        let room = self.volume_room.told(&self.volume);
        Hello {
            pair: self.volume.marker().pair.clone(),
            node: word.node,
            role: word.role,
            version: env!("CARGO_PKG_VERSION").into(),
            phase: Some(standing.phase()),
            instance: self.roles.instance.clone(),
            stream: String::new(),
            epoch: word.epoch,
            reached,
            lineage,
            host_keys: shown.iter().filter_map(|key| key.to_openssh().ok()).collect(),
            takes_host_keys: word.role == Role::Standby && are_derived(state),
            accounts_generation: self.accounts().generation,
            refuses: self.volume.failure(),
            begun: if word.role == Role::Master { self.volume.begun() } else { Vec::new() },
            bans: bans.map(|ban| (ban.source.to_string(), ban.left.as_secs())).collect(),
            offers: self.volume.offers(),
            volume_bytes: room.map(|(bytes, _)| bytes),
            volume_free_bytes: room.map(|(_, free_bytes)| free_bytes),
        }
    }

    /// Says something to the person who started the daemon that belongs in no log.
    pub fn announce(&self, line: &str) {
        use std::io::Write;
        // Nobody may be listening any more, which is no reason to fail.
        let _ = writeln!(std::io::stdout(), "sftpd: {line}");
    }

    /// Warns, unless there was such a warning within the last minute: what a stranger can bring about fills no log.
    pub fn say_now_and_then(&self, sentence: &str) {
        let now_s = jiff::Timestamp::now().as_second();
        let last_s = self.warned_s.load(Ordering::Relaxed);
        if now_s.abs_diff(last_s) >= WARNING_REST_S {
            self.warned_s.store(now_s, Ordering::Relaxed);
            tracing::warn!("{sentence}");
        } else {
            tracing::debug!("{sentence}");
        }
    }

    /// Something went wrong at an address. A ban that begins by it is said.
    pub fn offend(&self, address: IpAddr, offence: Offence) {
        let Some(ban) = self.guard.offend(address, offence, Instant::now()) else { return };
        self.metrics.ban();
        let of_there = |connection: &Connection| self.guard.is_of(connection.peer.ip(), &ban.source);
        self.connections.end_strangers(of_there, "its address is banned for a while");
        let (source, seconds) = (ban.source, ban.left.as_secs());
        tracing::warn!(%source, seconds, "banned for a while: too much went wrong there");
        let error = Some(format!("{source} is banned for {seconds} s: too much went wrong there"));
        let (sender, remote_addr) = (sender::BAN.into(), address.to_string());
        self.activity.put(Activity { sender, remote_addr, level: Level::Warn, error, ..Activity::default() });
    }

    /// A password of an account was wrong. Said where that shuts it.
    pub fn offend_account(&self, account: &str, now: Instant) {
        if self.guard.offend_account(account, now) {
            let sentence = "its password counts only where it has logged in before, for a while: too many were wrong";
            tracing::warn!(account, "{sentence}");
            let (sender, username) = (sender::BAN.into(), account.to_owned());
            let error = Some(sentence.to_owned());
            self.activity.put(Activity { sender, username, level: Level::Warn, error, ..Activity::default() });
        }
    }

    /// Counts a session in, unless its account has as many as it may. Dropping the ticket counts it out.
    pub fn enter(self: &Arc<Self>, identity: &Identity) -> Option<SessionTicket> {
        let mut sessions = self.sessions();
        sessions.retain(|_, of_account| of_account.is_needed());
        // As it is now: checking the password has taken its time.
        let accounts = self.accounts();
        let account = match identity {
            Identity::Account(account) => Some(accounts.get(&account.name)?),
            Identity::Peer => None,
        };
        let own_max = account.and_then(|account| account.max_sessions).unwrap_or(usize::MAX);
        let max = account.map_or(usize::MAX, |_| own_max.min(self.config.limits.sessions_per_account));
        let of_account = sessions.entry(identity.name().to_owned()).or_default();
        if of_account.count >= max {
            return None;
        }
        of_account.count += 1;
        let paces = account.map(|account| {
            let paces = of_account.paces.get_or_insert_default().clone();
            paces.set(account);
            paces
        });
        Some(SessionTicket { daemon: self.clone(), name: identity.name().to_owned(), paces })
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Sessions>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives sessions that go on the speed that their accounts have now.
    fn set_paces(&self) {
        let accounts = self.accounts();
        for (name, sessions) in self.sessions().iter() {
            if let (Some(paces), Some(account)) = (&sessions.paces, accounts.get(name)) {
                paces.set(account);
            }
        }
    }
}

/// The sessions of one account.
#[derive(Default)]
struct Sessions {
    count: usize,
    /// How fast all of them together may go.
    paces: Option<Arc<Paces>>,
}

impl Sessions {
    /// Whether there are any, or one has left a debt for the next.
    fn is_needed(&self) -> bool {
        self.count > 0 || self.paces.as_ref().is_some_and(|paces| paces.are_in_debt())
    }
}

/// One counted session.
pub struct SessionTicket {
    daemon: Arc<Daemon>,
    name: String,
    paces: Option<Arc<Paces>>,
}

impl SessionTicket {
    /// How fast it may go, together with the account's other sessions.
    pub fn paces(&self) -> Option<Arc<Paces>> {
        self.paces.clone()
    }
}

impl Drop for SessionTicket {
    fn drop(&mut self) {
        let mut sessions = self.daemon.sessions();
        if let Some(of_account) = sessions.get_mut(&self.name) {
            of_account.count -= 1;
            if !of_account.is_needed() {
                sessions.remove(&self.name);
            }
        }
    }
}
