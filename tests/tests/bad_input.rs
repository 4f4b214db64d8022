//! Every mistake gets one sentence that names the place and what to do; nothing starts half, nothing is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use tests::{Machine, Mirror, SEED, binary, eventually, run};

/// Runs a machine's daemon, which must refuse to start with exit code 2 and say all of this.
#[track_caller]
fn refuses(command: &mut Command, expected: &[&str]) {
    let (status, text) = run(command);
    assert_eq!(status.code(), Some(2), "{text}");
    for part in expected {
        assert!(text.contains(part), "it does not say {part:?}:\n{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn a_wrong_setting_is_named_with_its_place() {
    let machine = Machine::master().prepare();
    let file = machine.state().join("sftpd.yaml");
    std::fs::write(&file, "listen: 127.0.0.1:0\nlissten: x\n").unwrap();
    refuses(machine.command().arg("--config").arg(&file), &["sftpd.yaml", "line 2", "lissten"]);
    refuses(machine.command().arg("--config").arg("/nowhere.yaml"), &["/nowhere.yaml"]);
    refuses(machine.command().env("SFTPD_LISSTEN", "x"), &["SFTPD_LISSTEN", "unknown field"]);
    refuses(machine.command().args(["--durability", "maybe"]), &["--durability", "`fsync` or `none`"]);
    refuses(machine.command().args(["--acknowledge", "standby"]), &["--acknowledge", "expected `local`"]);
    refuses(machine.command().arg("--nonsense"), &["--nonsense"]);
    refuses(machine.command().env("LOG_LEVEL", "loud"), &["LOG_LEVEL", "loud"]);
}

#[test]
fn a_missing_short_or_guessable_secret_is_refused_with_advice() {
    let standby = Machine::master().standby().prepare();
    refuses(standby.command().env_remove("PAIR_SECRET"), &["no PAIR_SECRET", "same value as on the other machine"]);
    let master = Machine::master().prepare();
    for secret in ["1234", &"0".repeat(64), &"x".repeat(64)] {
        refuses(master.command().env("PAIR_SECRET", secret), &["PAIR_SECRET", "openssl rand -hex 32"]);
    }
    refuses(
        master.command().env_remove("PAIR_SECRET").env("PAIR_SECRET_FILE", "/nowhere/secret"),
        &["/nowhere/secret"],
    );
}

#[test]
fn a_masters_first_start_without_a_secret_draws_one_and_keeps_it() {
    let machine = Machine::master().prepare();
    let start = || {
        let mut program = tests::Program::start(machine.command().env_remove("PAIR_SECRET"));
        program.wait_for_line("listening on ");
        let lines = program.lines();
        assert!(program.terminate().success());
        lines
    };
    let find = |lines: &[String], text: &str| lines.iter().find(|line| line.contains(text)).cloned();
    let (first, second) = (start(), start());
    let line = find(&first, "PAIR_SECRET=").expect("the line for the standby's .env");
    assert_eq!(line.trim().len(), "PAIR_SECRET=".len() + 64);
    assert!(find(&second, "PAIR_SECRET=").is_none(), "it is shown once");
    assert_eq!(find(&first, "host key"), find(&second, "host key"));
}

#[test]
fn a_missing_volume_or_marker_or_a_second_daemon_is_refused() {
    let mut machine = Machine::master().start();
    refuses(&mut machine.command(), &["another sftpd is running", machine.data().to_str().unwrap()]);
    machine.stop();
    let data = machine.data().to_owned();
    let aside = data.with_extension("aside");
    std::fs::rename(&data, &aside).unwrap();
    refuses(&mut machine.command(), &["cannot be opened", "is the volume mounted there?"]);
    std::fs::create_dir(&data).unwrap();
    refuses(&mut machine.command(), &["has no marker", "is the disk mounted?", "node.yaml"]);
    assert_eq!(std::fs::read_dir(data.join(".pair/stage")).map_or(0, Iterator::count), 0);
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&aside, &data).unwrap();
    machine.start();
}

#[test]
fn a_volume_of_another_pair_is_refused() {
    let mut machine = Machine::master().start();
    machine.stop();
    let other = pair::secret::PairSecret::generate().unwrap().to_hex();
    refuses(machine.command().env("PAIR_SECRET", other), &["belongs to pair", "PAIR_SECRET"]);
}

#[test]
fn half_a_question_to_the_health_port_does_not_hold_up_the_end() {
    let mut master = Machine::master().start();
    let mut half = master.connect_to_health();
    std::io::Write::write_all(&mut half, b"GET /healthz HTT").unwrap();
    assert!(master.stop().success());
}

#[test]
fn a_daemon_whose_output_nobody_reads_any_more_works_and_ends() {
    use std::io::BufRead;
    let machine = Machine::master().prepare();
    let piped = std::process::Stdio::piped;
    let mut child = machine.command().stdout(piped()).stderr(piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.find_map(|line| line.unwrap().split_once("listening on ").map(|(_, address)| address.to_owned()));
    let address = line.unwrap().parse().unwrap();
    drop((lines, child.stderr.take()));
    assert!(tests::Sftp::new(address, tests::USER).can_log_in());
    let process = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    let mut status = None;
    eventually("it ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success());
}

#[test]
fn a_taken_port_is_named_with_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let machine = Machine::master().prepare();
    refuses(machine.command().env("SFTPD_LISTEN", &address), &[&address, "`listen`", "is another program there?"]);
    refuses(machine.command().env("SFTPD_HEALTH_LISTEN", &address), &[&address, "`health_listen`"]);
}

#[test]
fn a_missing_or_wrong_seed_is_refused_with_every_mistake() {
    let machine = Machine::master().prepare();
    refuses(machine.command().args(["--users", "/nowhere/users.yaml"]), &["/nowhere/users.yaml", "first start"]);
    let wrong = SEED.replace("EPuser", "admin").replace("\"1234\"", "\"\"");
    let machine = Machine::master().users(&wrong).prepare();
    refuses(&mut machine.command(), &["users.yaml:7:11: two accounts", "users.yaml:8:15: the password"]);
    let mut check = Command::new(binary("sftpd"));
    check.arg("check").arg("--users").arg(machine.state().with_file_name("users.yaml"));
    refuses(&mut check, &["users.yaml:7:11: two accounts", "users.yaml:8:15: the password"]);
}

#[test]
fn a_mount_inside_the_volume_is_refused() {
    let machine = Machine::master().prepare();
    let inside = machine.data().join("alice");
    std::fs::create_dir(&inside).unwrap();
    let (mounted, text) = run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&inside));
    if !mounted.success() {
        println!("SKIPPED: cannot mount here: {text}");
        return;
    }
    let (status, text) = run(&mut machine.command());
    run(Command::new("umount").arg(&inside));
    assert_eq!(status.code(), Some(2), "{text}");
    assert!(text.contains("is a mount of its own inside the data folder") && text.contains("alice"), "{text}");
}

#[test]
fn a_full_disk_refuses_the_upload_keeps_the_old_file_and_lets_files_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("small");
    std::fs::create_dir(&data).unwrap();
    let (mounted, text) = run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(&data));
    if !mounted.success() {
        println!("SKIPPED: cannot mount here: {text}");
        return;
    }
    let master = Machine::master().data(&data).start();
    let (small, large) = (folder.path().join("small file"), folder.path().join("large file"));
    std::fs::write(&small, vec![1; 1_000_000]).unwrap();
    std::fs::write(&large, vec![2; 5_000_000]).unwrap();
    let sftp = master.sftp(tests::USER);
    let put = |path: &std::path::Path, name: &str| sftp.run(&format!("put \"{}\" {name}\n", path.display()));
    put(&small, "x").expect_ok();
    assert!(!put(&large, "x").ok);
    assert_eq!(std::fs::read(master.path("EPuser", "x")).unwrap(), vec![1; 1_000_000]);
    eventually("the failed upload's room is free again", || put(&small, "y").ok);
    while put(&small, &format!("fill{}", std::fs::read_dir(master.path("EPuser", "")).unwrap().count())).ok {}
    // The first goes to the upload that was refused, the second to the file behind it.
    sftp.run("rm x\n").expect_ok();
    assert!(master.path("EPuser", "x").exists());
    sftp.run("rm x\n").expect_ok();
    put(&small, "x").expect_ok();
    drop(master);
    run(Command::new("umount").arg("-l").arg(&data));
}

#[test]
fn filesync_refuses_wrong_settings_and_says_what_is_wrong_with_a_standby() {
    let secret = pair::secret::PairSecret::generate().unwrap().to_hex();
    let master = Machine::master().secret(&secret).start();
    let mirror = |standbys: &str| Mirror::of(&master, &secret, standbys);
    refuses(mirror("host:port:x").command().arg("check"), &["standbys"]);
    refuses(mirror("").command().arg("check").env("FILESYNC_INTERVAL", "soon"), &["FILESYNC_INTERVAL"]);
    let says = |standbys: &str, expected: &str| {
        let mut mirror = mirror(standbys);
        mirror.start();
        eventually(expected, || mirror.program().lines().iter().any(|line| line.contains(expected)));
        assert_ne!(mirror.page("/readyz").0, 200);
    };
    says(&master.address().to_string(), "this machine itself");
    let foreign = Machine::master().standby().start();
    says(&foreign.address().to_string(), "PAIR_SECRET");
    let second_master = Machine::master().secret(&secret).start();
    says(&second_master.address().to_string(), "master");
}

#[test]
fn filesync_names_what_it_cannot_copy_and_copies_the_rest() {
    let secret = pair::secret::PairSecret::generate().unwrap().to_hex();
    let master = Machine::master().secret(&secret).start();
    let standby = Machine::master().secret(&secret).standby().start();
    std::fs::create_dir_all(master.path("EPuser", "")).unwrap();
    std::fs::write(master.path("EPuser", "readable"), "x").unwrap();
    assert!(run(Command::new("mkfifo").arg(master.path("EPuser", "pipe"))).0.success());
    let mut mirror = Mirror::of(&master, &secret, &standby.address().to_string());
    mirror.start();
    eventually("the rest is copied", || standby.path("EPuser", "readable").exists());
    eventually("it is named", || mirror.ask(&["status"]).1.contains("problem: EPuser/pipe"));
}

#[test]
fn a_second_filesync_on_the_state_folder_is_refused() {
    let secret = pair::secret::PairSecret::generate().unwrap().to_hex();
    let master = Machine::master().secret(&secret).start();
    let standby = Machine::master().secret(&secret).standby().start();
    let mirror = || Mirror::of(&master, &secret, &standby.address().to_string());
    let mut first = mirror();
    first.start();
    refuses(&mut mirror().command(), &["another filesync is running", master.state().to_str().unwrap()]);
    // Asking is no second one; and what was killed holds nothing.
    assert!(first.ask(&["status"]).0);
    first.kill();
    mirror().start();
}

#[test]
fn a_filesync_beside_a_standby_mirrors_nothing_back() {
    let secret = pair::secret::PairSecret::generate().unwrap().to_hex();
    let master = Machine::master().secret(&secret).start();
    let standby = Machine::master().secret(&secret).standby().start();
    std::fs::create_dir_all(master.path("EPuser", "")).unwrap();
    std::fs::write(master.path("EPuser", "only-here"), "x").unwrap();
    let mut wrong = Mirror::of(&standby, &secret, &master.address().to_string());
    wrong.start();
    let says_so = |line: &String| line.contains("nothing to mirror from here");
    eventually("it says so", || wrong.program().lines().iter().any(says_so));
    assert_eq!(wrong.page("/readyz").0, 200);
    assert!(master.path("EPuser", "only-here").exists());
}
