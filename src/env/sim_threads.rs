//! Threads that are simulated: everything runs in turns on one thread, and a seed says in which order.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::time::Duration;

use super::seeded::Seeded;

thread_local! {
    static CHANCE: RefCell<Option<Seeded>> = const { RefCell::new(None) };
}

/// Most pauses are up to this long, as those of a disk that is well.
const SHORT: Duration = Duration::from_millis(4);
/// Some are up to this long.
const LONG: Duration = Duration::from_millis(400);
/// How many of a hundred are long.
const LONG_PERCENT: u64 = 1;

/// While this is there, what would run on another thread runs on the thread that made it, each time
/// after a pause of its tokio runtime's time, so that other things happen in between.
#[derive(Debug)]
pub struct SimThreads {
    /// It belongs to its thread.
    here: PhantomData<*const ()>,
}

impl SimThreads {
    /// The same seed gives the same pauses.
    pub fn new(seed: u64) -> Self {
        CHANCE.set(Some(Seeded::new(seed)));
        Self { here: PhantomData }
    }

    pub(super) fn are_here() -> bool {
        CHANCE.with_borrow(Option::is_some)
    }

    /// How long it takes until a simulated thread comes to its work.
    pub(super) fn pause() -> Duration {
        CHANCE.with_borrow_mut(|chance| match chance {
            Some(chance) => {
                let most = if chance.chance(LONG_PERCENT) { LONG } else { SHORT };
                Duration::from_micros(chance.below(most.as_micros() as u64))
            }
            None => Duration::ZERO,
        })
    }
}

impl Drop for SimThreads {
    fn drop(&mut self) {
        CHANCE.set(None);
    }
}
