//! Run folders that are still on a server: noted before they are made, forgotten when they are gone.
//!
//! Only folders whose name is that of a run are ever removed, and what links in them lead to stays.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use futures::StreamExt;
use pair::client::{Client, Name};
use pair::node::replace_file;
use pair::wire::Code;
use serde::{Deserialize, Serialize};

use crate::identity::RunId;
use crate::server::Server;
use crate::trouble::Trouble;

/// Removals at a time.
const REMOVALS_MAX: usize = 48;
/// Folders in folders that are followed; a run makes two.
const DEPTH_MAX: usize = 8;
/// What of a mode says which kind of thing it is, and the kind that is a folder.
const KIND_BITS: u32 = 0o170_000;
const KIND_FOLDER: u32 = 0o040_000;

/// A run's folder that is still on a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// The run.
    pub run: RunId,
    /// The server's address.
    pub address: String,
    /// Whose home it is in.
    pub account: String,
    /// Whether it is to stay until somebody asks for its removal.
    pub kept: bool,
}

/// What is known of them.
pub struct Leftovers {
    path: PathBuf,
    list: Mutex<Vec<Leftover>>,
}

impl Leftovers {
    /// Those that a state folder knows of.
    pub fn open(state: &Path) -> anyhow::Result<Leftovers> {
        let path = state.join("leftovers.json");
        let list = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                let advice = "look for folders named stress-… on the servers yourself, then remove it";
                pair::exit::usage(format!("{} cannot be read ({error}): {advice}", path.display()))
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(pair::exit::usage(format!("cannot read {}: {error}", path.display()))),
        };
        Ok(Leftovers { path, list: Mutex::new(list) })
    }

    /// All of them.
    pub fn list(&self) -> Vec<Leftover> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those of an account at a server.
    pub fn of(&self, address: &str, account: &str) -> Vec<Leftover> {
        let is_of = |leftover: &Leftover| leftover.address == address && leftover.account == account;
        self.list().into_iter().filter(is_of).collect()
    }

    /// A folder is about to be made.
    pub fn note(&self, leftover: Leftover) -> anyhow::Result<()> {
        self.change(|list| list.push(leftover))
    }

    /// A folder is gone.
    pub fn forget(&self, gone: &Leftover) -> anyhow::Result<()> {
        self.change(|list| list.retain(|leftover| leftover != gone))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Leftover>)) -> anyhow::Result<()> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut list);
        replace_file(&self.path, &serde_json::to_vec_pretty(&*list)?, 0o600)
    }
}

/// Removes a run's folder with all that is in it. What is removed is counted; a folder that is not there is fine.
pub async fn remove(server: &Server, client: &Client, run: &RunId, removed: &AtomicU64) -> Result<(), Trouble> {
    let mut folders = vec![(run.folder(), 0)];
    let mut emptied = Vec::new();
    while let Some((folder, depth)) = folders.pop() {
        if !is_there_as_a_folder(server, client, &folder).await? {
            continue;
        }
        let entries = match server.list(client, &folder).await {
            Ok(entries) => entries,
            Err(trouble) if trouble.is_missing() => continue,
            Err(trouble) => return Err(trouble),
        };
        let (inner, files): (Vec<Name>, Vec<Name>) = entries.into_iter().partition(is_folder);
        let paths = files.iter().map(|entry| path(&folder, entry)).collect();
        remove_all(server, client, paths, removed).await?;
        if depth < DEPTH_MAX {
            folders.extend(inner.iter().filter_map(|entry| {
                // Names that are not UTF-8 are none of ours; their folder then stays, and says so.
                Some((format!("{folder}/{}", std::str::from_utf8(&entry.name).ok()?), depth + 1))
            }));
        }
        emptied.push(folder);
    }
    for folder in emptied.iter().rev() {
        match server.patiently(client.rmdir(folder.as_bytes())).await {
            Err(trouble) if !trouble.is_missing() || is_there_as_a_folder(server, client, folder).await? => {
                return Err(trouble);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a folder is there. Something else under its name, a link above all, leads to what is none of ours.
async fn is_there_as_a_folder(server: &Server, client: &Client, folder: &str) -> Result<bool, Trouble> {
    match server.patiently(client.lstat(folder.as_bytes())).await {
        Ok(attrs) if attrs.mode.is_some_and(|mode| mode & KIND_BITS == KIND_FOLDER) => Ok(true),
        Ok(_) => {
            let message = format!("{folder} is no folder, but a link or something else: nothing behind it is removed");
            Err(Trouble::Answer { code: Code::Failure, message })
        }
        Err(trouble) if trouble.is_missing() => Ok(false),
        Err(trouble) => Err(trouble),
    }
}

async fn remove_all(server: &Server, client: &Client, paths: Vec<Vec<u8>>, removed: &AtomicU64) -> Result<(), Trouble> {
    let removals = paths.into_iter().map(|path| remove_one(server, client, path));
    let mut removals = futures::stream::iter(removals).buffer_unordered(REMOVALS_MAX);
    while let Some(outcome) = removals.next().await {
        outcome?;
        removed.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn remove_one(server: &Server, client: &Client, path: Vec<u8>) -> Result<(), Trouble> {
    match server.patiently(client.remove(&path)).await {
        Err(trouble) if !trouble.is_missing() => Err(trouble),
        _ => Ok(()),
    }
}

fn is_folder(entry: &Name) -> bool {
    entry.attrs.mode.is_some_and(|mode| mode & KIND_BITS == KIND_FOLDER)
}

fn path(folder: &str, entry: &Name) -> Vec<u8> {
    [folder.as_bytes(), b"/", &entry.name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_known_after_a_restart_until_it_is_gone() {
        let state = tempfile::tempdir().unwrap();
        let leftover = |run: &str, account: &str| Leftover {
            run: run.parse().unwrap(),
            address: "a:1".into(),
            account: account.into(),
            kept: false,
        };
        let (one, other) = (leftover("20261122-021530-9f3c1a", "x"), leftover("20261122-021531-9f3c1a", "y"));
        let first = Leftovers::open(state.path()).unwrap();
        first.note(one.clone()).unwrap();
        first.note(other.clone()).unwrap();
        let again = Leftovers::open(state.path()).unwrap();
        assert_eq!(again.of("a:1", "x"), std::slice::from_ref(&one));
        again.forget(&one).unwrap();
        assert_eq!(Leftovers::open(state.path()).unwrap().list(), [other]);
    }

    #[test]
    fn a_list_that_cannot_be_read_is_named() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join("leftovers.json"), "[{]").unwrap();
        let error = Leftovers::open(state.path()).err().unwrap();
        assert!(error.to_string().contains("leftovers.json") && pair::exit::code(&error) == 2, "{error}");
    }
}
