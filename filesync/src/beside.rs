//! What a standby of the pair gets beside the files: the accounts and the master's activity log, on connections of their own.
//!
//! sftpd is told which accounts the standby has, so that who changes users.yaml hears it. A plain server gets neither.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pair::control::{Order, ask};

use crate::config::Config;
use crate::standby::Standby;
use crate::{accounts, activity};

/// How long sftpd may take to hear something; it hears it again before long.
const TELLING_MAX: Duration = Duration::from_secs(2);

/// Where what is taken along lies.
#[derive(Debug)]
pub struct Beside {
    state: PathBuf,
    logs: PathBuf,
}

impl Beside {
    /// As the settings have it.
    pub fn new(config: &Config) -> Beside {
        Beside { state: config.state.clone(), logs: config.logs.clone() }
    }

    /// Takes everything along for as long as it is awaited.
    pub async fn run(&self, standby: &Standby) {
        if standby.address.plain.is_some() {
            return std::future::pending().await;
        }
        tokio::join!(accounts::keep_pushed(standby, &self.state), activity::keep_sent(standby, &self.logs));
    }

    /// Tells sftpd how many files cannot be brought to a standby: it hands over to none that lacks some.
    pub async fn tell_unbrought(&self, standby: &Standby, files: u64) {
        if standby.address.plain.is_none() {
            let order = Order::Unbrought { standby: standby.address.name.clone(), files };
            // It may just be restarting, and is told again.
            let _ = tokio::time::timeout(TELLING_MAX, ask(&self.state, &order)).await;
        }
    }

    /// Tells sftpd that a standby gets nothing now.
    pub async fn tell_away(&self, standby: &Standby, sentence: &str) {
        if standby.address.plain.is_none() {
            let name = &standby.address.name;
            // It is told under its name.
            let reason = sentence.strip_prefix(&format!("standby {name}")).unwrap_or(sentence);
            let reason = reason.trim_start_matches([':', ' ']);
            tell(&self.state, name, None, Some(reason)).await;
        }
    }
}

/// Tells sftpd which accounts a standby has. It may just be restarting, and is told again.
pub async fn tell(state: &Path, standby: &str, generation: Option<u64>, problem: Option<&str>) {
    let order = Order::StandbyHas { standby: standby.into(), generation, problem: problem.map(str::to_owned) };
    let _ = tokio::time::timeout(TELLING_MAX, ask(state, &order)).await;
}
