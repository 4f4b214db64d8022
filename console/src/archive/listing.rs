//! What is in a folder: files and folders with sizes and times, and how many other things there are.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType};

/// Entries of a folder that are looked at; past it the listing says that it is cut.
const ENTRIES_MAX: usize = 200_000;

/// Something in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, as bytes.
    pub name: Vec<u8>,
    /// Whether it is a folder; else it is a file.
    pub is_folder: bool,
    /// Its size in bytes.
    pub size: u64,
    /// When it was changed last, in seconds since 1970.
    pub modified_s: i64,
}

/// A folder's entries.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Files and folders.
    pub entries: Vec<Entry>,
    /// How much else is there: links, pipes, devices. They are never opened.
    pub others: u64,
    /// Whether there is more than was looked at.
    pub is_cut: bool,
}

/// By what entries are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// When they were changed.
    #[default]
    Time,
    /// Their names.
    Name,
    /// Their sizes.
    Size,
}

/// Lists an open folder. What is removed meanwhile is left out.
pub fn list(folder: &OwnedFd) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for found in Dir::read_from(folder)? {
        let found = found?;
        let name = found.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if listing.entries.len() >= ENTRIES_MAX {
            listing.is_cut = true;
            break;
        }
        let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            listing.others += 1;
            continue;
        }
        listing.entries.push(Entry {
            name: name.to_bytes().to_vec(),
            is_folder: kind == FileType::Directory,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified_s: stat.st_mtime,
        });
    }
    Ok(listing)
}

/// Sorts entries: folders first, and what is equal by its name.
pub fn sort(entries: &mut [Entry], by: By, is_descending: bool) {
    entries.sort_unstable_by(|one, other| {
        let by_name = one.name.cmp(&other.name);
        let wanted = match by {
            By::Name => by_name,
            By::Size => one.size.cmp(&other.size),
            By::Time => one.modified_s.cmp(&other.modified_s),
        };
        let wanted = if is_descending { wanted.reverse() } else { wanted };
        other.is_folder.cmp(&one.is_folder).then(wanted).then(by_name)
    });
}
