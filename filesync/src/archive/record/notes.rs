//! How each note changes the record.

use rusqlite::{Transaction, params};

use super::{Intent, Note};
use crate::archive::sight::{Proof, Stamp};

/// Writes one note down, within a transaction. Gives the text's number.
pub fn write(tx: &Transaction, note: &Note, now_s: i64) -> rusqlite::Result<i64> {
    match note {
        Note::Known { folder, path, stamp, text, carries } => {
            keep_file(tx, folder, path, stamp, *text, now_s)?;
            if *carries {
                carry(tx, *text, stamp)?;
            }
            Ok(*text)
        }
        Note::Intent(intent) => intend(tx, intent, now_s),
        Note::Begun(text) => {
            tx.prepare_cached("UPDATE intent SET begun = 1 WHERE text = ?")?.execute([text])?;
            Ok(*text)
        }
        Note::Done(intent, whole) => done(tx, intent, whole.as_ref(), now_s),
        Note::Dropped(text) => {
            tx.prepare_cached("DELETE FROM intent WHERE text = ?")?.execute([text])?;
            tx.prepare_cached("DELETE FROM text WHERE id = ? AND sent = 0")?.execute([text])?;
            Ok(*text)
        }
        Note::Back(text, left) => {
            tx.prepare_cached("DELETE FROM file WHERE text = ?")?.execute([text])?;
            tx.prepare_cached("DELETE FROM intent WHERE text = ?")?.execute([text])?;
            match left {
                Some((proof, stored)) => keep_proof(tx, *text, proof, *stored, None)?,
                None => drop(tx.prepare_cached("DELETE FROM text WHERE id = ?")?.execute([text])?),
            }
            Ok(*text)
        }
        Note::Missing(folder, path, is_missing) => {
            let since = is_missing.then_some(now_s);
            let mut set = tx.prepare_cached("UPDATE file SET missing_s = ? WHERE folder = ? AND path = ?")?;
            set.execute(params![since, folder, path]).map(|_| 0)
        }
        Note::Setting(key, value) => {
            tx.prepare_cached("INSERT OR REPLACE INTO setting VALUES (?, ?)")?.execute([key, value.as_str()]).map(|_| 0)
        }
    }
}

fn keep_file(
    tx: &Transaction,
    folder: &str,
    path: &[u8],
    stamp: &Stamp,
    text: i64,
    now_s: i64,
) -> rusqlite::Result<()> {
    let Stamp { ino, btime_ns, size, mtime_ns, ctime_ns } = *stamp;
    let sql = "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)";
    let values = params![folder, path, text, ino as i64, btime_ns, size as i64, mtime_ns, ctime_ns, now_s];
    tx.prepare_cached(sql)?.execute(values).map(drop)
}

fn carry(tx: &Transaction, text: i64, stamp: &Stamp) -> rusqlite::Result<()> {
    let mut set = tx.prepare_cached("UPDATE text SET ino = ?, btime_ns = ? WHERE id = ?")?;
    set.execute(params![stamp.ino as i64, stamp.btime_ns, text]).map(drop)
}

fn keep_proof(tx: &Transaction, text: i64, proof: &Proof, stored: u64, at_s: Option<i64>) -> rusqlite::Result<()> {
    let sql = "UPDATE text SET sent = ?, start = ?, hash = ?, hash_bytes = ?, tail = ?, stored = ?, last_s = coalesce(?, last_s)
               WHERE id = ?";
    let Proof { sent, start, hash, hash_bytes, tail } = proof;
    let (sent, hash_bytes, stored) = (*sent as i64, *hash_bytes as i64, stored as i64);
    let mut set = tx.prepare_cached(sql)?;
    set.execute(params![sent, start.as_slice(), hash.as_slice(), hash_bytes, tail.as_slice(), stored, at_s, text])
        .map(drop)
}

fn intend(tx: &Transaction, intent: &Intent, now_s: i64) -> rusqlite::Result<i64> {
    let mut text = intent.text;
    if text == 0 {
        let none = [0_u8; 32];
        let sql = "INSERT INTO text (ino, btime_ns, sent, start, hash, hash_bytes, tail, remote, base, stored, last_s)
                   VALUES (?, ?, 0, ?, ?, 0, ?, ?, 0, 0, ?)";
        let Stamp { ino, btime_ns, .. } = intent.stamp;
        let (none, remote) = (none.as_slice(), &intent.remote);
        tx.prepare_cached(sql)?.execute(params![ino as i64, btime_ns, none, none, none, remote, now_s])?;
        text = tx.last_insert_rowid();
    } else if intent.stored_from == 0 {
        // A text of which nothing is under that name yet: the rest, or all of it, begins there.
        let mut set = tx.prepare_cached("UPDATE text SET remote = ?, base = ?, stored = 0 WHERE id = ?")?;
        set.execute(params![intent.remote, intent.from as i64, text])?;
    }
    let body = serde_json::to_string(intent).unwrap_or_default();
    let mut keep = tx.prepare_cached("INSERT OR REPLACE INTO intent VALUES (?, 0, ?)")?;
    keep.execute(params![text, body])?;
    Ok(text)
}

fn done(tx: &Transaction, intent: &Intent, whole: Option<&Stamp>, now_s: i64) -> rusqlite::Result<i64> {
    keep_proof(tx, intent.text, &intent.proof, intent.stored_to, Some(now_s))?;
    carry(tx, intent.text, &intent.stamp)?;
    tx.prepare_cached("DELETE FROM intent WHERE text = ?")?.execute([intent.text])?;
    if let Some(stamp) = whole {
        keep_file(tx, &intent.folder, &intent.path, stamp, intent.text, now_s)?;
    }
    Ok(intent.text)
}
