//! HAProxy before two machines, with the file that is shipped: only its addresses are changed.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::duo::Duo;
use crate::program::{Program, run};
use crate::wait::eventually;

/// A running HAProxy.
pub struct LoadBalancer {
    program: Program,
    address: SocketAddr,
}

/// One of the shipped examples.
pub fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A text with other words in some places, all of them at once. Each must be there, or the example has changed and the test has not.
#[track_caller]
pub fn with(text: &str, changes: &[(&str, String)]) -> String {
    let mark = |number: usize| format!("\u{1}{number}\u{1}");
    let mut changed = text.to_owned();
    for (number, (from, _)) in changes.iter().enumerate() {
        assert!(changed.contains(from), "the example holds no {from:?}");
        changed = changed.replace(from, &mark(number));
    }
    changes.iter().enumerate().fold(changed, |text, (number, (_, to))| text.replace(&mark(number), to))
}

impl LoadBalancer {
    /// Starts one at an address of its own, which must stand under the machines' `PROXIES`, and waits until it knows the master.
    #[track_caller]
    pub fn start(address: SocketAddr, duo: &Duo) -> LoadBalancer {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // On loopback the machines' health pages have an address of their own.
        let port = |index: usize| {
            let health = duo.machines[index].health();
            format!("addr {} port {}", health.ip(), health.port())
        };
        let changes = [
            ("bind :2222", format!("bind {address}")),
            ("source 192.0.2.20", format!("source {}", address.ip())),
            ("192.0.2.10:2222 port 2226", format!("{} {}", duo.machines[0].address(), port(0))),
            ("192.0.2.11:2223 port 2236", format!("{} {}", duo.machines[1].address(), port(1))),
        ];
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, with(&shipped("haproxy.cfg"), &changes)).expect("its settings");
        let haproxy = || {
            let mut command = Command::new("haproxy");
            command.arg("-db").arg("-f").arg(&file);
            command
        };
        let (checked, text) = run(haproxy().arg("-c"));
        assert!(checked.success() && !text.contains("WARNING"), "{text}");
        let mut program = Program::start(&mut haproxy());
        eventually("HAProxy listens", || TcpStream::connect(address).is_ok());
        // Until it has asked it takes both for masters.
        program.wait_for_line("Server pair/two is DOWN");
        LoadBalancer { program: program.with_folder(folder), address }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The running program.
    pub fn program(&self) -> &Program {
        &self.program
    }
}
