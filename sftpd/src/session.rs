//! One SSH connection: who is it, and which channels does it open.
//!
//! Nothing but the `sftp` subsystem is served; everything else an SSH client can ask for is refused. The callbacks run
//! in russh's one task per connection: password checks leave it, file work blocks it on purpose (see [`crate::channel`]).

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{ChannelId, ChannelOpenFailure, MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac};

use crate::channel::{Broken, Channel};
use crate::daemon::{Daemon, SessionTicket};
use crate::sftp::{Identity, Sftp};

/// Channels of one connection.
const CHANNELS_MAX: usize = 8;

/// Attempts to log in on one connection, OpenSSH's default.
const LOGIN_ATTEMPTS_MAX: usize = 6;

/// What the task that looks after a connection sees of it.
#[derive(Default)]
pub struct Watched {
    // Held for a few lines, never across an await.
    state: Mutex<WatchedState>,
}

#[derive(Default)]
struct WatchedState {
    identity: Option<Identity>,
    /// All that are open, whether or not they have started SFTP.
    open: HashSet<ChannelId>,
    channels: HashMap<ChannelId, Arc<Channel>>,
}

impl Watched {
    fn lock(&self) -> std::sync::MutexGuard<'_, WatchedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who has logged in.
    pub fn identity(&self) -> Option<Identity> {
        self.lock().identity.clone()
    }

    /// Whether something is being written or is on its way.
    pub fn is_busy(&self) -> bool {
        self.lock().channels.values().any(|channel| channel.is_busy())
    }
}

/// The handler of one SSH connection.
pub struct SshSession {
    daemon: Arc<Daemon>,
    peer: SocketAddr,
    watched: Arc<Watched>,
    ticket: Option<SessionTicket>,
    logged_in: Arc<tokio::sync::Notify>,
    /// Counts what all channels of this connection hold open.
    open_handles: Arc<AtomicUsize>,
    /// Its number: uploads know by it who writes them.
    number: u64,
}

impl SshSession {
    /// A connection from `peer`. `logged_in` is told when somebody has logged in.
    pub fn new(
        daemon: Arc<Daemon>,
        peer: SocketAddr,
        watched: Arc<Watched>,
        logged_in: Arc<tokio::sync::Notify>,
    ) -> SshSession {
        let number = daemon.next_connection();
        SshSession { daemon, peer, watched, ticket: None, logged_in, open_handles: Arc::default(), number }
    }

    fn accept(&mut self, identity: Identity, method: &str) -> Auth {
        let name = identity.name().to_owned();
        let Some(ticket) = self.daemon.enter(&name) else {
            tracing::warn!(account = name, peer = %self.peer, "login refused: the account has all the sessions it may");
            return self.refuse();
        };
        self.ticket = Some(ticket);
        self.daemon.metrics.login(true);
        tracing::info!(account = name, peer = %self.peer, method, "login");
        self.watched.lock().identity = Some(identity);
        self.logged_in.notify_one();
        Auth::Accept
    }

    fn refuse(&self) -> Auth {
        self.daemon.metrics.login(false);
        Auth::reject()
    }

    /// Whoever a key belongs to, if it may log in under that name.
    fn owner(&self, user: &str, key: &russh::keys::PublicKey) -> Option<Identity> {
        if user == pair::keys::PEER_USER {
            return (key.key_data() == self.daemon.peer_key.key_data()).then_some(Identity::Peer);
        }
        let accounts = self.daemon.accounts();
        let account = accounts.enabled(user)?;
        let known = account.public_keys.iter().any(|known| known.key_data() == key.key_data());
        known.then(|| Identity::Account(account.clone()))
    }

    fn channel(&self, id: ChannelId) -> Option<Arc<Channel>> {
        self.watched.lock().channels.get(&id).cloned()
    }
}

impl Drop for SshSession {
    fn drop(&mut self) {
        let channels: Vec<_> = self.watched.lock().channels.drain().map(|(_, channel)| channel).collect();
        for channel in &channels {
            channel.end();
        }
        // With them go unfinished uploads, and removing a large file takes its time.
        tokio::task::spawn_blocking(move || drop(channels));
    }
}

/// Why a connection ended early.
#[derive(Debug)]
pub enum SessionError {
    /// In the transport.
    Transport(russh::Error),
    /// In the SFTP on a channel.
    Channel(Broken),
}

impl From<russh::Error> for SessionError {
    fn from(error: russh::Error) -> SessionError {
        SessionError::Transport(error)
    }
}

impl std::fmt::Display for SessionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SessionError::Transport(error) => error.fmt(f),
            SessionError::Channel(broken) => broken.fmt(f),
        }
    }
}

type Done = Result<(), SessionError>;

impl Handler for SshSession {
    type Error = SessionError;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, SessionError> {
        let account = self.daemon.accounts().enabled(user).cloned();
        let hash = account.as_ref().and_then(|account| account.password_hash.clone());
        let right = self.daemon.passwords.check(password.to_owned(), hash).await;
        match account {
            Some(account) if right => Ok(self.accept(Identity::Account(account), "password")),
            _ => {
                tracing::info!(account = user, peer = %self.peer, "login failed: wrong name or password");
                Ok(self.refuse())
            }
        }
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, SessionError> {
        Ok(if self.owner(user, offer.public_key).is_some() { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, SessionError> {
        match self.owner(user, key.public_key) {
            Some(identity) => Ok(self.accept(identity, "publickey")),
            None => Ok(self.refuse()),
        }
    }

    async fn channel_open_session(
        &mut self,
        channel: russh::Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Done {
        // The channel's own queue is not used: its data comes to the callbacks below.
        let id = channel.id();
        drop(channel);
        let has_room = {
            let open = &mut self.watched.lock().open;
            open.len() < CHANNELS_MAX && open.insert(id)
        };
        if has_room {
            reply.accept().await;
        } else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
        }
        Ok(())
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut Session) -> Done {
        let identity = self.watched.identity().filter(|_| name == "sftp" && self.channel(id).is_none());
        let Some(identity) = identity else {
            return Ok(session.channel_failure(id)?);
        };
        let (daemon, open_handles) = (self.daemon.clone(), self.open_handles.clone());
        match tokio::task::block_in_place(|| Sftp::new(daemon, identity, self.number, open_handles)) {
            Ok(sftp) => {
                self.watched.lock().channels.insert(id, Channel::new(id, session.handle(), sftp));
                Ok(session.channel_success(id)?)
            }
            Err(error) => {
                tracing::error!(%error, peer = %self.peer, "the account's folder cannot be opened");
                Ok(session.channel_failure(id)?)
            }
        }
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Done {
        match self.channel(id) {
            Some(channel) => channel.receive(data, session).map_err(SessionError::Channel),
            None => Ok(()),
        }
    }

    async fn channel_eof(&mut self, id: ChannelId, session: &mut Session) -> Done {
        match self.channel(id) {
            Some(channel) => channel.finish(),
            None => session.close(id)?,
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Done {
        let channel = {
            let mut state = self.watched.lock();
            state.open.remove(&id);
            state.channels.remove(&id)
        };
        if let Some(channel) = channel {
            channel.end();
            // What it holds open is closed by this, which can take its time.
            tokio::task::block_in_place(|| drop(channel));
        }
        Ok(())
    }

    async fn exec_request(&mut self, id: ChannelId, _: &[u8], session: &mut Session) -> Done {
        Ok(session.channel_failure(id)?)
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Done {
        Ok(session.channel_failure(id)?)
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(russh::Pty, u32)],
        session: &mut Session,
    ) -> Done {
        Ok(session.channel_failure(id)?)
    }

    async fn env_request(&mut self, id: ChannelId, _: &str, _: &str, session: &mut Session) -> Done {
        Ok(session.channel_failure(id)?)
    }

    async fn x11_request(&mut self, id: ChannelId, _: bool, _: &str, _: &str, _: u32, session: &mut Session) -> Done {
        Ok(session.channel_failure(id)?)
    }

    async fn agent_request(&mut self, id: ChannelId, session: &mut Session) -> Result<bool, SessionError> {
        session.channel_failure(id)?;
        Ok(false)
    }
}

/// The SSH settings, explicit: what is not listed is not offered.
pub fn ssh_config(daemon: &Daemon, keys: Vec<PrivateKey>) -> Config {
    Config {
        // No version and no library's name: they help attackers and nobody else.
        server_id: SshId::Standard("SSH-2.0-sftp".into()),
        methods: MethodSet::from([MethodKind::PublicKey, MethodKind::Password].as_slice()),
        auth_rejection_time: std::time::Duration::from_secs(1),
        // OpenSSH's client asks with "none" first; that is no guess.
        auth_rejection_time_initial: Some(std::time::Duration::ZERO),
        max_auth_attempts: LOGIN_ATTEMPTS_MAX,
        keys,
        preferred: preferred(),
        window_size: 8 * 1024 * 1024,
        maximum_packet_size: 32 * 1024,
        inactivity_timeout: Some(daemon.config.limits.idle_timeout.get()),
        nodelay: true,
        ..Config::default()
    }
}

fn preferred() -> Preferred {
    Preferred {
        kex: vec![
            kex::MLKEM768X25519_SHA256,
            kex::CURVE25519,
            kex::CURVE25519_PRE_RFC_8731,
            kex::EXTENSION_SUPPORT_AS_SERVER,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
        ]
        .into(),
        key: vec![Algorithm::Ed25519, Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }].into(),
        // The client's order decides. GCM costs half of what ChaCha does, so it stands first for those that ask us.
        cipher: vec![
            cipher::AES_128_GCM,
            cipher::AES_256_GCM,
            cipher::CHACHA20_POLY1305,
            cipher::AES_256_CTR,
            cipher::AES_192_CTR,
            cipher::AES_128_CTR,
        ]
        .into(),
        // The last two are for libssh2 before 1.11 (curl of Debian 12), which knows neither ETM nor GCM.
        mac: vec![mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512].into(),
        compression: vec![compression::NONE].into(),
        ..Preferred::DEFAULT
    }
}
