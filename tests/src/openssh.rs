//! OpenSSH's server as a peer under measurement, on loopback.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::program::run;
use crate::wait::within;

/// Makes a key in a folder; gives its path and its public half.
pub fn make_key(folder: &Path) -> (PathBuf, String) {
    let key = folder.join("key");
    let (status, text) = run(Command::new("ssh-keygen").args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(&key));
    assert!(status.success(), "{text}");
    let public = std::fs::read_to_string(key.with_extension("pub")).expect("its public half");
    (key, public.trim().to_owned())
}

/// rsync from a folder here to one on the server that this ssh reaches.
pub fn rsync(ssh: &str, from: &Path, to: &Path) -> Command {
    let mut command = Command::new("rsync");
    command.args(["-a", "-e", ssh]).arg(format!("{}/", from.display()));
    command.arg(format!("root@127.0.0.1:{}/", to.display()));
    command
}

/// An address of loopback at which nobody listens, for programs that take no port from the system.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port")
}

/// OpenSSH's server, with its SFTP inside.
pub struct OpenSsh {
    child: Child,
    address: SocketAddr,
    home: PathBuf,
}

impl OpenSsh {
    /// Starts one that lets root in by a key; its files are in a folder below the given one.
    pub fn start(folder: &Path, key: &(PathBuf, String)) -> OpenSsh {
        OpenSsh::start_with(folder, key, "")
    }

    /// The same with a line of one's own in its settings.
    pub fn start_with(folder: &Path, key: &(PathBuf, String), setting: &str) -> OpenSsh {
        let home = folder.join("openssh");
        std::fs::create_dir(&home).expect("a folder");
        std::fs::create_dir_all("/run/sshd").expect("sshd's own folder: run the bench as root");
        std::fs::write(folder.join("authorized"), &key.1).expect("the keys");
        let address = free_address();
        let settings = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nPermitRootLogin yes\nUsePAM no\n\
             MaxStartups 100\nPidFile none\nSubsystem sftp internal-sftp -d {}\n{setting}\n",
            address.port(),
            key.0.display(),
            folder.join("authorized").display(),
            home.display(),
        );
        std::fs::write(folder.join("sshd_config"), settings).expect("its settings");
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(folder.join("sshd_config"))
            .stderr(Stdio::null())
            .spawn()
            .expect("openssh-server is installed");
        within(Duration::from_secs(10), "sshd listens", || TcpStream::connect(address).is_ok());
        OpenSsh { child, address, home }
    }

    /// The ssh by which rsync reaches this server, with further options.
    pub fn ssh(&self, key: &Path, options: &str) -> String {
        self.ssh_by(self.address, key, options)
    }

    /// The same by another way.
    pub fn ssh_by(&self, address: SocketAddr, key: &Path, options: &str) -> String {
        format!(
            "ssh -F /dev/null -p {} -i {} {options} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
            address.port(),
            key.display()
        )
    }

    /// Its first process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The folder in which its clients begin.
    pub fn home(&self) -> &Path {
        &self.home
    }
}

impl Drop for OpenSsh {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
