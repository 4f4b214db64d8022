//! What opening a volume does with its journal: the epoch, what a crash has left, and the hashes that are read later.

use std::sync::mpsc::SyncSender;

use anyhow::Context;
use pair::epoch::Epoch;
use pair::node::{Node, Role};

use super::super::change::note_stat;
use super::super::committer::{Job, Queue, Unhashed};
use super::super::journal::{Chapter, Opened, UploadRow};
use super::super::recovery::{Recovery, hash_of};

/// Files whose hash waits to be read; past it they stay without.
const HASHES_MAX: usize = 256;

/// The epoch that changes belong to from now on. A journal that was lost begins another, so that no position of before
/// is taken for one of now.
pub(super) fn epoch_of(node: &mut Node, opened: &Opened) -> anyhow::Result<Epoch> {
    let epoch = match (&node.epoch, &opened.epoch) {
        // What a standby is told to do is the master's to number.
        (None, _) if node.role == Role::Standby => {
            return Ok(Epoch { counter: 0, id: "0".repeat(16), parent: None, from: None });
        }
        (None, _) => Epoch::first()?,
        (Some(epoch), None) if node.role == Role::Master => {
            tracing::warn!("the journal is gone: its changes are told as a new epoch, and standbys reconcile");
            epoch.next()?
        }
        (Some(epoch), _) => epoch.clone(),
    };
    node.epoch = Some(epoch.clone());
    Ok(epoch)
}

pub(super) fn boot_is_new(opened: &Opened) -> anyhow::Result<bool> {
    Ok(opened.boot.is_some() && opened.boot != Some(boot_id()?))
}

/// The system's boot: while it is the same, what was written is there, flushed or not.
fn boot_id() -> anyhow::Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?.trim().to_owned())
}

/// Decides what is undecided and notes that a run has begun. Gives the uploads that can be continued, and what the journal's numbers
/// belong to.
pub(super) fn recover(
    recovery: &Recovery<'_>,
    opened: &mut Opened,
    epoch: &Epoch,
) -> anyhow::Result<(Vec<UploadRow>, Chapter)> {
    let journal = &mut opened.journal;
    let decided = recovery.decide(journal)?;
    let uploads = recovery.uploads(journal)?;
    if !opened.was_clean {
        tracing::warn!(decided, unfinished = uploads.len(), "the run before did not end well: the journal has a gap");
    }
    // A journal that begins on a volume with files knows nothing of them.
    let begins_late = opened.epoch.is_none() && recovery.has_files()?;
    if !opened.was_clean || begins_late {
        journal.mark(jiff::Timestamp::now().as_millisecond())?;
    }
    let chapter = journal.begin_run(epoch, &boot_id()?)?;
    Ok((uploads, chapter))
}

/// Starts the thread that reads the hash of files which did not come in order.
pub(super) fn start_hashing(queue: Queue) -> std::io::Result<SyncSender<Unhashed>> {
    let (hashing, files) = std::sync::mpsc::sync_channel::<Unhashed>(HASHES_MAX);
    let hash = move |Unhashed { record, stage }: Unhashed| {
        // A file that was written in place meanwhile is no longer the one that was recorded.
        let is_the_same = || {
            let mut now = record.clone();
            rustix::fs::fstat(stage.file()).is_ok_and(|stat| {
                note_stat(&mut now, &stat);
                (now.size, now.mtime_ns) == (record.size, record.mtime_ns)
            })
        };
        if is_the_same()
            && let Ok(hash) = hash_of(&stage.file())
            && is_the_same()
        {
            queue.send(Job::Hash(record.seq, hash));
        }
    };
    std::thread::Builder::new().name("hasher".into()).spawn(move || files.into_iter().for_each(hash))?;
    Ok(hashing)
}
