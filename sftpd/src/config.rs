//! Settings of sftpd. Each key is described in `config/sftpd.yaml`, which holds the defaults and is tested to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use pair::config::Interval;
use pair::exit::usage;
use pair::node::Role;
use pair::units::Size;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::accounts::network;
use crate::activity::Keep;
use crate::algorithms::Offer;
use crate::archive::Rhythm;
use crate::modes::{Mode, Modes};
use crate::storage::Durability;

/// Settings of sftpd.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients connect. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Load balancers in front: they must say from where a client comes, by the PROXY protocol, version 2.
    #[serde(deserialize_with = "nets")]
    pub proxies: Vec<IpNet>,
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
    /// Which algorithms are offered to everybody.
    pub algorithms: Offer,
    /// Whether answers wait for the disk.
    pub durability: Durability,
    /// The mode of every file of an account, whatever its client asks for; nothing: what the client asks for.
    pub file_mode: Mode,
    /// The same of every folder.
    pub folder_mode: Mode,
    /// How many machines have an upload before it is answered.
    pub acknowledge: Acknowledge,
    /// The other machines of the pair as this one reaches them, host:port.
    #[serde(deserialize_with = "pair::config::list")]
    pub peers: Vec<String>,
    /// For how long a master that starts asks them whether there is a newer one, before it takes writes without an answer.
    pub peers_wait: Interval,
    /// The master as clients should reach it, for the sentence by which a standby refuses writes.
    pub master_address: String,
    /// How the activity log is kept.
    pub activity_log: ActivityLogSettings,
    /// How the door is guarded.
    pub guard: GuardSettings,
    /// How the archive of agents' logs is kept.
    pub archive: ArchiveSettings,
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

/// How the activity log is kept, on this machine and for what it gets from the other.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ActivityLogSettings {
    /// The live file is closed before it grows past this.
    pub file_size: Size,
    /// Closed files that are kept.
    pub files_max: usize,
    /// Days after which a closed file goes.
    pub days_max: u32,
    /// Whether each record goes to standard output, too.
    pub stdout: bool,
}

impl ActivityLogSettings {
    /// The same for who writes it.
    pub fn keep(&self) -> Keep {
        let age_max = Duration::from_secs(u64::from(self.days_max) * 24 * 3600);
        Keep { file_bytes: self.file_size.0, files_max: self.files_max, age_max }
    }
}

impl Default for ActivityLogSettings {
    fn default() -> ActivityLogSettings {
        ActivityLogSettings { file_size: Size(10_000_000), files_max: 200, days_max: 400, stdout: true }
    }
}

/// How the door is guarded.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardSettings {
    /// Whether it is.
    pub enabled: bool,
    /// Addresses and networks that are never banned.
    #[serde(deserialize_with = "nets")]
    pub never: Vec<IpNet>,
    /// The penalty for a login that failed.
    pub failed_login: Interval,
    /// For a connection that ended without a login.
    pub no_login: Interval,
    /// For one on which nobody logged in within the grace.
    pub grace_exceeded: Interval,
    /// For one that spoke something else.
    pub hostile: Interval,
    /// From which penalty on an address is banned, until all of it has passed.
    pub threshold: Interval,
    /// The longest that a penalty becomes.
    pub longest: Interval,
    /// From which penalty on an account's password counts only where it has logged in before.
    pub account_threshold: Interval,
    /// Connections that an address may begin in a second, for long.
    pub connections_per_s: u32,
    /// The same at once.
    pub connections_burst: u32,
    /// Bits of an IPv6 address that count as one.
    pub ipv6_prefix: u8,
    /// Addresses that are remembered.
    pub sources_max: usize,
}

impl Default for GuardSettings {
    fn default() -> GuardSettings {
        let seconds = |seconds| Interval(Duration::from_secs(seconds));
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        let lengths = [8, 128];
        let never = loopback.into_iter().zip(lengths).filter_map(|(at, length)| IpNet::new(at, length).ok());
        GuardSettings {
            enabled: true,
            never: never.map(|net| net.trunc()).collect(),
            failed_login: seconds(5),
            no_login: seconds(1),
            grace_exceeded: seconds(10),
            hostile: seconds(90),
            threshold: seconds(15),
            longest: seconds(600),
            account_threshold: seconds(120),
            connections_per_s: 20,
            connections_burst: 200,
            ipv6_prefix: 64,
            sources_max: 65_536,
        }
    }
}

/// How the archive of agents' logs is kept.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArchiveSettings {
    /// From one segment of the chain to the next, where something comes.
    pub seal_every: Interval,
    /// When retention runs: a time of the day, in UTC.
    pub retention_at: TimeOfDay,
}

impl ArchiveSettings {
    /// The same for who keeps it.
    pub fn rhythm(&self) -> Rhythm {
        Rhythm { seal_every: self.seal_every.get(), retention_at_s: self.retention_at.0 }
    }
}

impl Default for ArchiveSettings {
    fn default() -> ArchiveSettings {
        ArchiveSettings { seal_every: Interval(Duration::from_secs(600)), retention_at: TimeOfDay(2 * 3600) }
    }
}

/// A time of the day: seconds since midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOfDay(pub u32);

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TimeOfDay, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = jiff::civil::Time::strptime("%H:%M", &text);
        let time = time
            .map_err(|_| D::Error::custom(format!("\"{text}\": a time of the day is written as 02:00, in quotes")))?;
        Ok(TimeOfDay(time.hour() as u32 * 3600 + time.minute() as u32 * 60))
    }
}

/// A list of addresses and networks.
fn nets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let parse = |text: String| {
        network(&text).map(|net| net.trunc()).ok_or_else(|| {
            D::Error::custom(format!(
                "\"{text}\" is no address or network: 203.0.113.7, 198.51.100.0/24, 2001:db8::/32"
            ))
        })
    };
    pair::config::list(deserializer)?.into_iter().map(parse).collect()
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

impl Config {
    /// The modes of what accounts make.
    pub fn modes(&self) -> Modes {
        Modes { file: self.file_mode, folder: self.folder_mode }
    }

    /// What no single key shows to be wrong.
    pub fn check(&self) -> anyhow::Result<()> {
        crate::peers::addresses(&self.peers)?;
        self.modes().check().map_err(usage)
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from(([0, 0, 0, 0], 2222)),
            proxies: Vec::new(),
            data: "/data".into(),
            state: "/state".into(),
            logs: "/logs".into(),
            users: "/config/users.yaml".into(),
            role: Role::Master,
            health_listen: SocketAddr::from(([127, 0, 0, 1], 2226)),
            algorithms: Offer::default(),
            durability: Durability::Fsync,
            file_mode: Mode::default(),
            folder_mode: Mode::default(),
            acknowledge: Acknowledge::Local,
            peers: Vec::new(),
            peers_wait: Interval(Duration::from_secs(10)),
            master_address: String::new(),
            activity_log: ActivityLogSettings::default(),
            guard: GuardSettings::default(),
            archive: ArchiveSettings::default(),
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
        let keys = "listen proxies data state logs users role health_listen algorithms durability file_mode folder_mode acknowledge peers peers_wait master_address activity_log \
                    file_size files_max days_max stdout guard enabled never failed_login no_login grace_exceeded \
                    hostile threshold longest account_threshold connections_per_s connections_burst ipv6_prefix sources_max \
                    archive seal_every retention_at limits \
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
