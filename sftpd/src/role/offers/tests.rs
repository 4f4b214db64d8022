//! What a standby offers and the master takes, or not.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use pair::node::Role;
use pair::record::VolumePath;

use super::*;
use crate::role::tests::{Machine, two, until};
use crate::storage::{Change, State};

/// An old master with a tail of its own, which is a standby when its files are offered.
struct Story {
    old: Machine,
    new: Machine,
    after: u64,
}

impl Story {
    async fn begin() -> Story {
        let (old, new) = two().await;
        for machine in [&old, &new] {
            machine.write(b"alice/base", b"of before");
            machine.write(b"alice/second", b"of before");
        }
        let after = old.last().await;
        Story { old, new, after }
    }

    /// The old master comes back and sets aside.
    async fn come_back(&mut self) {
        self.old.comes_back_to(&self.new, Some(self.after)).await.unwrap();
        self.old.restart_as(Role::Standby).await;
    }

    async fn take(&self) -> Result<u64, String> {
        take(&self.new.daemon(), &self.old.peer().await).await
    }

    /// The reason for which something was not taken.
    fn kept(&self, path: &[u8]) -> String {
        match self.old.state_of(path) {
            State::Kept(reason) => reason,
            state => panic!("{state:?}"),
        }
    }

    fn want(&self, path: &[u8], asked: &[u8], replace: bool) {
        let (entry, _) = self.old.aside().into_iter().find(|(entry, _)| entry.path.0 == path).unwrap();
        let wanted = Wanted { path: VolumePath(asked.to_vec()), replace };
        self.old.daemon().volume.aside().unwrap().want(&entry.epoch, entry.number, &wanted).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_untouched_is_restored_and_told_to_all_standbys() {
    let mut story = Story::begin().await;
    story.old.put(b"alice/new", b"only there").await;
    story.old.put(b"alice/base", b"newer there").await;
    story.old.mkdir(b"alice/folder").await;
    story.old.put(b"alice/folder/name\xff", b"in it").await;
    story.old.symlink(b"alice/link", b"new").await;
    let times = NewAttributes { mode: Some(0o640), times: Some((5, 6)), ..NewAttributes::default() };
    let set = |root: &crate::storage::Root| {
        Change::SetAttributes(Arc::new(root.handle_for_attributes(b"alice/new", false).unwrap()), times)
    };
    story.old.change(set).await;
    story.come_back().await;
    let before = story.new.last().await;
    assert_eq!(story.old.daemon().volume.offers(), 5);
    assert_eq!(story.take().await.unwrap(), 5);
    let new = &story.new;
    assert_eq!(new.content(b"alice/new").unwrap(), b"only there");
    assert_eq!(new.content(b"alice/base").unwrap(), b"newer there");
    assert_eq!(new.content(b"alice/folder/name\xff").unwrap(), b"in it");
    assert_eq!(std::fs::read_link(new.at(b"alice/link")).unwrap().as_os_str(), "new");
    let found = std::fs::metadata(new.at(b"alice/new")).unwrap();
    assert_eq!((found.permissions().mode() & 0o7777, found.mtime()), (0o640, 6));
    assert_eq!(std::fs::metadata(new.at(b"alice/folder")).unwrap().permissions().mode() & 0o7777, 0o750);
    new.last().await;
    let told = new.daemon().volume.records_after(before, 100).unwrap();
    let mut told: Vec<_> =
        told.iter().map(|told| format!("{} {} {}", told.op.name(), told.path, told.account)).collect();
    told.sort();
    let expected = [
        "mkdir alice/folder alice",
        "put alice/base alice",
        "put alice/folder/name%FF alice",
        "put alice/new alice",
        "setattr alice/folder sftpd",
        "symlink alice/link alice",
    ];
    assert_eq!(told, expected);
    assert!(story.old.aside().iter().all(|(_, state)| *state == State::Restored));
    assert_eq!(story.take().await.unwrap(), 0);
    // As after a crash of the master between the two: it is here, and nobody was told.
    let marks = || {
        let names = std::fs::read_dir(story.old.at(b".pair/divergent")).unwrap();
        let names = names.flat_map(|epoch| std::fs::read_dir(epoch.unwrap().path()).unwrap());
        names.map(|name| name.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "restored"))
    };
    marks().for_each(|mark| std::fs::remove_file(mark).unwrap());
    let before = story.new.last().await;
    assert_eq!(story.take().await.unwrap(), 5);
    assert_eq!((marks().count(), story.new.last().await), (5, before), "it is only told, and not done again");
    until("nothing is offered any more", || story.old.daemon().volume.offers() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_touched_or_has_no_folder_is_kept_with_the_reason() {
    let mut story = Story::begin().await;
    for path in
        [&b"alice/base"[..], b"alice/second", b"alice/missing/x", b"alice/moved/x", b"alice/kind", b"alice/both"]
    {
        story.old.write(path, b"");
        story.old.put(path, path).await;
    }
    story.new.write(b"alice/moved/y", b"");
    story.new.write(b"alice/kind/x", b"");
    story.come_back().await;
    story.new.put(b"alice/base", b"newer here").await;
    story.new.remove(b"alice/second").await;
    story.new.rename(b"alice/moved", b"alice/moved away").await;
    story.new.mkdir(b"alice/moved").await;
    story.new.put(b"alice/both", b"alice/both").await;
    assert_eq!(story.take().await.unwrap(), 1, "only what is the same already");
    assert_eq!(story.old.state_of(b"alice/both"), State::Restored);
    assert!(story.kept(b"alice/base").contains("it was changed here since"));
    assert!(story.kept(b"alice/second").contains("it was changed here since"));
    assert_eq!(story.kept(b"alice/missing/x"), "the folder alice/missing is not there");
    assert!(
        story.kept(b"alice/moved/x").contains("it was changed") || story.kept(b"alice/moved/x").contains("was moved")
    );
    assert_eq!(story.kept(b"alice/kind"), "a folder has that name");
    assert_eq!(story.new.content(b"alice/base").unwrap(), b"newer here");
    assert_eq!(story.old.aside_content(b"alice/base"), b"alice/base", "nothing is lost");
    assert_eq!(story.take().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_replaces_what_is_untouched() {
    let mut story = Story::begin().await;
    story.old.remove(b"alice/base").await;
    story.old.symlink(b"alice/base", b"elsewhere").await;
    story.come_back().await;
    assert_eq!(story.take().await.unwrap(), 1);
    assert_eq!(std::fs::read_link(story.new.at(b"alice/base")).unwrap().as_os_str(), "elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_journal_proves_nothing_nothing_is_taken() {
    let mut story = Story::begin().await;
    story.old.put(b"alice/new", b"x").await;
    story.come_back().await;
    let db = rusqlite::Connection::open(story.new.state().join("sftpd.db")).unwrap();
    db.execute("INSERT OR REPLACE INTO meta VALUES ('dropped', '1')", []).unwrap();
    assert_eq!(story.take().await.unwrap(), 0);
    assert!(story.kept(b"alice/new").contains("no longer has all changes"));
    // An epoch that began later needs no more than what came after that.
    let volume = story.new.daemon().volume.clone();
    volume.begin_epoch(volume.chapter().epoch.next().unwrap()).await.unwrap();
    story.want(b"alice/new", b"alice/asked", false);
    assert_eq!(story.take().await.unwrap(), 1);
    assert_eq!(story.new.content(b"alice/asked").unwrap(), b"x");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_journal_drops_meanwhile_is_noticed() {
    let (_, new) = two().await;
    let volume = new.daemon().volume.clone();
    let mut touched = Touched::begin(&volume).unwrap();
    assert!(touched.reason(b"alice/x", false).is_none());
    new.mkdir(b"alice").await;
    let seen = new.last().await;
    touched.look_again(&volume).unwrap();
    assert!(touched.reason(b"alice/x", false).is_none() && touched.reason(b"alice", false).is_some());
    let db = rusqlite::Connection::open(new.state().join("sftpd.db")).unwrap();
    let drop_up_to = |seq: u64| {
        db.execute("DELETE FROM journal WHERE seq <= ?", [seq]).unwrap();
        db.execute("INSERT OR REPLACE INTO meta VALUES ('dropped', ?)", [seq.to_string()]).unwrap();
    };
    new.put(b"alice/x", b"x").await;
    new.last().await;
    drop_up_to(seen);
    touched.look_again(&volume).unwrap();
    assert!(touched.reason(b"alice/y", false).is_none(), "what was dropped had been seen");
    assert!(touched.reason(b"alice/x", false).is_some() && touched.reason(b"alice", false).is_some());
    new.put(b"alice/y", b"y").await;
    drop_up_to(new.last().await);
    touched.look_again(&volume).unwrap();
    assert!(touched.reason(b"alice/y", false).unwrap().contains("no longer has all"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_may_want_it_elsewhere_or_in_place_of_what_is_there() {
    let mut story = Story::begin().await;
    story.old.put(b"alice/base", b"there").await;
    story.come_back().await;
    story.new.put(b"alice/base", b"here").await;
    assert_eq!(story.take().await.unwrap(), 0);
    for (asked, reason) in [
        (&b"alice/second"[..], "something else has that name"),
        (b"nobody/x", "the folder nobody is not there"),
        (b".pair/marker", ".pair/marker is no path that a client could have"),
        (b"alice", "a folder has that name"),
    ] {
        story.want(b"alice/base", asked, false);
        assert_eq!(story.take().await.unwrap(), 0);
        assert_eq!(story.kept(b"alice/base"), reason);
    }
    story.want(b"alice/base", b"alice/copy", false);
    assert_eq!(story.take().await.unwrap(), 1);
    assert_eq!(story.new.content(b"alice/copy").unwrap(), b"there");
    assert_eq!(story.old.state_of(b"alice/base"), State::Restored);
    story.want(b"alice/base", b"alice/base", true);
    assert_eq!(story.take().await.unwrap(), 1);
    assert_eq!(story.new.content(b"alice/base").unwrap(), b"there");
    assert_eq!(story.take().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_comes_back_whole_and_a_broken_one_does_not() {
    let mut story = Story::begin().await;
    let large: Vec<u8> = (0..70_u32 << 18).flat_map(u32::to_be_bytes).collect();
    story.old.put(b"alice/large", &large).await;
    story.old.put(b"alice/rotten", b"as it was").await;
    story.come_back().await;
    let (entry, _) = story.old.aside().into_iter().find(|(entry, _)| entry.path.0 == b"alice/rotten").unwrap();
    story.old.write(format!(".pair/divergent/{}/{}", entry.epoch, entry.number).as_bytes(), b"as it is.");
    assert_eq!(story.take().await.unwrap(), 1);
    assert!(story.new.content(b"alice/large").unwrap() == large);
    assert!(story.kept(b"alice/rotten").contains("its hash is another"));
    assert!(story.new.daemon().volume.names_in(b".pair/stage").unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_is_told_and_the_next_try_takes_the_rest() {
    let mut story = Story::begin().await;
    story.old.mkdir(b"alice/in").await;
    for number in 0..300 {
        story.old.put(format!("alice/in/{number:03}").as_bytes(), format!("{number}").as_bytes()).await;
    }
    story.come_back().await;
    let (peer, daemon) = (story.old.peer().await, story.new.daemon());
    let some = story.new.at(b"alice/in/020");
    let breaks = async {
        until("something is there", || some.exists()).await;
        story.old.stop().await;
    };
    let (first, ()) = futures::join!(take(&daemon, &peer), breaks);
    let sentence = first.unwrap_err();
    assert!(sentence.contains("the standby"), "{sentence}");
    story.old.restart_as(Role::Standby).await;
    story.take().await.unwrap();
    assert!(story.old.aside().iter().all(|(_, state)| *state == State::Restored));
    for number in 0..300 {
        let path = format!("alice/in/{number:03}");
        assert_eq!(story.new.content(path.as_bytes()).unwrap(), format!("{number}").as_bytes());
    }
    assert!(story.new.daemon().volume.names_in(b".pair/stage").unwrap().is_empty());
    assert!(take(&daemon, &peer).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_on_the_master_itself_is_restored_there() {
    let mut story = Story::begin().await;
    story.old.put(b"alice/base", b"there").await;
    story.come_back().await;
    story.old.restart_as(Role::Master).await;
    let (entry, _) = story.old.aside().remove(0);
    let daemon = story.old.daemon();
    let wanted = |path: &[u8], replace| Wanted { path: VolumePath(path.to_vec()), replace };
    let restored = restore_here(&daemon, &entry, &wanted(b"alice/second", false)).await.unwrap();
    assert_eq!(restored, Verdict::Kept("something else has that name".into()));
    assert_eq!(restore_here(&daemon, &entry, &wanted(b"alice/base", false)).await.unwrap(), Verdict::Made);
    assert_eq!(restore_here(&daemon, &entry, &wanted(b"alice/base", false)).await.unwrap(), Verdict::There);
    assert_eq!(story.old.content(b"alice/base").unwrap(), b"there");
}
