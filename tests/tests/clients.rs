//! The clients that partners bring: each puts a file, puts another over it, and gets it back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;

use tests::{ADMIN, LFTP, Machine, SEED, USER, has_program, run};

/// A client: its program, and the command lines for an upload and a download.
struct Client {
    program: &'static str,
    put: fn(&Machine, (&str, &str), &Path, &str) -> Vec<String>,
    get: fn(&Machine, (&str, &str), &str, &Path) -> Vec<String>,
    /// Whether it says so when an upload is refused at CLOSE.
    tells_of_a_refusal: bool,
}

fn words(line: String) -> Vec<String> {
    line.split('\u{1}').map(str::to_owned).collect()
}

fn rclone_remote(machine: &Machine, (user, password): (&str, &str), path: &str) -> String {
    let (_, hidden) = run(Command::new("rclone").args(["obscure", password]));
    format!(":sftp,host=127.0.0.1,port={},user={user},pass={}:{path}", machine.address().port(), hidden.trim())
}

fn psftp(machine: &Machine, (user, password): (&str, &str), batch: &Path) -> Vec<String> {
    let key = machine.program().lines().into_iter().find(|line| line.contains("(ssh-ed25519)")).unwrap();
    let key = key.split(' ').find(|word| word.starts_with("SHA256:")).unwrap().to_owned();
    let (port, batch) = (machine.address().port(), batch.display());
    words(format!(
        "psftp\u{1}-batch\u{1}-P\u{1}{port}\u{1}-pw\u{1}{password}\u{1}-hostkey\u{1}{key}\u{1}-b\u{1}{batch}\u{1}{user}@127.0.0.1"
    ))
}

fn lftp(machine: &Machine, (user, password): (&str, &str), commands: &str) -> Vec<String> {
    let port = machine.address().port();
    words(format!(
        "lftp\u{1}-u\u{1}{user},{password}\u{1}-e\u{1}{LFTP}; set net:max-retries 1; {commands}; bye\u{1}sftp://127.0.0.1:{port}"
    ))
}

const CLIENTS: [Client; 4] = [
    Client {
        program: "lftp",
        put: |machine, login, file, name| lftp(machine, login, &format!("put '{}' -o {name}", file.display())),
        get: |machine, login, name, file| lftp(machine, login, &format!("get {name} -o '{}'", file.display())),
        tells_of_a_refusal: true,
    },
    Client {
        program: "curl",
        put: |machine, (user, password), file, name| {
            let (port, file) = (machine.address().port(), file.display());
            words(format!(
                "curl\u{1}-sSk\u{1}-u\u{1}{user}:{password}\u{1}-T\u{1}{file}\u{1}sftp://127.0.0.1:{port}/{name}"
            ))
        },
        get: |machine, (user, password), name, file| {
            let (port, file) = (machine.address().port(), file.display());
            words(format!(
                "curl\u{1}-sSk\u{1}-u\u{1}{user}:{password}\u{1}-o\u{1}{file}\u{1}sftp://127.0.0.1:{port}/{name}"
            ))
        },
        tells_of_a_refusal: false,
    },
    Client {
        program: "rclone",
        put: |machine, login, file, name| {
            words(format!("rclone\u{1}copyto\u{1}{}\u{1}{}", file.display(), rclone_remote(machine, login, name)))
        },
        get: |machine, login, name, file| {
            words(format!("rclone\u{1}copyto\u{1}{}\u{1}{}", rclone_remote(machine, login, name), file.display()))
        },
        tells_of_a_refusal: true,
    },
    Client {
        program: "psftp",
        put: |machine, login, file, name| {
            let batch = file.with_extension("batch");
            std::fs::write(&batch, format!("put \"{}\" {name}\n", file.display())).unwrap();
            psftp(machine, login, &batch)
        },
        get: |machine, login, name, file| {
            let batch = file.with_extension("batch");
            std::fs::write(&batch, format!("get {name} \"{}\"\n", file.display())).unwrap();
            psftp(machine, login, &batch)
        },
        tells_of_a_refusal: true,
    },
];

fn go(arguments: Vec<String>) -> (bool, String) {
    let (program, arguments) = arguments.split_first().unwrap();
    let (status, text) = run(Command::new(program).args(arguments));
    (status.success(), text)
}

#[test]
fn every_client_uploads_overwrites_and_downloads() {
    let (master, folder) = (Machine::master().start(), tempfile::tempdir().unwrap());
    let (up, down) = (folder.path().join("up"), folder.path().join("down"));
    for client in CLIENTS.iter().filter(|client| has_program(client.program)) {
        // 70,000 bytes: more than one request of every client, and no round number.
        for content in [vec![1_u8; 70_000], b"shorter".to_vec(), Vec::new(), vec![2; 3_000_000]] {
            std::fs::write(&up, &content).unwrap();
            let (ok, text) = go((client.put)(&master, USER, &up, client.program));
            assert!(ok, "{}: {text}", client.program);
            assert!(std::fs::read(master.path("EPuser", client.program)).unwrap() == content, "{}", client.program);
            let _ = std::fs::remove_file(&down);
            let (ok, text) = go((client.get)(&master, USER, client.program, &down));
            assert!(ok, "{}: {text}", client.program);
            assert!(std::fs::read(&down).unwrap_or_default() == content, "{}", client.program);
        }
    }
}

#[test]
fn a_mount_makes_changes_and_removes_files() {
    if !has_program("sshfs") || !Path::new("/dev/fuse").exists() {
        println!("SKIPPED: no sshfs or no /dev/fuse");
        return;
    }
    let (master, folder) = (Machine::master().start(), tempfile::tempdir().unwrap());
    let mount = folder.path().join("mount");
    std::fs::create_dir(&mount).unwrap();
    let sftp = master.sftp(USER);
    let mut command = sftp.command("sshfs");
    // sshfs takes ssh's options, but neither ssh's settings file nor its way to name one.
    let options: Vec<_> =
        command.get_args().take_while(|argument| *argument != "-F").map(std::ffi::OsStr::to_owned).collect();
    let environment: Vec<_> =
        command.get_envs().map(|(key, value)| (key.to_owned(), value.map(std::ffi::OsStr::to_owned))).collect();
    command = Command::new("sshfs");
    command.args(options).arg(format!("{}:/", sftp.target())).arg(&mount);
    for (key, value) in environment {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    let (status, text) = run(&mut command);
    if !status.success() && text.contains("fuse") {
        println!("SKIPPED: cannot mount here: {text}");
        return;
    }
    assert!(status.success(), "{text}");
    let work = || -> std::io::Result<()> {
        std::fs::write(mount.join("new"), "made on the mount")?;
        std::fs::create_dir(mount.join("folder"))?;
        std::fs::rename(mount.join("new"), mount.join("folder/moved"))?;
        std::fs::write(mount.join("folder/moved"), "written anew")?;
        std::fs::write(mount.join("gone"), "x")?;
        std::fs::remove_file(mount.join("gone"))
    };
    let done = work();
    run(Command::new("umount").arg(&mount));
    done.unwrap();
    assert_eq!(std::fs::read(master.path("EPuser", "folder/moved")).unwrap(), b"written anew");
    assert!(!master.path("EPuser", "gone").exists());
}

#[test]
fn every_client_leaves_the_accounts_alone_when_its_users_yaml_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let up = folder.path().join("up");
    for client in CLIENTS.iter().filter(|client| has_program(client.program)) {
        let master = Machine::master().start();
        let before = std::fs::read(master.path("admin", "users.yaml")).unwrap();
        std::fs::write(&up, SEED.replace("EPuser", "admin")).unwrap();
        let (ok, text) = go((client.put)(&master, ADMIN, &up, "users.yaml"));
        assert_eq!(!ok, client.tells_of_a_refusal, "{}: {text}", client.program);
        assert_eq!(std::fs::read(master.path("admin", "users.yaml")).unwrap(), before, "{}", client.program);
        assert!(master.result().contains("REFUSED"), "{}: {}", client.program, master.result());
        assert!(master.sftp(USER).can_log_in());

        std::fs::write(&up, SEED.replace("EPuser", "renamed")).unwrap();
        let (ok, text) = go((client.put)(&master, ADMIN, &up, "users.yaml"));
        assert!(ok, "{}: {text}", client.program);
        assert!(master.sftp(("renamed", "1234")).can_log_in(), "{}: {}", client.program, master.result());
    }
}
