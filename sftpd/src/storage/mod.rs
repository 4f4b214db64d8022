//! The data volume. Only this module opens, changes or names anything on it.
//!
//! Always holds: a file appears or changes under its name only when its upload is complete; every path is resolved by
//! the kernel beneath the root it was asked for; every change goes through the one [`committer`], which makes it
//! durable before it is answered. It knows nothing of SSH, accounts or packets.

mod committer;
pub mod file_content;
mod folder;
mod root;
mod stage;
mod volume;

pub use committer::Change;
pub use folder::{Folder, FolderEntry};
pub use root::{Attributes, FileKind, NewAttributes, Place, Root, attributes_of, set_attributes as set_attributes_now};
pub use stage::Stage;
pub use volume::{Durability, Volume};

/// What storage refuses, beside the errors of the system itself.
#[derive(Debug)]
pub enum StorageError {
    /// The system's error.
    System(rustix::io::Errno),
    /// A sentence for the client.
    Refused(String),
}

impl From<rustix::io::Errno> for StorageError {
    fn from(error: rustix::io::Errno) -> Self {
        StorageError::System(error)
    }
}

impl std::fmt::Display for StorageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StorageError::System(error) => error.fmt(f),
            StorageError::Refused(sentence) => f.write_str(sentence),
        }
    }
}

impl std::error::Error for StorageError {}

/// The result of an operation on the volume.
pub type Result<T> = std::result::Result<T, StorageError>;
