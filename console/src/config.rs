//! The settings of the console: one struct, the defaults, and what is wrong with them said in sentences.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use pair::config::Interval;
use pair::exit::usage;
use serde::Deserialize;

/// The settings; `config/console.yaml` says what each is for.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The logs' folders: sftpd's own, or one with SFTPGo's logs. Folders `from-…` in them, the logs of other machines, are read as well.
    #[serde(deserialize_with = "pair::config::list")]
    pub logs: Vec<String>,
    /// This machine's own state: sftpd's sockets and host keys, filesync's reports, and the console's `console.db`.
    pub state: PathBuf,
    /// The data volume, which is only read: the log archive is shown from it.
    pub data: PathBuf,
    /// Days of records that are kept.
    pub retention_days: u32,
    /// Records that are kept at most; the oldest days go first.
    pub records_max: u64,
    /// The zone of dates and hours, as `Europe/Berlin`; empty for the system's own.
    pub time_zone: String,
    /// How often the folders are looked at when nothing is heard of them.
    pub look_interval: Interval,
    /// Where the pages are served.
    pub listen: String,
    /// The pair's sftpd, `[name=]host:port`: who is an administrator there may log in. They are asked in this order.
    #[serde(deserialize_with = "pair::config::list")]
    pub nodes: Vec<String>,
    /// How long a login lasts without use.
    pub session_timeout: Interval,
    /// Files that should be here by a time of the day, as `EPuser /in/daily-*.csv by 06:00 on mon-fri`.
    #[serde(deserialize_with = "pair::config::list")]
    pub expected: Vec<String>,
    /// Where it is told that an expected file is not here; empty for nowhere.
    pub alarm_url: String,
    /// Whether a proxy stands before the pages that sets X-Forwarded-For and X-Forwarded-Proto.
    pub behind_proxy: bool,
    /// The file with the certificate by which the pages are served over https; empty for http.
    pub tls_certificate: String,
    /// The file with its key.
    pub tls_key: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            logs: vec!["/logs".into()],
            state: "/state".into(),
            data: "/data".into(),
            retention_days: 400,
            records_max: 10_000_000,
            time_zone: String::new(),
            look_interval: Interval(Duration::from_secs(2)),
            listen: "127.0.0.1:2225".into(),
            nodes: vec!["127.0.0.1:2222".into()],
            session_timeout: Interval(Duration::from_secs(3600)),
            expected: Vec::new(),
            alarm_url: String::new(),
            behind_proxy: false,
            tls_certificate: String::new(),
            tls_key: String::new(),
        }
    }
}

impl Config {
    /// Whether everything is right that can be told at once.
    pub fn check(&self) -> anyhow::Result<()> {
        self.zone()?;
        self.nodes()?;
        self.rules()?;
        self.is_https()?;
        if self.logs.is_empty() {
            return Err(usage("logs: there is no folder to read, such as /logs"));
        }
        if self.retention_days == 0 || self.records_max == 0 {
            return Err(usage("retention_days and records_max must be at least 1"));
        }
        Ok(())
    }

    /// The zone of dates and hours.
    pub fn zone(&self) -> anyhow::Result<TimeZone> {
        match self.time_zone.as_str() {
            "" => Ok(TimeZone::try_system().unwrap_or(TimeZone::UTC)),
            name => TimeZone::get(name).map_err(|_| {
                usage(format!("time_zone: there is no zone {name:?}; one is written as Europe/Berlin or UTC"))
            }),
        }
    }

    /// Where the running pages can be asked whether they answer, on this machine.
    pub fn health_address(&self) -> anyhow::Result<std::net::SocketAddr> {
        pair::health::own_address(&self.listen)
    }

    /// Whether the pages are served over https.
    pub fn is_https(&self) -> anyhow::Result<bool> {
        web::Tls::is_wanted(&self.tls_certificate, &self.tls_key)
    }

    /// The certificate and its key, where they are set.
    pub fn tls(&self) -> anyhow::Result<Option<Arc<web::Tls>>> {
        web::Tls::open(&self.tls_certificate, &self.tls_key)
    }

    /// The pair's machines, each with its name and address.
    pub fn nodes(&self) -> anyhow::Result<Vec<(String, String)>> {
        self.nodes.iter().map(|text| crate::doorkeeper::parse_node(text)).collect()
    }

    /// Files that should be here by a time of the day.
    pub fn rules(&self) -> anyhow::Result<Vec<crate::expected::Rule>> {
        self.expected.iter().map(|text| crate::expected::Rule::parse(text)).collect()
    }

    /// The logs' folders.
    pub fn folders(&self) -> Vec<PathBuf> {
        self.logs.iter().map(PathBuf::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_holds_the_defaults() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/console.yaml");
        let shipped: Config = pair::config::load("console-none", Some(file.as_ref()), &[]).unwrap();
        assert_eq!(format!("{shipped:?}"), format!("{:?}", Config::default()));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_key() {
        let wrong = [
            ("time_zone", Config { time_zone: "Europe/Atlantis".into(), ..Config::default() }),
            ("logs", Config { logs: Vec::new(), ..Config::default() }),
            ("tls_key", Config { tls_certificate: "/x".into(), ..Config::default() }),
            ("expected", Config { expected: vec!["EPuser daily by 06:00".into()], ..Config::default() }),
            ("retention_days", Config { retention_days: 0, ..Config::default() }),
        ];
        for (key, config) in wrong {
            let error = config.check().unwrap_err();
            assert!(error.to_string().contains(key) && pair::exit::code(&error) == 2, "{error}");
        }
        assert!(Config::default().check().is_ok());
    }
}
