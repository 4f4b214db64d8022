//! Who is connected to this machine's sftpd, as it says itself.
//!
//! Always holds: sftpd is asked only while somebody looks, and once for all who do: each answer takes it a second, in which it measures
//! speeds. What an answer says of clients and files is text of strangers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pair::control::{Answer, Order, Session, ask};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// From one answer to the next question.
const PAUSE: Duration = Duration::from_secs(1);

/// Who is connected, at one moment.
#[derive(Clone, Debug)]
pub struct Visitors {
    /// When that was, in milliseconds since 1970; none before sftpd was asked.
    pub looked_ms: Option<i64>,
    /// The oldest connection first; or why nobody knows.
    pub sessions: Result<Vec<Session>, String>,
}

impl Default for Visitors {
    fn default() -> Visitors {
        Visitors { looked_ms: None, sessions: Ok(Vec::new()) }
    }
}

/// Asks who is connected as long as somebody wants to know.
pub struct Lookout {
    seen: watch::Sender<Arc<Visitors>>,
    wanted: Notify,
}

impl Lookout {
    /// One that asks the sftpd of a state folder, until `shutdown`.
    pub fn start(state: PathBuf, shutdown: CancellationToken) -> Arc<Lookout> {
        let lookout = Arc::new(Lookout { seen: watch::channel(Arc::default()).0, wanted: Notify::new() });
        let looking = look(lookout.clone(), state);
        tokio::spawn(async move { shutdown.run_until_cancelled_owned(looking).await });
        lookout
    }

    /// Has sftpd asked for as long as the receiver is kept, and once at least.
    pub fn watch(&self) -> watch::Receiver<Arc<Visitors>> {
        let receiver = self.seen.subscribe();
        self.wanted.notify_one();
        receiver
    }
}

async fn look(lookout: Arc<Lookout>, state: PathBuf) {
    loop {
        if lookout.seen.receiver_count() == 0 {
            // Whoever has asked may be gone again, and come back for the answer.
            lookout.wanted.notified().await;
        }
        let sessions = sessions(&state).await;
        let looked_ms = Some(jiff::Timestamp::now().as_millisecond());
        lookout.seen.send_replace(Arc::new(Visitors { looked_ms, sessions }));
        tokio::time::sleep(PAUSE).await;
    }
}

async fn sessions(state: &Path) -> Result<Vec<Session>, String> {
    match ask(state, &Order::Who {}).await.map_err(|error| format!("{error:#}"))? {
        Answer::Who(sessions) => Ok(sessions),
        Answer::Refused { text } => Err(text),
        _ => Err("sftpd answered something else: is it of another version?".to_owned()),
    }
}
