//! One takeover after the other, by order and by force, under load, with faults and with clocks that jump: what was acknowledged is on the master or set aside, and both
//! machines end as one pair. `TAKEOVERS` and `TAKEOVERS_SEED` ask for more than CI does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::time::Instant;

use pair::node::Phase;
use rustix::process::Signal;
use tests::load::{Account, Chance};
use tests::{Acknowledged, Clock, Direction, Duo, Link, eventually, write};

/// Takeovers in CI.
const ROUNDS: u64 = 8;

/// Clients that upload all the time.
const WRITERS: usize = 6;

/// What is done to the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing: the master hands over by order.
    None,
    /// The master's programs are killed.
    Kill,
    /// The master is paused, and goes on after the other was promoted.
    Pause,
    /// The two machines cannot reach each other; clients reach both.
    Cut,
    /// Only one direction does not arrive.
    OneWay(Direction),
    /// The master is killed in the middle of a switchover.
    KillInSwitchover,
    /// The standby is.
    KillStandbyInSwitchover,
    /// The way is cut in the middle of one.
    CutInSwitchover,
}

const FAULTS: [Fault; 9] = [
    Fault::None,
    Fault::Kill,
    Fault::Pause,
    Fault::Cut,
    Fault::OneWay(Direction::Up),
    Fault::OneWay(Direction::Down),
    Fault::KillInSwitchover,
    Fault::KillStandbyInSwitchover,
    Fault::CutInSwitchover,
];

/// How far a clock may be off, in seconds: around the times that a program waits, at the next day, and past everything that is kept for days.
const STEPS_S: [i64; 8] = [-400 * 86_400, -86_400, -3600, -3, 0, 3, 3600, 400 * 86_400];

struct Arena {
    duo: Duo,
    /// The clocks of the first and the second machine.
    clocks: [Clock; 2],
    /// The ways to the first and the second machine.
    links: Vec<Link>,
    chance: Chance,
}

impl Arena {
    fn kill(&mut self, machine: usize) {
        self.duo.machines[machine].kill();
        self.duo.mirrors[machine].kill();
    }

    /// One machine's clock jumps.
    fn step_clock(&mut self) {
        let (machine, seconds) = (self.chance.below(2), STEPS_S[self.chance.below(STEPS_S.len())]);
        println!("    the clock of machine {machine} is {seconds} s off from now on");
        self.clocks[machine].set(seconds);
    }

    fn start(&mut self, machine: usize) {
        self.duo.machines[machine].start();
        self.duo.mirrors[machine].start();
    }

    /// Promotes a machine as an operator would: with force where the sentence of the refusal asks for it.
    fn promote(&self, machine: usize) {
        let (done, text) = self.duo.machines[machine].order(&["promote"]);
        if done || text.contains("is the master already") {
            return;
        }
        let Some((_, rest)) = text.split_once("sftpd promote --force ") else { panic!("{text}") };
        let name = rest.split([' ', ')', ';', '\n']).next().unwrap();
        let (done, text) = self.duo.machines[machine].order(&["promote", "--force", name]);
        assert!(done, "{text}");
    }

    /// One takeover: what is wrong meanwhile, and how it ends.
    fn take_over(&mut self, fault: Fault) {
        let master = self.duo.wait_until_settled();
        let standby = 1 - master;
        self.step_clock();
        match fault {
            Fault::None => drop(self.duo.moved(master, &["switchover"])),
            Fault::Kill => {
                self.kill(master);
                self.promote(standby);
                self.start(master);
            }
            Fault::Pause => {
                self.duo.machines[master].program().signal(Signal::STOP);
                self.promote(standby);
                self.duo.machines[master].program().signal(Signal::CONT);
            }
            Fault::Cut => {
                self.links.iter().for_each(Link::cut);
                self.promote(standby);
                self.let_both_write(standby);
                self.links.iter().for_each(Link::mend);
            }
            Fault::OneWay(direction) => {
                self.links.iter().for_each(|link| link.hold(direction));
                self.promote(standby);
                self.let_both_write(standby);
                self.links.iter().for_each(Link::mend);
            }
            Fault::KillInSwitchover => self.disturb(master, |arena| {
                arena.kill(master);
                arena.start(master);
            }),
            Fault::KillStandbyInSwitchover => self.disturb(master, |arena| {
                arena.kill(standby);
                arena.start(standby);
            }),
            Fault::CutInSwitchover => self.disturb(master, |arena| {
                arena.links.iter().for_each(Link::cut);
                arena.links.iter().for_each(Link::mend);
            }),
        }
    }

    /// Both machines take files for a moment: neither hears of the other.
    fn let_both_write(&self, promoted: usize) {
        assert_eq!(self.duo.phase(promoted), Some(Phase::Master));
        let began = Instant::now();
        eventually("both have taken files", || began.elapsed().as_millis() > 300);
    }

    /// Something happens at some moment of a switchover, which may succeed, fail, or never have happened.
    fn disturb(&mut self, master: usize, what: impl FnOnce(&mut Arena)) {
        let delay_ms = self.chance.below(250) as u128;
        let state = self.duo.machines[master].state();
        let order = std::thread::spawn(move || {
            let mut command = std::process::Command::new(tests::binary("sftpd"));
            tests::run(command.args(["switchover", "--state"]).arg(state)).1
        });
        let began = Instant::now();
        eventually("the moment has come", || began.elapsed().as_millis() >= delay_ms);
        what(self);
        println!("    the switchover said: {}", order.join().unwrap().trim());
    }

    /// Waits for one pair again. An operator chooses where the machines have stopped.
    fn settle(&self) -> usize {
        eventually("there is a master", || {
            let phases = [self.duo.phase(0), self.duo.phase(1)];
            match phases {
                [Some(Phase::Stopped), Some(Phase::Stopped)] | [Some(Phase::Standby), Some(Phase::Standby)] => {
                    self.promote(0);
                }
                _ => {}
            }
            phases.contains(&Some(Phase::Master))
        });
        self.duo.wait_until_settled()
    }
}

/// Makes sure that a running daemon goes by its clock: the record of a login has the time that was set just before.
fn assert_clocks_jump(duo: &Duo, clock: &Clock) {
    let machine = &duo.machines[0];
    clock.set(86_400);
    assert!(!machine.sftp(("nobody", "wrong")).can_log_in());
    let login = machine.wait_for_activity("the login", |record| record.username == "nobody");
    clock.set(0);
    let time: jiff::Timestamp = login.time.parse().unwrap();
    let off_s = time.as_second() - jiff::Timestamp::now().as_second();
    assert!((80_000..=86_400).contains(&off_s), "{off_s} s: libfaketime does not work here");
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn whatever_takes_over_from_what_nothing_that_was_acknowledged_is_lost() {
    let (rounds, seed) = (setting("TAKEOVERS", ROUNDS), setting("TAKEOVERS_SEED", 1));
    let account = Account::with_new_key();
    let mut links = Vec::new();
    let settings = [("USERS_YAML", account.users()), ("LIMITS__SESSIONS_PER_ACCOUNT", "100".to_owned())];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let mut duo = Duo::prepare(&settings, &[], |address| {
        links.push(Link::to(address));
        links.last().unwrap().address()
    });
    let folder = tempfile::tempdir().unwrap();
    let clocks = ["first", "second"].map(|name| Clock::new(folder.path().join(name)));
    for (machine, clock) in clocks.iter().enumerate() {
        duo.machines[machine].go_by(clock);
        duo.mirrors[machine].go_by(clock);
    }
    duo.run();
    assert_clocks_jump(&duo, &clocks[0]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let addresses = [duo.machines[0].address(), duo.machines[1].address()];
    let (acknowledged, mut writers) = write(&runtime, &account, addresses, WRITERS, seed);
    let mut arena = Arena { duo, clocks, links, chance: Chance::new(seed) };
    for round in 0..rounds {
        let drawn = arena.chance.below(FAULTS.len());
        let fault = if round < FAULTS.len() as u64 { FAULTS[round as usize] } else { FAULTS[drawn] };
        let (before, began) = (acknowledged.count(), Instant::now());
        println!("round {round} of {rounds}, seed {seed}: {fault:?}");
        arena.take_over(fault);
        let master = arena.settle();
        let count = acknowledged.count();
        eventually("clients go on", || acknowledged.count() > count);
        let (gap, more) = (acknowledged.longest_gap(began), acknowledged.count() - before);
        println!(
            "    machine {master} is the master; {more} uploads acknowledged, longest pause {} ms",
            gap.as_millis()
        );
    }
    acknowledged.stop();
    runtime.block_on(async { while writers.join_next().await.is_some() {} });
    judge(&arena, &acknowledged);
}

fn judge(arena: &Arena, acknowledged: &Acknowledged) {
    let master = arena.settle();
    arena.duo.wait_until_equal();
    let [first, second] = &arena.duo.machines;
    let mut lost = Vec::new();
    // What was set aside comes back to the master a moment later.
    eventually("what is set aside was offered", || {
        lost = acknowledged.lost(arena.duo.machines[master].data(), [first.data(), second.data()]);
        lost.is_empty()
    });
    println!("{} uploads were acknowledged, none is lost", acknowledged.count());
    assert!(lost.is_empty(), "{lost:#?}");
}
