//! What a connection has to do beside the packets that arrive, done in the connection's own task.
//!
//! A task of its own for each would be woken on another thread for every few answers, and the two would wait for each other in turns: half
//! of what a download costs. Here they are polled whenever the connection looks for more input, which it does between any two writes.
//!
//! Always holds: what is under way ends with the connection, and nothing is taken after that.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::task::AtomicWaker;

/// The chores of one connection.
#[derive(Default)]
pub struct Chores {
    // Held while they are polled, by the connection's own task alone.
    list: Mutex<List>,
    connection: AtomicWaker,
}

#[derive(Default)]
struct List {
    chores: FuturesUnordered<BoxFuture<'static, ()>>,
    is_over: bool,
}

impl Chores {
    /// Has something done, soon and bit by bit. It must never block for long, and not call this.
    pub fn take(&self, chore: impl Future<Output = ()> + Send + 'static) {
        let list = self.list();
        if !list.is_over {
            list.chores.push(Box::pin(chore));
            drop(list);
            self.connection.wake();
        }
    }

    /// Goes on with those that can go on. Their wakers wake the connection's task.
    pub fn poll(&self, context: &mut Context<'_>) {
        self.connection.register(context.waker());
        let chores = &mut self.list().chores;
        while let Poll::Ready(Some(())) = chores.poll_next_unpin(context) {}
    }

    /// Drops what is under way.
    pub fn end(&self) {
        let mut list = self.list();
        list.is_over = true;
        let dropped = std::mem::take(&mut list.chores);
        drop(list);
        drop(dropped);
    }

    fn list(&self) -> MutexGuard<'_, List> {
        // A chore that panics ends its connection's task, and all of them with it.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;
    use futures::task::noop_waker;
    use tokio::sync::Notify;

    use super::*;

    #[test]
    fn a_chore_goes_on_when_it_is_woken_and_is_gone_when_it_is_done() {
        let (chores, more, done) = (Chores::default(), Arc::new(Notify::new()), Arc::new(()));
        let (told, held) = (more.clone(), done.clone());
        chores.take(async move {
            told.notified().await;
            drop(held);
        });
        let waker = noop_waker();
        chores.poll(&mut Context::from_waker(&waker));
        assert_eq!(Arc::strong_count(&done), 2);
        more.notify_waiters();
        chores.poll(&mut Context::from_waker(&waker));
        assert_eq!(Arc::strong_count(&done), 1);
    }

    #[test]
    fn what_is_under_way_ends_with_the_connection_and_nothing_is_taken_after_it() {
        let (chores, held) = (Chores::default(), Arc::new(()));
        for _ in 0..2 {
            let value = held.clone();
            chores.take(async move {
                std::future::pending::<()>().await;
                drop(value);
            });
            chores.end();
            assert_eq!(Arc::strong_count(&held), 1);
        }
    }

    #[tokio::test]
    async fn a_new_chore_wakes_a_connection_that_waits() {
        let chores = Arc::new(Chores::default());
        let (begun, seen) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (polled, waiting) = (chores.clone(), begun.clone());
        let connection = tokio::spawn(std::future::poll_fn(move |context| {
            polled.poll(context);
            waiting.notify_one();
            Poll::<()>::Pending
        }));
        begun.notified().await;
        let told = seen.clone();
        chores.take(async move { told.notify_one() });
        tokio::time::timeout(std::time::Duration::from_secs(20), seen.notified()).await.unwrap();
        assert!(connection.now_or_never().is_none());
    }
}
