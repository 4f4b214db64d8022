//! The guard over time, which stands still here unless a test moves it.

use super::*;

fn at(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn settings() -> GuardSettings {
    GuardSettings { sources_max: 100, ..GuardSettings::default() }
}

fn guard() -> Guard {
    Guard::new(settings(), None)
}

const S: Duration = Duration::from_secs(1);

#[test]
fn failures_add_up_to_a_ban_and_time_takes_them_away() {
    let (guard, now) = (guard(), Instant::now());
    let from = at("198.51.100.7");
    // As with OpenSSH: five seconds for each, and at fifteen the door is shut for as long.
    assert_eq!(guard.offend(from, Offence::FailedLogin, now), None);
    assert_eq!(guard.offend(from, Offence::FailedLogin, now), None);
    assert_eq!(guard.admit(from, now), Ok(()));
    let ban = guard.offend(from, Offence::FailedLogin, now).unwrap();
    assert_eq!((ban.source.to_string().as_str(), ban.left), ("198.51.100.7/32", 15 * S));
    assert!(guard.admit(from, now + 14 * S).is_err() && guard.admit(from, now + 15 * S).is_ok());
    assert_eq!(guard.admit(at("198.51.100.8"), now), Ok(()), "a neighbour is another");
    // One wrong password in a minute never comes to that.
    for minute in 1..100 {
        assert_eq!(guard.offend(from, Offence::FailedLogin, now + minute * 60 * S), None);
    }
}

#[test]
fn a_ban_grows_with_what_goes_on_and_not_for_ever() {
    let (guard, now) = (guard(), Instant::now());
    let from = at("2001:db8:1:2::1");
    for _ in 0..1000 {
        guard.offend(from, Offence::Hostile, now);
    }
    let bans = guard.bans(now);
    assert_eq!((bans.len(), bans[0].left), (1, 600 * S));
    // One subscriber has all addresses of such a network.
    assert!(guard.admit(at("2001:db8:1:2:ffff::9"), now).is_err());
    assert!(guard.admit(at("2001:db8:1:3::1"), now).is_ok());
    assert!(guard.admit(from, now + 600 * S).is_ok());
}

#[test]
fn those_that_are_never_banned_are_not_counted_in_any_form() {
    let never = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap(), "203.0.113.0/24".parse().unwrap()];
    let (guard, now) = (Guard::new(GuardSettings { never, ..settings() }, Some(at("172.17.0.1"))), Instant::now());
    guard.exempt(at("192.0.2.55"));
    for from in ["127.0.0.1", "::1", "203.0.113.9", "::ffff:203.0.113.9", "172.17.0.1", "192.0.2.55"] {
        for _ in 0..1000 {
            assert_eq!(guard.offend(at(from), Offence::Hostile, now), None);
            assert_eq!(guard.admit(at(from), now), Ok(()));
        }
    }
    let off = Guard::new(GuardSettings { enabled: false, ..settings() }, None);
    assert_eq!(off.offend(at("198.51.100.7"), Offence::Hostile, now), None);
}

#[test]
fn an_account_under_attack_stays_open_to_where_it_has_logged_in_before() {
    let (guard, now) = (guard(), Instant::now());
    let (home, elsewhere) = (at("192.0.2.1"), at("198.51.100.7"));
    guard.befriend("acme", home, now);
    let mut shut = 0;
    for _ in 0..100 {
        shut += usize::from(guard.offend_account("acme", now));
    }
    assert_eq!(shut, 1, "it is told once");
    assert!(!guard.takes_password("acme", elsewhere, now));
    assert!(guard.takes_password("acme", home, now) && guard.takes_password("other", elsewhere, now));
    assert!(guard.takes_password("acme", elsewhere, now + 600 * S));
    assert_eq!(guard.shut_accounts(now).len(), 1);
    assert_eq!(guard.lift("acme"), 1);
    assert!(guard.takes_password("acme", elsewhere, now));
}

#[test]
fn connections_come_at_a_rate_with_room_for_a_burst() {
    let (guard, now) = (guard(), Instant::now());
    let from = at("198.51.100.7");
    let taken = |at: Instant, tries: usize| (0..tries).filter(|_| guard.admit(from, at).is_ok()).count();
    let (burst, per_s) = (settings().connections_burst as usize, settings().connections_per_s as usize);
    assert_eq!(taken(now, 1000), burst);
    assert_eq!(taken(now + S, 1000), per_s);
    assert_eq!(taken(now + 3600 * S, 1000), burst);
}

#[test]
fn bans_are_lifted_by_address_network_or_all_of_them() {
    let (guard, now) = (guard(), Instant::now());
    for from in ["198.51.100.7", "198.51.100.8", "192.0.2.1", "2001:db8::1"] {
        guard.offend(at(from), Offence::Hostile, now).unwrap();
    }
    assert_eq!((guard.lift("198.51.100.9"), guard.lift("nonsense")), (0, 0));
    assert_eq!((guard.lift("198.51.100.7"), guard.lift("198.51.100.0/24")), (1, 1));
    assert_eq!(guard.lift("2001:db8::1"), 1);
    assert_eq!(guard.bans(now).len(), 1);
    assert_eq!((guard.lift("all"), guard.bans(now).len()), (1, 0));
}

#[test]
fn the_tables_have_a_bound_and_past_it_nobody_new_is_banned() {
    let (guard, now) = (guard(), Instant::now());
    for number in 0..1000_u32 {
        let from = IpAddr::from(std::net::Ipv4Addr::from(0xC633_0000 + number));
        guard.offend(from, Offence::Hostile, now);
        guard.admit(from, now).ok();
        guard.offend_account(&number.to_string(), now);
        guard.befriend("acme", from, now);
    }
    let state = guard.lock();
    assert_eq!((state.by_source.banned(now).count(), state.rates.len()), (100, 100));
    assert!(state.friends.len() <= FRIENDS_MAX);
    drop(state);
    // When the first have passed there is room again.
    assert!(guard.offend(at("203.0.113.1"), Offence::Hostile, now + 600 * S).is_some());
}
