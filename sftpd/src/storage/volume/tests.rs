//! The volume as its users see it: opening, uploads, groups, restarts.

use std::path::PathBuf;

use super::*;
use crate::storage::Closing;

/// A volume in folders of its own.
pub(crate) struct Fixture {
    folder: tempfile::TempDir,
    pub(crate) node: Node,
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        // In memory where that is possible: thousands of volumes are opened and flushed.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        for name in ["data", "state"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        Fixture { folder, node: Node::new(Role::Master).unwrap() }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn open_by(&mut self, disk: Disk) -> Arc<Volume> {
        let (data, state) = (self.data(), self.state());
        let location = Location { data: &data, state: &state, pair_id: "pair" };
        Volume::open_by(&location, &mut self.node, Durability::Fsync, disk).unwrap()
    }

    /// Opens it on a disk that may fail.
    pub(crate) fn try_to_open(&mut self, disk: Disk) {
        let (data, state) = (self.data(), self.state());
        let location = Location { data: &data, state: &state, pair_id: "pair" };
        let _ = Volume::open_by(&location, &mut self.node, Durability::Fsync, disk);
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
    Opening { account: account.into(), connection, place, mode: 0o644, truncate: true, exclusive: false }
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
    assert!(volume.discard_unfinished("alice", 2, &opening(&volume, "alice", 2, "report").place));
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
