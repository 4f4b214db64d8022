//! The account that all writers share.

use std::net::SocketAddr;
use std::sync::Arc;

use pair::client::{Client, ConnectError, HostKeyCheck, Login, PrivateKey};
use pair::secret::PairSecret;

/// Its name.
pub const ACCOUNT: &str = "load";

/// The account's login.
#[derive(Clone)]
pub struct Account(Arc<PrivateKey>);

impl Account {
    /// Makes it.
    pub fn with_new_key() -> Account {
        let secret = PairSecret::generate().expect("random numbers");
        let keys = pair::keys::derived_host_keys(&secret).expect("a key");
        Account(Arc::new(keys.into_iter().next().expect("a key")))
    }

    /// A users.yaml in which it is.
    pub fn users(&self) -> String {
        let key = self.0.public_key().to_openssh().expect("a key can be shown");
        format!("{}  2:\n    name: \"{ACCOUNT}\"\n    public_keys: [\"{key}\"]\n", crate::SEED)
    }

    /// Logs in.
    pub async fn connect(&self, address: SocketAddr) -> Client {
        self.try_to_connect(address).await.expect("the account can log in")
    }

    /// Logs in if that works.
    pub async fn try_to_connect(&self, address: SocketAddr) -> Result<Client, ConnectError> {
        let check: HostKeyCheck = Arc::new(|_| Ok(()));
        let login = Login::with_key(ACCOUNT, self.0.clone());
        pair::client::connect(&address.to_string(), login, check).await
    }
}
