//! It must be able to find trouble: whatever a bad server does to a file is told for what it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server;

use std::time::Duration;

use pair::client::Login;
use pair::config::Interval;
use server::{Mischief, Server};
use stresstest::Config;
use stresstest::plan::{Operation, Plan, Wish};
use stresstest::progress::Phase;
use stresstest::report::{FaultKind, Report};
use stresstest::runner::Runner;
use tempfile::TempDir;

/// A runner with a state of its own, and what it aims at.
struct Bench {
    config: Config,
    runner: Runner,
    _state: TempDir,
}

impl Bench {
    fn new(target: &Server, standby: Option<&Server>) -> Bench {
        let state = tempfile::tempdir().unwrap();
        let config = Config {
            targets: vec![format!("master={}", target.address)],
            standbys: standby.iter().map(|standby| format!("standby={}", standby.address)).collect(),
            state: state.path().join("state"),
            answer_timeout: Interval(Duration::from_secs(2)),
            arrival_timeout: Interval(Duration::from_secs(4)),
            ..Config::default()
        };
        let runner = Runner::new(&config, None).unwrap();
        Bench { config, runner, _state: state }
    }

    fn plan(&self, wish: &Wish) -> Plan {
        wish.check(&self.config).unwrap()
    }

    async fn run(&self, wish: &Wish) -> Report {
        self.run_as(wish, "secret").await
    }

    async fn run_as(&self, wish: &Wish, password: &str) -> Report {
        let run = self.runner.start(self.plan(wish), Login::with_password("user", password)).unwrap();
        let mut watch = self.runner.watch();
        let over = watch.wait_for(|progress| progress.run.as_ref() == Some(&run) && progress.phase == Phase::Done);
        tokio::time::timeout(Duration::from_secs(120), over).await.expect("it ends").unwrap();
        self.runner.reports().read(&run).unwrap().expect("it is kept")
    }
}

fn wish() -> Wish {
    Wish {
        account: "user".into(),
        files: "60".into(),
        sizes: "0..100KiB".into(),
        clients: "3".into(),
        seed: "1".into(),
        ..Wish::default()
    }
}

/// A file of a size that says who it is.
const VICTIM: u64 = 7;

/// Runs against a server with this mischief and gives the report with the kinds that were found.
async fn found(mischief: Mischief, wish: Wish) -> (Report, Vec<(FaultKind, u64)>) {
    let server = Server::start(mischief).await;
    let report = Bench::new(&server, None).run(&wish).await;
    assert!(server.is_clean() && report.totals.is_clean, "{:?}", report.notes);
    let kinds = report.faults_by_kind.iter().map(|(kind, count)| (*kind, *count)).collect();
    (report, kinds)
}

#[track_caller]
fn is_told(report: &Report, number: u64, detail: &str) {
    let name = format!("/{number:08}");
    let told = report.faults.iter().any(|fault| fault.file.contains(&name) && fault.detail.contains(detail));
    assert!(told, "{:#?}", report.faults);
    assert!(!report.verdict.ok && !report.verdict.safe, "{}", report.verdict.sentence);
    assert!(report.verdict.sentence.starts_with("NOT SAFE"), "{}", report.verdict.sentence);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_server_is_found_right_to_the_last_byte() {
    let (report, kinds) = found(Mischief::Honest, wish()).await;
    assert_eq!((kinds, report.totals.right, report.totals.acknowledged), (vec![], 60, 60));
    assert!(report.verdict.ok && report.verdict.safe && report.errors.is_empty(), "{}", report.verdict.sentence);
    assert_eq!((report.totals.cleaned, report.plan.seed), (60, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_acknowledged_and_lost_is_lost() {
    let (report, kinds) = found(Mischief::Lose(VICTIM), wish()).await;
    assert_eq!(kinds, [(FaultKind::Lost, 1)]);
    is_told(&report, VICTIM, "CLOSE was answered with OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_one_wrong_bit_is_corrupted_and_the_byte_is_named() {
    let wish = Wish { sizes: "10000B".into(), ..wish() };
    let (report, kinds) = found(Mischief::Corrupt(VICTIM), wish).await;
    assert_eq!(kinds, [(FaultKind::Corrupted, 1)]);
    is_told(&report, VICTIM, "the first at offset 5000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_its_end_is_truncated_and_one_with_more_has_the_wrong_size() {
    let wish = Wish { sizes: "10000B".into(), ..wish() };
    let (report, kinds) = found(Mischief::Truncate(VICTIM), wish.clone()).await;
    assert_eq!(kinds, [(FaultKind::Truncated, 1)]);
    is_told(&report, VICTIM, "it ends after 5000 of 10000 bytes");
    let (report, kinds) = found(Mischief::Append(VICTIM), wish).await;
    assert_eq!(kinds, [(FaultKind::WrongSize, 1)]);
    is_told(&report, VICTIM, "10008 bytes instead of 10000");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_files_with_each_others_content_are_swapped_and_each_is_named() {
    // Large ones, tiny ones, and those that are only a header.
    for sizes in ["10000B", "30B", "80B"] {
        let (report, kinds) = found(Mischief::Swap(VICTIM, 12), Wish { sizes: sizes.into(), ..wish() }).await;
        assert_eq!(kinds, [(FaultKind::Swapped, 2)], "{sizes}");
        is_told(&report, VICTIM, "the content of file 12 ");
        is_told(&report, 12, "the content of file 7 ");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_run_has_left_is_stale() {
    let server = Server::start(Mischief::Honest).await;
    let bench = Bench::new(&server, None);
    let wish = Wish { sizes: "10000B".into(), ..wish() };
    let before = bench.run(&wish).await.run;
    server.becomes(Mischief::Stale(VICTIM));
    let report = bench.run(&wish).await;
    assert_eq!(report.faults_by_kind, [(FaultKind::Stale, 1)].into());
    is_told(&report, VICTIM, &format!("a file of the run {before}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_lies_is_told() {
    let (report, kinds) = found(Mischief::WrongListedSize(VICTIM), Wish { sizes: "10000B".into(), ..wish() }).await;
    assert_eq!(kinds, [(FaultKind::WrongSize, 1)]);
    is_told(&report, VICTIM, "its folder says 1 bytes, and it has 10000");
    let (report, kinds) = found(Mischief::Invent(VICTIM), wish()).await;
    assert_eq!(kinds, [(FaultKind::Unexpected, 1)]);
    assert!(report.faults[0].file.ends_with("/surprise"), "{:?}", report.faults);
    // What is hidden cannot be removed either, until it is shown again.
    let server = Server::start(Mischief::Hide(VICTIM)).await;
    let report = Bench::new(&server, None).run(&wish()).await;
    assert_eq!(report.faults_by_kind, [(FaultKind::NotListed, 1)].into());
    is_told(&report, VICTIM, "does not list it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_is_unreadable() {
    let (report, kinds) = found(Mischief::Unreadable(VICTIM), Wish { sizes: "10000B".into(), ..wish() }).await;
    assert_eq!(kinds, [(FaultKind::Unreadable, 1)]);
    is_told(&report, VICTIM, "input/output error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_was_not_done_or_only_half_is_told() {
    let wish = Wish { mix: "upload=70,rename=30".into(), sizes: "1KiB".into(), ..wish() };
    let (report, kinds) = found(Mischief::KeepOldName, wish.clone()).await;
    assert!(kinds.iter().all(|(kind, _)| *kind == FaultKind::Duplicate) && !kinds.is_empty(), "{kinds:?}");
    assert!(report.faults[0].detail.contains("which is there, too"), "{:?}", report.faults);
    let (report, kinds) = found(Mischief::DoNotRename, wish.clone()).await;
    assert!(kinds.iter().any(|(kind, _)| *kind == FaultKind::Lost), "{kinds:?}");
    assert!(report.faults.iter().any(|fault| fault.detail.contains("still there as")), "{:#?}", report.faults);
    let (report, kinds) = found(Mischief::Honest, wish).await;
    assert!(kinds.is_empty() && report.totals.done[&Operation::Rename].ok > 0, "{:#?}", report.faults);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_loses_nothing_that_was_acknowledged_and_the_client_comes_back() {
    let (report, kinds) = found(Mischief::HangUp(VICTIM), wish()).await;
    assert_eq!((kinds, report.totals.acknowledged, report.totals.right), (vec![], 59, 59));
    assert_eq!(report.errors, [("connection lost".to_owned(), 1)].into());
    assert!(!report.verdict.ok && report.verdict.safe, "{}", report.verdict.sentence);
    assert!(report.totals.done[&Operation::Connect].ok >= 4, "{:?}", report.totals.done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_rename_nobody_has_answered_is_looked_for_under_both_names() {
    let wish = Wish { mix: "upload=80,rename=20".into(), sizes: "1KiB".into(), ..wish() };
    let (report, kinds) = found(Mischief::HangUpAfterRename, wish).await;
    assert!(kinds.is_empty() && report.errors["connection lost"] > 0, "{:#?}", report.faults);
    assert_eq!(report.totals.right, report.totals.acknowledged);
    assert!(report.verdict.safe, "{}", report.verdict.sentence);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_is_seen_in_the_times_and_one_that_never_comes_is_a_timeout() {
    let slow = Mischief::Delay(VICTIM, Duration::from_millis(700));
    let (report, kinds) = found(slow, wish()).await;
    let upload = report.latencies[&Operation::Upload];
    assert!(kinds.is_empty() && upload.max_ms >= 700.0, "{upload:?}");
    assert!(report.verdict.ok, "{}", report.verdict.sentence);
    let (report, kinds) = found(Mischief::Delay(VICTIM, Duration::from_secs(30)), wish()).await;
    assert_eq!((kinds, report.totals.right), (vec![], 59));
    assert_eq!(report.errors, [("timeout".to_owned(), 1)].into());
    assert!(!report.verdict.ok && report.verdict.safe, "{}", report.verdict.sentence);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_counted_by_its_kind() {
    let refusal = Mischief::Refuse(VICTIM, "quota exceeded: 10 GiB of 10 GiB used");
    let (report, _) = found(refusal, wish()).await;
    assert_eq!(report.errors, [("quota".to_owned(), 1)].into());
    assert!(report.verdict.sentence.contains("1 times quota"), "{}", report.verdict.sentence);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_begin_says_why_and_leaves_nothing() {
    let (report, _) = found(Mischief::Room(1024 * 1024), Wish { sizes: "10KiB".into(), ..wish() }).await;
    for part in ["could not begin", "room for 1.00 MiB", "1.17 MiB free"] {
        assert!(report.verdict.sentence.contains(part), "{}", report.verdict.sentence);
    }
    let server = Server::start(Mischief::Honest).await;
    let bench = Bench::new(&server, None);
    let report = bench.run_as(&wish(), "wrong").await;
    assert!(report.verdict.sentence.contains("does not accept the login"), "{}", report.verdict.sentence);
    assert!(bench.runner.leftovers().is_empty() && server.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_key_at_the_same_address_is_refused_before_the_password_is_sent() {
    let server = Server::start(Mischief::Honest).await;
    let bench = Bench::new(&server, None);
    assert!(bench.run(&wish()).await.verdict.ok);
    let keys = bench.config.state.join("host_keys.json");
    let text = std::fs::read_to_string(&keys).unwrap();
    let at = text.find("SHA256:").unwrap();
    let other = format!("{}SHA256:{}{}", &text[..at], "x".repeat(43), &text[at + 50..]);
    drop(bench.runner);
    std::fs::write(&keys, other).unwrap();
    let again = Runner::new(&bench.config, None).unwrap();
    let bench = Bench { runner: again, ..bench };
    let report = bench.run(&wish()).await;
    assert!(report.verdict.sentence.contains("has changed: it was SHA256:xxx"), "{}", report.verdict.sentence);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_arrives_on_the_standby_is_timed_even_what_is_late() {
    let master = Server::start(Mischief::Honest).await;
    let late = Mischief::Late(VICTIM, Duration::from_millis(2500));
    let standby = Server::over(master.volume.clone(), late).await;
    let wish = Wish { verify: "standby".into(), ..wish() };
    let bench = Bench::new(&master, Some(&standby));
    let report = bench.run(&wish).await;
    let arrivals = &report.arrivals["standby"];
    assert_eq!((arrivals.expected, arrivals.arrived, arrivals.right), (60, 60, 60), "{:#?}", report.faults);
    // The server counts from its own CLOSE, the run from the answer to it, which comes a little later.
    assert!(arrivals.latency.max_ms >= 1000.0, "{arrivals:?}");
    assert!(report.verdict.ok && report.verdict.sentence.contains("on standby, too"), "{}", report.verdict.sentence);
    let csv = String::from_utf8(bench.runner.reports().csv(&report.run).unwrap().unwrap()).unwrap();
    assert_eq!(csv.lines().count(), 61);
    let line = csv.lines().find(|line| line.starts_with("7,")).unwrap();
    assert!(line.rsplit(',').next().unwrap().parse::<f64>().unwrap() >= 1000.0, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_different_on_the_standby_is_told_as_that() {
    let master = Server::start(Mischief::Honest).await;
    let standby = Server::over(master.volume.clone(), Mischief::Missing(VICTIM)).await;
    let wish = Wish { verify: "standby".into(), sizes: "10000B".into(), ..wish() };
    let report = Bench::new(&master, Some(&standby)).run(&wish).await;
    assert_eq!(report.faults_by_kind, [(FaultKind::NotOnStandby, 1)].into());
    assert_eq!((report.faults[0].server.as_str(), report.arrivals["standby"].arrived), ("standby", 59));
    is_told(&report, VICTIM, "did not arrive in time");

    let standby = Server::over(master.volume.clone(), Mischief::Rot(VICTIM)).await;
    let report = Bench::new(&master, Some(&standby)).run(&wish).await;
    assert_eq!(report.faults_by_kind, [(FaultKind::DiffersOnStandby, 1)].into());
    assert_eq!((report.faults[0].server.as_str(), report.arrivals["standby"].right), ("standby", 59));
    is_told(&report, VICTIM, "corrupted: 1 of its bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_content_is_found_while_the_load_goes_on_and_counts_once() {
    let wish = Wish { mix: "upload=50,download=50".into(), sizes: "10000B".into(), files: "200".into(), ..wish() };
    let (report, kinds) = found(Mischief::Corrupt(0), wish).await;
    assert_eq!(kinds, [(FaultKind::Corrupted, 1)]);
    assert!(report.errors.get("wrong content").is_none_or(|count| *count > 0), "{:?}", report.errors);
    assert!(report.totals.done[&Operation::Download].ok > 0 && report.totals.bytes_down > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_uploads_makes_its_files_first_and_works_with_them() {
    let wish = Wish { mix: "download=60,list=20,rename=20".into(), files: "100".into(), ..wish() };
    let (report, kinds) = found(Mischief::Honest, wish).await;
    assert!(kinds.is_empty() && report.verdict.ok, "{:#?}", report.verdict);
    let done = |operation| report.totals.done[&operation].ok;
    assert_eq!(done(Operation::Upload), 100);
    assert_eq!(done(Operation::Download) + done(Operation::List) + done(Operation::Rename), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_or_left_is_removed_when_that_is_asked_for() {
    let server = Server::start(Mischief::Honest).await;
    let bench = Bench::new(&server, None);
    let kept = bench.run(&Wish { keep: true, ..wish() }).await;
    assert!(kept.verdict.ok && !kept.totals.is_clean && !server.is_clean());
    // The next run leaves it alone.
    assert!(bench.run(&wish()).await.verdict.ok);
    let left = bench.runner.leftovers();
    assert_eq!((left.len(), &left[0].run, left[0].kept), (1, &kept.run, true));
    let plan = bench.plan(&wish());
    let login = || Login::with_password("user", "secret");
    assert_eq!(bench.runner.clean(&plan.target, login(), false).await.unwrap(), 0);
    assert_eq!(bench.runner.clean(&plan.target, login(), true).await.unwrap(), 60);
    assert!(server.is_clean() && bench.runner.leftovers().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_looks_at_what_it_has_made_and_another_one_has_to_wait() {
    let server = Server::start(Mischief::Honest).await;
    let bench = Bench::new(&server, None);
    let many = Wish { files: "100000".into(), sizes: "1KiB".into(), ..wish() };
    let login = || Login::with_password("user", "secret");
    let run = bench.runner.start(bench.plan(&many), login()).unwrap();
    let busy = bench.runner.start(bench.plan(&many), login()).unwrap_err();
    assert_eq!(busy.run, run);
    let mut watch = bench.runner.watch();
    watch.wait_for(|progress| progress.acknowledged > 50).await.unwrap();
    bench.runner.stop();
    watch.wait_for(|progress| !progress.is_running()).await.unwrap();
    let report = bench.runner.reports().read(&run).unwrap().unwrap();
    assert!(report.verdict.ok && report.verdict.sentence.starts_with("Stopped by hand"), "{:?}", report.verdict);
    assert_eq!(report.totals.right, report.totals.acknowledged);
    assert!(server.is_clean() && report.totals.acknowledged < 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_ends_when_its_time_is_over() {
    let wish = Wish { files: "100000".into(), sizes: "100B".into(), duration: "1s".into(), ..wish() };
    let (report, kinds) = found(Mischief::Honest, wish).await;
    assert!(kinds.is_empty() && report.verdict.ok, "{:#?}", report.verdict);
    assert!(report.totals.load_s >= 1.0 && report.totals.acknowledged < 100_000, "{:?}", report.totals);
}
