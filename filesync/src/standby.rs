//! Where a standby is, and how it is told from a stranger.
//!
//! Whoever shows another host key than expected gets nothing, not even our key's signature. Each way in which connecting
//! can fail has one sentence that names the standby and what to do.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pair::client::{ConnectError, HostKeyCheck, Login, PublicKey, connect};
use pair::control::{Answer, Order, ask};
use pair::epoch::Epoch;
use pair::exit::usage;
use pair::extension::Hello;
use pair::keys::fingerprint;
use pair::node::{Node, Phase, Role};
use pair::secret::PairSecret;

pub use pair::peer::Failure;

use crate::config::Config;
use crate::remote::Remote;
use crate::store::Store;

/// How long sftpd may take to say what this machine says of itself.
const ASKING_MAX: Duration = Duration::from_secs(2);

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

/// This machine, as its standbys know it.
pub struct Identity {
    peer: pair::peer::Identity,
    node: Node,
    state: PathBuf,
}

impl Identity {
    /// Derives it from the pair secret and this machine's state.
    pub fn new(secret: &PairSecret, state: &std::path::Path, node: Node) -> anyhow::Result<Identity> {
        Ok(Identity { peer: pair::peer::Identity::new(secret, state)?, node, state: state.to_owned() })
    }

    /// This machine's id.
    pub fn node(&self) -> &str {
        &self.node.node
    }

    /// The pair's public name.
    pub fn pair(&self) -> String {
        self.peer.pair()
    }

    /// The epoch in which this machine is the master.
    pub fn epoch(&self) -> Option<&Epoch> {
        self.node.epoch.as_ref()
    }

    /// What this machine says of itself: what sftpd does, or where that is silent, what node.yaml does.
    async fn hello(&self, stream: String) -> Hello {
        let asked = tokio::time::timeout(ASKING_MAX, ask(&self.state, &Order::Hello {})).await;
        let (node, version) = (self.node.node.clone(), env!("CARGO_PKG_VERSION").into());
        match asked {
            // A sftpd that has another role by now lets filesync end soon.
            Ok(Ok(Answer::Hello(hello))) => Hello { stream, ..*hello },
            _ => Hello {
                pair: self.pair(),
                node,
                role: self.node.role,
                version,
                epoch: self.node.epoch.clone(),
                stream,
                ..Hello::default()
            },
        }
    }
}

fn of(failure: Failure, name: &str) -> Failure {
    match failure {
        Failure::Away(reason) => Failure::Away(format!("standby {name} {reason}")),
        Failure::Wrong(reason) => Failure::Wrong(format!("standby {name} {reason}")),
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
    /// By this the standby tells connections of now from those of before.
    pub stream: Arc<Mutex<String>>,
}

impl Standby {
    /// Connects for the first time, or after the connection was lost: what is still on its way on others is refused from then on. Else it might
    /// undo what comes now.
    pub async fn connect_anew(&self) -> Result<Remote, Failure> {
        let drawn = pair::epoch::draw().map_err(|error| Failure::Wrong(format!("{error:#}")))?;
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = drawn;
        self.connect().await
    }

    /// Connects, and makes sure that it is the right one and ready.
    pub async fn connect(&self) -> Result<Remote, Failure> {
        let name = &self.address.name;
        match &self.address.plain {
            Some((user, folder)) => self.connect_plain(user, folder).await,
            None => self.connect_pair().await,
        }
        .map_err(|failure| of(failure, name))
    }

    async fn connect_pair(&self) -> Result<Remote, Failure> {
        let client = pair::peer::connect(&self.identity.peer, &self.address.host).await?;
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let theirs = pair::peer::say_hello(&client, &self.identity.hello(stream).await).await?;
        if theirs.phase == Some(Phase::Returning) {
            return Err(Failure::Away("was the master and sets aside what only it has".into()));
        }
        if theirs.role == Role::Master {
            return Err("runs as master, too: sftpd status says on both machines what to do".into());
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
        let login = Login::with_key(user, self.identity.peer.key());
        let client = connect(&self.address.host, login, check).await.map_err(|error| match error {
            ConnectError::Refused => {
                let line = "put the line that \"filesync key\" prints into";
                format!("does not accept this pair's key: {line} {user}'s authorized_keys").into()
            }
            error => Failure::from(error),
        })?;
        let shown = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (None, Some(shown)) = (pinned, shown) {
            let line = shown.to_openssh().map_err(|error| format!("shows a host key that cannot be kept: {error}"))?;
            store().pin_host_key(&line).map_err(broken)?;
            tracing::info!("standby {}: host key {} is pinned from now on", self.address.name, fingerprint(&shown));
        }
        let remote = Remote::new(client, folder, false);
        remote.claim(&self.identity.pair()).await?;
        remote.prepare().await.map_err(|error| format!("cannot take files: {error}"))?;
        Ok(remote)
    }
}

/// The standbys of the settings, or the one that is named.
pub fn named(config: &Config, name: Option<&str>) -> anyhow::Result<Vec<Standby>> {
    config.check()?;
    let node =
        pair::node::read(&config.state)?.ok_or_else(|| usage("this machine has no node.yaml: start sftpd first"))?;
    let identity = Arc::new(Identity::new(&config.secret()?, &config.state, node)?);
    let named = |address: &Address| name.is_none_or(|name| address.name == name);
    let standbys = config.addresses()?.into_iter().filter(named).map(|address| {
        let store = Arc::new(Mutex::new(Store::open(&config.store(), &address.name)?));
        Ok(Standby { address, identity: identity.clone(), store, stream: Arc::default() })
    });
    let standbys = standbys.collect::<anyhow::Result<Vec<_>>>()?;
    match (standbys.is_empty(), name) {
        (true, Some(name)) => Err(usage(format!("standbys: there is no {name}"))),
        (true, None) => Err(usage("no standby is configured: set standbys to host:port")),
        (false, _) => Ok(standbys),
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
