//! Waiting for a condition of another process: always with a deadline, never for a fixed time.

use std::time::{Duration, Instant};

/// The time, for limits and measurements of the tests themselves.
#[allow(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks `ready` again and again until it answers; panics with `what` when `limit` has passed.
pub fn until<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = now() + limit;
    loop {
        if let Some(answer) = ready() {
            return answer;
        }
        assert!(now() < end, "{what}: still not so after {limit:?}");
        pause(Duration::from_millis(5));
    }
}

/// Lets other processes run for `time`; for polling and for choosing the moment of a kill, never as proof of anything.
#[allow(clippy::disallowed_methods, reason = "the one sleep of the outside tests")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Whether a thread waits in the system call with this number; proc(5), `/proc/PID/syscall`.
pub fn waits_in(thread: i32, call: libc::c_long) -> bool {
    let said = std::fs::read_to_string(format!("/proc/{thread}/syscall")).unwrap_or_default();
    said.split(' ').next() == Some(&call.to_string())
}
