//! Looks at the folders: which files are there, and since when they have been as they are.
//!
//! Always holds: links are not followed, and no other file system is entered; what cannot be seen is named and never taken for gone. How
//! long a file is at rest is measured on the monotonic clock, from look to look: no clock that jumps, and no time in a file, counts.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use super::folders::Selection;
use super::sight::{Sight, Stamp};
use crate::listing::Walk;
use crate::source::Source;
use crate::tree::{Kind, Path};

/// What a look at all folders has shown.
#[derive(Debug, Default)]
pub struct Survey {
    /// The files.
    pub sights: Vec<Sight>,
    /// Folders of the settings that were seen whole.
    pub whole: HashSet<usize>,
    /// What could not be seen, and why.
    pub problems: Vec<(String, String)>,
}

/// Looks at all folders. Blocks.
pub fn look(selections: &[Selection]) -> Survey {
    let mut survey = Survey::default();
    for (folder, selection) in selections.iter().enumerate() {
        let shown = selection.root.display().to_string();
        let source = match Source::open(&selection.root) {
            Ok(source) => source,
            Err(error) => {
                survey.problems.push((shown, format!("{:#}: nothing of it is forgotten meanwhile", error)));
                continue;
            }
        };
        let mut walk = Walk::new(&source);
        for (path, entry) in walk.by_ref() {
            if entry.kind == Kind::File && selection.holds(&path) {
                survey.sights.push(Sight { folder, path, stamp: Stamp::of(&entry), mode: entry.mode });
            }
        }
        if walk.unseen.blind.is_empty() {
            survey.whole.insert(folder);
        }
        for problem in walk.unseen.problems.iter().filter(|problem| walk.unseen.blind.contains(&problem.path)) {
            let path = selection.root.join(OsStr::from_bytes(&problem.path));
            survey.problems.push((path.display().to_string(), problem.sentence.clone()));
        }
    }
    survey
}

/// Since when each file has been as it is.
#[derive(Debug, Default)]
pub struct Rest(HashMap<(usize, Path), Since>);

#[derive(Debug)]
struct Since {
    stamp: Stamp,
    /// When it was first seen so.
    unchanged: Instant,
    /// When it was first seen at all.
    met: Instant,
    /// Whether the last look has seen it.
    is_seen: bool,
}

impl Rest {
    /// Takes down a look.
    pub fn note(&mut self, sights: &[Sight], now: Instant) {
        self.0.values_mut().for_each(|since| since.is_seen = false);
        for Sight { folder, path, stamp, .. } in sights {
            let new = || Since { stamp: *stamp, unchanged: now, met: now, is_seen: true };
            let since = self.0.entry((*folder, path.clone())).or_insert_with(new);
            since.is_seen = true;
            if since.stamp != *stamp {
                (since.stamp, since.unchanged) = (*stamp, now);
            }
        }
        self.0.retain(|_, since| since.is_seen);
    }

    /// Whether a file has not changed for so long, and whether it was met for the first time within it.
    pub fn is_quiet_or_young(&self, sight: &Sight, quiet: Duration, now: Instant) -> (bool, bool) {
        let since = self.0.get(&(sight.folder, sight.path.clone()));
        since.map_or((false, true), |since| {
            let span = |from: Instant| now.saturating_duration_since(from);
            (span(since.unchanged) >= quiet, span(since.met) < quiet)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::archive::config::Config;
    use crate::archive::folders::Folder;

    fn selections(folders: Vec<Folder>) -> Vec<Selection> {
        Config { folders, ..Config::default() }.selections().unwrap()
    }

    #[test]
    fn files_are_met_and_links_pipes_and_what_no_pattern_names_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("logs");
        std::fs::create_dir_all(root.join("deep")).unwrap();
        std::fs::write(root.join("a.log"), "a").unwrap();
        std::fs::write(root.join("deep").join(OsStr::from_bytes(b"\xff.log")), "b").unwrap();
        std::fs::write(root.join("a.log.swp"), "no").unwrap();
        symlink("a.log", root.join("link.log")).unwrap();
        symlink("deep", root.join("folder")).unwrap();
        std::fs::hard_link(root.join("a.log"), root.join("b.log")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let survey = look(&selections(vec![Folder::at(&root), Folder::at("/nowhere/at/all")]));
        let paths: Vec<&[u8]> = survey.sights.iter().map(|sight| sight.path.as_slice()).collect();
        assert_eq!(paths, [&b"a.log"[..], b"b.log", b"deep/\xff.log"]);
        assert!(survey.sights[0].stamp.is_same_file(&survey.sights[1].stamp));
        assert_eq!(survey.whole, [0].into());
        assert!(survey.problems.len() == 1 && survey.problems[0].1.contains("nothing of it is forgotten"));
    }

    #[test]
    fn a_file_is_at_rest_when_it_was_seen_so_for_long_enough_whatever_its_time_says() {
        let (quiet, began) = (Duration::from_secs(60), Instant::now());
        let mut rest = Rest::default();
        let sight = |size, mtime_ns| Sight {
            folder: 0,
            path: b"x".to_vec(),
            stamp: Stamp { ino: 1, size, mtime_ns, ..Stamp::default() },
            mode: 0o644,
        };
        let at = |seconds| began + Duration::from_secs(seconds);
        for mtime_ns in [0, i64::MAX] {
            rest.note(&[sight(1, mtime_ns)], at(0));
            assert_eq!(rest.is_quiet_or_young(&sight(1, mtime_ns), quiet, at(59)), (false, true));
            rest.note(&[sight(1, mtime_ns)], at(60));
            assert_eq!(rest.is_quiet_or_young(&sight(1, mtime_ns), quiet, at(60)), (true, false));
            // The clock went back, and the file was written to.
            rest.note(&[sight(1, mtime_ns - 5)], at(61));
            assert_eq!(rest.is_quiet_or_young(&sight(1, mtime_ns - 5), quiet, at(70)), (false, false));
            rest.note(&[], at(71));
            assert_eq!(rest.is_quiet_or_young(&sight(1, mtime_ns), quiet, at(200)), (false, true));
        }
    }
}
