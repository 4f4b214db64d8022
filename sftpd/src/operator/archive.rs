//! How the log archive looks on a terminal: agents, what goes next, and the chain.

use pair::control::{Agent, Answer, Archive, Expiry, Order};

use super::{Look, asked, shown, size};
use crate::cli::say;

/// Files that go, named for each agent; JSON has more.
const NAMED_MAX: usize = 10;

/// Shows the archive. An error where something is wrong with the chain.
pub async fn archive(look: Look) -> anyhow::Result<()> {
    let Answer::Archive(archive) = asked(&look.daemon, Order::Archive {}).await? else {
        anyhow::bail!("sftpd answered something else");
    };
    if look.json {
        say(&serde_json::to_string_pretty(&archive)?);
    } else {
        lines_of(&archive).iter().for_each(|line| say(line));
    }
    match &archive.chain.problem {
        Some(problem) => Err(anyhow::anyhow!("{}", shown(problem))),
        None => Ok(()),
    }
}

fn lines_of(archive: &Archive) -> Vec<String> {
    let at = archive.retention_at.as_deref();
    let mut lines: Vec<String> = archive.agents.iter().flat_map(|agent| lines_of_agent(agent, at)).collect();
    if archive.agents.is_empty() {
        lines.push("there are no agents: users.yaml has none below `agents:`".into());
    }
    let chain = &archive.chain;
    let since = match (chain.unsealed_files, &chain.unsealed_since) {
        (0, _) | (_, None) => String::new(),
        (files, Some(since)) => format!("; {files} files are in no segment yet, since {since}"),
    };
    lines.push(match &chain.last {
        Some(last) => format!("chain  segment {:06} of {}  {}{since}", last.number, last.time, last.digest),
        None => format!("chain  no segment yet{since}"),
    });
    lines
}

fn lines_of_agent(agent: &Agent, retention_at: Option<&str>) -> Vec<String> {
    let holds = match (agent.files, agent.bytes, &agent.last_arrival) {
        (Some(files), Some(bytes), Some(last)) => format!("{} in {files} files, the last {last}", size(bytes)),
        (Some(_), ..) => "nothing yet".to_owned(),
        _ => "not looked at yet".to_owned(),
    };
    let kept = match (agent.keep_s, agent.keep_bytes) {
        (None, None) => "kept for ever".to_owned(),
        (keep_s, keep_bytes) => {
            let age = keep_s.map(|seconds| match (seconds % 86_400, seconds) {
                (0, seconds) => format!("{} days", seconds / 86_400),
                (_, seconds) => format!("{} hours", seconds / 3600),
            });
            format!("kept {}", age.into_iter().chain(keep_bytes.map(size)).collect::<Vec<_>>().join(", at most "))
        }
    };
    let since = match agent.unsealed_files {
        0 => String::new(),
        files => format!("; {files} came or grew since the last segment"),
    };
    let disabled = if agent.is_disabled { "; disabled" } else { "" };
    let mut lines = vec![format!("{}  {holds}{since}; {kept}{disabled}", shown(&agent.name))];
    let Some((expiring, at)) = agent.expiring.as_ref().zip(retention_at).filter(|(expiring, _)| expiring.files > 0)
    else {
        return lines;
    };
    lines.push(format!("    {at}: {} files with {} go", expiring.files, size(expiring.bytes)));
    for file in expiring.first.iter().take(NAMED_MAX) {
        let why = match file.why {
            Expiry::Age => "too old",
            Expiry::Size => "too much",
        };
        lines.push(format!("      {}  {}  of {}  {why}", file.path, size(file.size), file.arrived));
    }
    if expiring.files > NAMED_MAX as u64 {
        lines.push(format!("      and {} more", expiring.files - NAMED_MAX as u64));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use pair::control::{Chain, Expiring, ExpiringFile, Segment};
    use pair::record::VolumePath;

    #[test]
    fn an_archive_is_shown_with_what_goes_next_and_the_newest_digest() {
        let file = ExpiringFile {
            path: VolumePath(b"agent01/a\nb.log".to_vec()),
            size: 4096,
            arrived: "2025-10-18T23:59:58Z".into(),
            why: Expiry::Age,
        };
        let agent = Agent {
            name: "agent01".into(),
            keep_s: Some(400 * 86_400),
            keep_bytes: Some(50 << 30),
            files: Some(12),
            unsealed_files: 3,
            bytes: Some(3 << 20),
            last_arrival: Some("2026-11-22T20:31:07Z".into()),
            expiring: Some(Expiring { files: 12, bytes: 8192, first: vec![file] }),
            ..Agent::default()
        };
        let last = Segment {
            number: 17,
            path: VolumePath::default(),
            digest: "5f".into(),
            time: "2026-11-22T20:30:00Z".into(),
        };
        let unsealed_since = Some("2026-11-22T20:31:07Z".into());
        let chain = Chain { last: Some(last), unsealed_files: 2, unsealed_since, problem: None };
        let archive = Archive { agents: vec![agent], retention_at: Some("2026-11-23T02:00:00Z".into()), chain };
        let expected = [
            "agent01  3.0 MiB in 12 files, the last 2026-11-22T20:31:07Z; 3 came or grew since the last segment; kept 400 days, at most 50.0 GiB",
            "    2026-11-23T02:00:00Z: 12 files with 8.0 KiB go",
            "      agent01/a%0Ab.log  4.0 KiB  of 2025-10-18T23:59:58Z  too old",
            "      and 2 more",
            "chain  segment 000017 of 2026-11-22T20:30:00Z  5f; 2 files are in no segment yet, since 2026-11-22T20:31:07Z",
        ];
        assert_eq!(lines_of(&archive), expected);
        let empty = lines_of(&Archive::default());
        assert!(empty.len() == 2 && empty[1].contains("no segment yet"), "{empty:?}");
    }
}
