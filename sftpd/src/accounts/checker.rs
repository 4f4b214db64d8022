//! Checks passwords, a bounded number at once, so that guessing them cannot eat the machine: 19 MiB and some tens of
//! milliseconds each, on as many cores as there are.
//!
//! Always holds: a name that nobody has costs what a wrong password costs (of our own make of hashes; those of other makes take
//! their own time). From one address one check runs or waits for its turn at a time: a hundred connections from there wait
//! for each other, and for nobody else. Whoever comes from where the account has logged in before does not wait for strangers.
//! Checks have threads of their own, and these their memory: on the many of the runtime the allocator would keep 19 MiB and
//! more for each that ever made one. They give way to the runtime's, so that a small upload does not wait for guesses to end.

use std::collections::HashMap;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, mpsc};

use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::password::{self, BYTES_MAX, Memory};

/// By so much a check is nicer than whoever has logged in. Of cores that others want as well it still gets a good part.
const NICE: i32 = 5;

/// Checked in place of the hash of an account that does not exist or has no password. Nobody knows its password.
static NOBODY: LazyLock<String> = LazyLock::new(|| {
    let mut unknown = [0; 32];
    // Without random numbers nothing else works either; a fixed password here would still match no account.
    let _ = getrandom::fill(&mut unknown);
    password::hash_bytes(&unknown).unwrap_or_default()
});

/// Who asks.
#[derive(Clone, Debug)]
pub struct Asker {
    /// What counts as one address; nothing for those behind which many stand.
    pub source: Option<IpNet>,
    /// Whether the account has logged in from there before.
    pub is_known: bool,
}

/// A check, and who waits for its answer.
struct Check {
    password: String,
    hash: Option<String>,
    answer: oneshot::Sender<bool>,
    /// Held until it is done, also where nobody waits for it any more.
    _turn: OwnedSemaphorePermit,
}

/// Checks passwords.
#[derive(Debug)]
pub struct Checker {
    checks: mpsc::Sender<Check>,
    turns: Arc<Semaphore>,
    /// One turn more, for those who are known.
    known_turn: Arc<Semaphore>,
    // Held for a few lines, never across an await.
    sources: Mutex<HashMap<IpNet, Arc<Semaphore>>>,
}

impl Checker {
    /// One that runs this many checks at once, and one more for those who are known.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn new(checks_at_once: usize) -> io::Result<Checker> {
        let at_once = checks_at_once.max(1);
        let (checks, waiting) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..=at_once {
            let waiting = waiting.clone();
            std::thread::Builder::new().name("passwords".into()).spawn(move || work(&waiting))?;
        }
        let (turns, known_turn) = (Arc::new(Semaphore::new(at_once)), Arc::new(Semaphore::new(1)));
        Ok(Checker { checks, turns, known_turn, sources: Mutex::default() })
    }

    /// Whether a password is right. Without a hash it never is, after the same time. Who no longer waits gives his place up.
    pub async fn check(&self, asker: Asker, password: String, hash: Option<String>) -> bool {
        let _place = self.place(asker.source);
        let _alone = match &_place {
            Some(place) => place.alone.acquire().await.ok(),
            None => None,
        };
        let Some(turn) = self.turn(asker.is_known).await else { return false };
        let (answer, answered) = oneshot::channel();
        let is_taken = self.checks.send(Check { password, hash, answer, _turn: turn }).is_ok();
        is_taken && answered.await.unwrap_or(false)
    }

    async fn turn(&self, is_known: bool) -> Option<OwnedSemaphorePermit> {
        if !is_known {
            return self.turns.clone().acquire_owned().await.ok();
        }
        tokio::select! {
            biased;
            turn = self.turns.clone().acquire_owned() => turn.ok(),
            turn = self.known_turn.clone().acquire_owned() => turn.ok(),
        }
    }

    fn place(&self, source: Option<IpNet>) -> Option<Place<'_>> {
        let source = source?;
        let alone = self.sources().entry(source).or_insert_with(|| Arc::new(Semaphore::new(1))).clone();
        Some(Place { checker: self, source, alone })
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<IpNet, Arc<Semaphore>>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks one after the other, until the checker is gone. A hash that makes its check panic is wrong, and no more.
fn work(waiting: &Mutex<mpsc::Receiver<Check>>) {
    let mut memory = Memory::default();
    // For this thread alone. Where it is not granted, checks are as good as others.
    let _ = rustix::process::nice(NICE);
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Check { password, hash, answer, _turn }) = next else { return };
        let is_right = std::panic::catch_unwind(AssertUnwindSafe(|| is_right(&mut memory, &password, hash.as_deref())));
        // Who asked may be gone.
        let _ = answer.send(is_right.unwrap_or(false));
    }
}

fn is_right(memory: &mut Memory, password: &str, hash: Option<&str>) -> bool {
    match hash {
        Some(hash) if password.len() <= BYTES_MAX => password::matches(memory, password, hash),
        _ => {
            password::matches(memory, password.get(..BYTES_MAX).unwrap_or(password), &NOBODY);
            false
        }
    }
}

/// A source's place, kept while anybody there has a check.
struct Place<'a> {
    checker: &'a Checker,
    source: IpNet,
    alone: Arc<Semaphore>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut sources = self.checker.sources();
        // Ours and the table's own.
        if Arc::strong_count(&self.alone) <= 2 {
            sources.remove(&self.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::super::password::tests::OF_OTHER_MAKES;
    use super::*;

    fn stranger(source: &str) -> Asker {
        Asker { source: Some(source.parse().unwrap()), is_known: false }
    }

    #[tokio::test]
    async fn only_the_right_password_of_an_account_with_one_is_accepted() {
        let checker = Checker::new(1).unwrap();
        let asker = || stranger("192.0.2.1/32");
        let hash = password::hash("1234").unwrap();
        assert!(checker.check(asker(), "1234".into(), Some(hash.clone())).await);
        assert!(!checker.check(asker(), "12345".into(), Some(hash)).await);
        assert!(!checker.check(asker(), "1234".into(), None).await);
        for broken in ["", "!", "*", "$argon2id$", "1234"] {
            assert!(!checker.check(asker(), "".into(), Some(broken.into())).await);
            assert!(!checker.check(asker(), broken.into(), Some(broken.into())).await);
        }
        assert!(checker.sources().is_empty(), "places of those who are gone are kept");
    }

    /// SHA-crypt's time grows with the square of the password's length, and russh takes passwords of 256 KiB.
    #[tokio::test]
    async fn a_password_that_is_too_long_is_wrong_and_costs_no_more() {
        let (checker, long) = (Checker::new(1).unwrap(), "x".repeat(BYTES_MAX + 1));
        let hash = password::hash(&long).unwrap();
        assert!(!checker.check(stranger("192.0.2.1/32"), long, Some(hash)).await);
        assert!(!checker.check(stranger("192.0.2.1/32"), "é".repeat(200_000), Some(OF_OTHER_MAKES[2].into())).await);
    }

    /// How many of forty guesses of one address are answered before somebody else's password is.
    async fn waits_for(asker: Asker) -> usize {
        let checker = Checker::new(1).unwrap();
        let answered = AtomicUsize::new(0);
        let guesses = join_all((0..40).map(|_| async {
            checker.check(stranger("192.0.2.1/32"), "guess".into(), None).await;
            answered.fetch_add(1, Ordering::Relaxed);
        }));
        let login = async {
            tokio::task::yield_now().await;
            checker.check(asker, "1234".into(), None).await;
            answered.load(Ordering::Relaxed)
        };
        futures::join!(guesses, login).1
    }

    #[tokio::test]
    async fn guesses_from_one_address_wait_for_each_other_and_nobody_waits_for_them() {
        assert!(waits_for(stranger("192.0.2.1/32")).await >= 39, "these stand in one queue");
        let behind = waits_for(stranger("192.0.2.2/32")).await;
        assert!(behind <= 3, "{behind} guesses came first");
        let known = waits_for(Asker { is_known: true, ..stranger("192.0.2.2/32") }).await;
        assert!(known <= 3, "{known} guesses came first");
    }
}
