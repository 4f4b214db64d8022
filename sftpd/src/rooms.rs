//! Room for answers to READs of full size, used again.
//!
//! Memory that is given back is fetched anew from the system, page by page and filled with zeros, and is in no cache: for each 255 KiB
//! that would be a tenth of what a download costs. It holds a few rooms for the whole daemon, whoever downloads, and none for anybody in
//! particular.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Rooms that are kept while nobody uses them.
const FREE_MAX: usize = 8;

/// Rooms of one size that are free.
#[derive(Debug)]
pub struct Rooms {
    bytes: usize,
    // Held to take one out or to put one in.
    free: Mutex<Vec<Vec<u8>>>,
}

impl Rooms {
    /// Rooms for so many bytes each.
    pub fn new(bytes: usize) -> Rooms {
        Rooms { bytes, free: Mutex::default() }
    }

    /// An empty one.
    pub fn take(&self) -> Vec<u8> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| Vec::with_capacity(self.bytes))
    }

    /// Takes back the room of answers that are sent, unless somebody else has a part of it.
    pub fn give_back_from(&self, answers: Bytes) {
        if let Ok(mut room) = answers.try_into_mut() {
            room.clear();
            self.give_back(room.into());
        }
    }

    /// Takes a room back, if it is one of these.
    pub fn give_back(&self, mut room: Vec<u8>) {
        if room.capacity() != self.bytes {
            return;
        }
        room.clear();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < FREE_MAX {
            free.push(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    #[test]
    fn a_room_is_used_again_when_the_last_part_of_its_answer_is_gone() {
        let rooms = Rooms::new(1000);
        let mut room = rooms.take();
        room.extend_from_slice(&[7; 600]);
        let place = room.as_ptr();
        let mut answers = BytesMut::from(Bytes::from(room)).freeze();
        let first = answers.split_to(400);
        rooms.give_back_from(first.clone());
        drop(first);
        assert!(rooms.free.lock().unwrap().is_empty(), "somebody has a part of it");
        rooms.give_back_from(answers);
        let again = rooms.take();
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (place, 0, 1000));
    }

    #[test]
    fn only_a_few_of_the_right_size_are_kept() {
        let rooms = Rooms::new(1000);
        (0..20).for_each(|_| rooms.give_back(Vec::with_capacity(1000)));
        rooms.give_back(vec![0; 999]);
        let free = rooms.free.lock().unwrap();
        assert!(free.len() == FREE_MAX && free.iter().all(|room| room.capacity() == 1000));
    }
}
