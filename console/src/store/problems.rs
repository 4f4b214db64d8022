//! Lines that are no records, and files that cannot be read: counted all, and the newest kept with their place.

use rusqlite::{Connection, params};

/// Problems that are kept.
const PROBLEMS_MAX: i64 = 1000;

/// The longest sentence, in bytes.
const SENTENCE_BYTES_MAX: usize = 400;

/// Something in a log that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where in the file's text it stands, in bytes.
    pub position: u64,
    /// What is wrong with it.
    pub sentence: String,
}

/// Keeps a problem; the oldest goes.
pub fn keep_problem(db: &Connection, file: &str, problem: &Problem, now_ms: i64) -> rusqlite::Result<()> {
    let end = problem.sentence.floor_char_boundary(SENTENCE_BYTES_MAX);
    let sentence = problem.sentence.get(..end).unwrap_or_default();
    let sql = "INSERT INTO problem (at_ms, file, position, sentence) VALUES (?, ?, ?, ?)";
    let id = db.prepare_cached(sql)?.insert(params![now_ms, file, problem.position, sentence])?;
    db.prepare_cached("DELETE FROM problem WHERE id <= ?")?.execute([id - PROBLEMS_MAX]).map(drop)
}
