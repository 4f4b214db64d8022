//! The requests, by what they are about. Each function takes its fields, acts, and says what to answer.
//!
//! A function reads all its paths before it acts: it may be asked to wait and then runs again from the start.

pub mod attributes;
pub mod content;
mod drafts;
pub mod extended;
pub mod folders;
mod longname;
pub mod names;
