//! Counters, in Prometheus text. One registry per daemon, so that several can run in one process.

use std::sync::atomic::AtomicU64;

use pair::node::Phase;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::archive::Told;
use crate::role::standing::Standing;

/// A request's or result's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    name: &'static str,
}

/// The counters of one daemon.
pub struct Metrics {
    registry: Registry,
    connections: Counter,
    sessions: Gauge,
    logins: Family<Named, Counter>,
    refused: Family<Named, Counter>,
    bans: Counter,
    requests: Family<Named, Counter>,
    uploads: Family<Named, Counter>,
    received_bytes: Counter,
    sent_bytes: Counter,
    panics: Counter,
    generation: Gauge<u64, AtomicU64>,
    phase: Family<Named, Gauge>,
    epoch: Gauge<u64, AtomicU64>,
    archive: ArchiveMetrics,
    /// Records of the activity log that could not be kept.
    pub lost_activity: Counter,
}

impl Metrics {
    /// All at zero.
    pub fn new(generation: u64) -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("sftpd"),
            connections: Counter::default(),
            sessions: Gauge::default(),
            logins: Family::default(),
            refused: Family::default(),
            bans: Counter::default(),
            requests: Family::default(),
            uploads: Family::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            panics: Counter::default(),
            generation: Gauge::default(),
            phase: Family::default(),
            epoch: Gauge::default(),
            archive: ArchiveMetrics::default(),
            lost_activity: Counter::default(),
        };
        metrics.generation(generation);
        let registry = &mut metrics.registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION").to_owned())]);
        registry.register("build", "Version", build);
        registry.register("connections", "Connections accepted", metrics.connections.clone());
        registry.register("sessions", "Connections open now", metrics.sessions.clone());
        registry.register("logins", "Logins by result", metrics.logins.clone());
        registry.register("connections_refused", "Connections not taken, by reason", metrics.refused.clone());
        registry.register("bans", "Bans of addresses that have begun", metrics.bans.clone());
        registry.register("requests", "SFTP requests by name", metrics.requests.clone());
        registry.register("uploads", "Uploads by result", metrics.uploads.clone());
        registry.register("received_bytes", "Bytes of file content received", metrics.received_bytes.clone());
        registry.register("sent_bytes", "Bytes of file content sent", metrics.sent_bytes.clone());
        registry.register("session_panics", "Sessions ended by a bug", metrics.panics.clone());
        registry.register("accounts_generation", "Number of the accounts in force", metrics.generation.clone());
        registry.register("phase", "What the machine does in its role: 1 for what it does now", metrics.phase.clone());
        registry.register("epoch", "Number of the newest epoch that it knows", metrics.epoch.clone());
        metrics.archive.register(registry);
        registry.register("activity_lost", "Records missing in activity.log", metrics.lost_activity.clone());
        metrics
    }

    /// A connection came; the ticket counts it out.
    pub fn connection(&self) -> OpenConnection {
        self.connections.inc();
        self.sessions.inc();
        OpenConnection(self.sessions.clone())
    }

    /// A login succeeded or failed.
    pub fn login(&self, succeeded: bool) {
        self.logins.get_or_create(&Named { name: if succeeded { "succeeded" } else { "failed" } }).inc();
    }

    /// A connection was not taken.
    pub fn refused(&self, name: &'static str) {
        self.refused.get_or_create(&Named { name }).inc();
    }

    /// A ban has begun.
    pub fn ban(&self) {
        self.bans.inc();
    }

    /// A request came.
    pub fn request(&self, name: &'static str) {
        self.requests.get_or_create(&Named { name }).inc();
    }

    /// An upload was published, or was not.
    pub fn upload(&self, published: bool) {
        self.uploads.get_or_create(&Named { name: if published { "published" } else { "failed" } }).inc();
    }

    /// Content was received.
    pub fn received(&self, bytes: u64) {
        self.received_bytes.inc_by(bytes);
    }

    /// Content was sent.
    pub fn sent(&self, bytes: u64) {
        self.sent_bytes.inc_by(bytes);
    }

    /// A session panicked.
    pub fn panic(&self) {
        self.panics.inc();
    }

    /// Other accounts are in force.
    pub fn generation(&self, generation: u64) {
        self.generation.set(generation);
    }

    /// What the machine does now.
    pub fn role(&self, standing: &Standing) {
        let now = standing.phase();
        for phase in Phase::ALL {
            self.phase.get_or_create(&Named { name: phase.name() }).set(i64::from(phase == now));
        }
        self.epoch.set(standing.node.newest().map_or(0, |epoch| epoch.counter));
    }

    /// What the keeper of the archive says of itself.
    pub fn archive(&self, told: &Told) {
        let age_s = |ms: Option<i64>| {
            ms.map_or(0, |ms| jiff::Timestamp::now().as_millisecond().saturating_sub(ms).max(0) as u64 / 1000)
        };
        self.archive.segment_age_s.set(age_s(told.head_ms));
        self.archive.unsealed_files.set(told.waiting);
        self.archive.unsealed_age_s.set(age_s(told.since_ms));
        self.archive.problem.set(u64::from(told.problem.is_some()));
    }

    /// Retention has removed files.
    pub fn expired(&self, files: u64) {
        self.archive.expired.inc_by(files);
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// The archive's.
#[derive(Default)]
struct ArchiveMetrics {
    segment_age_s: Gauge<u64, AtomicU64>,
    unsealed_files: Gauge<u64, AtomicU64>,
    unsealed_age_s: Gauge<u64, AtomicU64>,
    problem: Gauge<u64, AtomicU64>,
    expired: Counter,
}

impl ArchiveMetrics {
    fn register(&self, registry: &mut Registry) {
        let gauges = [
            (
                "archive_segment_age_seconds",
                "Age of the newest segment of the archive's chain; 0 where there is none",
                &self.segment_age_s,
            ),
            ("archive_unsealed_files", "Files of agents that are in no segment yet", &self.unsealed_files),
            ("archive_unsealed_age_seconds", "For how long the oldest of them has waited", &self.unsealed_age_s),
            ("archive_problem", "1 where something is wrong with the chain, or nothing can be sealed", &self.problem),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        registry.register("archive_expired_files", "Files that retention has removed", self.expired.clone());
    }
}

/// A connection that is open.
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
