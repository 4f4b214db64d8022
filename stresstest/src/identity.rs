//! The name of a run, and the names of its files and folders. Content is `content`'s.

use serde::{Deserialize, Serialize};

/// Folders of runs begin so.
pub const FOLDER_PREFIX: &str = "stress-";

/// The name of a run: when it began, in UTC, and a few random digits, as in `20261122-021530-9f3c1a`.
///
/// Names sort by time. There is no way to make one that means another path: it has digits, letters and hyphens only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

/// The length of a run's name, in bytes.
pub const RUN_ID_BYTES: usize = 22;

impl RunId {
    /// A new one.
    pub fn draw() -> RunId {
        let now = jiff::Timestamp::now();
        // Without random numbers the part of the second tells runs of one machine apart as well.
        let random = getrandom::u32().unwrap_or_else(|_| now.subsec_nanosecond().unsigned_abs());
        RunId(format!("{}-{:06x}", now.strftime("%Y%m%d-%H%M%S"), random & 0xff_ffff))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The run's folder in the account's home.
    pub fn folder(&self) -> String {
        format!("/{FOLDER_PREFIX}{}", self.0)
    }

    /// The run that a folder's name is of.
    pub fn of_folder(name: &str) -> Option<RunId> {
        name.trim_start_matches('/').strip_prefix(FOLDER_PREFIX)?.parse().ok()
    }
}

impl std::str::FromStr for RunId {
    type Err = String;

    fn from_str(text: &str) -> Result<RunId, String> {
        let is_right = text.len() == RUN_ID_BYTES
            && text.bytes().enumerate().all(|(place, byte)| match place {
                8 | 15 => byte == b'-',
                0..15 => byte.is_ascii_digit(),
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            });
        if is_right { Ok(RunId(text.to_owned())) } else { Err("that is not the name of a run".to_owned()) }
    }
}

impl TryFrom<String> for RunId {
    type Error = String;

    fn try_from(text: String) -> Result<RunId, String> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(run: RunId) -> String {
        run.0
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
