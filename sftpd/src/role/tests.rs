//! Machines of a pair in one process, for tests: an old master, a new one, and what lies on their volumes.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pair::client::{Client, Login, connect};
use pair::epoch::Epoch;
use pair::extension::Hello;
use pair::keys::peer_key;
use pair::node::{self, Returning, Role};
use pair::secret::PairSecret;
use tokio_util::sync::CancellationToken;

use super::returning::{Summary, set_aside};
use crate::daemon::Daemon;
use crate::storage::{Change, Entry, State};
use crate::tests::config_in;
use crate::{Running, feed};

/// A machine that runs.
pub struct Machine {
    folder: tempfile::TempDir,
    secret: PairSecret,
    shutdown: CancellationToken,
    running: Option<Running>,
}

/// Two of them: the old master and the new one.
pub async fn two() -> (Machine, Machine) {
    let secret = PairSecret::generate().unwrap();
    (Machine::start(&secret).await, Machine::start(&secret).await)
}

impl Machine {
    async fn start(secret: &PairSecret) -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let mut machine = Machine { folder, secret: secret.clone(), shutdown: CancellationToken::new(), running: None };
        machine.run().await;
        machine
    }

    async fn run(&mut self) {
        let config = config_in(self.folder.path(), Role::Master);
        self.shutdown = CancellationToken::new();
        self.running = Some(crate::start(config, self.secret.clone(), self.shutdown.clone()).await.unwrap());
    }

    pub async fn stop(&mut self) {
        self.shutdown.cancel();
        self.running.take().unwrap().wait().await.unwrap();
    }

    /// Starts it again, in a role.
    pub async fn restart_as(&mut self, role: Role) {
        if self.running.is_some() {
            self.stop().await;
        }
        let state = self.state();
        let node = node::Node { role, ..node::read(&state).unwrap().unwrap() };
        node::write(&state, &node).unwrap();
        self.run().await;
    }

    pub fn daemon(&self) -> Arc<Daemon> {
        self.running.as_ref().unwrap().daemon.clone()
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// The connection of the other machine, which tells a standby that it is the master.
    pub async fn peer(&self) -> Client {
        let login = Login::with_key(pair::keys::PEER_USER, Arc::new(peer_key(&self.secret).unwrap()));
        let address = self.running.as_ref().unwrap().listen.to_string();
        let client = connect(&address, login, Arc::new(|_| Ok(()))).await.unwrap();
        if self.daemon().is_standby() {
            let epoch = Epoch { counter: 1000, id: "0123456789abcdef".into(), parent: None, from: None };
            let hello = Hello { pair: self.secret.pair_id(), node: "b".into(), epoch: Some(epoch), ..Hello::default() };
            pair::peer::say_hello(&client, &hello).await.unwrap();
        }
        client
    }

    pub fn at(&self, path: &[u8]) -> PathBuf {
        self.folder.path().join("data").join(std::ffi::OsStr::from_bytes(path))
    }

    pub fn content(&self, path: &[u8]) -> Option<Vec<u8>> {
        std::fs::read(self.at(path)).ok()
    }

    /// Puts a file there behind the server's back: as if both had had it long since.
    pub fn write(&self, path: &[u8], content: &[u8]) {
        std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        std::fs::write(self.at(path), content).unwrap();
    }

    /// A client makes a change.
    pub async fn change(&self, change: impl FnOnce(&crate::storage::Root) -> Change) {
        let volume = &self.daemon().volume;
        let change = change(&volume.whole().unwrap());
        volume.commit(change, Some("alice".into())).await.unwrap();
    }

    /// A client puts a file.
    pub async fn put(&self, path: &[u8], content: &[u8]) {
        let volume = self.daemon().volume.clone();
        self.change(|root| Change::Publish(volume.stage_file(content, root.place(path).unwrap()).unwrap())).await;
    }

    pub async fn mkdir(&self, path: &[u8]) {
        self.change(|root| Change::MakeFolder(root.place(path).unwrap(), 0o750)).await;
    }

    pub async fn symlink(&self, path: &[u8], text: &[u8]) {
        self.change(|root| Change::MakeLink(root.place(path).unwrap(), text.to_vec())).await;
    }

    pub async fn rename(&self, from: &[u8], to: &[u8]) {
        let places = |root: &crate::storage::Root| (root.place(from).unwrap(), root.place(to).unwrap());
        self.change(|root| {
            let (from, to) = places(root);
            Change::Rename { from, to, replace: true }
        })
        .await;
    }

    pub async fn remove(&self, path: &[u8]) {
        self.change(|root| Change::Remove(root.place(path).unwrap())).await;
    }

    /// The last change.
    pub async fn last(&self) -> u64 {
        let daemon = self.daemon();
        let settle = move || {
            feed::Source::settle(&*daemon);
            *daemon.volume.decided().borrow()
        };
        tokio::task::spawn_blocking(settle).await.unwrap()
    }

    /// This machine comes back, when the other has its changes up to a number.
    pub async fn comes_back_to(&self, master: &Machine, after: Option<u64>) -> Result<Summary, String> {
        self.comes_back_by(master, &master.peer().await, after).await
    }

    /// The same on a connection that is there.
    pub async fn comes_back_by(&self, master: &Machine, peer: &Client, after: Option<u64>) -> Result<Summary, String> {
        let daemon = self.daemon();
        let returning = Returning { epoch: daemon.volume.chapter().epoch.id.clone(), after };
        let successor = master.daemon().volume.chapter().epoch.clone();
        set_aside(&daemon, peer, &returning, &successor).await
    }

    /// All that was set aside, with what has become of it, in the order of paths.
    pub fn aside(&self) -> Vec<(Entry, State)> {
        let divergent = self.daemon().volume.divergent().unwrap();
        let mut all = Vec::new();
        for epoch in divergent.epochs().unwrap() {
            for (number, parts) in divergent.parts(&epoch).unwrap() {
                let Some(entry) = divergent.entry(&epoch, number, &parts).unwrap() else { continue };
                all.push((entry, divergent.state(&epoch, number, &parts).unwrap()));
            }
        }
        all.sort_by(|(one, _), (other, _)| one.path.cmp(&other.path));
        all
    }

    /// The paths of what was set aside.
    pub fn aside_paths(&self) -> Vec<String> {
        self.aside().into_iter().map(|(entry, _)| entry.path.to_string()).collect()
    }

    /// What has become of what was at a path.
    pub fn state_of(&self, path: &[u8]) -> State {
        self.aside().into_iter().find(|(entry, _)| entry.path.0 == path).unwrap().1
    }

    /// The content that was at a path and was set aside.
    pub fn aside_content(&self, path: &[u8]) -> Vec<u8> {
        let (entry, _) = self.aside().into_iter().find(|(entry, _)| entry.path.0 == path).unwrap();
        self.content(format!(".pair/divergent/{}/{}", entry.epoch, entry.number).as_bytes()).unwrap()
    }
}

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waits = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waits).await.unwrap_or_else(|_| panic!("never: {what}"));
}
