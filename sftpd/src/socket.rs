//! The socket below SSH: reads ahead, and holds small writes back while more input is at hand.
//!
//! russh reads each packet by itself (two system calls) and flushes after each one. With this in between, a burst of
//! small requests costs one read and one write. What is held back is sent no later than when the input runs dry. The
//! read buffer exists only while there is something in it, so that idle connections cost nothing.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::chores::Chores;
use crate::overheard::Overheard;
use crate::pace::{Slot, Turn};
use crate::proxy;

/// Read ahead, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// Held back at most, in bytes.
const CORK_BYTES: usize = 256 * 1024;

/// When a connection has moved something last, and how much it has moved, in bytes on the wire.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    moved_ms: AtomicU64,
    /// From the client.
    pub received: AtomicU64,
    /// To the client.
    pub sent: AtomicU64,
    /// Whether the client's first words are a header of the PROXY protocol.
    pub is_proxied: AtomicBool,
    /// How often something was handed to the socket.
    writes: AtomicU64,
    /// Wakes who waits for the next time.
    next_write: Notify,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock {
            started: Instant::now(),
            moved_ms: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            is_proxied: AtomicBool::new(false),
            writes: AtomicU64::new(0),
            next_write: Notify::new(),
        }
    }
}

impl Clock {
    /// Something moves, or is worked at.
    pub fn moved(&self) {
        self.moved_ms.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// How often russh has handed something to the socket: all that it had, each time.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Acquire)
    }

    /// Waits until it does so again. One that is asked for is not missed, also before it is polled.
    pub fn next_write(&self) -> Notified<'_> {
        self.next_write.notified()
    }

    /// How long ago that was.
    pub fn rest(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.moved_ms.load(Ordering::Relaxed)))
    }
}

/// A stream with buffers on both sides that can be cut from outside.
pub struct Socket<S> {
    stream: S,
    input: BytesMut,
    output: BytesMut,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    reading: Turn,
    writing: Turn,
    /// When something was moved last.
    clock: Arc<Clock>,
    /// Who listens to what the client says first.
    overheard: Option<Arc<Overheard>>,
    when_dry: WhenDry,
    chores: Doing,
}

/// What is done in the connection's task, as long as there is one.
struct Doing(Arc<Chores>);

impl Drop for Doing {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// What is done when the input runs dry, when something is written, and at the end.
struct WhenDry(Box<dyn Fn() + Send>);

impl WhenDry {
    fn run(&self) {
        (self.0)();
    }
}

impl Drop for WhenDry {
    fn drop(&mut self) {
        self.run();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Wraps a stream. When `cut` is over, the connection is as if the client had gone.
    pub fn new(stream: S, cut: WaitForCancellationFutureOwned, slot: &Arc<Slot>, clock: Arc<Clock>) -> Socket<S> {
        Socket {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            cut: Box::pin(cut),
            reading: Turn::to_read(slot.clone()),
            writing: Turn::to_write(slot.clone()),
            clock,
            overheard: None,
            when_dry: WhenDry(Box::new(|| {})),
            chores: Doing(Arc::default()),
        }
    }

    /// Has something done when all that has come in so far has been served.
    pub fn when_dry(self, act: impl Fn() + Send + 'static) -> Socket<S> {
        Socket { when_dry: WhenDry(Box::new(act)), ..self }
    }

    /// Has chores done whenever more input is looked for.
    pub fn with_chores(self, chores: Arc<Chores>) -> Socket<S> {
        Socket { chores: Doing(chores), ..self }
    }

    /// Has somebody listen to what the client says first.
    pub fn overheard_by(self, overheard: Option<Arc<Overheard>>) -> Socket<S> {
        Socket { overheard, ..self }
    }

    /// Fails once the connection was cut. Whoever waits in a read or a write is woken by it.
    fn check_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_cut(context)?;
        // The client may take its time.
        self.when_dry.run();
        while !self.output.is_empty() {
            let sent = ready!(write_at_pace(&mut self.stream, &mut self.writing, &self.clock, context, &self.output))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(sent);
        }
        if self.output.capacity() > CORK_BYTES {
            self.output = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.when_dry.run();
        let piece = ready!(self.reading.poll(context));
        let mut input = BytesMut::zeroed(piece.bytes.min(READ_BYTES));
        let mut space = ReadBuf::new(&mut input);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut space))?;
        let filled = space.filled().len();
        self.reading.pay(piece, filled);
        self.clock.moved();
        input.truncate(filled);
        if self.clock.received.fetch_add(filled as u64, Ordering::Relaxed) == 0 && proxy::is_header(&input) {
            self.clock.is_proxied.store(true, Ordering::Relaxed);
        }
        self.overheard = self.overheard.take().filter(|overheard| overheard.take(&input));
        self.input = input;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_cut(context)?;
        self.chores.0.poll(context);
        if self.input.is_empty() {
            match self.poll_fill(context) {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    // The input has run dry: now the client may be waiting for what was held back. If it does not take
                    // it, the next write will find that out.
                    let _: Poll<()> = self.poll_send(context)?;
                    return Poll::Pending;
                }
            }
        }
        let count = self.input.len().min(buffer.remaining());
        buffer.put_slice(&self.input.split_to(count));
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.clock.writes.fetch_add(1, Ordering::Release);
        self.clock.next_write.notify_waiters();
        if !self.input.is_empty() && self.output.len() + data.len() <= CORK_BYTES {
            self.output.extend_from_slice(data);
            return Poll::Ready(Ok(data.len()));
        }
        ready!(self.poll_send(context))?;
        let Socket { stream, writing, clock, .. } = &mut *self;
        write_at_pace(stream, writing, clock, context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.input.is_empty() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Writes what may go now, and pays for it.
fn write_at_pace<S: AsyncWrite + Unpin>(
    stream: &mut S,
    turn: &mut Turn,
    clock: &Clock,
    context: &mut Context<'_>,
    data: &[u8],
) -> Poll<io::Result<usize>> {
    let piece = ready!(turn.poll(context));
    let data = data.get(..piece.bytes.min(data.len())).unwrap_or_default();
    let sent = ready!(Pin::new(stream).poll_write(context, data))?;
    turn.pay(piece, sent);
    clock.moved();
    clock.sent.fetch_add(sent as u64, Ordering::Relaxed);
    Poll::Ready(Ok(sent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::sync::CancellationToken;

    fn pair() -> (Socket<tokio::io::DuplexStream>, tokio::io::DuplexStream, CancellationToken) {
        let (near, far) = tokio::io::duplex(1024 * 1024);
        let cut = CancellationToken::new();
        (Socket::new(near, cut.clone().cancelled_owned(), &Arc::default(), Arc::default()), far, cut)
    }

    #[tokio::test]
    async fn writes_are_held_back_while_input_is_at_hand_and_sent_when_it_runs_dry() {
        let (mut socket, mut far, _cut) = pair();
        far.write_all(b"two bytes").await.unwrap();
        let mut buffer = [0; 3];
        socket.read_exact(&mut buffer).await.unwrap();
        socket.write_all(b"answer").await.unwrap();
        socket.flush().await.unwrap();
        let mut answer = [0; 6];
        tokio::select! {
            biased;
            _ = far.read(&mut answer) => panic!("sent while input was at hand"),
            () = std::future::ready(()) => {}
        }
        socket.read_exact(&mut [0; 6]).await.unwrap();
        let dry = tokio::spawn(async move {
            let _ = socket.read(&mut [0]).await;
        });
        far.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
        dry.abort();
    }

    #[tokio::test]
    async fn a_cut_ends_a_read_that_waits() {
        let (mut socket, _far, cut) = pair();
        let waiting = tokio::spawn(async move { socket.read(&mut [0]).await.map_err(|error| error.kind()) });
        cut.cancel();
        assert_eq!(waiting.await.unwrap(), Err(io::ErrorKind::ConnectionAborted));
    }
}
