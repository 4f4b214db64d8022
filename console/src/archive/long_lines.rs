//! Lines of any length, as lines that fit into memory: a longer one is cut into several, and where is remembered.
//!
//! Always holds: what is read is the text with line feeds put in, so no line has more than [`LINE_MAX`] and one read's bytes; numbers and
//! places of lines can be told as if nothing had been put in.

use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;

/// Where a line is cut, in bytes.
pub const LINE_MAX: usize = 1024 * 1024;

/// Where lines were cut, in places of what is read.
#[derive(Clone, Debug, Default)]
pub struct Cuts(Rc<RefCell<Vec<u64>>>);

impl Cuts {
    /// How many are before a place of what is read.
    pub fn before(&self, place: u64) -> u64 {
        self.0.borrow().partition_point(|cut| *cut < place) as u64
    }
}

/// Cuts lines while they are read.
pub struct LongLines<R> {
    reader: R,
    cuts: Cuts,
    /// Bytes of the line that is being read.
    run: usize,
    /// Bytes that were given out.
    given: u64,
}

impl<R: Read> LongLines<R> {
    /// Nothing read yet.
    pub fn new(reader: R, cuts: Cuts) -> LongLines<R> {
        LongLines { reader, cuts, run: 0, given: 0 }
    }
}

impl<R: Read> Read for LongLines<R> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if let (true, Some(first)) = (self.run >= LINE_MAX, space.first_mut()) {
            *first = b'\n';
            self.cuts.0.borrow_mut().push(self.given);
            (self.given, self.run) = (self.given + 1, 0);
            return Ok(1);
        }
        let count = self.reader.read(space)?;
        let read = space.get(..count).unwrap_or_default();
        self.run = match memchr::memrchr(b'\n', read) {
            Some(last) => count - last - 1,
            None => self.run + count,
        };
        self.given += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_lines_are_cut_and_the_places_can_be_told() {
        let text = [b"short\n".to_vec(), vec![b'x'; LINE_MAX * 2 + 5], b"\nshort again\n".to_vec()].concat();
        let cuts = Cuts::default();
        let mut reader = LongLines::new(text.as_slice(), cuts.clone());
        let (mut read, mut space) = (Vec::new(), vec![0; 64 * 1024]);
        loop {
            let count = reader.read(&mut space).unwrap();
            if count == 0 {
                break;
            }
            read.extend_from_slice(&space[..count]);
        }
        let lines: Vec<&[u8]> = read.split(|byte| *byte == b'\n').collect();
        assert!(lines.iter().all(|line| line.len() <= LINE_MAX + space.len()));
        assert_eq!((lines[0], lines[lines.len() - 2]), (b"short".as_slice(), b"short again".as_slice()));
        let place = (read.len() - "short again\n".len()) as u64;
        assert_eq!(place - cuts.before(place), (text.len() - "short again\n".len()) as u64);
        assert_eq!(read.len() as u64 - cuts.before(u64::MAX), text.len() as u64);
        assert!((1..=2).contains(&cuts.before(u64::MAX)));
    }
}
