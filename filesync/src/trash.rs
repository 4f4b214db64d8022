//! The standby's trash: what a pass replaces or removes is kept in `.pair/trash/<date>/<time>-<pass>/` under its old path.
//!
//! Nothing here removes anything; [`crate::housekeeping`] does, days later.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use pair::client::{ClientError, Result};

use crate::remote::Remote;
use crate::tree::{Path, join, parent, upwards};

/// Where a pass puts what it takes away.
pub struct Trash {
    folder: Path,
    made: Mutex<HashSet<Path>>,
    /// How often a place was taken already.
    again: AtomicU64,
}

impl Trash {
    /// The folder of one pass. It is made when something comes into it.
    pub fn new(pass: u64) -> Trash {
        Trash::of(&pass.to_string())
    }

    /// The folder of changes that the feed has told of, for a while.
    pub fn of_feed() -> Trash {
        Trash::of("feed")
    }

    fn of(whose: &str) -> Trash {
        let now = jiff::Timestamp::now();
        let folder = format!(".pair/trash/{}-{whose}", now.strftime("%Y-%m-%d/%H%M%S"));
        Trash { folder: folder.into_bytes(), made: Mutex::default(), again: AtomicU64::new(1) }
    }

    /// Gives what is at a path a second name in the trash; nothing there is fine. Its place in the tree stays filled.
    pub async fn keep(&self, remote: &Remote, path: &[u8]) -> Result<()> {
        self.put(remote, path, true).await
    }

    /// Moves what is at a path to the trash; nothing there is fine.
    pub async fn take(&self, remote: &Remote, path: &[u8]) -> Result<()> {
        self.put(remote, path, false).await
    }

    /// Gives something a name that is taken, after what has it was kept; in one step where the server can.
    pub async fn rename_over(&self, remote: &Remote, from: &[u8], to: &[u8]) -> Result<()> {
        let (old, new) = (remote.at(from), remote.at(to));
        if remote.posix_rename && remote.hardlink {
            self.keep(remote, to).await?;
            return remote.client.posix_rename(&old, &new).await;
        }
        self.take(remote, to).await?;
        remote.client.rename(&old, &new).await
    }

    async fn put(&self, remote: &Remote, path: &[u8], stays: bool) -> Result<()> {
        let mut folder = self.folder.clone();
        for second in [false, true] {
            if second {
                // The same path went into this trash before, as a file or as a folder; or its folders have given way.
                self.made.lock().unwrap_or_else(PoisonError::into_inner).clear();
                let again = self.again.fetch_add(1, Ordering::Relaxed);
                folder.extend_from_slice(format!("-again-{again}").as_bytes());
            }
            let place = join(&folder, path);
            self.make_folders(remote, parent(&place)).await?;
            let (from, to) = (remote.at(path), remote.at(&place));
            let outcome = match stays {
                true => remote.client.hardlink(&from, &to).await,
                false => remote.client.rename(&from, &to).await,
            };
            match outcome {
                Ok(()) => return Ok(()),
                Err(error) if error.is_lost() => return Err(error),
                Err(error) if second => return self.explain(remote, path, error).await,
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Nothing to keep is no error.
    async fn explain(&self, remote: &Remote, path: &[u8], error: ClientError) -> Result<()> {
        match remote.client.lstat(&remote.at(path)).await {
            Err(missing) if missing.is_missing() => Ok(()),
            Err(lost) if lost.is_lost() => Err(lost),
            _ => Err(error),
        }
    }

    async fn make_folders(&self, remote: &Remote, folder: &[u8]) -> Result<()> {
        let made = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<Path> = {
            let made = made();
            let known = |path: &&[u8]| !made.contains(*path) && crate::tree::is_below(path, b".pair/trash");
            upwards(folder).take_while(known).map(<[u8]>::to_vec).collect()
        };
        for path in missing.into_iter().rev() {
            match remote.client.mkdir(&remote.at(&path), 0o700).await {
                Err(error) if error.is_lost() => return Err(error),
                // There already, mostly; if not, what comes next says so.
                _ => made().insert(path),
            };
        }
        Ok(())
    }
}
