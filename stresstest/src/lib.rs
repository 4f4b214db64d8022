//! stresstest: loads a pair as its users would, and proves that every file arrived whole on both machines.
//!
//! In the order a run meets them: a wish becomes a plan; the runner starts its course; the load makes files whose contents tell who
//! they are; the tally counts; inspections read everything back, on the target and on each standby; a report stays. `plan`,
//! `content`, `files` and `report` touch nothing; only `server` and those who use it touch a wire, and only `reports`, `leftovers`
//! and `host_keys` a disk.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod cli;
pub mod config;
mod service;

pub mod web;

pub mod plan;
pub mod runner;

mod course;

mod content;
mod files;
pub mod identity;

mod host_keys;
mod server;
mod trouble;

mod load;

mod inspection;
pub mod leftovers;
mod standby;

pub mod progress;
mod tally;

pub mod report;
pub mod reports;

pub use config::Config;
pub use service::run;
