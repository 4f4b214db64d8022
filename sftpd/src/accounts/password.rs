//! Passwords: hashing with argon2id, and checking, bounded. Hashes of other makes are taken as they are.
//!
//! A check costs the same whether or not the account exists, as long as hashes are of our own make (those of other makes take
//! their own time), and no more checks run at once than there are cores, so
//! that guessing passwords cannot eat the machine. A session waits for its turn without blocking anything else.

use std::sync::{Arc, LazyLock};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use sha_crypt::ShaCrypt;
use tokio::sync::Semaphore;
use yescrypt::Yescrypt;

/// Whether a password belongs to a hash of some make.
type Check = fn(&[u8], &str) -> bool;

/// The makes of hashes that are taken: what they begin with, and how they are checked. What comes from elsewhere keeps its
/// hash until the account gets another password.
const MAKES: [(&str, Check); 7] = [
    ("$argon2", |password, hash| {
        PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
    }),
    ("$2a$", of_bcrypt),
    ("$2b$", of_bcrypt),
    ("$2y$", of_bcrypt),
    ("$5$", of_sha_crypt),
    ("$6$", of_sha_crypt),
    ("$y$", |password, hash| Yescrypt::default().verify_password(password, hash).is_ok()),
];

fn of_bcrypt(password: &[u8], hash: &str) -> bool {
    bcrypt::verify(password, hash).unwrap_or(false)
}

fn of_sha_crypt(password: &[u8], hash: &str) -> bool {
    ShaCrypt::default().verify_password(password, hash).is_ok()
}

/// Checked in place of the hash of an account that does not exist or has no password. Nobody knows its password.
static NOBODY: LazyLock<String> = LazyLock::new(|| {
    let mut unknown = [0; 32];
    // Without random numbers nothing else works either; a fixed password here would still match no account.
    let _ = getrandom::fill(&mut unknown);
    hash_bytes(&unknown).unwrap_or_default()
});

/// Costlier hashes than these would let a login hold a core for many seconds.
const BCRYPT_COST_MAX: u32 = 16;
const SHA_CRYPT_ROUNDS_MAX: u32 = 1_000_000;
/// 32 MiB in yescrypt's own figures: flavour, the power of two of N (less one), and r (less one).
const YESCRYPT_N_MAX: usize = 12;
const YESCRYPT_R_MAX: usize = 31;
const ARGON2_KIB_MAX: u32 = 256 * 1024;
const ARGON2_PASSES_MAX: u32 = 10;
const ARGON2_LANES_MAX: u32 = 8;

/// The longest password that is looked at, in bytes: some makes take time by the square of it.
pub const BYTES_MAX: usize = 1024;

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

/// Whether a password belongs to a hash. Takes as long as [`hash`], or as its make does.
pub fn matches(password: &str, hash: &str) -> bool {
    let make = MAKES.iter().find(|(beginning, _)| hash.starts_with(beginning));
    make.is_some_and(|(_, check)| check(password.as_bytes(), hash))
}

/// Whether a text is a hash that [`matches`] can use.
pub fn is_usable_hash(text: &str) -> bool {
    if text.starts_with("$argon2") {
        return PasswordHash::new(text).is_ok_and(|hash| {
            let at_most = |name: &str, most: u32| hash.params.get_decimal(name).is_none_or(|number| number <= most);
            let is_bounded =
                at_most("m", ARGON2_KIB_MAX) && at_most("t", ARGON2_PASSES_MAX) && at_most("p", ARGON2_LANES_MAX);
            hash.hash.is_some() && hash.salt.is_some() && is_bounded
        });
    }
    // What stands before the first sign locks an account.
    let fields: Vec<&str> = text.strip_prefix('$').map(|rest| rest.split('$').collect()).unwrap_or_default();
    let is_word = |field: &str| field.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./".contains(&byte));
    match fields[..] {
        ["2a" | "2b" | "2y", cost, rest] => {
            rest.len() == 53
                && is_word(rest)
                && cost.parse().is_ok_and(|cost: u32| (4..=BCRYPT_COST_MAX).contains(&cost))
        }
        ["5" | "6", salt, hash] => is_word(salt) && matches!(hash.len(), 43 | 86) && is_word(hash),
        ["5" | "6", rounds, salt, hash] => {
            let rounds = rounds.strip_prefix("rounds=").and_then(|rounds| rounds.parse::<u32>().ok());
            rounds.is_some_and(|rounds| (1000..=SHA_CRYPT_ROUNDS_MAX).contains(&rounds))
                && is_word(salt)
                && matches!(hash.len(), 43 | 86)
                && is_word(hash)
        }
        ["y", parameters, salt, hash] => {
            is_bounded_yescrypt(parameters) && is_word(salt) && hash.len() == 43 && is_word(hash)
        }
        _ => false,
    }
}

/// Whether yescrypt's parameters (`j9T` as systems make them) are the usual three, and not too costly.
fn is_bounded_yescrypt(parameters: &str) -> bool {
    const DIGITS: &str = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let number = |digit: u8| DIGITS.bytes().position(|known| known == digit);
    match parameters.as_bytes() {
        [b'j', n, r] => {
            number(*n).is_some_and(|n| n <= YESCRYPT_N_MAX) && number(*r).is_some_and(|r| r <= YESCRYPT_R_MAX)
        }
        _ => false,
    }
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
            Some(hash) if password.len() <= BYTES_MAX => matches(&password, &hash),
            _ => {
                matches(password.get(..BYTES_MAX).unwrap_or(&password), &NOBODY);
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

    /// Of "pleaseletmein", made by mkpasswd (libxcrypt 4.4) and htpasswd.
    const OF_OTHER_MAKES: [&str; 5] = [
        "$2y$05$4MYPLe.uJSCjBCIcM85NM.jCoIVNjv6FadYAx2X2xr/DM5u7tpVce",
        "$2b$05$vd/0TbPNUV1987vW5TkGKOh.da3tCxe6Q..TWIRYyG.kNdcLXH5Ei",
        "$6$uMlCXUwBPUVqB2jO$iWgb9PyDDbwTdhUuHP/dEZy.DLHBWBfyiwTYl8JUTtNc/xv3x3.vvyV2zRZoKkd59zK9XvYwYbeiiE/NyrNA51",
        "$5$F4p3jJFL/8ax21.U$55PB.oefWLjEYV8BKtjwRpCHcCuZp6sMOd1Mopn5NEB",
        "$y$j9T$LcvUyA3P9WW5u.4if2u1S0$8HQ9N2xq6TTGG12BF2VQD5Ikg14kevuqNr7DkbSps38",
    ];

    #[test]
    fn hashes_of_other_makes_are_taken_as_they_are() {
        for hash in OF_OTHER_MAKES {
            assert!(is_usable_hash(hash), "{hash}");
            assert!(matches("pleaseletmein", hash), "{hash}");
            assert!(!matches("pleaseletmeout", hash) && !matches("", hash), "{hash}");
        }
    }

    #[test]
    fn a_hash_that_would_hold_a_core_or_is_cut_off_is_not_taken() {
        for hash in OF_OTHER_MAKES {
            assert!(!is_usable_hash(&hash[..hash.len() - 1]), "{hash}");
            assert!(!is_usable_hash(&format!("!{hash}")) && !matches("pleaseletmein", &format!("!{hash}")), "{hash}");
        }
        assert!(!is_usable_hash(&OF_OTHER_MAKES[0].replacen("$05$", "$31$", 1)));
        assert!(!is_usable_hash(&OF_OTHER_MAKES[2].replacen("$6$", "$6$rounds=999999999$", 1)));
        assert!(!is_usable_hash("$1$nothing"));
        assert!(!is_usable_hash(&OF_OTHER_MAKES[4].replacen("$j9T$", "$jFT$", 1)));
        let ours = hash("x").unwrap();
        assert!(is_usable_hash(&ours) && !is_usable_hash(&ours.replacen("m=19456", "m=4194304", 1)));
        assert!(
            !is_usable_hash("$1$abcdefgh$0123456789012345678901") && !is_usable_hash("$6$$") && !is_usable_hash("$y$")
        );
    }

    /// SHA-crypt's time grows with the square of the password's length, and russh takes passwords of 256 KiB.
    #[tokio::test]
    async fn a_password_that_is_too_long_is_wrong_and_costs_no_more() {
        let (checker, long) = (Checker::new(1), "x".repeat(BYTES_MAX + 1));
        let hash = hash(&long).unwrap();
        assert!(!checker.check(long, Some(hash)).await);
        assert!(!checker.check("é".repeat(200_000), Some(OF_OTHER_MAKES[2].into())).await);
    }

    #[test]
    fn generated_passwords_differ() {
        let (first, second) = (generate().unwrap(), generate().unwrap());
        assert_ne!(first, second);
        assert_eq!(first.len(), 20);
    }
}
