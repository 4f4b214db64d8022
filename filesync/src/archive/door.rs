//! The way in: which machine is the master, whether it is the right one, and whether it lets this agent in.
//!
//! Always holds: who shows an unknown host key gets no password. A standby is never asked to take a file: the next address is tried.

use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pair::client::{Client, ClientError, ConnectError, HostKeyCheck, Login, PublicKey, connect, is_known_host};
use pair::extension::{WHOAMI, Whoami};
use pair::keys::fingerprint;
use pair::node::Role;
use pair::wire::{Code, open_flag};

use super::config::Config;

/// A path that no agent has: what OPEN says of it tells whether the account may read at all.
const PROBE: &[u8] = b"/.may this account read?";

/// A connection to the master.
pub struct Session {
    /// The connection.
    pub client: Client,
    /// The address that answered.
    pub address: String,
    /// The master's epoch, where the server tells one.
    pub epoch: Option<String>,
    /// Whether the account can only add: then removing takes nothing but an upload that is not finished.
    pub adds_only: bool,
    /// Whether the server tells hashes of what has arrived, as far as is known.
    pub tells_hashes: AtomicBool,
    /// Whether the account may continue files that are complete, as far as is known.
    pub continues: AtomicBool,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoWay {
    /// For people.
    pub sentence: String,
    /// Whether a person must change something before a try can work.
    pub is_refused: bool,
}

/// How the master is found.
pub struct Door {
    servers: Vec<String>,
    login: Login,
    host_keys: Vec<String>,
    known_hosts: PathBuf,
    trust_first: bool,
    /// Host keys of first contacts, by address.
    remembered: Mutex<Vec<String>>,
}

impl Door {
    /// By the settings; `remembered` are the fingerprints of first contacts.
    pub fn new(config: &Config, remembered: Vec<String>) -> anyhow::Result<Door> {
        Ok(Door {
            servers: config.servers()?,
            login: config.login()?,
            host_keys: config.host_keys.clone(),
            known_hosts: config.known_hosts.clone(),
            trust_first: config.trust_first,
            remembered: Mutex::new(remembered),
        })
    }

    /// The fingerprints of first contacts.
    pub fn remembered(&self) -> Vec<String> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connects to the machine that is the master; `first` is tried before the others.
    ///
    /// # Errors
    /// What each of them said.
    pub async fn enter(&self, first: Option<&str>) -> Result<Session, NoWay> {
        let mut servers: Vec<&String> = self.servers.iter().collect();
        servers.sort_by_key(|server| Some(server.as_str()) != first);
        let (mut said, mut is_refused) = (Vec::new(), false);
        for server in servers {
            match self.try_one(server).await {
                Ok(session) => return Ok(session),
                Err(NoWay { sentence, is_refused: refused }) => {
                    said.push(format!("{server} {sentence}"));
                    is_refused |= refused;
                }
            }
        }
        Err(NoWay { sentence: said.join("; "), is_refused })
    }

    async fn try_one(&self, server: &str) -> Result<Session, NoWay> {
        let away = |sentence: String| NoWay { sentence, is_refused: false };
        let seen = Arc::new(Mutex::new(None));
        let client = connect(server, self.login.clone(), self.check(server, seen.clone())).await.map_err(|error| {
            match error {
                ConnectError::Refused => NoWay {
                    sentence: format!(
                        "does not let {} in: the password or key is wrong, or the account was removed or disabled. It is tried again \
                         seldom, because who fails often is banned",
                        self.login.user
                    ),
                    is_refused: true,
                },
                ConnectError::HostKey(sentence) => NoWay { sentence, is_refused: true },
                error => away(format!("does not answer: {error}")),
            }
        })?;
        if let Some(shown) = seen.lock().unwrap_or_else(PoisonError::into_inner).take() {
            tracing::info!("{server}: host key {shown} is remembered from now on");
            self.remembered.lock().unwrap_or_else(PoisonError::into_inner).push(shown);
        }
        let mut epoch = None;
        if client.has(WHOAMI) {
            let told = client.extended(WHOAMI, &[]).await.map_err(|error| away(error.to_string()))?;
            let whoami: Whoami = serde_json::from_slice(&told)
                .map_err(|error| away(format!("says of itself what cannot be read: {error}")))?;
            if whoami.role != Role::Master {
                return Err(away("is a standby".into()));
            }
            epoch = whoami.epoch;
        }
        let probed = client.open(PROBE, open_flag::READ, None).await;
        let adds_only = matches!(probed, Err(ClientError::Status { code: Code::PermissionDenied, .. }));
        let tells_hashes = AtomicBool::new(client.has("check-file-name"));
        let continues = AtomicBool::new(true);
        Ok(Session { client, address: server.to_owned(), epoch, adds_only, tells_hashes, continues })
    }

    /// Decides about a host key. One that is new, where that may be, is left in `seen`.
    fn check(&self, server: &str, seen: Arc<Mutex<Option<String>>>) -> HostKeyCheck {
        let (known, file) = ([self.host_keys.clone(), self.remembered()].concat(), self.known_hosts.clone());
        let may_remember = self.trust_first && self.remembered().is_empty() && self.host_keys.is_empty();
        let (host, port) = server.rsplit_once(':').unwrap_or((server, "22"));
        let (host, port) = (host.trim_matches(['[', ']']).to_owned(), port.parse().unwrap_or(22));
        Arc::new(move |key: &PublicKey| {
            let shown = fingerprint(key);
            if known.contains(&shown) {
                return Ok(());
            }
            if !file.as_os_str().is_empty() && is_known_host(&file, &host, port, key)? {
                return Ok(());
            }
            if may_remember {
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
                return Ok(());
            }
            Err(format!(
                "shows the host key {shown}, which is not known here: nothing was sent. If it is the pair's (sftpd keys prints it), add it to \
                 host_keys"
            ))
        })
    }
}

impl Session {
    /// Whether the server still takes files: the sentence why not.
    pub async fn is_still_master(&self) -> Result<(), String> {
        if self.client.is_lost() {
            return Err("the connection is gone".into());
        }
        if !self.client.has(WHOAMI) {
            return Ok(());
        }
        let told = self.client.extended(WHOAMI, &[]).await.map_err(|error| error.to_string())?;
        match serde_json::from_slice::<Whoami>(&told) {
            Ok(Whoami { role: Role::Master, .. }) => Ok(()),
            _ => Err("it is a standby now".into()),
        }
    }

    /// Whether the account may continue complete files, as far as is known.
    pub fn continues(&self) -> bool {
        self.continues.load(Ordering::Relaxed)
    }
}

/// Whether an address can be looked up at all: for `check`, a clearer word than a failed connection.
pub fn can_be_looked_up(server: &str) -> Result<(), String> {
    server.to_socket_addrs().map(drop).map_err(|error| format!("{server} cannot be looked up: {error}"))
}
