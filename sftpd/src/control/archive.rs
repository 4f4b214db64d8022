//! What is told of the log archive: its agents, what of theirs is kept and for how long, what retention will remove, and the chain.

use std::sync::Arc;

use pair::chain::{FOLDER, file_name};
use pair::control::{Agent, Answer, Archive, Chain, EXPIRING_SHOWN_MAX, Expiring, ExpiringFile, Segment};
use pair::record::VolumePath;

use crate::accounts::{Account, Keep};
use crate::archive::Told;
use crate::archive::ledger::{Ledger, Totals};
use crate::archive::moment::text;
use crate::archive::retention::Picker;
use crate::daemon::Daemon;

/// The archive as it is now.
pub async fn told(daemon: &Arc<Daemon>) -> Answer {
    let asked = daemon.clone();
    match tokio::task::spawn_blocking(move || look(&asked)).await {
        Ok(Ok(archive)) => Answer::Archive(Box::new(archive)),
        Ok(Err(error)) => Answer::Refused { text: format!("the archive's ledger cannot be read: {error}") },
        Err(_) => Answer::Refused { text: "a bug in the server: the archive could not be looked at".into() },
    }
}

fn look(daemon: &Daemon) -> rusqlite::Result<Archive> {
    let (accounts, told) = (daemon.accounts(), daemon.archive.told());
    let ledger = Ledger::reader(&daemon.config.state);
    let agents = accounts.iter().filter_map(|account| Some((account, account.agent?)));
    let agents =
        agents.map(|(account, keep)| agent(account, &keep, ledger.as_ref(), &told)).collect::<Result<_, _>>()?;
    Ok(Archive { agents, retention_at: told.retention_ms.map(text), chain: chain(ledger.as_ref(), &told)? })
}

fn chain(ledger: Option<&Ledger>, told: &Told) -> rusqlite::Result<Chain> {
    let head = ledger.map(Ledger::head).transpose()?.flatten();
    Ok(Chain {
        last: head.map(|head| Segment {
            path: VolumePath(format!("{FOLDER}/{}/{}", head.day, file_name(head.number)).into_bytes()),
            number: head.number,
            digest: head.digest,
            time: head.time,
        }),
        unsealed_files: told.waiting,
        unsealed_since: told.since_ms.map(text),
        problem: told.problem.clone(),
    })
}

fn agent(account: &Account, keep: &Keep, ledger: Option<&Ledger>, told: &Told) -> rusqlite::Result<Agent> {
    let home = account.home.clone().into_bytes();
    let waiting = told.waiting_of.get(&home).copied();
    let totals = ledger.map(|ledger| ledger.totals(&home)).transpose()?;
    let expiring = match (ledger, totals, told.retention_ms) {
        (Some(ledger), Some(totals), Some(at_ms)) => Some(expiring(ledger, &home, keep, &totals, at_ms)?),
        _ => None,
    };
    Ok(Agent {
        name: account.name.clone(),
        home: VolumePath(home),
        is_disabled: account.disabled,
        keep_s: keep.for_s,
        keep_bytes: keep.bytes,
        files: totals.map(|totals| totals.files),
        bytes: totals.map(|totals| totals.bytes),
        unsealed_files: waiting.map_or(0, |(files, _)| files),
        last_arrival: totals.and_then(|totals| totals.last_ms).max(waiting.map(|(_, last_ms)| last_ms)).map(text),
        expiring,
    })
}

fn expiring(ledger: &Ledger, home: &[u8], keep: &Keep, totals: &Totals, at_ms: i64) -> rusqlite::Result<Expiring> {
    let (mut picker, mut expiring) = (Picker::new(keep, totals, at_ms), Expiring::default());
    ledger.oldest_first(home, &mut |file| {
        let Some(why) = picker.look(&file) else { return false };
        expiring.files += 1;
        expiring.bytes += file.size;
        if expiring.first.len() < EXPIRING_SHOWN_MAX {
            let (path, arrived) = (VolumePath(file.path), text(file.time_ms));
            expiring.first.push(ExpiringFile { path, size: file.size, arrived, why });
        }
        true
    })?;
    Ok(expiring)
}
