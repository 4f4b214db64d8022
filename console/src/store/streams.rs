//! How far each log was read. A stream is the text of a log, wherever it lies and whatever its file is called.
//!
//! Always holds: a stream is told from others by what it says, never by a name or an inode alone: its beginning, and the hash of what
//! stands before the place up to which it was read.

use rusqlite::{Connection, Row, params};

/// How much of a text's beginning is kept, and how much before the place up to which it was read is hashed, in bytes.
pub const TAIL_BYTES: usize = 4096;

/// How long a file is remembered that nobody has seen, in days.
const REMEMBERED_DAYS: i64 = 800;

/// A log's text and how far it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Its number; 0 until anything of it was read.
    pub id: i64,
    /// The hash of its first line.
    pub start: [u8; 16],
    /// How it begins: as much as was read of it, [`TAIL_BYTES`] at most.
    pub head: Vec<u8>,
    /// Up to where it was read, in bytes of its text.
    pub consumed: u64,
    /// The hash of what stands before that, [`TAIL_BYTES`] at most.
    pub tail: [u8; 16],
    /// Whether that is inside a line that is too long to be one.
    pub is_skipping: bool,
    /// The folder in which it was last.
    pub folder: String,
    /// Its file's name there.
    pub name: String,
    /// The file it was read from last.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Its records' first number, where they have any.
    pub first_id: Option<i64>,
    /// And their last.
    pub last_id: Option<i64>,
}

impl Stream {
    /// Whether it was read from this file last.
    pub fn is_of(&self, device: u64, inode: u64) -> bool {
        (self.device, self.inode) == (device, inode)
    }
}

/// The hash by which texts are told apart.
pub fn hash_of(text: &[u8]) -> [u8; 16] {
    let mut hash = [0; 16];
    blake3::Hasher::new().update(text).finalize_xof().fill(&mut hash);
    hash
}

/// The streams that begin with a line.
pub fn streams_that_begin(db: &Connection, start: &[u8; 16]) -> rusqlite::Result<Vec<Stream>> {
    let mut query = db.prepare_cached(
        "SELECT id, start, head, consumed, tail, is_skipping, folder, name, device, inode, first_id, last_id
         FROM stream WHERE start = ? ORDER BY consumed DESC, id DESC",
    )?;
    query.query_map([start], stream_of)?.collect()
}

fn stream_of(row: &Row) -> rusqlite::Result<Stream> {
    Ok(Stream {
        id: row.get(0)?,
        start: row.get(1)?,
        head: row.get(2)?,
        consumed: row.get(3)?,
        tail: row.get(4)?,
        is_skipping: row.get(5)?,
        folder: row.get(6)?,
        name: row.get(7)?,
        device: row.get::<_, i64>(8)? as u64,
        inode: row.get::<_, i64>(9)? as u64,
        first_id: row.get(10)?,
        last_id: row.get(11)?,
    })
}

/// Adds a stream and gives it its number.
pub fn add(db: &Connection, stream: &Stream, now_ms: i64) -> rusqlite::Result<i64> {
    let sql = "INSERT INTO stream (start, head, consumed, tail, is_skipping, folder, name, device, inode, first_id, last_id, lines,
               records, repeated, passed_over, problems, seen_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, ?)";
    db.prepare_cached(sql)?.insert(params![
        stream.start,
        stream.head,
        stream.consumed,
        stream.tail,
        stream.is_skipping,
        stream.folder,
        stream.name,
        stream.device as i64,
        stream.inode as i64,
        stream.first_id,
        stream.last_id,
        now_ms
    ])
}

/// Keeps how far a stream was read, if it was read so far as the one thinks who says it; tells whether that is so.
pub fn advance(db: &Connection, before: u64, stream: &Stream, now_ms: i64) -> rusqlite::Result<bool> {
    let sql = "UPDATE stream SET head = ?, consumed = ?, tail = ?, is_skipping = ?, folder = ?, name = ?, device = ?, inode = ?,
               first_id = ?, last_id = ?, seen_ms = ? WHERE id = ? AND consumed = ?";
    let changed = db.prepare_cached(sql)?.execute(params![
        stream.head,
        stream.consumed,
        stream.tail,
        stream.is_skipping,
        stream.folder,
        stream.name,
        stream.device as i64,
        stream.inode as i64,
        stream.first_id,
        stream.last_id,
        now_ms,
        stream.id,
        before
    ])?;
    Ok(changed == 1)
}

/// The first and last numbers of all other streams' records.
pub fn spans_of_others(db: &Connection, stream: i64) -> rusqlite::Result<Vec<(i64, i64)>> {
    let sql = "SELECT first_id, last_id FROM stream WHERE id <> ? AND first_id IS NOT NULL AND last_id IS NOT NULL";
    let mut query = db.prepare_cached(sql)?;
    query.query_map([stream], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Whether a packed file was read to its end: this very file as it is now.
pub fn packed_is_known(db: &Connection, file: (u64, u64), bytes: u64, changed_ns: i64) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM packed WHERE device = ? AND inode = ? AND bytes = ? AND changed_ns = ?";
    db.prepare_cached(sql)?.exists(params![file.0 as i64, file.1 as i64, bytes as i64, changed_ns])
}

/// Remembers that a packed file was read to its end.
pub fn remember_packed(
    db: &Connection,
    file: (u64, u64),
    bytes: u64,
    changed_ns: i64,
    now_ms: i64,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO packed VALUES (?, ?, ?, ?, ?)";
    db.prepare_cached(sql)?.execute(params![file.0 as i64, file.1 as i64, bytes as i64, changed_ns, now_ms]).map(drop)
}

/// Forgets what nobody has seen for a long time.
pub fn forget_old(db: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    let before_ms = now_ms - REMEMBERED_DAYS * 86_400_000;
    db.execute("DELETE FROM stream WHERE seen_ms < ?", [before_ms])?;
    db.execute("DELETE FROM packed WHERE seen_ms < ?", [before_ms]).map(drop)
}
