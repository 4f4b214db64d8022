//! What is looked for in paths: a name or a path, whole, its beginning, or anything in it.

use rusqlite::types::Value;
use serde::{Deserialize, Serialize};

use super::super::scope::Condition;

/// The longest text that is looked for anywhere in a path, in bytes.
const CONTAINED_BYTES_MAX: usize = 1024;

/// Greater than every letter that a name has.
const LAST_LETTER: char = '\u{10ffff}';

/// How a text is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// It is the whole name or path.
    Exact,
    /// The name or path begins with it.
    Prefix,
    /// It stands anywhere in the path, or in that of the target; small and capital letters (a to z) are the same.
    #[default]
    Contains,
}

/// What is looked for: a path where it begins with `/`, else a file's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Search {
    /// The text.
    pub text: String,
    /// How it is looked for.
    #[serde(default)]
    pub how: How,
}

impl Search {
    fn column(&self) -> &'static str {
        if self.text.starts_with('/') { "path" } else { "name" }
    }

    /// The index that has what is looked for in order.
    pub(super) fn index(&self) -> Option<&'static str> {
        match (self.how, self.column()) {
            (How::Contains, _) => None,
            (_, "path") => Some("record_path"),
            _ => Some("record_name"),
        }
    }

    pub(super) fn condition(&self) -> Condition {
        let (column, text) = (self.column(), || Value::Text(self.text.clone()));
        match self.how {
            How::Exact => Condition::default().and(&format!("{column} = ?"), [text()]),
            How::Prefix => {
                let end = Value::Text(format!("{}{LAST_LETTER}", self.text));
                Condition::default().and(&format!("{column} >= ? AND {column} < ?"), [text(), end])
            }
            How::Contains => {
                let pattern = pattern(&self.text);
                let sql = "(path LIKE ? ESCAPE '\\' OR target LIKE ? ESCAPE '\\')";
                Condition::default().and(sql, [Value::Text(pattern.clone()), Value::Text(pattern)])
            }
        }
    }
}

fn pattern(text: &str) -> String {
    let end = text.floor_char_boundary(CONTAINED_BYTES_MAX);
    let mut pattern = String::from("%");
    for letter in text.get(..end).unwrap_or_default().chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_mean_something_in_patterns_mean_themselves() {
        assert_eq!(pattern(r"50%_\a"), r"%50\%\_\\a%");
        assert!(pattern(&"é".repeat(10_000)).len() < 1100);
    }
}
