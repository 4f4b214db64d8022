//! Who may knock: penalties by address that grow with what goes wrong there and decay with time, and the bans that come of
//! them. The model is OpenSSH's PerSourcePenalties (sshd_config(5)).
//!
//! Always holds: what is on the list of those never to be banned is never counted; a table has its bound, and past it
//! nobody is banned who was not before. The thinking is pure: the time is given to it ([`Penalties`], [`Rate`]).

mod penalties;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::accounts::checker::Asker;
use crate::accounts::network;
use crate::config::GuardSettings;

pub use penalties::{Penalties, Verdict};

/// Accounts and addresses of which is known that they belong together.
const FRIENDS_MAX: usize = 10_000;

/// What goes wrong at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// A login was refused.
    FailedLogin,
    /// A connection ended without a login.
    NoLogin,
    /// Nobody logged in within the grace.
    GraceExceeded,
    /// It spoke something that is no SSH, or no SFTP.
    Hostile,
}

/// A ban, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// The address, or the network that counts as one.
    pub source: IpNet,
    /// For how long it still holds.
    pub left: Duration,
}

/// The guard.
pub struct Guard {
    settings: GuardSettings,
    // Held for a few lines, never across an await.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_source: Penalties<IpNet>,
    by_account: Penalties<String>,
    rates: HashMap<IpNet, Rate>,
    /// From where an account has logged in: there a wrong password of somebody else's shuts nobody out.
    friends: HashMap<(String, IpNet), Instant>,
    /// The other machines of the pair.
    peers: HashSet<IpNet>,
}

impl Guard {
    /// One that has seen nothing. This machine's gateway is never banned: behind it stand all whose addresses do not arrive.
    pub fn new(mut settings: GuardSettings, gateway: Option<IpAddr>) -> Guard {
        settings.never.extend(gateway.map(IpNet::from));
        Guard { settings, state: Mutex::default() }
    }

    /// The other machine of the pair has logged in from an address: it is never banned.
    pub fn exempt(&self, peer: IpAddr) {
        self.lock().peers.insert(self.net(peer));
    }

    /// What counts as one address: of IPv6 the network that one subscriber has.
    fn net(&self, address: IpAddr) -> IpNet {
        let address = address.to_canonical();
        let length = if address.is_ipv4() { 32 } else { self.settings.ipv6_prefix };
        IpNet::new(address, length).map_or_else(|_| IpNet::from(address), |net| net.trunc())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is counted of an address; nothing of those that are never banned.
    fn source(&self, address: IpAddr) -> Option<IpNet> {
        (self.settings.enabled && !self.is_exempt(address)).then(|| self.net(address))
    }

    /// Whether an address is never counted: many may stand behind it, or it is the pair's own.
    fn is_exempt(&self, address: IpAddr) -> bool {
        let canonical = address.to_canonical();
        let is_listed = self.settings.never.iter().any(|net| net.contains(&canonical));
        is_listed || self.lock().peers.contains(&self.net(address))
    }

    /// Whether a connection from an address is taken now; a sentence for the log where it is not.
    pub fn admit(&self, address: IpAddr, now: Instant) -> Result<(), &'static str> {
        let Some(source) = self.source(address) else { return Ok(()) };
        let mut state = self.lock();
        if state.by_source.is_banned(&source, now) {
            return Err("its address is banned for a while");
        }
        if state.rates.len() >= self.settings.sources_max {
            state.rates.retain(|_, rate| !rate.is_full(now, &self.settings));
        }
        if state.rates.len() >= self.settings.sources_max && !state.rates.contains_key(&source) {
            return Ok(());
        }
        let rate = state.rates.entry(source).or_insert_with(|| Rate::full(now, &self.settings));
        if rate.take(now, &self.settings) { Ok(()) } else { Err("its address connects too often") }
    }

    /// Something went wrong at an address. Tells of a ban that begins by it, and how long it is.
    pub fn offend(&self, address: IpAddr, offence: Offence, now: Instant) -> Option<Ban> {
        let source = self.source(address)?;
        let seconds = match offence {
            Offence::FailedLogin => self.settings.failed_login,
            Offence::NoLogin => self.settings.no_login,
            Offence::GraceExceeded => self.settings.grace_exceeded,
            Offence::Hostile => self.settings.hostile,
        };
        let limits = (self.settings.threshold.get(), self.settings.longest.get(), self.settings.sources_max);
        match self.lock().by_source.add(source, seconds.get(), limits, now) {
            Verdict::Banned(left) => Some(Ban { source, left }),
            Verdict::Counted => None,
        }
    }

    /// A password of an account was wrong. From many addresses together that shuts its passwords for a while, but not from
    /// where it has logged in before. Tells whether that begins by it.
    pub fn offend_account(&self, account: &str, now: Instant) -> bool {
        if !self.settings.enabled {
            return false;
        }
        let limits = (self.settings.account_threshold.get(), self.settings.longest.get(), self.settings.sources_max);
        let verdict = self.lock().by_account.add(account.to_owned(), self.settings.failed_login.get(), limits, now);
        matches!(verdict, Verdict::Banned(_))
    }

    /// Whether an account's password counts from an address now.
    pub fn takes_password(&self, account: &str, address: IpAddr, now: Instant) -> bool {
        let Some(source) = self.source(address) else { return true };
        let state = self.lock();
        !state.by_account.is_banned(account, now) || state.friends.contains_key(&(account.to_owned(), source))
    }

    /// Who asks whether an account's password is right, as the checker of passwords sees it.
    pub fn asker(&self, account: &str, address: IpAddr) -> Asker {
        let net = self.net(address);
        let source = (!self.is_exempt(address)).then_some(net);
        Asker { source, is_known: self.lock().friends.contains_key(&(account.to_owned(), net)) }
    }

    /// Whether an address is counted as this source.
    pub fn is_of(&self, address: IpAddr, source: &IpNet) -> bool {
        self.source(address).as_ref() == Some(source)
    }

    /// An account has logged in from an address.
    pub fn befriend(&self, account: &str, address: IpAddr, now: Instant) {
        let source = self.net(address);
        let friends = &mut self.lock().friends;
        if friends.len() >= FRIENDS_MAX {
            let oldest = friends.iter().min_by_key(|(_, since)| **since).map(|(friend, _)| friend.clone());
            oldest.and_then(|oldest| friends.remove(&oldest));
        }
        friends.insert((account.to_owned(), source), now);
    }

    /// All bans of addresses, the longest first.
    pub fn bans(&self, now: Instant) -> Vec<Ban> {
        let mut bans: Vec<_> =
            self.lock().by_source.banned(now).map(|(source, left)| Ban { source: *source, left }).collect();
        bans.sort_by_key(|ban| std::cmp::Reverse(ban.left));
        bans
    }

    /// Takes over the master's bans, by address and seconds. Who is never banned here is not banned by them.
    pub fn adopt(&self, bans: &[(String, u64)]) {
        let now = Instant::now();
        for (source, seconds) in bans {
            let Some(net) = network(source).filter(|net| self.source(net.addr()).is_some()) else { continue };
            let left = Duration::from_secs(*seconds).min(self.settings.longest.get());
            self.lock().by_source.adopt(net, left, self.settings.sources_max, now);
        }
    }

    /// All accounts whose passwords are shut, with how long that holds.
    pub fn shut_accounts(&self, now: Instant) -> Vec<(String, Duration)> {
        self.lock().by_account.banned(now).map(|(account, left)| (account.clone(), left)).collect()
    }

    /// Lifts all bans of what is named: an address, a network, an account, or `all`. Tells how many.
    pub fn lift(&self, whom: &str) -> usize {
        let mut state = self.lock();
        let net = network(whom);
        let is_meant = |source: &IpNet| {
            whom == "all" || net.is_some_and(|net| net.contains(source) || source.contains(&net.addr()))
        };
        let lifted = state.by_source.forget(is_meant);
        state.rates.retain(|source, _| !is_meant(source));
        lifted + state.by_account.forget(|account| whom == "all" || account == whom)
    }
}

/// How many connections an address may still begin: a bucket that fills with time.
#[derive(Clone, Copy, Debug)]
struct Rate {
    tokens: f64,
    since: Instant,
}

impl Rate {
    fn full(now: Instant, settings: &GuardSettings) -> Rate {
        Rate { tokens: f64::from(settings.connections_burst), since: now }
    }

    fn tokens(&self, now: Instant, settings: &GuardSettings) -> f64 {
        let filled = now.saturating_duration_since(self.since).as_secs_f64() * f64::from(settings.connections_per_s);
        (self.tokens + filled).min(f64::from(settings.connections_burst))
    }

    fn is_full(&self, now: Instant, settings: &GuardSettings) -> bool {
        self.tokens(now, settings) >= f64::from(settings.connections_burst)
    }

    fn take(&mut self, now: Instant, settings: &GuardSettings) -> bool {
        let tokens = self.tokens(now, settings);
        let may = tokens >= 1.0;
        *self = Rate { tokens: if may { tokens - 1.0 } else { tokens }, since: now };
        may
    }
}

#[cfg(test)]
mod tests;
