//! Who is the master: what this machine has promised, and how that changes.
#![allow(dead_code)]

pub mod standing;
