//! Deadlines that a stopped process does not miss.

use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;

const PARTS: u32 = 8;

/// Waits for `work`, at most for `limit`; `None` when it took longer. While the process stands still (SIGSTOP,
/// a virtual machine that is moved) so does the work it waits for, and the clock goes on: such a pause takes
/// away one part of the time and not all of it.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(work);
    for _ in 0..PARTS {
        if let Ok(done) = timeout(limit / PARTS, &mut work).await {
            return Some(done);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::time::{Instant, advance, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_takes_too_long_is_given_up_in_time() {
        let begun = Instant::now();
        assert_eq!(within(Duration::from_secs(8), sleep(Duration::from_secs(9))).await, None);
        assert_eq!(begun.elapsed(), Duration::from_secs(8));
        let done = within(Duration::from_secs(8), sleep(Duration::from_secs(7))).await;
        assert!(done.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_process_is_survived() {
        let (answer, answered) = oneshot::channel();
        let waiting = tokio::spawn(within(Duration::from_secs(8), answered));
        tokio::task::yield_now().await;
        // Everything stands still for an hour.
        advance(Duration::from_secs(3600)).await;
        sleep(Duration::from_millis(100)).await;
        answer.send(7).unwrap();
        assert_eq!(waiting.await.unwrap(), Some(Ok(7)));
    }
}
