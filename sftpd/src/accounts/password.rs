//! Passwords: hashing with argon2id, and whether one belongs to a hash. Hashes of other makes are taken as they are. Who waits
//! for whom is the checker's business.

use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::{Algorithm, Argon2, Block, Params, PasswordHasher, PasswordVerifier, Version};
use sha_crypt::ShaCrypt;
use yescrypt::Yescrypt;

/// Whether a password belongs to a hash of some make.
type Check = fn(&[u8], &str) -> bool;

/// The makes of hashes that are taken beside argon2: what they begin with, and how they are checked. What comes from elsewhere
/// keeps its hash until the account gets another password.
const MAKES: [(&str, Check); 6] = [
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

/// Costlier hashes than these would let a login hold a core for many seconds.
const BCRYPT_COST_MAX: u32 = 14;
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

pub(super) fn hash_bytes(password: &[u8]) -> Result<String, Unusable> {
    Argon2::default().hash_password(password).map(|hash| hash.to_string()).map_err(|_| Unusable)
}

/// The memory that argon2 works in, used again and again: an allocator that gives and takes back 19 MiB each time keeps
/// several times as much.
#[derive(Default)]
pub struct Memory(Vec<Block>);

impl Memory {
    fn of_argon2(&mut self, password: &[u8], hash: &str) -> Option<bool> {
        let hash = PasswordHash::new(hash).ok()?;
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        let version = hash.version.map(Version::try_from).transpose().ok()?.unwrap_or_default();
        let params = Params::try_from(&hash).ok()?;
        let (salt, expected) = (hash.salt?, hash.hash?);
        let usual = Params::default().block_count();
        self.0.resize(params.block_count().max(usual), Block::new());
        let mut found = vec![0; expected.as_bytes().len()];
        let blocks = self.0.get_mut(..params.block_count())?;
        let argon2 = Argon2::new(algorithm, version, params);
        let hashed = argon2.hash_password_into_with_memory(password, salt.as_ref(), &mut found, blocks);
        self.0.truncate(usual);
        self.0.shrink_to_fit();
        hashed.ok()?;
        // Compared in the same time whatever differs.
        Some(Output::new(&found).ok()? == expected)
    }
}

/// Whether a password belongs to a hash. Takes as long as [`hash`], or as its make does.
pub fn matches(memory: &mut Memory, password: &str, hash: &str) -> bool {
    if hash.starts_with("$argon2") {
        return memory.of_argon2(password.as_bytes(), hash).unwrap_or(false);
    }
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn what_is_no_hash_is_not_taken_for_one() {
        assert!(is_usable_hash(&hash("1234").unwrap()));
        for broken in ["", "!", "*", "$argon2id$", "1234"] {
            assert!(!is_usable_hash(broken), "{broken}");
        }
    }

    /// Of "pleaseletmein", made by mkpasswd (libxcrypt 4.4) and htpasswd.
    pub(in crate::accounts) const OF_OTHER_MAKES: [&str; 5] = [
        "$2y$05$4MYPLe.uJSCjBCIcM85NM.jCoIVNjv6FadYAx2X2xr/DM5u7tpVce",
        "$2b$05$vd/0TbPNUV1987vW5TkGKOh.da3tCxe6Q..TWIRYyG.kNdcLXH5Ei",
        "$6$uMlCXUwBPUVqB2jO$iWgb9PyDDbwTdhUuHP/dEZy.DLHBWBfyiwTYl8JUTtNc/xv3x3.vvyV2zRZoKkd59zK9XvYwYbeiiE/NyrNA51",
        "$5$F4p3jJFL/8ax21.U$55PB.oefWLjEYV8BKtjwRpCHcCuZp6sMOd1Mopn5NEB",
        "$y$j9T$LcvUyA3P9WW5u.4if2u1S0$8HQ9N2xq6TTGG12BF2VQD5Ikg14kevuqNr7DkbSps38",
    ];

    #[test]
    fn hashes_of_other_makes_are_taken_as_they_are() {
        let mut memory = Memory::default();
        for hash in OF_OTHER_MAKES {
            assert!(is_usable_hash(hash), "{hash}");
            assert!(matches(&mut memory, "pleaseletmein", hash), "{hash}");
            assert!(!matches(&mut memory, "pleaseletmeout", hash) && !matches(&mut memory, "", hash), "{hash}");
        }
    }

    #[test]
    fn a_hash_that_would_hold_a_core_or_is_cut_off_is_not_taken() {
        for hash in OF_OTHER_MAKES {
            assert!(!is_usable_hash(&hash[..hash.len() - 1]), "{hash}");
            assert!(
                !is_usable_hash(&format!("!{hash}"))
                    && !matches(&mut Memory::default(), "pleaseletmein", &format!("!{hash}")),
                "{hash}"
            );
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

    #[test]
    fn generated_passwords_differ() {
        let (first, second) = (generate().unwrap(), generate().unwrap());
        assert_ne!(first, second);
        assert_eq!(first.len(), 20);
    }
}
