//! The servers under measurement, each in a folder of its own, all with one key.

use std::any::Any;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pair::client::{Client, HostKeyCheck, Login, PrivateKey};

use super::cost::family;
use crate::openssh::free_address;
use crate::{Machine, OpenSsh, Program, Sftp, eventually, run};

/// Our account on each of them, where they have any.
const ACCOUNT: &str = "bench";

/// A key with which one logs in everywhere.
#[derive(Clone)]
pub struct Key {
    /// Its file and its public half.
    pub pair: (PathBuf, String),
    key: Arc<PrivateKey>,
}

impl Key {
    /// Makes one in a folder.
    pub fn new(folder: &Path) -> Key {
        let pair = crate::make_key(folder);
        let key = Arc::new(PrivateKey::read_openssh_file(&pair.0).expect("a key"));
        Key { pair, key }
    }
}

/// A server under measurement.
pub struct Server {
    /// Its name in the table.
    pub name: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its first process.
    pub process: u32,
    /// Where the files of its account are.
    pub home: PathBuf,
    user: &'static str,
    key: Key,
    /// Ends the server when it is dropped.
    _kept: Box<dyn Any>,
    family_at_rest: usize,
}

impl Server {
    fn new(
        name: &'static str,
        address: SocketAddr,
        process: u32,
        user: &'static str,
        key: &Key,
        home: PathBuf,
        kept: Box<dyn Any>,
    ) -> Server {
        eventually("the server listens", || TcpStream::connect(address).is_ok());
        std::fs::create_dir_all(&home).expect("a folder");
        let (key, family_at_rest) = (key.clone(), family(process).len());
        Server { name, address, process, home, user, key, _kept: kept, family_at_rest }
    }

    /// Ours, with a durability, and everything that it keeps in a folder.
    pub fn ours(folder: &Path, key: &Key, durability: &str) -> Server {
        let users = format!(
            "users:\n  A: {{name: admin, password: secret, admin: true}}\n  1: {{name: {ACCOUNT}, public_keys: [\"{}\"]}}\n",
            key.pair.1
        );
        let machine = Machine::master().users(&users).within(folder).setting("DURABILITY", durability);
        // So many connections from one address, and wrong passwords among them, are what is measured.
        let machine = machine.setting("GUARD__NEVER", "127.0.0.0/8").setting("LIMITS__SESSIONS_PER_ACCOUNT", "5000");
        let machine =
            machine.setting("LIMITS__UNAUTHENTICATED_PER_ADDRESS", "1000").setting("LIMITS__UNAUTHENTICATED", "1000");
        let machine = machine.quiet().start();
        let home = machine.path(ACCOUNT, "");
        let process = machine.program().id().unsigned_abs();
        Server::new("sftpd", machine.address(), process, ACCOUNT, key, home, Box::new(machine))
    }

    /// OpenSSH's own, with its SFTP inside.
    pub fn openssh(folder: &Path, key: &Key) -> Server {
        let openssh = OpenSsh::start(folder, &key.pair);
        let home = openssh.home().to_owned();
        Server::new("OpenSSH", openssh.address(), openssh.process(), "root", key, home, Box::new(openssh))
    }

    /// `rclone serve sftp`.
    pub fn rclone(folder: &Path, key: &Key) -> Server {
        let (home, authorized, address) = (folder.join("rclone"), folder.join("rclone-authorized"), free_address());
        std::fs::create_dir(&home).expect("a folder");
        std::fs::write(&authorized, &key.pair.1).expect("the keys");
        let mut command = Command::new("rclone");
        command.args(["serve", "sftp", "--addr", &address.to_string()]);
        command.arg("--authorized-keys").arg(&authorized).arg("--key").arg(&key.pair.0).arg(&home);
        let program = Program::start(&mut command);
        Server::new("rclone", address, program.id().unsigned_abs(), "root", key, home, Box::new(program))
    }

    /// ProFTPD's mod_sftp.
    pub fn proftpd(folder: &Path, key: &Key) -> Server {
        let (home, settings, address) = (folder.join("proftpd"), folder.join("proftpd.conf"), free_address());
        std::fs::create_dir(&home).expect("a folder");
        let (done, public) = run(Command::new("ssh-keygen").args(["-e", "-f"]).arg(key.pair.0.with_extension("pub")));
        assert!(done.success(), "{public}");
        let at = |name: &str| folder.join(format!("proftpd-{name}")).display().to_string();
        std::fs::write(at("authorized"), public).expect("the keys");
        let text = format!(
            "ServerName bench\nServerType standalone\nLoadModule mod_sftp.c\nUseIPv6 off\nDefaultAddress 127.0.0.1\nPort {}\nUser root\nGroup root\n\
             SFTPEngine on\nSFTPHostKey {}\nSFTPAuthorizedUserKeys file:{}\nSFTPAuthMethods publickey\nRootLogin on\nUseFtpUsers off\nRequireValidShell off\n\
             DefaultChdir {}\nMaxInstances none\nUseReverseDNS off\nWtmpLog off\nSystemLog none\nTransferLog none\nPidFile {}\nScoreboardFile {}\n",
            address.port(),
            key.pair.0.display(),
            at("authorized"),
            home.display(),
            at("pid"),
            at("scoreboard"),
        );
        std::fs::write(&settings, text).expect("its settings");
        let mut command = Command::new("proftpd");
        let program = Program::start(command.args(["--nodaemon", "--config"]).arg(&settings).stdin(Stdio::null()));
        Server::new("ProFTPD", address, program.id().unsigned_abs(), "root", key, home, Box::new(program))
    }

    /// OpenSSH's `sftp` for it.
    pub fn sftp(&self, cipher: &str) -> Sftp {
        self.sftp_by(self.address, cipher)
    }

    /// The same by another way.
    pub fn sftp_by(&self, address: SocketAddr, cipher: &str) -> Sftp {
        Sftp::new(address, (self.user, "")).with_key(&self.key.pair.0).option(&format!("Ciphers={cipher}"))
    }

    /// The file with the key of who logs in.
    pub fn key_file(&self) -> &Path {
        &self.key.pair.0
    }

    /// Our own client, logged in.
    pub async fn connect(&self) -> Client {
        self.connect_by(self.address).await
    }

    /// The same by another way.
    pub async fn connect_by(&self, address: SocketAddr) -> Client {
        let check: HostKeyCheck = Arc::new(|_| Ok(()));
        let login = Login::with_key(self.user, self.key.key.clone());
        pair::client::connect(&address.to_string(), login, check)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Who logs in, and with what.
    pub fn login(&self) -> (&'static str, Arc<PrivateKey>) {
        (self.user, self.key.key.clone())
    }

    /// Waits until what was begun for connections has ended with them.
    pub fn settle(&self) {
        eventually("the server has no children left", || family(self.process).len() <= self.family_at_rest);
    }

    /// The same for who must go on with work of its own meanwhile, such as ending connections.
    pub async fn settled(&self) {
        let ended = async {
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if family(self.process).len() <= self.family_at_rest {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.expect("the server has no children left");
    }

    /// Removes what is in its account's folder.
    pub fn clear(&self) {
        for entry in std::fs::read_dir(&self.home).expect("its folder").flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                std::fs::remove_dir_all(entry.path()).expect("it can go");
            } else {
                std::fs::remove_file(entry.path()).expect("it can go");
            }
        }
    }
}
