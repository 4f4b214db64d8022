//! Why something asked of a server was not done, and under which kind that is counted.

use pair::client::{ClientError, ConnectError};
use pair::wire::Code;

/// The longest kind that is made of a server's sentence, in characters.
const KIND_CHARS_MAX: usize = 60;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The server's answer.
    Answer {
        /// Its code.
        code: Code,
        /// Its sentence.
        message: String,
    },
    /// The connection is gone.
    Lost(String),
    /// There was no answer in time, in seconds.
    Timeout(u64),
    /// The server does not keep to the protocol.
    Protocol(String),
    /// There is no connection.
    NotReached(String),
    /// The host key is not the one it should be.
    HostKey(String),
    /// The login is not accepted.
    Refused,
}

impl Trouble {
    /// Under what it is counted.
    pub fn kind(&self) -> String {
        match self {
            Trouble::Lost(_) => "connection lost".to_owned(),
            Trouble::Timeout(_) => "timeout".to_owned(),
            Trouble::Protocol(_) => "protocol broken".to_owned(),
            Trouble::NotReached(_) => "cannot connect".to_owned(),
            Trouble::HostKey(_) => "host key refused".to_owned(),
            Trouble::Refused => "login refused".to_owned(),
            Trouble::Answer { code, message } => kind_of_answer(*code, message),
        }
    }

    /// Whether the connection is of no use any more.
    pub fn is_lost(&self) -> bool {
        !matches!(self, Trouble::Answer { .. })
    }

    /// Whether a path does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Trouble::Answer { code: Code::NoSuchFile, .. })
    }

    /// Whether trying again would be the same, or would count as an attack.
    pub fn is_final(&self) -> bool {
        matches!(self, Trouble::HostKey(_) | Trouble::Refused)
    }
}

fn kind_of_answer(code: Code, message: &str) -> String {
    let lower = message.to_lowercase();
    let known = [("quota", "quota"), ("volume is full", "volume full"), ("no space left", "volume full")];
    if let Some((_, kind)) = known.into_iter().find(|(part, _)| lower.contains(part)) {
        return kind.to_owned();
    }
    match code {
        Code::NoSuchFile => "no such file".to_owned(),
        Code::PermissionDenied => "permission denied".to_owned(),
        Code::OpUnsupported => "not supported".to_owned(),
        _ if message.trim().is_empty() => "failure".to_owned(),
        // One kind for all files: without what is named in quotes and numbers. Control characters come from a server.
        _ => {
            let plain = message.split(['"', '\'', ':', '\n']).next().unwrap_or_default();
            let shown = plain.chars().filter(|one| !one.is_control() && !one.is_ascii_digit());
            shown.take(KIND_CHARS_MAX).collect::<String>().trim().to_owned()
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Answer { code, message } if message.is_empty() => write!(f, "the server says {code:?}"),
            Trouble::Answer { message, .. } => f.write_str(message),
            Trouble::Lost(reason) => write!(f, "the connection was lost: {reason}"),
            Trouble::Timeout(seconds) => write!(f, "there was no answer within {seconds} s"),
            Trouble::Protocol(reason) => write!(f, "the server breaks the SFTP protocol: {reason}"),
            Trouble::NotReached(reason) | Trouble::HostKey(reason) => f.write_str(reason),
            Trouble::Refused => {
                f.write_str("the server does not accept the login: check the name and the password or key")
            }
        }
    }
}

impl std::error::Error for Trouble {}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Trouble {
        match error {
            ClientError::Status { code, message } => Trouble::Answer { code, message },
            ClientError::Lost(reason) => Trouble::Lost(reason),
            ClientError::Protocol(reason) => Trouble::Protocol(reason),
        }
    }
}

impl From<ConnectError> for Trouble {
    fn from(error: ConnectError) -> Trouble {
        match error {
            ConnectError::Unreachable(reason) => Trouble::NotReached(reason),
            ConnectError::HostKey(reason) => Trouble::HostKey(reason),
            ConnectError::Refused => Trouble::Refused,
            ConnectError::Client(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_counted_under_one_kind_for_all_files() {
        let kind = |code, message: &str| Trouble::Answer { code, message: message.to_owned() }.kind();
        assert_eq!(kind(Code::Failure, "Quota exceeded: 10 GiB of 10 GiB used"), "quota");
        assert_eq!(kind(Code::Failure, "the volume is full"), "volume full");
        assert_eq!(kind(Code::Failure, "cannot open \"/a/17\": busy"), "cannot open");
        assert_eq!(kind(Code::Failure, "try 7 again\x1b[31m"), "try  again[m");
        assert_eq!(kind(Code::Failure, ""), "failure");
        assert_eq!(kind(Code::PermissionDenied, "this is the standby"), "permission denied");
        assert_eq!(Trouble::from(ClientError::Lost("x".into())).kind(), "connection lost");
    }
}
