//! Mirroring to a plain OpenSSH server, end to end.
//!
//! A real `sshd` with its internal SFTP server is the standby; filesync runs inside the test. Needs root (for sshd) and the
//! package openssh-server; without them each test says that it was skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use filesync::store::{approve, known};
use filesync::{Config, Service};
use pair::config::Interval;
use pair::node::{Node, Role};
use pair::secret::PairSecret;
use pair::volume::{Marker, PRIVATE_FOLDER, read_marker, write_marker};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

const SSHD: &str = "/usr/sbin/sshd";
const PATIENCE: Duration = Duration::from_secs(60);

/// An OpenSSH server in a folder of its own.
struct Sshd {
    folder: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Sshd {
    fn start(folder: &Path, secret: &PairSecret, options: &str) -> Option<Sshd> {
        if !Path::new(SSHD).exists() || !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: {SSHD} is missing (install openssh-server), or this is not root");
            return None;
        }
        fs::create_dir_all("/run/sshd").unwrap();
        fs::create_dir_all(folder.join("base")).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut sshd = Sshd { folder: folder.to_owned(), port, process: None };
        sshd.new_host_key();
        let key = pair::keys::peer_key(secret).unwrap().public_key().to_openssh().unwrap();
        fs::write(folder.join("authorized_keys"), key).unwrap();
        let at = folder.display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host_key\nAuthorizedKeysFile {at}/authorized_keys\n\
             StrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\nSubsystem sftp internal-sftp {options}\n"
        );
        fs::write(folder.join("sshd_config"), config).unwrap();
        sshd.resume();
        Some(sshd)
    }

    fn new_host_key(&self) {
        let key = pair::keys::derived_host_keys(&PairSecret::generate().unwrap()).unwrap().remove(0);
        let text = key.to_openssh(Default::default()).unwrap();
        fs::write(self.folder.join("host_key"), text.as_bytes()).unwrap();
        fs::set_permissions(self.folder.join("host_key"), PermissionsExt::from_mode(0o600)).unwrap();
    }

    fn resume(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut command = Command::new(SSHD);
        command.args(["-D", "-e", "-f"]).arg(self.folder.join("sshd_config"));
        self.process = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    /// Ends the server and all its sessions at once.
    fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        // Sessions leave the server's process group, so they are found by their parents.
        let mut family = vec![process.id()];
        let mut looked = 0;
        while let Some(parent) = family.get(looked).copied() {
            let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
            family.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            looked += 1;
        }
        for member in family.into_iter().rev() {
            let _gone = kill_process(Pid::from_raw(member as i32).unwrap(), Signal::KILL);
        }
        process.wait().unwrap();
    }

    fn base(&self) -> PathBuf {
        self.folder.join("base")
    }

    fn address(&self) -> String {
        format!("root@127.0.0.1:{}{}", self.port, self.base().display())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A master's folders and a filesync that mirrors them.
struct Site {
    folder: tempfile::TempDir,
    secret: PairSecret,
    sshd: Sshd,
    running: Option<Running>,
}

struct Running {
    health: SocketAddr,
    _stop: DropGuard,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Site {
    fn new() -> Option<Site> {
        Site::with("")
    }

    /// A standby whose SFTP server has these options.
    fn with(options: &str) -> Option<Site> {
        let folder = tempfile::tempdir().unwrap();
        let secret = PairSecret::generate().unwrap();
        let sshd = Sshd::start(&folder.path().join("sshd"), &secret, options);
        let (data, state) = (folder.path().join("data"), folder.path().join("state"));
        fs::create_dir_all(data.join(PRIVATE_FOLDER)).unwrap();
        fs::create_dir(&state).unwrap();
        write_marker(&data, &Marker::new(&data, secret.pair_id()).unwrap()).unwrap();
        pair::node::write(&state, &Node::new(Role::Master).unwrap()).unwrap();
        Some(Site { sshd: sshd?, folder, secret, running: None })
    }

    async fn start(&mut self) {
        let config = Config {
            data: self.data(),
            state: self.folder.path().join("state"),
            standbys: vec![self.sshd.address()],
            interval: Interval(Duration::from_millis(300)),
            health_listen: "127.0.0.1:0".into(),
            secret: Some(self.secret.clone()),
            ..Config::default()
        };
        let service = Service::bind(config).await.unwrap();
        let health = service.health_address().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(service.run(shutdown.clone()));
        self.running = Some(Running { health, _stop: shutdown.drop_guard(), task });
    }

    async fn stop(&mut self) {
        let Running { _stop, task, .. } = self.running.take().unwrap();
        drop(_stop);
        tokio::time::timeout(Duration::from_secs(5), task).await.expect("it ends promptly").unwrap().unwrap();
        // Its last blocking work may still hold the store; SQLite removes files by name when it closes one.
        let store = self.store();
        let is_open = || {
            let open = fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
            open.into_iter().any(|path| path.to_string_lossy().starts_with(&*store.to_string_lossy()))
        };
        self.until("the store is closed", || !is_open()).await;
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("state/filesync.db")
    }

    #[track_caller]
    fn write(&self, path: &str, content: &[u8]) {
        let path = self.data().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn held(&self) -> u64 {
        known(&self.store()).unwrap().first().map_or(0, |known| known.held.iter().map(|held| held.entries).sum())
    }

    /// Waits until both trees are equal in every respect.
    async fn equal(&self, when: &str) {
        let difference = || {
            let (ours, theirs) = (snapshot(&self.data()), snapshot(&self.sshd.base()));
            let paths: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
            let differing = paths.into_iter().filter(|path| ours.get(*path) != theirs.get(*path));
            differing
                .take(5)
                .map(|path| format!("{path:?}: {:?} / {:?}", ours.get(path), theirs.get(path)))
                .collect::<Vec<_>>()
        };
        let since = Instant::now();
        while !difference().is_empty() {
            assert!(since.elapsed() < PATIENCE, "{when}: {:#?}\n{:?}", difference(), known(&self.store()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let since = Instant::now();
        while !condition() {
            assert!(since.elapsed() < PATIENCE, "never: {what}; {:?}", known(&self.store()));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn ready(&self) -> Result<(), String> {
        pair::health::check(self.running.as_ref().unwrap().health).await.map_err(|error| error.to_string())
    }
}

/// Kind, mode, time, content or link text of every path but `.pair`.
fn snapshot(root: &Path) -> BTreeMap<Vec<u8>, (u32, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let Ok(names) = fs::read_dir(root.join(&folder)) else { continue };
        for name in names.flatten() {
            let path = folder.join(name.file_name());
            let Ok(stat) = fs::symlink_metadata(root.join(&path)) else { continue };
            if path == Path::new(PRIVATE_FOLDER) {
                continue;
            }
            let content = if stat.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else if stat.is_symlink() {
                fs::read_link(root.join(&path)).unwrap_or_default().into_os_string().into_vec()
            } else {
                blake3::hash(&fs::read(root.join(&path)).unwrap_or_default()).as_bytes().to_vec()
            };
            found.insert(path.into_os_string().into_vec(), (stat.mode(), stat.mtime(), content));
        }
    }
    found
}

fn mode(path: PathBuf, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    content
}

fn trash_of(site: &Site) -> Vec<String> {
    let paths = snapshot(&site.sshd.base().join(".pair/trash"));
    paths.into_keys().map(|path| String::from_utf8_lossy(&path).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_becomes_and_stays_what_the_master_is() {
    let Some(mut site) = Site::new() else { return };
    let data = site.data();
    for home in ["alice", "bob"] {
        for number in 0..40 {
            site.write(&format!("{home}/in/{}/file {number}", number % 4), noise(number * 1000).as_slice());
        }
    }
    for name in [&b"new\nline"[..], b"\xff\xfe not utf-8", b"-rf", &[b'x'; 255]] {
        fs::write(data.join("alice").join(OsStr::from_bytes(name)), name).unwrap();
    }
    site.write("bob/large", &noise(20 << 20));
    site.write("bob/empty", b"");
    fs::create_dir_all(data.join("bob/empty folder/deep")).unwrap();
    symlink("../alice/in", data.join("bob/link")).unwrap();
    symlink("/nowhere/\u{e9}", data.join("bob/dangling")).unwrap();
    mode(data.join("alice/in/0/file 0"), 0o400);
    mode(data.join("alice/in/1"), 0o2750);
    mode(data.join("bob/empty folder"), 0o500);
    let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + Duration::from_secs(86_400 * 365));
    fs::File::open(data.join("alice/in/0/file 4")).unwrap().set_times(old).unwrap();
    site.start().await;
    site.equal("at first").await;
    let since = Instant::now();
    while let Err(reason) = site.ready().await {
        assert!(since.elapsed() < PATIENCE, "never ready: {reason}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    site.write("alice/in/1/file 1", b"edited");
    site.write("alice/new/deep/er/file", b"new");
    fs::rename(data.join("alice/in/2"), data.join("bob/two")).unwrap();
    fs::rename(data.join("bob/in/3/file 3"), data.join("bob/in/three")).unwrap();
    fs::rename(data.join("bob/in/0/file 0"), data.join("bob/in/0/file 4")).unwrap();
    fs::remove_file(data.join("alice/in/3/file 7")).unwrap();
    fs::remove_dir_all(data.join("bob/in/1")).unwrap();
    fs::remove_file(data.join("bob/link")).unwrap();
    site.write("bob/link/now a folder", b"1");
    fs::remove_dir_all(data.join("bob/empty folder")).unwrap();
    symlink("changed", data.join("bob/empty folder")).unwrap();
    mode(data.join("alice/in/0"), 0o700);
    mode(data.join("alice/-rf"), 0o604);
    site.equal("after changes").await;

    let trash = trash_of(&site);
    for kept in
        ["alice/in/1/file 1", "alice/in/3/file 7", "bob/in/1", "bob/in/0/file 4", "bob/link", "bob/empty folder"]
    {
        assert!(trash.iter().any(|path| path.ends_with(kept)), "{kept} is not in the trash: {trash:?}");
    }
    fs::remove_file(site.sshd.base().join("alice/in/1/file 5")).unwrap();
    fs::write(site.sshd.base().join("alice/in/1/file 1"), b"changed there").unwrap();
    mode(site.sshd.base().join("alice/in/0/file 0"), 0o777);
    fs::write(site.sshd.base().join("alice/stranger"), b"x").unwrap();
    site.equal("after drift on the standby").await;
    let leftovers = fs::read_dir(site.sshd.base().join(".pair/stage")).unwrap().count();
    assert_eq!(leftovers, 0, "the stage is empty in the end");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_transfer_goes_on_where_it_stopped_and_holds_up_nothing() {
    let Some(mut site) = Site::new() else { return };
    let size = 512 << 20;
    site.write("a/large", &noise(size));
    site.start().await;
    let stage = site.sshd.base().join(".pair/stage");
    let staged = || {
        fs::read_dir(&stage)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.metadata().ok())
            .map(|stat| stat.len())
            .max()
    };
    site.until("some of it is there", || staged() > Some(64 << 20)).await;
    site.sshd.kill();
    let there = staged().unwrap();
    assert!(there > 0 && there < size as u64, "cut in the middle, at {there}");
    site.until("said to be away", || {
        known(&site.store())
            .unwrap()
            .first()
            .and_then(|known| known.report.clone())
            .is_some_and(|report| report.contains("\"connected\":false"))
    })
    .await;
    assert!(site.ready().await.is_err());
    site.write("a/small", b"small");
    site.sshd.resume();
    // Started again from nothing, the stage would be seen shorter than it was.
    let (shortest, large) = (std::cell::Cell::new(there), site.sshd.base().join("a/large"));
    site.until("published", || {
        shortest.set(shortest.get().min(staged().unwrap_or(there)));
        large.exists()
    })
    .await;
    assert_eq!(shortest.get(), there, "it went on where it stopped");
    site.equal("after the server is back").await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_home_is_held_until_a_person_approves() {
    let Some(mut site) = Site::new() else { return };
    site.write("alice/file", b"1");
    site.write("bob/file", b"1");
    site.start().await;
    site.equal("at first").await;
    fs::remove_dir_all(site.data().join("alice")).unwrap();
    site.until("held", || site.held() == 2).await;
    site.write("bob/more", b"2");
    site.until("copying goes on", || site.sshd.base().join("bob/more").exists()).await;
    assert!(site.sshd.base().join("alice/file").exists());
    assert_eq!(approve(&site.store(), None).unwrap(), (1, 2));
    site.equal("after the approval").await;
    assert!(trash_of(&site).iter().any(|path| path.ends_with("alice/file")));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_not_mounted_removes_nothing() {
    let Some(mut site) = Site::new() else { return };
    site.write("alice/file", b"1");
    site.start().await;
    site.equal("at first").await;
    let (data, away) = (site.data(), site.folder.path().join("away"));
    fs::rename(&data, &away).unwrap();
    fs::create_dir(&data).unwrap();
    let refused = |word: &str| {
        let report = known(&site.store()).unwrap()[0].report.clone().unwrap_or_default();
        report.contains("nothing is copied or removed") && report.contains(word)
    };
    site.until("refused without a marker", || refused("has no .pair/marker")).await;
    // A helpful person makes the marker again, on what is another volume.
    fs::create_dir(data.join(PRIVATE_FOLDER)).unwrap();
    write_marker(&data, &Marker::new(&data, site.secret.pair_id()).unwrap()).unwrap();
    site.until("refused with another marker", || refused("another disk")).await;
    assert!(site.sshd.base().join("alice/file").exists());
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&away, &data).unwrap();
    assert!(read_marker(&data).unwrap().is_some());
    site.write("alice/later", b"2");
    site.equal("after it is mounted again").await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_key_and_another_pairs_folder_are_refused() {
    let Some(mut site) = Site::new() else { return };
    site.write("alice/file", b"1");
    site.start().await;
    site.equal("at first").await;
    site.stop().await;
    site.sshd.kill();
    site.sshd.new_host_key();
    site.sshd.resume();
    site.write("alice/secret", b"2");
    site.start().await;
    let report =
        |site: &Site| known(&site.store()).unwrap().first().and_then(|known| known.report.clone()).unwrap_or_default();
    site.until("refused", || report(&site).contains("is pinned since the first contact")).await;
    assert!(!site.sshd.base().join("alice/secret").exists());
    site.stop().await;

    fs::remove_file(site.store()).unwrap();
    fs::write(site.sshd.base().join(".pair/marker"), "pair: somebody-else\n").unwrap();
    site.start().await;
    site.until("refused", || report(&site).contains("belongs to another pair")).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_store_removes_nothing_until_all_was_compared() {
    let Some(mut site) = Site::new() else { return };
    for number in 0..20 {
        site.write(&format!("alice/{number}"), format!("{number}").as_bytes());
    }
    site.start().await;
    site.equal("at first").await;
    site.stop().await;
    for suffix in ["", "-wal", "-shm"] {
        let _absent = fs::remove_file(format!("{}{suffix}", site.store().display()));
    }
    fs::remove_file(site.data().join("alice/7")).unwrap();
    // Same size, same second: only the content tells.
    let stat = fs::metadata(site.data().join("alice/8")).unwrap();
    fs::write(site.data().join("alice/8"), b"x").unwrap();
    fs::File::open(site.data().join("alice/8")).unwrap().set_modified(stat.modified().unwrap()).unwrap();
    site.start().await;
    site.equal("after the store was lost").await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_extensions_is_enough_and_said_to_be_not_durable() {
    let Some(mut site) = Site::with("-P posix-rename,hardlink,fsync,lsetstat,limits") else { return };
    site.write("alice/file", b"1");
    site.write("alice/other", b"1");
    site.write("alice/large", &noise(9 << 20));
    site.start().await;
    site.until("large arrived", || site.sshd.base().join("alice/large").exists()).await;
    site.equal("at first").await;
    site.write("alice/file", b"replaced");
    fs::rename(site.data().join("alice/other"), site.data().join("alice/renamed")).unwrap();
    symlink("text", site.data().join("alice/link")).unwrap();
    // The server cannot set a link's time, and that alone is no difference.
    let same = |name: &str| fs::read(site.sshd.base().join(name)).ok() == fs::read(site.data().join(name)).ok();
    let arrived = || {
        ["alice/file", "alice/renamed"].iter().all(|name| same(name))
            && site.sshd.base().join("alice/link").is_symlink()
    };
    site.until("changes arrived", arrived).await;
    assert!(trash_of(&site).iter().any(|path| path.ends_with("alice/file")));
    let report = known(&site.store()).unwrap()[0].report.clone().unwrap();
    assert!(report.contains("not durable"), "{report}");
    site.stop().await;
}
