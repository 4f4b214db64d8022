//! A log that is closed at a size, renamed with the date, and kept by count and age.
//!
//! Always holds: a file holds whole lines only; what could not be written whole is taken back, and what a power failure
//! has torn is cut off when the file is opened again. Files go in the order of their names, which is that of their dates.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pair::activity::{CLOSED_PREFIX, LINE_BYTES_MAX, LIVE_NAME, id_of, is_closed_name};

/// How much of a file's end is searched for its last line, in bytes.
const TAIL_BYTES: u64 = 2 * LINE_BYTES_MAX as u64;

/// The least difference that two names can show.
const NAMES_APART: Duration = Duration::from_millis(1);

/// How large a log grows and how long it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// A file is closed before it grows past this, in bytes.
    pub file_bytes: u64,
    /// Closed files that are kept.
    pub files_max: usize,
    /// How long after its last line a closed file is kept.
    pub age_max: Duration,
}

/// A log.
#[derive(Debug)]
pub struct LogFile {
    folder: PathBuf,
    keep: Keep,
    live: Option<Live>,
    last_closed: jiff::Timestamp,
}

#[derive(Debug)]
struct Live {
    file: File,
    bytes: u64,
    /// The number of its last record, if it has any.
    last_id: Option<u64>,
}

impl LogFile {
    /// The log in a folder, which is made when it is needed.
    pub fn new(folder: PathBuf, keep: Keep) -> LogFile {
        LogFile { folder, keep, live: None, last_closed: jiff::Timestamp::UNIX_EPOCH }
    }

    /// The number of the last record; none where there is none yet.
    pub fn last_id(&mut self) -> io::Result<Option<u64>> {
        let of_live = self.live()?.last_id;
        if of_live.is_some() {
            return Ok(of_live);
        }
        // A file that was just closed leaves an empty one, or none. After a clock that was set back the newest is not the
        // last by name.
        let of_file = |path: PathBuf| last_id(&mut File::open(path).ok()?).ok()?;
        Ok(closed_files(&self.folder)?.into_iter().filter_map(of_file).max())
    }

    /// Appends whole lines, the last of which has this number: all of them, or none and an error.
    pub fn append(&mut self, lines: &[u8], last_id: Option<u64>) -> io::Result<()> {
        let file_bytes = self.keep.file_bytes;
        let live = self.live()?;
        if live.bytes > 0 && live.bytes + lines.len() as u64 > file_bytes {
            self.close_file()?;
        }
        let live = self.live()?;
        if let Err(error) = live.file.write_all(lines) {
            // Half a line would spoil the next one, too.
            let _ = live.file.set_len(live.bytes);
            return Err(error);
        }
        live.bytes += lines.len() as u64;
        live.last_id = last_id.or(live.last_id);
        Ok(())
    }

    /// The file that is being written: another one, if somebody has taken it away.
    fn live(&mut self) -> io::Result<&mut Live> {
        let path = self.folder.join(LIVE_NAME);
        let is_there = |live: &Live| {
            let (ours, there) = (live.file.metadata().ok()?, std::fs::metadata(&path).ok()?);
            ((ours.dev(), ours.ino()) == (there.dev(), there.ino()) && ours.len() == live.bytes).then_some(())
        };
        if self.live.as_ref().and_then(is_there).is_none() {
            self.live = None;
        }
        match &mut self.live {
            Some(live) => Ok(live),
            none => Ok(none.insert(open(&self.folder, &path)?)),
        }
    }

    fn close_file(&mut self) -> io::Result<()> {
        let live = self.live()?;
        live.file.sync_data()?;
        // Later than the last one, however fast they fill: the order of the names is that of the files.
        let mut at = jiff::Timestamp::now().max(self.last_closed + NAMES_APART);
        while self.folder.join(closed_name(at)).exists() {
            at += NAMES_APART;
        }
        self.last_closed = at;
        let closed = self.folder.join(closed_name(at));
        std::fs::rename(self.folder.join(LIVE_NAME), closed)?;
        self.live = None;
        self.drop_old()
    }

    /// Removes what is too much or too old. A file that cannot be removed is tried again with the next.
    fn drop_old(&self) -> io::Result<()> {
        let files = closed_files(&self.folder)?;
        let too_many = files.len().saturating_sub(self.keep.files_max);
        let is_old = |path: &PathBuf| {
            let modified = std::fs::metadata(path).and_then(|found| found.modified());
            modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > self.keep.age_max))
        };
        for (number, path) in files.iter().enumerate() {
            if number < too_many || is_old(path) {
                let _ = std::fs::remove_file(path);
            }
        }
        Ok(())
    }
}

fn closed_name(at: jiff::Timestamp) -> String {
    format!("{CLOSED_PREFIX}{}.log", at.strftime("%Y-%m-%dT%H-%M-%S.%3fZ"))
}

fn closed_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let names = std::fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| is_closed_name(name)).collect();
    names.sort();
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

fn open(folder: &Path, path: &Path) -> io::Result<Live> {
    std::fs::create_dir_all(folder)?;
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
    let whole = whole_lines(&mut file)?;
    if whole < file.metadata()?.len() {
        file.set_len(whole)?;
    }
    let last_id = last_id(&mut file)?;
    Ok(Live { file, bytes: whole, last_id })
}

fn tail(file: &mut File) -> io::Result<(u64, Vec<u8>)> {
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.read_to_end(&mut tail)?;
    Ok((start, tail))
}

/// How many bytes of a file end with a line.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let (start, tail) = tail(file)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last as u64 + 1);
    // More than a line's length without an end is no log of ours; it is left alone.
    Ok(if whole == 0 && start > 0 { start + tail.len() as u64 } else { start + whole })
}

fn last_id(file: &mut File) -> io::Result<Option<u64>> {
    let (_, tail) = tail(file)?;
    Ok(tail.split(|byte| *byte == b'\n').rev().find_map(id_of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pair::activity::Activity;

    const KEEP: Keep = Keep { file_bytes: 1000, files_max: 3, age_max: Duration::from_secs(3600) };

    fn line(id: u64) -> Vec<u8> {
        Activity { id, sender: "Upload".into(), ..Activity::default() }.line()
    }

    fn ids(path: &Path) -> Vec<u64> {
        std::fs::read(path).unwrap().split(|byte| *byte == b'\n').filter_map(id_of).collect()
    }

    #[test]
    fn files_are_closed_at_their_size_and_kept_by_count_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFile::new(folder.path().join("logs"), KEEP);
        assert_eq!(log.last_id().unwrap(), None);
        for id in 1..=200 {
            log.append(&line(id), Some(id)).unwrap();
        }
        let logs = folder.path().join("logs");
        let closed = closed_files(&logs).unwrap();
        assert_eq!(closed.len(), KEEP.files_max);
        let mut all: Vec<u64> = closed.iter().flat_map(|path| ids(path)).collect();
        assert!(closed.iter().all(|path| std::fs::metadata(path).unwrap().len() <= KEEP.file_bytes));
        all.extend(ids(&logs.join(LIVE_NAME)));
        let first = all[0];
        assert_eq!(all, (first..=200).collect::<Vec<_>>(), "in order, without a gap, up to the last");
        assert_eq!(LogFile::new(logs.clone(), KEEP).last_id().unwrap(), Some(200));
        std::fs::remove_file(logs.join(LIVE_NAME)).unwrap();
        let before = *ids(closed.last().unwrap()).last().unwrap();
        assert_eq!(LogFile::new(logs, KEEP).last_id().unwrap(), Some(before), "also where the live file is gone");
    }

    #[test]
    fn old_files_go_with_the_next_that_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("activity-2020-01-01T00-00-00.000Z.log");
        let other = folder.path().join("notes.txt");
        for path in [&old, &other] {
            std::fs::write(path, "x\n").unwrap();
            File::options().write(true).open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        let mut log = LogFile::new(folder.path().to_owned(), KEEP);
        for id in 1..=30 {
            log.append(&line(id), Some(id)).unwrap();
        }
        assert!(!old.exists() && other.exists());
    }

    #[test]
    fn a_torn_line_is_cut_off_and_a_file_that_was_taken_away_begins_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LIVE_NAME);
        let whole = [line(1), line(2)].concat();
        std::fs::write(&path, [whole.as_slice(), b"{\"id\":3,\"ti"].concat()).unwrap();
        let mut log = LogFile::new(folder.path().to_owned(), KEEP);
        assert_eq!(log.last_id().unwrap(), Some(2));
        log.append(&line(4), Some(4)).unwrap();
        assert_eq!(ids(&path), [1, 2, 4]);
        std::fs::rename(&path, folder.path().join("taken")).unwrap();
        log.append(&line(5), Some(5)).unwrap();
        assert_eq!((ids(&path), ids(&folder.path().join("taken"))), (vec![5], vec![1, 2, 4]));
        std::fs::write(&path, "").unwrap();
        log.append(&line(6), Some(6)).unwrap();
        assert_eq!(ids(&path), [6], "also one that was emptied");
    }

    #[test]
    fn a_disk_that_takes_nothing_is_an_error_and_no_line() {
        let folder = tempfile::tempdir().unwrap();
        // The system's own full disk.
        std::os::unix::fs::symlink("/dev/full", folder.path().join(LIVE_NAME)).unwrap();
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut log = LogFile::new(folder.path().to_owned(), KEEP);
        log.live = Some(Live { file, bytes: 0, last_id: None });
        assert!(log.append(&line(1), Some(1)).is_err());
        assert_eq!(log.live.as_ref().map(|live| (live.bytes, live.last_id)), Some((0, None)));
    }
}
