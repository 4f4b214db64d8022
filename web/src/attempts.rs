//! How often somebody may try to log in: per address, and in all.
//!
//! Every try counts, right or wrong, before the password is looked at. IPv6 addresses count by their network of 64 bits, because a
//! household has so many. All together stay below what sftpd's guard bans for (15 s, 5 for each failure): there all tries come from the
//! page, and who mistypes would shut it out with the load that it runs. Passwords of accounts that a page takes count, too.
//!
//! Three at once would not stay below: three failures are 15 s but for the moments between them, which nobody vouches for.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// Tries of one address at once; one comes back every [`PER_ADDRESS_INTERVAL`].
pub const PER_ADDRESS_BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);
/// See [`PER_ADDRESS_BURST`].
pub const PER_ADDRESS_INTERVAL: Duration = Duration::from_secs(12);
/// Tries of all addresses at once; one comes back every [`IN_ALL_INTERVAL`].
pub const IN_ALL_BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);
/// See [`IN_ALL_BURST`].
pub const IN_ALL_INTERVAL: Duration = Duration::from_secs(6);
/// Addresses that are remembered; past it, nobody new may try until the oldest are forgotten.
const ADDRESSES_MAX: usize = 4096;

/// The tries so far.
pub struct Attempts {
    by_address: RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>,
    in_all: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

impl Attempts {
    /// None yet. `None` where an interval is zero.
    pub fn new() -> Option<Attempts> {
        let by_address = Quota::with_period(PER_ADDRESS_INTERVAL)?.allow_burst(PER_ADDRESS_BURST);
        let in_all = Quota::with_period(IN_ALL_INTERVAL)?.allow_burst(IN_ALL_BURST);
        let clock = DefaultClock::default();
        Some(Attempts { by_address: RateLimiter::hashmap(by_address), in_all: RateLimiter::direct(in_all), clock })
    }

    /// Counts a try.
    ///
    /// # Errors
    /// How long to wait before the next, where this one is too many.
    pub fn count(&self, address: IpAddr) -> Result<(), Duration> {
        if self.by_address.len() >= ADDRESSES_MAX {
            self.by_address.retain_recent();
            if self.by_address.len() >= ADDRESSES_MAX {
                return Err(PER_ADDRESS_INTERVAL);
            }
        }
        let now = self.clock.now();
        self.by_address.check_key(&network_of(address)).map_err(|refused| refused.wait_time_from(now))?;
        self.in_all.check().map_err(|refused| refused.wait_time_from(now))
    }
}

fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_that_tries_too_often_waits_longer_than_others() {
        let attempts = Attempts::new().unwrap();
        for _ in 0..PER_ADDRESS_BURST.get() {
            assert_eq!(attempts.count(address("192.0.2.1")), Ok(()));
        }
        let wait = attempts.count(address("192.0.2.1")).unwrap_err();
        assert!(wait > IN_ALL_INTERVAL && wait <= PER_ADDRESS_INTERVAL, "{wait:?}");
        assert!(attempts.count(address("::ffff:192.0.2.1")).is_err(), "the same address, written otherwise");
        let others = attempts.count(address("192.0.2.2")).unwrap_err();
        assert!(others <= IN_ALL_INTERVAL, "{others:?}");
    }

    #[test]
    fn addresses_of_one_network_count_as_one() {
        let attempts = Attempts::new().unwrap();
        for host in 0..PER_ADDRESS_BURST.get() {
            assert_eq!(attempts.count(address(&format!("2001:db8::{host:x}"))), Ok(()));
        }
        assert!(attempts.count(address("2001:db8::ffff")).unwrap_err() > IN_ALL_INTERVAL);
        assert!(attempts.count(address("2001:db8:0:1::1")).unwrap_err() <= IN_ALL_INTERVAL);
    }

    #[test]
    fn many_addresses_together_are_held_up_too() {
        let attempts = Attempts::new().unwrap();
        let refused = (0..=255).filter(|host| attempts.count(IpAddr::from([192, 0, 2, *host])).is_err()).count();
        assert!(refused > 200, "{refused}");
    }
}
