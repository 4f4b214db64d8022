//! The settings of the agent: one struct, the defaults, and what is wrong with them said in sentences.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pair::client::{Login, PrivateKey};
use pair::config::Interval;
use pair::exit::usage;
use serde::Deserialize;

use super::folders::{Age, Folder, Selection};
use crate::throttle::Window;

/// The keys that a command line may set.
pub const KEYS: [&str; 7] = ["agent", "server", "folders", "patterns", "state", "interval", "health_listen"];

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "not set" } else { "hidden" })
    }
}

/// How files are packed before they are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// Not at all.
    #[default]
    None,
    /// Zstandard, as `.zst`.
    Zstd,
    /// As `.gz`.
    Gzip,
}

impl Packing {
    /// What comes behind a packed file's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Packing::None => "",
            Packing::Zstd => ".zst",
            Packing::Gzip => ".gz",
        }
    }
}

/// The settings; `config/archive.yaml` says what each is for.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This machine's name in the archive, and its login.
    pub agent: String,
    /// Both machines of the pair: `host:port`.
    #[serde(deserialize_with = "pair::config::list")]
    pub server: Vec<String>,
    /// The password.
    pub password: Hidden,
    /// A file that holds the password.
    pub password_file: PathBuf,
    /// A file that holds a private key.
    pub key_file: PathBuf,
    /// The servers' host keys: fingerprints as `SHA256:…`.
    #[serde(deserialize_with = "pair::config::list")]
    pub host_keys: Vec<String>,
    /// A file of host keys in OpenSSH's form.
    pub known_hosts: PathBuf,
    /// Whether the host key of the first contact is trusted and remembered.
    pub trust_first: bool,
    /// What is shipped.
    #[serde(deserialize_with = "super::folders::list")]
    pub folders: Vec<Folder>,
    /// Names that are shipped, where a folder does not say otherwise.
    #[serde(deserialize_with = "pair::config::list")]
    pub patterns: Vec<String>,
    /// Names that are not.
    #[serde(deserialize_with = "pair::config::list")]
    pub exclude: Vec<String>,
    /// From one look at the folders to the next.
    pub interval: Interval,
    /// For how long a file must not change before it counts as finished.
    pub quiet: Interval,
    /// Whether growing files are shipped as they grow, where a folder does not say otherwise.
    pub tail: bool,
    /// How files are packed, where a folder does not say otherwise.
    pub compress: Packing,
    /// How fast content may go, by windows of the day.
    #[serde(deserialize_with = "pair::config::list")]
    pub upload_limit: Vec<String>,
    /// Files that are under way at the same time.
    pub uploads_max: usize,
    /// After which age a file that has arrived is removed here; never where there is none.
    pub remove_after_upload: Age,
    /// The agent's own state.
    pub state: PathBuf,
    /// Where health and metrics are served.
    pub health_listen: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            agent: String::new(),
            server: Vec::new(),
            password: Hidden::default(),
            password_file: PathBuf::new(),
            key_file: PathBuf::new(),
            host_keys: Vec::new(),
            known_hosts: PathBuf::new(),
            trust_first: false,
            folders: Vec::new(),
            patterns: vec!["*".into()],
            exclude: [".*", "*.swp", "*.tmp", "*.part"].map(str::to_owned).to_vec(),
            interval: Interval(Duration::from_secs(10)),
            quiet: Interval(Duration::from_secs(60)),
            tail: false,
            compress: Packing::None,
            upload_limit: Vec::new(),
            uploads_max: 16,
            remove_after_upload: Age::NEVER,
            state: "/var/lib/filesync-archive".into(),
            health_listen: "127.0.0.1:2228".into(),
        }
    }
}

/// More uploads than this at once would meet the bounds of handles and requests of one connection.
const UPLOADS_MAX: usize = 64;

impl Config {
    /// The servers' addresses.
    pub fn servers(&self) -> anyhow::Result<Vec<String>> {
        let parse = |text: &String| {
            let port = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
            match port {
                Some((host, 1..)) if !host.is_empty() && !host.contains(['@', '/']) => Ok(text.clone()),
                _ => Err(usage(format!("server: {text}: write host:port; the login is the agent's name"))),
            }
        };
        let servers = self.server.iter().map(parse).collect::<anyhow::Result<Vec<String>>>()?;
        if servers.is_empty() {
            return Err(usage("server: not set: write the addresses of both machines, host:port,host:port"));
        }
        Ok(servers)
    }

    /// The login: a key where one is given, else the password.
    pub fn login(&self) -> anyhow::Result<Login> {
        if !self.key_file.as_os_str().is_empty() {
            let text = read("key_file", &self.key_file)?;
            let key = PrivateKey::from_openssh(&text).map_err(|error| {
                usage(format!("key_file: {} is no OpenSSH private key: {error}", show(&self.key_file)))
            })?;
            if key.is_encrypted() {
                return Err(usage(format!(
                    "key_file: {} needs a passphrase: nobody is there to type it",
                    show(&self.key_file)
                )));
            }
            return Ok(Login::with_key(&self.agent, std::sync::Arc::new(key)));
        }
        let password = if self.password_file.as_os_str().is_empty() {
            self.password.0.clone()
        } else {
            read("password_file", &self.password_file)?.lines().next().unwrap_or_default().to_owned()
        };
        if password.is_empty() {
            return Err(usage("no password: set password_file, key_file, or FILESYNC_PASSWORD"));
        }
        Ok(Login::with_password(&self.agent, password))
    }

    /// The limits of the bandwidth.
    pub fn windows(&self) -> anyhow::Result<Vec<Window>> {
        let windows = self.upload_limit.iter().map(|text| text.parse());
        windows.collect::<Result<_, String>>().map_err(|error| usage(format!("upload_limit: {error}")))
    }

    /// What is shipped from each folder, in the order of the settings.
    pub fn selections(&self) -> anyhow::Result<Vec<Selection>> {
        if self.folders.is_empty() {
            return Err(usage("folders: not set: write the folders whose files are shipped, /var/log/app,/srv/logs"));
        }
        let selections =
            self.folders.iter().map(|folder| folder.selection(self)).collect::<anyhow::Result<Vec<_>>>()?;
        for (at, selection) in selections.iter().enumerate() {
            for other in selections.iter().skip(at + 1) {
                let is_inside = selection.root.starts_with(&other.root) || other.root.starts_with(&selection.root);
                if is_inside {
                    let (one, two) = (show(&selection.root), show(&other.root));
                    return Err(usage(format!(
                        "folders: {one} and {two}: one is in the other, so files would be shipped twice"
                    )));
                }
                if selection.name == other.name {
                    let name = &selection.name;
                    return Err(usage(format!(
                        "folders: two are called {name} in the archive: give one of them another `as`"
                    )));
                }
            }
        }
        Ok(selections)
    }

    /// Where the record is.
    pub fn record(&self) -> PathBuf {
        self.state.join("archive.db")
    }

    /// Whether everything is right that can be told without connecting.
    pub fn check(&self) -> anyhow::Result<()> {
        let is_usable = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if self.agent.is_empty() {
            return Err(usage("agent: not set: it is this machine's name in the archive, such as agent01"));
        }
        if !self.agent.bytes().all(is_usable) || self.agent.starts_with('.') {
            return Err(usage(format!("agent: {:?}: letters, digits, '.', '_' and '-' make a name", self.agent)));
        }
        if !(1..=UPLOADS_MAX).contains(&self.uploads_max) {
            return Err(usage(format!("uploads_max is {}: from 1 to {UPLOADS_MAX}", self.uploads_max)));
        }
        self.servers()?;
        self.windows()?;
        self.selections()?;
        self.login()?;
        if self.host_keys.is_empty() && self.known_hosts.as_os_str().is_empty() && !self.trust_first {
            return Err(usage(
                "host_keys: not set: write the fingerprints that sftpd prints at its start (SHA256:…), or known_hosts with a file, \
                 or trust_first: true to remember what is shown first",
            ));
        }
        if let Some(wrong) = self.host_keys.iter().find(|key| !key.starts_with("SHA256:")) {
            return Err(usage(format!("host_keys: {wrong} is no fingerprint: write SHA256:… as sftpd prints it")));
        }
        if !self.known_hosts.as_os_str().is_empty() {
            read("known_hosts", &self.known_hosts)?;
        }
        Ok(())
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

fn read(key: &str, path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).map_err(|error| usage(format!("{key}: cannot read {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str) -> Config {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(file);
        pair::config::load("filesync-none", Some(&path), &[]).unwrap()
    }

    fn usual() -> Config {
        Config {
            agent: "agent01".into(),
            server: vec!["a:2222".into(), "b:2222".into()],
            password: Hidden("secret-word".into()),
            trust_first: true,
            folders: vec![Folder::at("/var/log/app")],
            ..Config::default()
        }
    }

    #[test]
    fn the_shipped_file_holds_the_defaults() {
        assert_eq!(format!("{:?}", load("config/archive.yaml")), format!("{:?}", Config::default()));
    }

    #[test]
    fn the_example_is_right_but_for_its_own_files() {
        let example = load("docs/examples/agent.yaml");
        assert_eq!(example.servers().unwrap().len(), 2);
        assert!(example.selections().unwrap().len() >= 2);
        example.windows().unwrap();
    }

    #[test]
    fn a_password_is_never_shown() {
        assert!(!format!("{:?}", usual()).contains("secret-word"));
        assert!(!format!("{:?}", usual().login().unwrap()).contains("secret-word"));
    }

    #[test]
    fn what_is_missing_or_makes_no_sense_is_named_with_what_to_write() {
        usual().check().unwrap();
        let two = |one: &str, other: &str| vec![Folder::at(one), Folder::at(other)];
        let cases = [
            ("agent: not set", Config { agent: String::new(), ..usual() }),
            ("letters, digits", Config { agent: "a/b".into(), ..usual() }),
            ("server: not set", Config { server: Vec::new(), ..usual() }),
            ("host:port", Config { server: vec!["me@a:22".into()], ..usual() }),
            ("no password", Config { password: Hidden::default(), ..usual() }),
            ("cannot read /missing", Config { password_file: "/missing".into(), ..usual() }),
            ("host_keys: not set", Config { trust_first: false, ..usual() }),
            ("no fingerprint", Config { host_keys: vec!["aa:bb".into()], ..usual() }),
            ("folders: not set", Config { folders: Vec::new(), ..usual() }),
            ("one is in the other", Config { folders: two("/a", "/a/b"), ..usual() }),
            ("two are called log", Config { folders: two("/a/log", "/b/log"), ..usual() }),
            ("patterns: [: ", Config { patterns: vec!["[".into()], ..usual() }),
            ("upload_limit: \"fast\"", Config { upload_limit: vec!["fast".into()], ..usual() }),
            ("uploads_max is 0", Config { uploads_max: 0, ..usual() }),
        ];
        for (expected, config) in cases {
            let error = config.check().unwrap_err();
            assert!(error.to_string().contains(expected) && pair::exit::code(&error) == 2, "{expected}: {error}");
        }
    }
}
