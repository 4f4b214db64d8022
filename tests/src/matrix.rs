//! The matrix of clients: what each of them can do, tried and judged by what is on the disks afterwards.
//!
//! The same judges work in every test run with small sizes and behind `make clients` with the full ones.

mod clients;
mod commands;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use clients::{CLIENTS, Client, has_filezilla};
use tempfile::TempDir;

use crate::{Cut, Machine, Sftp, USER, run};

/// Something that a person asks of a client. Names are those on the server.
#[derive(Clone, Copy)]
pub enum Act<'a> {
    /// Upload a file.
    Put(&'a Path, &'a str),
    /// Upload a file with its time.
    PutWithTimes(&'a Path, &'a str),
    /// Download a file.
    Get(&'a str, &'a Path),
    /// Download a file with its time.
    GetWithTimes(&'a str, &'a Path),
    /// Go on with an upload that broke off.
    Resume(&'a Path, &'a str),
    /// Go on with a download that broke off.
    Fetch(&'a str, &'a Path),
    /// Rename on the server.
    Rename(&'a str, &'a str),
    /// Upload a folder under a name that is free.
    PutTree(&'a Path, &'a str),
    /// Download a folder to where there is none.
    GetTree(&'a str, &'a Path),
}

/// Where a client is at work: a server, a login, and a folder for its notes.
pub struct Desk<'a> {
    machine: &'a Machine,
    openssh: Sftp,
    address: SocketAddr,
    login: (&'a str, &'a str),
    folder: TempDir,
}

impl<'a> Desk<'a> {
    /// At a machine, by way of an address.
    pub fn new(machine: &'a Machine, address: SocketAddr, login: (&'a str, &'a str)) -> Desk<'a> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Desk { machine, openssh: Sftp::new(address, login), address, login, folder }
    }

    fn openssh(&self) -> &Sftp {
        &self.openssh
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn user(&self) -> &str {
        self.login.0
    }

    fn password(&self) -> &str {
        self.login.1
    }

    /// Where something lies on the server's disk.
    fn on_server(&self, name: &str) -> PathBuf {
        self.machine.path(self.login.0, name)
    }
}

/// How much is moved.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// The large file, in bytes.
    pub large_bytes: usize,
    /// The number of small files.
    pub small_files: usize,
}

/// What came of an ability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// It works, perhaps with a remark.
    Good(&'static str),
    /// The client has no such thing.
    Lacking,
    /// It does not work.
    Bad(String),
}

type Judged = Result<Cell, String>;
type Judge = fn(&Scene<'_>) -> Judged;

/// What is tried, in the order of the columns.
pub const ABILITIES: [(&str, Judge); 9] = [
    ("upload", upload),
    ("download", download),
    ("resume ↑", resume),
    ("resume ↓", fetch),
    ("rename", rename),
    ("times", times),
    ("odd names", odd_names),
    ("large file", large_file),
    ("small files", small_files),
];

/// A client in front of a server of its own.
pub struct Scene<'a> {
    client: &'a Client,
    machine: Machine,
    local: TempDir,
    sizes: Sizes,
}

/// Tries everything with a client.
pub fn try_out(client: &Client, sizes: Sizes) -> Vec<Cell> {
    let (machine, local) = (Machine::master().start(), tempfile::tempdir().expect("a temporary folder"));
    std::fs::create_dir_all(machine.path(USER.0, "")).expect("the user's folder");
    let scene = Scene { client, machine, local, sizes };
    ABILITIES.iter().map(|(_, judge)| judge(&scene).unwrap_or_else(Cell::Bad)).collect()
}

impl Scene<'_> {
    fn local(&self, name: &str) -> PathBuf {
        self.local.path().join(name)
    }

    fn on_server(&self, name: &str) -> PathBuf {
        self.machine.path(USER.0, name)
    }

    /// Whether the client has such an act; if so it must go well.
    fn go(&self, act: Act<'_>) -> Result<bool, String> {
        let desk = Desk::new(&self.machine, self.machine.address(), USER);
        let Some(mut command) = (self.client.command)(&desk, &act) else { return Ok(false) };
        let (status, text) = run(&mut command);
        if status.success() { Ok(true) } else { Err(format!("{status}: {text}")) }
    }

    /// As [`Scene::go`], for what every client has.
    fn must(&self, act: Act<'_>) -> Result<(), String> {
        self.go(act)?.then_some(()).ok_or_else(|| "it cannot".to_owned())
    }
}

/// Bytes that differ from place to place and from seed to seed.
pub fn content(seed: u32, bytes: usize) -> Vec<u8> {
    let word = |number: u32| (number ^ seed).wrapping_mul(2_654_435_761).to_le_bytes();
    (0..(bytes / 4 + 1) as u32).flat_map(word).take(bytes).collect()
}

fn write(path: &Path, content: &[u8]) {
    std::fs::write(path, content).expect("a file");
}

fn same(path: &Path, content: &[u8], what: &str) -> Result<(), String> {
    let found = std::fs::read(path).map_err(|error| format!("{what}: {error}"))?;
    if found == content {
        Ok(())
    } else {
        Err(format!("{what}: {} bytes that are not the {} sent", found.len(), content.len()))
    }
}

/// No round numbers, and one after the other under the same name: each must replace the one before.
const SIZES: [usize; 4] = [70_001, 7, 0, 3_000_017];

fn upload(scene: &Scene<'_>) -> Judged {
    for (seed, bytes) in SIZES.into_iter().enumerate() {
        let (file, content) = (scene.local("up"), content(seed as u32, bytes));
        write(&file, &content);
        scene.must(Act::Put(&file, "report"))?;
        same(&scene.on_server("report"), &content, "uploaded")?;
    }
    Ok(Cell::Good(""))
}

fn download(scene: &Scene<'_>) -> Judged {
    for (seed, bytes) in SIZES.into_iter().enumerate() {
        let (file, content) = (scene.local("down"), content(seed as u32, bytes));
        write(&scene.on_server("kept"), &content);
        let _ = std::fs::remove_file(&file);
        scene.must(Act::Get("kept", &file))?;
        same(&file, &content, "downloaded")?;
    }
    Ok(Cell::Good(""))
}

const BROKEN_BYTES: usize = 8_000_003;
const CUT_BYTES: usize = 3_000_000;

/// An upload over an older file breaks off; nobody may join a new tail to the old head.
fn resume(scene: &Scene<'_>) -> Judged {
    let (file, old, new) = (scene.local("broken"), content(1, 1_000_000), content(2, BROKEN_BYTES));
    write(&file, &new);
    write(&scene.on_server("broken"), &old);
    let cut = Cut::after(CUT_BYTES as u64, scene.machine.address());
    let desk = Desk::new(&scene.machine, cut.address(), USER);
    let mut command = (scene.client.command)(&desk, &Act::Put(&file, "broken")).ok_or("it cannot upload")?;
    let (status, text) = run(&mut command);
    if !cut.has_cut() {
        return Err(format!("the connection was not cut: {text}"));
    }
    if status.success() {
        // It came again by itself.
        same(&scene.on_server("broken"), &new, "after its own retry")?;
        return Ok(Cell::Good("by itself"));
    }
    same(&scene.on_server("broken"), &old, "while it is not complete")?;
    let resumes = scene.go(Act::Resume(&file, "broken"))?;
    if !resumes {
        scene.must(Act::Put(&file, "broken"))?;
    }
    same(&scene.on_server("broken"), &new, "continued")?;
    Ok(if resumes { Cell::Good("") } else { Cell::Good("begins again") })
}

fn fetch(scene: &Scene<'_>) -> Judged {
    let (file, whole) = (scene.local("part"), content(3, BROKEN_BYTES));
    write(&scene.on_server("whole"), &whole);
    write(&file, whole.get(..CUT_BYTES).unwrap_or_default());
    if !scene.go(Act::Fetch("whole", &file))? {
        return Ok(Cell::Lacking);
    }
    same(&file, &whole, "continued")?;
    Ok(Cell::Good(""))
}

fn rename(scene: &Scene<'_>) -> Judged {
    write(&scene.on_server("old-name"), b"content");
    if !scene.go(Act::Rename("old-name", "new-name"))? {
        return Ok(Cell::Lacking);
    }
    same(&scene.on_server("new-name"), b"content", "renamed")?;
    if scene.on_server("old-name").exists() {
        return Err("the old name is still there".into());
    }
    Ok(Cell::Good(""))
}

/// 2001, and 2033: past the end of 31 bits of seconds less a few years.
const TIMES_S: [u64; 2] = [1_000_000_000, 2_000_000_000];

fn times(scene: &Scene<'_>) -> Judged {
    let (mut goes_up, mut goes_down) = (true, true);
    for seconds in TIMES_S {
        let time = UNIX_EPOCH + Duration::from_secs(seconds);
        let (up, down, kept) = (scene.local("timed"), scene.local("timed-back"), scene.on_server("timed-kept"));
        let _ = std::fs::remove_file(&down);
        for file in [&up, &kept] {
            write(file, b"timed");
            set_modified(file, time);
        }
        goes_up &= scene.go(Act::PutWithTimes(&up, "timed"))?;
        if goes_up && modified(&scene.on_server("timed")) != time {
            return Err(format!("the upload has another time: {:?}", modified(&scene.on_server("timed"))));
        }
        goes_down &= scene.go(Act::GetWithTimes("timed-kept", &down))?;
        if goes_down && modified(&down) != time {
            return Err(format!("the download has another time: {:?}", modified(&down)));
        }
    }
    Ok(match (goes_up, goes_down) {
        (true, true) => Cell::Good(""),
        (true, false) => Cell::Good("↑ only"),
        (false, true) => Cell::Good("↓ only"),
        (false, false) => Cell::Lacking,
    })
}

fn set_modified(path: &Path, time: SystemTime) {
    std::fs::File::options().write(true).open(path).and_then(|file| file.set_modified(time)).expect("a time");
}

fn modified(path: &Path) -> SystemTime {
    std::fs::metadata(path).and_then(|found| found.modified()).unwrap_or(UNIX_EPOCH)
}

/// Names that have broken clients and servers before. Each is also the content of its file.
pub const ODD_NAMES: [&[u8]; 15] = [
    b"two words",
    b" spaces around ",
    b"-rf",
    b"--help",
    b".hidden",
    b"new\nline",
    b"back\\slash",
    b"'quotes\" and `ticks`",
    b"percent %41 $HOME",
    b"star * [x] {a,b} ?",
    b"case",
    b"CASE",
    "emoji \u{1f600} \u{fc}".as_bytes(),
    b"not utf-8 \xff\xfe",
    &[b'n'; 255],
];

fn odd_names(scene: &Scene<'_>) -> Judged {
    let (up, back) = (scene.local("odd"), scene.local("odd-back"));
    std::fs::create_dir(&up).expect("a folder");
    let is_able = |name: &&&[u8]| !scene.client.cannot.contains(name);
    let names: Vec<&[u8]> = ODD_NAMES.iter().filter(is_able).copied().collect();
    for name in &names {
        write(&up.join(commands::os(name)), name);
    }
    scene.must(Act::PutTree(&up, "odd"))?;
    compare(&scene.on_server("odd"), &names, "uploaded")?;
    scene.must(Act::GetTree("odd", &back))?;
    compare(&back, &names, "downloaded")?;
    Ok(if names.len() == ODD_NAMES.len() { Cell::Good("") } else { Cell::Good("see below") })
}

fn compare(folder: &Path, names: &[&[u8]], what: &str) -> Result<(), String> {
    for name in names {
        let file = folder.join(commands::os(name));
        same(&file, name, &format!("{what} {:?}", String::from_utf8_lossy(name)))?;
    }
    let found = std::fs::read_dir(folder).map_err(|error| error.to_string())?.count();
    if found == names.len() { Ok(()) } else { Err(format!("{what}: {found} files instead of {}", names.len())) }
}

fn large_file(scene: &Scene<'_>) -> Judged {
    let (up, down) = (scene.local("large"), scene.local("large-back"));
    let content = content(5, scene.sizes.large_bytes);
    write(&up, &content);
    scene.must(Act::Put(&up, "large"))?;
    same(&scene.on_server("large"), &content, "uploaded")?;
    scene.must(Act::Get("large", &down))?;
    same(&down, &content, "downloaded")?;
    for file in [up, down, scene.on_server("large")] {
        std::fs::remove_file(file).map_err(|error| error.to_string())?;
    }
    Ok(Cell::Good(""))
}

fn small_files(scene: &Scene<'_>) -> Judged {
    let (up, back) = (scene.local("small"), scene.local("small-back"));
    std::fs::create_dir(&up).expect("a folder");
    let of = |number: usize| content(number as u32, number * 37 % 4096);
    for number in 0..scene.sizes.small_files {
        write(&up.join(format!("file-{number}")), &of(number));
    }
    scene.must(Act::PutTree(&up, "small"))?;
    scene.must(Act::GetTree("small", &back))?;
    for folder in [scene.on_server("small"), back] {
        for number in 0..scene.sizes.small_files {
            same(&folder.join(format!("file-{number}")), &of(number), "small file")?;
        }
    }
    Ok(Cell::Good(""))
}
