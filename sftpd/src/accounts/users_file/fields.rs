//! Values of single fields: what they mean, and what to write instead where they mean nothing.

use std::num::NonZeroU32;

use ipnet::IpNet;
use jiff::Timestamp;

use super::Check;
use crate::accounts::form::{RawUser, Scalar};
use crate::accounts::permissions::{FOLDERS_MAX, Permissions, Right, plain_folder};
use crate::accounts::{UploadMode, network};
use crate::algorithms::exceptions;

/// The slowest that an account may be made, in bytes per second.
const SPEED_MIN_BYTES_PER_S: u64 = 1024;

impl Check<'_> {
    pub(super) fn upload(&mut self, label: &str, raw: Option<Scalar>) -> UploadMode {
        match raw.as_ref().map(|scalar| scalar.text.as_str()) {
            None | Some("atomic") => UploadMode::Atomic,
            Some("direct") => UploadMode::Direct,
            Some(_) => {
                self.wrong(label, "upload", "`upload` is `atomic` or `direct`".into());
                UploadMode::Atomic
            }
        }
    }

    /// Only what the setting of the same name can have: nobody must believe that more is promised.
    pub(super) fn acknowledge(&mut self, label: &str, raw: Option<Scalar>) {
        let text = match raw.as_ref().map(|scalar| scalar.text.as_str()) {
            None | Some("local") => return,
            Some("standby") => {
                "`acknowledge: standby` is not there yet: an upload is answered when this machine has it (`local`)"
            }
            Some(_) => "`acknowledge` is `local`: an upload is answered when this machine has it",
        };
        self.wrong(label, "acknowledge", text.into());
    }

    pub(super) fn permissions(&mut self, label: &str, raw: &RawUser) -> Permissions {
        let name = &raw.name.text;
        let mut permissions = Permissions::default();
        for (number, (folder, right)) in raw.permissions.iter().enumerate() {
            let position = self.positions.part(label, "permissions", number);
            let path = folder.as_str().and_then(plain_folder);
            let right = right.as_str().and_then(Right::from_word);
            match (path, right) {
                (Some(path), Some(right)) => {
                    if permissions.0.insert(path, right).is_some() {
                        self.mistake(position, "this folder comes twice".into());
                    }
                }
                (None, _) => {
                    let text = "a folder in `permissions` begins with a slash and has no dots: /inbox, /reports/2027";
                    self.mistake(position, text.into());
                }
                (_, None) => {
                    let words = Right::WORDS.map(|(word, _)| format!("`{word}`")).join(", ");
                    self.mistake(position, format!("what a folder in `permissions` allows is one of {words}"));
                }
            }
        }
        if raw.permissions.is_empty() {
            return permissions;
        }
        let clash = [
            (raw.admin, "is an admin, who may do everything: leave out `permissions`"),
            (raw.read_only, "is `read_only`: write `permissions: {/: read}` and the folders that differ"),
            (raw.upload_only, "is `upload_only`: write `permissions: {/: upload}` and the folders that differ"),
            (
                raw.upload.as_ref().is_some_and(|upload| upload.text == "direct"),
                "writes `direct`, which goes with no `permissions`",
            ),
            (permissions.0.len() > FOLDERS_MAX, "has more folders in `permissions` than 100"),
        ];
        for (_, text) in clash.iter().filter(|(is_so, _)| *is_so) {
            self.mistake(self.positions.part(label, "permissions", 0), format!("{name} {text}"));
        }
        permissions
    }

    pub(super) fn quota(&mut self, label: &str, raw: Option<Scalar>) -> Option<u64> {
        let text = self.as_written(label, "quota", raw?);
        let bytes = pair::units::bytes(&text);
        if bytes.is_none() {
            self.wrong(label, "quota", "a quota is a number of bytes, or one with a unit: 10GiB, 1.5TiB, 500MB".into());
        }
        bytes
    }

    pub(super) fn speed(&mut self, label: &str, field: &str, raw: Option<Scalar>) -> Option<NonZeroU32> {
        let text = self.as_written(label, field, raw?);
        let Some(bytes) = text.strip_suffix("/s").and_then(pair::units::bytes) else {
            self.wrong(label, field, format!("`{field}` is a number of bytes per second: 5MB/s, 512KiB/s"));
            return None;
        };
        if bytes < SPEED_MIN_BYTES_PER_S {
            self.wrong(label, field, format!("`{field}` is below 1KiB/s: no login would come to its end"));
        }
        // Nothing is faster than that: it is as good as no limit.
        u32::try_from(bytes).ok().and_then(NonZeroU32::new)
    }

    pub(super) fn max_sessions(&mut self, label: &str, raw: Option<Scalar>) -> Option<usize> {
        let text = self.as_written(label, "max_sessions", raw?);
        let sessions = text.parse().ok().filter(|sessions| *sessions > 0);
        if sessions.is_none() {
            self.wrong(label, "max_sessions", "`max_sessions` is a number from 1 on".into());
        }
        sessions
    }

    pub(super) fn allow_from(&mut self, label: &str, nets: &[String]) -> Vec<IpNet> {
        let mut parsed = Vec::new();
        for (number, net) in nets.iter().enumerate() {
            match network(net) {
                Some(net) => parsed.push(net.trunc()),
                None => {
                    let text = format!("{net:?} is no address or network: 203.0.113.7, 198.51.100.0/24, 2001:db8::/32");
                    self.mistake(self.positions.part(label, "allow_from", number), text);
                }
            }
        }
        parsed
    }

    /// A moment from which on something is so.
    pub(super) fn moment(&mut self, label: &str, field: &str, what: &str, raw: Option<Scalar>) -> Option<Timestamp> {
        let text = self.as_written(label, field, raw?);
        let day = || {
            let day: jiff::civil::Date = text.parse().ok()?;
            Some(day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
        };
        let moment = text.parse().ok().or_else(day);
        if moment.is_none() {
            let text = format!(
                "`{field}` is the day from which on {what} (2027-01-31, in UTC), or a time (2027-01-31T18:00:00Z)"
            );
            self.wrong(label, field, text);
        }
        moment
    }

    /// An exception for old algorithms: bound to addresses, because they are agreed on before anybody logs in, and to a time,
    /// because nobody remembers to take it back.
    pub(super) fn legacy(
        &mut self,
        label: &str,
        allow_from: &[IpNet],
        algorithms: &[String],
        until: Option<Scalar>,
    ) -> Option<Timestamp> {
        let until = self.moment(label, "legacy_until", "its old algorithms are refused", until);
        for (number, name) in algorithms.iter().enumerate() {
            if !exceptions().any(|known| known == name) {
                let known = exceptions().collect::<Vec<_>>().join(", ");
                let position = self.positions.part(label, "legacy_algorithms", number);
                self.mistake(position, format!("{name:?} is no algorithm that can be allowed: there are {known}"));
            }
        }
        let is_wide = |net: &&IpNet| net.prefix_len() < if net.addr().is_ipv4() { 16 } else { 32 };
        if let Some(net) = allow_from.iter().find(is_wide).filter(|_| !algorithms.is_empty()) {
            let text = format!(
                "`legacy_algorithms` would be offered to all of {net}: name the client's own addresses in `allow_from`"
            );
            self.mistake(self.positions.part(label, "legacy_algorithms", 0), text);
        }
        if !algorithms.is_empty() && allow_from.is_empty() {
            let text =
                "`legacy_algorithms` need `allow_from`: they are offered to these addresses, before anybody logs in";
            self.mistake(self.positions.part(label, "legacy_algorithms", 0), text.into());
        }
        if !algorithms.is_empty() && until.is_none() {
            let text = "`legacy_algorithms` need `legacy_until`: the day from which on they are refused";
            self.mistake(self.positions.part(label, "legacy_algorithms", 0), text.into());
        }
        if algorithms.is_empty() && until.is_some() {
            self.wrong(
                label,
                "legacy_until",
                "`legacy_until` stands beside `legacy_algorithms`, which are missing".into(),
            );
        }
        until
    }
}
