//! Torture: several clients change the master at random while programs are killed and stopped and the network is cut and
//! half cut. At rest both trees are equal, every acknowledged change is there, and nothing is that should not be.
//!
//! `TORTURE_MINUTES=m` goes on for longer, `TORTURE_SEED=s` repeats a run's choices (its timing is never the same).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use tests::load::{ACCOUNT, Account, Chance, Step, Thing, Tree, Writer, folder_of};
use tests::power::{Mounted, Workplace, format, missing};
use tests::{Direction, Link, Machine, Mirror, Pair, eventually, new_secret, run, within};

const WRITERS: usize = 5;
/// So many of the writers have files that go their own way.
const WRITERS_OF_LARGE: usize = 2;
/// Faults from one rest to the next.
const FAULTS: usize = 6;
/// The short form.
const TIME: Duration = Duration::from_secs(40);
/// The standby's disk; it is filled now and then.
const DISK_BYTES: u64 = 512 << 20;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

/// A pair over a link.
struct Scene {
    pair: Pair,
    link: Link,
    account: Account,
    /// Where the standby's disk is of limited size.
    disk: Option<Mounted>,
    /// Whether it was full once: its trash keeps it nearly so.
    was_full: bool,
    _workplace: Option<Workplace>,
}

impl Scene {
    fn start() -> Scene {
        let workplace = match missing() {
            None => Some(Workplace::new().unwrap()),
            Some(reason) => {
                println!("SKIPPED: the full disk: {reason}");
                None
            }
        };
        let disk = workplace.as_ref().map(|workplace| {
            let image = workplace.folder("image").join("image");
            std::fs::write(&image, format(DISK_BYTES, workplace)).unwrap();
            Mounted::mount(&image, workplace.folder("standby")).unwrap()
        });
        let (account, secret) = (Account::with_new_key(), new_secret());
        let master = Machine::master().users(&account.users()).secret(&secret).start();
        let mut standby = Machine::master().secret(&secret).standby();
        if let Some(disk) = &disk {
            standby = standby.data(&disk.folder("data"));
        }
        let standby = standby.start();
        let link = Link::to(standby.address());
        let mut mirror = Mirror::of(&master, &secret, &link.address().to_string());
        mirror.set("LOG_LEVEL", "debug");
        mirror.start();
        Scene { pair: Pair { master, standby, mirror }, link, account, disk, was_full: false, _workplace: workplace }
    }

    /// One fault, from its beginning to its end.
    fn strike(&mut self, chance: &mut Chance) -> String {
        let span = Duration::from_millis(100 + chance.below(2500) as u64);
        let Pair { master, standby, mirror } = &mut self.pair;
        let stopped = |program: &tests::Program| {
            program.signal(Signal::STOP);
            pass_time(span);
            program.signal(Signal::CONT);
        };
        let name = match chance.below(11) {
            0 => {
                master.kill();
                master.start();
                "the master is killed"
            }
            1 | 2 => {
                mirror.kill();
                mirror.start();
                "filesync is killed"
            }
            3 | 4 => {
                standby.kill();
                pass_time(span);
                standby.start();
                "the standby is killed"
            }
            5 => {
                stopped(master.program());
                "the master is stopped"
            }
            6 => {
                stopped(mirror.program());
                "filesync is stopped"
            }
            7 => {
                stopped(standby.program());
                "the standby is stopped"
            }
            8 => {
                self.link.cut();
                pass_time(span);
                self.link.mend();
                "the network is cut"
            }
            9 => {
                self.link.hold(if chance.one_in(2) { Direction::Up } else { Direction::Down });
                pass_time(span);
                self.link.mend();
                "the network is half cut"
            }
            _ => match &self.disk {
                Some(disk) => {
                    fill(disk, span);
                    self.was_full = true;
                    "the standby is full"
                }
                None => "nothing",
            },
        };
        format!("{name} ({} ms)", span.as_millis())
    }

    /// Keeps what a failure has left, where `TORTURE_KEEP` names a folder.
    fn keep(&self) {
        let Some(folder) = std::env::var_os("TORTURE_KEEP") else { return };
        for (name, path) in [("state", self.pair.master.state()), ("standby", self.pair.standby.data().to_owned())] {
            let to = std::path::Path::new(&folder).join(name);
            println!("{}", run(std::process::Command::new("cp").arg("-a").args([path, to])).1);
        }
    }

    /// Everything works: then both sides come to hold the same, which is what the writers were told.
    fn rest(&self, writers: &[Writer]) {
        let equal_within = |seconds| {
            let wait = || self.pair.wait_until_equal_within(Duration::from_secs(seconds));
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(wait))
        };
        let held = || self.pair.mirror.metric("filesync_deletes_held");
        if self.was_full && equal_within(30).is_err() && held() > 0.0 {
            // A folder that could not be renamed for want of room may leave something under its old name, of which not every
            // removal was told: that waits for a person.
            println!("{} removals are held and approved", held());
            assert!(self.pair.mirror.ask(&["approve-deletes"]).0);
        }
        if let Err(panic) = equal_within(120) {
            self.keep();
            std::panic::resume_unwind(panic);
        }
        for machine in [&self.pair.master, &self.pair.standby] {
            let mut wanted = Tree::default();
            writers.iter().for_each(|writer| wanted.0.extend(writer.tree.0.clone()));
            let (found, errors) = Tree::read(&machine.path(ACCOUNT, ""));
            let differences = wanted.differences(&found);
            assert!(errors.is_empty() && differences.is_empty(), "{errors:#?} {differences:#?}");
        }
        let metric = |name: &str| self.pair.mirror.metric(name);
        within(Duration::from_secs(60), "nothing is open", || {
            metric("filesync_problems") == 0.0 && metric("filesync_changes_behind") == 0.0
        });
        assert_eq!(metric("filesync_deletes_held"), 0.0);
    }
}

/// Waits for as long as a fault lasts.
fn pass_time(span: Duration) {
    let since = Instant::now();
    eventually("the time has passed", || since.elapsed() >= span);
}

/// Takes all room of a disk for a while.
fn fill(disk: &Mounted, span: Duration) {
    let path = disk.path().join("ballast");
    let file = std::fs::File::create(&path).unwrap();
    let flags = rustix::fs::FallocateFlags::empty();
    let mut bytes = DISK_BYTES;
    while bytes > 4096 {
        let end = file.metadata().unwrap().len();
        if rustix::fs::fallocate(&file, flags, end, bytes).is_err() {
            bytes /= 2;
        }
    }
    pass_time(span);
    std::fs::remove_file(path).unwrap();
}

/// Writes until it is told to stop. What broke off is looked for and, if it has not happened, done again.
async fn write(mut writer: Writer, number: usize, place: Place, stop: Arc<AtomicBool>) -> (Writer, usize) {
    let (mut steps, mut client) = (0, None);
    let mut next = writer.tree.0.is_empty().then(|| writer.first_step());
    loop {
        let Some(step) = next.take().or_else(|| (!stop.load(Ordering::SeqCst)).then(|| draw(&mut writer))) else {
            return (writer, steps);
        };
        let connected = match client.take() {
            Some(connected) => connected,
            None => place.connect().await,
        };
        match Writer::send(&connected, &step, || {}).await {
            Ok(()) => {
                writer.tree.apply(&step);
                client = Some(connected);
                steps += 1;
            }
            Err(error) if error.is_lost() => {
                client = Some(place.connect().await);
                if !place.has_happened(&mut writer, number, &step) {
                    next = Some(step);
                }
            }
            Err(error) => panic!("{step:?}: {error}"),
        }
    }
}

fn draw(writer: &mut Writer) -> Step {
    loop {
        if let Some(step) = writer.next_step() {
            return step;
        }
    }
}

/// Where a writer writes.
#[derive(Clone)]
struct Place {
    account: Account,
    address: std::net::SocketAddr,
    home: std::path::PathBuf,
}

impl Place {
    async fn connect(&self) -> pair::client::Client {
        let since = Instant::now();
        loop {
            match self.account.try_to_connect(self.address).await {
                Ok(client) => return client,
                Err(error) => assert!(since.elapsed() < Duration::from_secs(60), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether a step that was not answered has happened. The master was killed, so it is decided.
    fn has_happened(&self, writer: &mut Writer, number: usize, step: &Step) -> bool {
        let prefix = folder_of(number);
        let own = self.home.join(&prefix);
        // Only its own folder: in the others somebody may be at work.
        let (inside, errors) = Tree::read(&own);
        let mut found = Tree(inside.0.into_iter().map(|(path, thing)| (format!("{prefix}/{path}"), thing)).collect());
        if own.is_dir() {
            found.0.insert(prefix, Thing::Folder);
        }
        let mut after = writer.tree.clone();
        after.apply(step);
        let (before, after_differs) = (writer.tree.differences(&found), after.differences(&found));
        assert!(errors.is_empty(), "{errors:?}");
        if after_differs.is_empty() {
            writer.tree = after;
            return true;
        }
        assert!(before.is_empty(), "{step:?}: neither before {before:#?} nor after {after_differs:#?}");
        false
    }
}

#[test]
fn nothing_acknowledged_is_lost_whatever_breaks() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = setting("TORTURE_SEED").unwrap_or(now);
    let time = setting("TORTURE_MINUTES").map_or(TIME, |minutes| Duration::from_secs(60 * minutes));
    println!("seed {seed}");
    let mut chance = Chance::new(seed);
    let mut scene = Scene::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let place = Place {
        account: scene.account.clone(),
        address: scene.pair.master.address(),
        home: scene.pair.master.path(ACCOUNT, ""),
    };
    let large = 1 << 20..20 << 20;
    let new = |number: usize| {
        let writer = Writer::new(number as u32, chance.fork(number as u64 + 1), number < WRITERS_OF_LARGE);
        writer.with_large(large.clone())
    };
    let mut writers: Vec<Writer> = (0..WRITERS).map(new).collect();
    let (since, mut rounds, mut steps) = (Instant::now(), 0, 0);
    while since.elapsed() < time {
        let stop = Arc::new(AtomicBool::new(false));
        let writing = |(number, writer)| runtime.spawn(write(writer, number, place.clone(), stop.clone()));
        let writing: Vec<_> = writers.drain(..).enumerate().map(writing).collect();
        for _ in 0..FAULTS {
            pass_time(Duration::from_millis(200 + chance.below(1500) as u64));
            println!("{} s: {}", since.elapsed().as_secs(), scene.strike(&mut chance));
        }
        stop.store(true, Ordering::SeqCst);
        for writer in writing {
            let (writer, done) = runtime.block_on(writer).unwrap();
            writers.push(writer);
            steps += done;
        }
        scene.rest(&writers);
        rounds += 1;
        let missed = scene.pair.mirror.metric("filesync_missed_events_total");
        println!(
            "{} s: at rest after {steps} steps, {missed} of which the feed had not told",
            since.elapsed().as_secs()
        );
    }
    println!("{rounds} rounds, {steps} steps");
}
