//! Power cuts on a real ext4: a disk that logs what reaches it, a load on it, and every state in which it may be left.
//!
//! The disk is one file of a FUSE file system in this process, mounted through a loop device. So its log is what a disk
//! with a volatile cache sees: writes, and flushes. What was written since the last flush may be lost, in any mixture.
//! It needs root, /dev/fuse and loop devices, and says so where they are missing.

mod crash;
mod disk;
mod mount;
mod recovered;
mod story;

pub use crash::{Cut, cuts};
pub use disk::{Event, LoggedDisk};
pub use mount::{Mounted, Workplace, format, missing};
pub use recovered::{check_journal, examine, examine_disk};
pub use story::{Story, run_load};
