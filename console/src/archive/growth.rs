//! What is written to a file while it is watched.
//!
//! Always holds: only whole lines are told, each once; of a line that is longer than a window, its parts. Whether it is still the same text is told by what stands before the place that was
//! read, not by the file's number: what grows by being replaced with a longer version of itself goes on. Anything else ends it, with a word.

use std::io::{self, Read};

use super::bounds::Bounds;
use super::content::Content;
use super::place::Place;
use super::volume::{Home, Volume};
use super::window::{Line, after};

/// Bytes before the place read that must stay as they are.
const PROOF_BYTES: u64 = 1024;

/// A file that is watched.
pub struct Growth {
    home_path: Vec<u8>,
    place: Place,
    offset: u64,
    proof: Option<Vec<u8>>,
}

/// What has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Grown {
    /// These lines; none where nothing has come.
    Lines(Vec<Line>),
    /// It is not the same file any more: why.
    Ended(&'static str),
}

impl Growth {
    /// From a place of the text on.
    pub fn new(home_path: Vec<u8>, place: Place, offset: u64) -> Growth {
        Growth { home_path, place, offset, proof: None }
    }

    /// Up to which place of the text lines were told.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What has come since the last look.
    pub fn look(&mut self, volume: &Volume, bounds: &Bounds) -> io::Result<Grown> {
        let opened = volume.home(&self.home_path).and_then(|home: Home| home.file(&self.place.path));
        let content = match opened {
            Ok(file) => Content::of(file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Grown::Ended("The file is not there any more: it was renamed or removed."));
            }
            Err(error) => return Err(error),
        };
        if !content.is_plain() {
            return Ok(Grown::Ended("The file is packed now, and grows no more."));
        }
        if content.size < self.offset {
            return Ok(Grown::Ended("The file has become shorter: it was emptied, or replaced by another."));
        }
        let proof = proof(&content, self.offset, bounds)?;
        if self.proof.as_ref().is_some_and(|known| *known != proof) {
            return Ok(Grown::Ended("The file was replaced by another, as logs are when they are rotated."));
        }
        let window = after(&content, self.offset, bounds)?;
        // Half a line is told once it is whole, unless it is longer than a window.
        let is_long = !window.is_last && !window.lines.iter().any(|line| line.is_ended);
        let lines: Vec<Line> = window.lines.into_iter().filter(|line| line.is_ended || is_long).collect();
        let proof = match lines.last() {
            Some(last) => {
                self.offset = last.next;
                self::proof(&content, self.offset, bounds)?
            }
            None => proof,
        };
        self.proof = Some(proof);
        Ok(Grown::Lines(lines))
    }
}

/// What stands before a place.
fn proof(content: &Content, end: u64, bounds: &Bounds) -> io::Result<Vec<u8>> {
    let start = end.saturating_sub(PROOF_BYTES);
    let mut bytes = Vec::new();
    content.text(start, bounds)?.take(end - start).read_to_end(&mut bytes)?;
    Ok(bytes)
}
