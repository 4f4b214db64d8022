//! Random values that prove something by being known: session ids and the tokens of forms.
//!
//! A token has 256 bits from the kernel. Two are compared in constant time, by way of their hashes. It has no `Display`: who writes
//! one out says so by [`Token::hex`].

/// Hexadecimal digits of a token.
const DIGITS: usize = 64;

/// A random value.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// Where the kernel gives no random numbers.
    pub fn random() -> anyhow::Result<Token> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Token(bytes))
    }

    /// Reads what [`Token::hex`] wrote.
    pub fn parse(text: &str) -> Option<Token> {
        if text.len() != DIGITS {
            return None;
        }
        blake3::Hash::from_hex(text).ok().map(|bytes| Token(*bytes.as_bytes()))
    }

    /// As text, in lower case.
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// What may be kept of it: nobody gets from here to the token.
    pub fn hash(&self) -> blake3::Hash {
        blake3::hash(&self.0)
    }
}

impl PartialEq for Token {
    /// In constant time, as BLAKE3's hashes are compared.
    fn eq(&self, other: &Token) -> bool {
        self.hash() == other.hash()
    }
}

impl Eq for Token {}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_differs_from_every_other() {
        let (one, other) = (Token::random().unwrap(), Token::random().unwrap());
        assert_eq!(Token::parse(&one.hex()), Some(one.clone()));
        assert_ne!(one, other);
        assert_eq!(one.hex().len(), DIGITS);
        assert_eq!(format!("{one:?}"), "a token");
    }

    #[test]
    fn what_is_no_token_is_none() {
        let long = "0".repeat(DIGITS + 1);
        let not_hex = "x".repeat(DIGITS);
        for text in ["", "00", "../../etc/passwd", &long, &not_hex] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
    }
}
