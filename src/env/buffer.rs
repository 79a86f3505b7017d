//! Memory that O_DIRECT accepts.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::types::limits::DIRECT_ALIGN;

/// A growable byte buffer whose address and capacity are multiples of [`DIRECT_ALIGN`].
/// Bytes beyond the length are zero, so the padded slice may be written as it is.
pub struct AlignedBuf {
    memory: NonNull<u8>,
    capacity: usize,
    len: usize,
}

// SAFETY: the buffer owns its memory as a Vec<u8> does.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared references only read.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// An empty buffer with room for `capacity` bytes, rounded up.
    pub fn with_capacity(capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(DIRECT_ALIGN).max(DIRECT_ALIGN);
        Self { memory: allocate(capacity), capacity, len: 0 }
    }

    /// A buffer of `len` zero bytes.
    pub fn zeroed(len: usize) -> Self {
        let mut buffer = Self::with_capacity(len);
        buffer.len = len;
        buffer
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Appends `bytes`, growing at least twofold when there is no room.
    pub fn extend(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if end > self.capacity {
            self.grow(end.max(self.capacity * 2));
        }
        self.len = end;
        let start = end - bytes.len();
        self[start..].copy_from_slice(bytes);
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
        // SAFETY: len <= capacity, a multiple of DIRECT_ALIGN, and all of it is initialised.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), len) }
    }

    /// As [`Self::padded`], for reading into.
    pub fn padded_mut(&mut self) -> &mut [u8] {
        let len = self.len.next_multiple_of(DIRECT_ALIGN);
        // SAFETY: as in padded(); the reference is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), len) }
    }

    fn grow(&mut self, capacity: usize) {
        let mut larger = Self::with_capacity(capacity);
        larger.len = self.len;
        larger.copy_from_slice(self);
        *self = larger;
    }
}

fn layout(capacity: usize) -> Layout {
    // Capacities come from sizes of real data, far below isize::MAX.
    Layout::from_size_align(capacity, DIRECT_ALIGN).unwrap_or(Layout::new::<u8>())
}

fn allocate(capacity: usize) -> NonNull<u8> {
    let layout = layout(capacity);
    // SAFETY: the layout's size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: allocated with the same layout, not used afterwards.
        unsafe { dealloc(self.memory.as_ptr(), layout(self.capacity)) }
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
        // SAFETY: len <= capacity and the memory is initialised.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in deref(); the reference is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.len) }
    }
}

impl From<&[u8]> for AlignedBuf {
    fn from(bytes: &[u8]) -> Self {
        let mut buffer = Self::with_capacity(bytes.len());
        buffer.extend(bytes);
        buffer
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
}
