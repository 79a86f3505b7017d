//! The largest piece of memory that a thread asks for: tests say with it that lengths which are read, from a disk or from
//! a peer, are not believed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The largest allocation that `work` makes on this thread, in bytes.
pub fn largest_allocation(work: impl FnOnce()) -> usize {
    LARGEST.set(0);
    work();
    LARGEST.get()
}

struct Watched;

fn see(bytes: usize) {
    LARGEST.set(LARGEST.get().max(bytes));
}

// SAFETY: the system's allocator does it all.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        see(layout.size());
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        see(layout.size());
        // SAFETY: as our caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        see(bytes);
        // SAFETY: as our caller promises.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static WATCHED: Watched = Watched;

#[test]
fn the_largest_allocation_is_seen() {
    let kept = || drop(std::hint::black_box(vec![7u8; 300_000]));
    let grown = || drop(std::hint::black_box((0..50_000u64).collect::<Vec<_>>()));
    assert_eq!(largest_allocation(kept), 300_000);
    assert!(largest_allocation(grown) >= 400_000);
    assert_eq!(largest_allocation(|| ()), 0);
}
