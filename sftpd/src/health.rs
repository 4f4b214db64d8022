//! What sftpd tells health checks.

use std::sync::Arc;

use pair::health::Pages;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::daemon::Daemon;

/// Serves the health pages until `shutdown`.
pub async fn serve(daemon: Arc<Daemon>, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    Ok(pair::health::serve(listener, daemon, shutdown).await?)
}

impl Pages for Daemon {
    fn ready(&self) -> Result<(), String> {
        self.volume.probe()
    }

    fn metrics(&self) -> String {
        self.metrics.text()
    }

    fn primary(&self) -> bool {
        !self.is_standby() && self.volume.failure().is_none()
    }
}
