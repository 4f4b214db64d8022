//! Reads both sides and what was agreed on, side by side, and keeps what a plan must see.
//!
//! Nothing is held whole: each side comes in the order of its paths, a bounded number of entries ahead of the others. A side
//! that breaks off makes the survey worth nothing, because what is missing then is not absent.

use futures::{FutureExt, TryFutureExt};
use tokio::sync::mpsc;

use crate::courier::Courier;
use crate::follower::Follower;
use crate::listing::{self, Unseen};
use crate::plan::Comparison;
use crate::remote::{self, Remote};
use crate::source::Source;
use crate::tree::{Base, Entry, Path, Seen};

/// Entries that a side hands over at once,
const BATCH_ENTRIES: usize = 1000;
/// and batches that may wait.
const BATCHES_MAX: usize = 4;

type Batch<T> = Vec<(Path, T)>;

/// What was found.
pub struct Survey {
    /// What differs.
    pub comparison: Comparison,
    /// What of this machine's side could not be seen.
    pub ours: Unseen,
    /// What of the standby's.
    pub theirs: Unseen,
}

/// Compares everything, if the data folder is the right one all the time.
pub async fn run(follower: &Follower, courier: &Courier) -> Result<Survey, String> {
    // What the feed brought before the pass began is to be known.
    courier.ledger.flush().await?;
    let volume = follower.check_volume().await?;
    let (our_batches, ours) = mpsc::channel(BATCHES_MAX);
    let (their_batches, theirs) = mpsc::channel(BATCHES_MAX);
    let (base_batches, bases) = mpsc::channel(BATCHES_MAX);
    let source = courier.source.clone();
    let walk_ours = tokio::task::spawn_blocking(move || walk_ours(&source, &our_batches));
    // Where one of them breaks off the others do too.
    let (comparison, ours, theirs, ()) = futures::try_join!(
        compare(courier.remote.lsetstat, Side::new(ours), Side::new(theirs), Side::new(bases)).map(Ok),
        walk_ours.map_err(|_| "listing the data folder broke off".to_owned()),
        walk_theirs(&courier.remote, their_batches).map_err(|error| error.to_string()),
        read_bases(follower, base_batches),
    )?;
    // Unmounted meanwhile, perhaps: then the listing is worth nothing.
    if follower.check_volume().await? != volume {
        return Err("the data folder was exchanged during the pass".into());
    }
    Ok(Survey { comparison, ours, theirs })
}

/// One side: its entries in the order of their paths.
struct Side<T> {
    batches: mpsc::Receiver<Batch<T>>,
    batch: std::vec::IntoIter<(Path, T)>,
    next: Option<(Path, T)>,
}

impl<T> Side<T> {
    fn new(batches: mpsc::Receiver<Batch<T>>) -> Side<T> {
        Side { batches, batch: Vec::new().into_iter(), next: None }
    }

    /// The path that comes next; nothing at the end.
    async fn path(&mut self) -> Option<&Path> {
        while self.next.is_none() {
            self.next = self.batch.next();
            if self.next.is_none() {
                self.batch = self.batches.recv().await?.into_iter();
            }
        }
        self.next.as_ref().map(|(path, _)| path)
    }

    /// What this side has at a path, which is none that comes after the next.
    fn take(&mut self, path: &Path) -> Option<T> {
        self.next.take_if(|(next, _)| next == path).map(|(_, value)| value)
    }
}

async fn compare(link_times: bool, mut ours: Side<Entry>, mut theirs: Side<Seen>, mut bases: Side<Base>) -> Comparison {
    let mut comparison = Comparison::new(link_times);
    loop {
        let heads = [ours.path().await, theirs.path().await, bases.path().await];
        let Some(path) = heads.into_iter().flatten().min().cloned() else { return comparison };
        let (ours, theirs, base) = (ours.take(&path), theirs.take(&path), bases.take(&path));
        comparison.add(path, ours, theirs, base);
    }
}

fn walk_ours(source: &Source, batches: &mpsc::Sender<Batch<Entry>>) -> Unseen {
    let mut walk = listing::Walk::new(source);
    loop {
        let batch: Batch<_> = walk.by_ref().take(BATCH_ENTRIES).collect();
        // Nobody listens any more when the pass has broken off.
        if batch.is_empty() || batches.blocking_send(batch).is_err() {
            return walk.unseen;
        }
    }
}

async fn walk_theirs(remote: &Remote, batches: mpsc::Sender<Batch<Seen>>) -> pair::client::Result<Unseen> {
    let mut walk = remote::Walk::below(remote, b"");
    loop {
        let mut batch = Vec::new();
        while batch.len() < BATCH_ENTRIES
            && let Some(found) = walk.next().await?
        {
            batch.push(found);
        }
        if batch.is_empty() || batches.send(batch).await.is_err() {
            return Ok(walk.unseen);
        }
    }
}

async fn read_bases(follower: &Follower, batches: mpsc::Sender<Batch<Base>>) -> Result<(), String> {
    let mut last = Path::new();
    loop {
        let after = last;
        let batch = follower.stored(move |store, _| store.bases_after(&after, BATCH_ENTRIES)).await?;
        let Some((path, _)) = batch.last() else { return Ok(()) };
        last = path.clone();
        if batches.send(batch).await.is_err() {
            return Ok(());
        }
    }
}
