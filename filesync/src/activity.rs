//! Takes the master's activity log to a standby, so that it outlives the master's disk.
//!
//! The standby says which record it has last; what follows goes there, in order. Nothing is remembered here: whatever is
//! lost on either side, the numbers of the records tell where to go on.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use pair::activity::{LINE_BYTES_MAX, LIVE_NAME, id_of, is_closed_name};
use pair::extension::ACTIVITY;
use pair::wire::put_bytes;

use crate::remote::Remote;
use crate::standby::Standby;

/// How often the log is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait after something went wrong.
const PAUSE: Duration = Duration::from_secs(10);
/// What is sent at a time, in bytes: it fits in a packet, and the longest record fits in it.
const BATCH_BYTES: usize = LINE_BYTES_MAX + 72 * 1024;

/// How much of a file's beginning is remembered, in bytes: the number of its first record is in it.
const HEAD_BYTES: usize = 64;

/// Sends what is new, for ever.
pub async fn keep_sent(standby: &Standby, logs: &Path) {
    let mut told = None;
    loop {
        // The follower's own connection fails as well when the standby is away, and says so.
        if let Ok(remote) = standby.connect().await
            && let Err(sentence) = send_while_connected(standby, &remote, logs).await
            && !remote.client.is_lost()
            && told.as_ref() != Some(&sentence)
        {
            tracing::warn!("standby {}: the activity log does not arrive: {sentence}", standby.address.name);
            told = Some(sentence);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn send_while_connected(standby: &Standby, remote: &Remote, logs: &Path) -> Result<(), String> {
    let mut has = order(standby, remote, &[]).await?;
    let mut reader = Reader::new(logs);
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let lines = reader.lines_after(has);
            (reader, lines)
        });
        let (back, lines) = read.await.map_err(|_| "a bug in reading the log".to_owned())?;
        reader = back;
        let lines = lines.map_err(|error| format!("cannot read {}: {error}", logs.display()))?;
        if lines.is_empty() {
            tokio::time::sleep(LOOK_INTERVAL).await;
            if remote.client.is_lost() {
                return Ok(());
            }
        } else {
            has = order(standby, remote, &lines).await?;
        }
    }
}

/// Sends lines, and hears which record the standby has last.
async fn order(standby: &Standby, remote: &Remote, lines: &[u8]) -> Result<u64, String> {
    let mut body = BytesMut::new();
    put_bytes(&mut body, standby.identity.node().as_bytes());
    put_bytes(&mut body, lines);
    let answer = remote.client.extended(ACTIVITY, &body).await.map_err(|error| error.to_string())?;
    let number = answer.first_chunk().ok_or("the standby's answer makes no sense")?;
    Ok(u64::from_be_bytes(*number))
}

/// Reads the log's files one after the other.
struct Reader {
    logs: PathBuf,
    open: Option<Open>,
}

/// The file that is being read.
struct Open {
    file: File,
    offset: u64,
    /// How it begins, once anything of it was read: a file that begins otherwise is another one.
    head: Vec<u8>,
}

impl Reader {
    fn new(logs: &Path) -> Reader {
        Reader { logs: logs.to_owned(), open: None }
    }

    /// Whole lines behind a record, as many as go at once; nothing where there are none yet.
    fn lines_after(&mut self, has: u64) -> io::Result<Vec<u8>> {
        loop {
            let Open { file, offset, head } = match &mut self.open {
                Some(open) => open,
                none => match file_after(&self.logs, has)? {
                    Some(file) => none.insert(Open { file, offset: 0, head: Vec::new() }),
                    None => return Ok(Vec::new()),
                },
            };
            let mut begins = vec![0; HEAD_BYTES];
            let count = read_at(file, &mut begins, 0)?;
            begins.truncate(count);
            if file.metadata()?.len() < *offset || !begins.starts_with(head) {
                // It was emptied, or a line was taken back: what is new may stand anywhere in it.
                *offset = 0;
            }
            *head = begins;
            let mut part = vec![0; BATCH_BYTES];
            let count = read_at(file, &mut part, *offset)?;
            part.truncate(count);
            let whole = part.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            if whole == 0 && count == BATCH_BYTES {
                // No record is as long as that: whatever it is, it is not ours to send.
                *offset += count as u64;
                continue;
            }
            if whole == 0 {
                if is_live(file, &self.logs) {
                    return Ok(Vec::new());
                }
                // It was closed, or taken away: what was written last is read first.
                let is_read = file.metadata()?.len() <= *offset + count as u64;
                self.open = None;
                if !is_read || file_after(&self.logs, has)?.is_none() {
                    return Ok(Vec::new());
                }
                continue;
            }
            part.truncate(whole);
            *offset += whole as u64;
            let is_new = |line: &&[u8]| id_of(line).is_some_and(|id| id > has);
            let fresh: Vec<u8> =
                part.split_inclusive(|byte| *byte == b'\n').filter(is_new).flatten().copied().collect();
            if !fresh.is_empty() {
                return Ok(fresh);
            }
        }
    }
}

fn read_at(file: &File, part: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(space) = part.get_mut(filled..).filter(|space| !space.is_empty()) {
        match file.read_at(space, offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn is_live(file: &File, logs: &Path) -> bool {
    let at = |found: std::fs::Metadata| (found.dev(), found.ino());
    let live = std::fs::metadata(logs.join(LIVE_NAME)).map(at);
    file.metadata().map(at).is_ok_and(|ours| live.is_ok_and(|live| live == ours))
}

/// The file in which the record behind `has` stands: the last that begins no later, unless all of it is known; then the next.
fn file_after(logs: &Path, has: u64) -> io::Result<Option<File>> {
    let mut names: Vec<_> = match std::fs::read_dir(logs) {
        Ok(entries) => entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    names.retain(|name| name == LIVE_NAME || is_closed_name(name));
    let mut files = Vec::new();
    for name in names {
        // One that goes in between is too old by then.
        let Ok(file) = File::open(logs.join(name)) else { continue };
        if let Some((first, last)) = span(&file)? {
            files.push((first, last, file));
        }
    }
    files.sort_by_key(|(first, ..)| *first);
    Ok(files.into_iter().find(|(_, last, _)| *last > has).map(|(.., file)| file))
}

/// The numbers of a file's first and last records; none where it has none.
fn span(file: &File) -> io::Result<Option<(u64, u64)>> {
    let mut part = vec![0; BATCH_BYTES];
    let count = read_at(file, &mut part, 0)?;
    let first = part.get(..count).and_then(|part| part.split(|byte| *byte == b'\n').find_map(id_of));
    let start = file.metadata()?.len().saturating_sub(BATCH_BYTES as u64);
    let count = read_at(file, &mut part, start)?;
    let last = part.get(..count).and_then(|part| part.split(|byte| *byte == b'\n').rev().find_map(id_of));
    // What no record can be found in at one end has one all the same where the other end has.
    let (first, last) = (first.or(last.map(|_| 0)), last.or(first));
    Ok(first.zip(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pair::activity::Activity;
    use std::io::Write;

    fn line(id: u64) -> Vec<u8> {
        Activity { id, ..Activity::default() }.line()
    }

    fn ids(lines: &[u8]) -> Vec<u64> {
        lines.split(|byte| *byte == b'\n').filter_map(id_of).collect()
    }

    fn append(path: &Path, lines: &[u8]) {
        File::options().create(true).append(true).open(path).unwrap().write_all(lines).unwrap();
    }

    #[test]
    fn what_follows_a_record_is_read_over_files_that_are_closed_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let live = folder.path().join(LIVE_NAME);
        let mut reader = Reader::new(folder.path());
        assert_eq!(reader.lines_after(0).unwrap(), b"", "there is no log yet");
        append(&live, &[line(1), line(2)].concat());
        assert_eq!(ids(&reader.lines_after(0).unwrap()), [1, 2]);
        append(&live, &[line(3), b"{\"id\":4".to_vec()].concat());
        assert_eq!(ids(&reader.lines_after(2).unwrap()), [3], "half a line waits");
        append(&live, b"}\n");
        std::fs::rename(&live, folder.path().join("activity-2026-01-01T00-00-00.000Z.log")).unwrap();
        append(&live, &line(5));
        assert_eq!(ids(&reader.lines_after(3).unwrap()), [4], "the end of the closed file comes first");
        assert_eq!(ids(&reader.lines_after(4).unwrap()), [5]);
        assert_eq!(reader.lines_after(5).unwrap(), b"");
        append(&live, &line(6));
        assert_eq!(ids(&reader.lines_after(5).unwrap()), [6]);
        assert_eq!(ids(&Reader::new(folder.path()).lines_after(2).unwrap()), [3, 4], "also by one that begins there");
    }

    #[test]
    fn a_file_that_was_emptied_is_read_from_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let live = folder.path().join(LIVE_NAME);
        append(&live, &[line(1), line(2), line(3)].concat());
        let mut reader = Reader::new(folder.path());
        assert_eq!(ids(&reader.lines_after(0).unwrap()), [1, 2, 3]);
        File::options().write(true).open(&live).unwrap().set_len(0).unwrap();
        assert_eq!(reader.lines_after(3).unwrap(), b"");
        append(&live, &line(4));
        assert_eq!(ids(&reader.lines_after(3).unwrap()), [4]);
        // Also where it has grown past what was read before anybody looked.
        File::options().write(true).open(&live).unwrap().set_len(0).unwrap();
        append(&live, &(5..50).flat_map(line).collect::<Vec<_>>());
        assert_eq!(ids(&reader.lines_after(4).unwrap()), (5..50).collect::<Vec<_>>());
    }

    #[test]
    fn much_goes_in_parts_and_what_is_no_record_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut all = vec![b'x'; 3 * BATCH_BYTES];
        all.push(b'\n');
        (1..=5000).for_each(|id| all.extend_from_slice(&line(id)));
        append(&folder.path().join(LIVE_NAME), &all);
        let (mut reader, mut has, mut parts) = (Reader::new(folder.path()), 0, 0);
        while has < 5000 {
            let lines = reader.lines_after(has).unwrap();
            assert!(lines.len() <= BATCH_BYTES);
            let found = ids(&lines);
            assert_eq!(found.first(), Some(&(has + 1)));
            has = *found.last().unwrap();
            parts += 1;
        }
        assert!(parts > 1, "{parts}");
    }
}
