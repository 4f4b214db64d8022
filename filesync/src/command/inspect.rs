//! Commands that connect to the standbys themselves: `verify` and `restore`. They run beside the service.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use clap::Args;
use pair::config::Interval;
use pair::exit::usage;
use serde_json::json;

use super::say;
use crate::config::Config;
use crate::restore::{self, Version};
use crate::source::Source;
use crate::standby::{self, Standby};
use crate::status::now_s;
use crate::store::Verified;
use crate::tree::shown;
use crate::verify::{self, Verification};

/// Differences and versions that are shown to people; JSON has all.
const LINES_MAX: usize = 100;
/// For how long `verify` looks again at what differs.
const PATIENCE: Interval = Interval(Duration::from_secs(30));

/// Options of `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Only this standby, named as in the settings
    #[arg(long)]
    standby: Option<String>,
    /// How long to look again at what differs: it may be on its way
    #[arg(long, value_name = "SPAN")]
    wait: Option<Interval>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Options of `restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// The file or folder, as it was called in the data folder: EPuser/in/report.csv. Without it all of the trash is shown
    path: Option<OsString>,
    /// Bring it into this folder of this machine; without it the versions are shown
    #[arg(long, requires = "path")]
    to: Option<PathBuf>,
    /// Which version, as shown; else the newest
    #[arg(long, requires = "to")]
    version: Option<String>,
    /// Only this standby, named as in the settings
    #[arg(long)]
    standby: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Compares both trees; an error names the standbys that differ.
pub async fn verify(config: &Config, options: &Verify) -> anyhow::Result<()> {
    let source = Arc::new(Source::open(&config.data)?);
    let (mut found, mut unlike) = (Vec::new(), Vec::new());
    for standby in standby::named(config, options.standby.as_deref())? {
        let remote = standby.connect().await.map_err(|failure| anyhow::anyhow!(failure.sentence().to_owned()))?;
        let patience = options.wait.unwrap_or(PATIENCE).get();
        let verification = verify::run(&standby.address.name, source.clone(), &remote, patience).await?;
        let count = verification.differences.len();
        remember(&standby, &verification)?;
        if count > 0 {
            unlike.push(format!("{} differs at {count} paths", verification.standby));
        }
        if !options.json {
            say(&in_words(&verification))?;
        }
        found.push(verification);
    }
    if options.json {
        say(&serde_json::to_string_pretty(&json!({ "standbys": found }))?)?;
    }
    if unlike.is_empty() { Ok(()) } else { Err(anyhow::anyhow!(unlike.join("; "))) }
}

/// Keeps the outcome for whoever asks later.
fn remember(standby: &Standby, found: &Verification) -> anyhow::Result<()> {
    let Verification { entries, files, bytes, took_ms, .. } = *found;
    let verified =
        Verified { at_s: now_s(), entries, files, bytes, differences: found.differences.len() as u64, took_ms };
    let store = standby.store.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(store.keep_verified(&verified)?)
}

fn in_words(found: &Verification) -> String {
    let Verification { standby, entries, files, bytes, took_ms, differences } = found;
    let state = if differences.is_empty() { "equal" } else { "NOT EQUAL" };
    let seconds = *took_ms as f64 / 1000.0;
    let mut lines = vec![format!(
        "{standby}: {state}: {entries} entries; {files} files, {bytes} bytes compared by content, in {seconds:.1} s"
    )];
    lines.extend(differences.iter().take(LINES_MAX).map(|found| format!("  {} {}", found.path, found.sentence)));
    if differences.len() > LINES_MAX {
        lines.push(format!("  and {} more; --json shows all", differences.len() - LINES_MAX));
    }
    lines.join("\n")
}

/// Shows what the trash holds, or brings something back from it.
pub async fn restore(config: &Config, options: &Restore) -> anyhow::Result<()> {
    let path = options.path.as_ref().map(|path| path.as_bytes());
    let path =
        path.map(|path| path.strip_prefix(b"/").unwrap_or(path)).map(|path| path.strip_suffix(b"/").unwrap_or(path));
    if let Some(path) = path.filter(|path| !restore::is_inside(path)) {
        return Err(usage(format!("{} is no path in the data folder: write it as EPuser/in/report.csv", shown(path))));
    }
    let mut all = Vec::new();
    for standby in standby::named(config, options.standby.as_deref())? {
        let name = &standby.address.name;
        let remote = standby.connect().await.map_err(|failure| anyhow::anyhow!(failure.sentence().to_owned()))?;
        let versions = restore::versions(&remote, path, usize::MAX).await?;
        let (Some(to), Some(path)) = (&options.to, path) else {
            if !options.json {
                say(&versions_in_words(name, &versions))?;
            }
            all.push(json!({ "standby": name, "trash": versions }));
            continue;
        };
        let Some(newest) = versions.first().map(|version| version.version.clone()) else { continue };
        let wanted = options.version.clone().unwrap_or(newest);
        let versions: Vec<Version> = versions.into_iter().filter(|version| version.version == wanted).collect();
        if versions.is_empty() {
            continue;
        }
        let at = restore::bring_back(&remote, path, &versions, to).await?;
        return say(&format!("{} as of {wanted} is in {}", shown(path), at.display()));
    }
    match (&options.to, path) {
        (Some(_), Some(path)) => {
            let which = options.version.as_ref().map_or_else(String::new, |version| format!(" of version {version}"));
            Err(anyhow::anyhow!("no trash holds {}{which}", shown(path)))
        }
        _ if options.json => say(&serde_json::to_string_pretty(&json!({ "standbys": all }))?),
        _ => Ok(()),
    }
}

fn versions_in_words(standby: &str, versions: &[Version]) -> String {
    let files = versions.iter().filter(|version| version.kind != "folder").count();
    let mut lines = vec![format!("{standby}: {files} files and links in the trash")];
    let lines_of = |version: &Version| {
        let Version { version, shown, kind, bytes, .. } = version;
        if *kind == "file" {
            format!("  {version}  {shown} ({bytes} bytes)")
        } else {
            format!("  {version}  {shown} ({kind})")
        }
    };
    lines.extend(versions.iter().take(LINES_MAX).map(lines_of));
    if versions.len() > LINES_MAX {
        lines.push(format!("  and {} more; name a path, or --json shows all", versions.len() - LINES_MAX));
    }
    lines.join("\n")
}
