//! The settings of the console: one struct, the defaults, and what is wrong with them said in sentences.

use std::path::PathBuf;
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
    /// Where `console.db` lies.
    pub state: PathBuf,
    /// Days of records that are kept.
    pub retention_days: u32,
    /// Records that are kept at most; the oldest days go first.
    pub records_max: u64,
    /// The zone of dates and hours, as `Europe/Berlin`; empty for the system's own.
    pub time_zone: String,
    /// How often the folders are looked at when nothing is heard of them.
    pub look_interval: Interval,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            logs: vec!["/logs".into()],
            state: "/state".into(),
            retention_days: 400,
            records_max: 10_000_000,
            time_zone: String::new(),
            look_interval: Interval(Duration::from_secs(2)),
        }
    }
}

impl Config {
    /// Whether everything is right that can be told at once.
    pub fn check(&self) -> anyhow::Result<()> {
        self.zone()?;
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
            ("retention_days", Config { retention_days: 0, ..Config::default() }),
        ];
        for (key, config) in wrong {
            let error = config.check().unwrap_err();
            assert!(error.to_string().contains(key) && pair::exit::code(&error) == 2, "{error}");
        }
        assert!(Config::default().check().is_ok());
    }
}
