//! One SSH connection: who is it, and which channels does it open.
//!
//! Nothing but the `sftp` subsystem is served; everything else an SSH client can ask for is refused. The callbacks run
//! in russh's one task per connection: password checks leave it, file work blocks it on purpose (see [`crate::channel`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use russh::keys::{Certificate, PrivateKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{ChannelId, ChannelOpenFailure, MethodKind, MethodSet, Preferred, SshId};

use pair::activity::{Activity, Level};

use crate::accounts::{Account, certificate};
use crate::activity::Actor;
use crate::channel::{Broken, Channel};
use crate::connection::Connection;
use crate::daemon::{Daemon, SessionTicket};
use crate::guard::Offence;
use crate::login::{Attempts, Proof};
use crate::role::OTHER_ROLE;
use crate::sftp::{Identity, Sftp};

/// Attempts to log in on one connection, OpenSSH's default.
const LOGIN_ATTEMPTS_MAX: usize = 6;

/// The handler of one SSH connection.
pub struct SshSession {
    daemon: Arc<Daemon>,
    connection: Arc<Connection>,
    ticket: Option<SessionTicket>,
    /// Counts what all channels of this connection hold open.
    open_handles: Arc<AtomicUsize>,
    attempts: Attempts,
}

impl SshSession {
    /// The session of a connection.
    pub fn new(daemon: Arc<Daemon>, connection: Arc<Connection>) -> SshSession {
        SshSession { daemon, connection, ticket: None, open_handles: Arc::default(), attempts: Attempts::default() }
    }

    fn accept(&mut self, identity: Identity, proof: Proof) -> Auth {
        let (name, peer) = (identity.name().to_owned(), self.connection.peer);
        let Some(chosen) = self.connection.chosen() else {
            return self.refuse_kindly(&name, proof, "which algorithms its connection uses could not be told");
        };
        if let Some(algorithm) = chosen.needed.iter().find(|algorithm| !identity.has_exception_for(algorithm)) {
            let reason = format!("its client needs {algorithm}, for which the account has no exception");
            return self.refuse_kindly(&name, proof, &reason);
        }
        if !chosen.used.is_empty() {
            let algorithms = chosen.used.join(", ");
            tracing::warn!(account = name, %peer, algorithms, "login with old algorithms, which its address is offered by an exception");
        }
        let Some(ticket) = self.daemon.enter(&identity) else {
            // Whoever knows the password has done nothing wrong.
            return self.refuse_kindly(&name, proof, "the account has all the sessions it may");
        };
        if let Some(paces) = ticket.paces() {
            self.connection.slot.set(paces);
        }
        self.ticket = Some(ticket);
        match &identity {
            Identity::Peer => self.daemon.guard.exempt(peer.ip()),
            Identity::Account(account) => self.daemon.guard.befriend(&account.name, peer.ip(), Instant::now()),
        }
        self.daemon.metrics.login(true);
        tracing::debug!(account = name, %peer, method = proof.method, "login");
        if matches!(identity, Identity::Account(_))
            && let Some(sentence) = self.daemon.gateway.note_login(peer.ip())
        {
            tracing::warn!("{sentence}");
        }
        self.attempts.accepted = Some(proof.over(&chosen));
        self.connection.set_identity(identity);
        Auth::Accept
    }

    fn refuse(&mut self, name: &str, proof: Proof, reason: &str) -> Auth {
        self.daemon.offend(self.connection.peer.ip(), Offence::FailedLogin);
        let failed = proof.failed(&self.connection, name, reason);
        self.record_refusal(name, failed)
    }

    /// Refuses a login that costs its address nothing, nor with those who read failed logins from the log.
    fn refuse_kindly(&mut self, name: &str, proof: Proof, reason: &str) -> Auth {
        let failed = proof.failed(&self.connection, name, reason);
        self.record_refusal(name, Activity { level: Level::Info, ..failed })
    }

    fn record_refusal(&mut self, name: &str, failed: Activity) -> Auth {
        self.daemon.metrics.login(false);
        tracing::debug!(account = name, peer = %self.connection.peer, reason = failed.error, "login failed");
        self.attempts.has_failed = true;
        self.daemon.activity.put(failed);
        refusal()
    }

    /// Who acts on this connection, for the log. What the other machine of the pair does is no user's.
    fn actor(&self) -> Option<Arc<Actor>> {
        let identity = self.connection.identity()?;
        let (log, peer) = (self.daemon.activity.clone(), self.connection.peer.to_string());
        matches!(identity, Identity::Account(_))
            .then(|| Arc::new(Actor::new(log, identity.name().to_owned(), peer, self.connection.id.clone())))
    }

    /// Whoever a key belongs to, if it may log in under that name.
    fn owner(&self, user: &str, key: &russh::keys::PublicKey) -> Option<Identity> {
        if user == pair::keys::PEER_USER {
            return (key.key_data() == self.daemon.peer_key.key_data()).then_some(Identity::Peer);
        }
        let account = self.account(user)?;
        let known = account.public_keys.iter().any(|known| known.key_data() == key.key_data());
        known.then(|| Identity::Account(account.clone()))
    }

    /// The account with a name, if it may log in now and from here.
    fn account(&self, name: &str) -> Option<Arc<Account>> {
        let accounts = self.daemon.accounts();
        accounts.get(name).filter(|account| account.admits(self.connection.peer.ip(), jiff::Timestamp::now())).cloned()
    }
}

/// All methods stay open: without this russh closes the one that failed, nobody is asked for the password again, and
/// FileZilla shows a lost connection instead of a wrong password.
fn refusal() -> Auth {
    Auth::Reject { proceed_with_methods: Some(methods()), partial_success: false }
}

/// How one may log in.
fn methods() -> MethodSet {
    MethodSet::from([MethodKind::PublicKey, MethodKind::Password].as_slice())
}

impl Drop for SshSession {
    fn drop(&mut self) {
        self.attempts.record_end(&self.daemon, &self.connection);
        let channels = self.connection.take_channels();
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
        let account = self.account(user);
        let hash = account.as_ref().and_then(|account| account.password_hash.clone());
        let asker = self.daemon.guard.asker(user, self.connection.peer.ip());
        self.connection.is_checking.store(true, Ordering::Relaxed);
        let right = tokio::select! {
            right = self.daemon.passwords.check(asker, password.to_owned(), hash) => right,
            // Who was ended waits no longer, and nobody behind him does.
            _ = self.connection.ended() => return Err(russh::Error::Disconnect.into()),
        };
        self.connection.is_checking.store(false, Ordering::Relaxed);
        let (proof, from, now) = (Proof::password(), self.connection.peer.ip(), Instant::now());
        // Looked at after the check: the answer takes its time whatever it is.
        let is_shut = account.is_some() && !self.daemon.guard.takes_password(user, from, now);
        Ok(match account {
            Some(account) if right && !is_shut => self.accept(Identity::Account(account), proof),
            Some(_) if is_shut => self.refuse(user, proof, "the account's password is shut: too many were wrong"),
            Some(_) => {
                self.daemon.offend_account(user, now);
                self.refuse(user, proof, "wrong name or password")
            }
            None => self.refuse(user, proof, "wrong name or password"),
        })
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, SessionError> {
        if self.owner(user, offer.public_key).is_some() {
            return Ok(Auth::Accept);
        }
        // Clients offer all the keys they have: that one of them is not known is no failure yet.
        let reason = "no key that was offered is known".to_owned();
        self.attempts.unknown.get_or_insert((user.to_owned(), Proof::key(offer.public_key), reason));
        // A certificate is offered in the same way, and seen only when it is used.
        Ok(if self.daemon.accounts().trusted_ca.is_empty() { Auth::reject() } else { Auth::Accept })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, SessionError> {
        let proof = Proof::key(key.public_key);
        Ok(match self.owner(user, key.public_key) {
            Some(identity) => self.accept(identity, proof),
            // It was let this far because it might have been a certificate's: no more of a failure than its offer.
            None if !self.daemon.accounts().trusted_ca.is_empty() => {
                self.daemon.metrics.login(false);
                refusal()
            }
            None => self.refuse(user, proof, "the key is not known"),
        })
    }

    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, SessionError> {
        let proof = Proof::certificate(certificate);
        let Some(account) = self.account(user) else {
            return Ok(self.refuse(user, proof, "there is no such account, or it may not log in now"));
        };
        let (from, now_s) = (self.connection.peer.ip(), jiff::Timestamp::now().as_second().unsigned_abs());
        let trusted = &self.daemon.accounts().trusted_ca;
        Ok(match certificate::check(certificate, user, from, now_s, trusted) {
            Ok(()) => {
                self.connection.set_authority(certificate.signature_key());
                self.accept(Identity::Account(account), proof)
            }
            // Clients try what they have, certificates among it: no failure yet.
            Err(sentence) => {
                self.daemon.metrics.login(false);
                self.attempts.unknown = Some((user.to_owned(), proof, sentence));
                refusal()
            }
        })
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Done {
        self.connection.set_client(session.remote_sshid());
        self.attempts.record_login(&self.daemon, &self.connection);
        if let Some(rest) = self.daemon.roles.keeps_out_for()
            && !matches!(self.connection.identity(), Some(Identity::Peer))
        {
            // It comes again then, and so does one whose load balancer cuts it off.
            let _ = tokio::time::timeout(rest, self.connection.ended()).await;
            self.connection.end(OTHER_ROLE);
        }
        Ok(())
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
        if self.connection.open_channel(id) {
            reply.accept().await;
        } else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
        }
        Ok(())
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut Session) -> Done {
        let identity = self.connection.identity().filter(|_| name == "sftp" && self.connection.channel(id).is_none());
        let Some(identity) = identity else {
            return Ok(session.channel_failure(id)?);
        };
        let (daemon, number) = (self.daemon.clone(), self.connection.number);
        let (open_handles, actor) = (self.open_handles.clone(), self.actor());
        match tokio::task::block_in_place(|| Sftp::new(daemon, identity, number, open_handles, actor)) {
            Ok(sftp) => {
                let channel = Channel::new(id, session.handle(), &self.connection, sftp);
                self.connection.start_channel(id, channel);
                Ok(session.channel_success(id)?)
            }
            Err(error) => {
                tracing::error!(%error, peer = %self.connection.peer, "the account's folder cannot be opened");
                Ok(session.channel_failure(id)?)
            }
        }
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Done {
        match self.connection.channel(id) {
            Some(channel) => channel.receive(data, session).map_err(SessionError::Channel),
            None => Ok(()),
        }
    }

    async fn channel_eof(&mut self, id: ChannelId, session: &mut Session) -> Done {
        match self.connection.channel(id) {
            Some(channel) => channel.finish(),
            None => session.close(id)?,
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Done {
        if let Some(channel) = self.connection.take_channel(id) {
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
pub fn ssh_config(keys: Vec<PrivateKey>, preferred: Preferred) -> Config {
    Config {
        // No version and no library's name: they help attackers and nobody else.
        server_id: SshId::Standard("SSH-2.0-sftp".into()),
        methods: methods(),
        auth_rejection_time: std::time::Duration::from_secs(1),
        // OpenSSH's client asks with "none" first; that is no guess.
        auth_rejection_time_initial: Some(std::time::Duration::ZERO),
        max_auth_attempts: LOGIN_ATTEMPTS_MAX,
        keys,
        preferred,
        window_size: 8 * 1024 * 1024,
        maximum_packet_size: 32 * 1024,
        // The listener looks after that: russh would take a slow account for an idle one.
        inactivity_timeout: None,
        nodelay: true,
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of these is something else where nobody says it.
    #[test]
    fn what_russh_would_do_by_itself_and_should_not_is_set() {
        let config = ssh_config(Vec::new(), Preferred::default());
        assert_eq!(
            config.auth_rejection_time_initial,
            Some(std::time::Duration::ZERO),
            "asking how to log in is no guess"
        );
        assert_eq!(config.auth_rejection_time, std::time::Duration::from_secs(1));
        assert_eq!(config.max_auth_attempts, 6);
        assert_eq!(config.inactivity_timeout, None, "the listener knows idle from slow");
        assert!(config.nodelay);
        // After a gibibyte at the latest (RFC 4253), both ways.
        assert!(config.limits.rekey_write_limit <= 1 << 30 && config.limits.rekey_read_limit <= 1 << 30);
    }
}
