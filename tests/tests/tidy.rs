//! The project's rules about itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

/// Lines of a source file without its tests.
const FILE_LINES_MAX: usize = 400;

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    let mut found = Vec::new();
    let mut folders: Vec<_> = ["pair", "sftpd", "filesync", "web", "stresstest", "console"]
        .map(|program| root.join(program).join("src"))
        .into();
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
        // Settings, seed and state are files of this machine, not of the volume; so is what the system tells of itself.
        let own_files = [
            "activity/file.rs",
            "cli.rs",
            "local_socket.rs",
            "fuzzing.rs",
            "gateway.rs",
            "lib.rs",
            "operator.rs",
            "accounts/mod.rs",
            "archive/ledger.rs",
            "role/drill.rs",
        ]
        .iter()
        .any(|name| path.ends_with(name));
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

/// Most advisories for russh are on GitHub only, where `cargo deny` does not look: CVE-2023-48795, CVE-2024-43410, CVE-2025-54804,
/// CVE-2026-42189, CVE-2026-46673, CVE-2026-48107, CVE-2026-48108, CVE-2026-48110, CVE-2026-73429, CVE-2026-116794, GHSA-hpv4-5h6f-wqr3,
/// GHSA-g9g7-5cgw-6v28, GHSA-76r6-x97p-67vr, GHSA-4r3c-5hpg-58qr, GHSA-m65r-rprj-r5rg, GHSA-47hw-gvq5-r2gm, GHSA-p8qx-h547-fjw9,
/// GHSA-5xvq-cp9x-6p6r, GHSA-cqjc-rmpq-xprq, GHSA-g9hv-x236-4qp3, GHSA-4p9f-7p9m-5vfg, GHSA-fw5c-8223-6h42. All of them end before this version.
const RUSSH_MIN: (u32, u32) = (0, 65);

#[test]
fn russh_is_pinned_past_the_advisories_that_are_known() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let pinned = manifest.lines().find(|line| line.starts_with("russh = ")).unwrap();
    let version = pinned.split("version = \"=").nth(1).expect("pinned exactly").split('"').next().unwrap();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    assert!(version >= RUSSH_MIN, "{pinned}");
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).unwrap();
    assert_eq!(lock.matches("name = \"russh\"\n").count(), 1, "one russh, and no older one beside it");
}
