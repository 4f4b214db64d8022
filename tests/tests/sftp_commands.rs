//! What OpenSSH's sftp can be told to do, in the spirit of OpenSSH's own regression tests: every command, patterns, batches,
//! all sizes of requests, and resuming at every awkward place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tests::matrix::content;
use tests::{Machine, Sftp, USER, run};

struct Scene {
    machine: Machine,
    local: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        let scene = Scene { machine: Machine::master().start(), local: tempfile::tempdir().unwrap() };
        std::fs::create_dir_all(scene.remote("")).unwrap();
        scene
    }

    fn remote(&self, name: &str) -> PathBuf {
        self.machine.path(USER.0, name)
    }

    fn local(&self, name: &str) -> PathBuf {
        self.local.path().join(name)
    }

    /// Runs commands in the local folder.
    #[track_caller]
    fn sftp(&self, batch: &str) -> String {
        self.machine.sftp(USER).run(&format!("lcd {}\n{batch}", self.local.path().display())).expect_ok()
    }

    #[track_caller]
    fn refused(&self, batch: &str) -> String {
        let outcome = self.machine.sftp(USER).run(batch);
        assert!(!outcome.ok, "{}", outcome.text);
        outcome.text
    }
}

fn same(one: &Path, other: &Path) -> bool {
    std::fs::read(one).unwrap() == std::fs::read(other).unwrap()
}

#[test]
fn every_size_of_requests_and_every_number_of_them_at_once() {
    let scene = Scene::new();
    let login = Sftp::new(scene.machine.address(), USER);
    let (up, down, batch) = (scene.local("up"), scene.local("down"), scene.local("batch"));
    std::fs::write(&batch, format!("put {0} x\nget x {1}\nget x {1}\n", up.display(), down.display())).unwrap();
    for (buffer_bytes, file_bytes) in
        [(5, 3_001), (1000, 300_001), (32_768, 2_000_003), (64_000, 2_000_003), (261_120, 3_000_001)]
    {
        std::fs::write(&up, content(buffer_bytes, file_bytes)).unwrap();
        for requests in [1, 2, 10, 64] {
            let mut command = login.command("sftp");
            command
                .args(["-B", &buffer_bytes.to_string(), "-R", &requests.to_string(), "-b"])
                .arg(&batch)
                .arg(login.target());
            let (status, text) = run(&mut command);
            assert!(status.success(), "{buffer_bytes} bytes, {requests} requests: {text}");
            assert!(same(&up, &down) && same(&up, &scene.remote("x")), "{buffer_bytes} bytes, {requests} requests");
        }
    }
}

#[test]
fn downloads_and_uploads_go_on_at_every_awkward_place() {
    let scene = Scene::new();
    let whole = content(7, 3_000_001);
    std::fs::write(scene.local("whole"), &whole).unwrap();
    for start in [0, 1, 1024, 1024 * 1024, whole.len() - 1, whole.len()] {
        std::fs::write(scene.remote("there"), &whole).unwrap();
        std::fs::write(scene.local("part"), &whole[..start]).unwrap();
        scene.sftp("reget there part\n");
        assert!(same(&scene.local("part"), &scene.local("whole")), "reget at {start}");
        std::fs::write(scene.remote("part"), &whole[..start]).unwrap();
        // What is all there already the client does not touch, and calls that an error.
        scene.sftp(if start < whole.len() { "reput whole part\n" } else { "-reput whole part\n" });
        assert!(same(&scene.remote("part"), &scene.local("whole")), "reput at {start}");
    }
    std::fs::write(scene.remote("part"), [&whole[..], b"more"].concat()).unwrap();
    scene.refused(&format!("reput {} part\n", scene.local("whole").display()));
    assert_eq!(std::fs::metadata(scene.remote("part")).unwrap().len(), whole.len() as u64 + 4, "what is longer stays");
}

#[test]
fn every_command_does_what_it_says() {
    let scene = Scene::new();
    std::fs::write(scene.local("a"), "content").unwrap();
    let text = scene.sftp("pwd\nmkdir d\ncd d\npwd\nput a\nls\nls -la\ndf\ndf -h\n");
    assert!(
        text.contains("Remote working directory: /\n") && text.contains("Remote working directory: /d\n"),
        "{text}"
    );
    assert!(text.contains("%Capacity") || text.contains("%"), "{text}");
    scene.sftp("chmod 600 d/a\nln -s a d/link\nln d/a d/hard\nrename d/a d/b\ncp d/b copy\n");
    assert_eq!(std::fs::metadata(scene.remote("d/b")).unwrap().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_link(scene.remote("d/link")).unwrap(), Path::new("a"));
    assert_eq!(std::fs::metadata(scene.remote("d/hard")).unwrap().nlink(), 2);
    assert!(same(&scene.remote("copy"), &scene.local("a")));
    let listing = scene.sftp("ls -l d\n");
    let line = listing.lines().find(|line| line.ends_with("hard")).unwrap();
    assert!(line.starts_with("-rw-------") && line.contains("EPuser"), "{listing}");
    scene.sftp("get d/b back\nrm d/b\nrm d/link\nrm d/hard\nrmdir d\nrm copy\n");
    assert!(same(&scene.local("back"), &scene.local("a")));
    assert_eq!(std::fs::read_dir(scene.remote("")).unwrap().count(), 0);
    scene.sftp("-mkdir d\nput -p a d/a\nget -p d/a kept\n");
    let time = |path: PathBuf| std::fs::metadata(path).unwrap().mtime();
    assert_eq!(time(scene.remote("d/a")), time(scene.local("a")));
    assert_eq!(time(scene.local("kept")), time(scene.local("a")));
    for refused in
        ["cd missing\n", "get missing\n", "rmdir missing\n", "rm d\n", "rmdir d\n", "mkdir d\n", "rename d/a d\n"]
    {
        scene.refused(refused);
    }
}

#[test]
fn patterns_and_quotes_find_what_they_name() {
    let scene = Scene::new();
    for name in ["g-file", "g-wild*card", "g-q\"uote", "g-sp ace", "g-sl\\ash", "g-[x]", "other"] {
        std::fs::write(scene.remote(name), name).unwrap();
    }
    let got = |pattern: &str| {
        let folder = tempfile::tempdir().unwrap();
        let batch = format!("lcd {}\nget {pattern}\n", folder.path().display());
        let outcome = scene.machine.sftp(USER).run(&batch);
        let mut names: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(outcome.ok, !names.is_empty(), "{}", outcome.text);
        names.join(" ")
    };
    assert_eq!(got("g-*"), "g-[x] g-file g-q\"uote g-sl\\ash g-sp ace g-wild*card");
    assert_eq!(got("g-wild\\*card"), "g-wild*card");
    assert_eq!(got("\"g-sp ace\""), "g-sp ace");
    assert_eq!(got("g-sp\\ ace"), "g-sp ace");
    assert_eq!(got("g-q\\\"uote"), "g-q\"uote");
    assert_eq!(got("g-[a-f]ile"), "g-file");
    assert_eq!(got("?ther"), "other");
    assert_eq!(got("nothing*"), "");
    scene.sftp("rm g-*\n");
    assert_eq!(std::fs::read_dir(scene.remote("")).unwrap().count(), 1);
}

#[test]
fn a_batch_ends_at_its_first_failure_unless_that_is_allowed() {
    let scene = Scene::new();
    std::fs::write(scene.local("a"), "content").unwrap();
    let put = format!("put {} ", scene.local("a").display());
    assert!(!scene.machine.sftp(USER).run(&format!("{put} one\nrm missing\n{put} two\n")).ok);
    assert!(scene.remote("one").exists() && !scene.remote("two").exists());
    scene.machine.sftp(USER).run(&format!("-rm missing\n{put} three\n")).expect_ok();
    assert!(scene.remote("three").exists());
}

#[test]
fn a_read_only_account_changes_nothing_whatever_it_is_told() {
    let users = format!("{}    read_only: true\n", tests::SEED);
    let machine = Machine::master().users(&users).start();
    let home = |name: &str| machine.path(USER.0, name);
    std::fs::create_dir_all(home("d")).unwrap();
    std::fs::write(home("a"), "content").unwrap();
    let before = tests::Snapshot::of(&home(""));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("up");
    std::fs::write(&file, "new").unwrap();
    let up = file.display();
    let commands = [
        format!("put {up} new"),
        format!("put {up} a"),
        format!("reput {up} a"),
        "chmod 600 a".into(),
        "rm a".into(),
        "mkdir e".into(),
        "rmdir d".into(),
        "rename a b".into(),
        "rename -l a b".into(),
        "ln a b".into(),
        "ln -s a b".into(),
        "cp a b".into(),
    ];
    for command in commands {
        let outcome = machine.sftp(USER).run(&format!("{command}\n"));
        assert!(!outcome.ok, "{command}: {}", outcome.text);
    }
    assert_eq!(before.differences(&tests::Snapshot::of(&home(""))), Vec::<String>::new());
    machine.sftp(USER).run(&format!("get a {up}\nls -l\ndf\n")).expect_ok();
}
