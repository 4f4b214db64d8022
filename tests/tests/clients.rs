//! The clients that partners bring: each puts a file, puts another over it, and gets it back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::matrix::{self, ABILITIES, Act, CLIENTS, Cell, Desk, Sizes};
use tests::{ADMIN, Machine, SEED, Sftp, USER, has_program, run};

/// A client of the matrix with sizes for every day; `make clients` takes the full ones.
fn try_out(name: &str) {
    let client = CLIENTS.iter().find(|client| client.name == name).unwrap();
    if !client.is_there() {
        println!("SKIPPED: {name} is not installed");
        return;
    }
    let sizes = Sizes { large_bytes: 20_000_003, small_files: 60 };
    for (cell, (ability, _)) in matrix::try_out(client, sizes).into_iter().zip(ABILITIES) {
        println!("{ability}: {cell:?}");
        assert!(!matches!(cell, Cell::Bad(_)), "{name}, {ability}: {cell:?}");
    }
}

macro_rules! clients {
    ($($test:ident: $name:literal,)*) => {
        mod matrix_of_clients {
            $(#[test] fn $test() { super::try_out($name); })*

            #[test]
            fn is_tried_in_full() {
                assert_eq!(super::CLIENTS.map(|client| client.name), [$($name),*]);
            }
        }
    };
}

clients! {
    sftp: "OpenSSH sftp",
    scp: "OpenSSH scp",
    psftp: "PuTTY psftp",
    pscp: "PuTTY pscp",
    lftp: "lftp",
    rclone: "rclone",
    curl: "curl (libssh2)",
    paramiko: "paramiko",
    asyncssh: "asyncssh",
    sshfs: "sshfs",
    filezilla: "FileZilla",
}

/// A folder of the machine, mounted by sshfs until this is dropped.
struct Mount {
    folder: tempfile::TempDir,
    _login: Sftp,
}

impl Mount {
    /// `None` where nothing can be mounted.
    fn of(master: &Machine) -> Option<Mount> {
        if !has_program("sshfs") || !Path::new("/dev/fuse").exists() {
            println!("SKIPPED: no sshfs or no /dev/fuse");
            return None;
        }
        let (login, folder) = (master.sftp(USER), tempfile::tempdir().unwrap());
        let template = login.command("sshfs");
        let mut command = Command::new("sshfs");
        // sshfs takes ssh's options, but neither ssh's settings file nor its way to name one.
        command.args(template.get_args().take_while(|argument| *argument != "-F"));
        for (key, value) in template.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command.arg(format!("{}:/", login.target())).arg(folder.path());
        let (status, text) = run(&mut command);
        if !status.success() && text.contains("fuse") {
            println!("SKIPPED: cannot mount here: {text}");
            return None;
        }
        assert!(status.success(), "{text}");
        Some(Mount { folder, _login: login })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a script in the mounted folder.
    #[track_caller]
    fn script(&self, script: &str) {
        let (status, text) = run(Command::new("sh").args(["-euxc", script]).current_dir(self.folder.path()));
        assert!(status.success(), "{text}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(self.folder.path()));
    }
}

#[test]
fn a_mount_makes_changes_and_removes_files() {
    let master = Machine::master().start();
    let Some(mount) = Mount::of(&master) else { return };
    std::fs::write(mount.path("new"), "made on the mount").unwrap();
    std::fs::create_dir(mount.path("folder")).unwrap();
    std::fs::rename(mount.path("new"), mount.path("folder/moved")).unwrap();
    std::fs::write(mount.path("folder/moved"), "written anew").unwrap();
    std::fs::write(mount.path("gone"), "x").unwrap();
    std::fs::remove_file(mount.path("gone")).unwrap();
    drop(mount);
    assert_eq!(std::fs::read(master.path("EPuser", "folder/moved")).unwrap(), b"written anew");
    assert!(!master.path("EPuser", "gone").exists());
}

#[test]
fn a_mount_takes_programs_that_write_here_and_there() {
    let master = Machine::master().start();
    let Some(mount) = Mount::of(&master) else { return };
    mount.script(
        "printf 0123456789 > f
         printf XY | dd of=f bs=1 seek=3 conv=notrunc status=none
         printf +end >> f
         test \"$(cat f)\" = '012XY56789+end'
         truncate -s 4 f; truncate -s 6 f
         test \"$(od -An -c f | tr -d ' ')\" = '012X\\0\\0'
         sed -i s/2/two/ f
         touch -d 2001-02-03T04:05:06Z f; test \"$(stat -c %Y f)\" = 981173106
         chmod 640 f; test \"$(stat -c %a f)\" = 640
         ln -s f l; test \"$(readlink l)\" = f
         ln f hard; cmp f hard",
    );
    let mut reader = std::fs::File::open(mount.path("f")).unwrap();
    mount.script("echo new > g; mv g f; test \"$(cat f)\" = new");
    let mut old = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut old).unwrap();
    assert_eq!(old, b"01twoX\0\0", "who has the old version open goes on with it");
    // A log that stays open while it grows is there when it is closed.
    let mut log = std::fs::File::create(mount.path("log")).unwrap();
    for line in 0..100 {
        std::io::Write::write_all(&mut log, format!("line {line}\n").as_bytes()).unwrap();
    }
    drop(log);
    assert_eq!(std::fs::read_to_string(mount.path("log")).unwrap().lines().count(), 100);
}

#[test]
fn a_mount_takes_git_and_tar() {
    let master = Machine::master().start();
    let Some(mount) = Mount::of(&master).filter(|_| has_program("git")) else { return };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    mount.script(&format!(
        "export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
         git init -q repository
         tar -C '{0}' -cf - . | tar -C repository -xf -
         diff -r '{0}' repository -x .git
         cd repository
         git add . && git commit -qm one
         echo more >> lib.rs && git commit -qam two && git checkout -q HEAD~1 && git gc -q
         git fsck --strict && test $(git rev-list --all --count) = 2
         git diff --exit-code",
        source.display()
    ));
    run(Command::new("sync").arg("-f").arg(mount.path("")));
    drop(mount);
    let (status, text) = run(Command::new("git")
        .args(["-c", "safe.directory=*", "fsck", "--strict"])
        .current_dir(master.path("EPuser", "repository")));
    assert!(status.success(), "as it lies on the server's disk: {text}");
}

#[test]
fn every_client_leaves_the_accounts_alone_when_its_users_yaml_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let up = folder.path().join("up");
    for client in CLIENTS.iter().filter(|client| client.is_there()) {
        let master = Machine::master().start();
        let before = std::fs::read(master.path("admin", "users.yaml")).unwrap();
        let upload = |text: String| {
            std::fs::write(&up, text).unwrap();
            let desk = Desk::new(&master, master.address(), ADMIN);
            let (status, text) = run(&mut (client.command)(&desk, &Act::Put(&up, "users.yaml")).unwrap());
            (status.success(), text)
        };
        let (ok, text) = upload(SEED.replace("EPuser", "admin"));
        assert_eq!(!ok, client.tells_of_a_refusal, "{}: {text}", client.name);
        assert_eq!(std::fs::read(master.path("admin", "users.yaml")).unwrap(), before, "{}", client.name);
        assert!(master.result().contains("REFUSED"), "{}: {}", client.name, master.result());
        assert!(master.sftp(USER).can_log_in());

        let (ok, text) = upload(SEED.replace("EPuser", "renamed"));
        assert!(ok, "{}: {text}", client.name);
        assert!(master.sftp(("renamed", "1234")).can_log_in(), "{}: {}", client.name, master.result());
    }
}
