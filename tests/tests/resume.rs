//! Resuming as real clients do it: an upload over an older, shorter file breaks off and is continued. No client may join
//! its new tail to the old head, which is what happens on servers that show the old file's size.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use pair::wire::{Attrs, open_flag as flag};
use tests::matrix::content;
use tests::{Cut, LFTP, Machine, Sftp, USER, User, eventually, has_program, master_with, rclone_remote, run};

const OLD_BYTES: usize = 1_000_000;
const NEW_BYTES: usize = 8_000_000;
const CUT_BYTES: u64 = 3_000_000;

/// How an upload breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    /// The network is cut; the daemon goes on.
    Cut,
    /// The daemon is killed and started again.
    Kill,
}

/// A machine with an old file, and a new one to be uploaded under its name.
struct Scene {
    machine: Machine,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new(has_old: bool) -> Scene {
        let (machine, folder) = (Machine::master().start(), tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("x"), content(2, NEW_BYTES)).unwrap();
        if has_old {
            std::fs::write(folder.path().join("old"), content(1, OLD_BYTES)).unwrap();
            let old = folder.path().join("old");
            machine.sftp(USER).run(&format!("put {} x\n", old.display())).expect_ok();
        }
        Scene { machine, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("x")
    }

    /// Runs `upload` against an address at which it breaks off, and looks at what stands there then.
    fn break_off(&mut self, how: Break, upload: impl Fn(&Scene, SocketAddr) -> Command) {
        let before = std::fs::read(self.machine.path(USER.0, "x")).ok();
        let cut = Cut::after(CUT_BYTES, self.machine.address());
        match how {
            Break::Cut => {
                let (status, text) = run(&mut upload(self, cut.address()));
                assert!(cut.has_cut() && !status.success(), "{text}");
            }
            Break::Kill => {
                let mut client = upload(self, cut.address()).spawn().unwrap();
                eventually("enough has arrived", || cut.has_cut());
                self.machine.kill();
                let _ = client.kill();
                client.wait().unwrap();
                self.machine.start();
            }
        }
        assert_eq!(std::fs::read(self.machine.path(USER.0, "x")).ok(), before, "until it is complete nothing changes");
    }

    #[track_caller]
    fn check(&self, (ok, text): (bool, String)) {
        assert!(ok, "{text}");
        let arrived = std::fs::read(self.machine.path(USER.0, "x")).unwrap();
        assert!(arrived == content(2, NEW_BYTES), "{} bytes, not what was sent:\n{text}", arrived.len());
        let stages = std::fs::read_dir(self.machine.data().join(".pair/stage")).unwrap().count();
        assert_eq!(stages, 0, "nothing is left over");
    }

    /// As [`Scene::check`], and what had arrived was not sent again.
    #[track_caller]
    fn check_resumed(&self, how: Break, outcome: (bool, String)) {
        self.check(outcome);
        let (_, metrics) = self.machine.page("/metrics");
        let line = metrics.lines().find(|line| line.starts_with("sftpd_received_bytes_total ")).unwrap();
        let received: usize = line.rsplit(' ').next().unwrap().parse().unwrap();
        // The daemon that was killed has taken its counter along.
        // One byte is: see the sizes below.
        let at_most = if how == Break::Cut { OLD_BYTES + NEW_BYTES + 1 } else { NEW_BYTES - 100_000 };
        assert!(received <= at_most, "{received} bytes were received in all: it began again");
    }

    fn go(&self, mut command: Command) -> (bool, String) {
        let (status, text) = run(&mut command);
        (status.success(), text)
    }
}

/// Every case: over an old file and without one, cut and killed.
fn everywhere(mut case: impl FnMut(Scene, Break)) {
    for (has_old, how) in [(true, Break::Cut), (true, Break::Kill), (false, Break::Cut), (false, Break::Kill)] {
        println!("with an old file: {has_old}, {how:?}");
        case(Scene::new(has_old), how);
    }
}

fn sftp(scene: &Scene, address: SocketAddr, verb: &str) -> (Command, Sftp) {
    let client = Sftp::new(address, USER);
    let batch = scene.folder.path().join("batch");
    std::fs::write(&batch, format!("{verb} {} x\n", scene.file().display())).unwrap();
    let mut command = client.command("sftp");
    command.arg("-b").arg(batch).arg(client.target());
    (command, client)
}

#[test]
fn sftp_reput_goes_on_where_it_was() {
    everywhere(|mut scene, how| {
        // The client keeps its login in a folder, which must outlive the command.
        let keep = std::cell::RefCell::new(Vec::new());
        scene.break_off(how, |scene, address| {
            let (command, client) = sftp(scene, address, "put");
            keep.borrow_mut().push(client);
            command
        });
        let (command, _client) = sftp(&scene, scene.machine.address(), "reput");
        scene.check_resumed(how, scene.go(command));
    });
}

fn curl(scene: &Scene, address: SocketAddr, options: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sSk", "-u", &format!("{}:{}", USER.0, USER.1)]).args(options);
    command.arg("-T").arg(scene.file()).arg(format!("sftp://{address}/x"));
    command
}

#[test]
fn curl_goes_on_where_it_was_and_also_begins_again() {
    if !has_program("curl") {
        return;
    }
    everywhere(|mut scene, how| {
        scene.break_off(how, |scene, address| curl(scene, address, &[]));
        scene.check_resumed(how, scene.go(curl(&scene, scene.machine.address(), &["-C", "-"])));
    });
    let scene = Scene::new(true);
    let cut = Cut::after(CUT_BYTES, scene.machine.address());
    scene.check(scene.go(curl(&scene, cut.address(), &["--retry", "3", "--retry-all-errors", "--retry-delay", "1"])));
    assert!(cut.has_cut());
}

fn lftp(scene: &Scene, address: SocketAddr, put: &str) -> Command {
    let mut command = Command::new("lftp");
    let settings = "set net:max-retries 5; set net:reconnect-interval-base 1; set net:timeout 10";
    let put = format!("{LFTP}; {settings}; {put} {} -o x; exit", scene.file().display());
    command.args(["-u", &format!("{},{}", USER.0, USER.1), "-e", &put, &format!("sftp://{address}")]);
    command
}

#[test]
fn lftp_reconnects_by_itself_and_goes_on_where_it_was() {
    if !has_program("lftp") {
        return;
    }
    for has_old in [true, false] {
        let scene = Scene::new(has_old);
        let cut = Cut::after(CUT_BYTES, scene.machine.address());
        scene.check(scene.go(lftp(&scene, cut.address(), "put")));
        assert!(cut.has_cut());
    }
    everywhere(|mut scene, how| {
        if how == Break::Kill {
            scene.break_off(how, |scene, address| lftp(scene, address, "put"));
            scene.check_resumed(how, scene.go(lftp(&scene, scene.machine.address(), "put -c")));
        }
    });
}

fn psftp(scene: &Scene, address: SocketAddr, verb: &str) -> Command {
    let key = scene.machine.host_key();
    let batch = scene.folder.path().join("psftp-batch");
    std::fs::write(&batch, format!("{verb} {} x\n", scene.file().display())).unwrap();
    let mut command = Command::new("psftp");
    command.args(["-batch", "-P", &address.port().to_string(), "-pw", USER.1, "-hostkey", &key, "-b"]);
    command.arg(batch).arg(format!("{}@127.0.0.1", USER.0));
    command
}

#[test]
fn psftp_reput_goes_on_where_it_was() {
    if !has_program("psftp") {
        return;
    }
    everywhere(|mut scene, how| {
        scene.break_off(how, |scene, address| psftp(scene, address, "put"));
        scene.check_resumed(how, scene.go(psftp(&scene, scene.machine.address(), "reput")));
    });
}

#[test]
fn rclone_removes_what_failed_and_the_old_file_stays_until_its_next_try_is_complete() {
    if !has_program("rclone") {
        return;
    }
    for has_old in [true, false] {
        let scene = Scene::new(has_old);
        let cut = Cut::after(CUT_BYTES, scene.machine.address());
        let remote = rclone_remote(cut.address(), USER, "x");
        let mut command = Command::new("rclone");
        command.args(["copyto", "--retries", "3", "--low-level-retries", "3"]).arg(scene.file()).arg(remote);
        scene.check(scene.go(command));
        assert!(cut.has_cut());
    }
}

#[test]
fn scp_begins_again() {
    everywhere(|mut scene, how| {
        let keep = std::cell::RefCell::new(Vec::new());
        let scp = |scene: &Scene, address: SocketAddr| {
            let client = Sftp::new(address, USER);
            let mut command = client.command("scp");
            command.arg(scene.file()).arg(format!("{}:x", client.target()));
            keep.borrow_mut().push(client);
            command
        };
        scene.break_off(how, scp);
        scene.check(scene.go(scp(&scene, scene.machine.address())));
    });
}

/// A machine with a user, whose upload has broken off after some of it.
async fn broken_upload(path: &str) -> (Machine, User, Vec<u8>) {
    let user = User::new("alice");
    let machine = master_with(&[(&user, "")]).start();
    let client = user.connect(&machine).await;
    let (old, new) = (content(1, OLD_BYTES), content(2, NEW_BYTES));
    for (name, content, is_whole) in [("x", &old, true), (path, &new, false)] {
        let end = if is_whole { content.len() } else { CUT_BYTES as usize };
        let handle = client.open(name.as_bytes(), flag::WRITE | flag::CREAT | flag::TRUNC, None).await.unwrap();
        for (number, part) in content[..end].chunks(32 * 1024).enumerate() {
            client.write(&handle, number as u64 * 32 * 1024, part).await.unwrap();
        }
        if is_whole {
            client.close(handle).await.unwrap();
        }
    }
    (machine, user, new)
}

fn on_volume(machine: &Machine, path: &str) -> Vec<u8> {
    std::fs::read(machine.path("alice", path)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn filezilla_takes_the_size_from_the_handle_and_goes_on_there() {
    let (machine, user, new) = broken_upload("x").await;
    let client = user.connect(&machine).await;
    let handle = client.open(b"x", flag::WRITE, None).await.unwrap();
    let from = client.fstat(&handle).await.unwrap().size.unwrap();
    assert_eq!(from, CUT_BYTES - 1, "so that what is all there but not closed does not look complete");
    for (number, part) in new[from as usize..].chunks(32 * 1024).enumerate() {
        client.write(&handle, from + number as u64 * 32 * 1024, part).await.unwrap();
    }
    assert!(on_volume(&machine, "x") == content(1, OLD_BYTES));
    client.close(handle).await.unwrap();
    client.setstat(b"x", Attrs { times: Some((1, 2)), ..Attrs::default() }).await.unwrap();
    assert!(on_volume(&machine, "x") == new);
}

#[tokio::test(flavor = "multi_thread")]
async fn winscp_goes_on_with_its_filepart_and_renames_it_into_place() {
    let (machine, user, new) = broken_upload("x.filepart").await;
    let client = user.connect(&machine).await;
    let from = client.stat(b"x.filepart").await.unwrap().size.unwrap();
    assert_eq!(from, CUT_BYTES - 1, "so that what is all there but not closed does not look complete");
    let handle = client.open(b"x.filepart", flag::WRITE | flag::CREAT, None).await.unwrap();
    for (number, part) in new[from as usize..].chunks(32 * 1024).enumerate() {
        client.write(&handle, from + number as u64 * 32 * 1024, part).await.unwrap();
    }
    client.close(handle).await.unwrap();
    assert!(client.rename(b"x.filepart", b"x").await.is_err(), "a plain rename replaces nothing");
    client.remove(b"x").await.unwrap();
    client.rename(b"x.filepart", b"x").await.unwrap();
    assert!(on_volume(&machine, "x") == new && !Path::new(&machine.path("alice", "x.filepart")).exists());
}
