//! Two machines that know each other, each with a filesync of its own: as users run them, so that either may be the master.

use std::net::SocketAddr;

use pair::control::{Move, Status};
use pair::node::Phase;

use crate::machine::{Machine, MachineBuilder, new_secret};
use crate::mirror::Mirror;
use crate::tree::Snapshot;
use crate::wait::eventually;

/// Two machines, the first of which begins as the master.
pub struct Duo {
    /// The machines.
    pub machines: [Machine; 2],
    /// The filesync beside each.
    pub mirrors: [Mirror; 2],
}

/// An address of loopback that no other test has: machines that know each other cannot wait for the system to give them ports.
pub fn own_address() -> SocketAddr {
    let drawn = pair::epoch::draw().expect("random numbers");
    let number = |at: usize| u8::from_str_radix(&drawn[at..at + 2], 16).expect("hexadecimal digits");
    SocketAddr::from(([127, 1 + number(0) % 250, number(2), 1 + number(4) % 250], 2222))
}

/// Makes the folders of machines that all know each other, the first of which begins as the master, and of a filesync beside each.
pub fn prepare_machines<const COUNT: usize>(
    addresses: [SocketAddr; COUNT],
    sftpd: &[(&str, &str)],
    filesync: &[(&str, &str)],
    way_to: &mut dyn FnMut(SocketAddr) -> SocketAddr,
) -> [(Machine, Mirror); COUNT] {
    let secret = new_secret();
    let ways = addresses.map(|address| way_to(address).to_string());
    std::array::from_fn(|own| {
        let others: Vec<&str> = ways.iter().filter(|way| **way != ways[own]).map(String::as_str).collect();
        let others = others.join(",");
        let machine = Machine::master().secret(&secret).address(addresses[own]);
        let machine = machine.setting("PEERS", &others).setting("PEERS_WAIT", "3s");
        let set = |machine: MachineBuilder, (key, value): &(&str, &str)| match *key {
            "USERS_YAML" => machine.users(value),
            _ => machine.setting(key, value),
        };
        let machine = sftpd.iter().fold(machine, set);
        let machine = if own == 0 { machine } else { machine.standby() }.prepare();
        let mut mirror = Mirror::of(&machine, &secret, &others);
        filesync.iter().for_each(|(key, value)| mirror.set(key, value));
        (machine, mirror)
    })
}

impl Duo {
    /// Starts them, and waits until the standby follows.
    #[track_caller]
    pub fn start() -> Duo {
        Duo::start_with(&[], &[])
    }

    /// The same with settings for both sftpd (`USERS_YAML` is the accounts' file itself) and both filesync.
    #[track_caller]
    pub fn start_with(sftpd: &[(&str, &str)], filesync: &[(&str, &str)]) -> Duo {
        Duo::start_over(sftpd, filesync, |address| address)
    }

    /// The same, where each machine reaches the other by another address, such as a link's.
    #[track_caller]
    pub fn start_over(
        sftpd: &[(&str, &str)],
        filesync: &[(&str, &str)],
        way_to: impl FnMut(SocketAddr) -> SocketAddr,
    ) -> Duo {
        let mut duo = Duo::prepare(sftpd, filesync, way_to);
        duo.run();
        duo
    }

    /// Makes their folders, but does not start them.
    pub fn prepare(
        sftpd: &[(&str, &str)],
        filesync: &[(&str, &str)],
        mut way_to: impl FnMut(SocketAddr) -> SocketAddr,
    ) -> Duo {
        let made = prepare_machines([own_address(), own_address()], sftpd, filesync, &mut way_to);
        let [(first, first_mirror), (second, second_mirror)] = made;
        Duo { machines: [first, second], mirrors: [first_mirror, second_mirror] }
    }

    /// Starts them, and waits until the standby follows.
    #[track_caller]
    pub fn run(&mut self) {
        // The standby first: then the master hears at once that there is no newer one.
        self.machines[1].start();
        self.machines[0].start();
        self.mirrors.iter_mut().for_each(Mirror::start);
        self.wait_until_follows(1);
    }

    /// How a machine is; none while it does not run.
    pub fn status(&self, index: usize) -> Option<Status> {
        self.machines[index].status()
    }

    /// What a machine does now.
    pub fn phase(&self, index: usize) -> Option<Phase> {
        Some(self.status(index)?.phase)
    }

    /// The machine that is the master, if exactly one is and the other is its standby.
    pub fn master(&self) -> Option<usize> {
        match [self.phase(0), self.phase(1)] {
            [Some(Phase::Master), Some(Phase::Standby)] => Some(0),
            [Some(Phase::Standby), Some(Phase::Master)] => Some(1),
            _ => None,
        }
    }

    /// Waits until one is the master and the other follows it.
    #[track_caller]
    pub fn wait_until_settled(&self) -> usize {
        let mut master = None;
        eventually("one machine is the master and the other follows it", || {
            let has_all = |standby: usize| {
                let [Some(own), Some(other)] = [standby, 1 - standby].map(|index| self.status(index)) else {
                    return false;
                };
                own.reached.is_some() && own.accounts_generation == other.accounts_generation
            };
            master = self.master().filter(|master| has_all(1 - master));
            master.is_some()
        });
        master.expect("it was found")
    }

    /// Waits until a machine does something.
    #[track_caller]
    pub fn wait_for_phase(&self, index: usize, phase: Phase) {
        let mut seen = None;
        eventually(&format!("machine {index} is {phase:?}"), || {
            seen = self.phase(index);
            seen == Some(phase)
        });
    }

    /// Waits until a machine is a standby that the other, the master, has brought up to something, with its accounts.
    #[track_caller]
    pub fn wait_until_follows(&self, index: usize) {
        eventually(&format!("machine {index} follows the other"), || {
            let [Some(own), Some(other)] = [index, 1 - index].map(|index| self.status(index)) else { return false };
            let has_all = own.reached.is_some() && own.accounts_generation == other.accounts_generation;
            own.phase == Phase::Standby && other.phase == Phase::Master && has_all
        });
    }

    /// Gives a machine an order to move the master's place.
    #[track_caller]
    pub fn moved(&self, index: usize, order: &[&str]) -> Move {
        self.machines[index].moved(order)
    }

    /// Waits until both machines hold the same.
    #[track_caller]
    pub fn wait_until_equal(&self) {
        let mut differences = Vec::new();
        let is_equal = || {
            let [first, second] = &self.machines;
            differences = Snapshot::of(first.data()).differences(&Snapshot::of(second.data()));
            differences.is_empty()
        };
        let waited =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| eventually("both hold the same", is_equal)));
        if waited.is_err() {
            differences.truncate(5);
            panic!("they differ: {differences:#?}");
        }
    }
}
