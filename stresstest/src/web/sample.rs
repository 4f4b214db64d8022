//! A run as it could have been, for tests of the pages.

use crate::plan::Operation;
use crate::progress::{Counts, Phase, Point, Progress};
use crate::report::{Arrivals, Asked, FaultKind, Finding, Latency, Report, Totals, VERSION, Verdict};

/// A run's name.
pub const RUN: &str = "20261122-021530-9f3c1a";

fn wave(second: u32, period: f64) -> f64 {
    (f64::from(second) / period).sin()
}

/// Its course.
pub fn points() -> Vec<Point> {
    let point = |second| Point {
        t_s: f64::from(second) + 1.0,
        up_bytes_per_s: 82e6 + 21e6 * wave(second, 6.0) + 7e6 * wave(second, 1.3),
        down_bytes_per_s: 24e6 + 9e6 * wave(second, 2.3),
        operations_per_s: 900.0,
        p50_ms: 4.0 + wave(second, 5.0),
        p95_ms: 9.0 + 2.0 * wave(second, 3.1),
        p99_ms: 18.0 + 6.0 * wave(second, 2.0),
        errors: 0,
        standby_lag_ms: (second > 3).then(|| 260.0 + 90.0 * wave(second, 4.0)),
    };
    (0..75).map(point).collect()
}

/// A run under way.
pub fn progress() -> Progress {
    let done =
        [(Operation::Upload, 6412), (Operation::Download, 1801), (Operation::List, 450), (Operation::Rename, 449)];
    Progress {
        run: RUN.parse().ok(),
        phase: Phase::Loading,
        elapsed_ms: 75_300,
        planned_files: 10_000,
        planned_bytes: 5 << 30,
        clients: 16,
        done: done.into_iter().map(|(operation, ok)| (operation, Counts { ok, failed: 1 })).collect(),
        bytes_up: 3_400_000_000,
        bytes_down: 900_000_000,
        errors: [("connection lost".to_owned(), 3), ("quota exceeded: 10 GiB of 10 GiB used".to_owned(), 1)].into(),
        points: points(),
        acknowledged: 6412,
        arrived: 6100,
        arrived_expected: 6412,
        ..Progress::default()
    }
}

fn latency(scale: f64) -> Latency {
    Latency {
        count: 10_000,
        min_ms: 0.8 * scale,
        mean_ms: 5.0 * scale,
        p50_ms: 4.1 * scale,
        p90_ms: 7.7 * scale,
        p95_ms: 9.4 * scale,
        p99_ms: 18.9 * scale,
        p999_ms: 41.0 * scale,
        max_ms: 230.4 * scale,
    }
}

/// A run that passed.
pub fn passed() -> Report {
    let counts =
        [(Operation::Upload, 10_000), (Operation::Download, 2_801), (Operation::List, 700), (Operation::Rename, 699)];
    let done: std::collections::BTreeMap<_, _> =
        counts.into_iter().map(|(operation, ok)| (operation, Counts { ok, failed: 0 })).collect();
    Report {
        version: VERSION,
        run: RUN.parse().unwrap(),
        began: "2026-11-22T02:15:30Z".into(),
        ended: "2026-11-22T02:18:02Z".into(),
        program: "0.1.0".into(),
        plan: Asked {
            target: "master".into(),
            address: "sftp.example.net:2222".into(),
            standbys: vec!["standby".into()],
            account: "alice".into(),
            files: 10_000,
            sizes: "4KiB..1MiB".into(),
            clients: 16,
            in_flight: 1,
            mix: "upload=70,download=20,list=5,rename=5".into(),
            duration_s: None,
            ramp_s: 2.0,
            verify: "standby".into(),
            seed: 4_711,
            keep: false,
        },
        verdict: Verdict {
            ok: true,
            safe: true,
            sentence: "All 10,000 files arrived whole on the master and on the standby, at 82 MiB/s; 99 of 100 were on the standby within \
                       0.4 s."
                .into(),
        },
        totals: Totals {
            load_s: 75.3,
            run_s: 152.1,
            acknowledged: 10_000,
            bytes_up: 5_368_709_120,
            bytes_down: 1_400_000_000,
            files_per_s: 132.8,
            up_bytes_per_s: 82.1e6,
            down_bytes_per_s: 21.4e6,
            right: 10_000,
            verify_s: 41.5,
            cleaned: 10_000,
            is_clean: true,
            done: done.clone(),
        },
        latencies: done.keys().map(|operation| (*operation, latency(1.0))).collect(),
        errors: Default::default(),
        faults: Vec::new(),
        faults_by_kind: Default::default(),
        arrivals: [(
            "standby".to_owned(),
            Arrivals { expected: 10_000, arrived: 10_000, right: 10_000, latency: latency(21.0), exact_to_ms: 50.0 },
        )]
        .into(),
        points: points(),
        notes: Vec::new(),
    }
}

/// A run that failed.
pub fn failed() -> Report {
    let mut report = passed();
    report.run = "20261122-031530-0badc0".parse().unwrap();
    report.verdict = Verdict {
        ok: false,
        safe: false,
        sentence: "2 of 10,000 files are lost or wrong on the master: 1 is lost, 1 is swapped with another.".into(),
    };
    report.totals.right = 9_998;
    report.totals.up_bytes_per_s = 41e6;
    report.plan.clients = 32;
    report.errors = [("connection lost".to_owned(), 12), ("no answer in time".to_owned(), 2)].into();
    let finding = |kind, number, detail: &str| Finding {
        file: format!("/stress-{RUN}/d03/f{number:06}"),
        server: "master".into(),
        kind,
        detail: detail.into(),
    };
    report.faults = vec![
        finding(FaultKind::Lost, 312, "It was acknowledged and is not there."),
        finding(FaultKind::Swapped, 977, "It holds file 978 <of> this run."),
    ];
    report.faults_by_kind = [(FaultKind::Lost, 1), (FaultKind::Swapped, 1)].into();
    report.notes = vec!["12 connections were lost in the load and made again.".into()];
    report
}
