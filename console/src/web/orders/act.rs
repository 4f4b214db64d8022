//! Carries orders out: sftpd's over its control socket, filesync's in its store and on the standby.

use std::path::Path;

use filesync::restore::restore;
use filesync::store::{approve, known_in_short};
use pair::control::{Answer, Move, Order, ask};
use web::figures;

use super::wish::{Wish, bytes_of};
use crate::config::Config;
use crate::situation::Situation;
use crate::web::shown;

/// The folder in the state folder into which versions are restored.
const RESTORED: &str = "restored";

/// What was done.
pub struct Done {
    /// In a sentence.
    pub sentence: String,
    /// Step by step, with how long each took.
    pub steps: Vec<(String, String)>,
    /// What a person should know.
    pub remarks: Vec<String>,
}

fn done(sentence: impl Into<String>) -> Done {
    Done { sentence: sentence.into(), steps: Vec::new(), remarks: Vec::new() }
}

/// Does it, or says why not.
pub async fn carry_out(config: &Config, known: &Situation, wish: &Wish) -> Result<Done, String> {
    let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    match wish {
        Wish::Promote { given_up } => asked(&config.state, known, Order::Promote { force: some(given_up) }).await,
        Wish::Switchover { to } => asked(&config.state, known, Order::Switchover { to: some(to) }).await,
        Wish::Drill => asked(&config.state, known, Order::Drill {}).await,
        Wish::Unban { whom } => asked(&config.state, known, Order::Unban { whom: whom.clone() }).await,
        Wish::Kick { whom } => asked(&config.state, known, Order::Kick { whom: whom.clone() }).await,
        Wish::End { connection, .. } => asked(&config.state, known, Order::Kick { whom: connection.clone() }).await,
        Wish::Approve { standby, entries } => let_go(config, standby.clone(), entries.clone()).await,
        Wish::Restore { standby, path, version } => bring_back(config, standby, path, version).await,
    }
}

async fn asked(state: &Path, known: &Situation, order: Order) -> Result<Done, String> {
    match ask(state, &order).await.map_err(|error| shown(&format!("{error:#}")))? {
        Answer::Moved(moved) => Ok(in_words(&moved, known)),
        Answer::Done { text } => Ok(done(shown(text.trim_end()))),
        Answer::Refused { text } => Err(shown(text.trim_end())),
        _ => Err("sftpd answered something else: is it of another version?".to_owned()),
    }
}

fn in_words(moved: &Move, known: &Situation) -> Done {
    let is_own = known.status.as_ref().is_some_and(|status| status.node == moved.master);
    let master = if is_own { "this machine".to_owned() } else { shown(&moved.master) };
    let took = figures::milliseconds(moved.elapsed_ms as f64);
    let gap =
        moved.gap_ms.map(|gap_ms| format!(" No changes were taken for {}.", figures::milliseconds(gap_ms as f64)));
    let sentence =
        format!("The master is {master}, in epoch {}. It took {took}.{}", moved.epoch, gap.unwrap_or_default());
    let steps = moved.steps.iter();
    Done {
        sentence,
        steps: steps.map(|step| (shown(&step.name), figures::milliseconds(step.elapsed_ms as f64))).collect(),
        remarks: moved.remarks.iter().map(|remark| shown(remark)).collect(),
    }
}

/// Lets held removals go, unless there are others than were looked at.
async fn let_go(config: &Config, standby: String, entries: String) -> Result<Done, String> {
    let store = config.state.join("filesync.db");
    let work = move || -> anyhow::Result<(u64, u64)> {
        let found = known_in_short(&store, 0)?.into_iter().find(|found| found.name == standby);
        let held = found.into_iter().flat_map(|found| found.held).filter(|held| !held.approved);
        let now: u64 = held.map(|held| held.entries).sum();
        anyhow::ensure!(
            entries.parse() == Ok(now),
            "what is held has changed meanwhile: it is {now} entries now. Nothing was done; look at them and order it again"
        );
        approve(&store, Some(&standby))
    };
    let worked = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
    let (paths, entries) = worked.map_err(|error| shown(&format!("{error:#}")))?;
    let (entries, paths) = (figures::of(entries, "entry", "entries"), figures::of(paths, "path", "paths"));
    Ok(done(format!("{entries} below {paths} go to the standby's trash with the next comparison.")))
}

async fn bring_back(config: &Config, standby: &str, path: &str, version: &str) -> Result<Done, String> {
    let path = bytes_of(path).ok_or("this is no path in the data folder")?;
    let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let folder = config.state.join(RESTORED).join(now);
    tokio::fs::create_dir_all(&folder).await.map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let restored = restore(&filesync_config(config, standby), standby, &path, version, &folder).await;
    let at = restored.map_err(|error| shown(&format!("{error:#}")))?;
    let mut done = done(format!("It is in {} on this machine.", shown(&at.display().to_string())));
    done.remarks.push("Upload it where it belongs, as any other file, and remove it there.".to_owned());
    Ok(done)
}

/// filesync's settings, as far as its restoring needs them. The secret is found as filesync finds it.
pub fn filesync_config(config: &Config, standby: &str) -> filesync::Config {
    let (state, standbys) = (config.state.clone(), vec![standby.to_owned()]);
    filesync::Config { data: state.clone(), state, standbys, ..filesync::Config::default() }
}
