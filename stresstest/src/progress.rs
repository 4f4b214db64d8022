//! How a run is doing: a snapshot, swapped whole about four times a second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::identity::RunId;
use crate::plan::Operation;

/// Points that are kept of a run; with more, neighbours are joined.
pub const POINTS_MAX: usize = 600;

/// What a run is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Looks whether all is as it must be, and removes what an earlier run has left.
    Preparing,
    /// Loads the target.
    Loading,
    /// Reads every file back from the target.
    Verifying,
    /// Waits for the files on the standbys and reads them there.
    CheckingStandby,
    /// Removes its files.
    Cleaning,
    /// It is over, and its report is there.
    Done,
}

impl Phase {
    /// What it is doing, for people.
    pub fn text(self) -> &'static str {
        match self {
            Phase::Preparing => "preparing",
            Phase::Loading => "loading",
            Phase::Verifying => "reading every file back",
            Phase::CheckingStandby => "checking the standby",
            Phase::Cleaning => "removing the files again",
            Phase::Done => "done",
        }
    }
}

/// How often something was done, and how often it failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Done.
    pub ok: u64,
    /// Failed.
    pub failed: u64,
}

/// One moment of a run, over the time since the point before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Seconds since the run began, at the end of the moment.
    pub t_s: f64,
    /// Bytes uploaded per second.
    pub up_bytes_per_s: f64,
    /// Bytes downloaded per second.
    pub down_bytes_per_s: f64,
    /// Operations done per second.
    pub operations_per_s: f64,
    /// Half of the operations took no longer, in milliseconds; 0 where nothing was done.
    pub p50_ms: f64,
    /// 95 of 100 took no longer.
    pub p95_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// Operations that failed.
    pub errors: u64,
    /// How far the standby is behind, in milliseconds; with several, the slowest. None where none is looked at.
    pub standby_lag_ms: Option<f64>,
}

/// How a run is doing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Progress {
    /// The run; none before the first.
    pub run: Option<RunId>,
    /// What it is at.
    pub phase: Phase,
    /// What is said of that, if anything: what is being waited for, or why the run ended early.
    pub sentence: Option<String>,
    /// Since it began, in milliseconds.
    pub elapsed_ms: u64,
    /// Files that are to be uploaded.
    pub planned_files: u64,
    /// Their bytes.
    pub planned_bytes: u64,
    /// When the load ends at the latest, in milliseconds from the beginning of the load.
    pub planned_ms: Option<u64>,
    /// Clients at work.
    pub clients: usize,
    /// What was done so far.
    pub done: BTreeMap<Operation, Counts>,
    /// Bytes uploaded.
    pub bytes_up: u64,
    /// Bytes downloaded in the load; verification is not in it.
    pub bytes_down: u64,
    /// Operations that failed, by what went wrong.
    pub errors: BTreeMap<String, u64>,
    /// The course so far, at most [`POINTS_MAX`].
    pub points: Vec<Point>,
    /// Files that the target has acknowledged: what must be there.
    pub acknowledged: u64,
    /// Of these, how many were read back from the target so far.
    pub verified: u64,
    /// Files seen on a standby, all standbys together.
    pub arrived: u64,
    /// How many that must become.
    pub arrived_expected: u64,
    /// Of these, how many were read back from the standbys so far.
    pub arrived_verified: u64,
    /// Files that were found lost or wrong so far.
    pub faults: u64,
    /// Files removed again.
    pub cleaned: u64,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress {
            run: None,
            phase: Phase::Done,
            sentence: None,
            elapsed_ms: 0,
            planned_files: 0,
            planned_bytes: 0,
            planned_ms: None,
            clients: 0,
            done: BTreeMap::new(),
            bytes_up: 0,
            bytes_down: 0,
            errors: BTreeMap::new(),
            points: Vec::new(),
            acknowledged: 0,
            verified: 0,
            arrived: 0,
            arrived_expected: 0,
            arrived_verified: 0,
            faults: 0,
            cleaned: 0,
        }
    }
}

impl Progress {
    /// Whether a run is under way.
    pub fn is_running(&self) -> bool {
        self.run.is_some() && self.phase != Phase::Done
    }
}
