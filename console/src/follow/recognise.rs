//! Which text a file holds: one that was read before, and how far, or a new one. Pure, but for the look at what stands in the file.
//!
//! Always holds: names decide nothing, and an inode decides only between files that say the same. A file that was renamed, copied or
//! packed is the text that it was; one that was emptied, or got a number that another had, is another text. What cannot be told: a file
//! of which all lines stand at the beginning of another one as well is a copy of that, until it goes on otherwise.

use std::io;

use crate::store::{Stream, TAIL_BYTES, hash_of};

/// A file, as far as it shows what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Where it is.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// How its text begins: [`TAIL_BYTES`], or all of it.
    pub head: Vec<u8>,
    /// Whether it may have been written to in place: packed files never are.
    pub is_plain: bool,
}

impl Sight {
    /// The hash by which its text is looked up; none while it has no whole line, and is too short to be known without one.
    pub fn start(&self) -> Option<[u8; 16]> {
        start_of(&self.head)
    }
}

/// The hash of a text's first line, or of as much of it as is looked at.
pub fn start_of(head: &[u8]) -> Option<[u8; 16]> {
    let line = head.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
    let end = line.or((head.len() >= TAIL_BYTES).then_some(TAIL_BYTES))?;
    head.get(..end).map(hash_of)
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A text that nothing is known of.
    New,
    /// This text: it is to be read on from where it was read to.
    GoOn(Stream),
    /// The beginning of a text that was read further than this file goes.
    Copy,
    /// This text, of which lines were taken back: it goes on from its end, under a number of its own.
    TakenBack(Stream),
}

/// Judges a file by the texts that begin with the same line. `tail_at` gives the hash of what stands in it before a place,
/// [`TAIL_BYTES`] at most; none where the file ends before that place.
pub fn recognise(
    sight: &Sight,
    known: Vec<Stream>,
    mut tail_at: impl FnMut(u64) -> io::Result<Option<[u8; 16]>>,
) -> io::Result<Verdict> {
    let (mut same, mut longer) = (Vec::new(), Vec::new());
    for stream in known.into_iter().filter(|stream| begins_alike(sight, stream)) {
        match tail_at(stream.consumed)? {
            Some(tail) if tail == stream.tail => same.push(stream),
            // It went on otherwise.
            Some(_) => {}
            None => longer.push(stream),
        }
    }
    same.sort_by_key(|stream| (stream.consumed, stream.id));
    let is_of_file = |stream: &Stream| stream.is_of(sight.device, sight.inode);
    if longer.is_empty() {
        // What was read furthest of all that agree.
        return Ok(same.pop().map_or(Verdict::New, Verdict::GoOn));
    }
    Ok(match (same.into_iter().rfind(is_of_file), longer.into_iter().find(is_of_file)) {
        (Some(stream), _) => Verdict::GoOn(stream),
        (None, Some(stream)) if sight.is_plain => Verdict::TakenBack(stream),
        _ => Verdict::Copy,
    })
}

fn begins_alike(sight: &Sight, stream: &Stream) -> bool {
    let common = sight.head.len().min(stream.head.len());
    common > 0 && sight.head.get(..common) == stream.head.get(..common)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: (u64, u64) = (1, 10);

    fn stream(id: i64, text: &str, file: (u64, u64)) -> Stream {
        let head = text.as_bytes().to_vec();
        let tail = hash_of(&head);
        let start = start_of(&head).unwrap();
        Stream {
            id,
            start,
            consumed: head.len() as u64,
            head,
            tail,
            device: file.0,
            inode: file.1,
            ..Stream::default()
        }
    }

    fn judged(text: &str, known: &[&Stream], is_plain: bool) -> Verdict {
        let head = text.as_bytes().to_vec();
        let sight = Sight { device: FILE.0, inode: FILE.1, head, is_plain };
        let known = known.iter().map(|stream| (*stream).clone()).collect();
        let tail_at = |end: u64| Ok(text.as_bytes().get(..end as usize).map(hash_of));
        recognise(&sight, known, tail_at).unwrap()
    }

    #[test]
    fn a_text_is_known_by_what_it_says_wherever_it_lies() {
        let elsewhere = stream(1, "a\nb\n", (1, 99));
        assert_eq!(judged("a\nb\nc\n", &[&elsewhere], true), Verdict::GoOn(elsewhere.clone()), "renamed or copied");
        assert_eq!(judged("a\nb\n", &[&elsewhere], false), Verdict::GoOn(elsewhere.clone()), "packed");
        assert_eq!(judged("a\n", &[&elsewhere], true), Verdict::Copy, "an older copy");
        assert_eq!(judged("x\nb\n", &[&elsewhere], true), Verdict::New);
        assert_eq!(judged("a\nx\nc\n", &[&elsewhere], true), Verdict::New, "it goes on otherwise");
        assert_eq!(judged("a\n", &[], true), Verdict::New);
    }

    #[test]
    fn an_inode_that_was_given_away_again_is_no_proof() {
        let before = stream(1, "a\nb\n", FILE);
        assert_eq!(judged("x\n", &[&before], true), Verdict::New);
        assert_eq!(judged("a\n", &[&before], true), Verdict::TakenBack(before.clone()));
        assert_eq!(judged("a\n", &[&before], false), Verdict::Copy, "nobody writes into a packed file");
    }

    #[test]
    fn a_file_of_which_lines_were_taken_back_goes_on_under_its_own_number() {
        let (before, fork) = (stream(1, "a\nb\nc\n", (0, 0)), stream(2, "a\n", FILE));
        assert_eq!(judged("a\n", &[&before, &fork], true), Verdict::GoOn(fork.clone()));
        assert_eq!(judged("a\nx\ny\nz\n", &[&before, &fork], true), Verdict::GoOn(fork.clone()));
        assert_eq!(judged("a\nb\nc\nd\n", &[&before, &fork], true), Verdict::GoOn(before.clone()), "the longest");
        let copying = stream(2, "a\n", (1, 77));
        assert_eq!(judged("a\nb\n", &[&before, &copying], true), Verdict::Copy, "a copy that is still being made");
    }

    #[test]
    fn what_has_no_whole_line_waits() {
        assert_eq!(start_of(b"{\"half"), None);
        assert_eq!(start_of(b"a\nb"), start_of(b"a\nc"));
        let long = vec![b'x'; TAIL_BYTES];
        assert_eq!(start_of(&long), Some(hash_of(&long)));
    }
}
