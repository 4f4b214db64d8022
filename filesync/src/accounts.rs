//! Takes the accounts to a standby as soon as they change, beside the passes and on a connection of its own.
//!
//! sftpd writes `/state/accounts.json` whole (hashes, never passwords); filesync reads nothing of it but its number.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use pair::client::ClientError;
use pair::extension::ACCOUNTS;
use pair::wire::put_bytes;
use serde::Deserialize;

use crate::beside;
use crate::plan::STAGE_PREFIX;
use crate::remote::Remote;
use crate::standby::Standby;

/// How often the file is looked at. One stat; a change is on the standby well within a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How long to wait after something went wrong.
const PAUSE: Duration = Duration::from_secs(2);

/// Inode, size and time of the file: sftpd replaces it, so each version has an inode of its own.
type Version = (u64, u64, i64, i64);

/// How often sftpd hears which accounts the standby has.
const TELL_INTERVAL: Duration = Duration::from_secs(2);

/// Pushes the accounts now, and after each change, for ever.
pub async fn keep_pushed(standby: &Standby, state: &Path) {
    let (file, name) = (&state.join("accounts.json"), standby.address.name.as_str());
    let mut told = None;
    loop {
        // The follower's own connection fails as well when the standby is away, and says so.
        let Ok(remote) = standby.connect().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (mut pushed, mut has, mut said) = (None, None, Instant::now());
        while !remote.client.is_lost() {
            let version = version(file).await;
            if version.is_some() && version != pushed {
                match push(&remote, file).await {
                    Ok(generation) => {
                        (pushed, told, has) = (version, None, Some(generation));
                        beside::tell(state, name, has, None).await;
                        said = Instant::now();
                    }
                    // A lost connection is the follower's to tell.
                    Err(_) if remote.client.is_lost() => break,
                    Err(sentence) => {
                        if told.as_ref() != Some(&sentence) {
                            tracing::warn!("standby {name}: the accounts did not arrive: {sentence}");
                        }
                        beside::tell(state, name, has, Some(&sentence)).await;
                        told = Some(sentence);
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
            if said.elapsed() > TELL_INTERVAL && told.is_none() {
                beside::tell(state, name, has, None).await;
                said = Instant::now();
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

async fn version(file: &Path) -> Option<Version> {
    let found = tokio::fs::metadata(file).await.ok()?;
    Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}

/// Pushes the accounts and tells their generation.
async fn push(remote: &Remote, file: &Path) -> Result<u64, String> {
    let content = tokio::fs::read(file).await.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let said = |error: ClientError| error.to_string();
    let stage = format!(".pair/stage/{STAGE_PREFIX}accounts-{}", blake3::hash(&content).to_hex());
    remote.write_small(stage.as_bytes(), &content).await.map_err(said)?;
    let mut body = BytesMut::new();
    put_bytes(&mut body, &remote.at(stage.as_bytes()));
    remote.client.extended_order(ACCOUNTS, &body).await.map_err(said)?;
    let numbered: Numbered =
        serde_json::from_slice(&content).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(numbered.generation)
}

/// All that is read of the accounts here.
#[derive(Deserialize)]
struct Numbered {
    generation: u64,
}
