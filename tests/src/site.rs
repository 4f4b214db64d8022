//! A machine of the pair on a host of a [`Network`](crate::Network): sftpd, filesync and keepalived, at the addresses and ports of the shipped examples.

use std::path::Path;
use std::process::Command;

use pair::node::Phase;
use tempfile::TempDir;

use crate::load_balancer::{shipped, with};
use crate::machine::Machine;
use crate::mirror::Mirror;
use crate::network::{Host, Network};
use crate::program::Program;
use crate::wait::eventually;

/// The machines' own addresses, as in `docs/examples/keepalived.conf`.
const OWN: [&str; 2] = ["192.0.2.10", "192.0.2.11"];

/// One machine with all that runs on it.
pub struct Site {
    machine: Machine,
    sftpd: Option<Program>,
    mirror: Option<Program>,
    /// Ended by SIGTERM, so that it takes the address away and its child along.
    keepalived: Option<Program>,
    folder: TempDir,
    host: Host,
    /// The other machine, as filesync reaches it.
    other: String,
    secret: String,
}

impl Site {
    /// The first or the second machine; the second begins as the standby. Nothing runs yet.
    pub fn prepare(network: &mut Network, secret: &str, index: usize) -> Site {
        let host = network.host(&format!("{}/24", OWN[index]));
        let other = format!("{}:2222", OWN[1 - index]);
        let machine = Machine::master().secret(secret).address(([0, 0, 0, 0], 2222).into());
        let machine = machine.setting("HEALTH_LISTEN", "127.0.0.1:2226").setting("PEERS", &other);
        let machine = machine.setting("PEERS_WAIT", "3s");
        let machine = if index == 0 { machine } else { machine.standby() }.prepare();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let swapped = [(OWN[0], OWN[index].to_owned()), (OWN[1], OWN[1 - index].to_owned())];
        std::fs::write(settings(folder.path()), with(&shipped("keepalived.conf"), &swapped)).expect("its settings");
        let secret = secret.to_owned();
        Site { machine, sftpd: None, mirror: None, keepalived: None, folder, host, other, secret }
    }

    /// Starts sftpd and filesync.
    #[track_caller]
    pub fn start(&mut self) {
        let mut sftpd = Program::start(&mut self.host.command(&self.machine.command()));
        sftpd.wait_for_line("listening on ");
        let mirror = Mirror::of(&self.machine, &self.secret, &self.other);
        let mut mirror = Program::start(&mut self.host.command(&mirror.command()));
        mirror.wait_for_line("health on ");
        (self.sftpd, self.mirror) = (Some(sftpd), Some(mirror));
    }

    /// Starts keepalived.
    #[track_caller]
    pub fn start_keepalived(&mut self) {
        let folder = self.folder.path();
        let mut command = Command::new("keepalived");
        command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file"]).arg(settings(folder));
        command.arg("--pid").arg(folder.join("pid")).arg("--vrrp_pid").arg(folder.join("vrrp-pid"));
        let mut keepalived = Program::start(&mut self.host.command(&command));
        // It has asked for the first time.
        keepalived.wait_for_line("VRRP_Script(is_master) ");
        self.keepalived = Some(keepalived);
    }

    /// Kills sftpd and filesync, as when only they die; the host goes on.
    pub fn kill(&mut self) {
        [self.sftpd.take(), self.mirror.take()].into_iter().flatten().for_each(Program::kill);
    }

    /// The machine, for its folders and its orders.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Whether it has an address now.
    pub fn has_address(&self, address: &str) -> bool {
        self.host.has_address(address)
    }

    /// Waits until it is a standby that the other has brought up to something.
    #[track_caller]
    pub fn wait_until_follows(&self) {
        eventually("it follows the other machine", || {
            let status = self.machine.status();
            status.is_some_and(|status| status.phase == Phase::Standby && status.reached.is_some())
        });
    }
}

fn settings(folder: &Path) -> std::path::PathBuf {
    folder.join("keepalived.conf")
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(keepalived) = self.keepalived.take() {
            // To panic a second time would end the whole process, with what else it has started.
            if std::thread::panicking() {
                keepalived.signal(rustix::process::Signal::TERM);
            } else {
                keepalived.terminate();
            }
        }
    }
}
