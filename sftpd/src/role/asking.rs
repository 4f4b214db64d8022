//! A master's start: before it takes a change it asks the other machines whether there is a newer master.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::standing::Event;
use crate::daemon::Daemon;

/// Asks until everybody has answered, or for as long as the settings say.
pub async fn ask(daemon: Arc<Daemon>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let longest = daemon.config.peers_wait.get();
    let asked = tokio::time::timeout(longest, daemon.peers.all_have_answered());
    match shutdown.run_until_cancelled(asked).await {
        None => return Ok(()),
        Some(Err(_)) if daemon.roles.now().phase() == pair::node::Phase::Asking => {
            tracing::warn!(
                "not every other machine has answered within {} s: this one takes writes",
                longest.as_secs()
            );
        }
        Some(_) => {}
    }
    // Only a bug can keep it from that, and then nothing is written.
    daemon.happens(Event::Asked).await.map_err(anyhow::Error::msg)?;
    // The daemon ends when one of its tasks does.
    shutdown.cancelled().await;
    Ok(())
}
