//! A master and two standbys: the place goes round, each of them follows whoever has it, and none is lost on the way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::SocketAddr;

use pair::control::{Move, Status};
use pair::node::Phase;
use tests::{Link, Machine, Mirror, Snapshot, USER, eventually, own_address, prepare_machines};

/// Three machines, each with a filesync beside it, that reach each other by links.
struct Trio {
    machines: [Machine; 3],
    mirrors: [Mirror; 3],
    /// The ways to them.
    links: Vec<Link>,
}

impl Trio {
    fn start() -> Trio {
        let mut links = Vec::new();
        let mut way_to = |address: SocketAddr| {
            links.push(Link::to(address));
            links.last().unwrap().address()
        };
        let addresses = [own_address(), own_address(), own_address()];
        let [first, second, third] = prepare_machines(addresses, &[], &[], &mut way_to);
        let (machines, mirrors) = ([first.0, second.0, third.0], [first.1, second.1, third.1]);
        let mut trio = Trio { machines, mirrors, links };
        (0..3).rev().for_each(|index| trio.run(index));
        trio.wait_until_settled(0);
        trio
    }

    fn run(&mut self, index: usize) {
        self.machines[index].start();
        self.mirrors[index].start();
    }

    fn kill(&mut self, index: usize) {
        self.machines[index].kill();
        self.mirrors[index].kill();
    }

    fn way_to(&self, index: usize) -> String {
        self.links[index].address().to_string()
    }

    fn status(&self, index: usize) -> Status {
        self.machines[index].status().expect("it runs")
    }

    #[track_caller]
    fn moved(&self, index: usize, order: &[&str]) -> Move {
        self.machines[index].moved(order)
    }

    fn refused(&self, index: usize, order: &[&str]) -> String {
        let (done, text) = self.machines[index].order(order);
        assert!(!done, "{text}");
        text
    }

    fn put(&self, index: usize, name: &str) -> bool {
        self.machines[index].put(USER, name, name)
    }

    /// Waits until a machine is the master and both others follow it in its epoch.
    #[track_caller]
    fn wait_until_settled(&self, master: usize) {
        eventually(&format!("machine {master} is the master of both others"), || {
            let all: Vec<Option<Status>> = self.machines.iter().map(Machine::status).collect();
            let Some(now) = all[master].as_ref().filter(|it| it.phase == Phase::Master) else { return false };
            let has_all = |it: &Status| it.reached.is_some() && it.accounts_generation == now.accounts_generation;
            let follows = |it: &Status| it.phase == Phase::Standby && it.epoch == now.epoch && has_all(it);
            (0..3).filter(|index| *index != master).all(|index| all[index].as_ref().is_some_and(follows))
        });
    }

    #[track_caller]
    fn wait_until_equal(&self) {
        let first = || Snapshot::of(self.machines[0].data());
        eventually("all three hold the same", || {
            self.machines[1..].iter().all(|other| first().differences(&Snapshot::of(other.data())).is_empty())
        });
    }
}

#[test]
fn the_place_goes_round_among_three_machines() {
    let trio = Trio::start();
    assert!(trio.put(0, "by-the-first"));
    assert!(trio.refused(0, &["switchover"]).contains("--to"), "it is not said which one");
    let moved = trio.moved(0, &["switchover", "--to", &trio.way_to(1)]);
    assert_eq!(moved.epoch, 2);
    assert!(trio.put(1, "by-the-second"));
    trio.wait_until_settled(1);
    // Asked for on the machine that is to have it.
    assert_eq!(trio.moved(2, &["switchover"]).epoch, 3);
    assert!(trio.put(2, "by-the-third"));
    trio.wait_until_settled(2);
    let id = trio.status(0).node;
    assert_eq!(trio.moved(2, &["switchover", "--to", &id]).epoch, 4);
    assert!(trio.put(0, "by-the-first-again"));
    trio.wait_until_settled(0);
    trio.wait_until_equal();
}

#[test]
fn a_promotion_takes_the_other_standby_along_and_the_dead_master_returns() {
    let mut trio = Trio::start();
    assert!(trio.put(0, "before"));
    trio.wait_until_equal();
    assert!(trio.refused(1, &["promote"]).contains("answers as master"));
    trio.kill(0);
    // The one that a last heartbeat has reached is the one to be promoted, and the other refuses.
    let (new, other) = if trio.status(1).reached > trio.status(2).reached { (1, 2) } else { (2, 1) };
    assert_eq!(trio.moved(new, &["promote"]).epoch, 2);
    assert!(trio.put(new, "while-one-is-away"));
    eventually("the other standby follows the new master", || {
        let status = trio.status(other);
        status.phase == Phase::Standby && status.epoch == trio.status(new).epoch && status.reached.is_some()
    });
    trio.run(0);
    trio.wait_until_settled(new);
    assert!(trio.put(new, "after") && !trio.put(0, "refused") && !trio.put(other, "refused"));
    trio.wait_until_equal();
}

#[test]
fn a_standby_that_was_away_for_two_takeovers_comes_back_to_the_third_master() {
    let mut trio = Trio::start();
    assert!(trio.put(0, "before"));
    trio.wait_until_equal();
    trio.kill(2);
    // The preflight looks at the machine that is to have the place, not at who is away.
    assert_eq!(trio.moved(0, &["switchover", "--to", &trio.way_to(1)]).epoch, 2);
    assert!(trio.put(1, "by-the-second"));
    eventually("the first follows", || trio.status(0).phase == Phase::Standby && trio.status(0).reached.is_some());
    eventually("it has the file", || trio.machines[0].path(USER.0, "by-the-second").exists());
    trio.kill(1);
    assert_eq!(trio.moved(0, &["promote"]).epoch, 3);
    assert!(trio.put(0, "by-the-first-again"));
    trio.run(2);
    trio.run(1);
    trio.wait_until_settled(0);
    trio.wait_until_equal();
    assert_eq!(std::fs::read_to_string(trio.machines[2].path(USER.0, "by-the-second")).unwrap(), "by-the-second");
}

#[test]
fn a_master_that_is_cut_off_from_both_gives_way_and_what_only_it_took_comes_back() {
    let trio = Trio::start();
    assert!(trio.put(0, "before"));
    trio.wait_until_equal();
    trio.links[0].cut();
    let name = trio.way_to(0);
    assert!(trio.put(0, "only-here"));
    // Its way out is cut as well: it hears of nobody, and takes files until it does.
    trio.links[1].cut();
    trio.links[2].cut();
    assert!(trio.put(0, "only-here-too"));
    let (done, text) = trio.machines[1].order(&["promote"]);
    let moved = if done { text } else { trio.machines[1].order(&["promote", "--force", &name]).1 };
    assert!(trio.status(1).phase == Phase::Master, "{moved}");
    assert!(trio.put(1, "by-the-second"));
    trio.links.iter().for_each(Link::mend);
    trio.wait_until_settled(1);
    for name in ["before", "only-here", "only-here-too", "by-the-second"] {
        eventually(&format!("{name} is at the new master"), || trio.machines[1].path(USER.0, name).exists());
    }
    trio.wait_until_equal();
}
