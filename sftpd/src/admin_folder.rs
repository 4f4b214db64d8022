//! The admin folder: where an uploaded users.yaml becomes accounts.
//!
//! Always holds: a wrong file changes nothing; a right one swaps all accounts at once; a plain password never reaches
//! the disk. users.yaml.result beside it says what happened, because some clients hide a failed upload. On a standby
//! nothing here is applied: its accounts come from the master.

mod applying;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pair::exit::usage;
use rustix::io::Errno;

use crate::daemon::Daemon;
use crate::fault::Fault;
use crate::storage::StorageError;

pub use applying::{By, Told};

/// The file that makes accounts.
pub const USERS_NAME: &[u8] = b"users.yaml";
/// A file of this name is tried out only.
pub const CHECK_NAME: &[u8] = b"users.yaml.check";
/// What became of the last upload.
pub const RESULT_NAME: &[u8] = b"users.yaml.result";

/// How long an upload waits for its rename.
const DRAFT_AGE_MAX: Duration = Duration::from_secs(3600);

/// Uploads that wait in memory for their rename, at most; past it the first by name goes.
const DRAFTS_MAX: usize = 16;

/// Whether a name in the admin folder is treated as a users.yaml: also `users.yaml.filepart`, `.users.yaml.swp` or
/// `Users.yaml`, which hold the same passwords.
pub fn is_guarded_name(name: &[u8]) -> bool {
    name.to_ascii_lowercase().windows(USERS_NAME.len()).any(|part| part == USERS_NAME)
}

/// The admin folder's state.
#[derive(Debug, Default)]
pub struct AdminFolder {
    // Held for a few lines, never across an await.
    drafts: Mutex<BTreeMap<Vec<u8>, Waiting>>,
    /// Files are applied one at a time.
    turn: tokio::sync::Mutex<()>,
    /// The content that was last refused when it was found on the disk, so that it is refused once.
    refused: Mutex<Option<blake3::Hash>>,
}

/// An upload that waits in memory.
#[derive(Debug)]
struct Waiting {
    content: Bytes,
    since: Instant,
}

impl AdminFolder {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Vec<u8>, Waiting>> {
        let mut drafts = self.drafts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        drafts.retain(|_, draft| draft.since.elapsed() < DRAFT_AGE_MAX);
        drafts
    }

    /// Whether any upload waits.
    pub fn has_drafts(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Whether an upload waits for its rename onto users.yaml.
    pub fn has_upload_waiting(&self) -> bool {
        self.lock().keys().any(|name| name != CHECK_NAME)
    }

    /// A waiting upload.
    pub fn draft(&self, name: &[u8]) -> Option<Bytes> {
        self.lock().get(name).map(|draft| draft.content.clone())
    }

    /// All waiting uploads: name and size.
    pub fn drafts(&self) -> Vec<(Vec<u8>, u64)> {
        self.lock().iter().map(|(name, draft)| (name.clone(), draft.content.len() as u64)).collect()
    }

    /// Keeps an upload in memory until it is renamed, removed or old, or the daemon ends.
    pub fn keep_draft(&self, name: Vec<u8>, content: Bytes) {
        let mut drafts = self.lock();
        drafts.insert(name.clone(), Waiting { content, since: Instant::now() });
        if drafts.len() > DRAFTS_MAX {
            let other = drafts.keys().find(|other| **other != name).cloned();
            other.and_then(|other| drafts.remove(&other));
        }
    }

    /// Forgets a waiting upload; tells whether there was one.
    pub fn drop_draft(&self, name: &[u8]) -> bool {
        self.lock().remove(name).is_some()
    }

    /// Applies a users.yaml: all of it, or nothing and a fault that names the first mistake. The result file says more.
    pub async fn apply(&self, daemon: &Arc<Daemon>, content: Bytes, by: &By) -> Told {
        let _turn = self.turn.lock().await;
        applying::apply(daemon, content, by).await
    }

    /// Notes that an upload of users.yaml was dropped before it could be looked at.
    pub async fn note_dropped(&self, daemon: &Arc<Daemon>, reason: &str, by: &By) {
        let _turn = self.turn.lock().await;
        applying::note_dropped(daemon, reason, by).await;
    }

    /// Tries a users.yaml out. Nothing changes but the result file.
    pub async fn try_out(&self, daemon: &Arc<Daemon>, content: Bytes, by: &By) -> Told {
        let _turn = self.turn.lock().await;
        applying::try_out(daemon, &content, by).await
    }

    /// Draws a new password for an account; the password, and what is to be said about it.
    pub async fn reset_password(&self, daemon: &Arc<Daemon>, name: &str, by: &By) -> Result<(String, Told), Fault> {
        let _turn = self.turn.lock().await;
        applying::reset_password(daemon, name, by).await
    }

    /// Seeds the accounts at a master's very first start. The error names every mistake.
    pub async fn seed(&self, daemon: &Arc<Daemon>, path: &std::path::Path) -> anyhow::Result<()> {
        let content = tokio::fs::read(path).await.map_err(|error| {
            usage(format!(
                "cannot read {} ({error}): a master's first start takes its accounts from there (key `users`)",
                path.display()
            ))
        })?;
        let _turn = self.turn.lock().await;
        let installed = applying::seed(daemon, content.into()).await.map_err(|mistakes| {
            let lines: Vec<_> = mistakes.iter().map(|mistake| mistake.at(&path.display().to_string())).collect();
            usage(lines.join("\n"))
        })?;
        installed.map_err(|fault| anyhow::anyhow!("{}", fault.text))
    }

    /// Looks at the users.yaml on the volume and applies it where another hand has changed it. On a machine that has just taken over, accounts and file
    /// may have come at different times; an older file changes nothing then.
    pub async fn look(&self, daemon: &Arc<Daemon>, has_taken_over: bool) {
        // Before the file is read: in the middle of an upload it is still the old one, and the accounts are the new ones.
        let _turn = self.turn.lock().await;
        let content = match applying::read_users(daemon) {
            Ok(content) => content,
            Err(StorageError::System(Errno::NOENT)) => return applying::restore(daemon, "was gone").await,
            // Unreadable: the accounts stay as they are, and the next look may have more luck.
            Err(_) => return,
        };
        let hash = blake3::hash(&content);
        let accounts = daemon.accounts();
        let known = accounts.users_yaml.as_deref() == Some(hash.to_hex().as_str());
        if has_taken_over && accounts.replaced.iter().any(|replaced| replaced == hash.to_hex().as_str()) && !known {
            return applying::restore(daemon, "was older than the accounts").await;
        }
        let mut refused = self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if !known && refused != Some(hash) {
            tracing::info!("users.yaml was changed by another hand");
            let told = applying::apply(daemon, content, &By::way("another hand on the volume")).await;
            refused = told.fault.is_some().then_some(hash);
        }
        *self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = refused;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_may_hold_the_passwords_is_guarded() {
        for name in ["users.yaml", "users.yaml.filepart", ".users.yaml.swp", "USERS.YAML", "old-users.yaml~"] {
            assert!(is_guarded_name(name.as_bytes()), "{name}");
        }
        for name in ["users.yml", "user.yaml", "users", ""] {
            assert!(!is_guarded_name(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn waiting_uploads_are_bounded() {
        let folder = AdminFolder::default();
        for number in 0..100 {
            folder.keep_draft(format!("users.yaml.{number}").into(), Bytes::from_static(b"x"));
        }
        assert_eq!(folder.drafts().len(), DRAFTS_MAX);
        assert!(folder.draft(b"users.yaml.99").is_some(), "the newest stays");
    }
}
