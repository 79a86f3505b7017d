//! The answers of one connection that are on their way, and whether its client still takes them.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Looks at the answers within the time a client has.
const LOOKS: u32 = 4;

/// HTTP has no word for a client that takes nothing more, and an HTTP/2 client keeps a connection
/// alive while its windows are closed: so what was not taken yet is known here.
#[derive(Clone, Default)]
pub(super) struct Answers(Arc<Mutex<Vec<Weak<Answer>>>>);

struct Answer(Mutex<State>);

struct State {
    /// When something of it was taken last, or it began.
    moved: Instant,
    /// Pieces that the connection has and the client has not.
    pieces: usize,
    /// The next piece is not there yet, which is no fault of the client's.
    reads: bool,
}

impl Answers {
    /// A body that is seen until its last byte is taken.
    pub fn watch<B>(&self, body: B) -> Watched<B> {
        let state = State { moved: Instant::now(), pieces: 0, reads: false };
        let answer = Arc::new(Answer(Mutex::new(state)));
        let mut answers = self.0.lock();
        if answers.len() == answers.capacity() {
            answers.retain(|answer| answer.strong_count() > 0);
        }
        answers.push(Arc::downgrade(&answer));
        Watched { inner: body, answer }
    }

    /// Returns when the client has taken nothing of some answer for `patience`.
    pub async fn stalled(&self, patience: Duration) {
        let mut looks = tokio::time::interval(patience / LOOKS);
        loop {
            looks.tick().await;
            let is_stalled = |answer: Arc<Answer>| answer.is_stalled(patience);
            if self.0.lock().iter().filter_map(Weak::upgrade).any(is_stalled) {
                return;
            }
        }
    }
}

impl Answer {
    fn is_stalled(&self, patience: Duration) -> bool {
        let state = self.0.lock();
        (state.pieces > 0 || !state.reads) && state.moved.elapsed() > patience
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock();
        state.moved = Instant::now();
        change(&mut state);
    }
}

/// A body whose pieces are followed to the client.
pub(super) struct Watched<B> {
    inner: B,
    answer: Arc<Answer>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Watched<B> {
    type Data = Piece;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, B::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        let reads = polled.is_pending();
        if !reads || !self.answer.0.lock().reads {
            self.answer.change(|state| state.reads = reads);
        }
        polled.map_ok(|frame| frame.map_data(|bytes| Piece::new(bytes, &self.answer)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Bytes of an answer, in their own memory.
pub(super) struct Piece {
    bytes: Bytes,
    answer: Arc<Answer>,
}

impl Piece {
    fn new(bytes: Bytes, answer: &Arc<Answer>) -> Self {
        answer.change(|state| state.pieces += 1);
        Self { bytes, answer: Arc::clone(answer) }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if count > 0 {
            self.answer.change(|_| ());
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.answer.change(|state| state.pieces -= 1);
    }
}
