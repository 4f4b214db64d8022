//! What the agent tells on its health port: readiness in a sentence, and metrics.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use pair::health::Pages;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::status::{Board, Report};
use crate::health::text_of;
use crate::status::now_s;

/// The pages.
pub struct Health(pub Arc<Board>);

impl Pages for Health {
    fn ready(&self) -> Result<(), String> {
        self.0.ready()
    }

    fn metrics(&self) -> String {
        metrics(&self.0.report())
    }
}

type Row = (&'static str, &'static str, fn(&Report) -> f64);

/// One row per metric: its name, what it is, and where it comes from.
const ROWS: [Row; 12] = [
    ("filesync_archive_up", "1 where the master takes this agent's files", |r| f64::from(u8::from(r.no_way.is_none()))),
    ("filesync_archive_files_seen", "Files that the last look has met", |r| r.files_seen as f64),
    ("filesync_archive_files_settled", "Files that are in the archive as they are", |r| r.files_settled as f64),
    ("filesync_archive_files_resting", "Files that are written to, or were met lately", |r| r.files_resting as f64),
    ("filesync_archive_files_pending", "Files that wait to be sent", |r| r.files_pending as f64),
    ("filesync_archive_bytes_pending", "Their bytes", |r| r.bytes_pending as f64),
    ("filesync_archive_oldest_pending_seconds", "For how long the oldest of them has waited", |r| {
        r.oldest_pending_s.map_or(0.0, |since_s| (now_s() - since_s).max(0) as f64)
    }),
    ("filesync_archive_files_sent", "Parts that have arrived since the start", |r| r.files_sent as f64),
    ("filesync_archive_bytes_sent", "Their bytes", |r| r.bytes_sent as f64),
    ("filesync_archive_files_lost", "Files that were gone before they had been sent, since the start", |r| {
        r.files_lost as f64
    }),
    ("filesync_archive_files_removed", "Files that were removed here after they had arrived", |r| {
        r.files_removed as f64
    }),
    ("filesync_archive_problems", "Paths with problems", |r| r.problems.len() as f64),
];

fn metrics(report: &Report) -> String {
    let mut registry = Registry::with_labels([("agent".into(), report.agent.clone().into())].into_iter());
    for (name, help, value) in ROWS {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value(report));
        registry.register(name, help, gauge);
    }
    text_of(&registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_carry_the_agent_and_readiness_the_sentence() {
        let board = Arc::new(Board::default());
        board.change(|report| {
            report.agent = "agent01".into();
            report.files_sent = 3;
        });
        let health = Health(board.clone());
        assert!(health.metrics().contains("filesync_archive_files_sent{agent=\"agent01\"} 3"), "{}", health.metrics());
        assert_eq!(health.ready(), Ok(()));
        board.change(|report| report.no_way = Some("nobody answers".into()));
        assert_eq!(health.ready(), Err("nobody answers".into()));
        assert!(health.metrics().contains("filesync_archive_up{agent=\"agent01\"} 0"));
    }
}
