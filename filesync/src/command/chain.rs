//! `filesync archive verify`, on a machine of the pair: its options, and what it prints.

use anyhow::Context;
use clap::Args;
use jiff::civil::Date;
use pair::exit::usage;

use super::say;
use crate::chain::{Question, verify};
use crate::config::Config;
use crate::source::Source;

/// Options of `archive verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Only the files of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Only files of which the chain tells since this day: 2026-11-22
    #[arg(long, value_name = "DAY")]
    since: Option<String>,
    /// Exit 1 unless a segment has this digest, which you have noted elsewhere
    #[arg(long, value_name = "DIGEST")]
    expect: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Compares what agents have sent with the chain; an error says that something is wrong.
pub async fn run(config: &Config, options: &Verify) -> anyhow::Result<()> {
    let since = options.since.as_ref().map(|text| text.parse::<Date>());
    let since = since.transpose().map_err(|_| usage("--since is a day: 2026-11-22"))?;
    let expect = options.expect.as_ref().map(|digest| digest.to_ascii_lowercase());
    if expect
        .as_ref()
        .is_some_and(|digest| digest.len() != 64 || !digest.bytes().all(|digit| digit.is_ascii_hexdigit()))
    {
        return Err(usage("--expect is a digest: 64 hexadecimal digits, as verify and activity.log have them"));
    }
    let question = Question { agent: options.agent.clone(), since, expect };
    let source = Source::open(&config.data)?;
    let report = tokio::task::spawn_blocking(move || verify(&source, &question))
        .await
        .context("a bug in the verification")??;
    match options.json {
        true => say(&serde_json::to_string_pretty(&report)?)?,
        false => say(&report.in_words())?,
    }
    match report.findings.len() as u64 + report.unnamed {
        0 => Ok(()),
        wrong => Err(anyhow::anyhow!("the archive is not as it was sent: {wrong} findings")),
    }
}
