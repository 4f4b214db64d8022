//! What the programs of a pair, and its two machines, must agree on, and nothing else.
//!
//! A file enters this crate when two programs need it and leaves when one does. Nothing here decides what to copy, whom
//! to let in or where a byte is stored.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod exit;

pub mod config;
pub mod health;
pub mod logging;
pub mod program;
pub mod shutdown;
pub mod units;
pub mod webhook;

pub mod folder;
pub mod keys;
pub mod node;
pub mod secret;
pub mod volume;

pub mod activity;
pub mod chain;
pub mod control;
pub mod epoch;
pub mod feed;
pub mod record;

pub mod client;
pub mod extension;
pub mod peer;
pub mod wire;
