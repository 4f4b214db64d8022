//! A standby's tree, entry by entry in the order of whole paths. Folders are listed ahead of their turn, many at once: what
//! a walk waits for is the network.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use pair::client::{ClientError, Result};

use super::Remote;
use crate::listing::Unseen;
use crate::order::{self, Names, Turn};
use crate::plan::PRIVATE;
use crate::tree::{Kind, Path, Seen, join, name};

/// Folders listed ahead of their turn, once it is known how large they are.
const FOLDERS_AHEAD_MAX: usize = 32;
/// Entries that may wait for their turn, each listing under way counted as the largest so far. Past it only the folder is
/// listed whose turn it is.
const ENTRIES_AHEAD_MAX: usize = 50_000;

type Listed = Result<Names<Seen>>;

/// A walk that is under way.
pub struct Walk<'r> {
    remote: &'r Remote,
    order: order::Walk<Seen>,
    /// Folders to be listed, each with a slash at its end, so that they stand in the order of their turns.
    to_list: BTreeSet<Path>,
    running: FuturesUnordered<BoxFuture<'r, (Path, Listed)>>,
    listed: BTreeMap<Path, Listed>,
    entries_ahead: usize,
    /// Entries of the largest folder so far.
    largest: usize,
    /// Folders that may be listed ahead now: one more after each that was.
    folders_ahead: usize,
    /// What could not be seen so far.
    pub unseen: Unseen,
}

impl<'r> Walk<'r> {
    /// Walks through all below a folder; below the base through all but our own folder.
    pub fn below(remote: &'r Remote, top: &[u8]) -> Walk<'r> {
        Walk {
            remote,
            order: order::Walk::below(top),
            to_list: [with_slash(top)].into(),
            running: FuturesUnordered::new(),
            listed: BTreeMap::new(),
            entries_ahead: 0,
            largest: 0,
            folders_ahead: 1,
            unseen: Unseen::default(),
        }
    }

    /// The next entry; nothing at the end. The error is a lost connection.
    pub async fn next(&mut self) -> Result<Option<(Path, Seen)>> {
        while let Some(turn) = self.order.next() {
            match turn {
                Turn::Entry(path, seen) => {
                    if seen.kind == Kind::Folder {
                        self.order.descend(name(&path));
                    }
                    return Ok(Some((path, seen)));
                }
                Turn::Folder(folder) => match self.list(&folder).await {
                    Ok(names) => self.order.enter(folder, names),
                    Err(error) if error.is_lost() => return Err(error),
                    Err(error) if error.is_missing() && !folder.is_empty() => self.unseen.is_blind(folder, None),
                    Err(error) => {
                        self.unseen.is_blind(folder, Some(format!("the standby cannot list it: {error}")));
                    }
                },
            }
        }
        Ok(None)
    }

    /// What is in a folder, which was perhaps listed ahead.
    async fn list(&mut self, folder: &[u8]) -> Listed {
        loop {
            if let Some(listed) = self.listed.remove(folder) {
                self.entries_ahead -= listed.as_ref().map_or(0, Vec::len);
                return listed;
            }
            let slashed = with_slash(folder);
            if self.to_list.remove(&slashed) {
                self.begin(slashed);
            }
            while self.running.len() + self.listed.len() < self.folders_ahead
                && self.entries_ahead + self.running.len() * self.largest < ENTRIES_AHEAD_MAX
                && let Some(next) = self.to_list.pop_first()
            {
                self.begin(next);
            }
            let Some((path, listed)) = self.running.next().await else {
                // It was met before its turn, so its listing is at least under way.
                return Err(ClientError::Protocol("a folder was listed that nobody has met".into()));
            };
            self.keep(path, listed);
        }
    }

    fn begin(&mut self, mut folder: Path) {
        folder.pop();
        let remote = self.remote;
        let list = async move {
            let listed = remote.list_folder(&folder).await;
            (folder, listed)
        };
        self.running.push(list.boxed());
    }

    fn keep(&mut self, folder: Path, mut listed: Listed) {
        if let Ok(names) = &mut listed {
            names.retain(|(name, _)| !folder.is_empty() || name != PRIVATE);
            let subfolders = names.iter().filter(|(_, seen)| seen.kind == Kind::Folder);
            self.to_list.extend(subfolders.map(|(name, _)| with_slash(&join(&folder, name))));
            self.entries_ahead += names.len();
            self.largest = self.largest.max(names.len());
        }
        self.folders_ahead = FOLDERS_AHEAD_MAX.min(self.folders_ahead + 1);
        self.listed.insert(folder, listed);
    }
}

fn with_slash(folder: &[u8]) -> Path {
    [folder, b"/"].concat()
}
