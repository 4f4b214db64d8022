//! What is written of a thing that was set aside, and how its files are called: `7` is the thing, `7.json` says what it was, `7.restored`,
//! `7.kept` and `7.wanted` what has become of it.
//!
//! Always holds: an entry is never rewritten. What becomes of it is told by files beside it, so that either machine can say it. Nothing here
//! touches a disk or a wire.

use std::collections::BTreeMap;

use pair::record::VolumePath;
use serde::{Deserialize, Serialize};

/// What kind of thing was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A file.
    File,
    /// A folder. Only that there was one is kept: what is in it has entries of its own.
    Folder,
    /// A symbolic link.
    Link,
}

impl EntryKind {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            EntryKind::File => "file",
            EntryKind::Folder => "folder",
            EntryKind::Link => "link",
        }
    }
}

/// Something that only a machine had which came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, from 1 on. A folder has a lower one than what is in it.
    pub number: u64,
    /// The epoch of the master that had it.
    pub epoch: String,
    /// The epoch that began with all of that master's earlier changes, and so has nothing newer at the path unless its own journal says
    /// so; none where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<String>,
    /// Where it was.
    pub path: VolumePath,
    /// What it is.
    pub kind: EntryKind,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last changed, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Its mode as in `st_mode`.
    pub mode: u32,
    /// BLAKE3 of its content, 64 hexadecimal digits; none where nobody has computed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Who did that, by the journal; empty where it does not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// The last change of it in the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When that was, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<i64>,
    /// What the link says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<VolumePath>,
}

/// Under which path a person wants a thing back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The path.
    pub path: VolumePath,
    /// Whether what has it is replaced.
    pub replace: bool,
}

/// What has become of a thing that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing yet: the master is offered it.
    Offered,
    /// A person wants it back.
    Wanted(Wanted),
    /// The master has it.
    Restored,
    /// The master has not taken it, for this reason.
    Kept(String),
}

/// A file that says what has become of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The master has it.
    Restored,
    /// The master has not taken it.
    Kept,
    /// A person wants it back.
    Wanted,
}

impl Mark {
    /// All of them, the one that counts before the others first.
    pub const ALL: [Mark; 3] = [Mark::Restored, Mark::Kept, Mark::Wanted];

    fn end(self) -> &'static str {
        match self {
            Mark::Restored => "restored",
            Mark::Kept => "kept",
            Mark::Wanted => "wanted",
        }
    }

    /// The file's name.
    pub fn name(self, number: u64) -> String {
        format!("{number}.{}", self.end())
    }
}

/// The name of what says what a thing was.
pub fn entry_name(number: u64) -> String {
    format!("{number}.json")
}

/// The same while it is being written.
pub(in crate::storage) fn new_name(number: u64) -> String {
    format!("{number}.new")
}

/// The name of the thing itself.
pub fn content_name(number: u64) -> String {
    number.to_string()
}

/// The files of one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The thing.
    pub content: bool,
    /// What says what it was.
    pub entry: bool,
    /// The same, half written.
    pub new: bool,
    /// [`Mark::Restored`].
    pub restored: bool,
    /// [`Mark::Kept`].
    pub kept: bool,
    /// [`Mark::Wanted`].
    pub wanted: bool,
}

impl Parts {
    /// Whether the master is to say something to it: it is offered or wanted.
    pub fn is_open(&self) -> bool {
        self.entry && !self.restored && !self.kept
    }

    /// The mark that counts.
    pub fn mark(&self) -> Option<Mark> {
        let has = |mark: &Mark| match mark {
            Mark::Restored => self.restored,
            Mark::Kept => self.kept,
            Mark::Wanted => self.wanted,
        };
        Mark::ALL.into_iter().find(has)
    }
}

/// What there is of each number, by the names in a folder. Names of another form are nobody's.
pub fn parts_of<'a>(names: impl Iterator<Item = &'a [u8]>) -> BTreeMap<u64, Parts> {
    let mut found: BTreeMap<u64, Parts> = BTreeMap::new();
    for name in names {
        let Ok(text) = std::str::from_utf8(name) else { continue };
        let (number, end) = text.split_once('.').unwrap_or((text, ""));
        let Some(number) = number.parse().ok().filter(|parsed: &u64| parsed.to_string() == number) else { continue };
        let is_content = !text.contains('.');
        if !is_content && !["json", "new", "restored", "kept", "wanted"].contains(&end) {
            continue;
        }
        let parts = found.entry(number).or_default();
        match end {
            "json" => parts.entry = true,
            "new" => parts.new = true,
            "restored" => parts.restored = true,
            "kept" => parts.kept = true,
            "wanted" => parts.wanted = true,
            _ => parts.content = true,
        }
    }
    found
}

/// Whether a name is that of an epoch's folder.
pub fn is_epoch(name: &[u8]) -> bool {
    name.len() == 16 && name.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_number_are_told_by_their_names() {
        let names: [&[u8]; 11] = [
            b"1",
            b"1.json",
            b"2.json",
            b"2.kept",
            b"2.wanted",
            b"07",
            b"3.txt",
            b"\xff",
            b"4.new",
            b"5.",
            b"1.json.x",
        ];
        let parts = parts_of(names.into_iter());
        assert_eq!(parts.keys().copied().collect::<Vec<_>>(), [1, 2, 4]);
        assert!(parts[&1].is_open() && parts[&1].content && parts[&1].mark().is_none());
        assert!(!parts[&2].is_open() && parts[&2].mark() == Some(Mark::Kept));
        assert!(!parts[&4].is_open());
        for mark in Mark::ALL {
            let name = mark.name(9);
            assert_eq!(parts_of([name.as_bytes()].into_iter())[&9].mark(), Some(mark));
        }
    }

    #[test]
    fn an_epochs_folder_is_known_by_its_name() {
        assert!(is_epoch(b"0123456789abcdef"));
        for name in [&b"0123456789abcde"[..], b"0123456789ABCDEF", b"..", b"0123456789abcde/"] {
            assert!(!is_epoch(name));
        }
    }
}
