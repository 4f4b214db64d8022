//! The command line: options, subcommands, and what they print.

use std::io::Write;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use pair::config::Interval;
use pair::keys::peer_key;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::status::{Report, now_s};
use crate::store::{self, Held, Known};
use crate::tree::shown;

mod archive;
mod chain;
mod inspect;

/// Paths that `status` shows of each list.
const SAMPLES_MAX: usize = 20;

/// Mirrors the data folder of a master to its standbys.
#[derive(Debug, Parser)]
#[command(name = "filesync", version)]
pub struct Arguments {
    /// The file with the settings
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// The folder that is mirrored
    #[arg(long, global = true)]
    data: Option<String>,
    /// This machine's own state
    #[arg(long, global = true)]
    state: Option<String>,
    /// Where to mirror to: host:port,host:port
    #[arg(long, global = true)]
    standbys: Option<String>,
    /// From one pass to the next: 2s, 100s, 5m
    #[arg(long, global = true)]
    interval: Option<String>,
    /// Where health and metrics are served
    #[arg(long, global = true)]
    health_listen: Option<String>,
    /// How long a standby keeps what was replaced or removed, in days
    #[arg(long, global = true)]
    trash_days: Option<String>,
    /// Removals per hour that need no approval, in percent of all entries
    #[arg(long, global = true)]
    delete_budget_percent: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the settings; exit 2 with the reason where they are wrong
    Check,
    /// How each standby is doing
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Exit 1, with a sentence for each, where a standby is away or lags by more than this: 60s, 5m
        #[arg(long)]
        max_lag: Option<Interval>,
    },
    /// Let the removals go that are held
    ApproveDeletes {
        /// Only of this standby, named as in the settings
        #[arg(long)]
        standby: Option<String>,
    },
    /// Compare both trees by content; exit 1 where they differ
    Verify(inspect::Verify),
    /// Show what a standby's trash holds, or bring something back from it
    Restore(inspect::Restore),
    /// Ask the running filesync whether all is well; exit 1 with the reason where not
    Healthcheck,
    /// Print the line for a plain SFTP server's authorized_keys
    Key,
    /// Ship this machine's log files to the archive of a pair
    Archive(archive::Archive),
}

/// Does what the command line says. Without a subcommand that is the service, until `shutdown`.
pub async fn run(arguments: Arguments, shutdown: CancellationToken) -> anyhow::Result<()> {
    if let Some(Command::Archive(archive)) = &arguments.command {
        return archive::run(&arguments, archive, shutdown).await;
    }
    let config = arguments.config()?;
    match arguments.command {
        // It has settings of its own.
        Some(Command::Archive(_)) => Ok(()),
        None => {
            pair::logging::init()?;
            crate::service::run(config, shutdown).await
        }
        Some(Command::Check) => {
            config.check()?;
            say("the settings are right")
        }
        Some(Command::Status { json, max_lag }) => status(&config, json, max_lag),
        Some(Command::ApproveDeletes { standby }) => approve(&config, standby.as_deref()),
        Some(Command::Verify(options)) => inspect::verify(&config, &options).await,
        Some(Command::Restore(options)) => inspect::restore(&config, &options).await,
        Some(Command::Healthcheck) => {
            let address = config.health_listen.parse().map_err(|_| {
                pair::exit::usage(format!("health_listen: {} is no address with a port", config.health_listen))
            })?;
            pair::health::check(address).await
        }
        Some(Command::Key) => say(&peer_key(&config.secret()?)?.public_key().to_openssh()?),
    }
}

impl Arguments {
    fn config(&self) -> anyhow::Result<Config> {
        pair::config::load("filesync", self.config.as_deref(), &self.flags())
    }

    /// The keys that the command line sets.
    fn flags(&self) -> Vec<(&'static str, String)> {
        let flags = [
            ("data", &self.data),
            ("state", &self.state),
            ("standbys", &self.standbys),
            ("interval", &self.interval),
            ("health_listen", &self.health_listen),
            ("trash_days", &self.trash_days),
            ("delete_budget_percent", &self.delete_budget_percent),
        ];
        flags.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect()
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

fn approve(config: &Config, standby: Option<&str>) -> anyhow::Result<()> {
    let (paths, entries) = store::approve(&config.store(), standby)?;
    if paths == 0 {
        return say("nothing is held");
    }
    say(&format!("{entries} entries below {paths} paths will be moved to the standby's trash with the next pass"))
}

fn status(config: &Config, as_json: bool, max_lag: Option<Interval>) -> anyhow::Result<()> {
    let (mut reports, mut texts, mut alarms) = (Vec::new(), Vec::new(), Vec::new());
    let troubles_max = if as_json { usize::MAX } else { SAMPLES_MAX };
    for known in store::known_in_short(&config.store(), troubles_max)? {
        let Known { name, report, held, troubles: problems, troubles_count, .. } = known;
        let report: Report = report.map(|report| serde_json::from_str(&report)).transpose()?.unwrap_or_default();
        let report = Report { standby: name.clone(), ..report };
        alarms.extend(max_lag.as_ref().and_then(|limit| report.alarm(limit.get())));
        if as_json {
            let held: Vec<_> = held
                .iter()
                .map(|held| {
                    json!({ "path": shown(&held.path), "entries": held.entries, "reason": held.reason,
                            "since_s": held.since_s, "approved": held.approved })
                })
                .collect();
            let problems: Vec<_> = problems
                .iter()
                .map(|(path, trouble)| {
                    json!({ "path": shown(path), "sentence": trouble.sentence, "first_s": trouble.first_s,
                            "last_s": trouble.last_s, "attempts": trouble.attempts })
                })
                .collect();
            reports.push(json!({ "report": report, "held": held, "problems": problems }));
            continue;
        }
        let mut lines = vec![in_words(&name, &report)];
        lines.extend(held_in_words(&held));
        for (path, trouble) in &problems {
            lines.push(format!("  problem: {}: {} (tried {} times)", shown(path), trouble.sentence, trouble.attempts));
        }
        let more = troubles_count.saturating_sub(problems.len() as u64);
        if more > 0 {
            lines.push(format!("  and {more} problems more"));
        }
        texts.push(lines.join("\n"));
    }
    if texts.is_empty() {
        texts.push("no standby is known yet: filesync has not run on this machine as master".into());
    }
    if as_json {
        say(&serde_json::to_string_pretty(&json!({ "standbys": reports }))?)?;
    } else {
        say(&texts.join("\n"))?;
    }
    if alarms.is_empty() { Ok(()) } else { Err(anyhow::anyhow!(alarms.join("\n"))) }
}

fn in_words(name: &str, report: &Report) -> String {
    let ago = |at: Option<i64>| at.map_or("never".into(), |at| format!("{} s ago", (now_s() - at).max(0)));
    let grade = report.grade.map_or("grade unknown", |grade| grade.text());
    let state = match (report.silent_s(), &report.sentence, report.connected) {
        (Some(silent_s), ..) => format!("FILESYNC DOES NOT RUN: it was seen {silent_s} s ago"),
        (_, None, true) => "connected".to_owned(),
        (_, sentence, _) => format!("NOT CONNECTED: {}", sentence.as_deref().unwrap_or("not reached yet")),
    };
    let arrived = match report.settled_at_s {
        Some(_) => format!("all that was there {} has arrived", ago(report.settled_at_s)),
        None => "no comparison has found both sides equal yet".to_owned(),
    };
    format!(
        "{name} ({grade}): {state}\n  {}\n  {arrived}; last complete pass {}; {} entries\n  pending: {} files, \
         {} bytes; sent: {} files, {} bytes",
        followed_in_words(report),
        ago(report.complete_at_s),
        report.entries,
        report.files_pending,
        report.bytes_pending,
        report.files_sent,
        report.bytes_sent
    )
}

fn followed_in_words(report: &Report) -> String {
    let lag_s = report.lag_ms as f64 / 1000.0;
    if !report.followed {
        let why = report
            .feed_sentence
            .as_deref()
            .unwrap_or("the feed is not followed, or both sides are being compared first");
        return format!("on the interval only ({why}); lag {lag_s:.1} s");
    }
    let Report { changes_behind, files_behind, bytes_behind, missed_events, .. } = report;
    let untold = if *missed_events == 0 { String::new() } else { format!("; {missed_events} changes by other hands") };
    format!(
        "every change at once; lag {lag_s:.1} s: {changes_behind} changes on their way, {files_behind} files, {bytes_behind} \
         bytes{untold}"
    )
}

fn held_in_words(held: &[Held]) -> Vec<String> {
    let waiting: Vec<&Held> = held.iter().filter(|held| !held.approved).collect();
    let mut lines = Vec::new();
    if let Some(first) = waiting.first() {
        let entries: u64 = waiting.iter().map(|held| held.entries).sum();
        lines.push(format!(
            "  HELD: the removal of {entries} entries ({}); let them go with: filesync approve-deletes",
            first.reason
        ));
    }
    let samples = waiting.iter().take(SAMPLES_MAX);
    lines.extend(samples.map(|held| format!("    {} ({} entries)", shown(&held.path), held.entries)));
    if waiting.len() > SAMPLES_MAX {
        lines.push(format!("    and {} paths more", waiting.len() - SAMPLES_MAX));
    }
    lines
}
