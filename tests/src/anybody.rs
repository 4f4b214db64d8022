//! A client of russh that takes any host key: for tests and benches that speak to a server of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use russh::client::{Handler, Session};

/// It counts how often keys were exchanged.
#[derive(Clone, Default)]
pub struct Anybody(pub Arc<AtomicUsize>);

impl Handler for Anybody {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &russh::keys::PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }

    async fn kex_done(&mut self, _: Option<&[u8]>, _: &russh::Names, _: &mut Session) -> Result<(), russh::Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
