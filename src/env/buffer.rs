//! Memory that O_DIRECT accepts.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::mapping::Mapping;
use crate::types::limits::DIRECT_ALIGN;

/// Buffers of this capacity and more are mappings of their own, a power of two in size.
const MAPPED_MIN: usize = 256 << 10;

/// A growable byte buffer whose address and capacity are multiples of [`DIRECT_ALIGN`].
/// Bytes from the length to the next such multiple are zero, so the padded slice may be written as
/// it is.
pub struct AlignedBuf {
    memory: Memory,
    capacity: usize,
    len: usize,
    /// Up to here, a multiple of [`DIRECT_ALIGN`], the memory is initialised; beyond the length with
    /// zeros.
    clean: usize,
}

enum Memory {
    Allocated(NonNull<u8>),
    /// `None` only while it is dropped.
    Mapped(Option<Mapping>, NonNull<u8>),
}

impl Memory {
    fn start(&self) -> *mut u8 {
        match self {
            Self::Allocated(memory) | Self::Mapped(_, memory) => memory.as_ptr(),
        }
    }
}

// SAFETY: the buffer owns its memory as a Vec<u8> does.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared references only read.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// An empty buffer with room for `capacity` bytes, rounded up.
    pub fn with_capacity(capacity: usize) -> Self {
        if capacity >= MAPPED_MIN {
            let capacity = capacity.next_power_of_two();
            let Some(mapping) = Mapping::new(capacity) else {
                handle_alloc_error(layout(capacity));
            };
            let clean = if mapping.is_zero() { capacity } else { 0 };
            let memory = mapping.start();
            return Self { memory: Memory::Mapped(Some(mapping), memory), capacity, len: 0, clean };
        }
        let capacity = capacity.next_multiple_of(DIRECT_ALIGN).max(DIRECT_ALIGN);
        Self { memory: Memory::Allocated(allocate(capacity)), capacity, len: 0, clean: 0 }
    }

    /// `bytes`, with room for `capacity` in all.
    pub fn with_room(bytes: &[u8], capacity: usize) -> Self {
        let mut buffer = Self::with_capacity(capacity.max(bytes.len()));
        buffer.extend(bytes);
        buffer
    }

    /// A buffer of `len` zero bytes.
    pub fn zeroed(len: usize) -> Self {
        let mut buffer = Self::with_capacity(len);
        buffer.len = len;
        buffer.clear_through(len, 0);
        buffer
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Makes room for `capacity` bytes in all.
    pub fn reserve(&mut self, capacity: usize) {
        if capacity > self.capacity {
            let mut larger = Self::with_capacity(capacity);
            larger.extend(self);
            *self = larger;
        }
    }

    /// Appends `bytes`, growing at least twofold when there is no room.
    pub fn extend(&mut self, bytes: &[u8]) {
        let (start, end) = (self.len, self.len + bytes.len());
        if end > self.capacity {
            self.reserve(end.max(self.capacity * 2));
        }
        // SAFETY: within the capacity, and `bytes` cannot be in memory that is borrowed mutably.
        unsafe {
            self.memory.start().add(start).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        self.len = end;
        self.clear_through(end, end);
    }

    /// Zeroes what is not initialised, from `from` to the end of the page that `len` is in.
    fn clear_through(&mut self, len: usize, from: usize) {
        let end = len.next_multiple_of(DIRECT_ALIGN);
        if end > self.clean {
            let start = from.max(self.clean);
            // SAFETY: the capacity is such a multiple, and not less than `len`.
            unsafe { self.memory.start().add(start).write_bytes(0, end - start) };
            self.clean = end;
        }
    }

    /// Shortens the buffer and zeroes what is cut off; no effect when it is shorter already.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            self[len..].fill(0);
            self.len = len;
        }
    }

    /// The bytes and zeros up to the next multiple of [`DIRECT_ALIGN`].
    pub fn padded(&self) -> &[u8] {
        let len = self.len.next_multiple_of(DIRECT_ALIGN);
        // SAFETY: initialised, by clear_through().
        unsafe { std::slice::from_raw_parts(self.memory.start(), len) }
    }

    /// As [`Self::padded`], for reading into.
    pub fn padded_mut(&mut self) -> &mut [u8] {
        let len = self.len.next_multiple_of(DIRECT_ALIGN);
        // SAFETY: as in padded(); the reference is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start(), len) }
    }
}

fn layout(capacity: usize) -> Layout {
    // Capacities come from sizes of real data, far below isize::MAX.
    Layout::from_size_align(capacity, DIRECT_ALIGN).unwrap_or(Layout::new::<u8>())
}

fn allocate(capacity: usize) -> NonNull<u8> {
    let layout = layout(capacity);
    // SAFETY: the layout's size is not zero.
    let memory = unsafe { alloc(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        match &mut self.memory {
            // SAFETY: allocated with the same layout, not used afterwards.
            Memory::Allocated(memory) => unsafe { dealloc(memory.as_ptr(), layout(self.capacity)) },
            Memory::Mapped(mapping, _) => {
                if let Some(mapping) = mapping.take() {
                    mapping.give_back();
                }
            }
        }
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: len <= clean, up to where the memory is initialised.
        unsafe { std::slice::from_raw_parts(self.memory.start(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in deref(); the reference is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start(), self.len) }
    }
}

impl From<&[u8]> for AlignedBuf {
    fn from(bytes: &[u8]) -> Self {
        Self::with_room(bytes, bytes.len())
    }
}

impl std::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuf({} of {} bytes)", self.len, self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_aligned_and_pads_with_zeros() {
        let mut buffer = AlignedBuf::with_capacity(1);
        buffer.extend(&[7; 5000]);
        assert_eq!(buffer.len(), 5000);
        assert_eq!(buffer.as_ptr() as usize % DIRECT_ALIGN, 0);
        assert_eq!(buffer.padded().len(), 8192);
        assert!(buffer.padded()[5000..].iter().all(|&byte| byte == 0));
        buffer.truncate(10);
        assert_eq!(&buffer.padded()[..12], &[7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0]);
    }

    /// What was in memory before is not seen: not in the padding, not where zeros were asked for.
    #[test]
    fn memory_that_is_used_again_shows_nothing_old() {
        for len in [5_000, MAPPED_MIN + 5_000] {
            drop(AlignedBuf::from(vec![9; len + 3_000].as_slice()));
            let mut buffer = AlignedBuf::with_room(&[7; 100], len + 3_000);
            assert!(buffer.padded()[100..].iter().all(|&byte| byte == 0));
            buffer.extend(&vec![7; len - 100]);
            assert!(buffer.iter().all(|&byte| byte == 7));
            assert!(buffer.padded()[len..].iter().all(|&byte| byte == 0));
            drop(buffer);
            assert!(AlignedBuf::zeroed(len).padded().iter().all(|&byte| byte == 0));
        }
    }
}
