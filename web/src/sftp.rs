//! A doorkeeper that believes an SFTP server of the pair: who logs in there and is an administrator there may come in.
//!
//! So no web page holds hashes, and an account that was removed or disabled gets in nowhere any more; a session that it has goes on until
//! its end. Several servers are asked
//! one after the other, until one answers.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use pair::client::{Client, ConnectError, Login};
use pair::extension::{WHOAMI, Whoami};
use tokio::time::timeout;

use crate::doorkeeper::{Admission, Doorkeeper, Password, Refusal};

/// How long a server may take to answer who somebody is, once it has let him in.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Logs somebody in at a server.
pub type Connect = Arc<dyn Fn(Login) -> BoxFuture<'static, Result<Client, ConnectError>> + Send + Sync>;

/// A server that is asked.
#[derive(Clone)]
pub struct Gate {
    /// What the settings call it.
    pub name: String,
    /// How it is reached. The program looks at its host key.
    pub connect: Connect,
}

/// Asks SFTP servers.
pub struct SftpDoorkeeper {
    gates: Vec<Gate>,
}

impl SftpDoorkeeper {
    /// Asks these, in this order.
    pub fn new(gates: Vec<Gate>) -> SftpDoorkeeper {
        SftpDoorkeeper { gates }
    }

    async fn ask_all(&self, name: &str, password: &Password) -> Result<Admission, Refusal> {
        let mut silent = Vec::new();
        for gate in &self.gates {
            match ask(gate, name, password).await {
                Err(Refusal::Unknown(sentence)) => silent.push(sentence),
                decided => return decided,
            }
        }
        if silent.is_empty() {
            silent.push("No server is set by which a login could be checked.".to_owned());
        }
        Err(Refusal::Unknown(silent.join(" ")))
    }
}

impl Doorkeeper for SftpDoorkeeper {
    fn admit<'a>(&'a self, name: &'a str, password: &'a Password) -> BoxFuture<'a, Result<Admission, Refusal>> {
        Box::pin(self.ask_all(name, password))
    }
}

async fn ask(gate: &Gate, name: &str, password: &Password) -> Result<Admission, Refusal> {
    let login = Login::with_password(name, password.as_str());
    let client = (gate.connect)(login).await.map_err(|error| match error {
        ConnectError::Refused => Refusal::Wrong,
        error => Refusal::Unknown(format!("{} could not be asked: {error}.", gate.name)),
    })?;
    let answered = timeout(ANSWER_TIME_MAX, whoami(&client)).await;
    let whoami = answered
        .map_err(|_| Refusal::Unknown(format!("{} did not say in time who you are.", gate.name)))?
        .map_err(|reason| Refusal::Unknown(format!("{} does not say who you are: {reason}.", gate.name)))?;
    if whoami.admin { Ok(Admission { account: whoami.account }) } else { Err(Refusal::NoAdmin) }
}

async fn whoami(client: &Client) -> Result<Whoami, String> {
    let body = client.extended(WHOAMI, &[]).await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(name: &str, error: ConnectError) -> Gate {
        let connect: Connect = Arc::new(move |_| {
            let error = error.clone();
            Box::pin(async move { Err(error) })
        });
        Gate { name: name.to_owned(), connect }
    }

    async fn refusal(gates: Vec<Gate>) -> Refusal {
        let password = Password::new("secret".to_owned());
        SftpDoorkeeper::new(gates).admit("admin", &password).await.unwrap_err()
    }

    #[tokio::test]
    async fn the_first_server_that_answers_decides() {
        let away = || gate("first", ConnectError::Unreachable("nobody listens".into()));
        let refusing = || gate("second", ConnectError::Refused);
        assert_eq!(refusal(vec![away(), refusing()]).await, Refusal::Wrong);
        assert_eq!(refusal(vec![refusing(), away()]).await, Refusal::Wrong);
    }

    #[tokio::test]
    async fn where_no_server_answers_each_is_named_with_the_reason() {
        let away = gate("first", ConnectError::Unreachable("nobody listens".into()));
        let other = gate("second", ConnectError::HostKey("its host key has changed".into()));
        let Refusal::Unknown(sentence) = refusal(vec![away, other]).await else { panic!("it was decided") };
        let expected = "first could not be asked: nobody listens. second could not be asked: its host key has changed.";
        assert_eq!(sentence, expected);
        assert!(matches!(refusal(Vec::new()).await, Refusal::Unknown(_)));
    }
}
