//! Follows the logs of some folders: finds what is new in them and has it kept, each line once.
//!
//! Always holds: what is not kept is read again; what is kept is not. A file that cannot be read is a problem that is kept, and holds up
//! no other. Nothing here remembers what must not be lost: it may be killed at any moment.

mod folder;
mod lines;
mod recognise;
mod text;
mod watch;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use anyhow::Context;
use jiff::Timestamp;

use crate::config::Config;
use crate::store::{
    Batch, Problem, Store, Stream, Taken, keep_problem, packed_is_known, remember_packed, streams_that_begin,
};
use lines::{LINE_BYTES_MAX, Lines};
use recognise::{Verdict, recognise};
use text::{State, Text};

pub use watch::Watch;

/// Batches that wait to be written.
const BATCHES_MAX: usize = 2;

/// Steps of letting old records go that are done at a time.
const LETTING_GO_STEPS: usize = 40;

/// What one look at all folders has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Lines that were read.
    pub lines: u64,
    /// Records that were kept.
    pub records: u64,
    /// Records that were here already, from another file.
    pub repeated: u64,
    /// Records that are older than anything that is kept.
    pub too_old: u64,
    /// Lines that are not meant to be records.
    pub passed_over: u64,
    /// Lines that are no records, and files that cannot be read.
    pub problems: u64,
}

impl Look {
    fn add(&mut self, batch: &Batch, taken: Taken) {
        self.lines += batch.lines;
        self.records += taken.records;
        self.repeated += taken.repeated;
        self.too_old += taken.too_old;
        self.passed_over += batch.passed_over;
        self.problems += batch.problems_count;
    }
}

/// Follows the logs.
pub struct Follower {
    store: Store,
    folders: Vec<PathBuf>,
    retention_days: u32,
    records_max: u64,
    /// Files that were read to their end, as they were then.
    unchanged: HashMap<PathBuf, State>,
    /// What is wrong with a folder, as it was said last.
    said: HashMap<PathBuf, String>,
}

impl Follower {
    /// Opens the store. Another console on the same state is an error that a person must mend.
    pub fn new(config: &Config) -> anyhow::Result<Follower> {
        config.check()?;
        let store = Store::open(&config.state, config.zone()?)?;
        let (retention_days, records_max) = (config.retention_days, config.records_max);
        let (unchanged, said) = (HashMap::new(), HashMap::new());
        Ok(Follower { store, folders: config.folders(), retention_days, records_max, unchanged, said })
    }

    /// All folders that are there, with those of other machines' logs.
    pub fn folders(&self) -> Vec<PathBuf> {
        self.folders.iter().flat_map(|folder| folder::with_received(folder)).collect()
    }

    /// Reads all that is new. `is_over` is asked between batches. An error means that the store cannot be written: nothing is lost, and
    /// the next look goes on where this one ended.
    pub fn look(&mut self, is_over: &dyn Fn() -> bool) -> anyhow::Result<Look> {
        let looked = self.look_at_all(is_over).and_then(|look| self.store.settle().map(|()| look));
        if looked.is_err() {
            // What was read of files that were done already may be taken back with the rest.
            self.store.take_back();
            self.unchanged.clear();
            self.said.clear();
        }
        looked
    }

    fn look_at_all(&mut self, is_over: &dyn Fn() -> bool) -> anyhow::Result<Look> {
        let mut look = Look::default();
        let mut there = Vec::new();
        for folder in self.folders() {
            match folder::logs_of(&folder) {
                Ok(logs) => {
                    self.said.remove(&folder);
                    there.extend(logs);
                }
                Err(error) => self.say_once(folder, &error),
            }
        }
        self.unchanged.retain(|path, _| there.contains(path));
        for path in there {
            if is_over() {
                break;
            }
            self.look_at(&path, &mut look, is_over)?;
        }
        Ok(look)
    }

    /// Lets old records go, as many as are soon done; tells whether there is more to do.
    pub fn let_go(&mut self) -> anyhow::Result<bool> {
        for _ in 0..LETTING_GO_STEPS {
            if !self.store.let_go(self.retention_days, self.records_max, now_ms())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn say_once(&mut self, folder: PathBuf, error: &io::Error) {
        let sentence = error.to_string();
        if self.said.get(&folder) != Some(&sentence) {
            tracing::warn!("logs: cannot read {}: {sentence}", folder.display());
            self.said.insert(folder, sentence);
        }
    }

    fn look_at(&mut self, path: &Path, look: &mut Look, is_over: &dyn Fn() -> bool) -> anyhow::Result<()> {
        let text = match Text::open(path) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(()),
            Err(error) => return self.note(path, 0, format!("the file cannot be opened: {error}"), look),
        };
        if self.unchanged.get(path) == Some(&text.state) {
            return Ok(());
        }
        let known = self.read_new(path, &text, look, is_over)?;
        if known && !text.state.is_young() {
            self.unchanged.insert(path.to_owned(), text.state);
        }
        Ok(())
    }

    /// Reads what is new in a file; tells whether all of it is read that can be.
    fn read_new(
        &mut self,
        path: &Path,
        text: &Text,
        look: &mut Look,
        is_over: &dyn Fn() -> bool,
    ) -> anyhow::Result<bool> {
        let State { device, inode, bytes, changed_ns } = text.state;
        let cannot_ask = || format!("cannot read {}", self.store.path().display());
        if text.is_packed()
            && packed_is_known(self.store.connection(), (device, inode), bytes, changed_ns).with_context(cannot_ask)?
        {
            return Ok(true);
        }
        let mut stream = match self.stream_of(path, text)? {
            Ok(Some(stream)) => stream,
            Ok(None) => return Ok(true),
            Err(error) => {
                self.note(path, 0, format!("the file cannot be read: {error}"), look)?;
                return Ok(false);
            }
        };
        if !text.is_packed() && stream.consumed == bytes {
            return Ok(true);
        }
        match self.read_on(text, &mut stream, look, is_over)? {
            None if is_over() => Ok(false),
            None => {
                if text.is_packed() {
                    let remembered =
                        remember_packed(self.store.connection(), (device, inode), bytes, changed_ns, now_ms());
                    remembered.with_context(|| format!("cannot write {}", self.store.path().display()))?;
                }
                Ok(true)
            }
            // One that is still being packed ends too early, and is not worth a word while it is young.
            Some(error) if crate::packing::is_damage(&error) && text.state.is_young() => Ok(false),
            Some(error) => {
                let sentence = format!("the file cannot be read from here on: {error}");
                self.note(path, stream.consumed, sentence, look)?;
                Ok(crate::packing::is_damage(&error))
            }
        }
    }

    /// The stream whose text a file has; none where there is nothing to read in it, now or at all.
    fn stream_of(&mut self, path: &Path, text: &Text) -> anyhow::Result<io::Result<Option<Stream>>> {
        let sight = match text.sight() {
            Ok(sight) => sight,
            Err(error) => return Ok(Err(error)),
        };
        let Some(start) = sight.start() else { return Ok(Ok(None)) };
        let known = streams_that_begin(self.store.connection(), &start)
            .with_context(|| format!("cannot read {}", self.store.path().display()))?;
        let verdict = match recognise(&sight, known, |place| text.tail_at(place)) {
            Ok(verdict) => verdict,
            Err(error) => return Ok(Err(error)),
        };
        let text_of = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let (folder, name) = (text_of(path.parent().map(Path::as_os_str)), text_of(path.file_name()));
        let here = |stream| Stream { folder, name, device: sight.device, inode: sight.inode, ..stream };
        Ok(Ok(match verdict {
            Verdict::New => Some(here(Stream { start, ..Stream::default() })),
            Verdict::GoOn(stream) => Some(here(stream)),
            Verdict::Copy => None,
            Verdict::TakenBack(from) => match fork_of(text, &from) {
                Ok(Some(fork)) => {
                    let mut fork = here(fork);
                    self.store.fork(&from, &mut fork, now_ms())?;
                    Some(fork)
                }
                Ok(None) => None,
                Err(error) => return Ok(Err(error)),
            },
        }))
    }

    /// Reads on where a stream was read to, one batch ahead of what is written; gives the error that ended it, if one did.
    fn read_on(
        &mut self,
        text: &Text,
        stream: &mut Stream,
        look: &mut Look,
        is_over: &dyn Fn() -> bool,
    ) -> anyhow::Result<Option<io::Error>> {
        let (send, batches) = sync_channel::<io::Result<Batch>>(BATCHES_MAX);
        let (from, zone) = (stream.clone(), self.store.zone().clone());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut lines = match Lines::after(text, &from, zone) {
                    Ok(lines) => lines,
                    Err(error) => return drop(send.send(Err(error))),
                };
                while let Some(batch) = lines.next_batch().transpose() {
                    let is_last = batch.is_err();
                    if send.send(batch).is_err() || is_last {
                        return;
                    }
                }
            });
            for batch in batches {
                let batch = match batch {
                    Ok(batch) => batch,
                    Err(error) => return Ok(Some(error)),
                };
                let taken = self.store.gather(stream, &batch, now_ms())?;
                look.add(&batch, taken);
                if is_over() {
                    break;
                }
            }
            Ok(None)
        })
    }

    fn note(&mut self, path: &Path, position: u64, sentence: String, look: &mut Look) -> anyhow::Result<()> {
        look.problems += 1;
        if self.said.get(path) == Some(&sentence) {
            return Ok(());
        }
        let problem = Problem { position, sentence: sentence.clone() };
        keep_problem(self.store.connection(), &path.to_string_lossy(), &problem, now_ms())
            .with_context(|| format!("cannot write {}", self.store.path().display()))?;
        self.said.insert(path.to_owned(), sentence);
        Ok(())
    }
}

/// What goes on from the end of a file of which lines were taken back; none where no whole line is left near its end.
fn fork_of(text: &Text, from: &Stream) -> io::Result<Option<Stream>> {
    let consumed = text.whole_lines(2 * LINE_BYTES_MAX)?;
    let Some(tail) = text.tail_at(consumed)?.filter(|_| consumed > 0) else { return Ok(None) };
    let mut head = from.head.clone();
    head.truncate(usize::try_from(consumed).unwrap_or(usize::MAX));
    Ok(Some(Stream { id: 0, head, consumed, tail, is_skipping: false, ..from.clone() }))
}

fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests;
