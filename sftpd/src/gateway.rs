//! Whether the addresses of clients arrive at all. Behind a container's forwarder everybody seems to come from the gateway:
//! then limits per address hold for all of them together, and the log tells nothing. That is said once.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};

/// After so many logins, all from the gateway, it is no accident.
const LOGINS_MIN: u32 = 5;

/// A login from elsewhere was seen, or the sentence was said: nothing is counted any more.
const SETTLED: u32 = u32::MAX;

/// This machine's gateway, and who came from there.
#[derive(Debug, Default)]
pub struct Gateway {
    address: Option<IpAddr>,
    logins: AtomicU32,
}

impl Gateway {
    /// That of the default route, if there is one.
    pub fn of_this_machine() -> Gateway {
        let address = std::fs::read_to_string("/proc/net/route").ok().and_then(|table| default_gateway(&table));
        Gateway { address: address.map(IpAddr::V4), logins: AtomicU32::new(0) }
    }

    /// Its address.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Notes a login. Gives the sentence to be said, once, when all so far came from the gateway.
    pub fn note_login(&self, from: IpAddr) -> Option<String> {
        let address = self.address?;
        if from.to_canonical() != address {
            self.logins.store(SETTLED, Ordering::Relaxed);
            return None;
        }
        let count = |logins: u32| match logins {
            SETTLED => None,
            logins if logins + 1 >= LOGINS_MIN => Some(SETTLED),
            logins => Some(logins + 1),
        };
        let before = self.logins.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).ok()?;
        (before + 1 >= LOGINS_MIN).then(|| {
            format!(
                "all clients seem to come from {address}, this machine's gateway: their own addresses do not arrive here, so the \
                 log does not tell them and limits per address hold for all together (docs/runbook.md, \"Addresses of clients\")"
            )
        })
    }
}

/// The gateway of the default route in the form of /proc/net/route: hexadecimal numbers in the machine's byte order.
fn default_gateway(table: &str) -> Option<Ipv4Addr> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (destination, gateway) = (fields.next()?, u32::from_str_radix(fields.next()?, 16).ok()?);
        (destination == "00000000" && gateway != 0).then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
                         eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\n\
                         eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\n";

    fn gateway() -> (Gateway, IpAddr) {
        let address = IpAddr::V4(default_gateway(TABLE).unwrap());
        (Gateway { address: Some(address), logins: AtomicU32::new(0) }, address)
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_route_names_the_gateway() {
        assert_eq!(default_gateway(TABLE), Some(Ipv4Addr::new(172, 17, 0, 1)));
        assert_eq!(default_gateway("Iface\tDestination\tGateway\n"), None);
    }

    #[test]
    fn that_all_come_from_the_gateway_is_said_once() {
        let (gateway, address) = gateway();
        let mapped = if let IpAddr::V4(address) = address { IpAddr::V6(address.to_ipv6_mapped()) } else { address };
        let said: Vec<bool> = (0..20).map(|_| gateway.note_login(mapped).is_some()).collect();
        assert_eq!(said.iter().filter(|said| **said).count(), 1);
        assert!(said[LOGINS_MIN as usize - 1]);
    }

    #[test]
    fn one_client_from_elsewhere_shows_that_addresses_arrive() {
        let (gateway, address) = gateway();
        assert_eq!(gateway.note_login(address), None);
        assert_eq!(gateway.note_login(IpAddr::from([192, 0, 2, 7])), None);
        assert!((0..20).all(|_| gateway.note_login(address).is_none()));
        assert!((0..20).all(|_| Gateway::default().note_login(address).is_none()), "a machine without gateway");
    }
}
