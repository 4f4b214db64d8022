//! The settings of stresstest: one struct, the defaults, and what is wrong with them said in sentences.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pair::config::Interval;
use pair::exit::usage;
use pair::units::Size;
use serde::Deserialize;

use crate::plan::Target;

/// What is known of each file is kept in memory.
const FILES_MAX: u64 = 10_000_000;

/// The settings; `config/stresstest.yaml` says what each is for.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the page is served.
    pub listen: String,
    /// The servers that may be loaded: `[name=]host:port`. The page aims at nothing else.
    #[serde(deserialize_with = "pair::config::list")]
    pub targets: Vec<String>,
    /// Where the files of the targets arrive, too: `[name=]host:port`.
    #[serde(deserialize_with = "pair::config::list")]
    pub standbys: Vec<String>,
    /// Reports, host keys, and what is not cleaned up yet.
    pub state: PathBuf,
    /// What a run may ask for.
    pub limits: Limits,
    /// How long one request may stay without an answer.
    pub answer_timeout: Interval,
    /// How long after the last upload files may still arrive on the standby.
    pub arrival_timeout: Interval,
    /// Reports that are kept; the oldest go first.
    pub reports_max: usize,
    /// How long a login to the page lasts without use.
    pub session_timeout: Interval,
    /// Whether a proxy stands before the page that sets X-Forwarded-For and X-Forwarded-Proto.
    pub behind_proxy: bool,
    /// The file with the certificate by which the page is served over https; empty for http.
    pub tls_certificate: String,
    /// The file with its key.
    pub tls_key: String,
}

/// What a run may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Files.
    pub files: u64,
    /// Bytes uploaded, all files together.
    pub bytes: Size,
    /// Bytes of one file.
    pub file_size: Size,
    /// Connections at a time.
    pub clients: usize,
    /// How long the load may last.
    pub duration: Interval,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            files: 100_000,
            bytes: Size(20 << 30),
            file_size: Size(2 << 30),
            clients: 64,
            duration: Interval(Duration::from_secs(3600)),
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: "127.0.0.1:2224".into(),
            targets: Vec::new(),
            standbys: Vec::new(),
            state: "/state".into(),
            limits: Limits::default(),
            answer_timeout: Interval(Duration::from_secs(30)),
            arrival_timeout: Interval(Duration::from_secs(60)),
            reports_max: 50,
            session_timeout: Interval(Duration::from_secs(3600)),
            behind_proxy: false,
            tls_certificate: String::new(),
            tls_key: String::new(),
        }
    }
}

impl Config {
    /// The servers that may be loaded; an error names the one that cannot be read.
    pub fn targets(&self) -> anyhow::Result<Vec<Target>> {
        parsed("targets", &self.targets)
    }

    /// The standbys; an error names the one that cannot be read. Plain servers of filesync's, `user@host:port/path`, have no accounts
    /// to look with and are left out.
    pub fn standbys(&self) -> anyhow::Result<Vec<Target>> {
        let of_the_pair: Vec<String> = self.standbys.iter().filter(|text| !is_plain_server(text)).cloned().collect();
        parsed("standbys", &of_the_pair)
    }

    /// The standbys that are left out.
    pub fn plain_servers(&self) -> impl Iterator<Item = &String> {
        self.standbys.iter().filter(|text| is_plain_server(text))
    }

    /// Where the running page can be asked whether it answers, on this machine.
    pub fn health_address(&self) -> anyhow::Result<SocketAddr> {
        pair::health::own_address(&self.listen)
    }

    /// Whether the page is served over https.
    pub fn is_https(&self) -> anyhow::Result<bool> {
        web::Tls::is_wanted(&self.tls_certificate, &self.tls_key)
    }

    /// The certificate and its key, where they are set.
    pub fn tls(&self) -> anyhow::Result<Option<Arc<web::Tls>>> {
        web::Tls::open(&self.tls_certificate, &self.tls_key)
    }

    /// Whether everything is right that can be told without connecting.
    pub fn check(&self) -> anyhow::Result<()> {
        self.targets()?;
        self.standbys()?;
        self.is_https()?;
        if self.limits.files == 0 || self.limits.clients == 0 {
            return Err(usage("limits: files and clients must be at least 1"));
        }
        if self.limits.files > FILES_MAX {
            return Err(usage(format!("limits: files may be {FILES_MAX} at most")));
        }
        Ok(())
    }
}

fn is_plain_server(text: &str) -> bool {
    text.contains('@')
}

fn parsed(key: &str, texts: &[String]) -> anyhow::Result<Vec<Target>> {
    let mut found: Vec<Target> = Vec::new();
    for text in texts {
        let target: Target = text.parse().map_err(|sentence| usage(format!("{key}: {sentence}")))?;
        if found.iter().any(|known| known.name == target.name) {
            return Err(usage(format!("{key}: {} is there twice", target.name)));
        }
        found.push(target);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_holds_the_defaults() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/stresstest.yaml");
        let shipped: Config = pair::config::load("stresstest-none", Some(file.as_ref()), &[]).unwrap();
        assert_eq!(format!("{shipped:?}"), format!("{:?}", Config::default()));
    }

    #[test]
    fn filesyncs_own_list_of_standbys_can_be_given_as_it_is() {
        let standbys = vec!["b:22".into(), "user@backup.example.org:22/srv".into()];
        let config = Config { standbys, listen: "0.0.0.0:2224".into(), ..Config::default() };
        assert_eq!(config.standbys().unwrap().len(), 1);
        assert_eq!(config.plain_servers().collect::<Vec<_>>(), ["user@backup.example.org:22/srv"]);
        assert_eq!(config.health_address().unwrap(), "127.0.0.1:2224".parse().unwrap());
        assert!(Config { listen: "x".into(), ..config }.health_address().is_err());
    }

    #[test]
    fn targets_that_cannot_be_told_apart_or_are_none_are_refused_by_their_key() {
        let wrong = [
            ("targets: localhost", Config { targets: vec!["localhost".into()], ..Config::default() }),
            ("tls_certificate is missing", Config { tls_key: "/x".into(), ..Config::default() }),
            (
                "standbys: b is there twice",
                Config { standbys: vec!["b=a:1".into(), "b=a:2".into()], ..Config::default() },
            ),
        ];
        for (expected, config) in wrong {
            let error = config.check().unwrap_err();
            assert!(error.to_string().contains(expected) && pair::exit::code(&error) == 2, "{error}");
        }
    }
}
