//! What the web pages of the pair share: who is let in, and the rules that browsers are held to.
//!
//! In the order a request meets them: `serve` takes its connection, over `tls` where there is a certificate, `caller` says where it comes from, `headers` and the limits of `door` hold for every answer,
//! `door` lets in who has a session and checks that a form was really sent from one of our pages, `login` is the page for those
//! who have none, and a `doorkeeper` decides about a name and a password. A program brings its pages and a doorkeeper; [`Door::house`]
//! puts the rest around them. Nothing here writes to a disk, and no password is kept.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod health;
mod serve;
mod tls;

mod caller;
mod headers;

mod door;
mod login;

mod attempts;
mod doorkeeper;
mod sessions;
mod sftp;
mod token;

mod asset;
pub mod figures;
pub mod line_chart;
mod page;

pub use asset::{Asset, Assets};
pub use caller::Caller;
pub use door::{Door, FORM_BYTES_MAX, Settings};
pub use doorkeeper::{Admission, Doorkeeper, Password, Refusal};
pub use headers::CONTENT_SECURITY_POLICY;
pub use page::{Watcher, page, tell};
pub use serve::serve;
pub use sessions::{Session, Sessions};
pub use sftp::{Connect, Gate, SftpDoorkeeper};
pub use tls::Tls;
pub use token::Token;

/// The look that all pages share: colours of both schemes, type, forms, tables.
pub const BASE_STYLE: &str = include_str!("../assets/base.css");
