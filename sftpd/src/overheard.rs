//! What a client says before the keys are exchanged, from which it follows which algorithms it has chosen: russh tells nobody.
//!
//! Always holds: where the client is not understood, nothing is taken for chosen, and [`Overheard::chosen`] says so. Only the
//! first exchange of keys is looked at: what comes later is encrypted.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pair::wire::{Malformed, Reader};

use crate::algorithms::{Kind, Offer, exception, offered};

/// More than russh takes of a greeting and a packet, in bytes.
const BYTES_MAX: usize = 300 * 1024;

/// Packets that may come before a KEXINIT: IGNORE, UNIMPLEMENTED, DEBUG (RFC 4253, section 11).
const SKIPPED: std::ops::RangeInclusive<u8> = 2..=4;
const KEXINIT: u8 = 20;

/// Where the lists for key exchange, ciphers and MACs stand in a KEXINIT (RFC 4253, section 7.1).
const LISTS: [usize; 5] = [0, 2, 3, 4, 5];

/// What a client has chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// With what keys are exchanged.
    pub kex: Option<&'static str>,
    /// With what both sides encrypt: russh takes the client's list for its own direction for both.
    pub cipher: Option<&'static str>,
    /// With what the client's side is authenticated; none where the cipher does that itself.
    pub mac: Option<&'static str>,
    /// What of all that is not offered to everybody.
    pub used: Vec<&'static str>,
    /// That for which it knows nothing of the usual instead. Others choose it only because they are offered it.
    pub needed: Vec<&'static str>,
}

/// Listens to one client.
#[derive(Debug)]
pub struct Overheard {
    offer: Offer,
    /// What it is offered beyond the usual.
    pub exceptions: Vec<String>,
    // Held for a few lines, never across an await.
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Listening(Vec<u8>),
    Understood(Chosen),
    Lost,
}

impl Overheard {
    /// Listens to a client that is offered these.
    pub fn new(offer: Offer, exceptions: Vec<String>) -> Overheard {
        Overheard { offer, exceptions, state: Mutex::new(State::Listening(Vec::new())) }
    }

    /// Takes what the client has sent. Tells whether more is needed.
    pub fn take(&self, bytes: &[u8]) -> bool {
        let mut state = self.state();
        let State::Listening(heard) = &mut *state else { return false };
        heard.extend_from_slice(bytes);
        let next = match first_kexinit(heard) {
            Ok(None) if heard.len() <= BYTES_MAX => return true,
            Ok(Some(payload)) => self.understood(payload).map_or(State::Lost, State::Understood),
            Ok(None) | Err(Malformed) => State::Lost,
        };
        *state = next;
        false
    }

    /// What it has chosen; nothing where it was not understood.
    pub fn chosen(&self) -> Option<Chosen> {
        match &*self.state() {
            State::Understood(chosen) => Some(chosen.clone()),
            State::Listening(_) | State::Lost => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn understood(&self, payload: &[u8]) -> Result<Chosen, Malformed> {
        let lists = name_lists(payload)?;
        let all: Vec<Kind> = offered(self.offer, &self.exceptions).collect();
        let usual: Vec<Kind> = offered(self.offer, &[]).collect();
        let list = |number: usize| lists.get(number).copied().unwrap_or_default();
        let has_own_mac = |number| first_of(list(number), &all, number).is_some_and(|kind| is_its_own_mac(&kind));
        let name_of = |number| first_of(list(number), &all, number).and_then(|kind| kind.known_name());
        let (kex, cipher) = (name_of(0), name_of(2));
        let mac = if has_own_mac(2) { None } else { name_of(4) };
        let mut chosen = Chosen { kex, cipher, mac, ..Chosen::default() };
        for number in LISTS {
            // The MACs for both directions stand two behind the ciphers.
            if number >= 4 && has_own_mac(number - 2) {
                continue;
            }
            let first = first_of(list(number), &all, number);
            let Some(name) = first.and_then(|kind| exception(&kind, self.offer)) else { continue };
            chosen.used.push(name);
            if first_of(list(number), &usual, number).is_none() {
                chosen.needed.push(name);
            }
        }
        chosen.used.dedup();
        chosen.needed.dedup();
        Ok(chosen)
    }
}

/// The client's first name that is offered: its order decides (RFC 4253, section 7.1).
fn first_of(list: &[u8], offered: &[Kind], number: usize) -> Option<Kind> {
    let is_named = |kind: &&Kind, name: &[u8]| is_in_list(kind, number) && kind.name().as_bytes() == name;
    list.split(|byte| *byte == b',').find_map(|name| offered.iter().find(|kind| is_named(kind, name))).copied()
}

fn is_in_list(kind: &Kind, number: usize) -> bool {
    match kind {
        Kind::Kex(_) => number == 0,
        Kind::Cipher(_) => matches!(number, 2 | 3),
        Kind::Mac(_) => matches!(number, 4 | 5),
    }
}

fn is_its_own_mac(kind: &Kind) -> bool {
    kind.name().contains("gcm") || kind.name().contains("poly1305")
}

/// The payload of the first KEXINIT behind the client's greeting, when all of it is there.
fn first_kexinit(heard: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let Some(line) = heard.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let mut rest = Reader(heard.get(line + 1..).unwrap_or_default());
    loop {
        let Ok(packet) = rest.bytes() else { return Ok(None) };
        // Behind the length of the padding.
        match packet.get(1).ok_or(Malformed)? {
            kind if SKIPPED.contains(kind) => {}
            &KEXINIT => return Ok(packet.get(1..)),
            _ => return Err(Malformed),
        }
    }
}

fn name_lists(payload: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    // Behind the type and 16 bytes of cookie.
    let mut lists = Reader(payload.get(17..).ok_or(Malformed)?);
    (0..6).map(|_| lists.bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: [&str; 3] = ["diffie-hellman-group14-sha1", "aes128-cbc", "hmac-sha1"];
    const IDENT: &[u8] = b"SSH-2.0-old\r\n";

    fn string(text: &str) -> Vec<u8> {
        [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()
    }

    fn packet(payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32 + 1 + 4).to_be_bytes();
        [&length[..], &[4], payload, &[0; 4]].concat()
    }

    fn kexinit(kex: &str, cipher: &str, mac: &str) -> Vec<u8> {
        let lists = [kex, "ssh-ed25519", cipher, cipher, mac, mac, "none", "none", "", ""];
        packet(&[&[20][..], &[7; 16], &lists.map(string).concat(), &[0; 5]].concat())
    }

    fn overheard(offer: Offer, exceptions: &[&str]) -> Overheard {
        Overheard::new(offer, exceptions.iter().map(|name| (*name).to_owned()).collect())
    }

    /// What is used and what is needed of it, said in pieces.
    fn chosen(offer: Offer, exceptions: &[&str], said: &[u8]) -> Option<(Vec<&'static str>, Vec<&'static str>)> {
        let overheard = overheard(offer, exceptions);
        let (last, before) = said.split_last().unwrap();
        assert!(before.chunks(7).all(|piece| overheard.take(piece)), "not all is there yet");
        assert!(!overheard.take(&[*last]));
        overheard.chosen().map(|chosen| (chosen.used, chosen.needed))
    }

    #[test]
    fn what_a_client_chooses_is_the_first_of_its_own_that_it_is_offered() {
        let of = |kex, cipher, mac| chosen(Offer::Modern, &OLD, &[IDENT, &kexinit(kex, cipher, mac)].concat()).unwrap();
        let none: Vec<&str> = Vec::new();
        assert_eq!(of(OLD[0], OLD[1], OLD[2]), (OLD.to_vec(), OLD.to_vec()));
        let capable = of("curve25519-sha256,x", "aes128-ctr", "hmac-sha1,hmac-sha2-256-etm@openssh.com");
        assert_eq!(capable, (vec!["hmac-sha1"], none.clone()), "it could do without");
        let modern = of("x,curve25519-sha256", "3des-cbc,aes128-ctr", "hmac-sha2-256-etm@openssh.com");
        assert_eq!(modern, (none.clone(), none.clone()));
        let unused = of("curve25519-sha256", "aes256-gcm@openssh.com,aes128-cbc", "hmac-sha1");
        assert_eq!(unused, (none.clone(), none), "GCM brings its own");
    }

    #[test]
    fn everybodys_algorithms_are_told() {
        let of = |cipher| {
            let overheard = overheard(Offer::Modern, &[]);
            let macs = "hmac-md5,hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com";
            overheard.take(&[IDENT, &kexinit("curve25519-sha256", cipher, macs)].concat());
            let Chosen { kex, cipher, mac, .. } = overheard.chosen().unwrap();
            assert_eq!(kex, Some("curve25519-sha256"));
            (cipher, mac)
        };
        assert_eq!(of("3des-cbc,aes256-gcm@openssh.com,aes128-ctr"), (Some("aes256-gcm@openssh.com"), None));
        assert_eq!(of("aes192-ctr,aes128-ctr"), (Some("aes192-ctr"), Some("hmac-sha2-512-etm@openssh.com")));
        assert_eq!(of("x").0, None);
    }

    #[test]
    fn what_everybody_is_offered_is_no_exception() {
        let said = [IDENT, &kexinit("curve25519-sha256", "aes128-ctr", "hmac-sha2-256")].concat();
        let exceptions = ["hmac-sha2-256", "hmac-sha1"];
        assert_eq!(chosen(Offer::Compatible, &exceptions, &said), Some((vec![], vec![])));
        let needed = vec!["hmac-sha2-256"];
        assert_eq!(chosen(Offer::Modern, &exceptions, &said), Some((needed.clone(), needed)));
    }

    #[test]
    fn packets_before_the_kexinit_and_a_long_one_hide_nothing() {
        let modern = kexinit("curve25519-sha256", "aes128-ctr", "hmac-sha2-256-etm@openssh.com");
        let ignored = packet(&[&[2][..], &string(std::str::from_utf8(&[b'x'; 100]).unwrap()), &modern].concat());
        let old = kexinit(OLD[0], OLD[1], OLD[2]);
        let said = [IDENT, &ignored, &packet(&[4, 0]), &old].concat();
        assert_eq!(chosen(Offer::Modern, &OLD, &said).unwrap().1, OLD);
        let names = format!("{},{}", "x".repeat(100_000), OLD[0]);
        let said = [IDENT, &kexinit(&names, OLD[1], OLD[2])].concat();
        assert_eq!(chosen(Offer::Modern, &OLD, &said).unwrap().1, OLD);
    }

    #[test]
    fn what_is_not_understood_is_not_taken_for_modern_and_is_not_kept() {
        let other = [IDENT, &packet(&[30, 0])].concat();
        let short = [IDENT, &packet(&[20, 0])].concat();
        for said in [&other[..], &short, &[b'x'; 1_000_000], b"\n\0\0\0\0"] {
            let overheard = overheard(Offer::Modern, &OLD);
            assert!(!overheard.take(said));
            assert_eq!(overheard.chosen(), None);
            assert!(matches!(*overheard.state(), State::Lost));
        }
        assert_eq!(overheard(Offer::Modern, &OLD).chosen(), None, "nothing is said yet");
    }
}
