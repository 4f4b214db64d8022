//! A network of its own: hosts on one wire that nobody else can see, each with its own addresses and ports. Only for root.
//!
//! A host is a network namespace without a name, held by a process that waits for the end of its input. So it goes when the test ends,
//! however that happens, and with it what stands in it of interfaces and addresses.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use crate::program::run;
use crate::wait::eventually;

/// The wire, and the hosts on it.
pub struct Network {
    switch: Holder,
    hosts: usize,
}

/// A host. Dropping it takes it off the wire.
pub struct Host {
    holder: Holder,
}

/// Holds a network namespace.
struct Holder {
    child: Child,
}

impl Holder {
    fn new() -> Holder {
        let mut command = Command::new("unshare");
        command.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let child = command.spawn().expect("util-linux is installed");
        let holder = Holder { child };
        let ours = std::fs::read_link("/proc/self/ns/net").expect("our own namespace");
        // Until then it is still in ours.
        eventually("the namespace is there", || {
            let theirs = std::fs::read_link(format!("/proc/{}/ns/net", holder.child.id()));
            theirs.is_ok_and(|theirs| theirs != ours)
        });
        holder
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    /// A command as it is, inside. The process stays the same one, so that signals reach it.
    fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--net=/proc/{}/ns/net", self.id())).arg("--").arg(command.get_program());
        inside.args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(key, value),
                None => inside.env_remove(key),
            };
        }
        inside
    }

    #[track_caller]
    fn ip(&self, arguments: &str) {
        let (done, text) = run(&mut self.inside(Command::new("ip").args(arguments.split(' '))));
        assert!(done.success(), "ip {arguments}: {text}");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.stdin.take().map(|mut input| input.flush());
        let _ = self.child.wait();
    }
}

impl Network {
    /// Whether there can be one here; says so where there cannot, because a test is skipped by it.
    pub fn is_possible() -> bool {
        let possible = run(Command::new("unshare").args(["--net", "true"])).0.success();
        if !possible {
            println!("SKIPPED: this user may make no network namespaces (root may)");
        }
        possible
    }

    /// A wire without hosts.
    pub fn new() -> Network {
        let switch = Holder::new();
        switch.ip("link add wire type bridge");
        switch.ip("link set wire up");
        Network { switch, hosts: 0 }
    }

    /// A host on the wire, with one address, `a.b.c.d/bits`, on its `eth0`.
    pub fn host(&mut self, address: &str) -> Host {
        let holder = Holder::new();
        let port = format!("port{}", self.hosts);
        self.hosts += 1;
        self.switch.ip(&format!("link add {port} type veth peer name eth0 netns {}", holder.id()));
        self.switch.ip(&format!("link set {port} master wire up"));
        holder.ip("link set lo up");
        holder.ip(&format!("address add {address} dev eth0"));
        holder.ip("link set eth0 up");
        Host { holder }
    }
}

impl Default for Network {
    fn default() -> Network {
        Network::new()
    }
}

impl Host {
    /// A command as it is, on this host.
    pub fn command(&self, command: &Command) -> Command {
        self.holder.inside(command)
    }

    /// Whether an address is on this host now.
    pub fn has_address(&self, address: &str) -> bool {
        let (_, text) = run(&mut self.command(Command::new("ip").args(["-oneline", "address"])));
        text.contains(&format!("inet {address}/"))
    }
}
