//! The doors of the log archive: its segments, what stands in agents' folders, and the records that it still needs.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use super::super::file_content::{quietly, read_at};
use super::{Place, Publication, Result, Root, StorageError, Volume};
use crate::storage::{FileKind, FolderEntry};

/// What is read at once, in bytes.
const PIECE_BYTES: usize = 1024 * 1024;

impl Volume {
    /// Has the journal keep its records behind a number, as long as it keeps any so old; `u64::MAX` for none.
    pub fn keep_records_behind(&self, seq: u64) {
        self.needed_behind.store(seq, Ordering::Relaxed);
    }

    /// The number behind which records are kept.
    #[cfg(test)]
    pub fn records_kept_behind(&self) -> u64 {
        self.needed_behind.load(Ordering::Relaxed)
    }

    /// A small file of the daemon's own that replaces nothing, ready to be published.
    pub fn stage_new_file(&self, content: &[u8], place: Place) -> Result<Publication> {
        Ok(Publication { exclusive: true, ..Publication::of_file(self.stage(content)?, place, content) })
    }

    /// A place of the volume, if the folder that it is in is there; no link leads to it.
    pub fn place_in(&self, path: &[u8]) -> Result<Place> {
        self.whole()?.place(path)
    }

    /// Tells of every file below a folder, by its path from the volume on, as long as it is wanted. Links and what is no file are passed
    /// over, and so is what vanishes meanwhile. Looks at the disk: not for an async thread.
    pub fn files_below(&self, folder: &[u8], tell: &mut dyn FnMut(&[u8], &FolderEntry) -> bool) -> Result<()> {
        let root = self.whole()?;
        let mut left = vec![folder.to_vec()];
        while let Some(path) = left.pop() {
            if !files_in(&root, &path, &mut left, tell)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// BLAKE3 of what a file has from one byte to another; none where it is shorter, or is not there. Reads all of it: not for an async
    /// thread.
    pub fn hash_of_part(&self, path: &[u8], from: u64, to: u64) -> Result<Option<blake3::Hash>> {
        let file = match self.whole()?.open_file(path) {
            Ok((file, _)) => quietly(file.as_fd()).unwrap_or(file),
            Err(StorageError::System(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ISDIR | Errno::PERM)) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let (mut hasher, mut at) = (blake3::Hasher::new(), from);
        let mut buffer = vec![0; PIECE_BYTES.min(usize::try_from(to.saturating_sub(from)).unwrap_or(PIECE_BYTES))];
        while at < to {
            let wanted = buffer.len().min(usize::try_from(to - at).unwrap_or(buffer.len()));
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            match read_at(file.as_fd(), piece, at)? {
                count if count < wanted => return Ok(None),
                count => at += count as u64,
            }
            hasher.update(piece);
        }
        Ok(Some(hasher.finalize()))
    }
}

/// Tells of the files of one folder, and puts its folders with those that are left; false where nothing more is wanted.
fn files_in(
    root: &Root,
    path: &[u8],
    left: &mut Vec<Vec<u8>>,
    tell: &mut dyn FnMut(&[u8], &FolderEntry) -> bool,
) -> Result<bool> {
    let mut folder = match root.open_folder(path) {
        Err(StorageError::System(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => return Ok(true),
        folder => folder?,
    };
    while let Some(entry) = folder.next_entry()? {
        if matches!(entry.name.as_slice(), b"." | b"..") {
            continue;
        }
        let inner = [path, b"/", entry.name.as_slice()].concat();
        match entry.attributes.kind {
            FileKind::Folder => left.push(inner),
            FileKind::File if !tell(&inner, &entry) => return Ok(false),
            _ => {}
        }
    }
    Ok(true)
}
