//! The logs of a folder: which of its files are read, and in which order.
//!
//! Always holds: only plain files are opened: no links, which may lead anywhere, and no pipes, which may never end.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// How the folder of another machine's log begins, in a folder of logs.
const RECEIVED: &str = "from-";

/// Ends of names of files that are not finished.
const UNFINISHED: [&str; 6] = [".tmp", ".part", ".filepart", ".swp", ".lock", "~"];

/// Whether a file is a log by its name: live, numbered, dated, packed.
pub fn is_log_name(name: &str) -> bool {
    let plain = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(name);
    let is_log = plain.contains(".log") || [".json", ".jsonl", ".ndjson"].iter().any(|end| plain.ends_with(end));
    is_log && !name.starts_with('.') && !UNFINISHED.iter().any(|end| name.ends_with(end))
}

/// A folder and those in it that hold logs of other machines, as far as they are there.
pub fn with_received(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_received = |entry: &std::fs::DirEntry| {
        entry.file_name().to_string_lossy().starts_with(RECEIVED) && entry.file_type().is_ok_and(|kind| kind.is_dir())
    };
    found.extend(entries.filter(is_received).map(|entry| entry.path()));
    found.sort();
    found
}

/// A folder's logs, those that were written last at the end; nothing where the folder is not there.
pub fn logs_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        // One that goes in between has nothing more to say.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() && is_log_name(&entry.file_name().to_string_lossy()) {
            found.push(((metadata.mtime(), metadata.mtime_nsec()), entry.path()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Opens a plain file; none where it is not there any more, or is something else by now.
pub fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    match opened {
        Ok(file) => Ok(file.metadata()?.is_file().then_some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_servers_and_of_logrotate_are_logs() {
        let logs = [
            "activity.log",
            "activity-2026-11-22T12-00-00.000Z.log",
            "sftpgo.log",
            "sftpgo-2026-11-22T12-00-00.000.log.gz",
            "sftpgo.log.1",
            "sftpgo.log-20261122.zst",
            "copy of activity.log",
            "export.json",
        ];
        let others = ["console.db", ".activity.log.swp", "activity.log.tmp", "notes.txt", "activity.log~", "x.gz"];
        assert!(logs.iter().all(|name| is_log_name(name)));
        assert!(!others.iter().any(|name| is_log_name(name)));
    }

    #[test]
    fn links_and_pipes_are_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a.log"), "x\n").unwrap();
        std::os::unix::fs::symlink(path("a.log"), path("link.log")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe.log"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        std::fs::create_dir(path("from-b1")).unwrap();
        std::fs::create_dir(path("folder.log")).unwrap();
        assert_eq!(logs_of(folder.path()).unwrap(), [path("a.log")]);
        assert!(open(&path("a.log")).unwrap().is_some());
        for name in ["link.log", "pipe.log", "folder.log", "none.log"] {
            assert!(open(&path(name)).unwrap().is_none(), "{name}");
        }
        assert_eq!(with_received(folder.path()), [folder.path().to_owned(), path("from-b1")]);
        assert!(logs_of(&path("none")).unwrap().is_empty());
    }
}
