//! One operation: chosen, done, timed and counted.

use std::sync::atomic::Ordering;
use std::time::Instant;

use pair::client::{Client, Handle, Pending};
use pair::wire::{Code, open_flag};

use super::{Chance, Load, NOTHING_FREE, Operation, Stretch, Trouble, VecDeque};
use crate::content::{Content, LARGE_BYTES, Wrong};
use crate::files::{Claim, Renamed, name};
use crate::report::{FaultKind, Finding};
use crate::server::PIECES_MAX;

/// The mode of the files.
const FILE_MODE: u32 = 0o640;

/// Pieces that were sent and not answered yet, with their bytes.
type Sent = VecDeque<(Pending, u64)>;

impl Load {
    /// Does the next thing. What failed was counted.
    pub(super) async fn step(&self, client: &Client, chance: &mut Chance, stretch: &Stretch) -> Result<(), Trouble> {
        let operation = self.choose(chance, stretch);
        let began = Instant::now();
        let outcome = match operation {
            Operation::Download => match self.files.claim_to_read(chance.next()) {
                Some(claim) if stretch.take() => self.asked(operation, self.download(client, claim)).await,
                claim => return self.nothing_to_do(claim, stretch).await,
            },
            Operation::Rename => match self.files.claim_to_rename(chance.next()) {
                Some(claim) if stretch.take() => self.asked(operation, self.rename(client, claim)).await,
                claim => {
                    claim.into_iter().for_each(|claim| self.files.renamed(claim, Renamed::Refused));
                    return self.nothing_to_do(None, stretch).await;
                }
            },
            Operation::List if stretch.take() => self.asked(operation, self.list(client, chance)).await,
            Operation::List => return Ok(()),
            _ => match self.files.begin() {
                Some(number) => self.asked(operation, self.upload(client, number, began)).await,
                None => {
                    stretch.is_over.store(true, Ordering::Relaxed);
                    return Ok(());
                }
            },
        };
        match &outcome {
            Ok(()) => self.tally.done(operation, began.elapsed()),
            Err(trouble) => self.tally.failed(operation, trouble.kind()),
        }
        outcome
    }

    /// Asks the server for something. Where the load ends before the answer, that counts as a failure.
    async fn asked<T>(&self, operation: Operation, question: impl Future<Output = T>) -> T {
        let mut unanswered = Unanswered { load: self, operation, is_over: false };
        let answer = question.await;
        unanswered.is_over = true;
        answer
    }

    /// What comes next. As long as there is no file to work with, that is an upload where there are any.
    fn choose(&self, chance: &mut Chance, stretch: &Stretch) -> Operation {
        let mix = &stretch.mix;
        let place = (chance.next() % 100) as u32;
        let shares =
            [(mix.upload, Operation::Upload), (mix.download, Operation::Download), (mix.list, Operation::List)];
        let mut below = 0;
        let chosen = shares.into_iter().find_map(|(share, operation)| {
            below += share;
            (place < below).then_some(operation)
        });
        match chosen.unwrap_or(Operation::Rename) {
            Operation::Download | Operation::Rename if mix.upload > 0 && self.files.acknowledged() == 0 => {
                Operation::Upload
            }
            operation => operation,
        }
    }

    /// Every file is in other hands, or no operation is left.
    async fn nothing_to_do(&self, claim: Option<Claim>, stretch: &Stretch) -> Result<(), Trouble> {
        if let Some(claim) = claim {
            self.files.give_back(claim);
        }
        if self.files.acknowledged() == 0 && stretch.mix.upload == 0 {
            stretch.is_over.store(true, Ordering::Relaxed);
        }
        if stretch.goes_on() {
            tokio::time::sleep(NOTHING_FREE).await;
        }
        Ok(())
    }

    /// A new file. It is acknowledged when every WRITE and CLOSE were answered with OK.
    async fn upload(&self, client: &Client, number: u64, began: Instant) -> Result<(), Trouble> {
        let content = self.content(number).await;
        let path = self.files.path(number, 0);
        let flags = open_flag::WRITE | open_flag::CREAT | open_flag::TRUNC;
        let handle = self.server.patiently(client.open(path.as_bytes(), flags, Some(FILE_MODE))).await?;
        match self.send(client, &handle, content).await {
            Ok(pending) => self.finish(client, handle, pending).await?,
            Err(trouble) => {
                // The server gets its handle back; it must not publish a file of which a part is missing.
                if !trouble.is_lost() {
                    let _what_failed_first_counts = self.server.patiently(client.close(handle)).await;
                }
                return Err(trouble);
            }
        }
        self.files.acknowledge(number, self.tally.elapsed(), began.elapsed());
        self.tally.acknowledged.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn content(&self, number: u64) -> Content {
        if self.contents.size(number) < LARGE_BYTES {
            return self.contents.content(number);
        }
        let contents = self.contents.clone();
        let made = tokio::task::spawn_blocking(move || contents.content(number)).await;
        made.unwrap_or_else(|_| self.contents.content(number))
    }

    /// Sends the pieces; the last of them are not answered yet.
    async fn send(&self, client: &Client, handle: &Handle, mut content: Content) -> Result<Sent, Trouble> {
        let (mut pending, mut offset) = (Sent::new(), 0);
        while let Some(piece) = content.next(client.write_bytes_max()) {
            if pending.len() >= PIECES_MAX
                && let Some((answer, bytes)) = pending.pop_front()
            {
                self.written(answer, bytes).await?;
            }
            let answer = self.server.patiently(client.begin_write(handle, offset, &piece)).await?;
            offset += piece.len() as u64;
            pending.push_back((answer, piece.len() as u64));
        }
        Ok(pending)
    }

    /// CLOSE travels with the last pieces, and counts only if all of them were answered with OK.
    async fn finish(&self, client: &Client, handle: Handle, pending: Sent) -> Result<(), Trouble> {
        let closed = self.server.patiently(client.begin_close(&handle)).await?;
        let mut written = Ok(());
        for (answer, bytes) in pending {
            written = written.and(self.written(answer, bytes).await);
        }
        let closed = self.server.patiently(closed.done()).await;
        written.and(closed)
    }

    async fn written(&self, answer: Pending, bytes: u64) -> Result<(), Trouble> {
        self.server.patiently(answer.done()).await?;
        self.tally.bytes_up.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// A file of this run, read whole and looked at.
    async fn download(&self, client: &Client, claim: Claim) -> Result<(), Trouble> {
        let Claim { number, renames } = claim;
        let path = self.files.path(number, renames);
        let (size, judge) = (self.contents.size(number), self.contents.judge(number));
        let read = self.server.read(client, &path, size, judge, &self.tally.bytes_down).await;
        self.files.give_back(claim);
        let (kind, detail) = match &read {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(wrong)) => (wrong.kind(), wrong.to_string()),
            Err(trouble) if trouble.is_missing() => {
                (FaultKind::Lost, "it was acknowledged, and OPEN says that there is no such file".to_owned())
            }
            Err(_) => return read.map(|_| ()),
        };
        let server = self.server.name().to_owned();
        self.tally.fault(&name(number, 0), Finding { file: path, server, kind, detail });
        // It counts among the failed operations, too.
        read?.map_err(|wrong| Trouble::Answer { code: Code::Failure, message: format!("wrong content: {wrong}") })
    }

    async fn list(&self, client: &Client, chance: &mut Chance) -> Result<(), Trouble> {
        let folders = self.files.begun().div_ceil(crate::files::FOLDER_FILES).max(1);
        let folder = self.files.folder(chance.next() % folders);
        self.server.list(client, &folder).await.map(|_| ())
    }

    async fn rename(&self, client: &Client, claim: Claim) -> Result<(), Trouble> {
        let (from, to) =
            (self.files.path(claim.number, claim.renames), self.files.path(claim.number, claim.renames + 1));
        let mut naming = Naming { load: self, claim, outcome: Renamed::Unknown };
        let renamed = self.server.patiently(client.rename(from.as_bytes(), to.as_bytes())).await;
        naming.outcome = match &renamed {
            Ok(()) => Renamed::Done,
            Err(trouble) if trouble.is_lost() => Renamed::Unknown,
            Err(_) => Renamed::Refused,
        };
        renamed
    }
}

/// An operation under way. Where the load ends and its last moments pass without an answer, that is counted as a failure: a server
/// that has stopped answering must not look well.
struct Unanswered<'a> {
    load: &'a Load,
    operation: Operation,
    is_over: bool,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.load.tally.failed(self.operation, "not answered when the load ended".to_owned());
        }
    }
}

/// A file between two names. Also where the load ends in the middle of it, what is known of it is noted.
struct Naming<'a> {
    load: &'a Load,
    claim: Claim,
    outcome: Renamed,
}

impl Drop for Naming<'_> {
    fn drop(&mut self) {
        self.load.files.renamed(self.claim, self.outcome);
    }
}

impl Wrong {
    /// What that is in a report.
    pub fn kind(&self) -> FaultKind {
        match self {
            Wrong::Truncated { .. } => FaultKind::Truncated,
            Wrong::TooLong { .. } => FaultKind::WrongSize,
            Wrong::Swapped { .. } => FaultKind::Swapped,
            Wrong::Stale { .. } => FaultKind::Stale,
            Wrong::Corrupted { .. } => FaultKind::Corrupted,
        }
    }
}
