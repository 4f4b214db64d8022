//! A change of the volume as both programs know it: its position, what was done, and to what.
//!
//! A [`Record`] reads back from its JSON as it was, whatever bytes its names have. Nothing here stores a record,
//! applies one or decides which of two epochs is right.

use std::fmt::Write as _;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A place in the sequence of all changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The epoch's id.
    pub epoch: String,
    /// The last change that is behind this place; 0 before the first.
    pub seq: u64,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// A file took its name, whole.
    Put,
    /// A name moved to another.
    Rename,
    /// A file or link was removed.
    Remove,
    /// A folder was made.
    Mkdir,
    /// An empty folder was removed.
    Rmdir,
    /// Mode, times or length were set.
    Setattr,
    /// A symbolic link was made.
    Symlink,
    /// A file got a second name.
    Link,
    /// A file is being written in place: what can be read is no version of it.
    Dirty,
    /// The writing in place has ended.
    Clean,
    /// Nothing was done; time passed.
    Heartbeat,
    /// Changes before this one may be missing: reconcile. Written after an unclean stop, at which `seq` jumps.
    Mark,
}

impl Operation {
    const NAMES: [(Operation, &'static str); 12] = [
        (Operation::Put, "put"),
        (Operation::Rename, "rename"),
        (Operation::Remove, "remove"),
        (Operation::Mkdir, "mkdir"),
        (Operation::Rmdir, "rmdir"),
        (Operation::Setattr, "setattr"),
        (Operation::Symlink, "symlink"),
        (Operation::Link, "link"),
        (Operation::Dirty, "dirty"),
        (Operation::Clean, "clean"),
        (Operation::Heartbeat, "heartbeat"),
        (Operation::Mark, "mark"),
    ];

    /// Its name in the journal and in the feed.
    pub fn name(self) -> &'static str {
        Operation::NAMES.iter().find(|(operation, _)| *operation == self).map_or("", |(_, name)| name)
    }

    /// The operation of a name.
    pub fn from_name(name: &str) -> Option<Operation> {
        Operation::NAMES.iter().find(|(_, known)| *known == name).map(|(operation, _)| *operation)
    }
}

/// One change of the volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its place within the epoch, from 1.
    pub seq: u64,
    /// When, in milliseconds since 1970 by the master's clock.
    pub time_ms: i64,
    /// Whose session did it.
    pub account: String,
    /// What was done.
    pub op: Operation,
    /// To what.
    pub path: VolumePath,
    /// The new name of a rename or link; the text of a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<VolumePath>,
    /// The object, by its inode number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// Its length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its modification time in nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime_ns: Option<i64>,
    /// When the file system last changed it, in nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctime_ns: Option<i64>,
    /// Its mode as in `st_mode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// BLAKE3 of its content, 64 hexadecimal digits; none where it is not known, or not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// A path relative to the volume, as bytes. Its text has `%XX` for `%` and for every byte that is not printable ASCII,
/// so a record stays one line and names that are not UTF-8 survive. Every path has exactly one text.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumePath(pub Vec<u8>);

impl std::fmt::Display for VolumePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|&byte| match byte {
            b'%' => f.write_str("%25"),
            b' '..=b'~' => f.write_char(char::from(byte)),
            _ => write!(f, "%{byte:02X}"),
        })
    }
}

/// A text that no path has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAPath;

impl std::fmt::Display for NotAPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a path is written in printable ASCII, with %XX for % and for every other byte")
    }
}

impl std::error::Error for NotAPath {}

impl FromStr for VolumePath {
    type Err = NotAPath;

    fn from_str(text: &str) -> Result<VolumePath, NotAPath> {
        let mut path = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&first, behind)) = rest.split_first() {
            let (byte, behind) = match first {
                b'%' => escaped(behind).ok_or(NotAPath)?,
                plain => (plain, behind),
            };
            path.push(byte);
            rest = behind;
        }
        let path = VolumePath(path);
        // One text for one path: `%41` for `A`, small digits and raw bytes are all refused here.
        if path.to_string() == text { Ok(path) } else { Err(NotAPath) }
    }
}

/// The byte that two digits stand for, and what is behind them.
fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, behind) = text.split_at_checked(2)?;
    let digits = std::str::from_utf8(digits).ok()?;
    Some((u8::from_str_radix(digits, 16).ok()?, behind))
}

impl Serialize for VolumePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VolumePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<VolumePath, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_operation_has_one_name_everywhere() {
        for (operation, name) in Operation::NAMES {
            assert_eq!(operation.name(), name);
            assert_eq!(Operation::from_name(name), Some(operation));
            assert_eq!(serde_json::to_string(&operation).unwrap(), format!("\"{name}\""));
        }
        assert_eq!(Operation::from_name("Put"), None);
    }

    #[test]
    fn a_path_is_readable_where_it_can_be_and_escaped_where_not() {
        let path = VolumePath(b"alice/100% \xff\n\xc3\xa9\"".to_vec());
        assert_eq!(path.to_string(), "alice/100%25 %FF%0A%C3%A9\"");
    }

    #[test]
    fn a_text_that_is_not_the_one_of_its_path_is_refused() {
        for text in ["%", "%4", "%41", "%ff", "%+1", "100%", "a\nb", "\u{e9}", "%\u{e9}"] {
            assert_eq!(text.parse::<VolumePath>(), Err(NotAPath), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_path_reads_back_from_its_text(bytes: Vec<u8>) {
            let path = VolumePath(bytes);
            let text = path.to_string();
            prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert_eq!(text.parse::<VolumePath>().unwrap(), path);
        }

        #[test]
        fn every_record_reads_back_from_one_line(
            numbers: (u64, i64, Option<u64>, Option<u64>, Option<i64>, Option<i64>, Option<u32>),
            texts: (String, Vec<u8>, Option<Vec<u8>>, Option<String>),
        ) {
            let (seq, time_ms, inode, size, mtime_ns, ctime_ns, mode) = numbers;
            let (account, path, target, hash) = texts;
            let (path, target) = (VolumePath(path), target.map(VolumePath));
            let op = Operation::Rename;
            let record =
                Record { seq, time_ms, account, op, path, target, inode, size, mtime_ns, ctime_ns, mode, hash };
            let line = serde_json::to_string(&record).unwrap();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
        }
    }
}
