//! Judges all files of a look: brings together what the record knows and what stands in the files, and lets `decide` decide. Blocks.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::{Duration, Instant};

use super::decide::{Candidate, Verdict, View, at_a_glance, decide};
use super::folders::Selection;
use super::parcel::is_gone;
use super::record::{Intent, Note, Noted, Record, Text};
use super::sight::{END_BYTES, Sight, start_of};
use super::survey::{Rest, Survey};
use crate::source::{Source, read_at};

/// What tells files apart while they are there: inode, and time of birth.
pub type Inode = (u64, i64);

/// What is to be done.
#[derive(Debug, Default)]
pub struct Judgement {
    /// What is to be sent: the file, and the text that goes on in it; none for a new one.
    pub jobs: Vec<(Sight, Option<Text>)>,
    /// What is to be noted.
    pub notes: Vec<Note>,
    /// Files that are in the archive as they are, with when that was noted.
    pub settled: Vec<(Sight, i64)>,
    /// Files that are written to, or were met lately.
    pub resting: u64,
    /// Files of which something is not in the archive yet.
    pub unsettled: Vec<Sight>,
    /// Files that could not be looked into, and why.
    pub problems: Vec<(String, String)>,
}

/// What the judge goes by.
pub struct Judge<'a> {
    /// The folders.
    pub selections: &'a [Selection],
    /// The record.
    pub record: &'a Record,
    /// Since when files are as they are.
    pub rest: &'a Rest,
    /// For how long a file must not change.
    pub quiet: Duration,
    /// Whether the server lets files be continued; else growing files wait until they are at rest, too.
    pub continues: bool,
    /// Texts of which something is on its way.
    pub busy: &'a HashSet<i64>,
    /// Files that are on their way: by inode and time of birth.
    pub on_the_way: &'a HashSet<Inode>,
}

/// What was found out while judging.
struct Found<'a> {
    judgement: Judgement,
    /// Files that were met.
    inodes: HashMap<Inode, &'a Sight>,
    /// Texts that a file was seen to hold.
    held: HashSet<i64>,
    /// Files and texts that were given out, so that none is sent twice.
    given: HashSet<Inode>,
    given_texts: HashSet<i64>,
    /// What the record says to be on its way: a send that broke off is gone on with, and never judged anew, be it in a copy.
    intents: Vec<Intent>,
}

impl Judge<'_> {
    /// Judges what a look has shown.
    pub fn judge(&self, survey: &Survey, now: Instant) -> anyhow::Result<Judgement> {
        let inodes = survey.sights.iter().map(|sight| (inode(sight), sight)).collect();
        let mut found = Found {
            judgement: Judgement::default(),
            inodes,
            held: HashSet::new(),
            given: HashSet::new(),
            given_texts: HashSet::new(),
            intents: self.record.intents()?,
        };
        let mut open = Vec::new();
        for sight in &survey.sights {
            let folder = self.folder(sight);
            let noted = self.record.noted(&folder.name, &sight.path)?;
            if noted.as_ref().is_some_and(|noted| noted.missing_s.is_some()) {
                found.judgement.notes.push(Note::Missing(folder.name.clone(), sight.path.clone(), false));
            }
            let view = self.view(sight, noted.as_ref(), now);
            match at_a_glance(&view) {
                Some(Verdict::Settled) => {
                    if let Some(noted) = noted.filter(|noted| noted.stamp == sight.stamp) {
                        found.held.insert(noted.text);
                        found.judgement.settled.push((sight.clone(), noted.at_s));
                    }
                }
                Some(_) => found.rests(sight),
                None => open.push((sight, view)),
            }
        }
        // Files that go on with their own text first: what is left of the texts may have been renamed or copied.
        let mut others = Vec::new();
        for (sight, view) in open {
            let own = self.record.texts_of_file(sight.stamp.ino, sight.stamp.btime_ns)?;
            if own.is_empty() || !self.try_judge(&mut found, sight, &view, own, true)? {
                others.push((sight, view));
            }
        }
        for (sight, view) in others {
            let own = self.record.texts_of_file(sight.stamp.ino, sight.stamp.btime_ns)?;
            self.try_judge(&mut found, sight, &view, own, false)?;
        }
        self.note_missing(survey, &mut found.judgement)?;
        Ok(found.judgement)
    }

    fn folder(&self, sight: &Sight) -> &Selection {
        // The look was at these very folders.
        #[allow(clippy::indexing_slicing, reason = "a sight's folder is one of those that were looked at")]
        &self.selections[sight.folder]
    }

    fn view(&self, sight: &Sight, noted: Option<&Noted>, now: Instant) -> View {
        let (is_quiet, is_young) = self.rest.is_quiet_or_young(sight, self.quiet, now);
        View {
            stamp: sight.stamp,
            noted: noted.map(|noted| noted.stamp),
            is_quiet,
            is_young,
            tail: self.folder(sight).tail && self.continues,
        }
    }

    /// Judges one file; with `only_own` it is left open where its own texts do not say what it is.
    fn try_judge(
        &self,
        found: &mut Found,
        sight: &Sight,
        view: &View,
        own: Vec<Text>,
        only_own: bool,
    ) -> anyhow::Result<bool> {
        if self.on_the_way.contains(&inode(sight)) || found.given.contains(&inode(sight)) {
            found.rests(sight);
            return Ok(true);
        }
        let (verdict, texts) = match self.look_into(found, sight, view, own, only_own) {
            Ok(judged) => judged,
            Err(error) => match error.downcast_ref::<io::Error>() {
                // It went away meanwhile.
                Some(error) if is_gone(error) => return Ok(true),
                Some(error) => {
                    let path = self.folder(sight).root.join(shown(&sight.path));
                    found.judgement.problems.push((path.display().to_string(), format!("cannot be read: {error}")));
                    return Ok(true);
                }
                None => return Err(error),
            },
        };
        if only_own && verdict == Verdict::New {
            return Ok(false);
        }
        self.take_down(found, sight, verdict, texts);
        Ok(true)
    }

    fn take_down(&self, found: &mut Found, sight: &Sight, verdict: Verdict, mut texts: Vec<Text>) {
        let file = inode(sight);
        match verdict {
            Verdict::Settled => {}
            Verdict::Wait => found.rests(sight),
            Verdict::Known(text) => {
                found.held.insert(text);
                let carries = texts.iter().any(|known| known.id == text && known.file != file);
                let folder = self.folder(sight).name.clone();
                let (path, stamp) = (sight.path.clone(), sight.stamp);
                found.judgement.notes.push(Note::Known { folder, path, stamp, text, carries });
            }
            Verdict::GoesOn(text) => {
                found.held.insert(text);
                let at = texts.iter().position(|known| known.id == text);
                if let Some(at) = at.filter(|_| found.given_texts.insert(text)) {
                    found.given.insert(file);
                    found.judgement.unsettled.push(sight.clone());
                    found.judgement.jobs.push((sight.clone(), Some(texts.swap_remove(at))));
                }
            }
            Verdict::New => {
                found.given.insert(file);
                found.judgement.unsettled.push(sight.clone());
                found.judgement.jobs.push((sight.clone(), None));
            }
        }
    }

    fn look_into(
        &self,
        found: &Found,
        sight: &Sight,
        view: &View,
        own: Vec<Text>,
        only_own: bool,
    ) -> anyhow::Result<(Verdict, Vec<Text>)> {
        let folder = self.folder(sight);
        let source = Source::open(&folder.root).map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
        let file = source.open_file(&sight.path)?;
        let mut read = |at: u64, length: usize| read_at(&file, at, length);
        let mut texts = own;
        let own_count = texts.len();
        let start = start_of(&read(0, END_BYTES.min(sight.stamp.size) as usize)?);
        if !only_own {
            let alike = self.record.texts_of_start(&start, sight.stamp.size)?;
            texts.extend(alike.into_iter().filter(|text| text.file != inode(sight)));
        }
        let on_its_way = found.intents.iter().filter(|intent| intent.proof.start == start);
        let mut candidates: Vec<Candidate> = on_its_way.map(on_its_way_in).collect();
        for (at, text) in texts.iter().enumerate() {
            candidates.push(Candidate {
                text: text.id,
                proof: text.proof.clone(),
                is_own: at < own_count,
                is_orphan: at >= own_count && self.is_orphan(found, text, sight)?,
                is_busy: text.proof.sent == 0
                    || self.busy.contains(&text.id)
                    || found.intents.iter().any(|intent| intent.text == text.id)
                    || found.given_texts.contains(&text.id),
            });
        }
        let verdict = decide(view, &candidates, |candidate| {
            // A file that grows all the time is not read from its beginning each time.
            let is_growing = candidate.is_own && view.tail;
            match is_growing {
                true => candidate.proof.holds_at_its_end(sight.stamp.size, &mut read),
                false => candidate.proof.holds(sight.stamp.size, &mut read),
            }
        })?;
        Ok((verdict, texts))
    }

    /// Whether a text has lost its file, so that this one may have come of it: its file is there and holds something else, or it is
    /// gone and a file of the same time and length is here.
    fn is_orphan(&self, found: &Found, text: &Text, sight: &Sight) -> anyhow::Result<bool> {
        if found.held.contains(&text.id) {
            return Ok(false);
        }
        if let Some(holder) = found.inodes.get(&text.file) {
            return Ok(!self.may_hold(holder, text));
        }
        let files = self.record.files_of_text(text.id)?;
        let is_like =
            |noted: &Noted| (noted.stamp.size, noted.stamp.mtime_ns) == (sight.stamp.size, sight.stamp.mtime_ns);
        Ok(files.iter().any(|(_, noted)| is_like(noted)))
    }

    /// Whether a file still holds a text, as far as can be told; one that cannot be read is taken to.
    fn may_hold(&self, holder: &Sight, text: &Text) -> bool {
        let look = || -> io::Result<bool> {
            let source = Source::open(&self.folder(holder).root).map_err(io::Error::other)?;
            let file = source.open_file(&holder.path)?;
            let mut read = |at: u64, length: usize| read_at(&file, at, length);
            text.proof.holds_at_its_end(holder.stamp.size, &mut read)
        };
        look().unwrap_or_else(|error| !is_gone(&error))
    }

    /// Notes which files are gone, of folders that were seen whole.
    fn note_missing(&self, survey: &Survey, judgement: &mut Judgement) -> anyhow::Result<()> {
        let mut seen: HashMap<usize, HashSet<&[u8]>> = HashMap::new();
        for sight in &survey.sights {
            seen.entry(sight.folder).or_default().insert(&sight.path);
        }
        for (at, selection) in self.selections.iter().enumerate().filter(|(at, _)| survey.whole.contains(at)) {
            let here = seen.remove(&at).unwrap_or_default();
            let gone = self.record.all_noted(&selection.name)?.into_iter();
            let gone = gone.filter(|noted| noted.missing_s.is_none() && !here.contains(noted.path.as_slice()));
            judgement.notes.extend(gone.map(|noted| Note::Missing(selection.name.clone(), noted.path, true)));
        }
        Ok(())
    }
}

impl Found<'_> {
    fn rests(&mut self, sight: &Sight) {
        self.judgement.resting += 1;
        self.judgement.unsettled.push(sight.clone());
    }
}

/// A text as it will be once what is on its way has arrived: a file that holds all of that waits for it.
fn on_its_way_in(intent: &Intent) -> Candidate {
    Candidate { text: intent.text, proof: intent.proof.clone(), is_own: false, is_orphan: true, is_busy: true }
}

/// By what a file is told from others.
pub fn inode(sight: &Sight) -> Inode {
    (sight.stamp.ino, sight.stamp.btime_ns)
}

/// Files that are gone, of folders that were seen whole, of which the record does not say that all has arrived.
pub fn lost(record: &Record, survey: &Survey, before: &HashMap<Inode, (Sight, i64)>) -> anyhow::Result<Vec<Sight>> {
    let here: HashSet<Inode> = survey.sights.iter().map(inode).collect();
    let mut lost = Vec::new();
    for (file, (sight, _)) in before {
        if here.contains(file) || !survey.whole.contains(&sight.folder) {
            continue;
        }
        let texts = record.texts_of_file(file.0, file.1)?;
        let is_known = texts.iter().any(|text| text.proof.sent >= sight.stamp.size || text.proof.sent == 0);
        if !is_known {
            lost.push(sight.clone());
        }
    }
    Ok(lost)
}

/// A path as the system takes it.
pub fn shown(path: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(path)
}

#[cfg(test)]
mod tests;
