//! Orders about what was set aside on this machine: what there is, have it restored, release it.
//!
//! Always holds: nothing that was not restored is released without a word that says so. A standby restores nothing by itself: it tells the
//! master, which does, or says why not. What is changed is written into the activity log.

use std::sync::Arc;

use pair::activity::{Activity, Outcome};
use pair::control::{Answer, Divergent as Shown, Release};
use pair::record::VolumePath;

use super::command;
use crate::activity::failed;
use crate::daemon::Daemon;
use crate::role::offers::{self, Verdict};
use crate::role::returning::blocking;
use crate::storage::{Aside, Divergent, Entry, Mark, Parts, State, Wanted};

/// Things in one answer, and the bytes of their paths: an answer is one line.
const ANSWER_MAX: usize = 20_000;
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Digits of an epoch that are shown where they are enough.
const EPOCH_DIGITS: usize = 8;

/// What was set aside, behind an id.
pub async fn list(daemon: &Arc<Daemon>, behind: Option<String>) -> Answer {
    let volume = daemon.volume.clone();
    let listed = blocking(move || {
        let divergent = volume.divergent().map_err(text)?;
        listed(&divergent, behind.as_deref())
    });
    listed.await.map_or_else(|text| Answer::Refused { text }, Answer::Divergent)
}

fn listed(divergent: &Divergent, behind: Option<&str>) -> Result<Vec<Shown>, String> {
    let epochs = divergent.epochs().map_err(text)?;
    let behind = behind.map(|id| parsed(id, &epochs)).transpose()?;
    let (mut listed, mut bytes) = (Vec::new(), 0);
    for epoch in &epochs {
        for (number, parts) in divergent.parts(epoch).map_err(text)? {
            if behind.as_ref().is_some_and(|known| (epoch, number) <= (&known.0, known.1)) {
                continue;
            }
            let Some(entry) = divergent.entry(epoch, number, &parts).map_err(text)? else { continue };
            let state = divergent.state(epoch, number, &parts).map_err(text)?;
            let shown = shown(entry, state, id_of(epoch, number, &epochs));
            bytes += shown.path.0.len() + shown.detail.as_ref().map_or(0, String::len);
            listed.push(shown);
            if listed.len() >= ANSWER_MAX || bytes >= ANSWER_BYTES_MAX {
                return Ok(listed);
            }
        }
    }
    Ok(listed)
}

fn shown(entry: Entry, state: State, id: String) -> Shown {
    let written_ns = entry.time_ms.map_or(i128::from(entry.mtime_ns), |ms| i128::from(ms) * 1_000_000);
    let written = jiff::Timestamp::from_nanosecond(written_ns).unwrap_or_default();
    let (state, detail) = match state {
        State::Offered => ("offered", None),
        State::Wanted(wanted) => {
            let over = if wanted.replace { ", in place of what is there" } else { "" };
            ("wanted", Some(format!("as {}{over}", wanted.path)))
        }
        State::Restored => ("restored", None),
        State::Kept(reason) => ("kept", Some(reason)),
    };
    Shown {
        id,
        path: entry.path,
        kind: entry.kind.text().into(),
        size: entry.size,
        written: written.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        account: entry.account,
        state: state.into(),
        detail,
    }
}

/// How a thing is called: by the beginning of its epoch, where no other begins so.
fn id_of(epoch: &str, number: u64, epochs: &[String]) -> String {
    let short = epoch.get(..EPOCH_DIGITS).unwrap_or(epoch);
    let are_many = epochs.iter().filter(|other| other.starts_with(short)).count() > 1;
    format!("{}-{number}", if are_many { epoch } else { short })
}

/// What is called so.
fn parsed(id: &str, epochs: &[String]) -> Result<(String, u64), String> {
    let unknown = || format!("nothing that was set aside has the id {}", id.escape_debug());
    let (start, number) = id.rsplit_once('-').ok_or_else(unknown)?;
    let number = number.parse().map_err(|_| unknown())?;
    let mut meant = epochs.iter().filter(|epoch| start.len() >= EPOCH_DIGITS && epoch.starts_with(start));
    match (meant.next(), meant.next()) {
        (Some(epoch), None) => Ok((epoch.clone(), number)),
        _ => Err(unknown()),
    }
}

/// What there is under an id.
fn found(divergent: &Divergent, id: &str) -> Result<(Entry, State), String> {
    let unknown = || format!("nothing that was set aside has the id {}", id.escape_debug());
    let (epoch, number) = parsed(id, &divergent.epochs().map_err(text)?)?;
    let parts: Parts = *divergent.parts(&epoch).map_err(text)?.get(&number).ok_or_else(unknown)?;
    let entry = divergent.entry(&epoch, number, &parts).map_err(text)?.ok_or_else(unknown)?;
    let state = divergent.state(&epoch, number, &parts).map_err(text)?;
    // By its names, whatever stands in it.
    Ok((Entry { epoch, number, ..entry }, state))
}

/// Has something restored: here on a master, else by the master.
pub async fn restore(daemon: &Arc<Daemon>, id: String, to: Option<VolumePath>, replace: bool) -> Answer {
    let target = to.as_ref().map(|to| format!(" --as {to}")).unwrap_or_default();
    let said = format!("divergent restore {id}{target}{}", if replace { " --replace" } else { "" });
    let restored = try_to_restore(daemon, id, to, replace).await;
    recorded(daemon, said, restored)
}

async fn try_to_restore(
    daemon: &Arc<Daemon>,
    id: String,
    to: Option<VolumePath>,
    replace: bool,
) -> Result<String, String> {
    let volume = daemon.volume.clone();
    let (aside, entry, state) = blocking(move || {
        let aside = volume.aside().map_err(text)?;
        let (entry, state) = found(aside.all(), &id)?;
        Ok((aside, entry, state))
    })
    .await?;
    if state == State::Restored && to.is_none() && !replace {
        return Err("it was restored already".into());
    }
    if let State::Wanted(before) = &state {
        return Err(format!("it is asked for as {} already: wait until the master has answered", before.path));
    }
    let path = to.unwrap_or_else(|| entry.path.clone());
    if !offers::is_for_clients(&path.0) {
        return Err(format!("{path} is no path that a client could have: it begins with the account's folder"));
    }
    let wanted = Wanted { path: path.clone(), replace };
    if daemon.is_standby() {
        blocking(move || aside.want(&entry.epoch, entry.number, &wanted).map_err(text)).await?;
        return Ok(format!("asked for as {path}: the master restores it, or `sftpd divergent list` says why not"));
    }
    match offers::restore_here(daemon, &entry, &wanted).await? {
        Verdict::Kept(reason) => Err(reason),
        Verdict::There | Verdict::Made => {
            blocking(move || aside.mark(&entry.epoch, entry.number, Mark::Restored, b"").map_err(text)).await?;
            Ok(format!("restored as {path}"))
        }
    }
}

/// Removes what was set aside, for ever.
pub async fn release(daemon: &Arc<Daemon>, which: Release, is_sure: bool) -> Answer {
    let said = match &which {
        Release::One(id) => format!("divergent release {id}"),
        Release::Restored => "divergent release --restored".into(),
        Release::All => "divergent release --all".into(),
    };
    let volume = daemon.volume.clone();
    let released = blocking(move || {
        let aside = volume.aside().map_err(text)?;
        released(&aside, &which, is_sure)
    });
    recorded(daemon, said, released.await)
}

fn released(aside: &Aside, which: &Release, is_sure: bool) -> Result<String, String> {
    let divergent = aside.all();
    let epochs = divergent.epochs().map_err(text)?;
    let one = match which {
        Release::One(id) => found(divergent, id).map(|(entry, _)| Some((entry.epoch, entry.number)))?,
        Release::Restored | Release::All => None,
    };
    let is_meant = |epoch: &str, number: u64, parts: &Parts| match (&one, which) {
        (Some(one), _) => (one.0.as_str(), one.1) == (epoch, number),
        (None, Release::Restored) => parts.restored,
        (None, _) => true,
    };
    let (mut meant, mut not_restored) = (Vec::new(), 0);
    for epoch in epochs {
        let parts = divergent.parts(&epoch).map_err(text)?;
        let numbers: Vec<_> = parts.into_iter().filter(|(number, parts)| is_meant(&epoch, *number, parts)).collect();
        not_restored += numbers.iter().filter(|(_, parts)| !parts.restored).count();
        meant.push((epoch, numbers));
    }
    if not_restored > 0 && !is_sure {
        return Err(format!(
            "{not_restored} that would go for ever were not restored, and nobody else has them: add --yes if they are to go"
        ));
    }
    let mut released = 0;
    for (epoch, numbers) in meant.into_iter().filter(|(_, numbers)| !numbers.is_empty()) {
        let numbers: Vec<u64> = numbers.into_iter().map(|(number, _)| number).collect();
        released += aside.release(&epoch, &numbers).map_err(text)?;
    }
    Ok(format!("released: {released}"))
}

/// Writes down what was ordered and what came of it.
fn recorded(daemon: &Daemon, said: String, outcome: Result<String, String>) -> Answer {
    let command = command(said);
    match outcome {
        Ok(text) => {
            daemon.activity.put(Activity { outcome: Some(Outcome::Complete), ..command });
            Answer::Done { text }
        }
        Err(text) => {
            daemon.activity.put(failed(command, Outcome::Refused, &text));
            Answer::Refused { text }
        }
    }
}

fn text(error: crate::storage::StorageError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests;
