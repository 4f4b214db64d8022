//! `filesync restore`: what a standby's trash still holds of a path, and how it is brought back to this machine.
//!
//! It changes nothing on the standby, and writes only into the folder that it is given: whoever restores decides where
//! the file goes from there, as an upload like any other.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use pair::wire::open_flag;
use serde::Serialize;

use crate::config::Config;
use crate::fault::{Fault, blocking};
use crate::remote::Remote;
use crate::standby;
use crate::tree::{Image, Kind, Path, Seen, join, name, shown};

const TRASH: &[u8] = b".pair/trash";

/// One thing in the trash.
#[derive(Clone, Debug, Serialize)]
pub struct Version {
    /// Which folder of the trash: when it was replaced or removed, `2026-11-21/104500-feed`.
    pub version: String,
    /// The path that it had, as people read it.
    pub shown: String,
    /// `file`, `folder` or `link`.
    pub kind: &'static str,
    /// The bytes of a file.
    pub bytes: u64,
    /// When it was modified last, in seconds since 1970.
    pub mtime_s: u32,
    /// The path that it had.
    #[serde(skip)]
    pub path: Path,
    #[serde(skip)]
    seen: Seen,
}

/// What the trash of one standby of the settings holds, as [`versions`] tells it. For programs beside the command line.
pub async fn trash_of(
    config: &Config,
    standby: &str,
    path: Option<&[u8]>,
    versions_max: usize,
) -> anyhow::Result<Vec<Version>> {
    versions(&connected(config, standby).await?, path, versions_max).await
}

/// Brings one version of a path from the trash of one standby of the settings into a folder of this machine. Both are as [`versions`]
/// told them; anything else is found nowhere.
pub async fn restore(
    config: &Config,
    standby: &str,
    path: &[u8],
    version: &str,
    to: &std::path::Path,
) -> anyhow::Result<PathBuf> {
    anyhow::ensure!(is_inside(path), "{} is no path in the data folder", shown(path));
    let remote = connected(config, standby).await?;
    let mut found = versions(&remote, Some(path), usize::MAX).await?;
    found.retain(|one| one.version == version);
    anyhow::ensure!(!found.is_empty(), "the trash of {standby} does not hold {} of {version} any more", shown(path));
    bring_back(&remote, path, &found, to).await
}

async fn connected(config: &Config, name: &str) -> anyhow::Result<Remote> {
    let mut named = standby::named(config, Some(name))?;
    let standby = named.pop().with_context(|| format!("there is no standby {name}"))?;
    standby.connect().await.map_err(|failure| anyhow::anyhow!(failure.sentence().to_owned()))
}

/// Whether this is a path in the data folder, and leads nowhere else.
pub fn is_inside(path: &[u8]) -> bool {
    !path.split(|byte| *byte == b'/').any(|part| matches!(part, b"" | b"." | b".."))
}

/// What the trash holds of a path and what was in it, or of everything; the newest first. Older ones are left out where there are so many.
pub async fn versions(remote: &Remote, path: Option<&[u8]>, versions_max: usize) -> anyhow::Result<Vec<Version>> {
    let mut found = Vec::new();
    let mut runs = Vec::new();
    for (date, _) in remote.folders(TRASH).await? {
        for (run, _) in remote.folders(&join(TRASH, &date)).await? {
            // Ours are plain text; others are nobody's business.
            runs.extend(String::from_utf8(join(&date, &run)));
        }
    }
    runs.sort_unstable_by(|one, other| other.cmp(one));
    for run in runs {
        if found.len() >= versions_max {
            break;
        }
        let top = join(TRASH, run.as_bytes());
        let image = match path {
            Some(path) => below(remote, &join(&top, path)).await?,
            None => remote.list_below(&top).await?.image,
        };
        for (at, seen) in image {
            let Some(path) = at.strip_prefix(top.as_slice()).and_then(|rest| rest.strip_prefix(b"/")) else { continue };
            found.push(Version {
                version: run.clone(),
                shown: shown(path),
                kind: crate::verify::kind(seen.kind),
                bytes: seen.size,
                mtime_s: seen.mtime_s,
                path: path.to_vec(),
                seen,
            });
        }
    }
    found.truncate(versions_max);
    Ok(found)
}

/// What is at a path, with what is in it.
async fn below(remote: &Remote, path: &[u8]) -> anyhow::Result<Image> {
    let Some(seen) = remote.look(path).await? else { return Ok(Image::new()) };
    let is_folder = seen.kind == Kind::Folder;
    let mut image = if is_folder { remote.list_below(path).await?.image } else { Image::new() };
    image.insert(path.to_vec(), seen);
    Ok(image)
}

/// Brings one version of a path, with what was in it, into a folder of this machine; tells where it is now.
pub async fn bring_back(
    remote: &Remote,
    path: &[u8],
    versions: &[Version],
    to: &std::path::Path,
) -> anyhow::Result<PathBuf> {
    let target = to.join(OsStr::from_bytes(name(path)));
    anyhow::ensure!(!target.exists(), "{} is there already: restore into another folder", target.display());
    // Links last: nothing is made through one.
    let (links, others): (Vec<&Version>, Vec<&Version>) =
        versions.iter().partition(|version| version.seen.kind == Kind::Link);
    for version in others.into_iter().chain(links) {
        let inside = version.path.get(path.len()..).unwrap_or_default();
        let inside = inside.strip_prefix(b"/").unwrap_or(inside);
        let target = if inside.is_empty() { target.clone() } else { target.join(OsStr::from_bytes(inside)) };
        let from = join(&join(TRASH, version.version.as_bytes()), &version.path);
        let brought = match version.seen.kind {
            Kind::Folder => std::fs::create_dir_all(&target).map_err(anyhow::Error::from),
            Kind::Link => link(remote, &from, &target).await,
            Kind::File => file(remote, &from, &version.seen, &target).await,
        };
        brought.with_context(|| format!("cannot restore {} to {}", version.shown, target.display()))?;
    }
    Ok(target)
}

async fn link(remote: &Remote, from: &[u8], target: &std::path::Path) -> anyhow::Result<()> {
    let text = remote.client.readlink(&remote.at(from)).await?;
    Ok(std::os::unix::fs::symlink(OsStr::from_bytes(&text), target)?)
}

/// Downloads a file, flushes it, and gives it its mode and time.
async fn file(remote: &Remote, from: &[u8], seen: &Seen, target: &std::path::Path) -> anyhow::Result<()> {
    let written = Arc::new(File::create_new(target)?);
    let handle = remote.client.open(&remote.at(from), open_flag::READ, None).await?;
    let mut offset = 0;
    let outcome = loop {
        let part = match remote.read_parts(&handle, offset, seen.size).await {
            Ok(part) if part.is_empty() => break Ok(()),
            Ok(part) => part,
            Err(error) => break Err(anyhow::Error::from(error)),
        };
        let (file, length) = (written.clone(), part.len() as u64);
        if let Err(fault) = blocking(move || Ok(file.write_all_at(&part, offset)?)).await {
            break Err(in_words(fault));
        }
        offset += length;
    };
    remote.client.close(handle).await?;
    outcome?;
    anyhow::ensure!(offset == seen.size, "the standby has {offset} bytes of {}", seen.size);
    let (mode, time) = (seen.mode, UNIX_EPOCH + Duration::from_secs(seen.mtime_s.into()));
    let finish = move || {
        written.set_permissions(std::fs::Permissions::from_mode(mode & 0o777))?;
        written.set_modified(time)?;
        Ok(written.sync_all()?)
    };
    blocking(finish).await.map_err(in_words)
}

fn in_words(fault: Fault) -> anyhow::Error {
    match fault {
        Fault::Problem(sentence) => anyhow::anyhow!(sentence),
        fault => anyhow::anyhow!("writing it broke off: {fault:?}"),
    }
}
