//! What sftpd tells health checks.

use std::sync::Arc;

use pair::health::Pages;
use pair::node::Phase;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::daemon::Daemon;

/// Serves the health pages until `shutdown`.
pub async fn serve(daemon: Arc<Daemon>, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    Ok(pair::health::serve(listener, daemon, shutdown).await?)
}

impl Pages for Daemon {
    fn ready(&self) -> Result<(), String> {
        match self.roles.now().phase() {
            // It would wait, and then be taken or refused.
            phase @ (Phase::Asking | Phase::Draining | Phase::Handing) => Err(phase.text().to_owned()),
            Phase::Stopped => Err(self.refuses_clients().unwrap_or_default()),
            Phase::Master | Phase::Standby | Phase::Returning => self.volume.probe(),
        }
    }

    fn metrics(&self) -> String {
        self.metrics.text()
    }

    fn primary(&self) -> bool {
        self.roles.now().phase() == Phase::Master && self.volume.failure().is_none()
    }
}
