//! The sessions of those who are logged in: in memory only, so that a restart ends them all.
//!
//! Of a session's id only the hash is kept: who reads this memory cannot use it. A session ends when it was not used for a while, and in
//! any case after a longer one. There are never more than [`SESSIONS_MAX`]; a new one takes the place of the one unused for longest.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::token::Token;

/// Sessions at once.
pub const SESSIONS_MAX: usize = 256;

/// What pages may know of a session.
#[derive(Clone, Debug)]
pub struct Session {
    /// The account that logged in.
    pub account: String,
    /// What every form must carry in its field `csrf`, as text.
    pub csrf: String,
    key: blake3::Hash,
}

struct Held {
    account: String,
    csrf: Token,
    began: Instant,
    used: Instant,
}

/// All sessions of a program.
pub struct Sessions {
    idle_max: Duration,
    age_max: Duration,
    // Held for a look-up, never across an await.
    held: Mutex<HashMap<blake3::Hash, Held>>,
}

impl Sessions {
    /// None yet. A session ends after `idle_max` without a request, and after `age_max` in any case.
    pub fn new(idle_max: Duration, age_max: Duration) -> Sessions {
        Sessions { idle_max, age_max, held: Mutex::new(HashMap::new()) }
    }

    /// Begins a session; the token is for the browser alone.
    ///
    /// # Errors
    /// Where the kernel gives no random numbers.
    pub fn begin(&self, account: &str) -> anyhow::Result<Token> {
        let (id, csrf) = (Token::random()?, Token::random()?);
        let now = Instant::now();
        self.with(|held| {
            held.retain(|_, session| self.holds(session, now));
            if held.len() >= SESSIONS_MAX {
                let unused = held.iter().min_by_key(|(_, session)| session.used).map(|(key, _)| *key);
                unused.and_then(|key| held.remove(&key));
            }
            held.insert(id.hash(), Held { account: account.to_owned(), csrf, began: now, used: now });
        });
        Ok(id)
    }

    /// The session of an id, which counts as used now.
    pub fn find(&self, id: &Token) -> Option<Session> {
        let (key, now) = (id.hash(), Instant::now());
        self.with(|held| {
            if !self.holds(held.get(&key)?, now) {
                held.remove(&key);
                return None;
            }
            let session = held.get_mut(&key)?;
            session.used = now;
            Some(Session { account: session.account.clone(), csrf: session.csrf.hex(), key })
        })
    }

    /// Whether a session still holds. It does not count as used by the question: live numbers alone keep nobody logged in.
    pub fn is_open(&self, session: &Session) -> bool {
        let now = Instant::now();
        self.with(|held| held.get(&session.key).is_some_and(|held| self.holds(held, now)))
    }

    /// Whether a form's token is the session's, in constant time.
    pub fn proves(&self, session: &Session, csrf: &str) -> bool {
        let Some(shown) = Token::parse(csrf) else { return false };
        self.with(|held| held.get(&session.key).is_some_and(|held| held.csrf == shown))
    }

    /// Ends a session.
    pub fn end(&self, session: &Session) {
        self.with(|held| held.remove(&session.key));
    }

    fn holds(&self, session: &Held, now: Instant) -> bool {
        now.duration_since(session.used) < self.idle_max && now.duration_since(session.began) < self.age_max
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<blake3::Hash, Held>) -> T) -> T {
        // Nothing in here panics between two changes that belong together.
        act(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn sessions() -> Sessions {
        Sessions::new(10 * MINUTE, 60 * MINUTE)
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_is_not_used_ends() {
        let sessions = sessions();
        let id = sessions.begin("admin").unwrap();
        tokio::time::advance(9 * MINUTE).await;
        assert_eq!(sessions.find(&id).unwrap().account, "admin");
        tokio::time::advance(9 * MINUTE).await;
        let session = sessions.find(&id).unwrap();
        tokio::time::advance(9 * MINUTE).await;
        assert!(sessions.is_open(&session));
        tokio::time::advance(MINUTE).await;
        assert!(!sessions.is_open(&session), "the question alone is no use");
        assert!(sessions.find(&id).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_in_use_ends_too_in_the_end() {
        let sessions = sessions();
        let id = sessions.begin("admin").unwrap();
        for _ in 0..11 {
            tokio::time::advance(5 * MINUTE).await;
            assert!(sessions.find(&id).is_some());
        }
        tokio::time::advance(5 * MINUTE).await;
        assert!(sessions.find(&id).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn logging_out_ends_one_session_and_no_other() {
        let sessions = sessions();
        let (one, other) = (sessions.begin("admin").unwrap(), sessions.begin("admin").unwrap());
        sessions.end(&sessions.find(&one).unwrap());
        assert!(sessions.find(&one).is_none());
        assert!(sessions.find(&other).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_forms_token_counts_only_in_its_own_session() {
        let sessions = sessions();
        let [one, other] = [(), ()].map(|()| sessions.find(&sessions.begin("admin").unwrap()).unwrap());
        assert!(sessions.proves(&one, &one.csrf));
        for wrong in [other.csrf.as_str(), "", "0", &"0".repeat(64)] {
            assert!(!sessions.proves(&one, wrong), "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_id_that_nobody_gave_out_finds_nothing() {
        assert!(sessions().find(&Token::random().unwrap()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_ids_are_not_kept() {
        let sessions = sessions();
        let id = sessions.begin("admin").unwrap();
        let held = sessions.held.lock().unwrap();
        assert!(held.keys().all(|key| key.to_hex().as_str() != id.hex()));
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_never_too_many_and_the_longest_unused_goes_first() {
        let sessions = sessions();
        let first = sessions.begin("admin").unwrap();
        let mut last = first.clone();
        for _ in 0..SESSIONS_MAX {
            tokio::time::advance(Duration::from_millis(1)).await;
            last = sessions.begin("admin").unwrap();
        }
        assert_eq!(sessions.held.lock().unwrap().len(), SESSIONS_MAX);
        assert!(sessions.find(&first).is_none());
        assert!(sessions.find(&last).is_some());
    }
}
