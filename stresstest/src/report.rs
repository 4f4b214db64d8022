//! What stays of a run: kept as JSON in the state folder, compared on the page, and taken away by people.
//!
//! Everything in it can be read without this program. Fields are only ever added; `version` grows where one changes its meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::identity::RunId;
use crate::plan::{Operation, Plan};
use crate::progress::{Counts, Point};

mod verdict;

pub use verdict::Ending;

/// The form of a report.
pub const VERSION: u32 = 1;
/// Faults that are told one by one; past it they are only counted.
pub const FAULTS_MAX: usize = 1000;

/// A run that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The form of this report.
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// When it began (RFC 3339, UTC).
    pub began: String,
    /// When it was over.
    pub ended: String,
    /// Who did it: the version of this program.
    pub program: String,
    /// What was asked for.
    pub plan: Asked,
    /// What came of it, in one sentence.
    pub verdict: Verdict,
    /// Sums.
    pub totals: Totals,
    /// How long operations took, of those that were done.
    pub latencies: BTreeMap<Operation, Latency>,
    /// Operations that failed, by what went wrong.
    pub errors: BTreeMap<String, u64>,
    /// Files that are lost or wrong: the first [`FAULTS_MAX`].
    pub faults: Vec<Finding>,
    /// All of them, by kind.
    pub faults_by_kind: BTreeMap<FaultKind, u64>,
    /// How the files came to each standby, by its name.
    pub arrivals: BTreeMap<String, Arrivals>,
    /// The course of the run.
    pub points: Vec<Point>,
    /// What else is worth knowing, in sentences.
    pub notes: Vec<String>,
}

/// What was asked for, as it was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The target's name.
    pub target: String,
    /// Its address.
    pub address: String,
    /// The standbys' names.
    pub standbys: Vec<String>,
    /// Who logged in.
    pub account: String,
    /// Files.
    pub files: u64,
    /// Their sizes.
    pub sizes: String,
    /// Connections.
    pub clients: usize,
    /// Files at a time on each.
    pub in_flight: usize,
    /// What the clients did.
    pub mix: String,
    /// The longest time of the load, in seconds.
    pub duration_s: Option<f64>,
    /// Over which time the clients began, in seconds.
    pub ramp_s: f64,
    /// What was verified.
    pub verify: String,
    /// Where sizes and contents came from.
    pub seed: u64,
    /// Whether the files were to stay.
    #[serde(default)]
    pub keep: bool,
}

impl From<&Plan> for Asked {
    fn from(plan: &Plan) -> Asked {
        Asked {
            target: plan.target.name.clone(),
            address: plan.target.address.clone(),
            standbys: plan.standbys.iter().map(|standby| standby.name.clone()).collect(),
            account: plan.account.clone(),
            files: plan.files,
            sizes: plan.sizes.to_string(),
            clients: plan.clients,
            in_flight: plan.in_flight,
            mix: plan.mix.to_string(),
            duration_s: plan.duration.map(|span| span.as_secs_f64()),
            ramp_s: plan.ramp.as_secs_f64(),
            verify: plan.verify.to_string(),
            seed: plan.seed,
            keep: plan.keep,
        }
    }
}

/// Sums over a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// From the beginning of the load to its end, in seconds.
    pub load_s: f64,
    /// The whole run, in seconds.
    pub run_s: f64,
    /// What was done in the load.
    pub done: BTreeMap<Operation, Counts>,
    /// Files that the target has acknowledged.
    pub acknowledged: u64,
    /// Bytes uploaded.
    pub bytes_up: u64,
    /// Bytes downloaded in the load.
    pub bytes_down: u64,
    /// Files per second, uploaded in the load.
    pub files_per_s: f64,
    /// Bytes per second, uploaded in the load.
    pub up_bytes_per_s: f64,
    /// Bytes per second, downloaded in the load.
    pub down_bytes_per_s: f64,
    /// Files read back from the target and found right.
    pub right: u64,
    /// How long reading back took, in seconds.
    pub verify_s: f64,
    /// Files that were removed again.
    pub cleaned: u64,
    /// Whether all of them were.
    pub is_clean: bool,
}

/// How long something took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How often it was measured.
    pub count: u64,
    /// The shortest.
    pub min_ms: f64,
    /// The mean.
    pub mean_ms: f64,
    /// Half took no longer.
    pub p50_ms: f64,
    /// 90 of 100 took no longer.
    pub p90_ms: f64,
    /// 95 of 100 took no longer.
    pub p95_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// 999 of 1000 took no longer.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// How the files came to one standby.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Arrivals {
    /// Files that should have come.
    pub expected: u64,
    /// Files that came in time.
    pub arrived: u64,
    /// Files read there and found right.
    pub right: u64,
    /// From the answer to CLOSE on the target until the file was seen whole on the standby.
    pub latency: Latency,
    /// How exactly that is known: the longest time between two looks, in milliseconds.
    pub exact_to_ms: f64,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// It was acknowledged and is not there.
    Lost,
    /// Bytes of it are others than were sent.
    Corrupted,
    /// Its end is missing.
    Truncated,
    /// It holds another file of this run.
    Swapped,
    /// More bytes came than were sent, or another size is told than is read.
    WrongSize,
    /// It holds a file of another run.
    Stale,
    /// It is there under two names.
    Duplicate,
    /// It can be read by its name, but its folder does not list it.
    NotListed,
    /// It is in the run's folder, and nobody made it.
    Unexpected,
    /// It is there, and reading it fails.
    Unreadable,
    /// The target has it, the standby has not, in time.
    NotOnStandby,
    /// The standby has something else under its name.
    DiffersOnStandby,
}

impl FaultKind {
    /// What that is, after a number of files: "3 files are ...".
    pub fn text(self) -> &'static str {
        match self {
            FaultKind::Lost => "lost",
            FaultKind::Corrupted => "corrupted",
            FaultKind::Truncated => "truncated",
            FaultKind::Swapped => "swapped with another",
            FaultKind::WrongSize => "of the wrong size",
            FaultKind::Stale => "stale",
            FaultKind::Duplicate => "there twice",
            FaultKind::NotListed => "not listed",
            FaultKind::Unexpected => "not expected",
            FaultKind::Unreadable => "unreadable",
            FaultKind::NotOnStandby => "not on the standby",
            FaultKind::DiffersOnStandby => "different on the standby",
        }
    }
}

/// One file that is lost or wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its path on the server.
    pub file: String,
    /// Which server: its name.
    pub server: String,
    /// What is wrong.
    pub kind: FaultKind,
    /// More of it, in a sentence.
    pub detail: String,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether everything was done and nothing is lost or wrong.
    pub ok: bool,
    /// Whether nothing that was acknowledged is lost or wrong, and that was looked at.
    pub safe: bool,
    /// In one sentence or two.
    pub sentence: String,
}

#[cfg(test)]
pub(crate) mod tests;
