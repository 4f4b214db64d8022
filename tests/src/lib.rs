//! The harness: machines, mirrors and clients as real processes in temporary folders, and bounded waiting.
//!
//! Nothing here listens on a fixed port or outside loopback, and whatever a test started ends with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod acknowledged;
mod anybody;
pub mod bench;
mod browser;
mod client;
mod clock;
mod console;
pub mod containers;
mod cut;
mod duo;
mod link;
pub mod load;
mod load_balancer;
mod machine;
pub mod matrix;
pub mod measure;
mod mirror;
mod network;
mod openssh;
mod pair_of_machines;
pub mod power;
mod program;
pub mod raw;
mod site;
pub mod step;
mod tree;
mod user;
mod visitor;
mod wait;

pub use acknowledged::{Acknowledged, write};
pub use anybody::Anybody;
pub use browser::{Browser, DESK, PHONE, View};
pub use client::{Outcome, Sftp, rclone_remote};
pub use clock::Clock;
pub use console::console;
pub use cut::Cut;
pub use duo::{Duo, own_address, prepare_machines};
pub use link::{Direction, Link};
pub use load_balancer::LoadBalancer;
pub use machine::{Machine, MachineBuilder, new_secret, read_activity};
pub use mirror::Mirror;
pub use network::{Host, Network};
pub use openssh::{OpenSsh, make_key, rsync};
pub use pair_of_machines::Pair;
pub use program::{Program, binary, has_program, run};
pub use raw::Raw;
pub use site::Site;
pub use tree::{Snapshot, fill_with_nasty_names, real_tree};
pub use user::{User, master_with, read_all};
pub use visitor::{Answer, Visitor};
pub use wait::{eventually, within};

/// A users.yaml with an admin and one user, in the form that the original system had.
pub const SEED: &str = r#"users:
  ADMIN:
    name: "admin"
    password: "35oi3g4l3he"
    admin: true
  1:
    name: "EPuser"
    password: "1234"
"#;

/// lftp's settings in every test: it shall know no host from before, because ports come again under other keys.
pub const LFTP: &str = "set sftp:auto-confirm yes; set sftp:connect-program \"ssh -a -x -o StrictHostKeyChecking=no \
                        -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR\"";

/// The admin's login in [`SEED`].
pub const ADMIN: (&str, &str) = ("admin", "35oi3g4l3he");

/// The user's login in [`SEED`].
pub const USER: (&str, &str) = ("EPuser", "1234");
