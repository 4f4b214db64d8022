//! Reading and writing the content of open files: whole buffers, at positions.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::root::proc_path;

/// Reads until the buffer is full or the file ends: a short answer in the middle of a file makes clients start over.
pub fn read_at(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> rustix::io::Result<usize> {
    let (mut filled, end_max) = (0, offset.saturating_add(buffer.len() as u64));
    while let Some(space) = buffer.get_mut(filled..).filter(|space| !space.is_empty()) {
        match rustix::io::pread(file, space, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            // What lies past all that the system can count is past the end of every file.
            Err(Errno::INVAL | Errno::OVERFLOW) if end_max > i64::MAX as u64 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads behind what is there until no room is left or the file ends, and tells how much that was. What is there is not touched, nor is the room
/// filled with zeros first.
pub fn read_onto(file: BorrowedFd<'_>, buffer: &mut Vec<u8>, offset: u64) -> rustix::io::Result<usize> {
    let start = buffer.len();
    let end_max = offset.saturating_add((buffer.capacity() - start) as u64);
    while buffer.len() < buffer.capacity() {
        let at = offset.saturating_add((buffer.len() - start) as u64);
        match rustix::io::pread(file, rustix::buffer::spare_capacity(buffer), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            // What lies past all that the system can count is past the end of every file.
            Err(Errno::INVAL | Errno::OVERFLOW) if end_max > i64::MAX as u64 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(buffer.len() - start)
}

/// Writes all of the data.
pub fn write_at(file: BorrowedFd<'_>, data: &[u8], offset: u64) -> rustix::io::Result<()> {
    let mut written = 0;
    while let Some(rest) = data.get(written..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pwrite(file, rest, offset.checked_add(written as u64).ok_or(Errno::FBIG)?) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of the data at the end of the file, also while others do so.
pub fn append(file: BorrowedFd<'_>, data: &[u8]) -> rustix::io::Result<()> {
    let mut written = 0;
    while let Some(rest) = data.get(written..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pwritev2(file, &[std::io::IoSlice::new(rest)], 0, ReadWriteFlags::APPEND) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The size of a file: where appending goes on.
pub fn end_of(file: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    Ok(rustix::fs::fstat(file)?.st_size as u64)
}

/// Reads a whole small file.
pub fn read_whole(file: &OwnedFd) -> rustix::io::Result<Vec<u8>> {
    use std::os::fd::AsFd;
    let mut content = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match read_at(file.as_fd(), &mut buffer, content.len() as u64)? {
            0 => return Ok(content),
            count => content.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// The file once more, to be read without a new time of last access; none where that is not ours to ask for.
pub fn quietly(file: BorrowedFd<'_>) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOATIME | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, proc_path(file), flags, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn what_is_read_comes_behind_what_is_there_and_fills_no_more_than_the_room() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"0123456789").unwrap();
        let read = |room: usize, offset: u64| {
            let mut buffer = Vec::with_capacity(2 + room);
            buffer.extend_from_slice(b"> ");
            buffer.shrink_to(2 + room);
            let count = super::read_onto(file.as_fd(), &mut buffer, offset).unwrap();
            (count, String::from_utf8(buffer).unwrap())
        };
        assert_eq!(read(4, 3), (4, "> 3456".into()));
        assert_eq!(read(100, 8), (2, "> 89".into()));
        assert_eq!(read(4, 10), (0, "> ".into()));
        assert_eq!(read(4, u64::MAX), (0, "> ".into()));
        assert_eq!(read(0, 0), (0, "> ".into()));
    }

    #[test]
    fn what_the_server_reads_for_itself_keeps_its_time_of_last_access() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"content").unwrap();
        let long_ago = UNIX_EPOCH + Duration::from_secs(1000);
        file.as_file().set_times(std::fs::FileTimes::new().set_accessed(long_ago).set_modified(long_ago)).unwrap();
        super::super::recovery::hash_of(&file.as_file().as_fd()).unwrap();
        assert_eq!(file.as_file().metadata().unwrap().accessed().unwrap(), long_ago);
    }
}
