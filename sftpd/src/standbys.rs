//! What filesync has told of the standbys: which accounts each of them has.
//!
//! Only what is recent counts: a filesync that has gone silent no longer speaks for anybody.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How long a change of the accounts waits for the standbys.
const WAIT: Duration = Duration::from_secs(2);

/// How long filesync's word is believed. It repeats it every other second, and once a minute while a standby is away.
const BELIEVED: Duration = Duration::from_secs(150);

/// What was told of one standby.
#[derive(Clone, Debug)]
pub struct Word {
    /// The accounts that it has.
    pub generation: Option<u64>,
    /// What stands in the way of newer ones.
    pub problem: Option<String>,
    at: Instant,
}

/// The standbys that filesync has told of.
#[derive(Debug)]
pub struct Standbys {
    words: watch::Sender<BTreeMap<String, Word>>,
    // Held for a line, never across an await.
    unbrought: Mutex<BTreeMap<String, u64>>,
}

impl Default for Standbys {
    fn default() -> Standbys {
        Standbys { words: watch::channel(BTreeMap::new()).0, unbrought: Mutex::default() }
    }
}

impl Standbys {
    /// Notes what filesync tells.
    pub fn note(&self, standby: String, generation: Option<u64>, problem: Option<String>) {
        self.words.send_modify(|words| {
            words.retain(|_, word| word.at.elapsed() < BELIEVED);
            words.insert(standby, Word { generation, problem, at: Instant::now() });
        });
    }

    /// What is known now.
    pub fn words(&self) -> BTreeMap<String, Word> {
        let words = self.words.borrow();
        words
            .iter()
            .filter(|(_, word)| word.at.elapsed() < BELIEVED)
            .map(|(name, word)| (name.clone(), word.clone()))
            .collect()
    }

    /// Notes how many files cannot be brought to a standby.
    pub fn note_unbrought(&self, standby: String, files: u64) {
        self.unbrought.lock().unwrap_or_else(PoisonError::into_inner).insert(standby, files);
    }

    /// How many files cannot be brought to a standby, if there are any.
    pub fn unbrought(&self, standby: &str) -> Option<u64> {
        let unbrought = self.unbrought.lock().unwrap_or_else(PoisonError::into_inner);
        unbrought.get(standby).copied().filter(|count| *count > 0)
    }

    /// Waits, for a moment, until every standby has accounts or has said why not; a sentence for each.
    pub async fn wait_for(&self, generation: u64) -> Vec<String> {
        let mut words = self.words.subscribe();
        let is_told = |word: &Word| word.problem.is_some() || word.generation >= Some(generation);
        let all = words.wait_for(|words| words.values().filter(|word| word.at.elapsed() < BELIEVED).all(is_told));
        // Who has not answered by then is named below.
        let _ = tokio::time::timeout(WAIT, all).await;
        let words = self.words();
        if words.is_empty() {
            return vec!["standby: none has been heard of; the accounts are on this machine".into()];
        }
        words.iter().map(|(name, word)| sentence(name, word, generation)).collect()
    }
}

fn sentence(name: &str, word: &Word, generation: u64) -> String {
    match &word.problem {
        _ if word.generation >= Some(generation) => format!("standby {name}: has them, too"),
        Some(problem) => format!("standby {name}: has not got them yet ({problem}); it gets them as soon as it can"),
        None => format!("standby {name}: did not answer within {} s; it gets them as soon as it can", WAIT.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_word_of_every_standby_is_waited_for_but_not_for_long() {
        let standbys = Standbys::default();
        assert!(standbys.wait_for(2).await[0].contains("none has been heard of"));
        standbys.note("a".into(), Some(2), None);
        standbys.note("b".into(), None, Some("it cannot be reached".into()));
        let began = tokio::time::Instant::now();
        let said = standbys.wait_for(2).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody is left to wait for");
        assert!(said[0].starts_with("standby a: has them") && said[1].contains("(it cannot be reached)"), "{said:?}");
        let (said, ()) = tokio::join!(standbys.wait_for(3), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            standbys.note("a".into(), Some(3), None);
        });
        assert!(said[0].starts_with("standby a: has them"), "{said:?}");
        let said = standbys.wait_for(4).await;
        assert!(said[0].contains("did not answer within 2 s"), "{said:?}");
    }
}
