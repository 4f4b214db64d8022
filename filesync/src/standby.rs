//! Where a standby is, and how it is told from a stranger.
//!
//! Whoever shows another host key than expected gets nothing, not even our key's signature. Each way in which connecting
//! can fail has one sentence that names the standby and what to do.

use std::sync::{Arc, Mutex, PoisonError};

use pair::client::{ConnectError, HostKeyCheck, Login, PrivateKey, PublicKey, connect};
use pair::exit::usage;
use pair::extension::{HELLO, Hello};
use pair::keys::{PEER_USER, derived_host_keys, fingerprint, peer_key, stored_host_keys};
use pair::node::{Node, Role};
use pair::secret::PairSecret;

use crate::remote::Remote;
use crate::store::Store;

/// A standby's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// As it was written: the standby's name everywhere.
    pub name: String,
    /// `host:port`.
    pub host: String,
    /// The user and folder of a plain SFTP server; `None` for a machine of the pair.
    pub plain: Option<(String, Vec<u8>)>,
}

impl Address {
    /// Reads `host:port` or `user@host:port/path`.
    pub fn parse(text: &str) -> anyhow::Result<Address> {
        let refused = |reason: &str| usage(format!("standbys: \"{text}\" {reason}"));
        let (user, rest) = match text.split_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, text),
        };
        let (host, folder) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let (_, port) = host.rsplit_once(':').ok_or_else(|| refused("has no port: write host:port"))?;
        if port.parse::<u16>().ok().filter(|port| *port > 0).is_none() {
            return Err(refused("has no port: write host:port"));
        }
        let plain = match user {
            Some("") => return Err(refused("has no user before the @")),
            None if !folder.is_empty() => return Err(refused("has a path, which only user@host:port/path can have")),
            None => None,
            Some(user) => {
                let folder = folder.trim_end_matches('/');
                Some((user.to_owned(), if folder.is_empty() { b".".to_vec() } else { folder.as_bytes().to_vec() }))
            }
        };
        Ok(Address { name: text.to_owned(), host: host.to_owned(), plain })
    }
}

/// What this machine shows to others, and knows its pair by.
pub struct Identity {
    pair: String,
    node: Node,
    key: Arc<PrivateKey>,
    host_keys: Vec<PublicKey>,
}

impl Identity {
    /// This machine's id.
    pub fn node(&self) -> &str {
        &self.node.node
    }

    /// Derives it from the pair secret and this machine's state.
    pub fn new(secret: &PairSecret, state: &std::path::Path, node: Node) -> anyhow::Result<Identity> {
        let mut host_keys: Vec<PublicKey> =
            derived_host_keys(secret)?.iter().map(|key| key.public_key().clone()).collect();
        for own in stored_host_keys(state)? {
            if host_keys.iter().all(|known| known.key_data() != own.key_data()) {
                host_keys.push(own);
            }
        }
        Ok(Identity { pair: secret.pair_id(), node, key: Arc::new(peer_key(secret)?), host_keys })
    }

    /// The pair's public name.
    pub fn pair(&self) -> &str {
        &self.pair
    }
}

/// Why there is no connection to a standby; a sentence that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is away: the network, or the machine. Nothing to do but wait.
    Away(String),
    /// It, or this machine, is not set up right: somebody must change something.
    Wrong(String),
}

impl Failure {
    /// The sentence.
    pub fn sentence(&self) -> &str {
        let (Failure::Away(sentence) | Failure::Wrong(sentence)) = self;
        sentence
    }

    fn of(self, name: &str) -> Failure {
        match self {
            Failure::Away(reason) => Failure::Away(format!("standby {name} {reason}")),
            Failure::Wrong(reason) => Failure::Wrong(format!("standby {name} {reason}")),
        }
    }
}

impl From<String> for Failure {
    fn from(sentence: String) -> Failure {
        Failure::Wrong(sentence)
    }
}

impl From<&str> for Failure {
    fn from(sentence: &str) -> Failure {
        Failure::Wrong(sentence.to_owned())
    }
}

/// A standby and how to reach it.
#[derive(Clone)]
pub struct Standby {
    /// Its address.
    pub address: Address,
    /// Who we are.
    pub identity: Arc<Identity>,
    /// Where the host keys of plain servers are pinned.
    pub store: Arc<Mutex<Store>>,
}

impl Standby {
    /// Connects, and makes sure that it is the right one and ready.
    pub async fn connect(&self) -> Result<Remote, Failure> {
        let name = &self.address.name;
        match &self.address.plain {
            Some((user, folder)) => self.connect_plain(user, folder).await,
            None => self.connect_pair().await,
        }
        .map_err(|failure| failure.of(name))
    }

    async fn connect_pair(&self) -> Result<Remote, Failure> {
        let expected = self.identity.host_keys.clone();
        let check: HostKeyCheck = Arc::new(move |shown: &PublicKey| {
            if expected.iter().any(|known| known.key_data() == shown.key_data()) {
                return Ok(());
            }
            let expected: Vec<String> = expected.iter().map(fingerprint).collect();
            Err(format!(
                "shows host key {}, expected {}: it has another PAIR_SECRET, or own host keys that are not on this machine",
                fingerprint(shown),
                expected.join(" or ")
            ))
        });
        let login = Login::with_key(PEER_USER, self.identity.key.clone());
        let client = connect(&self.address.host, login, check).await.map_err(|error| match error {
            ConnectError::Refused => {
                "does not accept this pair's key: set the same PAIR_SECRET on both machines".into()
            }
            error => in_words(error),
        })?;
        if !client.has(HELLO) {
            return Err("is no sftpd of this pair: write a plain SFTP server as user@host:port/path".into());
        }
        let (us, node) = (&self.identity, &self.identity.node);
        let version = env!("CARGO_PKG_VERSION").into();
        let ours =
            Hello { pair: us.pair.clone(), node: node.node.clone(), role: node.role, version, ..Hello::default() };
        let body = serde_json::to_vec(&ours).map_err(|error| error.to_string())?;
        let answer = client.extended(HELLO, &body).await.map_err(|error| format!("refuses this machine: {error}"))?;
        // In a string on the wire or bare: both are understood.
        let json = pair::wire::Reader(&answer).bytes().ok().filter(|json| json.starts_with(b"{")).unwrap_or(&answer);
        let theirs: Hello =
            serde_json::from_slice(json).map_err(|error| format!("says hello in other words: {error}"))?;
        if theirs.node == node.node {
            return Err("is this machine itself: write the other machine's address into standbys".into());
        }
        if theirs.pair != us.pair {
            return Err(format!(
                "belongs to pair {}, this machine to pair {}: set the same PAIR_SECRET on both",
                theirs.pair, us.pair
            )
            .into());
        }
        if theirs.role == Role::Master {
            return Err("runs as master too: one of the two machines must be a standby (role: standby)".into());
        }
        let remote = Remote::new(client, b"", true);
        remote.prepare().await.map_err(|error| format!("cannot take files: {error}"))?;
        Ok(remote)
    }

    async fn connect_plain(&self, user: &str, folder: &[u8]) -> Result<Remote, Failure> {
        let store = || self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let broken = |error: rusqlite::Error| format!("cannot be looked up in the store: {error}");
        let pinned = store().host_key().map_err(broken)?;
        let pinned = pinned.map(|text| PublicKey::from_openssh(&text)).transpose();
        let pinned = pinned.map_err(|error| format!("has a pinned host key that cannot be read: {error}"))?;
        let seen = Arc::new(Mutex::new(None));
        let check: HostKeyCheck = {
            let (pinned, seen) = (pinned.clone(), seen.clone());
            Arc::new(move |shown: &PublicKey| {
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown.clone());
                match pinned.as_ref().filter(|pinned| pinned.key_data() != shown.key_data()) {
                    Some(pinned) => Err(format!(
                        "shows host key {}, but {} is pinned since the first contact: if the change is meant, give it a \
                         new name in standbys or remove filesync.db",
                        fingerprint(shown),
                        fingerprint(pinned)
                    )),
                    None => Ok(()),
                }
            })
        };
        let login = Login::with_key(user, self.identity.key.clone());
        let client = connect(&self.address.host, login, check).await.map_err(|error| match error {
            ConnectError::Refused => {
                let line = "put the line that \"filesync key\" prints into";
                format!("does not accept this pair's key: {line} {user}'s authorized_keys").into()
            }
            error => in_words(error),
        })?;
        let shown = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (None, Some(shown)) = (pinned, shown) {
            let line = shown.to_openssh().map_err(|error| format!("shows a host key that cannot be kept: {error}"))?;
            store().pin_host_key(&line).map_err(broken)?;
            tracing::info!("standby {}: host key {} is pinned from now on", self.address.name, fingerprint(&shown));
        }
        let remote = Remote::new(client, folder, false);
        remote.claim(&self.identity.pair).await?;
        remote.prepare().await.map_err(|error| format!("cannot take files: {error}"))?;
        Ok(remote)
    }
}

fn in_words(error: ConnectError) -> Failure {
    match error {
        ConnectError::Unreachable(reason) => Failure::Away(format!("cannot be reached: {reason}")),
        ConnectError::HostKey(sentence) => Failure::Wrong(sentence),
        error => Failure::Wrong(format!("lets us in but offers no SFTP: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused_with_advice() {
        let plain = |text: &str| Address::parse(text).unwrap().plain;
        assert_eq!(Address::parse("10.0.0.2:2222").unwrap().host, "10.0.0.2:2222");
        assert_eq!(Address::parse("[::1]:2222").unwrap().host, "[::1]:2222");
        assert_eq!(plain("10.0.0.2:2222"), None);
        assert_eq!(plain("me@h:22/a/b/"), Some(("me".into(), b"/a/b".to_vec())));
        assert_eq!(plain("me@h:22"), Some(("me".into(), b".".to_vec())));
        for bad in ["host", "host:", "host:0", "host:99999", "host:ssh", "@h:22", "host:22/path"] {
            let error = Address::parse(bad).unwrap_err();
            assert!(pair::exit::code(&error) == 2 && error.to_string().contains(bad), "{error}");
        }
    }
}
