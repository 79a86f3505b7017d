//! The bound on unsealed data in memory.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Bytes of file data in memory, over all files. Writers wait when it is used up.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    used: Mutex<u64>,
    freed: Notify,
    waiting: AtomicUsize,
    wanted: Notify,
}

/// One who waits for room.
struct Waiting<'a>(&'a Budget);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Budget {
    pub fn new(limit: u64) -> Self {
        let (freed, wanted) = (Notify::new(), Notify::new());
        Self { limit, used: Mutex::new(0), freed, waiting: AtomicUsize::new(0), wanted }
    }

    pub fn used(&self) -> u64 {
        *self.used.lock()
    }

    /// Takes `bytes` if the limit allows; a request larger than the limit passes when nothing is
    /// used, so that it cannot wait for ever.
    pub fn try_take(&self, bytes: u64) -> bool {
        let mut used = self.used.lock();
        let fits = *used + bytes <= self.limit || *used == 0;
        if fits {
            *used += bytes;
        }
        fits
    }

    /// Takes `bytes` beyond the limit, where waiting would be for oneself.
    pub fn take_anyway(&self, bytes: u64) {
        *self.used.lock() += bytes;
    }

    pub fn give_back(&self, bytes: u64) {
        {
            let mut used = self.used.lock();
            *used = used.saturating_sub(bytes);
        }
        if bytes > 0 {
            self.freed.notify_waiters();
        }
    }

    /// Waits until something was given back or `bytes` would fit.
    pub async fn wait(&self, bytes: u64) {
        let freed = self.freed.notified();
        tokio::pin!(freed);
        freed.as_mut().enable();
        let fits = *self.used.lock() + bytes <= self.limit;
        if !fits {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let _waiting = Waiting(self);
            self.wanted.notify_waiters();
            freed.await;
        }
    }

    /// Returns as soon as somebody waits for room.
    pub async fn wanted(&self) {
        let wanted = self.wanted.notified();
        tokio::pin!(wanted);
        wanted.as_mut().enable();
        if self.waiting.load(Ordering::SeqCst) == 0 {
            wanted.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_beyond_the_limit_passes_alone() {
        let budget = Budget::new(10);
        assert!(budget.try_take(25));
        assert!(!budget.try_take(1));
        budget.give_back(25);
        assert!(budget.try_take(10));
        assert_eq!(budget.used(), 10);
    }
}
