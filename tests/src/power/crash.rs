//! What a disk may hold after the power was cut: everything up to the last flush, and any mixture of what came after.
//!
//! One thing is taken to be whole or absent though it is longer than a sector: the block with ext4's superblock. A torn
//! one cannot be mounted, which no program above could help.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::disk::{Event, LoggedDisk};
use crate::load::Chance;

/// What is written as one, in bytes.
const SECTOR: usize = 512;
/// ext4's superblock is in the first of these.
const BLOCK: usize = 4096;
/// Runs of zeros of this length become holes of the image.
const HOLE: usize = 64 * 1024;

/// What survives of the writes since the last flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    None,
    /// Everything.
    All,
    /// The first so many.
    Prefix(usize),
    /// Each by itself, half of them.
    Half,
    /// The same, and of the newest only some sectors.
    Torn,
}

/// A moment at which the power is cut, and what survives it.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// How many events there were.
    pub position: usize,
    /// What survives.
    pub survival: Survival,
    /// Decides what is left to chance.
    seed: u64,
}

/// Draws `count` cuts within `positions`, in their order in time. Every other one is at the moment of an
/// acknowledgement: that is when most depends on what was flushed.
pub fn cuts(
    disk: &LoggedDisk,
    positions: Range<usize>,
    acknowledged: &[usize],
    count: usize,
    chance: &mut Chance,
) -> Vec<Cut> {
    let log = disk.log();
    let mut cuts = Vec::new();
    for number in 0..count {
        let position = match acknowledged.len() {
            some if some > 0 && number % 2 == 0 => acknowledged[chance.below(some)],
            _ => positions.start + chance.below(positions.len() + 1),
        };
        let unflushed = position - flushed(&log, position);
        let survival = match chance.below(6) {
            0 | 1 => Survival::None,
            2 => Survival::All,
            3 => Survival::Prefix(chance.below(unflushed + 1)),
            4 => Survival::Half,
            _ => Survival::Torn,
        };
        cuts.push(Cut { position, survival, seed: chance.number() });
    }
    cuts.sort_by_key(|cut| cut.position);
    cuts
}

/// How many of the events before `position` are durable.
fn flushed(log: &[Event], position: usize) -> usize {
    log[..position].iter().rposition(|event| matches!(event, Event::Flush)).map_or(0, |flush| flush + 1)
}

impl Cut {
    /// Writes the disk as it is after this cut.
    pub fn image(&self, disk: &LoggedDisk, path: &Path) {
        let log = disk.log();
        let durable = flushed(&log, self.position);
        let mut image = disk.first().to_vec();
        for event in &log[..durable] {
            put(&mut image, event);
        }
        let (rest, mut chance) = (&log[durable..self.position], Chance::new(self.seed));
        for (number, event) in rest.iter().enumerate() {
            let is_last = number + 1 == rest.len();
            match self.survival {
                Survival::None => {}
                Survival::Prefix(some) if number >= some => {}
                Survival::Torn if is_last => put_torn(&mut image, event, &mut chance),
                Survival::Half | Survival::Torn if chance.one_in(2) => {}
                _ => put(&mut image, event),
            }
        }
        save(&image, path);
    }
}

fn put(image: &mut [u8], event: &Event) {
    if let Event::Write { offset, bytes } = event {
        image[*offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

fn put_torn(image: &mut [u8], event: &Event, chance: &mut Chance) {
    let Event::Write { offset, bytes } = event else { return };
    if *offset < BLOCK {
        return put(image, event);
    }
    for (number, sector) in bytes.chunks(SECTOR).enumerate() {
        if chance.one_in(2) {
            let from = offset + number * SECTOR;
            image[from..from + sector.len()].copy_from_slice(sector);
        }
    }
}

fn save(image: &[u8], path: &Path) {
    let file = std::fs::File::create(path).expect("an image");
    file.set_len(image.len() as u64).expect("its length");
    for (number, piece) in image.chunks(HOLE).enumerate() {
        if piece != &[0; HOLE][..piece.len()] {
            file.write_all_at(piece, (number * HOLE) as u64).expect("its content");
        }
    }
}
