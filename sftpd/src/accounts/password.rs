//! Passwords: hashing and checking with argon2id, bounded.
//!
//! A check costs the same whether or not the account exists, and no more checks run at once than there are cores, so
//! that guessing passwords cannot eat the machine. A session waits for its turn without blocking anything else.

use std::sync::{Arc, LazyLock};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

/// Checked in place of the hash of an account that does not exist or has no password. Nobody knows its password.
static NOBODY: LazyLock<String> = LazyLock::new(|| {
    let mut unknown = [0; 32];
    // Without random numbers nothing else works either; a fixed password here would still match no account.
    let _ = getrandom::fill(&mut unknown);
    hash_bytes(&unknown).unwrap_or_default()
});

/// Why a password cannot be hashed or a hash not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusable;

/// Hashes a password to a PHC string. Takes tens of milliseconds and 19 MiB: not for an async thread.
pub fn hash(password: &str) -> Result<String, Unusable> {
    hash_bytes(password.as_bytes())
}

fn hash_bytes(password: &[u8]) -> Result<String, Unusable> {
    Argon2::default().hash_password(password).map(|hash| hash.to_string()).map_err(|_| Unusable)
}

/// Whether a password belongs to a hash. Takes as long as [`hash`].
pub fn matches(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// Whether a text is a hash that [`matches`] can use.
pub fn is_usable_hash(text: &str) -> bool {
    text.starts_with("$argon2") && PasswordHash::new(text).is_ok_and(|hash| hash.hash.is_some() && hash.salt.is_some())
}

/// Draws a password: 20 letters and digits that cannot be mistaken for each other, 100 bits.
pub fn generate() -> Result<String, Unusable> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut drawn = [0; 20];
    getrandom::fill(&mut drawn).map_err(|_| Unusable)?;
    Ok(drawn.iter().map(|byte| LETTERS.get(usize::from(byte % 32)).map_or('a', |letter| *letter as char)).collect())
}

/// Checks passwords, a bounded number at once.
#[derive(Clone, Debug)]
pub struct Checker {
    turns: Arc<Semaphore>,
}

impl Checker {
    /// One that runs this many checks at once.
    pub fn new(checks_at_once: usize) -> Checker {
        Checker { turns: Arc::new(Semaphore::new(checks_at_once.max(1))) }
    }

    /// Whether a password is right. Without a hash it never is, after the same time.
    pub async fn check(&self, password: String, hash: Option<String>) -> bool {
        let Ok(_turn) = self.turns.acquire().await else {
            return false;
        };
        let check = move || match hash {
            Some(hash) => matches(&password, &hash),
            None => {
                matches(&password, &NOBODY);
                false
            }
        };
        tokio::task::spawn_blocking(check).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_an_account_with_one_is_accepted() {
        let checker = Checker::new(1);
        let hash = hash("1234").unwrap();
        assert!(is_usable_hash(&hash));
        assert!(checker.check("1234".into(), Some(hash.clone())).await);
        assert!(!checker.check("12345".into(), Some(hash)).await);
        assert!(!checker.check("1234".into(), None).await);
        for broken in ["", "!", "*", "$argon2id$", "1234"] {
            assert!(!is_usable_hash(broken), "{broken}");
            assert!(!checker.check("".into(), Some(broken.into())).await);
            assert!(!checker.check(broken.into(), Some(broken.into())).await);
        }
    }

    #[test]
    fn generated_passwords_differ() {
        let (first, second) = (generate().unwrap(), generate().unwrap());
        assert_ne!(first, second);
        assert_eq!(first.len(), 20);
    }
}
