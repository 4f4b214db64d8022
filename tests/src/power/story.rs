//! A load on a logged disk: at which position of the disk's log each step of each writer was sent and acknowledged.
//!
//! A writer does one step at a time, so after any cut exactly two states are right: the one after its last acknowledged
//! step, or the one after the step that was under way. Many writers together make the committer's groups.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pair::client::Client;

use super::disk::LoggedDisk;
use crate::load::{Account, Chance, Step, Writer};

/// Connections that the writers share.
const CONNECTIONS: usize = 4;
const WRITERS: u32 = 12;
/// So many of the writers have large files too: the disk has room for them.
const WRITERS_OF_LARGE: u32 = 3;

/// A step, and where in the log it happened.
#[derive(Clone, Debug)]
pub struct Done {
    /// The step.
    pub step: Step,
    /// The position before its first request.
    pub begun: usize,
    /// The position before the request that makes it happen (an upload's CLOSE).
    pub sent: usize,
    /// The position after its OK.
    pub acknowledged: usize,
}

/// All that the writers did.
pub struct Story {
    /// By writer, in order.
    pub writers: Vec<Vec<Done>>,
}

impl Story {
    /// Where every acknowledgement was received.
    pub fn acknowledged(&self) -> Vec<usize> {
        self.writers.iter().flatten().map(|done| done.acknowledged).collect()
    }
}

/// Runs all writers until `time` has passed.
pub async fn run_load(
    disk: &Arc<LoggedDisk>,
    address: SocketAddr,
    account: &Account,
    time: Duration,
    chance: &Chance,
) -> Story {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(account.connect(address).await);
    }
    let until = Instant::now() + time;
    let writers = (0..WRITERS).map(|number| {
        let writer = Writer::new(number, chance.fork(u64::from(number) + 1), number < WRITERS_OF_LARGE);
        tokio::spawn(write(writer, clients[number as usize % CONNECTIONS].clone(), disk.clone(), until))
    });
    // All end before one's failure is told: a writer that went on would keep the disk from being unmounted.
    let mut ended = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        ended.push(writer.await);
    }
    let story = |writer: Result<_, _>| writer.expect("every step of a writer goes well");
    Story { writers: ended.into_iter().map(story).collect() }
}

async fn write(mut writer: Writer, client: Client, disk: Arc<LoggedDisk>, until: Instant) -> Vec<Done> {
    let mut story = Vec::new();
    let mut next = Some(writer.first_step());
    while Instant::now() < until {
        let Some(step) = next.take().or_else(|| writer.next_step()) else { continue };
        let begun = disk.position();
        let mut sent = begun;
        let result = Writer::send(&client, &step, || sent = disk.position()).await;
        let acknowledged = disk.position();
        result.unwrap_or_else(|error| panic!("{step:?}: {error}"));
        writer.tree.apply(&step);
        story.push(Done { step, begun, sent, acknowledged });
    }
    story
}
