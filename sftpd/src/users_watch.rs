//! Notices a users.yaml that another hand has changed on the volume: by `notify`, and by looking, because events get
//! lost and network volumes send none.

use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use pair::node::{Phase, Role};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::accounts::ADMIN_HOME;
use crate::daemon::Daemon;

/// How often the file is looked at without any event.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How long a burst of events is let pass before the file is looked at.
const QUIET: Duration = Duration::from_millis(200);

/// Watches until `shutdown`. A standby's accounts come from the master: it watches nothing.
pub async fn watch(daemon: Arc<Daemon>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut was_standby = daemon.is_standby();
    loop {
        let watched = async {
            daemon.roles.wait_until(|standing| standing.phase() == Phase::Master).await;
            tokio::select! {
                () = watch_as_master(&daemon, was_standby) => {}
                () = daemon.roles.wait_until(|standing| standing.node.role == Role::Standby) => {}
            }
        };
        if shutdown.run_until_cancelled(watched).await.is_none() {
            return Ok(());
        }
        was_standby = true;
    }
}

async fn watch_as_master(daemon: &Arc<Daemon>, mut has_taken_over: bool) {
    let touched = Arc::new(Notify::new());
    let _watcher = start_watcher(daemon, touched.clone());
    loop {
        daemon.admin_folder.look(daemon, std::mem::take(&mut has_taken_over)).await;
        tokio::select! {
            () = touched.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        tokio::time::sleep(QUIET).await;
    }
}

/// Watches the folder, not the file: a file that is replaced by a rename is another one to the system.
fn start_watcher(daemon: &Daemon, touched: Arc<Notify>) -> Option<notify::RecommendedWatcher> {
    let folder = daemon.config.data.join(ADMIN_HOME);
    let start = || -> notify::Result<notify::RecommendedWatcher> {
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Looking at the file is an event too, and would wake the next look for ever.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                touched.notify_one();
            }
        })?;
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    };
    match start() {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, folder = %folder.display(), "no events from the admin folder: it is looked at now and then");
            None
        }
    }
}
