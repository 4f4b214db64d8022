//! A connection as the rest of the daemon sees it: who it is, since when, what it has open, and how it is ended.
//!
//! The session (russh's callbacks) fills it in; the listener, who watches over it, and whoever lists or ends connections
//! by command read it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::ChannelId;
use russh::keys::ssh_key::public::KeyData;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::channel::Channel;
use crate::chores::Chores;
use crate::overheard::{Chosen, Overheard};
use crate::pace::Slot;
use crate::sftp::Identity;
use crate::socket::Clock;
use crate::transfer::Transfer;

/// Channels of one connection.
const CHANNELS_MAX: usize = 8;

/// Characters of a client's own name that are kept.
const CLIENT_CHARACTERS_MAX: usize = 100;

/// One connection.
pub struct Connection {
    /// Uploads know by it who writes them.
    pub number: u64,
    /// The same for people; no other connection of this machine ever has it.
    pub id: String,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Since when.
    pub since: jiff::Timestamp,
    /// Whether the client speaks SSH at all; who only looks whether the port is open does not.
    pub has_greeted: AtomicBool,
    /// Whether it has ended before anybody tried to log in, and that is not on record yet.
    pub has_tried_nothing: AtomicBool,
    /// Told when somebody has logged in.
    pub logged_in: Notify,
    /// When it has moved something, and how much.
    pub clock: Arc<Clock>,
    /// What is done in its own task beside its packets.
    pub chores: Arc<Chores>,
    /// Where its socket finds how fast it may go.
    pub slot: Arc<Slot>,
    /// Listens to a client that is offered more than the usual, because accounts that may come from there have an exception.
    pub overheard: Option<Arc<Overheard>>,
    /// Whether its client waits for us to look at its password.
    pub is_checking: AtomicBool,
    end: CancellationToken,
    // Held for a few lines, never across an await.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    identity: Option<Identity>,
    /// The authority whose certificate let it in.
    authority: Option<KeyData>,
    client: String,
    ended_because: Option<Cow<'static, str>>,
    /// All that are open, whether or not they have started SFTP.
    open: HashSet<ChannelId>,
    channels: HashMap<ChannelId, Arc<Channel>>,
}

impl Connection {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who has logged in.
    pub fn identity(&self) -> Option<Identity> {
        self.lock().identity.clone()
    }

    /// Somebody has logged in.
    pub fn set_identity(&self, identity: Identity) {
        self.lock().identity = Some(identity);
        self.logged_in.notify_one();
    }

    /// The authority whose certificate let it in, if it was one.
    pub fn authority(&self) -> Option<KeyData> {
        self.lock().authority.clone()
    }

    /// A certificate of this authority is about to let it in.
    pub fn set_authority(&self, authority: &KeyData) {
        self.lock().authority = Some(authority.clone());
    }

    /// What the client calls itself.
    pub fn client(&self) -> String {
        self.lock().client.clone()
    }

    /// Notes what the client calls itself: `SSH-2.0-` and what follows.
    pub fn set_client(&self, ident: &[u8]) {
        let name = String::from_utf8_lossy(ident);
        let name = name.trim().trim_start_matches("SSH-2.0-");
        self.lock().client = name.chars().take(CLIENT_CHARACTERS_MAX).collect();
    }

    /// Which algorithms its client has chosen; nothing where it was offered more than the usual and not understood.
    pub fn chosen(&self) -> Option<Chosen> {
        let Some(overheard) = &self.overheard else { return Some(Chosen::default()) };
        let usual = overheard.exceptions.is_empty().then(Chosen::default);
        overheard.chosen().or(usual)
    }

    /// Ends it, with a sentence that the client hears. The first reason counts.
    pub fn end(&self, reason: impl Into<Cow<'static, str>>) {
        self.lock().ended_because.get_or_insert(reason.into());
        self.end.cancel();
    }

    /// Comes back with the reason when it was ended.
    pub async fn ended(&self) -> Cow<'static, str> {
        self.end.cancelled().await;
        self.why_ended().unwrap_or_default()
    }

    /// Why it was ended by us, if it was.
    pub fn why_ended(&self) -> Option<Cow<'static, str>> {
        self.lock().ended_because.clone()
    }

    /// Lets a channel be opened, while there is room for it.
    pub fn open_channel(&self, id: ChannelId) -> bool {
        let open = &mut self.lock().open;
        open.len() < CHANNELS_MAX && open.insert(id)
    }

    /// A channel has started SFTP.
    pub fn start_channel(&self, id: ChannelId, channel: Arc<Channel>) {
        self.lock().channels.insert(id, channel);
    }

    /// A channel on which SFTP runs.
    pub fn channel(&self, id: ChannelId) -> Option<Arc<Channel>> {
        self.lock().channels.get(&id).cloned()
    }

    /// A channel is closed.
    pub fn take_channel(&self, id: ChannelId) -> Option<Arc<Channel>> {
        let mut state = self.lock();
        state.open.remove(&id);
        state.channels.remove(&id)
    }

    /// All channels on which SFTP runs, because the connection is gone.
    pub fn take_channels(&self) -> Vec<Arc<Channel>> {
        self.lock().channels.drain().map(|(_, channel)| channel).collect()
    }

    /// Whether the server has something to do for it that moves nothing.
    pub fn is_working(&self) -> bool {
        self.lock().channels.values().any(|channel| channel.is_working())
    }

    /// Whether something is being written or is on its way.
    pub fn is_busy(&self) -> bool {
        self.lock().channels.values().any(|channel| channel.is_busy())
    }

    /// Whether it writes a file in place. May wait for a burst of requests: not for an async thread.
    pub fn writes_in_place(&self) -> bool {
        let channels: Vec<_> = self.lock().channels.values().cloned().collect();
        channels.iter().any(|channel| channel.writes_in_place())
    }

    /// What is being transferred on it. May wait for a burst of requests: not for an async thread.
    pub fn transfers(&self) -> Vec<Transfer> {
        let channels: Vec<_> = self.lock().channels.values().cloned().collect();
        channels.iter().flat_map(|channel| channel.transfers()).collect()
    }
}

/// All connections that are open.
#[derive(Default)]
pub struct Connections {
    // Held for a few lines, never across an await.
    open: Mutex<BTreeMap<u64, Arc<Connection>>>,
    last: AtomicU64,
    /// Tells this run of the daemon from every other.
    run: std::sync::OnceLock<String>,
}

impl Connections {
    /// One more; dropping the ticket takes it out.
    pub fn enter(self: &Arc<Self>, peer: SocketAddr, overheard: Option<Arc<Overheard>>) -> OpenConnection {
        let (number, since) = (self.next_number(), jiff::Timestamp::now());
        let run = self.run.get_or_init(|| format!("{:x}", since.as_millisecond()));
        let connection = Arc::new(Connection {
            number,
            id: format!("{run}-{number}"),
            peer,
            since,
            has_greeted: AtomicBool::new(false),
            has_tried_nothing: AtomicBool::new(false),
            logged_in: Notify::new(),
            clock: Arc::default(),
            chores: Arc::default(),
            slot: Arc::default(),
            overheard,
            is_checking: AtomicBool::new(false),
            end: CancellationToken::new(),
            state: Mutex::default(),
        });
        self.lock().insert(number, connection.clone());
        OpenConnection { all: self.clone(), connection }
    }

    /// A number that no other connection has.
    pub fn next_number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// All, the oldest first.
    pub fn all(&self) -> Vec<Arc<Connection>> {
        self.lock().values().cloned().collect()
    }

    /// Ends those of these that have not logged in.
    pub fn end_strangers(&self, is_meant: impl Fn(&Connection) -> bool, reason: &'static str) {
        for connection in self.all() {
            if connection.identity().is_none() && is_meant(&connection) {
                connection.end(reason);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is open.
pub struct OpenConnection {
    all: Arc<Connections>,
    /// The connection.
    pub connection: Arc<Connection>,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.all.lock().remove(&self.connection.number);
    }
}
