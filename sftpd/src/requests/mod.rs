//! The requests, by what they are about. Each function takes its fields, acts, and says what to answer.
//!
//! A function reads all its paths before it acts: it may be asked to wait and then runs again from the start. One that
//! takes long works for one turn, leaves in [`Ongoing`] how far it has come, and is run again.

pub mod attributes;
pub mod checksums;
pub mod closing;
pub mod content;
pub mod copying;
mod drafts;
pub mod extended;
pub mod folders;
mod growing;
mod longname;
pub mod machines;
pub mod names;
pub mod owners;

/// What a request does in one turn at most, in bytes of a file: some ten milliseconds of work.
const TURN_BYTES: u64 = 8 * 1024 * 1024;

/// A request that has not come to its end in one turn.
pub enum Ongoing {
    /// copy-data.
    Copying(copying::Progress),
    /// One of the check-file family.
    Hashing(Box<checksums::Hashing>),
}
