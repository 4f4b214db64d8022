//! The pair secret: 256 bits that both machines share, and all the pairing there is.
//!
//! Everything secret that the machines need comes out of it by HKDF with a label of its own, so that no two uses share
//! a key. The secret itself is never logged, stored or sent.

use std::path::Path;

use anyhow::Context;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::exit::usage;

/// Fewer different bytes than this among 32 look typed, not drawn. A drawn secret has fewer with chance below 1e-12.
const DIFFERENT_BYTES_MIN: usize = 16;

/// Where a master keeps the secret that it drew for itself.
const KEPT_NAME: &str = "pair_secret";

/// The secret that makes two machines a pair.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PairSecret([u8; 32]);

impl std::fmt::Debug for PairSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PairSecret(…)")
    }
}

impl PairSecret {
    /// Draws a new one.
    pub fn generate() -> anyhow::Result<PairSecret> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).context("the system has no random numbers")?;
        Ok(PairSecret(bytes))
    }

    /// Reads `PAIR_SECRET`, or the file named by `PAIR_SECRET_FILE`. `None` where neither is set.
    pub fn load() -> anyhow::Result<Option<PairSecret>> {
        if let Some(text) = std::env::var_os("PAIR_SECRET").filter(|text| !text.is_empty()) {
            return PairSecret::parse(&text.to_string_lossy(), "PAIR_SECRET").map(Some);
        }
        match std::env::var_os("PAIR_SECRET_FILE").filter(|path| !path.is_empty()) {
            Some(path) => PairSecret::read(Path::new(&path)).map(Some),
            None => Ok(None),
        }
    }

    /// As [`PairSecret::load`], and where nothing is set, the secret that the master drew at its first start.
    pub fn find(state: &Path) -> anyhow::Result<Option<PairSecret>> {
        let kept = state.join(KEPT_NAME);
        match PairSecret::load()? {
            None if kept.exists() => PairSecret::read(&kept).map(Some),
            found => Ok(found),
        }
    }

    /// Keeps a drawn secret in the state folder, for the next start.
    pub fn keep(&self, state: &Path) -> anyhow::Result<()> {
        crate::node::replace_file(&state.join(KEPT_NAME), (self.to_hex() + "\n").as_bytes(), 0o600)
    }

    /// Reads the secret from a file.
    pub fn read(path: &Path) -> anyhow::Result<PairSecret> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| usage(format!("cannot read the pair secret {}: {error}", path.display())))?;
        PairSecret::parse(&text, &path.display().to_string())
    }

    /// Parses 64 hexadecimal digits. `origin` names the place in the sentence of a refusal.
    pub fn parse(text: &str, origin: &str) -> anyhow::Result<PairSecret> {
        const ADVICE: &str = "make one with: openssl rand -hex 32";
        let text = text.trim();
        let digits = text.chars().count();
        if digits != 64 || !text.is_ascii() {
            return Err(usage(format!("{origin} has {digits} characters; it takes 64 hexadecimal digits ({ADVICE})")));
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = std::str::from_utf8(digits)
                .ok()
                .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                .ok_or_else(|| usage(format!("{origin} holds something else than hexadecimal digits ({ADVICE})")))?;
        }
        let different: std::collections::BTreeSet<u8> = bytes.iter().copied().collect();
        if different.len() < DIFFERENT_BYTES_MIN || is_a_row(&bytes) {
            return Err(usage(format!("{origin} can be guessed: it repeats itself or counts ({ADVICE})")));
        }
        Ok(PairSecret(bytes))
    }

    /// The secret as 64 hexadecimal digits, for the line of an `.env` file.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// 32 bytes for one purpose. The label must never change: keys of running pairs hang on it.
    pub fn derive(&self, label: &str) -> [u8; 32] {
        let mut out = [0; 32];
        // 32 bytes are always within HKDF's limit of 255 blocks, so the error cannot occur.
        let _ = Hkdf::<Sha256>::new(Some(b"sftp-ha v1"), &self.0).expand(label.as_bytes(), &mut out);
        out
    }

    /// A public name for the pair, 16 hexadecimal digits: equal on both machines, and telling nothing of the secret.
    pub fn pair_id(&self) -> String {
        hex(&self.derive("pair id")).chars().take(16).collect()
    }
}

/// Whether each byte follows from the last by the same step (00 01 02 …, 00 11 22 …).
fn is_a_row(bytes: &[u8; 32]) -> bool {
    let mut steps = bytes.windows(2).map(|two| match two {
        [first, second] => second.wrapping_sub(*first),
        _ => 0,
    });
    let first = steps.next();
    steps.all(|step| Some(step) == first)
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawn_secret_is_accepted_and_reads_back() {
        let secret = PairSecret::generate().unwrap();
        let again = PairSecret::parse(&format!(" {}\n", secret.to_hex()), "here").unwrap();
        assert_eq!(again.derive("x"), secret.derive("x"));
        assert_ne!(secret.derive("x"), secret.derive("y"));
    }

    #[test]
    fn a_short_guessable_or_garbled_secret_is_refused_with_advice() {
        let row: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
        for text in
            ["", "1234", &"00".repeat(32), &"0123456789abcdef".repeat(4), &row, &"zz".repeat(32), &"é".repeat(64)]
        {
            let error = PairSecret::parse(text, "PAIR_SECRET").unwrap_err();
            assert_eq!(crate::exit::code(&error), 2);
            assert!(error.to_string().starts_with("PAIR_SECRET "), "{error}");
            assert!(error.to_string().contains("openssl rand -hex 32"), "{error}");
        }
    }
}
