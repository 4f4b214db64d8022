//! console: who moved what, kept so that it can be asked.
//!
//! In the order a line meets them: the follower finds it in a log file and knows what was read of that file before; `line` says what it
//! means; the store keeps it together with how far its file was read; questions are asked of the store. `line`, `cause`, `calendar` and
//! `follow/recognise` touch nothing; only `follow` reads logs, and only `store` writes. Beside it, `archive` reads what agents have sent.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod cli;
pub mod config;
mod service;

mod doorkeeper;
pub mod web;

pub mod safety;
pub mod situation;
mod visitors;

pub mod follow;
mod packing;

mod cause;
mod line;
pub mod record;

pub mod calendar;

pub mod store;

pub mod questions;

mod archive;

pub mod expected;

pub use config::Config;
pub use service::run;
