//! Texts that come again and again, each kept once: accounts in a table of their own, everything else in another.
//!
//! Always holds: what is remembered here is in the database. After a transaction that was taken back it has to be forgotten.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension};

/// Texts that are remembered at most, of each table: strangers send as many names as they like.
const REMEMBERED_MAX: usize = 50_000;

/// Numbers of texts.
#[derive(Debug, Default)]
pub struct Words {
    words: HashMap<String, i64>,
    accounts: HashMap<String, i64>,
}

impl Words {
    /// The number of a text; none for the empty one.
    pub fn word(&mut self, db: &Connection, text: &str) -> rusqlite::Result<Option<i64>> {
        if text.is_empty() {
            return Ok(None);
        }
        let found = "SELECT id FROM word WHERE text = ?";
        number(&mut self.words, db, text, found, "INSERT INTO word (text) VALUES (?)").map(Some)
    }

    /// The number of an account. Nobody is one as well.
    pub fn account(&mut self, db: &Connection, name: &str) -> rusqlite::Result<i64> {
        let found = "SELECT id FROM account WHERE name = ?";
        number(&mut self.accounts, db, name, found, "INSERT INTO account (name) VALUES (?)")
    }

    /// Forgets all of them.
    pub fn forget(&mut self) {
        self.words.clear();
        self.accounts.clear();
    }
}

fn number(
    known: &mut HashMap<String, i64>,
    db: &Connection,
    text: &str,
    find: &str,
    add: &str,
) -> rusqlite::Result<i64> {
    if let Some(number) = known.get(text) {
        return Ok(*number);
    }
    let found: Option<i64> = db.prepare_cached(find)?.query_row([text], |row| row.get(0)).optional()?;
    let number = match found {
        Some(number) => number,
        None => db.prepare_cached(add)?.insert([text])?,
    };
    if known.len() >= REMEMBERED_MAX {
        known.clear();
    }
    known.insert(text.to_owned(), number);
    Ok(number)
}
