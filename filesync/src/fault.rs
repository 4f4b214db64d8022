//! Why something was not done on a standby, and how errors of disk and wire become that.

use std::io::ErrorKind;

use pair::client::ClientError;

/// Why something was not done.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection is gone; nothing more can be done over it.
    Lost(ClientError),
    /// It does not work; a sentence for people.
    Problem(String),
    /// The source changed meanwhile; the next pass sees to it.
    Changed,
    /// The standby has no folder for it.
    NoFolder,
}

impl Fault {
    /// For people.
    pub fn in_words(&self) -> String {
        match self {
            Fault::Lost(error) => error.to_string(),
            Fault::Problem(sentence) => sentence.clone(),
            Fault::Changed => "it changed meanwhile".into(),
            Fault::NoFolder => "the standby has no folder for it yet".into(),
        }
    }
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Fault {
        if error.is_lost() { Fault::Lost(error) } else { Fault::Problem(format!("the standby says: {error}")) }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Fault {
        // It went away, or became something else, after it was listed.
        let became_a_link = rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::LOOP);
        match error.kind() {
            _ if became_a_link => Fault::Changed,
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::Other => Fault::Changed,
            _ => Fault::Problem(format!("cannot read it: {error}")),
        }
    }
}

/// Runs disk work off the async threads.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Fault::Problem(format!("reading it broke off: {error}"))),
    }
}
