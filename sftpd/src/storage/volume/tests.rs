//! The volume as its users see it: opening, uploads, groups, restarts.

use std::path::PathBuf;
use std::time::Duration;

use pair::node::Role;
use rustix::io::Errno;

use super::*;
use crate::storage::{Closing, Writer};

/// A volume in folders of its own.
pub(crate) struct Fixture {
    folder: tempfile::TempDir,
    pub(crate) node: Node,
    pub(crate) durability: Durability,
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        // In memory where that is possible: thousands of volumes are opened and flushed.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        for name in ["data", "state"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        Fixture { folder, node: Node::new(Role::Master).unwrap(), durability: Durability::Fsync }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(in crate::storage) fn open_by(&mut self, disk: Disk) -> Arc<Volume> {
        let (data, state) = (self.data(), self.state());
        let location = Location { data: &data, state: &state, pair_id: "pair" };
        Volume::open_by(&location, &mut self.node, self.durability, disk).unwrap()
    }

    /// Opens it on a disk that may fail.
    pub(in crate::storage) fn try_to_open(&mut self, disk: Disk) {
        let (data, state) = (self.data(), self.state());
        let location = Location { data: &data, state: &state, pair_id: "pair" };
        let _ = Volume::open_by(&location, &mut self.node, self.durability, disk);
    }

    pub(crate) fn open(&mut self) -> Arc<Volume> {
        self.open_by(Disk::default())
    }
}

fn open(data: &Path, state: &Path, pair_id: &str, node: &mut Node) -> std::result::Result<Arc<Volume>, String> {
    Volume::open(&Location { data, state, pair_id }, node, Durability::Fsync).map_err(|error| {
        assert_eq!(pair::exit::code(&error), 2, "{error:#}");
        error.to_string()
    })
}

pub(crate) fn opening(volume: &Volume, account: &str, connection: u64, name: &str) -> Opening {
    let place = volume.root(account).unwrap().place(name.as_bytes()).unwrap();
    Opening { account: account.into(), connection, place, mode: 0o644, truncate: true, exclusive: false, quota: None }
}

/// OPEN as the requests do it.
pub(crate) fn begin(volume: &Volume, opening: &Opening) -> Writer {
    match volume.resume_upload(opening).unwrap() {
        Some(writer) => writer,
        None => volume.begin_upload(opening, None).unwrap(),
    }
}

pub(crate) async fn close(volume: &Volume, writer: Writer) -> Result<()> {
    match writer.close()? {
        Closing::Publish(publication) => volume.commit(Change::Publish(publication), Some("alice".into())).await,
        Closing::Behind(mut answered) => answered.wait_for(Option::is_some).await.unwrap().clone().unwrap(),
        Closing::Nothing => Ok(()),
    }
}

pub(crate) async fn put(volume: &Volume, name: &str, content: &[u8]) -> Result<()> {
    let writer = begin(volume, &opening(volume, "alice", 1, name));
    writer.write(Some(0), content).unwrap();
    close(volume, writer).await
}

#[test]
fn a_second_daemon_on_the_volume_is_refused() {
    let mut fixture = Fixture::new();
    let first = fixture.open();
    let (data, state) = (fixture.data(), fixture.state());
    assert!(open(&data, &state, "pair", &mut fixture.node).unwrap_err().contains("another sftpd is running"));
    drop(first);
    open(&data, &state, "pair", &mut fixture.node).unwrap();
}

#[test]
fn a_missing_foreign_or_swapped_volume_is_refused() {
    let (data, other, state) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut node = Node::new(Role::Master).unwrap();
    let open = |data: &Path, pair_id: &str, node: &mut Node| open(data, state.path(), pair_id, node);
    assert!(open(&data.path().join("none"), "pair", &mut node).unwrap_err().contains("is the volume mounted"));
    drop(open(data.path(), "pair", &mut node).unwrap());
    assert!(node.volume.is_some());
    assert!(open(data.path(), "other", &mut node.clone()).unwrap_err().contains("belongs to pair pair"));
    assert!(open(other.path(), "pair", &mut node.clone()).unwrap_err().contains("is the disk mounted"));
    drop(open(other.path(), "pair", &mut Node::new(Role::Master).unwrap()).unwrap());
    assert!(open(other.path(), "pair", &mut node).unwrap_err().contains("mount the right one"));
}

#[test]
fn stages_that_nobody_remembers_go_at_the_next_start_and_the_peers_stay() {
    let mut fixture = Fixture::new();
    drop(fixture.open());
    let stage = fixture.data().join(".pair/stage");
    std::fs::write(stage.join("upload-7"), "half").unwrap();
    std::fs::write(stage.join("of-the-peer"), "half").unwrap();
    let _volume = fixture.open();
    assert!(!stage.join("upload-7").exists() && stage.join("of-the-peer").exists());
}

#[tokio::test]
async fn an_upload_is_seen_whole_or_not_at_all() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    put(&volume, "report", b"first").await.unwrap();
    let file = fixture.data().join("alice/report");
    let writer = begin(&volume, &opening(&volume, "alice", 1, "report"));
    writer.write(Some(0), b"second, half").unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"first");
    drop(writer);
    assert_eq!(std::fs::read(&file).unwrap(), b"first");
    assert!(volume.discard_unfinished("alice", 2, &opening(&volume, "alice", 2, "report").place).unwrap());
    assert_eq!(std::fs::read(&file).unwrap(), b"first");
    assert_eq!(std::fs::read_dir(fixture.data().join(".pair/stage")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_group_of_many_changes_is_applied_in_order_and_answered_one_by_one() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let root = volume.root("alice").unwrap();
    let make = |name: &str| {
        volume.commit(Change::MakeFolder(root.place(name.as_bytes()).unwrap(), 0o755), Some("alice".into()))
    };
    let answers: Vec<_> = (0..100).map(|number| make(&format!("folder-{number}"))).collect();
    let again = make("folder-7");
    for answer in answers {
        answer.await.unwrap();
    }
    assert!(again.await.is_err());
    assert_eq!(std::fs::read_dir(fixture.data().join("alice")).unwrap().count(), 100);
}

#[tokio::test]
async fn an_exclusive_upload_does_not_replace_what_came_meanwhile() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let exclusive = Opening { exclusive: true, ..opening(&volume, "alice", 1, "report") };
    let writer = begin(&volume, &exclusive);
    volume.commit_own(Change::Publish(volume.stage_file(b"first", exclusive.place).unwrap())).await.unwrap();
    assert!(close(&volume, writer).await.is_err());
    assert_eq!(std::fs::read(fixture.data().join("alice/report")).unwrap(), b"first");
}

/// Everything that a publication goes through, with what may be done to each of them.
const STEPS: [&str; 4] = ["create", "write", "journal", "rename"];

fn content(fixture: &Fixture, name: &str) -> Option<Vec<u8>> {
    std::fs::read(fixture.data().join("alice").join(name)).ok()
}

/// As the requests do it: an upload whose write fails is closed all the same.
async fn try_to_put(volume: &Volume, name: &str, content: &[u8]) -> Result<()> {
    let opening = opening(volume, "alice", 1, name);
    let writer = match volume.resume_upload(&opening)? {
        Some(writer) => writer,
        None => volume.begin_upload(&opening, None)?,
    };
    let _ = writer.write(Some(0), content);
    close(volume, writer).await
}

#[tokio::test]
async fn a_disk_that_is_full_broken_or_read_only_at_any_step_fails_that_upload_and_nothing_else() {
    for error in [rustix::io::Errno::NOSPC, rustix::io::Errno::IO, rustix::io::Errno::ROFS] {
        // A journal that cannot be written for another reason than room is the end: see below.
        for step in STEPS.iter().filter(|step| **step != "journal" || error == rustix::io::Errno::NOSPC) {
            let mut fixture = Fixture::new();
            let disk = Disk::default();
            let volume = fixture.open_by(disk.clone());
            put(&volume, "report", b"first").await.unwrap();
            disk.faults.fail(step, u64::MAX, error);
            assert!(try_to_put(&volume, "report", b"second").await.is_err(), "{step} {error}");
            disk.faults.heal();
            assert_eq!(content(&fixture, "report").unwrap(), b"first", "{step} {error}");
            assert_eq!(volume.failure(), None, "{step} {error}");
            try_to_put(&volume, "report", b"third").await.unwrap();
            assert_eq!(content(&fixture, "report").unwrap(), b"third", "{step} {error}");
        }
    }
}

#[tokio::test]
async fn while_outcomes_cannot_be_written_nothing_new_is_taken_and_none_is_lost() {
    let mut fixture = Fixture::new();
    let disk = Disk::default();
    let volume = fixture.open_by(disk.clone());
    put(&volume, "first", b"1").await.unwrap();
    volume.settle().await.unwrap();
    disk.faults.fail("outcome", u64::MAX, rustix::io::Errno::NOSPC);
    put(&volume, "report", b"2").await.unwrap();
    assert!(try_to_put(&volume, "other", b"3").await.is_err());
    disk.faults.heal();
    try_to_put(&volume, "other", b"4").await.unwrap();
    let mut decided = volume.decided();
    let told = || volume.records_after(0, 100).unwrap().len();
    tokio::time::timeout(Duration::from_secs(30), decided.wait_for(|_| told() == 4)).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_upload_whose_flush_finds_no_room_fails_alone() {
    let mut fixture = Fixture::new();
    let disk = Disk::default();
    let volume = fixture.open_by(disk.clone());
    put(&volume, "report", b"first").await.unwrap();
    disk.faults.fail("fsync", 1, rustix::io::Errno::NOSPC);
    assert!(try_to_put(&volume, "report", b"second").await.is_err());
    assert_eq!((content(&fixture, "report").unwrap(), volume.failure()), (b"first".to_vec(), None));
    try_to_put(&volume, "report", b"third").await.unwrap();
}

#[tokio::test]
async fn a_flush_that_found_no_room_is_not_forgotten_by_the_next_one() {
    let mut fixture = Fixture::new();
    let disk = Disk::default();
    let volume = fixture.open_by(disk.clone());
    put(&volume, "report", b"first").await.unwrap();
    let writer = begin(&volume, &opening(&volume, "alice", 1, "report"));
    writer.write(Some(0), b"second").unwrap();
    disk.faults.fail("fsync", 1, rustix::io::Errno::NOSPC);
    // fsync@openssh.com is told; the system would tell CLOSE that all is well.
    assert!(volume.commit(Change::FlushStage(writer.stage().unwrap()), None).await.is_err());
    assert!(close(&volume, writer).await.is_err());
    assert_eq!((content(&fixture, "report").unwrap(), volume.failure()), (b"first".to_vec(), None));
}

#[tokio::test]
async fn old_records_go_also_when_nobody_follows() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    put(&volume, "report", b"first").await.unwrap();
    put(&volume, "other", b"second").await.unwrap();
    volume.settle().await.unwrap();
    volume.acknowledge("standby", 2).unwrap();
    drop(volume);
    let mut journal = Journal::open(&fixture.state(), true, Disk::default()).unwrap().journal;
    journal.forget_old(1_000_000, 2000).unwrap();
    drop(journal);
    let volume = fixture.open();
    assert_eq!(volume.first_seq().unwrap(), 3);
    assert_eq!(volume.records_after(0, 100).unwrap().first().unwrap().seq, 3);
}

#[tokio::test]
async fn a_failed_flush_makes_the_volume_read_only_and_is_never_tried_again() {
    for step in ["fsync", "journal"] {
        let mut fixture = Fixture::new();
        let disk = Disk::default();
        let volume = fixture.open_by(disk.clone());
        put(&volume, "report", b"first").await.unwrap();
        disk.faults.fail(step, 1, rustix::io::Errno::IO);
        assert!(try_to_put(&volume, "report", b"second").await.is_err());
        for _ in 0..3 {
            let refused = try_to_put(&volume, "other", b"x").await.unwrap_err().to_string();
            assert!(refused.contains("read-only since a flush failed"), "{step}: {refused}");
        }
        let make = Change::MakeFolder(volume.root("alice").unwrap().place(b"folder").unwrap(), 0o755);
        assert!(volume.commit(make, Some("alice".into())).await.is_err());
        assert!(volume.probe().unwrap_err().contains("read-only"));
        assert_eq!(content(&fixture, "report").unwrap(), b"first");
        drop(volume);
        // A person has looked, and started it again: the upload is there to be continued or closed.
        let volume = fixture.open();
        put(&volume, "report", b"third").await.unwrap();
        assert_eq!(content(&fixture, "report").unwrap(), b"third");
    }
}

#[tokio::test]
async fn a_full_journal_still_lets_files_be_removed() {
    let mut fixture = Fixture::new();
    let disk = Disk::default();
    let volume = fixture.open_by(disk.clone());
    put(&volume, "report", b"first").await.unwrap();
    assert!(fixture.state().join("reserve").exists());
    disk.faults.fail("journal", 1, rustix::io::Errno::NOSPC);
    let place = volume.root("alice").unwrap().place(b"report").unwrap();
    volume.commit(Change::Remove(place), Some("alice".into())).await.unwrap();
    assert_eq!(content(&fixture, "report"), None);
    assert!(!fixture.state().join("reserve").exists(), "the room that was held back made it possible");
}

#[tokio::test]
async fn a_volume_that_is_no_longer_shown_takes_nothing() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    put(&volume, "report", b"first").await.unwrap();
    let aside = fixture.state().join("aside");
    std::fs::rename(fixture.data(), &aside).unwrap();
    std::fs::create_dir(fixture.data()).unwrap();
    let refused = try_to_put(&volume, "other", b"x").await.unwrap_err().to_string();
    assert!(refused.contains("no longer shows the data volume"), "{refused}");
    std::fs::remove_dir(fixture.data()).unwrap();
    std::fs::rename(&aside, fixture.data()).unwrap();
    try_to_put(&volume, "other", b"x").await.unwrap();
}

#[tokio::test]
async fn a_removed_folder_fails_the_close_and_keeps_what_arrived() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    std::fs::create_dir_all(fixture.data().join("alice/in")).unwrap();
    let writer = begin(&volume, &opening(&volume, "alice", 1, "in/report"));
    writer.write(Some(0), b"content").unwrap();
    std::fs::remove_dir(fixture.data().join("alice/in")).unwrap();
    assert!(close(&volume, writer).await.is_err());
    assert_eq!(std::fs::read_dir(fixture.data().join(".pair/stage")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_rename_of_what_stood_there_takes_nothing_else() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    put(&volume, "mine", b"first").await.unwrap();
    let root = volume.root("alice").unwrap();
    let place = |name: &str| root.place(name.as_bytes()).unwrap();
    let rename = |from, to| volume.commit(Change::Rename { from, to, replace: false }, Some("alice".into()));
    let mine = place("mine").only_as_it_is().unwrap();
    put(&volume, "mine", b"of another").await.unwrap();
    assert!(rename(mine, place("taken")).await.is_err());
    assert_eq!(content(&fixture, "mine").unwrap(), b"of another");
    rename(place("mine").only_as_it_is().unwrap(), place("taken")).await.unwrap();
    assert_eq!(content(&fixture, "taken").unwrap(), b"of another");
}

#[tokio::test]
async fn what_has_grown_since_it_was_looked_at_is_not_removed() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    put(&volume, "log", b"first").await.unwrap();
    let root = volume.root("alice").unwrap();
    let as_long = |bytes| root.place(b"log").unwrap().only_so_long(bytes).unwrap();
    let remove = |place| volume.commit(Change::Remove(place), Some("alice".into()));
    let looked_at = as_long(5);
    let mut file = std::fs::File::options().append(true).open(fixture.data().join("alice/log")).unwrap();
    std::io::Write::write_all(&mut file, b"second").unwrap();
    assert!(matches!(remove(looked_at).await, Err(StorageError::System(Errno::BUSY))));
    assert_eq!(content(&fixture, "log").unwrap(), b"firstsecond");
    remove(as_long(11)).await.unwrap();
    assert!(content(&fixture, "log").is_none());
}

#[tokio::test]
async fn the_journal_tells_every_change_in_order_with_what_it_concerned() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    put(&volume, "report", b"first").await.unwrap();
    let root = volume.root("alice").unwrap();
    let place = |name: &str| root.place(name.as_bytes()).unwrap();
    let commit = |change| volume.commit(change, Some("alice".into()));
    commit(Change::MakeFolder(place("in"), 0o750)).await.unwrap();
    commit(Change::Rename { from: place("report"), to: place("in/report"), replace: false }).await.unwrap();
    commit(Change::Rename { from: place("in"), to: place("out"), replace: false }).await.unwrap();
    commit(Change::Remove(place("out/report"))).await.unwrap();
    assert!(commit(Change::Remove(place("missing"))).await.is_err());
    commit(Change::RemoveFolder(place("out"))).await.unwrap();
    let last = *volume.decided().wait_for(|seq| *seq >= 7).await.unwrap();
    let told: Vec<_> = volume
        .records_after(0, 100)
        .unwrap()
        .into_iter()
        .map(|record| (record.op.name(), String::from_utf8(record.path.0).unwrap(), record.size, record.account))
        .map(|(op, path, size, account)| format!("{op} {path} {} {account}", size.filter(|_| op == "put").unwrap_or(0)))
        .collect();
    let expected = [
        "mkdir alice 0 sftpd",
        "put alice/report 5 alice",
        "mkdir alice/in 0 alice",
        "rename alice/report 0 alice",
        "rename alice/in 0 alice",
        "remove alice/out/report 0 alice",
        "rmdir alice/out 0 alice",
    ];
    assert_eq!(told, expected);
    let put = &volume.records_after(0, 100).unwrap()[1];
    assert_eq!(put.hash.as_deref(), Some(blake3::hash(b"first").to_hex().as_str()));
    assert!(put.inode.is_some() && put.mtime_ns.is_some() && put.ctime_ns.is_some());
    assert!(volume.records_after(last, 100).unwrap().is_empty());
}

#[tokio::test]
async fn a_file_that_did_not_come_in_order_gets_its_hash_afterwards() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let writer = begin(&volume, &opening(&volume, "alice", 1, "report"));
    writer.write(Some(3), b"def").unwrap();
    writer.write(Some(0), b"abc").unwrap();
    close(&volume, writer).await.unwrap();
    let hash = || volume.records_after(0, 100).unwrap().pop().and_then(|record| record.hash);
    let known = async {
        while hash().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), known).await.unwrap();
    assert_eq!(hash().as_deref(), Some(blake3::hash(b"abcdef").to_hex().as_str()));
}

#[tokio::test]
async fn after_a_stop_that_was_not_clean_the_journal_has_a_gap_and_a_mark() {
    let mut fixture = Fixture::new();
    let disk = Disk::default();
    let volume = fixture.open_by(disk.clone());
    put(&volume, "report", b"first").await.unwrap();
    disk.faults.crash_after(0);
    let _ = disk.step("kill");
    drop(volume);
    let volume = fixture.open();
    let records = volume.records_after(0, 100).unwrap();
    let mark = records.last().unwrap();
    assert_eq!(mark.op, pair::record::Operation::Mark);
    assert!(mark.seq > 1000);
    let epoch = volume.chapter().epoch.clone();
    drop(volume);
    let volume = fixture.open();
    assert_eq!(volume.records_after(mark.seq, 100).unwrap(), Vec::new(), "a clean stop leaves no mark");
    assert_eq!(volume.chapter().epoch, epoch);
    drop(volume);
    std::fs::remove_file(fixture.state().join("sftpd.db")).unwrap();
    let volume = fixture.open();
    assert_eq!(
        (volume.chapter().epoch.counter, volume.chapter().epoch.parent.clone()),
        (epoch.counter + 1, Some(epoch.id))
    );
}

#[tokio::test]
async fn a_journal_that_begins_on_a_volume_with_files_says_that_it_does_not_know_them() {
    let mut fixture = Fixture::new();
    std::fs::create_dir(fixture.data().join("alice")).unwrap();
    let volume = fixture.open();
    assert_eq!(volume.records_after(0, 100).unwrap()[0].op, pair::record::Operation::Mark);
    assert_eq!(Fixture::new().open().records_after(0, 100).unwrap(), Vec::new());
}

#[tokio::test]
async fn what_arrived_behind_a_gap_is_not_shown_to_who_resumes_also_after_a_kill() {
    for is_killed in [false, true] {
        let mut fixture = Fixture::new();
        let disk = Disk::default();
        let volume = fixture.open_by(disk.clone());
        let writer = begin(&volume, &opening(&volume, "alice", 1, "report"));
        writer.write(Some(0), b"abc").unwrap();
        writer.write(Some(100), b"far away").unwrap();
        let seen = |volume: &Volume, connection| {
            let place = opening(volume, "alice", connection, "report").place;
            volume.unfinished_at("alice", connection, &place).unwrap().size
        };
        assert_eq!((seen(&volume, 1), seen(&volume, 2)), (108, 2), "its own connection sees all, another what arrived");
        volume.settle().await.unwrap();
        if is_killed {
            disk.faults.crash_after(0);
            let _ = disk.step("kill");
        }
        drop(writer);
        drop(volume);
        let volume = fixture.open();
        assert_eq!(seen(&volume, 7), 2, "killed: {is_killed}");
    }
}

#[tokio::test]
async fn after_a_power_failure_only_what_was_flushed_is_believed() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    put(&volume, "report", b"old").await.unwrap();
    let writer = begin(&volume, &opening(&volume, "alice", 1, "report"));
    writer.write(Some(0), b"new, never flushed").unwrap();
    volume.settle().await.unwrap();
    drop(writer);
    drop(volume);
    let db = rusqlite::Connection::open(fixture.state().join("sftpd.db")).unwrap();
    db.execute("UPDATE meta SET value = 'another boot' WHERE key = 'boot'", []).unwrap();
    drop(db);
    let volume = fixture.open();
    let place = opening(&volume, "alice", 2, "report").place;
    assert_eq!(volume.unfinished_at("alice", 2, &place).unwrap().size, 0, "not the old file's size");
    assert_eq!(content(&fixture, "report").unwrap(), b"old");
}

#[tokio::test]
async fn after_a_power_failure_a_long_upload_goes_on_from_what_was_flushed_while_it_arrived() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let writer = begin(&volume, &opening(&volume, "alice", 1, "report"));
    let part = vec![7; 1024 * 1024];
    for number in 0..40_u64 {
        writer.write(Some(number << 20), &part).unwrap();
    }
    let durable = || {
        futures::executor::block_on(volume.settle()).unwrap();
        let db = rusqlite::Connection::open(fixture.state().join("sftpd.db")).unwrap();
        db.query_row("SELECT durable_bytes FROM unfinished", [], |row| row.get::<_, u64>(0)).unwrap()
    };
    let flushed = async {
        while durable() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), flushed).await.unwrap();
    assert_eq!(durable(), 32 << 20);
    drop(writer);
    drop(volume);
    let db = rusqlite::Connection::open(fixture.state().join("sftpd.db")).unwrap();
    db.execute("UPDATE meta SET value = 'another boot' WHERE key = 'boot'", []).unwrap();
    drop(db);
    let volume = fixture.open();
    let place = opening(&volume, "alice", 2, "report").place;
    assert_eq!(volume.unfinished_at("alice", 2, &place).unwrap().size, (32 << 20) - 1);
}

#[tokio::test]
async fn a_folder_that_changes_while_it_is_counted_is_counted_again_or_keeps_its_number() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    put(&volume, "x", &[1; 10]).await.unwrap();
    let quota = volume.quota("alice", 100).unwrap();
    std::fs::write(fixture.data().join("alice/other"), [1; 40]).unwrap();
    let attempts = std::cell::Cell::new(0);
    let recount = |changing: usize| {
        attempts.set(0);
        let root = |home: &str| {
            attempts.set(attempts.get() + 1);
            if attempts.get() <= changing {
                volume.usages.moved(b"alice/x", 10, 10, None);
            }
            volume.home_root(home)
        };
        volume.usages.recount(root, &volume.unfinished);
        attempts.get()
    };
    assert_eq!(recount(usize::MAX), 3);
    quota.resize_in_place(0, 90).unwrap();
    quota.resize_in_place(90, 0).unwrap();
    assert_eq!(recount(1), 2);
    let refused = quota.resize_in_place(0, 51).unwrap_err().to_string();
    assert_eq!(refused, "quota exceeded: 50 bytes of 100 bytes used");
}

#[tokio::test]
async fn renaming_one_name_of_a_file_onto_another_changes_nothing_and_tells_nothing() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    put(&volume, "report", b"first").await.unwrap();
    let root = volume.root("alice").unwrap();
    let place = |name: &str| root.place(name.as_bytes()).unwrap();
    let commit = |change| volume.commit(change, Some("alice".into()));
    commit(Change::HardLink { from: place("report"), to: place("second") }).await.unwrap();
    volume.settle().await.unwrap();
    let told = *volume.decided().borrow();
    commit(Change::Rename { from: place("second"), to: place("report"), replace: true }).await.unwrap();
    assert!(content(&fixture, "report").is_some() && content(&fixture, "second").is_some());
    volume.settle().await.unwrap();
    assert_eq!(volume.records_after(told, 100).unwrap(), Vec::new());
}
