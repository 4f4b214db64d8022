//! Takes the accounts to a standby as soon as they change, beside the passes and on a connection of its own.
//!
//! sftpd writes `/state/accounts.json` whole (hashes, never passwords); filesync does not look into it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use pair::client::ClientError;
use pair::extension::ACCOUNTS;
use pair::wire::put_bytes;

use crate::plan::STAGE_PREFIX;
use crate::remote::Remote;
use crate::standby::Standby;

/// How often the file is looked at. One stat; a change is on the standby well within a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How long to wait after something went wrong.
const PAUSE: Duration = Duration::from_secs(2);

/// Inode, size and time of the file: sftpd replaces it, so each version has an inode of its own.
type Version = (u64, u64, i64, i64);

/// Pushes the accounts now, and after each change, for ever.
pub async fn keep_pushed(standby: &Standby, file: &Path) {
    let mut told = None;
    loop {
        // The follower's own connection fails as well when the standby is away, and says so.
        let Ok(remote) = standby.connect().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let mut pushed = None;
        while !remote.client.is_lost() {
            let version = version(file).await;
            if version.is_some() && version != pushed {
                match push(&remote, file).await {
                    Ok(()) => (pushed, told) = (version, None),
                    // A lost connection is the follower's to tell.
                    Err(_) if remote.client.is_lost() => break,
                    Err(sentence) => {
                        if told.as_ref() != Some(&sentence) {
                            tracing::warn!("standby {}: the accounts did not arrive: {sentence}", standby.address.name);
                        }
                        told = Some(sentence);
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

async fn version(file: &Path) -> Option<Version> {
    let found = tokio::fs::metadata(file).await.ok()?;
    Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}

async fn push(remote: &Remote, file: &Path) -> Result<(), String> {
    let content = tokio::fs::read(file).await.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let said = |error: ClientError| error.to_string();
    let stage = format!(".pair/stage/{STAGE_PREFIX}accounts-{}", blake3::hash(&content).to_hex());
    remote.write_small(stage.as_bytes(), &content).await.map_err(said)?;
    let mut body = BytesMut::new();
    put_bytes(&mut body, &remote.at(stage.as_bytes()));
    remote.client.extended_order(ACCOUNTS, &body).await.map_err(said)
}
