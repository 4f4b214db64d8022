//! What could not be done: merged with what could not before, and said once.

use std::collections::BTreeMap;

use crate::follower::Follower;
use crate::lane::Lane;
use crate::listing::Problem;
use crate::status::now_s;
use crate::store::Trouble;
use crate::stream::AtBegin;
use crate::tree::{Path, shown, upwards};

/// Problems told in the log per pass; all of them are in the store.
const PROBLEMS_TOLD_MAX: usize = 10;

/// Merges what went wrong with what did before, and says what is new.
pub(super) async fn keep(
    follower: &Follower,
    found: Vec<Problem>,
    untried: impl Iterator<Item = &Path>,
    left: &AtBegin,
    lane: &Lane,
) -> Result<(), String> {
    let found = [found, lane.take_problems()].concat();
    // What the feed has found meanwhile, and what could not be tried, is for the next pass to confirm.
    let mut open: BTreeMap<Path, ()> = untried.map(|path| (path.clone(), ())).collect();
    open.extend(lane.paths().into_iter().chain(follower.left.since(left)).map(|path| (path, ())));
    let (count, news) = follower
        .stored(move |store, _| {
            let (before, now) = (store.troubles()?, now_s());
            let (mut troubles, mut news) = (BTreeMap::new(), Vec::new());
            // Of two sentences about one path the first is the cause.
            let found: BTreeMap<Path, String> =
                found.into_iter().rev().map(|Problem { path, sentence }| (path, sentence)).collect();
            for (path, sentence) in found {
                // Said once, also if the sentences change in turns; the status shows the last one.
                let old = before.get(&path);
                if old.is_none() {
                    news.push(format!("{}: {sentence}", shown(&path)));
                }
                let (first_s, attempts) = old.map_or((now, 0), |old| (old.first_s, old.attempts));
                troubles.insert(path, Trouble { sentence, first_s, last_s: now, attempts: attempts + 1 });
            }
            for (path, trouble) in &before {
                if upwards(path).any(|above| open.contains_key(above)) {
                    troubles.entry(path.clone()).or_insert_with(|| trouble.clone());
                }
            }
            if troubles != before {
                store.keep_troubles(&troubles)?;
            }
            Ok((store.troubles_count()?, news))
        })
        .await?;
    for line in news.iter().take(PROBLEMS_TOLD_MAX) {
        tracing::warn!("standby {}: {line}", follower.name());
    }
    if let Some(more) = news.len().checked_sub(PROBLEMS_TOLD_MAX).filter(|more| *more > 0) {
        tracing::warn!("standby {}: {more} more problems; filesync status shows all", follower.name());
    }
    follower.board.update(|report| (report.problems, report.problems_since_s) = count);
    Ok(())
}
