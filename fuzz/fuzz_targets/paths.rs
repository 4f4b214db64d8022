//! Paths, in a folder with links of all kinds.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sftpd::fuzzing::Tree;

static TREE: LazyLock<(Tree, tempfile::TempDir)> = LazyLock::new(|| {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder");
    (Tree::make(folder.path()), folder)
});

fuzz_target!(|path: &[u8]| TREE.0.path(path));
