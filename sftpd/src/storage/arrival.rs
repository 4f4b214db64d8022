//! What of an upload has arrived: how far without a gap, and the hash of it while it comes in order.
//!
//! Pure arithmetic. A size that is shown to a client which wants to resume must never reach past a gap, or the client
//! joins its next bytes to zeros.

use std::collections::BTreeMap;

/// Pieces behind a gap that are remembered; a client that scatters more only loses what lies behind the gap when its
/// connection dies.
const PIECES_MAX: usize = 256;

/// The size from which to go on with an upload of which so much has arrived: the last byte is sent again. An upload that
/// is all there but was never closed must not look complete, or its client goes away content and nothing is published.
pub(super) fn to_be_shown(arrived: u64) -> u64 {
    arrived.saturating_sub(1)
}

/// What has arrived.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Everything before it is there, in bytes.
    contiguous: u64,
    /// Pieces behind the gap, by where they begin.
    pieces: BTreeMap<u64, u64>,
    /// Of everything written so far, if it all came in order.
    hasher: Option<Box<blake3::Hasher>>,
}

impl Arrival {
    /// An upload that begins empty.
    pub(super) fn empty() -> Arrival {
        Arrival { contiguous: 0, pieces: BTreeMap::new(), hasher: Some(Box::default()) }
    }

    /// An upload that begins with so many bytes which were not seen arriving.
    pub(super) fn with(bytes: u64) -> Arrival {
        let hasher = (bytes == 0).then(Box::default);
        Arrival { contiguous: bytes, pieces: BTreeMap::new(), hasher }
    }

    /// Data was written.
    pub(super) fn wrote(&mut self, offset: u64, data: &[u8]) {
        if offset == self.contiguous && self.pieces.is_empty() {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(data);
            }
        } else if !data.is_empty() {
            self.hasher = None;
        }
        let end = offset.saturating_add(data.len() as u64);
        if offset > self.contiguous {
            if self.pieces.len() < PIECES_MAX {
                let known = self.pieces.entry(offset).or_insert(end);
                *known = (*known).max(end);
            }
            return;
        }
        self.contiguous = self.contiguous.max(end);
        while let Some(piece) = self.pieces.first_entry().filter(|piece| *piece.key() <= self.contiguous) {
            self.contiguous = self.contiguous.max(piece.remove());
        }
    }

    /// The file was cut or grown to this size. Growing brings zeros, which have not "arrived".
    pub(super) fn resized(&mut self, size: u64) {
        if size == 0 {
            *self = Arrival::empty();
        } else if size < self.contiguous {
            *self = Arrival::with(size);
        } else {
            self.pieces.retain(|&start, end| {
                *end = (*end).min(size);
                start < size
            });
        }
    }

    /// How far there is no gap, in bytes.
    pub(super) fn contiguous(&self) -> u64 {
        self.contiguous
    }

    /// The size from which to go on.
    pub(super) fn to_be_shown(&self) -> u64 {
        to_be_shown(self.contiguous)
    }

    /// Whether anything came behind a gap that is still open.
    pub(super) fn has_gap(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// The hash of a file of this size, if all of it came in order.
    pub(super) fn hash(&self, size: u64) -> Option<blake3::Hash> {
        self.hasher
            .as_ref()
            .filter(|_| self.contiguous == size && self.pieces.is_empty())
            .map(|hasher| hasher.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_in_order_is_hashed_and_counted() {
        let mut arrival = Arrival::empty();
        arrival.wrote(0, b"abc");
        arrival.wrote(3, b"def");
        assert_eq!((arrival.contiguous(), arrival.hash(6)), (6, Some(blake3::hash(b"abcdef"))));
        assert_eq!(arrival.to_be_shown(), 5, "it may be all there, but it was not closed");
        arrival.resized(6);
        assert!(arrival.hash(6).is_some(), "clients set the size that they have sent");
        arrival.resized(10);
        assert_eq!((arrival.contiguous(), arrival.hash(10)), (6, None), "zeros have not arrived");
    }

    #[test]
    fn a_gap_is_never_counted_and_closes_when_it_is_filled() {
        let mut arrival = Arrival::empty();
        arrival.wrote(0, b"abc");
        arrival.wrote(6, b"ghi");
        assert!(arrival.has_gap());
        assert_eq!(arrival.contiguous(), 3);
        arrival.wrote(3, b"def");
        assert_eq!((arrival.contiguous(), arrival.has_gap(), arrival.hash(9)), (9, false, None));
    }

    #[test]
    fn cutting_goes_back_and_cutting_to_nothing_begins_anew() {
        let mut arrival = Arrival::with(10);
        arrival.wrote(20, b"x");
        arrival.resized(15);
        assert_eq!((arrival.contiguous(), arrival.has_gap()), (10, false));
        arrival.resized(5);
        assert_eq!(arrival.contiguous(), 5);
        arrival.resized(0);
        arrival.wrote(0, b"new");
        assert_eq!(arrival.hash(3), Some(blake3::hash(b"new")));
    }

    #[test]
    fn writing_again_what_was_hashed_loses_the_hash_and_nothing_else() {
        let mut arrival = Arrival::empty();
        arrival.wrote(0, b"abc");
        arrival.wrote(1, b"xyz");
        assert_eq!((arrival.contiguous(), arrival.hash(4)), (4, None));
    }
}
