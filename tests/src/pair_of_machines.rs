//! A master, a standby, and the filesync between them.

use std::time::Duration;

use pair::control::Status;

use crate::machine::{Machine, new_secret};
use crate::mirror::Mirror;
use crate::tree::Snapshot;
use crate::wait::{eventually, within};

/// A running pair.
pub struct Pair {
    /// The master.
    pub master: Machine,
    /// The standby.
    pub standby: Machine,
    /// The mirror.
    pub mirror: Mirror,
}

impl Pair {
    /// Starts one with the seed's accounts.
    #[track_caller]
    pub fn start() -> Pair {
        Pair::start_with(&[])
    }

    /// As [`Pair::start`], with settings of the mirror.
    #[track_caller]
    pub fn start_with(settings: &[(&str, &str)]) -> Pair {
        let secret = new_secret();
        let master = Machine::master().secret(&secret).start();
        let address = master.address().to_string();
        let standby = Machine::master().secret(&secret).standby().setting("MASTER_ADDRESS", &address).start();
        let mut mirror = Mirror::of(&master, &secret, &standby.address().to_string());
        settings.iter().for_each(|(key, value)| mirror.set(key, value));
        mirror.start();
        Pair { master, standby, mirror }
    }

    /// Waits until the master knows which accounts the standby has.
    #[track_caller]
    pub fn wait_until_accounts_are_known(&self) {
        eventually("the master knows the standby's accounts", || {
            let (done, text) = self.master.order(&["status", "--json"]);
            let status: Option<Status> = done.then(|| serde_json::from_str(&text).ok()).flatten();
            status.is_some_and(|status| status.standbys.iter().any(|standby| standby.accounts_generation.is_some()))
        });
    }

    /// Waits until both machines hold the same, and says at which paths they do not.
    #[track_caller]
    pub fn wait_until_equal(&self) {
        self.wait_until_equal_within(Duration::from_secs(120));
    }

    /// As [`Pair::wait_until_equal`], with a bound of its own.
    #[track_caller]
    pub fn wait_until_equal_within(&self, bound: Duration) {
        let mut differences = Vec::new();
        let equal = || {
            differences = Snapshot::of(self.master.data()).differences(&Snapshot::of(self.standby.data()));
            differences.is_empty()
        };
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| within(bound, "both are equal", equal)));
        if waited.is_err() {
            let count = differences.len();
            differences.truncate(10);
            let (differences, metrics) = (differences.join("\n"), self.mirror.page("/metrics").1);
            panic!("master and standby differ at {count} paths, first:\n{differences}\n{metrics}");
        }
    }
}
