//! Which files are shipped: folders, name patterns, and what each folder says otherwise. Pure, but for reading no disk.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use pair::exit::usage;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_yaml::Value;

use super::config::{Config, Packing};

/// A span after which something is done, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age(pub Option<Duration>);

impl Age {
    /// Never.
    pub const NEVER: Age = Age(None);
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Age, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_age(text.trim()).ok_or_else(|| D::Error::custom(format!("\"{text}\": write never, or an age: 7d, 12h")))
    }
}

fn parse_age(text: &str) -> Option<Age> {
    if text == "never" {
        return Some(Age::NEVER);
    }
    if let Some(days) = text.strip_suffix('d') {
        let seconds = days.trim().parse::<u64>().ok()?.checked_mul(86_400)?;
        return Some(Age(Some(Duration::from_secs(seconds))));
    }
    text.parse::<pair::config::Interval>().ok().map(|span| Age(Some(span.get())))
}

/// A folder in the settings: its path alone, or with what it says otherwise.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// What it is called in the archive; its own name where nothing is said.
    #[serde(default, rename = "as")]
    pub name: Option<String>,
    /// As the settings of the same name.
    #[serde(default, deserialize_with = "some_list")]
    pub patterns: Option<Vec<String>>,
    /// As the settings of the same name.
    #[serde(default, deserialize_with = "some_list")]
    pub exclude: Option<Vec<String>>,
    /// As the settings of the same name.
    #[serde(default)]
    pub tail: Option<bool>,
    /// As the settings of the same name.
    #[serde(default)]
    pub compress: Option<Packing>,
    /// As the settings of the same name.
    #[serde(default)]
    pub remove_after_upload: Option<Age>,
}

fn some_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    pair::config::list(deserializer).map(Some)
}

/// Folders in the settings: a list of paths and of maps, or one text with commas.
pub fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Folder>, D::Error> {
    let values = match Value::deserialize(deserializer)? {
        Value::Null => Vec::new(),
        Value::String(text) => {
            return Ok(text.split(',').map(str::trim).filter(|path| !path.is_empty()).map(Folder::at).collect());
        }
        Value::Sequence(values) => values,
        _ => return Err(D::Error::custom("folders is a list: of paths, or of maps with `path`")),
    };
    let folder = |value| match value {
        Value::String(path) => Ok(Folder::at(&path)),
        value => serde_yaml::from_value(value).map_err(D::Error::custom),
    };
    values.into_iter().map(folder).collect()
}

/// Which files of a folder are shipped, and how.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Where it is.
    pub root: PathBuf,
    /// What it is called in the archive.
    pub name: String,
    /// Whether files are shipped as they grow.
    pub tail: bool,
    /// How they are packed; growing files never are.
    pub packing: Packing,
    /// After which age files that have arrived are removed here.
    pub removal: Age,
    names: Globs,
    not: Globs,
}

/// Patterns for names, and patterns with slashes for paths.
#[derive(Clone, Debug)]
struct Globs {
    names: GlobSet,
    paths: GlobSet,
}

impl Globs {
    fn new(key: &str, patterns: &[String]) -> anyhow::Result<Globs> {
        let refused = |pattern: &str, error: &dyn std::fmt::Display| usage(format!("{key}: {pattern}: {error}"));
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let glob: Glob = GlobBuilder::new(pattern)
                .literal_separator(true)
                .build()
                .map_err(|error| refused(pattern, &error.kind()))?;
            if pattern.contains('/') {
                paths.add(glob)
            } else {
                names.add(glob)
            };
        }
        let build = |set: GlobSetBuilder| set.build().map_err(|error| refused("all together", &error));
        Ok(Globs { names: build(names)?, paths: build(paths)? })
    }

    fn hold(&self, path: &[u8]) -> bool {
        self.names.is_match(OsStr::from_bytes(crate::tree::name(path))) || self.paths.is_match(OsStr::from_bytes(path))
    }
}

impl Folder {
    /// A folder by its path.
    pub fn at(path: impl AsRef<Path>) -> Folder {
        let path = path.as_ref().to_owned();
        Folder {
            path,
            name: None,
            patterns: None,
            exclude: None,
            tail: None,
            compress: None,
            remove_after_upload: None,
        }
    }

    /// What is shipped from it.
    ///
    /// # Errors
    /// What is wrong, with what to write.
    pub fn selection(&self, config: &Config) -> anyhow::Result<Selection> {
        let shown = self.path.display();
        if !self.path.is_absolute() {
            return Err(usage(format!("folders: {shown}: write the whole path, from / on")));
        }
        let own = self.path.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some(name) = self.name.clone().or(own) else {
            return Err(usage(format!("folders: {shown} has no name: say what it is called in the archive by `as`")));
        };
        let is_wrong = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains(char::is_control);
        if name.split('/').any(is_wrong) || self.path.components().any(|part| part == std::path::Component::ParentDir) {
            return Err(usage(format!("folders: {shown}: no folder of the archive can be called {name:?}: use `as`")));
        }
        let tail = self.tail.unwrap_or(config.tail);
        let asked = self.compress.unwrap_or(config.compress);
        if tail && self.tail.is_some() && self.compress.is_some_and(|packing| packing != Packing::None) {
            return Err(usage(format!(
                "folders: {shown}: growing files are not packed: leave out `tail` or `compress`"
            )));
        }
        let patterns = self.patterns.as_ref().unwrap_or(&config.patterns);
        let exclude = self.exclude.as_ref().unwrap_or(&config.exclude);
        Ok(Selection {
            root: self.path.components().collect(),
            name,
            tail,
            packing: if tail { Packing::None } else { asked },
            removal: self.remove_after_upload.unwrap_or(config.remove_after_upload),
            names: Globs::new("patterns", patterns)?,
            not: Globs::new("exclude", exclude)?,
        })
    }
}

impl Selection {
    /// Whether a file is shipped, by its path below the folder.
    pub fn holds(&self, path: &[u8]) -> bool {
        self.names.hold(path) && !self.not.hold(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(patterns: &[&str]) -> Selection {
        let patterns = patterns.iter().map(|text| (*text).to_owned()).collect();
        Folder::at("/var/log/app").selection(&Config { patterns, ..Config::default() }).unwrap()
    }

    #[test]
    fn a_pattern_without_a_slash_is_for_names_and_one_with_it_for_paths() {
        let names = selection(&["*.log", "*.log.*"]);
        for (path, expected) in [
            (&b"a.log"[..], true),
            (b"deep/er/a.log.1", true),
            (b"a.txt", false),
            (b".a.log", false),
            (b"not utf-8 \xff.log", true),
            (b"a.log.swp", false),
        ] {
            assert_eq!(names.holds(path), expected, "{}", String::from_utf8_lossy(path));
        }
        let paths = selection(&["web/**/*.log"]);
        assert!(paths.holds(b"web/a/b.log") && !paths.holds(b"db/b.log") && !paths.holds(b"b.log"));
    }

    #[test]
    fn folders_are_paths_or_maps() {
        let config: Config =
            serde_yaml::from_str("folders: [/a, {path: /b/c, as: other, tail: true}]\ncompress: zstd\n").unwrap();
        let selections = config.selections().unwrap();
        assert_eq!((selections[0].name.as_str(), selections[0].packing), ("a", Packing::Zstd));
        assert_eq!((selections[1].name.as_str(), selections[1].packing), ("other", Packing::None));
        let config: Config = serde_yaml::from_str("folders: /a, /b").unwrap();
        assert_eq!(config.folders, [Folder::at("/a"), Folder::at("/b")]);
        for wrong in ["folders: [relative]", "folders: [/]", "folders: [{path: /a, as: ../x}]", "folders: [/a/../b]"] {
            let config: Config = serde_yaml::from_str(wrong).unwrap();
            assert!(config.selections().is_err(), "{wrong}");
        }
    }

    #[test]
    fn ages_have_days() {
        let seconds = |text: &str| parse_age(text).map(|age| age.0.map(|span| span.as_secs()));
        assert_eq!(seconds("never"), Some(None));
        assert_eq!(seconds("7d"), Some(Some(7 * 86_400)));
        assert_eq!(seconds("12h"), Some(Some(12 * 3600)));
        assert_eq!((seconds("soon"), seconds("")), (None, None));
    }
}
