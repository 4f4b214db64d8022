//! What an operator asks a running daemon on the command line, and how the answers look on a terminal.

use clap::Args;
use pair::control::{Answer, Ban, Move, Order, Peer, Session, Status, ask};
use pair::exit::usage;
use serde::Serialize;

use crate::accounts::users_file;
use crate::cli::{Whereabouts, say};

mod archive;
mod divergent;

pub use archive::archive;
pub use divergent::Divergent;

/// `who` and `status`.
#[derive(Args)]
pub struct Look {
    #[command(flatten)]
    daemon: Whereabouts,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

/// `kick`.
#[derive(Args)]
pub struct Kick {
    #[command(flatten)]
    daemon: Whereabouts,
    /// An account, an address, or a connection's id as in `sftpd who`
    whom: String,
}

/// `unban`.
#[derive(Args)]
pub struct Unban {
    #[command(flatten)]
    daemon: Whereabouts,
    /// An address, a network, an account, or "all"
    whom: String,
}

/// `apply-users`.
#[derive(Args)]
pub struct ApplyUsers {
    #[command(flatten)]
    daemon: Whereabouts,
    /// The users.yaml
    file: std::path::PathBuf,
    /// Only say what would come of it
    #[arg(long)]
    check: bool,
}

/// `promote`.
#[derive(Args)]
pub struct Promote {
    #[command(flatten)]
    daemon: Whereabouts,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
    /// Promote also where that gives up what the other machine has: its address as in the settings, or its id
    #[arg(long, value_name = "OTHER MACHINE")]
    force: Option<String>,
}

/// `switchover`.
#[derive(Args)]
pub struct Switchover {
    #[command(flatten)]
    daemon: Whereabouts,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
    /// To which standby, where there are several: its address as in the settings, or its id
    #[arg(long, value_name = "MACHINE")]
    to: Option<String>,
}

/// `reset-password`.
#[derive(Args)]
pub struct ResetPassword {
    #[command(flatten)]
    daemon: Whereabouts,
    /// The account's login name
    name: String,
}

async fn asked(daemon: &Whereabouts, order: Order) -> anyhow::Result<Answer> {
    match ask(&daemon.state()?, &order).await? {
        Answer::Refused { text } => Err(anyhow::anyhow!("{}", text.trim_end())),
        answer => Ok(answer),
    }
}

async fn done(daemon: &Whereabouts, order: Order) -> anyhow::Result<()> {
    match asked(daemon, order).await? {
        Answer::Done { text } => say(text.trim_end()),
        other => anyhow::bail!("sftpd answered something else: {other:?}"),
    }
    Ok(())
}

impl Kick {
    /// Ends connections.
    pub async fn run(self) -> anyhow::Result<()> {
        done(&self.daemon, Order::Kick { whom: self.whom }).await
    }
}

impl ApplyUsers {
    /// Has a users.yaml applied, or tried.
    pub async fn run(self) -> anyhow::Result<()> {
        let path = self.file.display().to_string();
        let content = std::fs::read(&self.file).map_err(|error| usage(format!("cannot read {path}: {error}")))?;
        if content.len() > users_file::BYTES_MAX {
            return Err(usage(format!("{path} is larger than {} bytes", users_file::BYTES_MAX)));
        }
        let content =
            String::from_utf8(content).map_err(|_| usage(format!("{path} is not UTF-8: save it as UTF-8")))?;
        let done = done(&self.daemon, Order::ApplyUsers { content, only_try: self.check }).await;
        // Under the name that the operator knows it by.
        done.map_err(|error| {
            anyhow::anyhow!("{}", format!("{error:#}").replace("\nusers.yaml:", &format!("\n{path}:")))
        })
    }
}

impl ResetPassword {
    /// Has a new password drawn, and shows it.
    pub async fn run(self) -> anyhow::Result<()> {
        done(&self.daemon, Order::ResetPassword { name: self.name }).await
    }
}

impl Promote {
    /// Makes this machine the master.
    pub async fn run(self) -> anyhow::Result<()> {
        moved(&self.daemon, self.json, Order::Promote { force: self.force }).await
    }
}

impl Switchover {
    /// Hands over, or has it handed over.
    pub async fn run(self) -> anyhow::Result<()> {
        moved(&self.daemon, self.json, Order::Switchover { to: self.to }).await
    }
}

/// Hands over and back.
pub async fn drill(look: Look) -> anyhow::Result<()> {
    moved(&look.daemon, look.json, Order::Drill {}).await
}

async fn moved(daemon: &Whereabouts, json: bool, order: Order) -> anyhow::Result<()> {
    let Answer::Moved(moved) = asked(daemon, order).await? else {
        anyhow::bail!("sftpd answered something else");
    };
    if json {
        say(&serde_json::to_string_pretty(&moved)?);
    } else {
        lines_of_move(&moved).iter().for_each(|line| say(line));
    }
    Ok(())
}

fn lines_of_move(moved: &Move) -> Vec<String> {
    let took = format!("{} done in {} ms", moved.what, moved.elapsed_ms);
    let mut lines = vec![format!("{took}: {} is the master, in epoch {}", moved.master, moved.epoch)];
    lines.extend(moved.steps.iter().map(|step| format!("  {:>6} ms  {}", step.elapsed_ms, step.name)));
    lines.extend(moved.gap_ms.map(|gap_ms| format!("no changes were taken for {gap_ms} ms")));
    lines.extend(moved.remarks.iter().map(|remark| shown(remark)));
    lines
}

/// Shows what is banned.
pub async fn bans(look: Look) -> anyhow::Result<()> {
    let Answer::Bans(bans) = asked(&look.daemon, Order::Bans {}).await? else {
        anyhow::bail!("sftpd answered something else");
    };
    let line_of = |ban: &Ban| {
        let what = if ban.is_account { "the password of " } else { "" };
        format!("{what}{} for {} s more", shown(&ban.whom), ban.left_s)
    };
    show_all(&look, &bans, "nobody is banned", |ban| vec![line_of(ban)])
}

/// Shows a list: as JSON, or a few lines for each, or a sentence where it is empty.
fn show_all<T: Serialize>(
    look: &Look,
    list: &[T],
    none: &str,
    lines_of: impl Fn(&T) -> Vec<String>,
) -> anyhow::Result<()> {
    if look.json {
        say(&serde_json::to_string_pretty(list)?);
    } else if list.is_empty() {
        say(none);
    } else {
        list.iter().flat_map(lines_of).for_each(|line| say(&line));
    }
    Ok(())
}

impl Unban {
    /// Lifts bans.
    pub async fn run(self) -> anyhow::Result<()> {
        done(&self.daemon, Order::Unban { whom: self.whom }).await
    }
}

/// Shows who is connected.
pub async fn who(look: Look) -> anyhow::Result<()> {
    let Answer::Who(sessions) = asked(&look.daemon, Order::Who {}).await? else {
        anyhow::bail!("sftpd answered something else");
    };
    show_all(&look, &sessions, "nobody is connected", lines_of)
}

fn lines_of(session: &Session) -> Vec<String> {
    let account = session.username.as_deref().unwrap_or("(not logged in)");
    let mut lines = vec![format!(
        "{}  {}  from {}  since {}  {}  in {}, out {}",
        session.connection_id,
        shown(account),
        session.remote_addr,
        session.since,
        shown(&session.client_version),
        speed(session.received_bytes_per_s),
        speed(session.sent_bytes_per_s),
    )];
    for transfer in &session.transfers {
        lines.push(format!(
            "    {} {}  {} in {} s",
            transfer.sender,
            shown(&transfer.file_path),
            size(transfer.size_bytes),
            transfer.elapsed_ms / 1000
        ));
    }
    lines
}

/// A text of somebody else's, for a terminal: whatever it holds, it moves no cursor and turns no direction.
fn shown(text: &str) -> String {
    text.chars()
        .flat_map(|letter| if letter == '"' || letter == '\'' { vec![letter] } else { letter.escape_debug().collect() })
        .collect()
}

/// Shows how the daemon is. An error where a master takes no uploads.
pub async fn status(look: Look) -> anyhow::Result<()> {
    let Answer::Status(status) = asked(&look.daemon, Order::Status {}).await? else {
        anyhow::bail!("sftpd answered something else");
    };
    if look.json {
        say(&serde_json::to_string_pretty(&status)?);
    } else {
        lines_of_status(&status).iter().for_each(|line| say(line));
    }
    match &status.refuses_uploads {
        Some(reason) if status.role == pair::node::Role::Master => {
            Err(anyhow::anyhow!("uploads are refused: {reason}"))
        }
        _ => Ok(()),
    }
}

fn lines_of_status(status: &Status) -> Vec<String> {
    let uploads = status.refuses_uploads.as_ref().map_or("taken".to_owned(), |reason| format!("refused: {reason}"));
    let mut lines = vec![
        format!("{} of pair {} (node {}, version {})", status.phase.text(), status.pair, status.node, status.version),
        format!("epoch {}", status.epoch.map_or("none yet".to_owned(), |epoch| epoch.to_string())),
        format!("running since {}, {} connections", status.since, status.connections),
        format!("uploads: {uploads}"),
        format!("accounts: {}, generation {}", status.accounts, status.accounts_generation),
        format!("volume: {} free of {}", size(status.volume_free_bytes), size(status.volume_bytes)),
        format!("last change: {}", status.last_seq),
    ];
    lines.extend(status.stopped.iter().map(|why| format!("STOPPED: {}", shown(why))));
    lines.extend(status.reached.map(|seq| format!("has the master's changes up to {seq}")));
    lines.extend(status.peers.iter().flat_map(lines_of_peer));
    if status.divergent > 0 {
        lines.push(format!("{} files are set aside here: sftpd divergent list", status.divergent));
    }
    for standby in &status.standbys {
        let seq = standby.seq.map_or("no position yet".to_owned(), |seq| format!("has all up to change {seq}"));
        let accounts = match (&standby.problem, standby.accounts_generation) {
            (Some(problem), _) => format!("accounts: {}", shown(problem)),
            (None, Some(generation)) => format!("accounts: generation {generation}"),
            (None, None) => "nothing heard of its accounts".into(),
        };
        lines.push(format!("standby {}: {seq}; {accounts}", shown(&standby.name)));
    }
    if status.is_volatile {
        lines.push("durability: none: what was acknowledged may not survive a power failure".to_owned());
    }
    if status.activity_lost > 0 {
        lines.push(format!("activity.log lacks {} records since the start", status.activity_lost));
    }
    lines
}

fn lines_of_peer(peer: &Peer) -> Vec<String> {
    let heard = peer.heard_ms.map_or("never".to_owned(), |ms| format!("{:.1} s ago", ms as f64 / 1000.0));
    let said = peer.hello.as_ref().map(|hello| {
        let phase = hello.phase.map_or("", pair::node::Phase::text);
        let epoch = hello.epoch.as_ref().map_or(0, |epoch| epoch.counter);
        format!("{phase}, epoch {epoch} (node {}, version {})", shown(&hello.node), shown(&hello.version))
    });
    let mut lines = vec![format!("{}: {}, heard {heard}", shown(&peer.name), said.unwrap_or_else(|| "unknown".into()))];
    lines.extend(peer.problem.iter().map(|problem| format!("  {}", shown(problem))));
    if peer.hello.is_some() && !peer.has_our_host_keys {
        lines.push(
            "  its host keys are not this machine's: failover is not armed, because clients would be warned".into(),
        );
    }
    lines
}

/// A size for people.
fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0);
    format!("{value:.digits$} {}", units.get(unit).unwrap_or(&""))
}

fn speed(bytes_per_s: u64) -> String {
    format!("{}/s", size(bytes_per_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_foreign_texts_are_shown_for_people() {
        let sizes = [0, 1023, 1024, 5 << 20, 3 << 29, 1 << 50].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "5.0 MiB", "1.5 GiB", "1024.0 TiB"]);
        assert_eq!(shown("it's \"é\"\u{1b}[2J\u{202e}\n"), "it's \"é\"\\u{1b}[2J\\u{202e}\\n");
    }
}
