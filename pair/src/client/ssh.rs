//! The SSH connection below an SFTP client: reach, recognise, log in, open the subsystem.
//!
//! Each stage has a time limit and an error of its own, because the caller says something different for each. Keepalives
//! notice a peer that fell silent.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use russh::cipher;
use russh::client::{AuthResult, Handle, Handler};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Client, ClientError};

/// How long reaching, recognising and logging in may take, each.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A silent peer is asked for a sign of life this often, and given up after [`KEEPALIVES_MISSED_MAX`].
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Signs of life that may be missing.
pub const KEEPALIVES_MISSED_MAX: usize = 3;
const WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Of SSH; russh warns about more.
const PACKET_BYTES: u32 = 65535;

/// Who logs in.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user name.
    pub user: String,
    /// By what.
    pub proof: Proof,
}

/// By what somebody logs in.
#[derive(Clone)]
pub enum Proof {
    /// A key.
    Key(Arc<PrivateKey>),
    /// A password.
    Password(String),
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Proof::Key(_) => "a key",
            Proof::Password(_) => "a password",
        })
    }
}

impl Login {
    /// A login by key.
    pub fn with_key(user: impl Into<String>, key: Arc<PrivateKey>) -> Login {
        Login { user: user.into(), proof: Proof::Key(key) }
    }

    /// A login by password.
    pub fn with_password(user: impl Into<String>, password: impl Into<String>) -> Login {
        Login { user: user.into(), proof: Proof::Password(password.into()) }
    }
}

/// Decides about the host key that a server shows; the error is the sentence of the refusal.
pub type HostKeyCheck = Arc<dyn Fn(&PublicKey) -> Result<(), String> + Send + Sync>;

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// Nobody answers there, or not as SSH servers do.
    Unreachable(String),
    /// The host key was refused, with this sentence.
    HostKey(String),
    /// The server does not let the login in.
    Refused,
    /// Logged in, but there is no SFTP.
    Client(ClientError),
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConnectError::Unreachable(reason) | ConnectError::HostKey(reason) => f.write_str(reason),
            ConnectError::Refused => f.write_str("the server does not accept the login"),
            ConnectError::Client(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConnectError {}

impl From<russh::Error> for ConnectError {
    fn from(error: russh::Error) -> ConnectError {
        ConnectError::Unreachable(error.to_string())
    }
}

pub(super) struct Recognise(HostKeyCheck);

impl Handler for Recognise {
    type Error = ConnectError;

    async fn check_server_key(&mut self, shown: &russh::keys::PublicKeyOrCertificate) -> Result<bool, ConnectError> {
        match shown {
            russh::keys::PublicKeyOrCertificate::PublicKey { key, .. } => {
                (self.0)(key).map(|()| true).map_err(ConnectError::HostKey)
            }
            _ => Err(ConnectError::HostKey("the server shows a certificate instead of a host key".into())),
        }
    }
}

/// Connects to `address` (`host:port`) and starts SFTP there.
pub async fn connect(address: &str, login: Login, check: HostKeyCheck) -> Result<Client, ConnectError> {
    let late = |_| ConnectError::Unreachable(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()));
    let reach = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await.map_err(late)?;
    let stream = reach.map_err(|error| ConnectError::Unreachable(error.to_string()))?;
    // Requests are small and answered one by one at the end of a file: waiting for more to send would cost 40 ms each.
    stream.set_nodelay(true).map_err(|error| ConnectError::Unreachable(error.to_string()))?;

    let recognise = russh::client::connect_stream(Arc::new(settings()), stream, Recognise(check));
    let handle = timeout(CONNECT_TIMEOUT, recognise).await.map_err(late)??;
    timeout(CONNECT_TIMEOUT, start(handle, login)).await.map_err(late)?
}

async fn start(mut handle: Handle<Recognise>, login: Login) -> Result<Client, ConnectError> {
    let answered = match login.proof {
        Proof::Key(key) => handle.authenticate_publickey(login.user, PrivateKeyWithHashAlg::new(key, None)).await,
        Proof::Password(password) => handle.authenticate_password(login.user, password).await,
    };
    match answered {
        Ok(AuthResult::Success) => {}
        // Some servers hang up on the last allowed try instead of saying no.
        Ok(AuthResult::Failure { .. }) | Err(russh::Error::Disconnect) => return Err(ConnectError::Refused),
        Err(error) => return Err(error.into()),
    }
    let channel = handle.channel_open_session().await?;
    channel.request_subsystem(true, "sftp").await?;
    let client = Client::over(channel.into_stream()).await.map_err(ConnectError::Client)?;
    Ok(client.kept_up_by(Box::new(handle)))
}

fn settings() -> russh::client::Config {
    // aes128-gcm is the fastest with AES instructions and not in russh's own list.
    const CIPHERS: &[cipher::Name] = &[cipher::AES_128_GCM, cipher::AES_256_GCM, cipher::CHACHA20_POLY1305];
    russh::client::Config {
        client_id: russh::SshId::Standard(Cow::Borrowed("SSH-2.0-sftp-ha")),
        window_size: WINDOW_BYTES,
        maximum_packet_size: PACKET_BYTES,
        keepalive_interval: Some(KEEPALIVE_INTERVAL),
        keepalive_max: KEEPALIVES_MISSED_MAX,
        nodelay: true,
        preferred: russh::Preferred { cipher: Cow::Borrowed(CIPHERS), ..russh::Preferred::default() },
        ..russh::client::Config::default()
    }
}

/// Whether a file in OpenSSH's form (`known_hosts`) names this key for a host.
///
/// # Errors
/// A sentence: the file cannot be read, or names another key for the host.
pub fn is_known_host(file: &std::path::Path, host: &str, port: u16, shown: &PublicKey) -> Result<bool, String> {
    russh::keys::check_known_hosts_path(host, port, shown, file).map_err(|error| match error {
        russh::keys::Error::KeyChanged { line } => {
            let shown = crate::keys::fingerprint(shown);
            format!("shows the host key {shown}, and {} has another in line {line}: nothing was sent", file.display())
        }
        error => format!("cannot be looked up in {}: {error}", file.display()),
    })
}
