//! What filesync tells on its health port: readiness in a sentence, and metrics of each standby.

use std::sync::{Arc, Mutex, PoisonError};

use pair::health::Pages;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::remote::Grade;
use crate::status::{Board, Report};

/// The boards of all standbys, and why there are none.
#[derive(Default)]
pub struct Health {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    boards: Vec<Arc<Board>>,
    /// Why nothing is mirrored though nothing is wrong, or what is wrong before any standby is asked.
    idle: Option<Result<(), String>>,
}

impl Health {
    /// Follows these standbys from now on.
    pub fn follow(&self, boards: Vec<Arc<Board>>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State { boards, idle: None };
    }

    /// Follows none; an error is why that is wrong.
    pub fn idle(&self, why: Result<(), String>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State { boards: Vec::new(), idle: Some(why) };
    }

    fn boards(&self) -> Vec<Arc<Board>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).boards.clone()
    }
}

impl Pages for Health {
    fn ready(&self) -> Result<(), String> {
        let idle = self.state.lock().unwrap_or_else(PoisonError::into_inner).idle.clone();
        if let Some(idle) = idle {
            return idle;
        }
        let boards = self.boards();
        if boards.is_empty() {
            return Err("filesync is starting".into());
        }
        let wrong: Vec<String> = boards.iter().filter_map(|board| board.ready().err()).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    fn metrics(&self) -> String {
        let boards = self.boards();
        let reports: Vec<(Report, f64)> =
            boards.iter().map(|board| (board.report(), board.lag().as_secs_f64())).collect();
        metrics(&reports)
    }
}

type Row = (&'static str, &'static str, fn(&Report, f64) -> f64);

/// One row per metric: its name, what it is, and where it comes from.
const ROWS: [Row; 17] = [
    ("filesync_up", "1 where the standby is connected", |r, _| f64::from(u8::from(r.connected))),
    ("filesync_durable", "1 where the standby puts files on its disk when asked", |r, _| {
        f64::from(u8::from(r.grade.is_some_and(|grade| grade != Grade::Plain)))
    }),
    ("filesync_lag_seconds", "Age of the oldest change that the standby has not got", |_, lag| lag),
    ("filesync_followed", "1 where every change is brought as it happens", |r, _| f64::from(u8::from(r.followed))),
    ("filesync_changes_behind", "Changes on their way to the standby", |r, _| r.changes_behind as f64),
    ("filesync_files_behind", "Files among them", |r, _| r.files_behind as f64),
    ("filesync_bytes_behind", "Their bytes", |r, _| r.bytes_behind as f64),
    ("filesync_missed_events_total", "Differences that passes found and the feed had not told", |r, _| {
        r.missed_events as f64
    }),
    ("filesync_files_pending", "Files still to be sent", |r, _| r.files_pending as f64),
    ("filesync_bytes_pending", "Their bytes", |r, _| r.bytes_pending as f64),
    ("filesync_files_sent", "Files sent since the start", |r, _| r.files_sent as f64),
    ("filesync_bytes_sent", "Their bytes", |r, _| r.bytes_sent as f64),
    ("filesync_deletes_held", "Entries whose removal waits for approval", |r, _| r.deletes_held as f64),
    ("filesync_problems", "Paths with problems", |r, _| r.problems as f64),
    ("filesync_passes", "Passes that came to their end since the start", |r, _| r.passes as f64),
    ("filesync_pass_seconds", "Duration of the last pass", |r, _| r.pass_ms as f64 / 1000.0),
    ("filesync_entries", "Entries on the standby", |r, _| r.entries as f64),
];

fn metrics(reports: &[(Report, f64)]) -> String {
    let mut registry = Registry::default();
    for (name, help, value) in ROWS {
        let family = Family::<Vec<(String, String)>, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
        for (report, lag) in reports {
            family.get_or_create(&vec![("standby".to_owned(), report.standby.clone())]).set(value(report, *lag));
        }
        registry.register(name, help, family);
    }
    text_of(&registry)
}

/// Metrics as Prometheus reads them.
pub fn text_of(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing into a string does not fail.
    let _infallible = encode(&mut text, registry);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_carry_the_standby() {
        let report = Report { standby: "a:1".into(), connected: true, files_sent: 3, ..Report::default() };
        let text = metrics(&[(report, 1.5)]);
        assert!(text.contains("filesync_up{standby=\"a:1\"} 1"), "{text}");
        assert!(text.contains("filesync_lag_seconds{standby=\"a:1\"} 1.5"), "{text}");
        assert!(text.contains("filesync_files_sent{standby=\"a:1\"} 3"), "{text}");
    }

    #[test]
    fn idle_by_role_is_ready_and_idle_by_mistake_is_not() {
        let health = Health::default();
        assert!(health.ready().is_err());
        health.idle(Ok(()));
        assert_eq!(health.ready(), Ok(()));
        health.idle(Err("no standby is configured".into()));
        assert_eq!(health.ready(), Err("no standby is configured".into()));
    }
}
