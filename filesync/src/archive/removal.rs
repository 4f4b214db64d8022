//! Removes files here that have been in the archive for long enough, where the settings say so; never without them.
//!
//! Always holds: a file goes only if the record says that all of it arrived as it is now, and the master, asked just before, shows it.

use std::sync::Arc;

use rustix::fs::{AtFlags, unlinkat};

use super::door::Session;
use super::folders::Selection;
use super::judge::shown;
use super::record::{Scribe, Text};
use super::sight::{Sight, Stamp};
use crate::source::{Source, entry_at};
use crate::status::now_s;
use crate::tree::{name, parent};

/// Files that go in one turn.
const TURN_MAX: usize = 1000;

/// The files whose time has come: with when they arrived, in seconds since 1970.
pub fn due(settled: Vec<(Sight, i64)>, selections: &[Selection]) -> Vec<Sight> {
    let now = now_s();
    let is_due = |sight: &Sight, at_s: i64| {
        let age = selections.get(sight.folder).and_then(|folder| folder.removal.0);
        age.is_some_and(|age| now.saturating_sub(at_s) >= i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
    };
    settled.into_iter().filter(|(sight, at_s)| is_due(sight, *at_s)).map(|(sight, _)| sight).take(TURN_MAX).collect()
}

/// Removes a file; tells whether it did.
pub async fn remove(
    sight: Sight,
    session: &Session,
    scribe: &Scribe,
    selections: &Arc<Vec<Selection>>,
) -> Result<bool, String> {
    let (known, folders, seen) = (scribe.clone(), selections.clone(), sight.clone());
    let text = tokio::task::spawn_blocking(move || -> Result<Option<Text>, String> {
        let Some(folder) = folders.get(seen.folder) else { return Ok(None) };
        let record = known.record();
        let wrong = |error: rusqlite::Error| error.to_string();
        let noted = record.noted(&folder.name, &seen.path).map_err(wrong)?;
        match noted.filter(|noted| noted.stamp == seen.stamp) {
            Some(noted) => record.text(noted.text).map_err(wrong),
            None => Ok(None),
        }
    });
    let Some(text) = text.await.map_err(|error| error.to_string())?? else { return Ok(false) };
    if text.proof.sent < sight.stamp.size {
        return Ok(false);
    }
    let there = session.client.lstat(&text.remote).await.map_err(|error| error.to_string())?;
    if there.size.is_none_or(|size| size < text.stored) {
        return Err("the archive has less of it than it said: it stays here".into());
    }
    let folders = selections.clone();
    let removed = tokio::task::spawn_blocking(move || -> Result<bool, String> {
        let Some(folder) = folders.get(sight.folder) else { return Ok(false) };
        let source = Source::open(&folder.root).map_err(|error| format!("{error:#}"))?;
        let inside = source.open_folder(parent(&sight.path)).map_err(|error| error.to_string())?;
        let now = entry_at(&inside, name(&sight.path)).map_err(|error| error.to_string())?;
        if now.map(|entry| Stamp::of(&entry)) != Some(sight.stamp) {
            return Ok(false);
        }
        unlinkat(&inside, shown(name(&sight.path)), AtFlags::empty())
            .map_err(|error| format!("cannot be removed: {error}"))?;
        Ok(true)
    });
    removed.await.map_err(|error| error.to_string())?
}
