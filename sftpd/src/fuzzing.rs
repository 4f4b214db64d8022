//! Doors for the fuzzers in `fuzz/`: what a stranger can send, without the network in between.
//!
//! Compiled for fuzzing and for tests only. The test below sends everything in the kept corpus, and changed copies of it,
//! through the same doors, so that every run of the tests has a little of it.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use pair::node::{Node, Role};
use pair::secret::PairSecret;
use pair::wire::{self, Reader, kind};
use tokio::runtime::Runtime;

use crate::accounts::{Account, Accounts, users_file};
use crate::activity::Actor;
use crate::config::{ActivityLogSettings, Config};
use crate::daemon::Daemon;
use crate::dispatch::{self, Served, put_reply, put_status};
use crate::requests::content;
use crate::sftp::{Identity, Sftp};
use crate::storage::{Durability, Location, Root, Volume, read_link};

/// How many turns a request gets. To hash a file of exabytes that has nothing in it takes for ever; clients hang up before.
const TURNS_MAX: usize = 20;

/// What the canary beside the account's folder holds, and goes on holding.
const CANARY: &[u8] = b"nobody's";

/// A daemon without a network, with a user, an admin, and something of nobody's beside their folders.
pub struct Server {
    runtime: Runtime,
    daemon: Arc<Daemon>,
}

impl Server {
    /// In an empty folder, best on a disk of memory.
    #[allow(clippy::expect_used, reason = "a fuzzer that cannot start must say so")]
    pub fn start(folder: &Path) -> Server {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let (data, state, logs) = (folder.join("data"), folder.join("state"), folder.join("logs"));
        for path in [&data, &state] {
            std::fs::create_dir(path).expect("a folder");
        }
        std::fs::write(data.join("canary"), CANARY).expect("a file");
        let activity_log = ActivityLogSettings { stdout: false, ..ActivityLogSettings::default() };
        let config = Config { data, state, logs, activity_log, durability: Durability::None, ..Config::default() };
        let secret = PairSecret::generate().expect("random numbers");
        let mut node = Node::new(Role::Master).expect("random numbers");
        let location = Location { data: &config.data, state: &config.state, pair_id: &secret.pair_id() };
        let _inside = runtime.enter();
        let volume = Volume::open(&location, &mut node, config.durability).expect("a volume");
        let pair = pair::peer::Identity::new(&secret, &config.state).expect("a key");
        let accounts = Accounts::new(1, [account(USER), account(ADMIN)]);
        let daemon = Arc::new(Daemon::new(config, volume, node, pair, Vec::new(), accounts).expect("a thread"));
        drop(_inside);
        Server { runtime, daemon }
    }

    /// One session: greeted, then asked for everything in `stream`.
    ///
    /// Panics where a request gets no answer, or another's, or more than fits in a packet, and where something outside the
    /// account's folder has changed.
    #[allow(clippy::expect_used, clippy::panic, reason = "that is how a fuzzer learns of it")]
    pub fn requests(&self, account: &str, stream: &[u8]) {
        let account = self::account(account);
        let home = self.daemon.config.data.join(&account.home);
        let identity = Identity::Account(Arc::new(account));
        let open_handles = Arc::new(AtomicUsize::new(0));
        let connection = self.daemon.connections.next_number();
        let log = self.daemon.activity.clone();
        let actor = Arc::new(Actor::new(log, identity.name().to_owned(), String::new(), String::new()));
        let _inside = self.runtime.enter();
        let mut sftp =
            Sftp::new(self.daemon.clone(), identity, connection, open_handles, Some(actor)).expect("a session");
        let mut greeting = BytesMut::new();
        greeting.put_u8(kind::INIT);
        greeting.put_u32(wire::VERSION);
        let mut out = BytesMut::new();
        assert!(matches!(dispatch::serve(&mut sftp, &greeting, &mut out), Ok(Served::Answered)));
        let mut stream = BytesMut::from(stream);
        while let Ok(Some(packet)) = wire::next_packet(&mut stream) {
            out.clear();
            if self.serve(&mut sftp, &packet, &mut out).is_none() {
                break;
            }
            let mut fields = Reader(&packet);
            let (_, asked) = (fields.u8(), fields.u32());
            let answer = wire::next_packet(&mut out).expect("an answer is a packet").expect("there is an answer");
            let mut fields = Reader(&answer);
            assert!(fields.u8().is_ok_and(|kind| kind > 100), "that is no answer");
            assert_eq!(fields.u32(), asked, "the answer is to another request");
            assert!(out.is_empty(), "there is more than one answer");
        }
        drop(sftp);
        self.daemon.volume.expire_unfinished(Duration::ZERO);
        let data = &self.daemon.config.data;
        let canary = std::fs::read(data.join("canary")).expect("the canary is there");
        assert!(canary == CANARY, "something outside the account's folder has changed");
        clear(&home);
    }

    /// Serves one request to its end; `None` where the session ends by it.
    #[allow(clippy::panic, reason = "that is how a fuzzer learns of it")]
    fn serve(&self, sftp: &mut Sftp, packet: &[u8], out: &mut BytesMut) -> Option<()> {
        for _ in 0..TURNS_MAX {
            match dispatch::serve(sftp, packet, out).ok()? {
                Served::Answered => return Some(()),
                Served::Again => {}
                Served::Wait => panic!("it waits, and nothing is on its way"),
                Served::Later(id, later) => {
                    let opened = later.opened;
                    sftp.daemon.volume.begin_changes(|| false);
                    match self.runtime.block_on(later.work) {
                        Ok(reply) => put_reply(out, id, &reply),
                        Err(fault) => {
                            opened.iter().for_each(|handle| content::forget(sftp, handle));
                            put_status(out, id, fault.code, &fault.text);
                        }
                    }
                    return Some(());
                }
            }
        }
        None
    }
}

/// Removes what a session has left.
fn clear(home: &Path) {
    for entry in std::fs::read_dir(home).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        // Modes that a session has set do not stand in the way of root, and others try again with the next.
        let _ = if is_folder { std::fs::remove_dir_all(entry.path()) } else { std::fs::remove_file(entry.path()) };
    }
}

#[allow(clippy::expect_used, reason = "it is right, or the fuzzer must say so")]
fn account(json: &str) -> Account {
    serde_json::from_str(json).expect("an account")
}

/// Somebody, for [`Server::requests`].
pub const USER: &str = r#"{"label": "1", "name": "user", "home": "user"}"#;

/// An admin, whose users.yaml stays in memory until it is found right.
pub const ADMIN: &str = r#"{"label": "2", "name": "boss", "home": "admin", "admin": true}"#;

/// Somebody who writes in place.
pub const DIRECT: &str = r#"{"label": "3", "name": "logger", "home": "logger", "upload": "direct"}"#;

/// A folder with links of all kinds, as an account's root.
pub struct Tree {
    root: Root,
}

impl Tree {
    /// Makes it in an empty folder.
    #[allow(clippy::expect_used, reason = "a fuzzer that cannot start must say so")]
    pub fn make(folder: &Path) -> Tree {
        let root = folder.join("root");
        std::fs::create_dir_all(root.join("a/b")).expect("a folder");
        std::fs::write(root.join("a/f"), "inside").expect("a file");
        std::fs::write(folder.join("f"), "outside").expect("a file");
        let links = [("u", ".."), ("s", "/"), ("o", "../../f"), ("c", "c"), ("d", "a/new"), ("p", "/proc/self/root")];
        for (name, text) in links {
            symlink(text, root.join(name)).expect("a link");
        }
        let root = std::fs::File::open(root).expect("a folder");
        Tree { root: Root::of(root.into()) }
    }

    /// Everything that takes a path and changes nothing. Panics where something outside is reached, or where the
    /// canonical form of a path is none.
    #[allow(clippy::panic, clippy::expect_used, reason = "that is how a fuzzer learns of it")]
    pub fn path(&self, path: &[u8]) {
        if path.contains(&0) {
            return;
        }
        if let Ok((file, found)) = self.root.open_file(path) {
            let content = crate::storage::file_content::read_whole(&file).expect("it can be read");
            assert!(content != b"outside" && found.size != 7, "a file outside was opened");
        }
        if let (Ok(stat), Ok(lstat)) = (self.root.stat(path), self.root.lstat(path)) {
            assert!(stat.identity == lstat.identity || lstat.kind == crate::storage::FileKind::Link);
        }
        let _ = (self.root.place(path), self.root.place_for_thing(path), self.root.place_behind_links(path));
        let link = self.root.handle_for_attributes(path, false);
        let _ = (link.and_then(|link| read_link(&link)), self.root.open_folder(path).map(|_| ()));
        if let Ok(canonical) = self.root.canonical(path) {
            let is_plain = |part: &[u8]| !matches!(part, b"." | b"..");
            assert!(canonical.first() == Some(&b'/') && canonical.split(|byte| *byte == b'/').all(is_plain));
            let again = self.root.canonical(&canonical).ok();
            assert!(again.as_ref() == Some(&canonical), "{:?}", String::from_utf8_lossy(&canonical));
        }
    }
}

/// A users.yaml from a stranger. Panics where the masked text has another size, another meaning, or a password in it.
#[allow(clippy::panic, reason = "that is how a fuzzer learns of it")]
pub fn users_yaml(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(users) = users_file::parse(text, &Accounts::default()).map(|file| file.users) else { return };
    let Ok(masked) = users_file::masked(text, &users) else { return };
    assert_eq!(masked.len(), text.len());
    for user in &users {
        if let users_file::Password::Plain(password) = &user.password {
            // Short ones stand in other words by chance; a name may be the same as a password.
            let comments = masked.lines().filter_map(|line| Some(line.split_once(" #")?.1));
            let is_left = comments.into_iter().any(|comment| comment.contains(password.as_str()));
            assert!(password.len() < 12 || !is_left, "a password is left in {masked:?}");
        }
    }
}

/// Accounts as the other machine sends them, and the lines that other programs send to the feed.
pub fn pair_messages(text: &[u8]) {
    if let Ok(accounts) = Accounts::from_json(text) {
        let again = accounts.to_json().and_then(|json| Accounts::from_json(&json));
        assert!(again.is_ok_and(|again| again.iter().count() == accounts.iter().count()));
    }
    let _ = serde_json::from_slice::<pair::extension::Hello>(text);
    let _ = serde_json::from_slice::<pair::feed::Request>(text);
    let _ = serde_json::from_slice::<pair::feed::Message>(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changed copies that are made of each entry of the corpus.
    const COPIES: usize = 50;

    /// Sends the kept corpus through a door, and copies of it with bytes changed, taken out and doubled.
    fn send(corpus: &str, door: impl Fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(corpus);
        let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        assert!(entries.len() >= 5, "{corpus} has a corpus");
        let mut dice = 1_u64;
        let mut roll = |sides: usize| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) as usize % sides.max(1)
        };
        for entry in entries {
            let kept = std::fs::read(&entry).unwrap();
            door(&kept);
            for _ in 0..COPIES {
                let mut copy = kept.clone();
                for _ in 0..=roll(4) {
                    let at = roll(copy.len());
                    match roll(3) {
                        0 if at < copy.len() => copy[at] = [0, 1, 0x7f, 0xff, b'/', roll(256) as u8][roll(6)],
                        1 if at < copy.len() => drop(copy.drain(at..(at + 1 + roll(8)).min(copy.len()))),
                        _ => copy.extend_from_within(at.min(copy.len())..(at + roll(64)).min(copy.len())),
                    }
                }
                door(&copy);
            }
        }
    }

    #[test]
    fn requests_of_strangers_are_answered_whatever_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(folder.path());
        for account in [USER, ADMIN, DIRECT] {
            send("requests", |stream| server.requests(account, stream));
        }
    }

    #[test]
    fn paths_of_strangers_stay_inside() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::make(folder.path());
        send("paths", |path| tree.path(path));
    }

    #[test]
    fn users_yaml_of_strangers_keeps_its_size_and_no_password() {
        send("users_yaml", users_yaml);
    }

    #[test]
    fn messages_of_the_pair_may_be_garbled() {
        send("pair_messages", pair_messages);
    }
}
