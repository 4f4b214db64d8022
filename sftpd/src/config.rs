//! Settings of sftpd. Each key is described in `config/sftpd.yaml`, which holds the defaults and is tested to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use pair::config::Interval;
use pair::node::Role;
use serde::Deserialize;

use crate::storage::Durability;

/// Settings of sftpd.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients connect. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The data volume.
    pub data: PathBuf,
    /// This machine's own state.
    pub state: PathBuf,
    /// Where logs go.
    pub logs: PathBuf,
    /// The users.yaml that seeds the accounts at a master's first start.
    pub users: PathBuf,
    /// The role at the very first start; `node.yaml` counts afterwards.
    pub role: Role,
    /// Where health checks and metrics are served.
    pub health_listen: SocketAddr,
    /// Whether answers wait for the disk.
    pub durability: Durability,
    /// How many machines have an upload before it is answered.
    pub acknowledge: Acknowledge,
    /// The master as clients should reach it, for the sentence by which a standby refuses writes.
    pub master_address: String,
    /// Limits.
    pub limits: Limits,
}

/// How many machines have an upload before it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acknowledge {
    /// This one.
    #[default]
    Local,
}

/// Limits of sftpd.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections that have not logged in.
    pub unauthenticated: usize,
    /// The same from one address.
    pub unauthenticated_per_address: usize,
    /// How long a connection may take to log in.
    pub login_grace: Interval,
    /// Sessions of one account.
    pub sessions_per_account: usize,
    /// Files and folders that a session holds open.
    pub handles_per_session: usize,
    /// Requests that wait in one session, in bytes. Past it the session ends.
    pub parked_bytes: usize,
    /// How long a session may be silent.
    pub idle_timeout: Interval,
    /// How long an unfinished upload waits for its client.
    pub unfinished_expiry: Interval,
    /// How long transfers may go on after SIGTERM.
    pub drain: Interval,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from(([0, 0, 0, 0], 2222)),
            data: "/data".into(),
            state: "/state".into(),
            logs: "/logs".into(),
            users: "/config/users.yaml".into(),
            role: Role::Master,
            health_listen: SocketAddr::from(([127, 0, 0, 1], 2226)),
            durability: Durability::Fsync,
            acknowledge: Acknowledge::Local,
            master_address: String::new(),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            unauthenticated: 100,
            unauthenticated_per_address: 10,
            login_grace: Interval(Duration::from_secs(30)),
            sessions_per_account: 50,
            handles_per_session: 256,
            // What OpenSSH's client sends ahead (64 writes of 255 KiB) and a little more.
            parked_bytes: 20 * 1024 * 1024,
            idle_timeout: Interval(Duration::from_secs(15 * 60)),
            unfinished_expiry: Interval(Duration::from_secs(24 * 3600)),
            drain: Interval(Duration::from_secs(30)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_holds_the_defaults_with_every_key() {
        let text = include_str!("../../config/sftpd.yaml");
        let shipped: Config = serde_yaml::from_str(text).unwrap();
        assert_eq!(shipped, Config::default());
        let keys = "listen data state logs users role health_listen durability acknowledge master_address limits \
                    unauthenticated unauthenticated_per_address login_grace sessions_per_account handles_per_session \
                    parked_bytes idle_timeout unfinished_expiry drain";
        for key in keys.split_whitespace() {
            assert!(
                text.lines().any(|line| line.trim_start().starts_with(&format!("{key}:"))),
                "{key} is not in the file"
            );
        }
    }
}
