//! Who sends logs, and what sftpd says of them: asked for when a page needs it, at most every few seconds.
//!
//! Always holds: which folder is whose comes from sftpd alone. While it does not answer, what it said last counts, and the reason is told.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pair::control::{Agent, Answer, Archive, Order, ask};

/// How long an answer counts.
const FRESH: Duration = Duration::from_secs(5);
/// How long sftpd may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What is known of the archive.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// What sftpd said last; none where it has never said anything.
    pub archive: Option<Arc<Archive>>,
    /// Why it says nothing now.
    pub fault: Option<String>,
}

impl Told {
    /// All agents, by name.
    pub fn agents(&self) -> &[Agent] {
        self.archive.as_ref().map_or(&[], |archive| archive.agents.as_slice())
    }

    /// The agent of a name.
    pub fn agent(&self, name: &str) -> Option<&Agent> {
        self.agents().iter().find(|agent| agent.name == name)
    }
}

/// Asks, and remembers.
pub struct Known {
    state: PathBuf,
    // Held while it is looked at, never while sftpd is asked.
    last: Mutex<Option<(Instant, Told)>>,
}

impl Known {
    /// Of the machine with this state folder.
    pub fn new(state: PathBuf) -> Known {
        Known { state, last: Mutex::default() }
    }

    /// What is known now.
    pub async fn told(&self) -> Told {
        let before = self.last().clone();
        match before {
            Some((at, told)) if at.elapsed() < FRESH => told,
            before => {
                let told = match self.ask().await {
                    Ok(archive) => Told { archive: Some(Arc::new(archive)), fault: None },
                    Err(sentence) => Told { archive: before.and_then(|(_, told)| told.archive), fault: Some(sentence) },
                };
                *self.last() = Some((Instant::now(), told.clone()));
                told
            }
        }
    }

    fn last(&self) -> MutexGuard<'_, Option<(Instant, Told)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self) -> Result<Archive, String> {
        let asked = tokio::time::timeout(ANSWER_MAX, ask(&self.state, &Order::Archive {})).await;
        let late = |_| format!("sftpd does not answer within {} s: does it hang?", ANSWER_MAX.as_secs());
        match asked.map_err(late)?.map_err(|error| format!("{error:#}"))? {
            Answer::Archive(archive) => Ok(*archive),
            Answer::Refused { text } => Err(text),
            _ => Err("sftpd answered something else: is it of another version?".to_owned()),
        }
    }
}
