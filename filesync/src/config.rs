//! The settings of filesync: one struct, the defaults, and what is wrong with them said in sentences.

use std::path::PathBuf;
use std::time::Duration;

use pair::config::Interval;
use pair::secret::PairSecret;
use serde::Deserialize;

use crate::standby::Address;
use crate::throttle::Window;

/// The settings; `config/filesync.yaml` says what each is for.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder that is mirrored.
    pub data: PathBuf,
    /// This machine's own state.
    pub state: PathBuf,
    /// Where sftpd writes its activity log.
    pub logs: PathBuf,
    /// Where to mirror to: `host:port`, or `user@host:port/path` for a plain SFTP server.
    #[serde(deserialize_with = "pair::config::list")]
    pub standbys: Vec<String>,
    /// Whether every change is brought as sftpd's feed tells of it, beside the passes.
    pub follow: bool,
    /// From the start of one pass to the start of the next.
    pub interval: Interval,
    /// How fast content may go to each standby, by windows of the day.
    #[serde(deserialize_with = "pair::config::list")]
    pub bandwidth: Vec<String>,
    /// How far a standby may be behind, or how long away, before that is told.
    pub alarm_lag: Interval,
    /// Where it is told, by a POST; nowhere but in the log where it is empty.
    pub alarm_url: String,
    /// Where health and metrics are served.
    pub health_listen: String,
    /// How long a standby keeps what was replaced or removed, in days.
    pub trash_days: u32,
    /// Removals per hour that need no approval, in percent of all entries; 100 entries never do.
    pub delete_budget_percent: u64,
    /// The pair secret; `None` takes `PAIR_SECRET`, `PAIR_SECRET_FILE`, or what sftpd keeps in `state`.
    #[serde(skip)]
    pub secret: Option<PairSecret>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            data: "/data".into(),
            state: "/state".into(),
            logs: "/logs".into(),
            standbys: Vec::new(),
            follow: true,
            interval: Interval(Duration::from_secs(100)),
            bandwidth: Vec::new(),
            alarm_lag: Interval(Duration::from_secs(300)),
            alarm_url: String::new(),
            health_listen: "127.0.0.1:2227".into(),
            trash_days: 7,
            delete_budget_percent: 5,
            secret: None,
        }
    }
}

impl Config {
    /// The standbys' addresses; an error names the one that cannot be read.
    pub fn addresses(&self) -> anyhow::Result<Vec<Address>> {
        let addresses: Vec<Address> =
            self.standbys.iter().map(|text| Address::parse(text)).collect::<Result<_, _>>()?;
        let mut names: Vec<&str> = addresses.iter().map(|address| address.name.as_str()).collect();
        names.sort_unstable();
        if let Some([name, _]) = names.array_windows().find(|[a, b]| a == b) {
            return Err(pair::exit::usage(format!("standbys: {name} is there twice")));
        }
        Ok(addresses)
    }

    /// The limits of the bandwidth; an error names the one that cannot be read.
    pub fn windows(&self) -> anyhow::Result<Vec<Window>> {
        let windows = self.bandwidth.iter().map(|text| text.parse());
        windows.collect::<Result<_, String>>().map_err(|sentence| pair::exit::usage(format!("bandwidth: {sentence}")))
    }

    /// The pair secret.
    pub fn secret(&self) -> anyhow::Result<PairSecret> {
        let secret = self.secret.clone().map_or_else(|| PairSecret::find(&self.state), |secret| Ok(Some(secret)))?;
        secret.ok_or_else(|| {
            let advice = "take the line that sftpd printed at the master's first start, the same on both machines";
            pair::exit::usage(format!("neither PAIR_SECRET nor PAIR_SECRET_FILE is set: {advice}"))
        })
    }

    /// Where the store is.
    pub fn store(&self) -> PathBuf {
        self.state.join("filesync.db")
    }

    /// Whether everything is right that can be told without connecting.
    pub fn check(&self) -> anyhow::Result<()> {
        self.addresses()?;
        self.windows()?;
        if !self.alarm_url.is_empty()
            && !["http://", "https://"].iter().any(|scheme| self.alarm_url.starts_with(scheme))
        {
            return Err(pair::exit::usage(format!("alarm_url: {} is no http:// or https:// address", self.alarm_url)));
        }
        self.secret()?;
        for (key, folder) in [("data", &self.data), ("state", &self.state)] {
            if !folder.is_dir() {
                return Err(pair::exit::usage(format!("{key}: there is no folder {}", folder.display())));
            }
        }
        if self.delete_budget_percent > 100 {
            return Err(pair::exit::usage("delete_budget_percent is more than 100"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_holds_the_defaults() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/filesync.yaml");
        let shipped: Config = pair::config::load("filesync-none", Some(file.as_ref()), &[]).unwrap();
        assert_eq!(format!("{shipped:?}"), format!("{:?}", Config::default()));
    }

    #[test]
    fn limits_and_addresses_that_make_no_sense_are_refused_by_their_key() {
        let secret = Some(PairSecret::generate().unwrap());
        let usual = Config { data: "/".into(), state: "/".into(), secret, ..Config::default() };
        assert!(usual.check().is_ok());
        let wrong = [
            ("bandwidth: \"fast\"", Config { bandwidth: vec!["fast".into()], ..usual.clone() }),
            ("alarm_url: example.net", Config { alarm_url: "example.net".into(), ..usual.clone() }),
        ];
        for (expected, config) in wrong {
            let error = config.check().unwrap_err();
            assert!(error.to_string().contains(expected) && pair::exit::code(&error) == 2, "{error}");
        }
    }

    #[test]
    fn a_standby_named_twice_is_refused() {
        let standbys = vec!["a:1".to_owned(), "b:1".to_owned(), "a:1".to_owned()];
        let error = Config { standbys, ..Config::default() }.addresses().unwrap_err();
        assert!(error.to_string().contains("a:1 is there twice") && pair::exit::code(&error) == 2, "{error}");
    }
}
