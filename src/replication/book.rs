//! What this node's session has given out: sequences of proposals, chunk and content numbers.

use parking_lot::Mutex;

use super::marks::Marks;
use crate::meta::{Mutation, Request};
use crate::types::{ChunkId, ContentId, RequestId, SessionId};

pub struct Book {
    state: Mutex<State>,
}

struct State {
    /// 0 until the session is opened.
    session: SessionId,
    sequences: Marks,
    chunks: Marks,
    contents: u64,
}

impl State {
    fn of(session: SessionId) -> Self {
        Self { session, sequences: Marks::default(), chunks: Marks::default(), contents: 0 }
    }
}

impl Default for Book {
    fn default() -> Self {
        Self { state: Mutex::new(State::of(SessionId(0))) }
    }
}

impl Book {
    /// The session was opened: counting begins.
    pub fn begin(&self, session: SessionId) {
        *self.state.lock() = State::of(session);
    }

    pub fn session(&self) -> SessionId {
        self.state.lock().session
    }

    /// A request with the next sequence, and the marks of this moment.
    pub fn request(&self, mutation: Mutation) -> Request {
        Self::next(&mut self.state.lock(), mutation)
    }

    /// As [`Self::request`], for what may only be done by a certain session: `None` when it is
    /// this node's no longer.
    pub fn request_of(&self, session: SessionId, mutation: Mutation) -> Option<Request> {
        let mut state = self.state.lock();
        (state.session == session).then(|| Self::next(&mut state, mutation))
    }

    fn next(state: &mut State, mutation: Mutation) -> Request {
        let sequence = state.sequences.give();
        Request {
            id: RequestId { session: state.session, sequence },
            settled: state.sequences.mark(),
            chunk_mark: state.chunks.mark(),
            mutation,
        }
    }

    /// The request has its final answer.
    pub fn settle(&self, id: RequestId) {
        let mut state = self.state.lock();
        if id.session == state.session {
            state.sequences.settle(id.sequence);
        }
    }

    pub fn next_chunk(&self) -> ChunkId {
        let mut state = self.state.lock();
        ChunkId { session: state.session, counter: state.chunks.give() }
    }

    /// The chunk is recorded or given up.
    pub fn settle_chunk(&self, id: ChunkId) {
        let mut state = self.state.lock();
        if id.session == state.session {
            state.chunks.settle(id.counter);
        }
    }

    /// Whether the chunk is one of this session's, and settled.
    pub fn is_settled(&self, id: ChunkId) -> bool {
        let state = self.state.lock();
        id.session == state.session && state.chunks.is_settled(id.counter)
    }

    pub fn next_content(&self) -> ContentId {
        let mut state = self.state.lock();
        state.contents += 1;
        ContentId { session: state.session, counter: state.contents }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_carry_the_marks_of_their_moment() {
        let book = Book::default();
        book.begin(SessionId(3));
        let first = book.request(Mutation::Abort { sequence: 9 });
        let second = book.request(Mutation::Abort { sequence: 9 });
        assert_eq!((first.id.sequence, first.settled), (1, 0));
        assert_eq!((second.id.sequence, second.settled), (2, 0));
        book.settle(first.id);
        let chunk = book.next_chunk();
        assert_eq!(chunk, ChunkId { session: SessionId(3), counter: 1 });
        assert!(!book.is_settled(chunk));
        let third = book.request(Mutation::Abort { sequence: 9 });
        assert_eq!((third.settled, third.chunk_mark), (1, 0));
        book.settle_chunk(chunk);
        assert!(book.is_settled(chunk));
        assert!(!book.is_settled(ChunkId { session: SessionId(2), ..chunk }));
        assert_eq!(book.request(Mutation::Abort { sequence: 9 }).chunk_mark, 1);
        let other = RequestId { session: SessionId(2), sequence: 2 };
        book.settle(other);
        assert_eq!(book.request(Mutation::Abort { sequence: 9 }).settled, 1);
        let abort = || Mutation::Abort { sequence: 9 };
        assert!(book.request_of(SessionId(3), abort()).is_some());
        book.begin(SessionId(4));
        assert_eq!(book.request_of(SessionId(3), abort()), None);
        assert_eq!(book.request_of(SessionId(4), abort()).unwrap().id.sequence, 1);
    }
}
