//! Memory for large buffers, mapped by itself: it goes back to the system when it is not used, and some of
//! it is kept, for what is mapped anew has to be cleared page by page.

use std::ptr::{NonNull, null_mut};

use parking_lot::Mutex;

/// Bytes of unused mappings that are kept.
const KEPT_MAX: usize = 32 << 20;
/// From this size on the kernel may use its large pages.
const HUGE_PAGE: usize = 2 << 20;

static KEPT: Mutex<Vec<Mapping>> = Mutex::new(Vec::new());

/// Private memory of this process, page aligned.
pub struct Mapping {
    memory: NonNull<u8>,
    len: usize,
    /// Nothing was written to it yet.
    is_zero: bool,
}

// SAFETY: the memory belongs to whoever has the mapping.
unsafe impl Send for Mapping {}

impl Mapping {
    /// `len` bytes, a multiple of the page size and not 0; `None` without memory.
    pub fn new(len: usize) -> Option<Self> {
        let mut kept = KEPT.lock();
        match kept.iter().position(|mapping| mapping.len == len) {
            Some(place) => Some(kept.swap_remove(place)),
            None => {
                drop(kept);
                Self::map(len)
            }
        }
    }

    fn map(len: usize) -> Option<Self> {
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, at an address of the kernel's choice, touches no other memory.
        let memory = unsafe { libc::mmap(null_mut(), len, access, kind, -1, 0) };
        if memory == libc::MAP_FAILED {
            return None;
        }
        if len >= HUGE_PAGE {
            // SAFETY: advice on the mapping that was just made; without it pages stay small.
            unsafe { libc::madvise(memory, len, libc::MADV_HUGEPAGE) };
        }
        Some(Self { memory: NonNull::new(memory.cast())?, len, is_zero: true })
    }

    pub fn start(&self) -> NonNull<u8> {
        self.memory
    }

    pub fn is_zero(&self) -> bool {
        self.is_zero
    }

    /// It is not needed any more, and was written to.
    pub fn give_back(mut self) {
        self.is_zero = false;
        let mut kept = KEPT.lock();
        let bytes: usize = kept.iter().map(|mapping| mapping.len).sum();
        if bytes + self.len <= KEPT_MAX {
            kept.push(self);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length; nobody has the address any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An odd size, which no other test uses.
    const LEN: usize = 3 * 4096 * 7;

    #[test]
    fn memory_is_used_again() {
        let first = Mapping::new(LEN).unwrap();
        assert!(first.is_zero());
        let start = first.start();
        first.give_back();
        let second = Mapping::new(LEN).unwrap();
        assert_eq!((second.start(), second.is_zero()), (start, false));
        assert_ne!(Mapping::new(LEN).unwrap().start(), start);
    }
}
