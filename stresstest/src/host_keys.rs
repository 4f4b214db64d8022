//! The servers' host keys: remembered at the first connection, and a changed one is refused with a sentence.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pair::client::HostKeyCheck;
use pair::keys::fingerprint;
use pair::node::replace_file;
use serde::{Deserialize, Serialize};

/// The host keys that are known.
pub struct HostKeys {
    path: PathBuf,
    /// The only one that is right, where somebody has said so.
    pinned: Option<String>,
    known: Mutex<BTreeMap<String, Known>>,
}

/// The key of one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    fingerprint: String,
    since: String,
}

impl HostKeys {
    /// Those that a state folder holds. With `pinned`, no other fingerprint is right, and none is remembered.
    pub fn open(state: &Path, pinned: Option<String>) -> anyhow::Result<HostKeys> {
        let path = state.join("host_keys.json");
        let known = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                pair::exit::usage(format!("{} cannot be read ({error}): remove it, or mend it", path.display()))
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(pair::exit::usage(format!("cannot read {}: {error}", path.display()))),
        };
        Ok(HostKeys { path, pinned, known: Mutex::new(known) })
    }

    /// Decides about the key that the server at an address shows.
    pub fn check(self: &Arc<HostKeys>, address: &str) -> HostKeyCheck {
        let (keys, address) = (self.clone(), address.to_owned());
        Arc::new(move |key| keys.decide(&address, &fingerprint(key)))
    }

    fn decide(&self, address: &str, shown: &str) -> Result<(), String> {
        if let Some(pinned) = &self.pinned {
            return match shown == pinned {
                true => Ok(()),
                false => Err(format!("{address} shows the host key {shown} instead of {pinned}")),
            };
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(address) {
            Some(kept) if kept.fingerprint == shown => Ok(()),
            Some(kept) => Err(format!(
                "the host key of {address} has changed: it was {} since {}, and is {shown} now. If that is right, remove {address} \
                 from {}",
                kept.fingerprint,
                kept.since,
                self.path.display()
            )),
            None => {
                let since = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
                known.insert(address.to_owned(), Known { fingerprint: shown.to_owned(), since });
                let text = serde_json::to_vec_pretty(&*known).map_err(|error| error.to_string())?;
                replace_file(&self.path, &text, 0o600).map_err(|error| format!("{error:#}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_remembered_at_first_and_a_changed_one_is_refused_with_both() {
        let state = tempfile::tempdir().unwrap();
        HostKeys::open(state.path(), None).unwrap().decide("a:1", "SHA256:one").unwrap();
        let again = HostKeys::open(state.path(), None).unwrap();
        again.decide("a:1", "SHA256:one").unwrap();
        again.decide("b:1", "SHA256:two").unwrap();
        let sentence = again.decide("a:1", "SHA256:two").unwrap_err();
        for part in ["a:1 has changed", "SHA256:one", "SHA256:two", "host_keys.json"] {
            assert!(sentence.contains(part), "{sentence}");
        }
    }

    #[test]
    fn a_pinned_key_is_the_only_right_one() {
        let state = tempfile::tempdir().unwrap();
        let keys = HostKeys::open(state.path(), Some("SHA256:one".into())).unwrap();
        keys.decide("a:1", "SHA256:one").unwrap();
        assert!(keys.decide("a:1", "SHA256:two").unwrap_err().contains("instead of SHA256:one"));
        assert!(!state.path().join("host_keys.json").exists());
    }
}
