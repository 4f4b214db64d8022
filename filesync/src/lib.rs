//! filesync: mirrors the master's data folder to its standbys.
//!
//! In the order a change meets them: a follower connects to its standby; the stream brings what the feed tells as it
//! happens; pass after pass, behind it, lists both sides, plans, and does the steps; the courier moves content; the ledger
//! remembers what is proven. `plan`, `safety` and `stream::queue` decide everything and touch nothing; only `listing`, `source`, `remote`, `courier` and `trash` touch a disk or a wire.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod archive;
pub mod chain;
pub mod command;
pub mod config;
pub mod service;

mod follower;
mod standby;

mod stream;

mod accounts;
mod activity;
mod beside;
mod lane;
mod pass;

pub mod listing;
pub mod order;
pub mod plan;
pub mod remote;
pub mod safety;
pub mod source;
mod stage;
pub mod tree;

mod courier;
mod fault;
mod housekeeping;
pub mod restore;
mod throttle;
mod trash;
mod verify;

mod ledger;
pub mod store;

mod alarm;
mod health;
pub mod status;

pub use config::Config;
pub use service::{Service, run};
