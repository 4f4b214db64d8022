//! What a client is told when a request fails: a status code and a sentence that a person understands.
//!
//! The only place where errors of the system become status codes. The codes are OpenSSH's, but for a name that is too
//! long: there it says "bad message", which clients take for a broken connection; here it is a failure with a reason.

use pair::wire::{Code, Malformed};
use rustix::io::Errno;

use crate::storage::StorageError;

/// A refused or failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The status code.
    pub code: Code,
    /// The sentence.
    pub text: String,
}

impl Fault {
    /// A failure; of all codes the one whose sentence every client shows.
    pub fn failure(text: impl Into<String>) -> Fault {
        Fault { code: Code::Failure, text: text.into() }
    }

    /// A refusal that clients may work around: lftp goes on after a REMOVE that was denied.
    pub fn denied(text: impl Into<String>) -> Fault {
        Fault { code: Code::PermissionDenied, text: text.into() }
    }

    /// The end of a file or listing.
    pub fn end() -> Fault {
        Fault { code: Code::Eof, text: "end of file".into() }
    }
}

/// Errors of the system with their status code and sentence; every other one is a failure in the system's own words.
const SENTENCES: [(Errno, Code, &str); 20] = [
    (Errno::NOENT, Code::NoSuchFile, "no such file"),
    (Errno::NOTDIR, Code::NoSuchFile, "not a folder"),
    (Errno::LOOP, Code::NoSuchFile, "too many links, or a link where none is allowed"),
    (Errno::XDEV, Code::NoSuchFile, "no such file"),
    (Errno::PERM, Code::PermissionDenied, "not allowed"),
    (Errno::ACCESS, Code::PermissionDenied, "permission denied"),
    (Errno::ROFS, Code::Failure, "the volume is read-only"),
    (Errno::EXIST, Code::Failure, "something has that name already"),
    (Errno::NOTEMPTY, Code::Failure, "the folder is not empty"),
    (Errno::ISDIR, Code::Failure, "that is a folder"),
    (Errno::BUSY, Code::Failure, "that cannot be done to this folder"),
    (Errno::NAMETOOLONG, Code::Failure, "the name or path is too long"),
    (Errno::INVAL, Code::Failure, "that cannot be done"),
    (Errno::NOSPC, Code::Failure, "the volume is full"),
    (Errno::DQUOT, Code::Failure, "the volume's quota is used up"),
    (Errno::FBIG, Code::Failure, "the file would be too large"),
    (Errno::MLINK, Code::Failure, "too many links or folders"),
    (Errno::MFILE, Code::Failure, "the server has too many files open"),
    (Errno::IO, Code::Failure, "the disk reports an error"),
    (Errno::OPNOTSUPP, Code::OpUnsupported, "not supported"),
];

impl From<Errno> for Fault {
    fn from(error: Errno) -> Fault {
        match SENTENCES.iter().find(|(known, ..)| *known == error) {
            Some((_, code, text)) => Fault { code: *code, text: (*text).into() },
            None => Fault::failure(error.to_string()),
        }
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Fault {
        match error {
            StorageError::System(error) => error.into(),
            StorageError::Refused(sentence) => Fault::failure(sentence),
            StorageError::TooLargeToCopy | StorageError::QuotaExceeded { .. } => Fault::failure(error.to_string()),
        }
    }
}

impl From<Malformed> for Fault {
    fn from(_: Malformed) -> Fault {
        Fault { code: Code::BadMessage, text: "malformed request".into() }
    }
}
