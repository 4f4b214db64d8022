//! Room that is held back, so that a full disk still lets things be removed: the journal must write a line before a file
//! may go, and some file systems need room even for that.
//!
//! Two files of zeros, one beside the journal and one on the volume. They are given up when the disk is full and made
//! again when there is room. Clients' uploads never get this room while anything else is left.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use pair::volume::PRIVATE_FOLDER;
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags};

/// Bytes held back in each place.
const BYTES: u64 = 8 * 1024 * 1024;

/// Room is only taken where so many times as much is free.
const PLENTY: u64 = 8;

/// The reserved room.
#[derive(Debug)]
pub(super) struct Reserve {
    files: [PathBuf; 2],
    is_held: bool,
}

impl Reserve {
    /// Takes the room, where there is plenty.
    pub(super) fn take(state: &Path, data: &Path) -> Reserve {
        let files = [state.join("reserve"), data.join(PRIVATE_FOLDER).join("reserve")];
        let mut reserve = Reserve { files, is_held: false };
        reserve.restore();
        reserve
    }

    /// Gives the room up; tells whether there was any.
    pub(super) fn give_up(&mut self) -> bool {
        if !std::mem::take(&mut self.is_held) {
            return false;
        }
        tracing::warn!("the disk is full: room held back for removing is given up until there is room again");
        // A name that cannot be removed gives nothing, and the caller's next attempt says so.
        for file in &self.files {
            let _ = rustix::fs::unlinkat(CWD, file, rustix::fs::AtFlags::empty());
        }
        true
    }

    /// Takes the room again, where there is plenty.
    pub(super) fn restore(&mut self) {
        if !self.is_held {
            self.is_held = self.files.iter().all(|file| hold(file).is_ok());
        }
    }
}

fn hold(path: &Path) -> rustix::io::Result<()> {
    let file: OwnedFd =
        rustix::fs::openat(CWD, path, OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))?;
    if rustix::fs::fstat(&file)?.st_size as u64 >= BYTES {
        return Ok(());
    }
    let room = rustix::fs::fstatvfs(&file)?;
    let taken = if room.f_bavail.saturating_mul(room.f_frsize) < BYTES * PLENTY {
        Err(rustix::io::Errno::NOSPC)
    } else {
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, BYTES)
    };
    if taken.is_err() {
        // Half of it would look like all of it at the next start.
        let _ = rustix::fs::unlinkat(CWD, path, rustix::fs::AtFlags::empty());
    }
    taken
}
