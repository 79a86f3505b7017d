//! Time that stands still until it is told to go on.

use std::time::Duration;

use parking_lot::Mutex;

use super::clock::Clock;
use super::seeded::Seeded;
use crate::types::Timestamp;

/// A clock for tests: the wall clock starts at 2020-01-01 UTC and moves with [`Self::advance`];
/// random numbers follow from the seed.
#[derive(Debug)]
pub struct SimClock {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    elapsed: Duration,
    /// Nanoseconds since 1970, signed: wall clocks are set back, too.
    wall: i128,
    random: Seeded,
}

const START: i128 = 1_577_836_800_000_000_000;
const SECOND: i128 = Timestamp::NANOS_PER_SECOND as i128;

impl SimClock {
    pub fn new(seed: u64) -> Self {
        let random = Seeded::new(seed);
        Self { state: Mutex::new(State { elapsed: Duration::ZERO, wall: START, random }) }
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock();
        state.elapsed += by;
        state.wall = state.wall.saturating_add_unsigned(by.as_nanos());
    }

    /// Sets the wall clock alone, as an operator or NTP does.
    pub fn set_wall(&self, now: Timestamp) {
        self.state.lock().wall = i128::from(now.seconds) * SECOND + i128::from(now.nanos);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let wall = self.state.lock().wall;
        Timestamp {
            seconds: i64::try_from(wall.div_euclid(SECOND)).unwrap_or(i64::MAX),
            nanos: wall.rem_euclid(SECOND) as u32,
        }
    }

    fn elapsed(&self) -> Duration {
        self.state.lock().elapsed
    }

    fn random(&self) -> u64 {
        self.state.lock().random.draw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_only_when_told() {
        let clock = SimClock::new(1);
        let start = clock.now();
        assert_eq!(clock.now(), start);
        clock.advance(Duration::from_millis(1500));
        assert_eq!(clock.elapsed(), Duration::from_millis(1500));
        assert_eq!((clock.now().seconds, clock.now().nanos), (start.seconds + 1, 500_000_000));
        let early = Timestamp { seconds: -2, nanos: 5 };
        clock.set_wall(early);
        assert_eq!(clock.now(), early);
        assert_eq!(clock.elapsed(), Duration::from_millis(1500));
        assert_ne!(clock.random(), clock.random());
        assert_eq!(SimClock::new(9).random(), SimClock::new(9).random());
    }
}
