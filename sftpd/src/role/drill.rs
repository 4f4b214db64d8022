//! A drill: a switchover there and back, timed, with a report that is kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pair::control::{Move, Step};
use pair::node::{Phase, Role, replace_file};

use super::switchover::switch_over;
use crate::daemon::Daemon;

/// How long the new master may take to make this machine its standby.
const SETTLE_MAX: Duration = Duration::from_secs(300);

/// How often that is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Where reports are kept, and how many.
const FOLDER: &str = "drills";
const REPORTS_MAX: usize = 100;

/// Hands over to the standby and has it handed back. The report is kept, also of one that has failed.
pub async fn drill(daemon: &Arc<Daemon>) -> Result<Move, String> {
    if daemon.roles.now().phase() != Phase::Master {
        return Err("a drill begins on the master: run it there".into());
    }
    let (began, mut report) = (Instant::now(), Move::default());
    report.what = "drill".into();
    report.time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let outcome = there_and_back(daemon, &mut report).await;
    report.elapsed_ms = began.elapsed().as_millis() as u64;
    let standing = daemon.roles.now();
    report.epoch = standing.node.newest().map_or(0, |epoch| epoch.counter);
    if standing.node.role == Role::Master {
        report.master.clone_from(&standing.node.node);
    }
    if let Err(sentence) = &outcome {
        report.remarks.push(format!("failed: {sentence}"));
    }
    let kept = keep(daemon, &report).await;
    match kept {
        Ok(path) => report.remarks.push(format!("kept as {}", path.display())),
        Err(error) => report.remarks.push(format!("the report cannot be kept: {error:#}")),
    }
    outcome.map(|()| report)
}

async fn there_and_back(daemon: &Arc<Daemon>, report: &mut Move) -> Result<(), String> {
    let there = switch_over(daemon, None).await?;
    report.gap_ms = there.gap_ms;
    report.master.clone_from(&there.master);
    report.steps = there.steps.into_iter().map(|step| Step { name: format!("there: {}", step.name), ..step }).collect();
    let settling = Instant::now();
    while !follows(daemon) {
        if settling.elapsed() > SETTLE_MAX {
            return Err("the new master has not made this machine its standby: look at filesync there".into());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    report.steps.push(Step {
        name: "this machine follows the other".into(),
        elapsed_ms: settling.elapsed().as_millis() as u64,
    });
    let back = switch_over(daemon, None).await?;
    report.steps.push(Step { name: "and back".into(), elapsed_ms: back.elapsed_ms });
    Ok(())
}

/// Whether the other machine has said that this one has something of its epoch.
fn follows(daemon: &Daemon) -> bool {
    let standing = daemon.roles.now();
    standing.phase() == Phase::Standby
        && standing.node.follows.as_ref().is_some_and(|follows| follows.reached.is_some())
}

async fn keep(daemon: &Arc<Daemon>, report: &Move) -> anyhow::Result<PathBuf> {
    let folder = daemon.config.state.join(FOLDER);
    let path = folder.join(format!("{}.json", report.time.replace(':', "")));
    let (text, kept) = (serde_json::to_string_pretty(report)?, path.clone());
    let keep = move || -> anyhow::Result<()> {
        std::fs::create_dir_all(&folder)?;
        replace_file(&kept, text.as_bytes(), 0o600)?;
        let mut reports: Vec<_> = std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
        reports.sort();
        let surplus = reports.len().saturating_sub(REPORTS_MAX);
        for old in reports.into_iter().take(surplus) {
            std::fs::remove_file(old)?;
        }
        Ok(())
    };
    tokio::task::spawn_blocking(keep).await??;
    Ok(path)
}
