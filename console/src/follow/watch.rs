//! Hears when something changes in the folders, as far as the system tells it.
//!
//! It only says that a look is worth while: network disks tell nothing, and events get lost. So the folders are looked at now and then
//! all the same.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// The folders that are listened to.
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    /// Each by its inode: a folder that was made anew has to be listened to anew.
    watched: HashMap<PathBuf, u64>,
    touched: Arc<Notify>,
}

impl Watch {
    /// Listens to nothing yet. Where the system tells of no changes a line in the log says so.
    pub fn new() -> Watch {
        let touched = Arc::new(Notify::new());
        let heard = touched.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a log is an event too, and would wake the next look for ever.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                heard.notify_one();
            }
        });
        let watcher = watcher
            .inspect_err(
                |error| tracing::warn!(%error, "no events from the logs' folders: they are looked at now and then"),
            )
            .ok();
        Watch { watcher, watched: HashMap::new(), touched }
    }

    /// Listens to these folders from now on.
    pub fn keep_up(&mut self, folders: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let found: HashMap<PathBuf, u64> =
            folders.iter().filter_map(|folder| Some((folder.clone(), std::fs::metadata(folder).ok()?.ino()))).collect();
        self.watched.retain(|folder, inode| {
            let is_the_same = found.get(folder) == Some(inode);
            if !is_the_same {
                // It is gone, which ends the listening by itself in most cases.
                let _ = watcher.unwatch(folder);
            }
            is_the_same
        });
        for (folder, inode) in found {
            if !self.watched.contains_key(&folder) && watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok() {
                self.watched.insert(folder, inode);
            }
        }
    }

    /// Waits until something has changed.
    pub async fn changed(&self) {
        self.touched.notified().await;
    }
}

impl Default for Watch {
    fn default() -> Watch {
        Watch::new()
    }
}
