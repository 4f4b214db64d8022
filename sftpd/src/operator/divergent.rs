//! `sftpd divergent`: what a master of before had and the new one has not, on the machine that has it.
//!
//! Names and accounts are other people's texts: on a terminal they move no cursor.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::{Args, Subcommand};
use pair::control::{Answer, Divergent as Thing, Order, Release};
use pair::record::VolumePath;

use super::{Look, asked, done, show_all, shown, size};
use crate::cli::Whereabouts;

/// `divergent`.
#[derive(Args)]
pub struct Divergent {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what was set aside, and what has become of it
    List(Look),
    /// Have the master take something: under its own path, where nothing is, unless told otherwise
    Restore(Restore),
    /// Remove what was set aside, for ever
    Release(Releasing),
}

#[derive(Args)]
struct Restore {
    #[command(flatten)]
    daemon: Whereabouts,
    /// Its id, as in `sftpd divergent list`
    id: String,
    /// Another path, beginning with the account's folder
    #[arg(long = "as", value_name = "PATH")]
    to: Option<OsString>,
    /// Replace the file or link that has the path
    #[arg(long)]
    replace: bool,
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["id", "restored", "all"]))]
struct Releasing {
    #[command(flatten)]
    daemon: Whereabouts,
    /// The id of one, as in `sftpd divergent list`
    id: Option<String>,
    /// All that the master has taken
    #[arg(long)]
    restored: bool,
    /// All of it
    #[arg(long)]
    all: bool,
    /// Also what was not restored
    #[arg(long)]
    yes: bool,
}

impl Divergent {
    /// Does what was asked for.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::List(look) => list(look).await,
            Command::Restore(Restore { daemon, id, to, replace }) => {
                let to = to.map(|to| volume_path(to.into_vec()));
                done(&daemon, Order::DivergentRestore { id, to, replace }).await
            }
            Command::Release(Releasing { daemon, id, restored, yes, .. }) => {
                let which = match id {
                    Some(id) => Release::One(id),
                    None if restored => Release::Restored,
                    None => Release::All,
                };
                done(&daemon, Order::DivergentRelease { which, is_sure: yes }).await
            }
        }
    }
}

/// A path from the volume on, also where it was written as the server's.
fn volume_path(mut path: Vec<u8>) -> VolumePath {
    let slashes = path.iter().take_while(|byte| **byte == b'/').count();
    path.drain(..slashes);
    VolumePath(path)
}

async fn list(look: Look) -> anyhow::Result<()> {
    let mut things: Vec<Thing> = Vec::new();
    loop {
        let behind = things.last().map(|thing| thing.id.clone());
        let Answer::Divergent(more) = asked(&look.daemon, Order::Divergent { behind }).await? else {
            anyhow::bail!("sftpd answered something else");
        };
        if more.is_empty() {
            break;
        }
        things.extend(more);
    }
    show_all(&look, &things, "nothing was set aside here", lines_of)
}

fn lines_of(thing: &Thing) -> Vec<String> {
    let path = match std::str::from_utf8(&thing.path.0) {
        Ok(path) => shown(path),
        Err(_) => thing.path.to_string(),
    };
    let what = if thing.kind == "file" { size(thing.size) } else { shown(&thing.kind) };
    let whose = if thing.account.is_empty() { String::new() } else { format!(" by {}", shown(&thing.account)) };
    let first = format!("{}  {path}  {what}  written {}{whose}", shown(&thing.id), shown(&thing.written));
    let detail = thing.detail.as_deref().map(shown).unwrap_or_default();
    let state = match thing.state.as_str() {
        "offered" => "offered to the master".to_owned(),
        "wanted" => format!("asked for {detail}: the master has not answered yet"),
        "restored" => "restored: the master has it".to_owned(),
        "kept" => format!("kept here, the master has not taken it: {detail}"),
        other => format!("{} {detail}", shown(other)),
    };
    vec![first, format!("    {state}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(path: &[u8], state: &str, detail: Option<&str>) -> Thing {
        Thing {
            id: "0123abcd-7".into(),
            path: VolumePath(path.to_vec()),
            kind: "file".into(),
            size: 2048,
            written: "2026-11-22T05:00:00Z".into(),
            account: "al\u{1b}ice".into(),
            state: state.into(),
            detail: detail.map(str::to_owned),
        }
    }

    #[test]
    fn a_thing_is_shown_in_words_and_moves_no_cursor() {
        let lines = lines_of(&thing("a/\u{e9}\u{1b}[2J".as_bytes(), "kept", Some("in the\nway")));
        let first = "0123abcd-7  a/\u{e9}\\u{1b}[2J  2.0 KiB  written 2026-11-22T05:00:00Z by al\\u{1b}ice";
        assert_eq!(lines, [first, "    kept here, the master has not taken it: in the\\nway"]);
        let lines = lines_of(&thing(b"a/\xff", "restored", None));
        assert!(lines[0].contains("a/%FF  ") && lines[1].contains("the master has it"));
    }

    #[test]
    fn a_release_says_what_goes_and_a_restore_may_say_where_to() {
        use clap::Parser;
        let is_understood = |line: &str| {
            let words = ["sftpd", "divergent"].into_iter().chain(line.split(' '));
            crate::cli::Cli::try_parse_from(words).is_ok()
        };
        for line in [
            "list",
            "list --json --state /state",
            "restore 0123abcd-7",
            "restore 0123abcd-7 --as /alice/x --replace",
            "release 0123abcd-7 --yes",
            "release --restored",
            "release --all --yes",
        ] {
            assert!(is_understood(line), "{line}");
        }
        for line in ["release", "release --yes", "release --all --restored", "release 0123abcd-7 --all", "restore"] {
            assert!(!is_understood(line), "{line}");
        }
    }

    #[test]
    fn a_path_counts_from_the_volume_on() {
        assert_eq!(volume_path(b"//alice/x\xff".to_vec()).0, b"alice/x\xff");
    }
}
