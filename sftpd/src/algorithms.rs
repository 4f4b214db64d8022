//! Which algorithms are offered to whom. Which of them a client chooses is [`crate::overheard`]'s business.
//!
//! Always holds: what is not in a table here is not offered. Modern is what has no known weakness; compatible adds what
//! OpenSSH still offers by default; what is weak (SHA-1, CBC) is offered only to addresses of accounts that have an exception
//! for it.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};

use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};
use russh::server::Config;
use russh::{Preferred, cipher, compression, kex, mac};
use serde::Deserialize;

use crate::session::ssh_config;

/// What is offered to everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Offer {
    /// Only what has no known weakness.
    #[default]
    Modern,
    /// Also what OpenSSH offers by default: for libssh2 before 1.11 (curl of Debian 12) and the like.
    Compatible,
}

/// An algorithm, by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Exchanges keys.
    Kex(kex::Name),
    /// Encrypts.
    Cipher(cipher::Name),
    /// Authenticates what is encrypted, where the cipher does not.
    Mac(mac::Name),
}

/// Who gets an algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Modern,
    /// Those that ask for compatibility, and accounts that have an exception for it.
    Compatible,
    /// Accounts that have an exception for it.
    Weak,
}

/// All that can be offered, in our own order. The client's order decides; GCM costs half of what ChaCha does, so it stands first
/// for those that ask us.
const TABLE: [(Kind, Class); 26] = [
    (Kind::Kex(kex::MLKEM768X25519_SHA256), Class::Modern),
    (Kind::Kex(kex::CURVE25519), Class::Modern),
    (Kind::Kex(kex::CURVE25519_PRE_RFC_8731), Class::Modern),
    (Kind::Kex(kex::ECDH_SHA2_NISTP256), Class::Compatible),
    (Kind::Kex(kex::ECDH_SHA2_NISTP384), Class::Compatible),
    (Kind::Kex(kex::ECDH_SHA2_NISTP521), Class::Compatible),
    (Kind::Kex(kex::DH_GEX_SHA256), Class::Compatible),
    (Kind::Kex(kex::DH_G16_SHA512), Class::Compatible),
    (Kind::Kex(kex::DH_G18_SHA512), Class::Compatible),
    (Kind::Kex(kex::DH_G14_SHA256), Class::Compatible),
    (Kind::Kex(kex::DH_G14_SHA1), Class::Weak),
    (Kind::Cipher(cipher::AES_128_GCM), Class::Modern),
    (Kind::Cipher(cipher::AES_256_GCM), Class::Modern),
    (Kind::Cipher(cipher::CHACHA20_POLY1305), Class::Modern),
    (Kind::Cipher(cipher::AES_256_CTR), Class::Modern),
    (Kind::Cipher(cipher::AES_192_CTR), Class::Modern),
    (Kind::Cipher(cipher::AES_128_CTR), Class::Modern),
    (Kind::Cipher(cipher::AES_256_CBC), Class::Weak),
    (Kind::Cipher(cipher::AES_192_CBC), Class::Weak),
    (Kind::Cipher(cipher::AES_128_CBC), Class::Weak),
    (Kind::Mac(mac::HMAC_SHA256_ETM), Class::Modern),
    (Kind::Mac(mac::HMAC_SHA512_ETM), Class::Modern),
    (Kind::Mac(mac::HMAC_SHA256), Class::Compatible),
    (Kind::Mac(mac::HMAC_SHA512), Class::Compatible),
    (Kind::Mac(mac::HMAC_SHA1_ETM), Class::Weak),
    (Kind::Mac(mac::HMAC_SHA1), Class::Weak),
];

impl Kind {
    /// Its name on the wire, for as long as the program runs; none where it is not in the table.
    pub fn known_name(&self) -> Option<&'static str> {
        TABLE.iter().find(|(known, _)| known == self).map(|(known, _)| known.name())
    }

    /// Its name on the wire.
    pub fn name(&self) -> &str {
        match self {
            Kind::Kex(name) => name.as_ref(),
            Kind::Cipher(name) => name.as_ref(),
            Kind::Mac(name) => name.as_ref(),
        }
    }
}

/// What an account may have an exception for.
pub fn exceptions() -> impl Iterator<Item = &'static str> {
    TABLE.iter().filter(|(_, class)| *class != Class::Modern).map(|(kind, _)| kind.name())
}

/// What is offered: to everybody, and what exceptions add to it.
pub fn offered(offer: Offer, exceptions: &[String]) -> impl Iterator<Item = Kind> {
    TABLE
        .iter()
        .filter(move |(kind, class)| is_offered(offer, *class) || exceptions.iter().any(|name| name == kind.name()))
        .map(|(kind, _)| *kind)
}

fn is_offered(offer: Offer, class: Class) -> bool {
    match class {
        Class::Modern => true,
        Class::Compatible => offer == Offer::Compatible,
        Class::Weak => false,
    }
}

/// The lists as russh takes them.
pub fn preferred(offer: Offer, exceptions: &[String]) -> Preferred {
    let (mut kex, mut cipher, mut mac) = (Vec::new(), Vec::new(), Vec::new());
    for kind in offered(offer, exceptions) {
        match kind {
            Kind::Kex(name) => kex.push(name),
            Kind::Cipher(name) => cipher.push(name),
            Kind::Mac(name) => mac.push(name),
        }
    }
    kex.extend([kex::EXTENSION_SUPPORT_AS_SERVER, kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER]);
    Preferred {
        kex: kex.into(),
        key: vec![Algorithm::Ed25519, Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }].into(),
        cipher: cipher.into(),
        mac: mac.into(),
        // Compression before login has been a hole more than once, and partners' files are compressed already.
        compression: Cow::Borrowed(&[compression::NONE]),
        ..Preferred::DEFAULT
    }
}

/// The settings of SSH for connections that are offered the usual, and for others. The host keys may change once, on a new standby.
pub struct Greetings {
    offer: Offer,
    // Held for a line, never across an await.
    usual: RwLock<Arc<Config>>,
}

impl Greetings {
    /// Those of a machine with these host keys.
    pub fn new(keys: Vec<PrivateKey>, offer: Offer) -> Greetings {
        Greetings { offer, usual: RwLock::new(Arc::new(ssh_config(keys, preferred(offer, &[])))) }
    }

    /// Shows other host keys from the next connection on.
    pub fn show(&self, keys: Vec<PrivateKey>) {
        let usual = Arc::new(ssh_config(keys, preferred(self.offer, &[])));
        *self.usual.write().unwrap_or_else(PoisonError::into_inner) = usual;
    }

    /// Has the server ask for new keys each time so many bytes have gone by, from the next connection on.
    #[cfg(test)]
    pub fn renew_keys_after(&self, bytes: usize) {
        let limits = russh::Limits::new(bytes, bytes, std::time::Duration::from_secs(3600));
        let mut usual = self.usual.write().unwrap_or_else(PoisonError::into_inner);
        *usual = Arc::new(Config { limits, ..ssh_config(usual.keys.clone(), preferred(self.offer, &[])) });
    }

    /// The settings for a connection.
    pub fn for_exceptions(&self, exceptions: Option<&[String]>) -> Arc<Config> {
        let usual = self.usual.read().unwrap_or_else(PoisonError::into_inner).clone();
        match exceptions {
            None => usual,
            Some(names) => Arc::new(ssh_config(usual.keys.clone(), preferred(self.offer, names))),
        }
    }
}

/// The name of an algorithm in the table, if it is not offered to everybody.
pub fn exception(kind: &Kind, offer: Offer) -> Option<&'static str> {
    TABLE.iter().find(|(known, class)| known == kind && !is_offered(offer, *class)).map(|(known, _)| known.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_weak_is_offered_by_exception_only() {
        let names = |offer, exceptions: &[String]| {
            offered(offer, exceptions).map(|kind| kind.name().to_owned()).collect::<Vec<_>>().join(" ")
        };
        for offer in [Offer::Modern, Offer::Compatible] {
            assert!(!names(offer, &[]).contains("cbc") && !names(offer, &[]).contains("sha1"));
        }
        assert!(!names(Offer::Modern, &[]).contains("hmac-sha2-256 "));
        assert!(names(Offer::Compatible, &[]).contains("hmac-sha2-256 "));
        assert!(names(Offer::Modern, &["aes128-cbc".into()]).contains("aes128-cbc"));
        assert!(!names(Offer::Modern, &["diffie-hellman-group1-sha1".into()]).contains("group1-"), "not even then");
        assert!(exceptions().any(|name| name == "hmac-sha1") && exceptions().all(|name| !name.contains("gcm")));
    }
}
