//! One writer: draws steps that are possible, sends them, and knows what its folder must hold.

use pair::client::{Client, ClientError, Handle};
use pair::wire::{Attrs, open_flag};

use super::chance::Chance;
use super::content::{CONTENT_BYTES_MIN, Version};
use super::tree::{Step, Thing, Tree};

const LARGE_BYTES: std::ops::Range<usize> = 1 << 20..8 << 20;
/// Names of each kind that a writer has at most.
const NAMES: usize = 6;

/// The folder of a writer.
pub fn folder_of(writer: usize) -> String {
    format!("w{writer}")
}

/// A writer.
pub struct Writer {
    number: u32,
    chance: Chance,
    has_large: bool,
    large_bytes: std::ops::Range<usize>,
    uploads: u64,
    names: u64,
    /// What was acknowledged; the account's tree below its home.
    pub tree: Tree,
}

impl Writer {
    /// One that begins with nothing. Its first step is to make its folder.
    pub fn new(number: u32, chance: Chance, has_large: bool) -> Writer {
        Writer { number, chance, has_large, large_bytes: LARGE_BYTES, uploads: 0, names: 0, tree: Tree::default() }
    }

    /// Changes how large its large files are.
    pub fn with_large(mut self, bytes: std::ops::Range<usize>) -> Writer {
        self.large_bytes = bytes;
        self
    }

    /// What it does first.
    pub fn first_step(&self) -> Step {
        Step::MakeFolder(folder_of(self.number as usize))
    }

    /// Does a step. `at_last` is called before the request that makes it happen.
    pub async fn send(client: &Client, step: &Step, at_last: impl FnOnce()) -> Result<(), ClientError> {
        if let Step::Put(path, version) = step {
            let handle = upload(client, path, version).await?;
            at_last();
            return client.close(handle).await;
        }
        at_last();
        match step {
            Step::Put(..) => Ok(()),
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
        }
    }

    /// Draws a step that is possible now; none where what was drawn is not.
    pub fn next_step(&mut self) -> Option<Step> {
        let folder = folder_of(self.number as usize);
        match self.chance.below(20) {
            0..6 => {
                let path = self.any('f').filter(|_| self.is_many('f')).unwrap_or_else(|| self.new_name('f'));
                Some(Step::Put(path, self.version()))
            }
            6..9 => Some(Step::Put(self.any('f')?, self.version())),
            9 if self.has_large => Some(Step::Put(format!("{folder}/large"), self.large_version())),
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
        let bytes = self.large_bytes.start + self.chance.below(self.large_bytes.len());
        self.number_version(bytes)
    }

    fn number_version(&mut self, bytes: usize) -> Version {
        self.uploads += 1;
        Version { writer: self.number, number: self.uploads, bytes }
    }
}

/// Sends a content, all but the CLOSE.
async fn upload(client: &Client, path: &str, version: &Version) -> Result<Handle, ClientError> {
    let content = version.content();
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
}
