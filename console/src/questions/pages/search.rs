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

/// The last part of a target, as the index has it: what is behind the last `/`.
macro_rules! target_name {
    () => {
        "substr(target, length(rtrim(target, replace(target, '/', ''))) + 1)"
    };
}

/// Both places in which a name or path stands, each with its index.
const PATHS: [(&str, &str); 2] = [("record_path", "path"), ("record_target", "target")];
const NAMES: [(&str, &str); 2] = [("record_name", "name"), ("record_target_name", target_name!())];

impl Search {
    fn is_of_paths(&self) -> bool {
        self.text.starts_with('/')
    }

    /// The indexes that have what is looked for in order, each with what it is asked; none where it stands in none.
    pub(super) fn indexes(&self) -> Option<Vec<(&'static str, Condition)>> {
        if self.how == How::Contains {
            return None;
        }
        let places = if self.is_of_paths() { PATHS } else { NAMES };
        // An index of some records is taken only where the condition says that it has all that are meant.
        let with = |(index, column): (&'static str, &str)| {
            let place = if index.starts_with("record_target") { "target IS NOT NULL" } else { "1" };
            (index, Condition::default().and(place, []).with(self.of_column(column)))
        };
        Some(places.into_iter().map(with).collect())
    }

    fn of_column(&self, column: &str) -> Condition {
        let text = || Value::Text(self.text.clone());
        match self.how {
            How::Exact => Condition::default().and(&format!("{column} = ?"), [text()]),
            _ => {
                let end = Value::Text(format!("{}{LAST_LETTER}", self.text));
                Condition::default().and(&format!("{column} >= ? AND {column} < ?"), [text(), end])
            }
        }
    }

    pub(super) fn condition(&self) -> Condition {
        if self.how == How::Contains {
            let pattern = pattern(&self.text);
            let sql = "(path LIKE ? ESCAPE '\\' OR target LIKE ? ESCAPE '\\')";
            return Condition::default().and(sql, [Value::Text(pattern.clone()), Value::Text(pattern)]);
        }
        let places = if self.is_of_paths() { PATHS } else { NAMES };
        let [one, other] = places.map(|(_, column)| self.of_column(column));
        // Each of them begins with AND.
        let sql = format!("((1{}) OR (1{}))", one.sql, other.sql);
        Condition::default().and(&sql, one.values.into_iter().chain(other.values))
    }

    /// Whether this is found by its path, or by that of its target.
    pub fn finds(&self, path: &str) -> bool {
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        let place = if self.is_of_paths() { path } else { name };
        match self.how {
            How::Exact => place == self.text,
            How::Prefix => place.starts_with(&self.text),
            How::Contains => path.to_ascii_lowercase().contains(&self.text.to_ascii_lowercase()),
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
