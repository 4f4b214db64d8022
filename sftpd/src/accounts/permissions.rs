//! What an account may do in which of its folders.
//!
//! A path has the right that its deepest folder in the list gives; what no folder in the list holds has all rights. Paths
//! here are real ones, as the kernel has resolved them: links and dots never decide.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::pending;

/// Folders with rights of their own that an account can have.
pub const FOLDERS_MAX: usize = 100;

/// What may be done in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Nothing, not even look.
    None,
    /// Look and read.
    Read,
    /// Look, and add what is not there.
    Upload,
    /// Everything.
    Full,
}

impl Right {
    /// All, with their words in users.yaml.
    pub const WORDS: [(&'static str, Right); 4] =
        [("none", Right::None), ("read", Right::Read), ("upload", Right::Upload), ("full", Right::Full)];

    /// The right of a word.
    pub fn from_word(word: &str) -> Option<Right> {
        Right::WORDS.iter().find(|(known, _)| *known == word).map(|(_, right)| *right)
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        Right::WORDS.iter().find(|(_, right)| *right == self).map_or("", |(word, _)| word)
    }
}

/// Rights by folder: absolute paths without dots or a slash at the end; `/` is the account's whole folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Permissions(pub BTreeMap<String, Right>);

impl Permissions {
    /// Whether there are none, so that everything may be done everywhere.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The right at a real path.
    pub fn at(&self, path: &[u8]) -> Right {
        let holding = self.0.iter().filter(|(folder, _)| is_in(path, folder.as_bytes()));
        holding.max_by_key(|(folder, _)| folder.len()).map_or(Right::Full, |(_, right)| *right)
    }

    /// Whether a path is a folder of the list or leads to one: under another name it would have other rights.
    pub fn rest_on(&self, path: &[u8]) -> bool {
        self.0.keys().any(|folder| is_in(folder.as_bytes(), path))
    }

    /// Whether a folder that is closed itself leads to one that is not.
    pub fn leads_on(&self, path: &[u8]) -> bool {
        self.0.iter().any(|(folder, right)| *right != Right::None && is_in(folder.as_bytes(), path))
    }

    /// The names that are shown in a folder: of a closed one only those that lead to open ones. `None`: all.
    pub fn names_shown(&self, path: &[u8]) -> Option<BTreeSet<Vec<u8>>> {
        if self.at(path) != Right::None {
            return None;
        }
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let open = self.0.iter().filter(|(_, right)| **right != Right::None);
        let below = open.filter_map(|(folder, _)| folder.as_bytes().strip_prefix(path)?.strip_prefix(b"/"));
        let names = below.filter_map(|rest| rest.split(|byte| *byte == b'/').next());
        Some(names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
    }

    /// Whether anything may only be added to anywhere.
    pub fn have_drop_boxes(&self) -> bool {
        self.0.values().any(|right| *right == Right::Upload)
    }
}

fn is_in(path: &[u8], folder: &[u8]) -> bool {
    pending::is_in(path, folder.strip_suffix(b"/").unwrap_or(folder))
}

/// A path of the list in its plain form; `None` where it is none that a folder can have.
pub fn plain_folder(text: &str) -> Option<String> {
    let components = text.strip_prefix('/')?.trim_end_matches('/');
    if components.is_empty() {
        return (text == "/").then(|| text.to_owned());
    }
    let is_name = |name: &str| !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains('\0');
    (text.len() < 4096 && components.split('/').all(is_name)).then(|| format!("/{components}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(rights: &[(&str, Right)]) -> Permissions {
        Permissions(rights.iter().map(|(folder, right)| ((*folder).to_owned(), *right)).collect())
    }

    #[test]
    fn the_deepest_folder_decides() {
        let some =
            permissions(&[("/", Right::Read), ("/in", Right::Upload), ("/in/deep", Right::None), ("/é", Right::Full)]);
        let cases = [
            ("/", Right::Read),
            ("/file", Right::Read),
            ("/in", Right::Upload),
            ("/in/file", Right::Upload),
            ("/inbox", Right::Read),
            ("/in/deep", Right::None),
            ("/in/deep/er", Right::None),
            ("/in/deeper", Right::Upload),
            ("/é/x", Right::Full),
        ];
        for (path, right) in cases {
            assert_eq!(some.at(path.as_bytes()), right, "{path}");
        }
        assert_eq!(permissions(&[("/a", Right::None)]).at(b"/b"), Right::Full);
        assert_eq!(Permissions::default().at(b"/"), Right::Full);
    }

    #[test]
    fn what_leads_to_a_folder_of_the_list_bears_its_rights() {
        let some = permissions(&[("/a/b", Right::Read)]);
        assert!(some.rest_on(b"/a") && some.rest_on(b"/a/b") && some.rest_on(b"/"));
        assert!(!some.rest_on(b"/a/b/c") && !some.rest_on(b"/ab") && !some.rest_on(b"/a/bc"));
    }

    #[test]
    fn a_closed_folder_shows_only_the_way_to_open_ones() {
        let some = permissions(&[("/", Right::None), ("/a/b", Right::Read), ("/c", Right::None), ("/d", Right::Full)]);
        let shown = |path: &str| some.names_shown(path.as_bytes());
        let names = |names: &[&str]| Some(names.iter().map(|name| name.as_bytes().to_vec()).collect::<BTreeSet<_>>());
        assert_eq!(
            (shown("/"), shown("/a"), shown("/c"), shown("/d")),
            (names(&["a", "d"]), names(&["b"]), names(&[]), None)
        );
        assert!(some.leads_on(b"/") && some.leads_on(b"/a") && !some.leads_on(b"/c") && !some.leads_on(b"/x"));
    }

    #[test]
    fn folders_are_written_from_the_root_on_and_without_dots() {
        let cases = [
            ("/", Some("/")),
            ("/a", Some("/a")),
            ("/a b/ü/", Some("/a b/ü")),
            ("a", None),
            ("", None),
            ("//", None),
            ("/a//b", None),
            ("/../a", None),
            ("/a/.", None),
            ("/a\0", None),
        ];
        for (text, expected) in cases {
            assert_eq!(plain_folder(text).as_deref(), expected, "{text:?}");
        }
    }
}
