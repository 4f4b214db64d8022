//! The project's rules about itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

/// Lines of a source file without its tests.
const FILE_LINES_MAX: usize = 400;

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    let mut found = Vec::new();
    let mut folders: Vec<_> = ["pair", "sftpd", "filesync"].map(|program| root.join(program).join("src")).into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => found.push((entry.path(), std::fs::read_to_string(entry.path()).unwrap())),
            }
        }
    }
    assert!(found.len() > 40, "only {} files were found", found.len());
    found
}

fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or(text)
}

#[test]
fn every_file_says_first_what_it_is_and_is_not_too_long() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{} does not open with what it is", path.display());
        let lines = without_tests(&text).lines().count();
        let is_for_tests = path.ends_with("tests.rs");
        assert!(is_for_tests || lines <= FILE_LINES_MAX, "{} has {lines} lines", path.display());
    }
}

#[test]
fn a_program_is_its_library_and_main_is_short() {
    for (path, text) in sources() {
        if path.ends_with("main.rs") {
            assert!(text.lines().count() <= 40, "{}", path.display());
        }
    }
}

#[test]
fn no_file_is_a_drawer() {
    for (path, _) in sources() {
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(!["utils", "util", "common", "helpers", "manager", "misc"].contains(&name), "{}", path.display());
    }
}

#[test]
fn only_storage_touches_the_volume_in_sftpd() {
    for (path, text) in sources() {
        let parts: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
        if !parts.contains(&"sftpd") || parts.contains(&"storage") || path.ends_with("tests.rs") {
            continue;
        }
        let code = without_tests(&text);
        assert!(
            !code.contains("rustix::fs::")
                || code.matches("rustix::fs::").count() == code.matches("use rustix::fs::StatVfs").count(),
            "{}",
            path.display()
        );
        // Settings, seed and state are files of this machine, not of the volume.
        let own_files = ["cli.rs", "feed.rs", "lib.rs", "accounts/mod.rs"].iter().any(|name| path.ends_with(name));
        assert!(own_files || !code.contains("std::fs::"), "{}", path.display());
    }
}

#[test]
fn nothing_unfinished_stays() {
    for (path, text) in sources() {
        for mark in ["todo!(", "unimplemented!(", "FIXME", "XXX"] {
            assert!(!text.contains(mark), "{}: {mark}", path.display());
        }
    }
}
