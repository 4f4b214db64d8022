//! Which files are meant: by a pattern of names, and by the day on which they were changed last. Pure.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// The longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 500;

/// Which files are meant; at first, all.
#[derive(Clone, Debug, Default)]
pub struct Sieve {
    names: Option<Names>,
    /// Changed at this second since 1970 or later.
    pub from_s: Option<i64>,
    /// Changed before this second since 1970.
    pub to_s: Option<i64>,
}

#[derive(Clone, Debug)]
struct Names {
    pattern: GlobSet,
    /// Whether it is for the whole path, not for the name alone.
    is_for_path: bool,
}

impl Sieve {
    /// Files with such names: `*.log`, `var/**/syslog*`, or a part of the name. Capitals make no difference.
    ///
    /// # Errors
    /// What is wrong with the pattern, in a sentence.
    pub fn of_names(pattern: &str) -> Result<Sieve, String> {
        let pattern = pattern.trim().trim_start_matches('/');
        if pattern.is_empty() {
            return Ok(Sieve::default());
        }
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(format!("The pattern of names is too long: it may have {PATTERN_BYTES_MAX} bytes."));
        }
        let is_for_path = pattern.contains('/');
        let has_wildcard = pattern.contains(['*', '?', '[', '{']);
        let whole = if has_wildcard || is_for_path { pattern.to_owned() } else { format!("*{pattern}*") };
        let wrong = |why: &str| format!("This is no pattern of names: {why}.");
        let built = GlobBuilder::new(&whole).literal_separator(true).case_insensitive(true).build();
        let glob = built.map_err(|error| wrong(&error.kind().to_string()))?;
        // A set of one: unlike a matcher alone, it does not panic where the pattern becomes too large.
        let built = GlobSetBuilder::new().add(glob).build();
        let pattern = built.map_err(|_| wrong("it is too large, or its braces stand too deep in each other"))?;
        Ok(Sieve { names: Some(Names { pattern, is_for_path }), ..Sieve::default() })
    }

    /// Whether every file is meant.
    pub fn is_open(&self) -> bool {
        self.names.is_none() && self.from_s.is_none() && self.to_s.is_none()
    }

    /// Whether a file is meant: its path in the agent's folder, and when it was changed.
    pub fn takes(&self, path: &[u8], modified_s: i64) -> bool {
        let is_in_time =
            self.from_s.is_none_or(|from_s| modified_s >= from_s) && self.to_s.is_none_or(|to_s| modified_s < to_s);
        let is_named = |names: &Names| {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
            names.pattern.is_match(Path::new(OsStr::from_bytes(if names.is_for_path { path } else { name })))
        };
        is_in_time && self.names.as_ref().is_none_or(is_named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_meant_by_pattern_by_part_and_by_path() {
        let cases: [(&str, &[&str], &[&str]); 5] = [
            ("*.log", &["a.log", "var/A.LOG"], &["a.log.1", "log"]),
            ("syslog", &["var/syslog", "syslog.1.gz", "my-SysLog"], &["syslog/x", "sys"]),
            ("var/*/x", &["var/a/x"], &["var/a/b/x", "x", "a/var/b/x"]),
            ("**/x?", &["x1", "a/b/x2"], &["x", "a/x11"]),
            ("{a,b}[0-9]", &["a1", "q/b9"], &["c1", "a1x"]),
        ];
        for (pattern, taken, left) in cases {
            let sieve = Sieve::of_names(pattern).unwrap();
            assert!(taken.iter().all(|path| sieve.takes(path.as_bytes(), 0)), "{pattern}");
            assert!(!left.iter().any(|path| sieve.takes(path.as_bytes(), 0)), "{pattern}");
        }
        assert!(Sieve::of_names("*.log").unwrap().takes(b"\xff\xfe.log", 0), "names are bytes");
        assert!(Sieve::of_names("  ").unwrap().is_open());
    }

    #[test]
    fn a_day_begins_and_ends_at_its_seconds() {
        let sieve = Sieve { from_s: Some(100), to_s: Some(200), ..Sieve::default() };
        assert_eq!([99, 100, 199, 200].map(|at_s| sieve.takes(b"x", at_s)), [false, true, true, false]);
    }

    #[test]
    fn a_wrong_pattern_is_a_sentence() {
        for wrong in ["[", "{a", "a{b,{c}", &"x".repeat(501)] {
            assert!(Sieve::of_names(wrong).unwrap_err().contains("pattern of names"), "{wrong}");
        }
        let deep = "{a".repeat(126) + &"}".repeat(126);
        assert!(Sieve::of_names(&deep).unwrap_err().contains("no pattern of names: it is too large"));
    }
}
