//! Users with keys, and the requests that they send one by one: for tests that must decide each request themselves.

use std::sync::Arc;

use pair::client::{Client, ClientError, Login, PrivateKey, connect};
use pair::secret::PairSecret;

use crate::machine::{Machine, MachineBuilder};

/// Somebody with a key.
pub struct User {
    name: String,
    key: Arc<PrivateKey>,
}

impl User {
    /// A new key.
    pub fn new(name: &str) -> User {
        let secret = PairSecret::generate().expect("random numbers");
        User { name: name.to_owned(), key: Arc::new(pair::keys::peer_key(&secret).expect("a key")) }
    }

    /// A line of users.yaml; `more` are further fields.
    pub fn line(&self, more: &str) -> String {
        let key = self.key.public_key().to_openssh().expect("a public key");
        format!("  {0}: {{name: {0}, public_keys: [\"{key}\"]{more}}}\n", self.name)
    }

    /// A new connection.
    pub async fn connect(&self, machine: &Machine) -> Client {
        let login = Login::with_key(&self.name, self.key.clone());
        connect(&machine.address().to_string(), login, Arc::new(|_| Ok(()))).await.expect("the login works")
    }
}

/// A master with these users and an admin.
pub fn master_with(users: &[(&User, &str)]) -> MachineBuilder {
    let lines: String = users.iter().map(|(user, more)| user.line(more)).collect();
    Machine::master().users(&format!("users:\n  A: {{name: admin, password: secret, admin: true}}\n{lines}"))
}

/// What is read under a path, whole.
pub async fn read_all(client: &Client, path: &[u8]) -> Result<Vec<u8>, ClientError> {
    let handle = client.open(path, pair::wire::open_flag::READ, None).await?;
    let mut content = Vec::new();
    while let Some(part) = client.read(&handle, content.len() as u64, 200_000).await? {
        content.extend_from_slice(&part);
    }
    client.close(handle).await?;
    Ok(content)
}
