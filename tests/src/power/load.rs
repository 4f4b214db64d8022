//! Writers that change their own part of the volume, step by step, and note at which position of the disk's log each
//! step was sent and acknowledged.
//!
//! A writer does one step at a time, so after any cut exactly two states are right: the one after its last acknowledged
//! step, or the one after the step that was under way. Many writers together make the committer's groups.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pair::client::{Client, ClientError, HostKeyCheck, Login, PrivateKey};
use pair::secret::PairSecret;
use pair::wire::{Attrs, open_flag};

use super::chance::Chance;
use super::content::{CONTENT_BYTES_MIN, Version};
use super::disk::LoggedDisk;
use super::tree::{Step, Thing, Tree};

/// The account that all writers share.
pub const ACCOUNT: &str = "load";
/// Connections that the writers share.
const CONNECTIONS: usize = 4;
const WRITERS: u32 = 12;
/// So many of the writers have large files too: the disk has room for them.
const WRITERS_OF_LARGE: u32 = 3;
const LARGE_BYTES: std::ops::Range<usize> = 1 << 20..8 << 20;
/// Names of each kind that a writer has at most.
const NAMES: usize = 6;

/// The account's login.
pub struct Account(Arc<PrivateKey>);

impl Account {
    /// Makes it.
    pub fn with_new_key() -> Account {
        let secret = PairSecret::generate().expect("random numbers");
        let keys = pair::keys::derived_host_keys(&secret).expect("a key");
        Account(Arc::new(keys.into_iter().next().expect("a key")))
    }

    /// A users.yaml in which it is.
    pub fn users(&self) -> String {
        let key = self.0.public_key().to_openssh().expect("a key can be shown");
        format!("{}  2:\n    name: \"{ACCOUNT}\"\n    public_keys: [\"{key}\"]\n", crate::SEED)
    }

    /// Logs in.
    pub async fn connect(&self, address: SocketAddr) -> Client {
        let check: HostKeyCheck = Arc::new(|_| Ok(()));
        let login = Login { user: ACCOUNT.into(), key: self.0.clone() };
        pair::client::connect(&address.to_string(), login, check).await.expect("the account can log in")
    }
}

/// A step, and where in the log it happened.
#[derive(Clone, Debug)]
pub struct Done {
    /// The step.
    pub step: Step,
    /// The position before its first request.
    pub begun: usize,
    /// The position before the request that makes it happen (an upload's CLOSE).
    pub sent: usize,
    /// The position after its OK.
    pub acknowledged: usize,
}

/// All that the writers did.
pub struct Story {
    /// By writer, in order.
    pub writers: Vec<Vec<Done>>,
}

impl Story {
    /// Where every acknowledgement was received.
    pub fn acknowledged(&self) -> Vec<usize> {
        self.writers.iter().flatten().map(|done| done.acknowledged).collect()
    }
}

/// Runs all writers until `time` has passed.
pub async fn run_load(
    disk: &Arc<LoggedDisk>,
    address: SocketAddr,
    account: &Account,
    time: Duration,
    chance: &Chance,
) -> Story {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(account.connect(address).await);
    }
    let until = Instant::now() + time;
    let writers = (0..WRITERS).map(|number| {
        let writer = Writer {
            number,
            client: clients[number as usize % CONNECTIONS].clone(),
            disk: disk.clone(),
            chance: chance.fork(u64::from(number) + 1),
            uploads: 0,
            names: 0,
            tree: Tree::default(),
        };
        tokio::spawn(writer.run(until))
    });
    // All end before one's failure is told: a writer that went on would keep the disk from being unmounted.
    let mut ended = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        ended.push(writer.await);
    }
    let story = |writer: Result<_, _>| writer.expect("every step of a writer goes well");
    Story { writers: ended.into_iter().map(story).collect() }
}

/// The folder of a writer.
pub fn folder_of(writer: usize) -> String {
    format!("w{writer}")
}

struct Writer {
    number: u32,
    client: Client,
    disk: Arc<LoggedDisk>,
    chance: Chance,
    uploads: u64,
    names: u64,
    tree: Tree,
}

impl Writer {
    async fn run(mut self, until: Instant) -> Vec<Done> {
        let mut story = Vec::new();
        let mut next = Some(Step::MakeFolder(folder_of(self.number as usize)));
        while Instant::now() < until {
            let Some(step) = next.take().or_else(|| self.next_step()) else { continue };
            let begun = self.disk.position();
            let (sent, result) = self.send(&step).await;
            let acknowledged = self.disk.position();
            result.unwrap_or_else(|error| panic!("{step:?}: {error}"));
            self.tree.apply(&step);
            story.push(Done { step, begun, sent, acknowledged });
        }
        story
    }

    async fn send(&self, step: &Step) -> (usize, Result<(), ClientError>) {
        let (sent, client) = (self.disk.position(), &self.client);
        let result = match step {
            Step::Put(path, version) => return self.upload(path, version).await,
            Step::MakeFolder(path) => client.mkdir(path.as_bytes(), 0o755).await,
            Step::RemoveFolder(path) => client.rmdir(path.as_bytes()).await,
            Step::Remove(path) => client.remove(path.as_bytes()).await,
            Step::Rename(from, to) => client.rename(from.as_bytes(), to.as_bytes()).await,
            Step::Replace(from, to) => client.posix_rename(from.as_bytes(), to.as_bytes()).await,
            Step::MakeLink(path, text) => client.symlink(text.as_bytes(), path.as_bytes()).await,
            Step::SecondName(from, to) => client.hardlink(from.as_bytes(), to.as_bytes()).await,
            Step::Attributes(path, mode, time) => {
                let attrs = Attrs { mode: Some(*mode), times: Some((*time, *time)), ..Attrs::default() };
                client.setstat(path.as_bytes(), attrs).await
            }
        };
        (sent, result)
    }

    async fn upload(&self, path: &str, version: &Version) -> (usize, Result<(), ClientError>) {
        let content = version.content();
        let client = &self.client;
        let written = async {
            let flags = open_flag::WRITE | open_flag::CREAT | open_flag::TRUNC;
            let handle = client.open(path.as_bytes(), flags, Some(0o644)).await?;
            let mut writes = Vec::new();
            for (number, piece) in content.chunks(client.write_bytes_max()).enumerate() {
                let offset = (number * client.write_bytes_max()) as u64;
                writes.push(client.begin_write(&handle, offset, piece).await?);
            }
            for write in writes {
                write.done().await?;
            }
            Ok(handle)
        };
        let handle = written.await;
        let sent = self.disk.position();
        match handle {
            Ok(handle) => (sent, client.close(handle).await),
            Err(error) => (sent, Err(error)),
        }
    }

    /// Draws a step that is possible now; none where what was drawn is not.
    fn next_step(&mut self) -> Option<Step> {
        let folder = folder_of(self.number as usize);
        match self.chance.below(20) {
            0..6 => {
                let path = self.any('f').filter(|_| self.is_many('f')).unwrap_or_else(|| self.new_name('f'));
                Some(Step::Put(path, self.version()))
            }
            6..9 => Some(Step::Put(self.any('f')?, self.version())),
            9 if self.number < WRITERS_OF_LARGE => Some(Step::Put(format!("{folder}/large"), self.large_version())),
            9 | 10 => Some(Step::Remove(self.any('f')?)),
            11 => Some(Step::Remove(self.any('l').filter(|_| self.is_many('l'))?)),
            12 => Some(Step::Remove(self.any('h').filter(|_| self.is_many('h'))?)),
            13 if self.is_many('d') => {
                let path = self.any('d')?;
                let is_empty = !self.tree.0.keys().any(|inside| inside.starts_with(&format!("{path}/")));
                is_empty.then_some(Step::RemoveFolder(path))
            }
            13 => Some(Step::MakeFolder(self.new_name('d'))),
            14 => Some(Step::Rename(self.any('f')?, self.new_name('f'))),
            15 => {
                let (from, to) = (self.any('f')?, self.any('f')?);
                (from != to).then_some(Step::Replace(from, to))
            }
            16 => Some(Step::Rename(self.any('d')?, self.new_name('d'))),
            17 => Some(Step::MakeLink(self.new_name('l'), format!("f{}", self.names))),
            18 => Some(Step::SecondName(self.unaltered('f')?, self.new_name('h'))),
            _ => {
                let (mode, time) = ([0o600, 0o640, 0o664, 0o755][self.chance.below(4)], self.chance.below(1 << 30));
                Some(Step::Attributes(self.alone('f')?, mode, time as u32))
            }
        }
    }

    /// A name that this writer never had, in its folder or a folder in that.
    fn new_name(&mut self, kind: char) -> String {
        self.names += 1;
        let own = folder_of(self.number as usize);
        let folder = match kind {
            'f' if self.chance.one_in(3) => self.any('d').unwrap_or(own),
            _ => own,
        };
        format!("{folder}/{kind}{}", self.names)
    }

    /// One of the names of a kind.
    fn any(&mut self, kind: char) -> Option<String> {
        let names = self.names_of(kind);
        let drawn = self.chance.below(names.len());
        names.get(drawn).cloned()
    }

    /// A file whose attributes were never set: a second name shares them, and the model has them by name.
    fn unaltered(&mut self, kind: char) -> Option<String> {
        self.any(kind).filter(|path| matches!(self.tree.0.get(path), Some(Thing::File(_, None))))
    }

    /// A file without a second name.
    fn alone(&mut self, kind: char) -> Option<String> {
        let path = self.any(kind)?;
        let Some(Thing::File(version, _)) = self.tree.0.get(&path) else { return None };
        let names = self.tree.0.values().filter(|thing| matches!(thing, Thing::File(other, _) if other == version));
        (names.count() == 1).then_some(path)
    }

    fn is_many(&self, kind: char) -> bool {
        self.names_of(kind).len() >= NAMES
    }

    fn names_of(&self, kind: char) -> Vec<String> {
        let is_kind = |path: &&String| path.rsplit('/').next().is_some_and(|name| name.starts_with(kind));
        self.tree.0.keys().filter(is_kind).cloned().collect()
    }

    fn version(&mut self) -> Version {
        let magnitude = [200, 5_000, 5_000, 40_000, 200_000][self.chance.below(5)];
        let bytes = CONTENT_BYTES_MIN + self.chance.below(magnitude);
        self.number_version(bytes)
    }

    fn large_version(&mut self) -> Version {
        let bytes = LARGE_BYTES.start + self.chance.below(LARGE_BYTES.len());
        self.number_version(bytes)
    }

    fn number_version(&mut self, bytes: usize) -> Version {
        self.uploads += 1;
        Version { writer: self.number, number: self.uploads, bytes }
    }
}
