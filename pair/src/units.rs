//! Sizes as people write them: `10GiB`, `500 MB`, `1.5TiB`, or plain bytes.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_yaml::Value;

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// The bytes that a text means, at least one; `None` if it means none.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit = UNITS.iter().find(|(name, _)| text.ends_with(name));
    let (number, factor) = match unit {
        Some((name, factor)) => (text.strip_suffix(name)?.trim_end(), *factor),
        None => (text, 1),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(part) || part.len() > 6 || number.ends_with('.') {
        return None;
    }
    let scale = 10_u64.pow(part.len() as u32);
    let fraction = if part.is_empty() { 0 } else { part.parse::<u64>().ok()?.checked_mul(factor)? / scale };
    whole.parse::<u64>().ok()?.checked_mul(factor)?.checked_add(fraction).filter(|bytes| *bytes > 0)
}

/// A setting that is a size, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        let text = match Value::deserialize(deserializer)? {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text,
            _ => String::new(),
        };
        bytes(&text)
            .map(Size)
            .ok_or_else(|| D::Error::custom("a size is a number of bytes, or one with a unit: 10MB, 1.5GiB"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let cases = [
            ("10GiB", Some(10 << 30)),
            ("500 MB", Some(500_000_000)),
            ("1.5TiB", Some(3 << 39)),
            ("4096", Some(4096)),
            ("7B", Some(7)),
            ("0", None),
            ("0GiB", None),
            ("-1", None),
            ("1.GiB", None),
            (".5GiB", None),
            ("ten", None),
            ("10 gib", None),
            ("", None),
            ("99999999999TiB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
