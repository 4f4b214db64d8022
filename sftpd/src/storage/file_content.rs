//! Reading and writing the content of open files: whole buffers, at positions.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::{Errno, ReadWriteFlags};

/// Reads until the buffer is full or the file ends: a short answer in the middle of a file makes clients start over.
pub fn read_at(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> rustix::io::Result<usize> {
    let mut filled = 0;
    while let Some(space) = buffer.get_mut(filled..).filter(|space| !space.is_empty()) {
        match rustix::io::pread(file, space, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            // An offset past what the system can count is past the end of every file.
            Err(Errno::INVAL) if offset > i64::MAX as u64 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
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
