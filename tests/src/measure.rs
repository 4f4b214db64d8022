//! What the benches share: files to send, a pass of filesync by the clock, and the middle of what was measured.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::{Mirror, within};

/// A pass that takes longer is stuck.
const PASS_MAX: Duration = Duration::from_secs(3600);

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

/// The same small files in each of some folders, so and so many in a folder of theirs, with the same times.
pub fn make_equal_trees(trees: &[PathBuf], files: usize, files_per_folder: usize) {
    for number in 0..files {
        for tree in trees {
            let inside = tree.join(format!("d{}", number / files_per_folder));
            if number % files_per_folder == 0 {
                std::fs::create_dir_all(&inside).expect("a folder");
            }
            let file = std::fs::File::create(inside.join(format!("file-{number:08}.dat"))).expect("a file");
            std::io::Write::write_all(&mut &file, format!("content of file {number}\n").as_bytes())
                .expect("its content");
            let time = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number as u64);
            file.set_modified(time).expect("its time");
        }
    }
}

/// Seconds from the start of filesync to the end of its first pass, and the most memory it had by then, in bytes. It is stopped afterwards.
pub fn timed_pass(mirror: &mut Mirror) -> (f64, f64) {
    let began = Instant::now();
    mirror.start();
    within(PASS_MAX, "a pass", || mirror.metric("filesync_passes") >= 1.0);
    let seconds = began.elapsed().as_secs_f64();
    let peak_bytes = (mirror.program().peak_memory_kib() * 1024) as f64;
    assert!(mirror.page("/readyz").0 == 200, "{}", mirror.page("/readyz").1);
    mirror.stop();
    (seconds, peak_bytes)
}

/// Those parts of a bench that the arguments name; all where there are none. A name that is none of them ends the program.
pub fn wanted<T>(parts: impl IntoIterator<Item = T>, name: impl Fn(&T) -> &str) -> Vec<T> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let parts: Vec<T> = parts.into_iter().collect();
    let unknown = words.iter().find(|word| !parts.iter().any(|part| name(part) == *word));
    assert!(unknown.is_none(), "no part is called {unknown:?}");
    parts.into_iter().filter(|part| words.is_empty() || words.iter().any(|word| word == name(part))).collect()
}

/// The middle value.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
