//! Mounting, and undoing it in every case: also when a test panics, and what dead runs have left.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::program::{has_program, run};

/// Folders of this harness, followed by the process's id.
const PREFIX: &str = "sftp-ha-power-";
/// In memory: crash states are many and large.
const MEMORY: &str = "/dev/shm";
/// How long a mount may be busy after whatever used it has ended.
const BUSY: Duration = Duration::from_secs(10);

/// What this machine lacks for power cuts, if anything.
pub fn missing() -> Option<String> {
    let paths = ["/dev/fuse", "/dev/loop-control", MEMORY];
    let lacks = |path: &&str| !Path::new(path).exists();
    if let Some(path) = paths.into_iter().find(lacks) {
        return Some(format!("there is no {path}"));
    }
    if !rustix::process::geteuid().is_root() {
        return Some("only root can mount".into());
    }
    if !has_program("mkfs.ext4") {
        return Some("ext4 cannot be made here".into());
    }
    // Containers may have the devices but not the right.
    let workplace = Workplace::new().expect("a folder in memory");
    let image = workplace.folder("probe").join("image");
    std::fs::write(&image, format(8 << 20, &workplace)).expect("an image");
    Mounted::mount(&image, workplace.folder("probed")).err()
}

/// A folder for images and mounts, gone when this is dropped. Declare it before what is mounted in it.
pub struct Workplace(TempDir);

impl Workplace {
    /// Makes it, after sweeping what dead runs have left.
    pub fn new() -> std::io::Result<Workplace> {
        sweep();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        Ok(Workplace(tempfile::Builder::new().prefix(&prefix).tempdir_in(MEMORY)?))
    }

    /// A folder in it.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.0.path().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }
}

/// An ext4 of `bytes` as `mkfs` makes it, with nothing left to be initialised later.
pub fn format(bytes: u64, workplace: &Workplace) -> Vec<u8> {
    let image = workplace.folder("format").join("image");
    std::fs::File::create(&image).and_then(|file| file.set_len(bytes)).expect("an image");
    // The block size of any disk that is larger than this one.
    let options = ["-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"];
    let (status, text) = run(Command::new("mkfs.ext4").args(options).arg(&image));
    assert!(status.success(), "mkfs.ext4: {text}");
    let formatted = std::fs::read(&image).expect("the image");
    std::fs::remove_file(image).expect("the image can go");
    formatted
}

/// An ext4 that is mounted by way of a loop device.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts an image with the options that everybody has. The error is the sentence of `mount`.
    pub fn mount(image: &Path, folder: PathBuf) -> Result<Mounted, String> {
        let (status, text) = run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).args([image, &folder]));
        match status.success() {
            true => Ok(Mounted(folder)),
            false => Err(text.trim().to_owned()),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A folder on it.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.0.join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    /// Makes durable what is on it.
    pub fn flush(&self) {
        std::fs::File::open(&self.0).map(rustix::fs::syncfs).expect("the mount").expect("a flush");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

/// Unmounts, by force where it stays busy; the loop device goes with it.
#[allow(clippy::disallowed_methods, reason = "it waits with a bound, and must not panic while a test unwinds")]
pub fn unmount(folder: &Path) {
    let deadline = std::time::Instant::now() + BUSY;
    while is_mounted(folder) && !run(Command::new("umount").arg(folder)).0.success() {
        if std::time::Instant::now() > deadline {
            println!("{} stays busy: unmounted lazily", folder.display());
            run(Command::new("umount").arg("-l").arg(folder));
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_mounted(folder: &Path) -> bool {
    mounts().iter().any(|mount| mount == folder)
}

fn mounts() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().filter_map(|line| line.split(' ').nth(1).map(PathBuf::from)).collect()
}

/// Ends the mounts and folders of runs of this harness whose process is gone. One that was just killed may still be on
/// its way out; then the next run sweeps.
fn sweep() {
    let is_dead = |path: &Path| {
        let name = path.strip_prefix(MEMORY).ok()?.iter().next()?.to_str()?.strip_prefix(PREFIX)?;
        let process = name.split('-').next().filter(|id| id.parse::<u32>().is_ok())?;
        Some(!Path::new("/proc").join(process).exists())
    };
    let is_dead = |path: &Path| is_dead(path).unwrap_or(false);
    // The newest first: the disk's own file system is below the one on it.
    for mount in mounts().into_iter().rev().filter(|mount| is_dead(mount)) {
        run(Command::new("umount").arg("-l").arg(mount));
    }
    for entry in std::fs::read_dir(MEMORY).into_iter().flatten().flatten() {
        if is_dead(&entry.path()) && !mounts().iter().any(|mount| mount.starts_with(entry.path())) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
