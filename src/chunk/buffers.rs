//! A pool of aligned buffers, so that reading allocates nothing once it is warm.

use parking_lot::Mutex;

use crate::env::AlignedBuf;
use crate::types::limits::CRC_BLOCK;

/// Bytes read from a file at once: 1 MiB at any offset, in whole checksum blocks.
pub const WINDOW: usize = (1 << 20) + CRC_BLOCK;
/// Buffers kept for later; more may be in use at one time.
const KEPT: usize = 16;

/// Buffers of [`WINDOW`] bytes.
#[derive(Default)]
pub struct Buffers {
    free: Mutex<Vec<AlignedBuf>>,
}

impl Buffers {
    /// Lends a buffer, whose bytes are arbitrary, for the time of one call.
    pub fn with<T>(&self, work: impl FnOnce(&mut [u8]) -> T) -> T {
        let free = self.free.lock().pop();
        let mut buffer = free.unwrap_or_else(|| AlignedBuf::zeroed(WINDOW));
        let result = work(&mut buffer);
        let mut free = self.free.lock();
        if free.len() < KEPT {
            free.push(buffer);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again() {
        let buffers = Buffers::default();
        let first = buffers.with(|buffer| buffer.as_ptr());
        let second = buffers.with(|outer| {
            assert_eq!(outer.len(), WINDOW);
            let inner = buffers.with(|buffer| buffer.as_ptr());
            assert_ne!(inner, outer.as_ptr());
            outer.as_ptr()
        });
        assert_eq!(first, second);
    }
}
