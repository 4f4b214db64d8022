//! What was acknowledged is there after a power cut: on a real ext4, on a disk that loses what was not flushed.
//!
//! `POWER_STATES=n` or `POWER_MINUTES=m` examine more states, `POWER_SEED=s` repeats a run's choices (the load's timing
//! is never the same). The long form goes with `cargo test -p tests --test power_loss what_was -- --nocapture`: nextest
//! ends what takes minutes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tests::load::{Account, Chance};
use tests::power::{
    Cut, Event, LoggedDisk, Mounted, Story, Workplace, cuts, examine, examine_disk, format, missing, run_load,
};
use tests::{Machine, new_secret};

const DISK_BYTES: u64 = 192 << 20;
const LOAD: Duration = Duration::from_secs(4);
/// States that are examined of one load, at most: the next load brings other situations.
const STATES_PER_LOAD: usize = 40;
const STATES: usize = 20;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

fn seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = setting("POWER_SEED").unwrap_or(now);
    println!("POWER_SEED={seed}");
    seed
}

fn is_possible() -> bool {
    let missing = missing();
    if let Some(reason) = &missing {
        println!("SKIPPED: {reason}");
    }
    missing.is_none()
}

/// A load on a machine whose folders are on a logged disk.
struct Recording {
    disk: Arc<LoggedDisk>,
    story: Story,
    account: Account,
    secret: String,
    /// From here on everything may be cut.
    begin: usize,
    workplace: Workplace,
}

impl Recording {
    async fn make(durability: &str, chance: &Chance) -> Recording {
        let (workplace, account, secret) = (Workplace::new().unwrap(), Account::with_new_key(), new_secret());
        let disk = LoggedDisk::serve(format(DISK_BYTES, &workplace), &workplace.folder("disk")).unwrap();
        let disk = Arc::new(disk);
        let mounted = Mounted::mount(&disk.path(), workplace.folder("mounted")).unwrap();
        let (data, state) = (mounted.folder("data"), mounted.folder("state"));
        mounted.flush();
        let machine = Machine::master().secret(&secret).users(&account.users()).data(&data);
        let machine = machine.setting("STATE", &state.display().to_string()).setting("DURABILITY", durability);
        let mut machine = machine.start();
        if durability == "none" {
            // What the start made is not what is to be lost.
            mounted.flush();
        }
        let begin = disk.position();
        let story = run_load(&disk, machine.address(), &account, LOAD, chance).await;
        machine.kill();
        drop((machine, mounted));
        Recording { disk, story, account, secret, begin, workplace }
    }

    fn cuts(&self, count: usize, chance: &mut Chance) -> Vec<Cut> {
        let acknowledged = self.story.acknowledged();
        let end = acknowledged.iter().max().copied().unwrap_or(self.begin);
        println!("{} steps, {} events of the disk", acknowledged.len(), end - self.begin);
        cuts(&self.disk, self.begin..end, &acknowledged, count, chance)
    }

    async fn examine(&self, cut: &Cut) -> Vec<String> {
        let machine = Machine::master().secret(&self.secret).users(&self.account.users());
        examine(cut, &self.disk, &self.workplace, &self.story, &self.account, machine).await
    }
}

/// What the other tests rest on: the loop device asks for a flush whenever the file system above wants one.
#[test]
fn the_disk_hears_of_every_flush() {
    if !is_possible() {
        return;
    }
    let workplace = Workplace::new().unwrap();
    let disk = LoggedDisk::serve(format(DISK_BYTES, &workplace), &workplace.folder("disk")).unwrap();
    let mounted = Mounted::mount(&disk.path(), workplace.folder("mounted")).unwrap();
    mounted.flush();

    let content = [0x5a; 4096];
    let file = std::fs::File::create(mounted.path().join("file")).unwrap();
    (&file).write_all(&content).unwrap();
    let before = disk.position();
    file.sync_all().unwrap();
    let log = disk.log().split_off(before);
    let place = |wanted: fn(&Event) -> bool| log.iter().position(wanted);
    let written = place(|event| matches!(event, Event::Write { bytes, .. } if bytes.starts_with(&[0x5a; 4096])));
    let flushes = log.iter().filter(|event| matches!(event, Event::Flush)).count();
    assert!(written.is_some(), "the content came with the fsync");
    // One before the commit record of ext4's journal, one behind it: it is written with FUA, which a loop device lacks.
    assert!(flushes >= 2, "{flushes} flushes");
    assert!(matches!(log.last(), Some(Event::Flush)), "nothing that was flushed for is behind the last flush");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_power_cut() {
    if !is_possible() {
        return;
    }
    let mut chance = Chance::new(seed());
    let until = setting("POWER_MINUTES").map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let states = setting("POWER_STATES").map_or(STATES, |states| states as usize);
    let mut examined = 0;
    while until.map_or(examined < states, |until| Instant::now() < until) {
        let recording = Recording::make("fsync", &chance.fork(examined as u64)).await;
        let count = if until.is_some() { STATES_PER_LOAD } else { STATES_PER_LOAD.min(states - examined) };
        for cut in recording.cuts(count, &mut chance) {
            let wrong = recording.examine(&cut).await;
            assert!(wrong.is_empty(), "after {examined} good states, {cut:?}:\n{}", wrong.join("\n"));
            examined += 1;
        }
        println!("{examined} states examined");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_harness_sees_what_is_lost_without_flushes() {
    if !is_possible() {
        return;
    }
    let mut chance = Chance::new(seed());
    let recording = Recording::make("none", &chance).await;
    let cuts = recording.cuts(STATES, &mut chance);
    let lost = |cut: &Cut| examine_disk(cut, &recording.disk, &recording.workplace, &recording.story);
    let found = cuts.iter().map(lost).find(|wrong| !wrong.is_empty());
    println!("{}", found.expect("without flushes something is lost").join("\n"));
}
