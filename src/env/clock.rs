//! Time and chance as arguments.

use std::time::{Duration, Instant, SystemTime};

use crate::types::Timestamp;

/// The only source of time and randomness above this layer.
pub trait Clock: Send + Sync {
    /// The wall clock, for what files and records carry.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary start that never goes back, for deadlines and durations.
    fn elapsed(&self) -> Duration;
    /// A random number fit for ids that must not repeat.
    fn random(&self) -> u64;
}

/// The machine's own clocks and random generator.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

#[expect(clippy::new_without_default, reason = "a clock starts when it is made, not by default")]
impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        // getrandom(2) cannot fail once the kernel's pool is ready, which boot waits for.
        getrandom::fill(&mut bytes).map_or(0, |()| u64::from_ne_bytes(bytes))
    }
}
