//! How the machines of a pair connect to each other and say hello.
//!
//! Whoever shows another host key than expected gets nothing, not even our key's signature. Each way in which it can fail has one
//! sentence that says what to do. What a hello means for one's role, sftpd decides.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use crate::client::{
    Client, ClientError, ConnectError, HostKeyCheck, Login, PrivateKey, PublicKey, connect as connect_client,
};
use crate::extension::{DIGEST, HELLO, Hello};
use crate::keys::{PEER_USER, derived_host_keys, fingerprint, peer_key, stored_host_keys};
use crate::secret::PairSecret;
use crate::wire::{Malformed, Reader, put_bytes};

/// What a machine shows to the other, and knows it by.
pub struct Identity {
    secret: PairSecret,
    state: PathBuf,
    key: Arc<PrivateKey>,
}

impl Identity {
    /// Derives it from the pair secret and this machine's state.
    pub fn new(secret: &PairSecret, state: &Path) -> anyhow::Result<Identity> {
        Ok(Identity { secret: secret.clone(), state: state.to_owned(), key: Arc::new(peer_key(secret)?) })
    }

    /// The pair's public name.
    pub fn pair(&self) -> String {
        self.secret.pair_id()
    }

    /// The key by which it logs in.
    pub fn key(&self) -> Arc<PrivateKey> {
        self.key.clone()
    }

    /// The host keys that the other may show: those of the pair secret, and this machine's own.
    fn host_keys(&self) -> anyhow::Result<Vec<PublicKey>> {
        let derived = derived_host_keys(&self.secret)?;
        let mut keys: Vec<PublicKey> = derived.iter().map(|key| key.public_key().clone()).collect();
        for own in stored_host_keys(&self.state)? {
            if keys.iter().all(|known| known.key_data() != own.key_data()) {
                keys.push(own);
            }
        }
        Ok(keys)
    }
}

/// Why there is no connection: the rest of a sentence that begins with the other machine's name.
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

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Failure {
        match error {
            ConnectError::Unreachable(reason) => Failure::Away(format!("cannot be reached: {reason}")),
            ConnectError::HostKey(sentence) => Failure::Wrong(sentence),
            error => Failure::Wrong(format!("lets us in but offers no SFTP: {error}")),
        }
    }
}

/// Connects to the other machine at `host:port`, which must be of this pair.
pub async fn connect(us: &Identity, host: &str) -> Result<Client, Failure> {
    let expected = us.host_keys().map_err(|error| format!("cannot be told from a stranger: {error:#}"))?;
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
    let login = Login::with_key(PEER_USER, us.key.clone());
    let client = connect_client(host, login, check).await.map_err(|error| match error {
        ConnectError::Refused => "does not accept this pair's key: set the same PAIR_SECRET on both machines".into(),
        error => Failure::from(error),
    })?;
    if !client.has(HELLO) {
        return Err("is no sftpd of this pair: write a plain SFTP server as user@host:port/path".into());
    }
    Ok(client)
}

/// Says hello and gives what the other says, who is another machine of the same pair.
pub async fn say_hello(client: &Client, ours: &Hello) -> Result<Hello, Failure> {
    let body = serde_json::to_vec(ours).map_err(|error| error.to_string())?;
    let answer = client.extended(HELLO, &body).await.map_err(|error| match error.is_lost() {
        true => Failure::Away(format!("cannot be reached: {error}")),
        false => Failure::Wrong(format!("refuses this machine: {error}")),
    })?;
    // In a string on the wire or bare: both are understood.
    let json = Reader(&answer).bytes().ok().filter(|json| json.starts_with(b"{")).unwrap_or(&answer);
    let theirs: Hello = serde_json::from_slice(json).map_err(|error| format!("says hello in other words: {error}"))?;
    refuse_strangers(ours, &theirs)?;
    Ok(theirs)
}

/// Asks a machine of the pair for the BLAKE3 hash of a file's beginning (all of it where `length` is 0), and of how many bytes it is.
pub async fn digest(client: &Client, path: &[u8], length: u64) -> Result<([u8; 32], u64), ClientError> {
    let mut body = BytesMut::new();
    put_bytes(&mut body, path);
    body.put_u64(0);
    body.put_u64(length);
    let answer = client.extended(DIGEST, &body).await?;
    let (hash, count) = answer.split_first_chunk::<32>().ok_or(Malformed)?;
    Ok((*hash, Reader(count).u64()?))
}

/// Refuses a machine of another pair, this very machine, and one that has this machine's identity.
pub fn refuse_strangers(ours: &Hello, theirs: &Hello) -> Result<(), String> {
    if theirs.pair != ours.pair {
        return Err(format!(
            "belongs to pair {}, this machine to pair {}: set the same PAIR_SECRET on both",
            theirs.pair, ours.pair
        ));
    }
    if theirs.node != ours.node {
        return Ok(());
    }
    if theirs.instance == ours.instance || theirs.instance.is_empty() || ours.instance.is_empty() {
        return Err("is this machine itself: write the other machine's address there".into());
    }
    Err("has this machine's identity: its state folder is a copy of this one's. Stop it, empty its state folder and start it anew".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_copies_and_oneself_are_told_apart() {
        let hello = |pair: &str, node: &str, instance: &str| Hello {
            pair: pair.into(),
            node: node.into(),
            instance: instance.into(),
            ..Hello::default()
        };
        let ours = hello("p", "a", "1");
        let told = |theirs: Hello| refuse_strangers(&ours, &theirs).err().unwrap_or_default();
        assert_eq!(told(hello("p", "b", "2")), "");
        assert!(told(hello("q", "b", "2")).contains("the same PAIR_SECRET"));
        assert!(told(hello("p", "a", "1")).contains("this machine itself"));
        assert!(told(hello("p", "a", "2")).contains("state folder is a copy"));
    }
}
