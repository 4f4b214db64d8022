//! Looks for a pattern in many files, one after the other, and tells each hit as soon as it is found.
//!
//! Always holds: one thread, a bounded buffer, and lines of bounded length, whatever the files hold; packed files are unpacked on the way.
//! It ends at once when it is called off, at its time, or at its number of hits, and says which. The searching is ripgrep's.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use grep_searcher::{
    BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkContextKind, SinkFinish, SinkMatch,
};

use super::bounds::{Bounds, Stop};
use super::content::Content;
use super::long_lines::{Cuts, LongLines};
use super::pattern::Pattern;
use super::volume::Home;
use super::walk::Found;

/// Hits of a search.
pub const HITS_MAX: u64 = 1000;
/// Bytes of a line that are kept until its file was looked through.
const KEPT_BYTES_MAX: usize = 16 * 1024;
/// Files with troubles that are told; the rest is counted.
pub const TROUBLES_MAX: u64 = 100;
/// How long a search may take.
pub const TIME_MAX: Duration = Duration::from_secs(300);

/// What has been done so far; another thread may look.
#[derive(Debug, Default)]
pub struct Counts {
    /// Files that were looked through.
    pub files: AtomicU64,
    /// Plain bytes that were looked through.
    pub bytes: AtomicU64,
    /// Files that there are in all.
    pub files_all: AtomicU64,
    /// Lines that were found.
    pub hits: AtomicU64,
    /// Files that could not be looked through to their end; the first [`TROUBLES_MAX`] are told.
    pub troubles: AtomicU64,
}

/// A search.
pub struct Search {
    /// What is looked for.
    pub pattern: Pattern,
    /// Lines that are told before and after each hit.
    pub context: usize,
    /// Only so many hits of each file, its last ones, told when it was looked through; none: all, at once.
    pub last: Option<usize>,
    /// Hits at most.
    pub hits_max: u64,
    /// How far it may go.
    pub bounds: Bounds,
    /// How far it is.
    pub counts: Arc<Counts>,
}

/// What is found.
#[derive(Debug)]
pub enum Event<'a> {
    /// What follows stands in this file.
    File(&'a Found, &'static str),
    /// A line.
    Line {
        /// Its number, from 1 on.
        number: u64,
        /// Where it begins in the text.
        offset: u64,
        /// The line, without its end.
        bytes: &'a [u8],
        /// Whether it is a hit; else it stands beside one.
        is_hit: bool,
    },
    /// Lines are left out here.
    Gap,
    /// A file could not be looked through to its end; only the first are told.
    Trouble(&'a Found, String),
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything was looked through.
    All,
    /// There are more hits than are told.
    Hits,
    /// Its time was over.
    Time,
    /// Nobody waits for it.
    CalledOff,
}

/// How a search went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Why it ended.
    pub end: End,
    /// Files in which something was found.
    pub files: u64,
}

/// Whom hits are told; `false` ends the search.
type Tell<'a> = dyn FnMut(Event<'_>) -> bool + 'a;

impl Search {
    /// Looks through files in their order. `open` gives the folder of a file's agent.
    pub fn run(&self, files: &[Found], open: &dyn Fn(&Found) -> io::Result<Arc<Home>>, tell: &mut Tell<'_>) -> Done {
        let mut searcher = SearcherBuilder::new()
            .binary_detection(BinaryDetection::none())
            .bom_sniffing(false)
            .line_number(true)
            .before_context(self.context)
            .after_context(self.context)
            .build();
        self.counts.files_all.store(files.len() as u64, Ordering::Relaxed);
        let mut with_hits = 0;
        for file in files {
            let looked = open(file).and_then(|home| self.look_through(&mut searcher, &home, file, tell));
            let end = match looked {
                Ok(Seen { has_hits, end }) => {
                    with_hits += u64::from(has_hits);
                    end
                }
                // Removed since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => match self.trouble(file, &error, tell) {
                    true => None,
                    false => Some(End::CalledOff),
                },
            };
            if let Some(end) = end {
                return Done { end, files: with_hits };
            }
            self.counts.files.fetch_add(1, Ordering::Relaxed);
        }
        Done { end: End::All, files: with_hits }
    }

    /// Counts a trouble, and tells it while there are few; `false` where nobody waits any more.
    fn trouble(&self, file: &Found, error: &io::Error, tell: &mut Tell<'_>) -> bool {
        match self.counts.troubles.fetch_add(1, Ordering::Relaxed) < TROUBLES_MAX {
            true => tell(Event::Trouble(file, error.to_string())),
            false => !self.bounds.over.is_cancelled(),
        }
    }

    fn look_through(
        &self,
        searcher: &mut Searcher,
        home: &Home,
        file: &Found,
        tell: &mut Tell<'_>,
    ) -> io::Result<Seen> {
        let content = Content::of(home.file(&file.place.path)?)?;
        let cuts = Cuts::default();
        let mut sink = Hits {
            search: self,
            file,
            packed_as: content.packed_as(),
            cuts: cuts.clone(),
            tell,
            kept: VecDeque::new(),
            kept_hits: 0,
            has_hits: false,
            end: None,
        };
        let text = content.text(0, &self.bounds);
        let searched = text.and_then(|text| {
            let counted = Counted { reader: text, bytes: &self.counts.bytes };
            searcher.search_reader(self.pattern.matcher(), LongLines::new(counted, cuts), &mut sink)
        });
        sink.tell_kept();
        let (has_hits, mut end) = (sink.has_hits, sink.end);
        if let Err(error) = searched {
            match Stop::of(&error) {
                Some(Stop::CalledOff) => end = Some(End::CalledOff),
                Some(Stop::Time) => end = Some(End::Time),
                Some(Stop::Bytes) | None if !self.trouble(file, &error, tell) => end = Some(End::CalledOff),
                Some(Stop::Bytes) | None => {}
            }
        }
        Ok(Seen { has_hits, end })
    }
}

/// What came of a file.
struct Seen {
    has_hits: bool,
    end: Option<End>,
}

/// Counts what is read.
struct Counted<'a, R> {
    reader: R,
    bytes: &'a AtomicU64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(space)?;
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Tells a file's hits.
struct Hits<'a, 'b> {
    search: &'a Search,
    file: &'a Found,
    packed_as: &'static str,
    cuts: Cuts,
    tell: &'a mut Tell<'b>,
    /// The last lines, where only those are told, and how many of them are hits.
    kept: VecDeque<Kept>,
    kept_hits: usize,
    has_hits: bool,
    end: Option<End>,
}

/// A line that is told later, if no more come.
enum Kept {
    Line { number: u64, offset: u64, bytes: Vec<u8>, is_hit: bool },
    Gap,
}

impl Kept {
    fn is_hit(&self) -> bool {
        matches!(self, Kept::Line { is_hit: true, .. })
    }
}

impl Hits<'_, '_> {
    /// Tells something; `false` where the search is over.
    fn tell(&mut self, event: Event<'_>) -> bool {
        let goes_on = (self.tell)(event);
        if !goes_on {
            self.end = Some(End::CalledOff);
        }
        goes_on
    }

    /// Tells a line of the file, after the file itself; `false` where the search is over.
    fn tell_line(&mut self, line: Event<'_>) -> bool {
        if let Event::Line { is_hit: true, .. } = line {
            if self.search.counts.hits.load(Ordering::Relaxed) >= self.search.hits_max {
                self.end = Some(End::Hits);
                return false;
            }
            self.search.counts.hits.fetch_add(1, Ordering::Relaxed);
        }
        if !std::mem::replace(&mut self.has_hits, true) && !self.tell(Event::File(self.file, self.packed_as)) {
            return false;
        }
        self.tell(line)
    }

    fn line(&mut self, bytes: &[u8], offset: u64, number: Option<u64>, is_hit: bool) -> bool {
        let cuts = self.cuts.before(offset);
        let (number, offset) = (number.unwrap_or(0).saturating_sub(cuts), offset.saturating_sub(cuts));
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if self.search.last.is_none() {
            return self.tell_line(Event::Line { number, offset, bytes, is_hit });
        }
        let bytes = bytes.get(..KEPT_BYTES_MAX).unwrap_or(bytes).to_vec();
        self.keep(Kept::Line { number, offset, bytes, is_hit });
        true
    }

    fn keep(&mut self, line: Kept) {
        self.kept_hits += usize::from(line.is_hit());
        self.kept.push_back(line);
        if self.search.last.is_some_and(|last| self.kept_hits > last) {
            self.forget_first();
        }
    }

    /// Forgets the first hit that is kept, and what stands beside it alone.
    fn forget_first(&mut self) {
        let mut hits = self.kept.iter().enumerate().filter(|(_, line)| line.is_hit()).map(|(at, _)| at);
        let (first, next) = (hits.next().unwrap_or(0), hits.next().unwrap_or(self.kept.len()));
        let gap = self.kept.iter().take(next).rposition(|line| matches!(line, Kept::Gap)).filter(|gap| *gap > first);
        let beside = next.saturating_sub(self.search.context).max(first + 1);
        let forgotten = gap.map_or(beside, |gap| gap + 1);
        self.kept.drain(..forgotten.min(self.kept.len()));
        self.kept_hits = self.kept_hits.saturating_sub(1);
    }

    /// Tells what was kept, at the end of the file.
    fn tell_kept(&mut self) {
        while let Some(line) = self.kept.pop_front() {
            let goes_on = match line {
                Kept::Gap => !self.has_hits || self.tell(Event::Gap),
                Kept::Line { number, offset, bytes, is_hit } => {
                    self.tell_line(Event::Line { number, offset, bytes: &bytes, is_hit })
                }
            };
            if !goes_on {
                return;
            }
        }
    }
}

impl Sink for Hits<'_, '_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        Ok(self.line(found.bytes(), found.absolute_byte_offset(), found.line_number(), true))
    }

    fn context(&mut self, _: &Searcher, beside: &SinkContext<'_>) -> io::Result<bool> {
        debug_assert!(*beside.kind() != SinkContextKind::Other, "only lines beside hits are asked for");
        Ok(self.line(beside.bytes(), beside.absolute_byte_offset(), beside.line_number(), false))
    }

    fn context_break(&mut self, _: &Searcher) -> io::Result<bool> {
        if self.search.last.is_some() {
            self.keep(Kept::Gap);
            return Ok(true);
        }
        Ok(self.tell(Event::Gap))
    }

    fn finish(&mut self, _: &Searcher, _: &SinkFinish) -> io::Result<()> {
        Ok(())
    }
}
