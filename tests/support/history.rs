//! Whether a history of calls that overlapped is linearizable: whether each can have taken effect at one moment between its
//! call and its answer. Wing and Gong, "Testing and Verifying Concurrent Objects" (1993), with the memory of Lowe, "Testing
//! for Linearizability" (2017).

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

/// What the calls are made to, one after the other.
pub trait Model {
    type State: Clone + Eq + Hash + Debug;
    type Call: Debug;
    type Answer: Debug;

    /// The state after a call that was answered so; `None` when it cannot have been. Without an answer nobody knows whether
    /// it took effect: then the state as if it had.
    fn step(
        state: &Self::State,
        call: &Self::Call,
        answer: Option<&Self::Answer>,
    ) -> Option<Self::State>;
}

/// One call, as its caller saw it.
#[derive(Debug)]
pub struct Event<M: Model> {
    pub call: M::Call,
    /// `None`: it may have taken effect, may still do so, or may never.
    pub answer: Option<M::Answer>,
    pub begun: Instant,
    pub ended: Instant,
}

/// Looks for an order of the calls that explains all answers.
///
/// # Errors
/// The most calls, in an order, that could be explained, and those that could come next and do not fit.
pub fn explain<M: Model>(start: M::State, events: &[Event<M>]) -> Result<(), String> {
    let mut search = Search::<M>::new(start, events);
    loop {
        match search.next() {
            Some(true) => return Ok(()),
            Some(false) => {}
            None => return Err(search.report()),
        }
    }
}

struct Search<'a, M: Model> {
    events: &'a [Event<M>],
    /// By the moment of their calls.
    order: Vec<usize>,
    done: Vec<u64>,
    state: M::State,
    /// Places in `order` that were taken, each with the state before.
    taken: Vec<(usize, M::State)>,
    /// Where in `order` to look for the next one.
    at: usize,
    seen: HashSet<(Vec<u64>, M::State)>,
    longest: Vec<usize>,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(state: M::State, events: &'a [Event<M>]) -> Self {
        let mut order: Vec<usize> = (0..events.len()).collect();
        order.sort_by_key(|event| events[*event].begun);
        let done = vec![0; events.len().div_ceil(64)];
        Self {
            events,
            order,
            done,
            state,
            taken: Vec::new(),
            at: 0,
            seen: HashSet::new(),
            longest: Vec::new(),
        }
    }

    fn is_done(&self, event: usize) -> bool {
        self.done[event / 64] >> (event % 64) & 1 == 1
    }

    /// Takes one more call, or gives the last one back. `true`: all that were answered are explained. `None`: there is
    /// nothing left to try.
    fn next(&mut self) -> Option<bool> {
        // What began after another has ended cannot come before that.
        let left = || self.order.iter().copied().filter(|event| !self.is_done(*event));
        let answered = left().filter(|event| self.events[*event].answer.is_some());
        let Some(deadline) = answered.map(|event| self.events[event].ended).min() else {
            return Some(true);
        };
        for at in self.at..self.order.len() {
            let event = self.order[at];
            if self.events[event].begun > deadline {
                break;
            }
            if !self.is_done(event) && self.take(at) {
                return Some(false);
            }
        }
        let (at, state) = self.taken.pop()?;
        let event = self.order[at];
        self.done[event / 64] &= !(1 << (event % 64));
        (self.state, self.at) = (state, at + 1);
        Some(false)
    }

    fn take(&mut self, at: usize) -> bool {
        let event = self.order[at];
        let Event { call, answer, .. } = &self.events[event];
        let Some(next) = M::step(&self.state, call, answer.as_ref()) else { return false };
        self.done[event / 64] |= 1 << (event % 64);
        if !self.seen.insert((self.done.clone(), next.clone())) {
            self.done[event / 64] &= !(1 << (event % 64));
            return false;
        }
        let before = std::mem::replace(&mut self.state, next);
        self.taken.push((at, before));
        self.at = 0;
        if self.taken.len() > self.longest.len() {
            self.longest = self.taken.iter().map(|(at, _)| self.order[*at]).collect();
        }
        true
    }

    fn report(&self) -> String {
        let first = self.events.iter().map(|event| event.begun).min();
        let line = |event: usize| {
            let event = &self.events[event];
            let since = |at: Instant| first.map(|first| at - first).unwrap_or_default();
            let (begun, ended) = (since(event.begun), since(event.ended));
            format!("{begun:>12?} … {ended:>12?} {:?} → {:?}\n", event.call, event.answer)
        };
        let from = self.longest.len().saturating_sub(12);
        let explained: String = self.longest[from..].iter().map(|event| line(*event)).collect();
        let rest = self.order.iter().filter(|event| !self.longest.contains(event)).take(12);
        let rest: String = rest.map(|event| line(*event)).collect();
        format!("explained until\n{explained}and then none of\n{rest}")
    }
}
