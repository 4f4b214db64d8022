//! A wall clock of a machine's own, by libfaketime: its programs take it for the system's, and it can jump while they run. What the kernel notes,
//! such as a file's times, is not moved.

use std::path::PathBuf;

/// The library, where Debian's package puts it.
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

/// One machine's clock.
pub struct Clock {
    file: PathBuf,
}

impl Drop for Clock {
    /// Programs that were killed leave what libfaketime shares with their children.
    fn drop(&mut self) {
        for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            let owner = name.contains("faketime_").then(|| name.rsplit('_').next()).flatten();
            if owner.is_some_and(|owner| !PathBuf::from("/proc").join(owner).exists()) {
                std::fs::remove_file(entry.path()).ok();
            }
        }
    }
}

impl Clock {
    /// A clock that is kept in a file and right.
    pub fn new(file: PathBuf) -> Clock {
        let clock = Clock { file };
        clock.set(0);
        clock
    }

    /// Makes it wrong by so many seconds from now on.
    pub fn set(&self, seconds: i64) {
        let next = self.file.with_extension("next");
        std::fs::write(&next, format!("{seconds:+}\n")).expect("the clock's file");
        std::fs::rename(&next, &self.file).expect("the clock's file");
    }

    /// What a program needs in its environment to go by it.
    pub fn environment(&self) -> [(String, String); 5] {
        let file = self.file.to_str().expect("a plain path");
        let set = [
            ("LD_PRELOAD", LIBRARY),
            ("FAKETIME_TIMESTAMP_FILE", file),
            ("FAKETIME_NO_CACHE", "1"),
            // Time that only goes forward does so after a step of the clock, too.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ];
        set.map(|(key, value)| (key.to_owned(), value.to_owned()))
    }
}
