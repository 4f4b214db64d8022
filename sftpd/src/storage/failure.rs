//! What makes a volume read-only until sftpd is started again: a flush that failed, or a bug in the committer.

use std::sync::{Arc, OnceLock};

/// Why the volume is read-only, once it is.
pub(super) type Failure = Arc<OnceLock<String>>;

/// The volume is read-only from now on.
pub(super) fn fail(failed: &Failure, error: impl std::fmt::Display) {
    tracing::error!(%error, "a flush of the data volume failed: it is read-only until sftpd is started again");
    let _ = failed.set(format!("the volume is read-only since a flush failed: {error}"));
}
