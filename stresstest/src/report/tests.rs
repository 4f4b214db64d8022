//! A report to work with, and that it survives being kept.

use super::*;

/// A report of 10,000 files without any trouble, and without a verdict.
pub fn report() -> Report {
    let plan = crate::content::tests::plan("4KiB..1MiB", 10_000, 1);
    let totals = Totals {
        load_s: 63.2,
        acknowledged: 10_000,
        bytes_up: 2_700_000_000,
        files_per_s: 158.2,
        up_bytes_per_s: 42_700_000.0,
        right: 10_000,
        is_clean: true,
        ..Totals::default()
    };
    Report {
        version: VERSION,
        run: "20261122-021530-9f3c1a".parse().unwrap(),
        began: "2026-11-22T02:15:30Z".into(),
        ended: "2026-11-22T02:17:30Z".into(),
        program: "0.1.0".into(),
        plan: Asked::from(&plan),
        verdict: Verdict { ok: true, safe: true, sentence: "all right".into() },
        totals,
        latencies: BTreeMap::new(),
        errors: BTreeMap::new(),
        faults: Vec::new(),
        faults_by_kind: BTreeMap::new(),
        arrivals: BTreeMap::new(),
        points: vec![Point::default()],
        notes: Vec::new(),
    }
}

#[test]
fn a_report_survives_being_kept() {
    let mut report = report();
    report.faults_by_kind.insert(FaultKind::NotOnStandby, 3);
    report.latencies.insert(Operation::Upload, Latency::default());
    let text = serde_json::to_string(&report).unwrap();
    assert!(text.contains("\"not-on-standby\":3") && text.contains("\"upload\":"), "{text}");
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}
