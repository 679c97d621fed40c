//! A TCP stream that gives up on a client that keeps it waiting, depending on where the
//! connection stands: between requests, inside a request's head, or at work.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Limits;

/// Hyper's buffer for a head; it looks at the limit between reads that double, so up to twice as
/// much gets through, and what is longer is refused with 431.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// A head is kept up to this size: more than hyper lets through.
const KEPT_HEAD_BYTES: usize = 4 * HEAD_BYTES_MAX;

/// Where a connection stands. The number grows with every change, so that two stays in the same
/// kind of phase are told apart; its rest by three is the kind.
#[derive(Debug, Default)]
pub(super) struct Phase {
    step: AtomicU64,
    head: Mutex<Vec<u8>>,
}

/// Kinds of phase, in the order they follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Head,
    Busy,
    Idle,
}

impl Phase {
    fn kind(step: u64) -> Kind {
        match step % 3 {
            0 => Kind::Head,
            1 => Kind::Busy,
            _ => Kind::Idle,
        }
    }

    fn step(&self) -> u64 {
        self.step.load(Ordering::Acquire)
    }

    /// Goes on to the next phase of that kind; nothing happens if it is the current one.
    fn enter(&self, kind: Kind) {
        let mut step = self.step();
        while Self::kind(step) != kind {
            step += 1;
        }
        self.step.store(step, Ordering::Release);
    }

    /// Bytes came in. Between requests they begin the next head.
    fn received(&self, bytes: &[u8]) {
        match Self::kind(self.step()) {
            Kind::Busy => return,
            Kind::Idle => self.enter(Kind::Head),
            Kind::Head => {}
        }
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT_HEAD_BYTES.saturating_sub(head.len());
        head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// A head is complete. Gives its bytes as they came; empty if it came along with the request
    /// before.
    pub(super) fn begin_request(&self) -> Vec<u8> {
        self.enter(Kind::Busy);
        std::mem::take(&mut *self.head.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The response is over.
    pub(super) fn end_request(&self) {
        self.enter(Kind::Idle);
    }
}

/// How many lines of the first head in these bytes begin with `Content-Length:`.
pub(super) fn content_lengths(head: &[u8]) -> usize {
    head.split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split(|byte| *byte == b':').next())
        .filter(|name| name.eq_ignore_ascii_case(b"content-length"))
        .count()
}

/// The stream of one connection.
#[derive(Debug)]
pub(super) struct BoundedStream {
    stream: TcpStream,
    limits: Limits,
    phase: Arc<Phase>,
    /// The step the deadline was set for.
    read_step: Option<u64>,
    read_deadline: Pin<Box<Sleep>>,
    write_deadline: Option<Pin<Box<Sleep>>>,
}

impl BoundedStream {
    pub(super) fn new(stream: TcpStream, limits: Limits, phase: Arc<Phase>) -> Self {
        let now = Instant::now();
        Self {
            stream,
            limits,
            phase,
            read_step: None,
            read_deadline: Box::pin(sleep_until(now)),
            write_deadline: None,
        }
    }

    /// Pending while there is time; at work there is no limit here.
    fn poll_read_deadline(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let step = self.phase.step();
        let limit = match Phase::kind(step) {
            Kind::Busy => return Poll::Pending,
            Kind::Head => self.limits.head,
            Kind::Idle => self.limits.idle,
        };
        if self.read_step != Some(step) {
            self.read_step = Some(step);
            self.read_deadline.as_mut().reset(Instant::now() + limit);
        }
        ready!(self.read_deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Passes on what writing gave, unless it has given nothing for too long.
    fn poll_written<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_deadline = None;
            return written;
        }
        let limit: Duration = self.limits.write;
        let deadline = self
            .write_deadline
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                let bytes = &buffer.filled()[before..];
                if !bytes.is_empty() {
                    self.phase.received(bytes);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_read_deadline(context),
        }
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.poll_written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.poll_written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_head_is_searched_for_a_length() {
        let two = b"POST / HTTP/1.1\r\ncontent-LENGTH: 3\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(content_lengths(two), 2);
        let in_body = b"POST / HTTP/1.1\r\nhost: x\r\n\r\nContent-Length: 3\r\n";
        assert_eq!(content_lengths(in_body), 0);
        assert_eq!(content_lengths(b""), 0);
    }

    #[test]
    fn phases_follow_each_other_and_each_stay_is_its_own() {
        let phase = Phase::default();
        phase.received(b"GET /");
        assert_eq!(phase.begin_request(), b"GET /");
        phase.received(b"body");
        let busy = phase.step();
        phase.end_request();
        assert_eq!(Phase::kind(phase.step()), Kind::Idle);
        phase.received(b"GET /2");
        assert_eq!(Phase::kind(phase.step()), Kind::Head);
        assert_eq!(phase.begin_request(), b"GET /2");
        assert!(phase.step() > busy);
    }
}
