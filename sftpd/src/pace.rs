//! How fast the sessions of an account may go: bytes per second over the wire, one limit for all of them together.
//!
//! Each session pays for what it has moved before it moves more. Who has to wait takes its place in line, so sessions that
//! go on at the same time take turns. What SSH adds to content (about one part in a thousand) counts.

use std::future::Future;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::accounts::Account;

/// What may be moved at once after a pause, as time at full speed.
const BURST: Duration = Duration::from_millis(100);

/// The least that is moved in one go, in bytes.
const PIECE_BYTES_MIN: usize = 512;

/// One direction of one account.
#[derive(Debug)]
pub struct Pace {
    // Held for a few lines, never across an await.
    line: Mutex<Line>,
}

#[derive(Debug)]
struct Line {
    bytes_per_s: Option<NonZeroU32>,
    /// When all that was moved so far is paid for.
    paid: Instant,
}

impl Pace {
    /// At a speed, or without limit.
    pub fn new(bytes_per_s: Option<NonZeroU32>) -> Pace {
        Pace { line: Mutex::new(Line { bytes_per_s, paid: Instant::now() }) }
    }

    fn line(&self) -> std::sync::MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another speed, from now on. What is owed at the old one is forgotten but for a moment's worth.
    fn set(&self, bytes_per_s: Option<NonZeroU32>) {
        let mut line = self.line();
        if line.bytes_per_s != bytes_per_s {
            line.bytes_per_s = bytes_per_s;
            line.paid = line.paid.min(Instant::now() + BURST);
        }
    }

    /// What may be moved in one go: an eighth of a second's worth, so that a new speed counts soon.
    fn piece(&self) -> Piece {
        let bytes_per_s = self.line().bytes_per_s;
        let bytes = bytes_per_s.map_or(usize::MAX, |rate| (rate.get() as usize / 8).max(PIECE_BYTES_MIN));
        Piece { bytes, bytes_per_s }
    }

    /// Takes a place in the line for bytes that were moved; tells when they are paid for.
    fn pay(&self, piece: Piece, bytes: usize) -> Option<Instant> {
        let cost = Duration::from_secs_f64(bytes as f64 / f64::from(piece.bytes_per_s?.get()));
        let (mut line, now) = (self.line(), Instant::now());
        // After a pause, a little may be moved at once.
        line.paid = line.paid.max(now.checked_sub(BURST).unwrap_or(now)) + cost;
        Some(line.paid).filter(|paid| *paid > now)
    }

    fn is_in_debt(&self) -> bool {
        self.line().paid > Instant::now()
    }
}

/// How much may be moved now, and at what speed it is paid for.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Bytes.
    pub bytes: usize,
    bytes_per_s: Option<NonZeroU32>,
}

/// The two directions of an account.
#[derive(Debug)]
pub struct Paces {
    upload: Pace,
    download: Pace,
}

impl Default for Paces {
    fn default() -> Paces {
        Paces { upload: Pace::new(None), download: Pace::new(None) }
    }
}

impl Paces {
    /// Whether something is not paid for yet: a new session of the account starts with that.
    pub fn are_in_debt(&self) -> bool {
        self.upload.is_in_debt() || self.download.is_in_debt()
    }

    /// As an account has it.
    pub fn set(&self, account: &Account) {
        self.upload.set(account.upload_bytes_per_s);
        self.download.set(account.download_bytes_per_s);
    }
}

/// Where a connection finds its paces, once somebody has logged in.
#[derive(Debug, Default)]
pub struct Slot {
    paces: OnceLock<Arc<Paces>>,
    is_released: AtomicBool,
}

impl Slot {
    /// Somebody has logged in.
    pub fn set(&self, paces: Arc<Paces>) {
        let _ = self.paces.set(paces);
    }

    /// The connection must end: what it still says goes as fast as it can.
    pub fn release(&self) {
        self.is_released.store(true, Ordering::Relaxed);
    }

    fn pace(&self, of: fn(&Paces) -> &Pace) -> Option<&Pace> {
        self.paces.get().filter(|_| !self.is_released.load(Ordering::Relaxed)).map(|paces| of(paces))
    }
}

/// One connection's place in one line.
#[derive(Debug)]
pub struct Turn {
    slot: Arc<Slot>,
    of: fn(&Paces) -> &Pace,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Turn {
    /// For what comes from the client.
    pub fn to_read(slot: Arc<Slot>) -> Turn {
        Turn { slot, of: |paces| &paces.upload, waiting: None }
    }

    /// For what goes to it.
    pub fn to_write(slot: Arc<Slot>) -> Turn {
        Turn { slot, of: |paces| &paces.download, waiting: None }
    }

    /// Ready when what was moved before is paid for; tells how much may be moved now.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        let pace = self.slot.pace(self.of);
        if let (Some(waiting), Some(_)) = (&mut self.waiting, pace) {
            std::task::ready!(waiting.as_mut().poll(context));
        }
        self.waiting = None;
        Poll::Ready(pace.map_or(Piece { bytes: usize::MAX, bytes_per_s: None }, Pace::piece))
    }

    /// Pays for bytes that were moved.
    pub fn pay(&mut self, piece: Piece, bytes: usize) {
        let paid = self.slot.pace(self.of).and_then(|pace| pace.pay(piece, bytes));
        self.waiting = paid.map(|paid| Box::pin(tokio::time::sleep_until(paid)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(bytes_per_s: u32) -> Arc<Paces> {
        let account = Account { upload_bytes_per_s: NonZeroU32::new(bytes_per_s), ..Account::default() };
        let paces = Arc::new(Paces::default());
        paces.set(&account);
        paces
    }

    /// How many bytes each of some sessions moves in some time, in pieces of its own size.
    async fn moved(paces: &Arc<Paces>, sizes: &[usize], time: Duration) -> Vec<usize> {
        let end = Instant::now() + time;
        let go = async |size: usize| {
            let slot = Arc::new(Slot::default());
            slot.set(paces.clone());
            let (mut turn, mut total) = (Turn::to_read(slot), 0);
            loop {
                let piece = std::future::poll_fn(|context| turn.poll(context)).await;
                if Instant::now() >= end {
                    return total;
                }
                total += size.min(piece.bytes);
                turn.pay(piece, size.min(piece.bytes));
            }
        };
        futures::future::join_all(sizes.iter().map(|size| go(*size))).await
    }

    #[tokio::test(start_paused = true)]
    async fn all_sessions_together_keep_to_the_limit_and_share_it() {
        let paces = limited(1_000_000);
        let moved_alone: usize = moved(&paces, &[10_000], Duration::from_secs(20)).await.iter().sum();
        assert!((19_000_000..21_000_000).contains(&moved_alone), "{moved_alone}");
        let shared = moved(&paces, &[10_000; 4], Duration::from_secs(20)).await;
        let total: usize = shared.iter().sum();
        assert!((19_000_000..21_000_000).contains(&total), "{shared:?}");
        assert!(shared.iter().all(|share| (4_500_000..5_500_000).contains(share)), "{shared:?}");
        paces.upload.set(NonZeroU32::new(100_000));
        let slower: usize = moved(&paces, &[10_000], Duration::from_secs(20)).await.iter().sum();
        assert!((1_900_000..2_100_000).contains(&slower), "{slower}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_not_made_up_for_and_no_limit_waits_for_nothing() {
        let paces = limited(1_000_000);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let after: usize = moved(&paces, &[10_000], Duration::from_secs(1)).await.iter().sum();
        assert!(after <= 1_200_000, "{after}");
        let free = Pace::new(None);
        assert!(free.pay(free.piece(), usize::MAX).is_none());
    }
}
