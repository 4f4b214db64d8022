//! What the benches share: files to send, and the middle of what was measured.

/// Bytes that compress badly, always the same.
pub fn content(bytes: usize) -> Vec<u8> {
    let word = |number: u64| number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    (0..bytes as u64 / 8).flat_map(word).collect()
}

/// A folder beside the build, which is on a disk: one for temporary files may be in memory.
pub fn folder_on_disk(prefix: &str) -> tempfile::TempDir {
    let here = std::env::current_exe().expect("a path").parent().expect("a folder").to_owned();
    tempfile::Builder::new().prefix(prefix).tempdir_in(here).expect("a folder")
}

/// The middle value.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
