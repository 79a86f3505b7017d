//! Threads that are simulated: everything runs in turns on one thread, and a seed says in which order.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::time::Duration;

use super::seeded::Seeded;

thread_local! {
    static PAUSES: RefCell<Option<Pauses>> = const { RefCell::new(None) };
}

struct Pauses {
    chance: Seeded,
    /// How many of a hundred are long.
    long_percent: u64,
}

/// Most pauses are up to this long, as those of a disk that is well.
const SHORT: Duration = Duration::from_millis(4);
/// Some are up to this long.
const LONG: Duration = Duration::from_millis(400);
const LONG_PERCENT: u64 = 1;
/// The same while disks have much to do.
const BUSY_PERCENT: u64 = 50;

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
        PAUSES.set(Some(Pauses { chance: Seeded::new(seed), long_percent: LONG_PERCENT }));
        Self { here: PhantomData }
    }

    /// Whether those that begin from now on often take long, as when disks have much to do.
    pub fn set_busy(is_busy: bool) {
        PAUSES.with_borrow_mut(|pauses| {
            if let Some(pauses) = pauses {
                pauses.long_percent = if is_busy { BUSY_PERCENT } else { LONG_PERCENT };
            }
        });
    }

    pub(super) fn are_here() -> bool {
        PAUSES.with_borrow(Option::is_some)
    }

    /// How long it takes until a simulated thread comes to its work.
    pub(super) fn pause() -> Duration {
        PAUSES.with_borrow_mut(|pauses| match pauses {
            Some(Pauses { chance, long_percent }) => {
                let most = if chance.chance(*long_percent) { LONG } else { SHORT };
                Duration::from_micros(chance.below(most.as_micros() as u64))
            }
            None => Duration::ZERO,
        })
    }
}

impl Drop for SimThreads {
    fn drop(&mut self) {
        PAUSES.set(None);
    }
}
