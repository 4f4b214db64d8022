//! The keeper on a volume of its own, with clocks that the test moves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pair::chain::{Checker, Event, FOLDER, Segment, What, number_of};
use pair::record::VolumePath;

use super::keeper::{Agent, Circumstances, Keeper, Rhythm, Turn};
use super::ledger::Ledger;
use super::moment::DAY_MS;
use crate::accounts::Keep;
use crate::storage::Volume;
use crate::storage::tests_of_volume::{Fixture, begin, close, opening};

const RHYTHM: Rhythm = Rhythm { seal_every: Duration::from_secs(600), retention_at_s: 2 * 3600 };

/// A machine that keeps an archive.
struct Machine {
    fixture: Fixture,
    volume: Option<Arc<Volume>>,
    keeper: Option<Keeper>,
    /// What the clock on the wall shows, and what the other has counted.
    wall_ms: i64,
    counted: Duration,
    is_master: bool,
    agents: Vec<Agent>,
}

impl Machine {
    fn new(keep: Keep) -> Machine {
        let mut machine = Machine {
            fixture: Fixture::new(),
            volume: None,
            keeper: None,
            // What comes is dated by the system's clock; the test's goes on from there.
            wall_ms: jiff::Timestamp::now().as_millisecond().div_euclid(DAY_MS) * DAY_MS + 3 * DAY_MS + DAY_MS / 2,
            counted: Duration::ZERO,
            is_master: true,
            agents: vec![Agent { home: b"alice".to_vec(), keep }],
        };
        machine.start();
        machine.turn();
        machine
    }

    fn start(&mut self) {
        let volume = self.fixture.open();
        volume.root("alice").unwrap();
        let ledger = Arc::new(Ledger::open(&self.fixture.state()).unwrap());
        self.keeper = Some(Keeper::new(volume.clone(), ledger, RHYTHM));
        self.volume = Some(volume);
    }

    /// As after `kill -9` of the keeper's thread: the volume is closed, what was in memory is gone.
    fn restart(&mut self) {
        (self.keeper, self.volume) = (None, None);
        self.start();
    }

    fn volume(&self) -> &Arc<Volume> {
        self.volume.as_ref().unwrap()
    }

    async fn put(&self, name: &str, content: &[u8]) {
        let writer = begin(self.volume(), &opening(self.volume(), "alice", 1, name));
        writer.write(Some(0), content).unwrap();
        close(self.volume(), writer).await.unwrap();
        self.volume().decide_all().await.unwrap();
    }

    async fn append(&self, name: &str, content: &[u8]) {
        let root = self.volume().root("alice").unwrap();
        let (file, _) = root.open_in_place(name.as_bytes(), None, false).unwrap();
        let (file, told) = self.volume().write_in_place(file, None, None, Some("alice".into())).unwrap();
        told.unwrap().await.unwrap();
        let file = file.that_only_grows();
        file.begin(false).unwrap();
        file.write(None, content).unwrap();
        file.close().await.unwrap();
        self.volume().decide_all().await.unwrap();
    }

    /// A file that nobody has told of is there, and the keeper finds it now.
    fn find(&mut self, name: &str, content: &[u8]) {
        let path = self.fixture.data().join("alice").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self.turn();
        self.keeper.as_mut().unwrap().gathered.compare(b"alice");
        self.after(MINUTES_10);
    }

    /// Retention names what goes, and dies before it removes anything. Gives how many that are.
    fn name_what_expires(&mut self, passed: Duration) -> usize {
        (self.wall_ms, self.counted) = (self.wall_ms + passed.as_millis() as i64, self.counted + passed);
        let chapter = self.volume().chapter();
        let now = Circumstances {
            wall_ms: self.wall_ms,
            counted: self.counted,
            is_master: true,
            machine: "n",
            epoch: &chapter.epoch,
            agents: &self.agents,
            goes_on: &|| true,
        };
        self.keeper.as_mut().unwrap().expire(&now, &mut Turn::default()).unwrap();
        self.events().iter().filter(|event| event.0 == What::Expired).count()
    }

    /// Time goes by, and the keeper has a turn.
    fn after(&mut self, passed: Duration) -> Turn {
        self.wall_ms += passed.as_millis() as i64;
        self.counted += passed;
        self.turn()
    }

    fn turn(&mut self) -> Turn {
        let chapter = self.volume().chapter();
        let now = Circumstances {
            wall_ms: self.wall_ms,
            counted: self.counted,
            is_master: self.is_master,
            machine: "n",
            epoch: &chapter.epoch,
            agents: &self.agents,
            goes_on: &|| true,
        };
        self.keeper.as_mut().unwrap().turn(&now)
    }

    /// Turns until there is nothing more to do at once.
    fn turns(&mut self, passed: Duration) -> Turn {
        let mut all = self.after(passed);
        while all.has_more {
            let next = self.turn();
            all.sealed.extend(next.sealed);
            all.removed.extend(next.removed);
            all.has_more = next.has_more;
        }
        all
    }

    fn problem(&self) -> Option<String> {
        self.keeper.as_ref().unwrap().told().problem
    }

    /// The chain as it lies on the volume, which must be one.
    fn chain(&self) -> Vec<Segment> {
        let mut found = BTreeMap::new();
        for day in std::fs::read_dir(self.fixture.data().join(FOLDER)).into_iter().flatten().flatten() {
            for file in std::fs::read_dir(day.path()).unwrap().flatten() {
                let number = number_of(file.file_name().to_str().unwrap()).unwrap();
                let day = day.file_name().into_string().unwrap();
                assert!(found.insert(number, (day, std::fs::read(file.path()).unwrap())).is_none(), "{number} twice");
            }
        }
        let mut checker = Checker::default();
        let look = |(number, (day, bytes)): (u64, (String, Vec<u8>))| {
            let checked = checker.look(&day, number, &bytes);
            assert_eq!(checked.flaws, [], "segment {number}");
            checked.segment.unwrap()
        };
        found.into_iter().map(look).collect()
    }

    fn events(&self) -> Vec<(What, String, u64, u64)> {
        let short = |event: Event| (event.event, event.path.to_string(), event.from, event.size);
        self.chain().into_iter().flat_map(|segment| segment.events).map(short).collect()
    }
}

const MINUTES_10: Duration = Duration::from_secs(600);

fn hash(content: &[u8]) -> Option<String> {
    Some(blake3::hash(content).to_hex().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_and_what_grows_is_sealed_with_the_digest_of_what_is_new() {
    let mut machine = Machine::new(Keep::default());
    machine.turn();
    assert!(machine.chain().is_empty(), "nothing came");
    machine.put("app.log", b"first\n").await;
    std::fs::create_dir(machine.fixture.data().join("bob")).unwrap();
    let sealed = machine.after(MINUTES_10).sealed;
    machine.append("app.log", b"second\n").await;
    machine.after(Duration::from_secs(5));
    assert_eq!(machine.events(), [(What::Arrived, "alice/app.log".into(), 0, 6)], "one in ten minutes");
    machine.after(MINUTES_10);
    assert_eq!(machine.events()[1..], [(What::Grown, "alice/app.log".into(), 6, 13)]);
    let chain = machine.chain();
    assert_eq!((&chain[0].events[0].blake3, &chain[1].events[0].blake3), (&hash(b"first\n"), &hash(b"second\n")));
    assert_eq!(chain[1].header.previous.as_ref(), Some(&sealed[0].digest));
    assert_eq!(chain[1].header.agents, [VolumePath(b"alice".to_vec())]);
    assert_eq!(machine.after(MINUTES_10).sealed, []);
    assert_eq!(machine.problem(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_segment_of_a_day_is_written_before_the_day_ends() {
    let mut machine = Machine::new(Keep::default());
    machine.put("first", b"x").await;
    machine.turn();
    machine.wall_ms += DAY_MS / 2 - 300_000;
    machine.put("second", b"y").await;
    machine.turn();
    machine.put("third", b"z").await;
    machine.after(Duration::from_secs(5));
    assert_eq!(machine.events().len(), 2);
    machine.after(Duration::from_secs(285));
    let chain = machine.chain();
    assert_eq!((chain.len(), chain[2].day()), (3, chain[0].day()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_was_killed_goes_on_with_the_next_number_and_forgets_nothing() {
    let mut machine = Machine::new(Keep::default());
    for round in 0..6 {
        machine.put(&format!("log.{round}"), b"content").await;
        machine.after(MINUTES_10);
        machine.put(&format!("late.{round}"), b"not sealed yet").await;
        if round % 2 == 0 {
            machine.turn();
        }
        machine.restart();
        if round == 3 {
            // Its ledger is lost, too.
            (machine.keeper, machine.volume) = (None, None);
            std::fs::remove_file(machine.fixture.state().join("archive.db")).unwrap();
            machine.start();
        }
    }
    machine.after(MINUTES_10);
    let mut names: Vec<String> = machine.events().into_iter().map(|(_, path, ..)| path).collect();
    names.sort();
    names.dedup();
    assert_eq!((names.len(), machine.events().len()), (12, 12), "{:?}", machine.events());
    assert_eq!(machine.problem(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_was_published_before_the_ledger_knew_is_taken_in_and_followed() {
    let mut machine = Machine::new(Keep::default());
    machine.put("a", b"1").await;
    machine.turn();
    let (state, kept) = (machine.fixture.state().join("archive.db"), tempfile::tempdir().unwrap());
    (machine.keeper, machine.volume) = (None, None);
    std::fs::copy(&state, kept.path().join("db")).unwrap();
    machine.start();
    machine.put("b", b"2").await;
    machine.after(MINUTES_10);
    (machine.keeper, machine.volume) = (None, None);
    // The kill came between the two.
    for end in ["", "-wal", "-shm"] {
        std::fs::remove_file(format!("{}{end}", state.display())).ok();
    }
    std::fs::copy(kept.path().join("db"), &state).unwrap();
    machine.start();
    machine.put("c", b"3").await;
    machine.after(MINUTES_10);
    let paths: Vec<_> = machine.events().into_iter().map(|(_, path, ..)| path).collect();
    assert_eq!(paths, ["alice/a", "alice/b", "alice/c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_over_adds_what_is_in_no_segment_as_found() {
    let mut machine = Machine::new(Keep::default());
    machine.put("sealed", b"1").await;
    machine.turn();
    // As a standby it gets files that its own journal does not tell of.
    machine.is_master = false;
    machine.turn();
    std::fs::create_dir(machine.fixture.data().join("alice/deep")).unwrap();
    std::fs::write(machine.fixture.data().join("alice/deep/brought"), b"by replication").unwrap();
    std::fs::write(machine.fixture.data().join("alice/sealed"), b"1 and more").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", machine.fixture.data().join("alice/link")).unwrap();
    let next = machine.volume().chapter().epoch.next().unwrap();
    machine.volume().begin_epoch(next).await.unwrap();
    machine.is_master = true;
    machine.turns(MINUTES_10);
    let events = machine.events();
    let expected = [
        (What::Arrived, "alice/sealed".to_owned(), 0, 1),
        (What::Found, "alice/deep/brought".to_owned(), 0, 14),
        (What::Grown, "alice/sealed".to_owned(), 1, 10),
    ];
    assert_eq!(events, expected);
    assert_eq!(machine.chain()[1].events[1].blake3, hash(b" and more"));
    assert_ne!(machine.chain()[1].header.epoch, machine.chain()[0].header.epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_becomes_an_agent_has_its_files_found() {
    let mut machine = Machine::new(Keep::default());
    let agents = std::mem::take(&mut machine.agents);
    machine.put("before", b"x").await;
    machine.turns(MINUTES_10);
    assert!(machine.chain().is_empty());
    machine.agents = agents;
    machine.turns(MINUTES_10);
    assert_eq!(machine.events(), [(What::Found, "alice/before".into(), 0, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_altered_behind_the_server_is_not_written_down_anew_after_a_restart() {
    let mut machine = Machine::new(Keep::default());
    machine.put("log", b"evidence").await;
    machine.turn();
    std::fs::write(machine.fixture.data().join("alice/log"), b"EVIDENCE").unwrap();
    let next = machine.volume().chapter().epoch.next().unwrap();
    machine.volume().begin_epoch(next).await.unwrap();
    machine.turns(MINUTES_10);
    assert_eq!(machine.events(), [(What::Arrived, "alice/log".into(), 0, 8)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_that_were_removed_are_a_problem_and_their_numbers_do_not_come_again() {
    let mut machine = Machine::new(Keep::default());
    for name in ["a", "b"] {
        machine.put(name, b"x").await;
        machine.after(MINUTES_10);
    }
    let last = machine.chain().pop().unwrap();
    std::fs::remove_file(machine.fixture.data().join(last.path())).unwrap();
    machine.put("c", b"x").await;
    machine.after(MINUTES_10);
    assert!(machine.problem().is_some_and(|problem| problem.contains("segment 2 ")), "{:?}", machine.problem());
    assert!(machine.fixture.data().join(format!("{FOLDER}/{}/000003.chain", last.day())).exists());
}

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test(flavor = "multi_thread")]
async fn retention_removes_what_is_too_old_at_its_time_and_names_it_before() {
    let mut machine = Machine::new(Keep { for_s: Some(5 * 24 * 3600), bytes: None });
    machine.find("deep/er/old", b"x");
    for _ in 0..4 {
        machine.turns(DAY);
    }
    machine.find("deep/young", b"y");
    assert!(machine.events().iter().all(|event| event.0 == What::Found), "{:?}", machine.events());
    // Until two o'clock it stays, though it is old enough from noon on.
    machine.turns(Duration::from_secs(14 * 3600));
    assert!(machine.fixture.data().join("alice/deep/er/old").exists());
    machine.turns(Duration::from_secs(21 * 3600));
    assert!(machine.fixture.data().join("alice/deep/er/old").exists());
    let turn = machine.turns(Duration::from_secs(3 * 3600));
    assert_eq!(turn.removed, [(VolumePath(b"alice/deep/er/old".to_vec()), 1)]);
    assert_eq!(machine.events().last(), Some(&(What::Expired, "alice/deep/er/old".into(), 0, 1)));
    assert!(!machine.fixture.data().join("alice/deep/er").exists(), "a folder that is empty goes with it");
    assert!(machine.fixture.data().join("alice/deep/young").exists());
    machine.volume().decide_all().await.unwrap();
    let told: Vec<_> =
        machine.volume().records_after(0, 1000).unwrap().into_iter().map(|record| record.path.0).collect();
    let at = |path: &[u8]| told.iter().rposition(|told| told == path);
    let segment = machine.chain().pop().unwrap().path();
    assert!(at(segment.as_bytes()) < at(b"alice/deep/er/old"), "a standby has the word before it removes anything");
    assert_eq!(machine.problem(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_folder_that_is_too_large_the_oldest_go_and_other_accounts_lose_nothing() {
    let mut machine = Machine::new(Keep { for_s: None, bytes: Some(1000) });
    std::fs::create_dir(machine.fixture.data().join("bob")).unwrap();
    std::fs::write(machine.fixture.data().join("bob/huge"), vec![0; 100_000]).unwrap();
    for number in 0..100 {
        std::fs::write(machine.fixture.data().join(format!("alice/log.{number:03}")), [b'x'; 20]).unwrap();
    }
    machine.find("log.100", b"");
    let turn = machine.turns(DAY);
    let removed: Vec<_> = turn.removed.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(removed, (0..50).map(|number| format!("alice/log.{number:03}")).collect::<Vec<_>>());
    assert_eq!(std::fs::read_dir(machine.fixture.data().join("alice")).unwrap().count(), 51);
    assert!(machine.fixture.data().join("bob/huge").exists());
    assert_eq!(machine.turns(DAY).removed, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_a_bound_keeps_to_it_while_files_come_for_days() {
    let mut machine = Machine::new(Keep { for_s: None, bytes: Some(1000) });
    for number in 0..60 {
        machine.find(&format!("log.{number:03}"), &[b'x'; 100]);
        machine.turns(Duration::from_secs(3600));
    }
    // At two o'clock it holds ten, and so many more until the next night.
    let kept = std::fs::read_dir(machine.fixture.data().join("alice")).unwrap().count();
    assert!((10..=34).contains(&kept), "{kept}");
    let of_newest = machine.fixture.data().join("alice/log.059");
    assert!(of_newest.exists() && !machine.fixture.data().join("alice/log.000").exists());
    assert_eq!(machine.problem(), None);
    machine.chain();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_named_and_not_removed_goes_after_a_takeover_and_what_came_anew_stays() {
    let mut machine = Machine::new(Keep { for_s: Some(3600), bytes: None });
    machine.find("old", b"x");
    machine.find("came/anew", b"x");
    assert_eq!(machine.name_what_expires(DAY), 2);
    machine.restart();
    // By this machine's clock it is older than the word that the other one went, so it must differ.
    machine.put("came/anew", b"yy").await;
    let next = machine.volume().chapter().epoch.next().unwrap();
    machine.volume().begin_epoch(next).await.unwrap();
    let turn = machine.turns(Duration::from_secs(10));
    assert_eq!(turn.removed, [(VolumePath(b"alice/old".to_vec()), 1)]);
    machine.turns(MINUTES_10);
    assert_eq!(std::fs::read(machine.fixture.data().join("alice/came/anew")).unwrap(), b"yy");
    assert!(machine.events().contains(&(What::Found, "alice/came/anew".into(), 0, 2)), "{:?}", machine.events());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_leaps_removes_nothing_for_a_day() {
    let mut machine = Machine::new(Keep { for_s: Some(3600), bytes: None });
    machine.find("log", b"x");
    machine.wall_ms += 400 * DAY_MS;
    assert_eq!(machine.turns(Duration::from_secs(5)).removed, []);
    assert_eq!(machine.turns(Duration::from_secs(20 * 3600)).removed, []);
    assert!(machine.fixture.data().join("alice/log").exists());
    assert_eq!(machine.turns(DAY).removed.len(), 1, "a day later a person has had the time to see it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_being_continued_is_not_removed() {
    let mut machine = Machine::new(Keep { for_s: Some(3600), bytes: None });
    machine.put("log", b"x").await;
    machine.turn();
    let root = machine.volume().root("alice").unwrap();
    let (file, _) = root.open_in_place(b"log", None, false).unwrap();
    let (file, told) = machine.volume().write_in_place(file, None, None, Some("alice".into())).unwrap();
    told.unwrap().await.unwrap();
    machine.volume().decide_all().await.unwrap();
    assert_eq!(machine.turns(DAY).removed, []);
    file.begin(false).unwrap();
    file.close().await.unwrap();
    machine.volume().decide_all().await.unwrap();
    machine.turns(MINUTES_10);
    assert_eq!(machine.turns(DAY).removed.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_in_no_segment_yet_are_not_dropped() {
    let mut machine = Machine::new(Keep::default());
    machine.put("a", b"x").await;
    machine.turn();
    machine.put("b", b"x").await;
    machine.after(Duration::from_secs(5));
    let before = machine.volume().records_kept_behind();
    let of_b = machine.volume().records_after(0, 1000).unwrap().into_iter().find(|record| record.path.0 == b"alice/b");
    assert!(before < of_b.unwrap().seq, "b waits for its segment");
    machine.after(MINUTES_10);
    machine.after(Duration::from_secs(5));
    assert!(machine.volume().records_kept_behind() > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_far_from_the_newest_segment_is_not_believed_on_a_machine_that_never_was_the_master() {
    let mut machine = Machine::new(Keep { for_s: Some(3600), bytes: None });
    machine.find("log", b"x");
    // As on a standby: the chain has come here, and nothing is known of this machine's own looks.
    (machine.keeper, machine.volume) = (None, None);
    std::fs::remove_file(machine.fixture.state().join("archive.db")).unwrap();
    machine.wall_ms += 400 * DAY_MS;
    machine.start();
    // Something is sealed at once, and bears the wrong time.
    std::fs::write(machine.fixture.data().join("alice/new"), b"y").unwrap();
    assert_eq!(machine.turns(Duration::from_secs(5)).removed, []);
    assert_eq!(machine.turns(Duration::from_secs(20 * 3600)).removed, []);
    assert_eq!(machine.chain().len(), 2);
    assert!(machine.fixture.data().join("alice/log").exists());
    assert_eq!(machine.turns(DAY).removed.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_named_of_an_agent_that_is_a_user_by_now_stays() {
    let mut machine = Machine::new(Keep { for_s: Some(3600), bytes: None });
    machine.find("old", b"x");
    assert_eq!(machine.name_what_expires(DAY), 1);
    let agents = std::mem::take(&mut machine.agents);
    assert_eq!(machine.turns(Duration::from_secs(5)).removed, []);
    assert!(machine.fixture.data().join("alice/old").exists());
    machine.agents = agents;
    machine.turns(MINUTES_10);
    assert!(machine.fixture.data().join("alice/old").exists());
    assert_eq!(machine.events().last(), Some(&(What::Found, "alice/old".into(), 0, 1)), "an agent's again, it is new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_forgets_what_was_named_when_it_is_gone() {
    let mut machine = Machine::new(Keep { for_s: Some(3600), bytes: None });
    machine.find("gone", b"x");
    machine.find("there", b"x");
    assert_eq!(machine.name_what_expires(DAY), 2);
    std::fs::remove_file(machine.fixture.data().join("alice/gone")).unwrap();
    machine.is_master = false;
    machine.turn();
    let leaving = machine.keeper.as_ref().unwrap().ledger.leaving(9).unwrap();
    assert_eq!(leaving.into_iter().map(|known| known.path).collect::<Vec<_>>(), [b"alice/there"]);
    assert!(machine.fixture.data().join("alice/there").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_agent_whose_files_need_two_segments_is_compared_again_after_a_restart_in_between() {
    let mut machine = Machine::new(Keep::default());
    let agents = std::mem::take(&mut machine.agents);
    machine.turn();
    for number in 0..5001 {
        std::fs::write(machine.fixture.data().join(format!("alice/{number:04}")), b"").unwrap();
    }
    machine.agents = agents;
    assert!(machine.after(MINUTES_10).has_more);
    assert_eq!(machine.events().len(), 5000);
    machine.restart();
    machine.turns(MINUTES_10);
    assert_eq!(machine.events().last(), Some(&(What::Found, "alice/5000".into(), 0, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_by_a_clock_in_the_past_is_no_older_than_the_segment_before() {
    let mut machine = Machine::new(Keep::default());
    machine.put("first", b"x").await;
    machine.turn();
    // The journal's times are the system's clock's, and the test's is days ahead of it.
    machine.put("second", b"y").await;
    machine.after(MINUTES_10);
    let chain = machine.chain();
    assert!(chain[0].events[0].time < chain[0].header.time);
    assert_eq!(chain[1].events[0].time, chain[0].header.time);
}
