//! What is written down about logins: each one, each failure, and connections on which nobody logged in.

use std::sync::atomic::Ordering;
use std::time::Instant;

use pair::activity::{Activity, Level, Outcome, sender};
use pair::keys::fingerprint;
use russh::keys::{Certificate, PublicKey};

use crate::activity::failed;
use crate::connection::Connection;
use crate::daemon::Daemon;
use crate::guard::Offence;
use crate::overheard::Chosen;

/// By what somebody wants to log in.
#[derive(Clone, Debug)]
pub struct Proof {
    /// Its name in the log.
    pub method: &'static str,
    key_fingerprint: Option<String>,
    certificate: Option<String>,
    /// What the connection uses.
    algorithms: Chosen,
}

impl Proof {
    /// A password.
    pub fn password() -> Proof {
        Proof { method: "password", key_fingerprint: None, certificate: None, algorithms: Chosen::default() }
    }

    /// A key.
    pub fn key(key: &PublicKey) -> Proof {
        Proof { method: "publickey", key_fingerprint: Some(fingerprint(key)), ..Proof::password() }
    }

    /// A certificate.
    pub fn certificate(certificate: &Certificate) -> Proof {
        let key = PublicKey::new(certificate.public_key().clone(), "");
        let id = format!("{} (serial {})", certificate.key_id(), certificate.serial());
        let key_fingerprint = Some(fingerprint(&key));
        Proof { method: "certificate", key_fingerprint, certificate: Some(id), ..Proof::password() }
    }

    /// The same over a connection that uses these algorithms.
    pub fn over(self, algorithms: &Chosen) -> Proof {
        Proof { algorithms: algorithms.clone(), ..self }
    }

    fn activity(self, connection: &Connection, sender: &str, username: &str) -> Activity {
        let Chosen { kex, cipher, mac, used, .. } = self.algorithms;
        Activity {
            sender: sender.into(),
            username: username.into(),
            remote_addr: connection.peer.to_string(),
            connection_id: connection.id.clone(),
            method: Some(self.method.into()),
            key_fingerprint: self.key_fingerprint,
            certificate: self.certificate,
            cipher: cipher.map(str::to_owned),
            mac: mac.map(str::to_owned),
            kex: kex.map(str::to_owned),
            old_algorithms: (!used.is_empty()).then(|| used.join(", ")),
            ..Activity::default()
        }
    }

    /// The record of a login that failed.
    pub fn failed(self, connection: &Connection, username: &str, reason: &str) -> Activity {
        failed(self.activity(connection, sender::CONNECTION_FAILED, username), Outcome::Refused, reason)
    }
}

/// Records a connection that has ended before anybody tried to log in; `why_not` where its client could not speak with us.
pub fn record_stranger(daemon: &Daemon, connection: &Connection, why_not: Option<String>) {
    if !connection.has_tried_nothing.swap(false, Ordering::Relaxed) {
        return;
    }
    // What we have ended is paid for already, or nobody's fault.
    if connection.why_ended().is_none() {
        daemon.offend(connection.peer.ip(), Offence::NoLogin);
    }
    // Not for those who read failed logins from the log: nobody has tried one.
    let level = if why_not.is_some() { Level::Info } else { Level::Warn };
    let sentence = why_not.unwrap_or_else(|| {
        connection.why_ended().map_or_else(|| "the client left without a login".into(), String::from)
    });
    let activity = Proof::password().activity(connection, sender::CONNECTION_FAILED, "");
    daemon.activity.put(Activity { method: None, level, ..failed(activity, Outcome::Refused, &sentence) });
}

/// How a connection has tried to log in.
#[derive(Debug, Default)]
pub struct Attempts {
    /// By what it was let in.
    pub accepted: Option<Proof>,
    /// Whether a failure was recorded.
    pub has_failed: bool,
    /// What was offered and let nobody in: for which name, what, and why not. It is recorded if nothing else comes.
    pub unknown: Option<(String, Proof, String)>,
    logged_in: Option<(String, Instant)>,
}

impl Attempts {
    /// Records that somebody is logged in, once the client has been told.
    pub fn record_login(&mut self, daemon: &Daemon, connection: &Connection) {
        let (Some(proof), Some(identity)) = (self.accepted.take(), connection.identity()) else { return };
        self.logged_in = Some((identity.name().to_owned(), Instant::now()));
        let activity = proof.activity(connection, sender::LOGIN, identity.name());
        let client_version = Some(connection.client());
        daemon.activity.put(Activity { client_version, ..activity });
    }

    /// Records the end of the connection: of a session, or that nobody logged in.
    pub fn record_end(&mut self, daemon: &Daemon, connection: &Connection) {
        let reason = connection.why_ended().map(String::from);
        if let Some((name, since)) = self.logged_in.take() {
            let activity = Proof::password().activity(connection, sender::LOGOUT, &name);
            let level = if reason.is_some() { Level::Warn } else { Level::Info };
            let elapsed_ms = Some(since.elapsed().as_millis() as u64);
            daemon.activity.put(Activity { method: None, level, elapsed_ms, error: reason, ..activity });
        } else if connection.identity().is_some() {
            // Let in, and gone before it was told.
        } else if let (Some((name, proof, why)), false) = (self.unknown.take(), self.has_failed) {
            if reason.is_none() {
                daemon.offend(connection.peer.ip(), Offence::NoLogin);
            }
            daemon.activity.put(proof.failed(connection, &name, &reason.unwrap_or(why)));
        } else if !self.has_failed && connection.has_greeted.load(Ordering::Relaxed) {
            connection.has_tried_nothing.store(true, Ordering::Relaxed);
            // Otherwise the listener does it, who knows what went wrong.
            if reason.is_some() {
                record_stranger(daemon, connection, None);
            }
        }
    }
}
