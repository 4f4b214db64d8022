//! The log archive: what agents have sent, as the console reads it.
//!
//! In the order a question meets them: `known` is who sends logs, as sftpd says it; a `place` is a file or folder of an agent; `volume`
//! opens it, and nothing outside the agent's folder; `listing` and `walk` say what is there, through a `sieve`; `content` is a file's plain
//! text, within `bounds`; `window` shows some lines of it, `growth` those that come; `pattern` and `search` look for something in many;
//! `bundle` packs many into one.
//!
//! Always holds: nothing here writes to the volume, a name is bytes, no link is ever followed, and no answer needs memory that grows with
//! a file. Everything here waits for a disk: call it on a thread that may.

mod known;
mod place;
mod volume;

mod listing;
mod sieve;
mod walk;

mod bounds;
mod content;
mod long_lines;

mod growth;
mod window;

mod pattern;
mod search;

mod bundle;

pub use bounds::{Bounds, Stop};
pub use bundle::{Item, Pack, bundle};
pub use content::{Content, UNPACKED_BYTES_MAX};
pub use growth::{Grown, Growth};
pub use known::{Known, Told};
pub use listing::{By, Entry, Listing, list, sort};
pub use pattern::{How, Pattern, levels};
pub use place::Place;
pub use search::{Counts, Done, End, Event, HITS_MAX, Search, TIME_MAX, TROUBLES_MAX};
pub use sieve::Sieve;
pub use volume::{Home, Volume};
pub use walk::{FILES_MAX, Found, Walked, walk};
pub use window::{LINE_BYTES_MAX, Line, Window, after, around, before, tail};

#[cfg(test)]
mod tests;
