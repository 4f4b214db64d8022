//! The data volume. Only this module opens, changes or names anything on it.
//!
//! Always holds: a file appears or changes under its name only when its upload is complete; every path is resolved by
//! the kernel beneath the root it was asked for; every change goes through the one [`committer`], which makes it
//! durable before it is answered. Only what a returning master sets aside ([`divergent`]) moves beside that, while nobody
//! else may change anything. It knows nothing of SSH, accounts or packets.

mod attributes;
pub mod file_content;
mod folder;
mod root;

mod arrival;
mod in_place;
mod incoming;
mod stage;
mod unfinished;
mod upload;
mod usage;
mod writer;

mod change;
mod committer;
mod disk;
mod failure;
#[cfg(test)]
mod faults;
mod flush;
mod gate;
mod group;
mod journal;
mod notes;
mod recovery;
mod reserve;

mod divergent;
mod mounted;
mod volume;

pub use attributes::{Attributes, FileKind, NewAttributes, attributes_of};
pub use change::Change;
pub use divergent::{
    Aside, DIVERGENT_FOLDER, Divergent, Entry, EntryKind, EpochFolder, Held, Mark, Parts, State, Wanted, content_name,
    entry_name, is_epoch, parts_of,
};
pub use folder::{Folder, FolderEntry, FolderId};
pub use gate::{Gate, Way};
pub use in_place::InPlace;
pub use incoming::Incoming;
pub use journal::Chapter;
pub use root::{PATH_BYTES_MAX, Place, Root, read_link};
pub use stage::Stage;
pub use upload::Opening;
pub use usage::Quota;
pub use volume::{Durability, Location, Seen, Volume};
pub use writer::{Closing, NotWritten, Publication, Writer};

#[cfg(test)]
pub(crate) use volume::tests as tests_of_volume;

/// What storage refuses, beside the errors of the system itself.
#[derive(Clone, Debug)]
pub enum StorageError {
    /// The system's error.
    System(rustix::io::Errno),
    /// A sentence for the client.
    Refused(String),
    /// The folder's quota does not allow it.
    QuotaExceeded {
        /// What the folder holds, in bytes.
        used_bytes: u64,
        /// What it may hold, in bytes.
        quota_bytes: u64,
    },
    /// A change in the middle of a file that is too large for a copy.
    TooLargeToCopy,
}

impl From<rustix::io::Errno> for StorageError {
    fn from(error: rustix::io::Errno) -> Self {
        StorageError::System(error)
    }
}

impl StorageError {
    /// Whether there was no room: on the disk, or in the folder.
    fn is_for_want_of_room(&self) -> bool {
        use rustix::io::Errno;
        matches!(self, StorageError::System(Errno::NOSPC | Errno::DQUOT) | StorageError::QuotaExceeded { .. })
    }
}

impl std::fmt::Display for StorageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StorageError::System(rustix::io::Errno::NOSPC) => f.write_str("the volume is full"),
            StorageError::System(error) => error.fmt(f),
            StorageError::Refused(sentence) => f.write_str(sentence),
            StorageError::QuotaExceeded { used_bytes, quota_bytes } => {
                write!(f, "quota exceeded: {} of {} used", usage::shown(*used_bytes), usage::shown(*quota_bytes))
            }
            StorageError::TooLargeToCopy => f.write_str("the file is too large for a copy"),
        }
    }
}

impl std::error::Error for StorageError {}

/// The result of an operation on the volume.
pub type Result<T> = std::result::Result<T, StorageError>;
