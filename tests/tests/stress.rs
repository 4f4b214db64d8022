//! The stress test against real machines: what it says of a healthy pair, and of one to which something is done behind its back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use tests::{Machine, Pair, Program, SEED, USER, binary, eventually, run};

/// Somebody at a command line, with a state folder and a password file.
struct Tester {
    folder: TempDir,
}

impl Tester {
    fn new() -> Tester {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), format!("{}\n", USER.1)).unwrap();
        Tester { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `stresstest` with a subcommand, against a machine.
    fn command(&self, subcommand: &str, machine: &Machine) -> Command {
        let mut command = Command::new(binary("stresstest"));
        command.arg(subcommand).arg("--state").arg(self.path("state"));
        command.args(["--target", &format!("master={}", machine.address()), "--user", USER.0]);
        command.arg("--password-file").arg(self.path("password"));
        command
    }

    /// A run to its end: exit code, what it said, and its report.
    fn run(&self, machine: &Machine, options: &str) -> (i32, String, Value) {
        let mut command = self.command("run", machine);
        command.args(options.split_whitespace()).arg("--json").arg(self.path("report.json"));
        let (status, text) = run(&mut command);
        let report = std::fs::read(self.path("report.json")).unwrap_or_default();
        (status.code().unwrap(), text, serde_json::from_slice(&report).unwrap_or(Value::Null))
    }
}

/// What a run has made in the user's folder, wherever it is at.
fn run_folders(machine: &Machine) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(machine.path(USER.0, "")).into_iter().flatten().flatten();
    let is_run = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("stress-"));
    entries.map(|entry| entry.path()).filter(is_run).collect()
}

fn pair_that_knows_its_accounts() -> Pair {
    let pair = Pair::start();
    // Its folder comes with its first login, and the standby lets nobody in who has none.
    eventually("the account is known on the master", || pair.master.sftp(USER).can_log_in());
    eventually("the account is known on the standby", || pair.standby.sftp(USER).can_log_in());
    pair
}

/// The file that a run has given a number.
fn file(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{:04}/{number:08}", number / 250))
}

#[test]
fn a_healthy_pair_is_found_fast_and_safe_and_left_as_it_was() {
    let (pair, tester) = (pair_that_knows_its_accounts(), Tester::new());
    let standby = format!("--standby standby={}", pair.standby.address());
    let options = format!(
        "{standby} --files 300 --size 0..64KiB --clients 6 --mix upload=70,download=15,list=5,rename=10 --seed 5 --csv {}",
        tester.path("files.csv").display()
    );
    let (code, text, report) = tester.run(&pair.master, &options);
    assert_eq!(code, 0, "{text}");
    assert_eq!(report["totals"]["acknowledged"], 300, "{text}");
    assert_eq!(report["totals"]["right"], 300);
    assert_eq!(report["arrivals"]["standby"]["right"], 300);
    assert!(text.contains("Every one was read back and is right, on standby, too"), "{text}");
    assert_eq!(report["faults"].as_array().unwrap().len(), 0);
    let csv = std::fs::read_to_string(tester.path("files.csv")).unwrap();
    assert_eq!(csv.lines().count(), 301);
    assert!(csv.lines().skip(1).all(|line| !line.ends_with(',')), "every file has its arrival");
    assert!(run_folders(&pair.master).is_empty());
    eventually("the standby is left as it was, too", || run_folders(&pair.standby).is_empty());
}

#[test]
fn a_large_file_goes_in_pieces_and_comes_back_right() {
    let (machine, tester) = (Machine::master().start(), Tester::new());
    let (code, text, report) = tester.run(&machine, "--files 3 --size 20MiB --clients 2");
    assert_eq!(code, 0, "{text}");
    assert_eq!(report["totals"]["bytes_up"], 3 * 20 * 1024 * 1024);
}

/// Waits until a run has made these files, does something to them on the disk, and gives what the run says of it.
fn meddle(numbers: &[u64], meddle: impl FnOnce(&[PathBuf])) -> (String, Value) {
    let (machine, tester) = (Machine::master().start(), Tester::new());
    let mut command = tester.command("run", &machine);
    // The load goes on until its time is over, so that what is done is done before anything is looked at.
    command.args(["--files", "20", "--size", "20KiB", "--clients", "2", "--mix", "list=100", "--duration", "4s"]);
    command.arg("--json").arg(tester.path("report.json"));
    let program = std::thread::spawn(move || run(&mut command));
    let mut paths = Vec::new();
    eventually("the files are there", || {
        let folders = run_folders(&machine);
        paths = folders.iter().flat_map(|folder| numbers.iter().map(|number| file(folder, *number))).collect();
        // The last one ends the preparation.
        folders.first().is_some_and(|folder| file(folder, 19).exists() && file(folder, 18).exists())
            && paths.iter().all(|path| path.exists())
    });
    meddle(&paths);
    let (status, text) = program.join().unwrap();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("NOT SAFE"), "{text}");
    (text, serde_json::from_slice(&std::fs::read(tester.path("report.json")).unwrap()).unwrap())
}

#[test]
fn what_is_done_to_the_disk_behind_its_back_is_told_for_what_it_is() {
    let (text, report) = meddle(&[3, 5, 7, 9, 11], |paths| {
        std::fs::remove_file(&paths[0]).unwrap();
        let mut content = std::fs::read(&paths[1]).unwrap();
        content[10_000] ^= 1;
        std::fs::write(&paths[1], content).unwrap();
        std::fs::File::options().write(true).open(&paths[2]).unwrap().set_len(100).unwrap();
        let spare = paths[3].with_file_name("spare");
        std::fs::rename(&paths[3], &spare).unwrap();
        std::fs::rename(&paths[4], &paths[3]).unwrap();
        std::fs::rename(&spare, &paths[4]).unwrap();
    });
    let kinds = &report["faults_by_kind"];
    for (kind, count) in [("lost", 1), ("corrupted", 1), ("truncated", 1), ("swapped", 2)] {
        assert_eq!(kinds[kind], count, "{text}");
    }
    assert!(text.contains("the first at offset 10000") && text.contains("the content of file 9 of this run"), "{text}");
}

#[test]
fn what_a_killed_run_has_left_is_removed_by_the_next_one_or_on_request() {
    let (machine, tester) = (Machine::master().start(), Tester::new());
    let kill_one = || {
        let mut command = tester.command("run", &machine);
        command.args(["--files", "5000", "--size", "1KiB"]);
        let program = Program::start(&mut command);
        eventually("some files are there", || run_folders(&machine).iter().any(|folder| file(folder, 3).exists()));
        program.kill();
        assert_eq!(run_folders(&machine).len(), 1);
    };
    kill_one();
    let (code, text, _) = tester.run(&machine, "--files 20 --size 1KiB");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("had left was removed first"), "{text}");
    assert!(run_folders(&machine).is_empty());
    kill_one();
    let (status, text) = run(&mut tester.command("clean", &machine));
    assert!(status.success() && text.contains("files were removed"), "{text}");
    assert!(run_folders(&machine).is_empty());
}

/// Whoever else uses the account may put a link where the run's folder was.
#[test]
fn what_a_link_leads_to_is_not_removed() {
    let (machine, tester) = (Machine::master().start(), Tester::new());
    let mut command = tester.command("run", &machine);
    command.args(["--files", "20", "--size", "1KiB", "--keep"]);
    let (status, text) = run(&mut command);
    assert!(status.success(), "{text}");
    let folder = run_folders(&machine).remove(0);
    let precious = folder.with_file_name("precious");
    std::fs::rename(&folder, &precious).unwrap();
    std::os::unix::fs::symlink("precious", &folder).unwrap();
    let (status, text) = run(tester.command("clean", &machine).arg("--kept"));
    assert!(!status.success() && text.contains("nothing behind it is removed"), "{text}");
    assert!(file(&precious, 3).exists());
}

/// A server that hangs at the end of the time must not look well.
#[test]
fn what_is_not_answered_when_the_load_ends_is_no_success() {
    let (machine, tester) = (Machine::master().start(), Tester::new());
    let mut command = tester.command("run", &machine);
    command.args(["--files", "90000", "--size", "1KiB", "--duration", "3s"]);
    let load = Program::start(&mut command);
    eventually("some files are there", || run_folders(&machine).iter().any(|folder| file(folder, 30).exists()));
    machine.program().signal(rustix::process::Signal::STOP);
    eventually("the load has ended", || load.lines().iter().any(|line| line.contains("reading every file back")));
    machine.program().signal(rustix::process::Signal::CONT);
    eventually("it says so", || load.lines().iter().any(|line| line.contains("not answered when the load ended")));
}

#[test]
fn a_signal_ends_the_load_and_what_was_made_is_looked_at_and_removed() {
    let (machine, tester) = (Machine::master().start(), Tester::new());
    let mut command = tester.command("run", &machine);
    command.args(["--files", "50000", "--size", "1KiB"]).arg("--json").arg(tester.path("report.json"));
    let program = Program::start(&mut command);
    eventually("some files are there", || run_folders(&machine).iter().any(|folder| file(folder, 30).exists()));
    assert!(program.terminate().success());
    let report: Value = serde_json::from_slice(&std::fs::read(tester.path("report.json")).unwrap()).unwrap();
    let sentence = report["verdict"]["sentence"].as_str().unwrap();
    assert!(sentence.starts_with("Stopped by hand") && sentence.contains("is right"), "{sentence}");
    assert_eq!(report["totals"]["right"], report["totals"]["acknowledged"]);
    assert!(run_folders(&machine).is_empty());
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_daemon_is_killed() {
    let mut machine = Machine::master().start();
    let tester = Tester::new();
    let mut command = tester.command("run", &machine);
    command.args(["--files", "1500", "--size", "2KiB", "--clients", "4", "--mix", "upload=80,rename=20"]);
    command.arg("--json").arg(tester.path("report.json"));
    let program = std::thread::spawn(move || run(&mut command));
    eventually("some files are there", || run_folders(&machine).iter().any(|folder| folder.join("0001").exists()));
    eventually("the load is under way", || {
        let folders = run_folders(&machine);
        folders.iter().any(|folder| std::fs::read_dir(folder.join("0000")).is_ok_and(|entries| entries.count() > 20))
    });
    machine.kill();
    machine.start();
    let (status, text) = program.join().unwrap();
    let report: Value = serde_json::from_slice(&std::fs::read(tester.path("report.json")).unwrap()).unwrap();
    assert_eq!(status.code(), Some(1), "operations have failed: {text}");
    assert_eq!(report["verdict"]["safe"], true, "{text}");
    assert!(report["errors"]["connection lost"].as_u64().unwrap() > 0, "{text}");
    assert_eq!(report["totals"]["right"], report["totals"]["acknowledged"], "{text}");
}

#[test]
fn a_quota_is_an_error_of_its_own_kind_and_a_standby_refuses_with_its_sentence() {
    let users = SEED.replace("password: \"1234\"", "password: \"1234\"\n    quota: 10MiB");
    let (machine, tester) = (Machine::master().users(&users).start(), Tester::new());
    let (code, text, report) = tester.run(&machine, "--files 20 --size 1MiB");
    assert_eq!((code, &report["errors"]["quota"], &report["totals"]["right"]), (1, &10.into(), &10.into()), "{text}");
    assert_eq!(report["verdict"]["safe"], true, "{text}");
    let pair = pair_that_knows_its_accounts();
    let (code, text, _) = tester.run(&pair.standby, "--files 5");
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("this is the standby"), "{text}");
}

#[test]
fn wrong_use_is_told_by_its_option_and_ends_with_2() {
    let (machine, tester) = (Machine::master().start(), Tester::new());
    for (options, sentence) in [
        ("--files 0", "--files: \"0\": the number of files is between 1 and 100000"),
        ("--size big", "--size: \"big\": sizes are written as"),
        ("--mix upload=50", "--mix: the shares make 50"),
        ("--verify standby", "--standby: no standby is configured"),
        ("--standby nowhere", "standbys: nowhere is no server"),
        ("--key /nowhere", "cannot be used with"),
        ("--csv /nowhere/x.csv", "cannot write to /nowhere/x.csv"),
    ] {
        let (code, text, _) = tester.run(&machine, options);
        assert_eq!(code, 2, "{options}: {text}");
        assert!(text.contains(sentence), "{options}: {text}");
    }
    let wrong_key = "--host-key SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA --files 1";
    let (code, text, _) = tester.run(&machine, wrong_key);
    assert!(code == 1 && text.contains("shows the host key"), "{text}");
    let right_key = format!("--host-key {} --files 1", machine.host_key());
    let (code, text, _) = tester.run(&machine, &right_key);
    assert_eq!(code, 0, "{text}");
}
