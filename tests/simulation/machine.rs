//! What the standard library asks the machine for by itself: the keys of its hash maps, and the order in which
//! tokio looks at ready branches. In a thread of a simulation they follow from the seed.

use std::cell::Cell;
use std::ffi::{c_uint, c_void};

use bucketfs::env::Seeded;

thread_local! {
    /// 0: the machine's own randomness.
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// From now on this thread gets the same numbers for the same seed.
pub fn seed(seed: u64) {
    STATE.set(Seeded::new(seed).draw() | 1);
}

/// Takes the place of the C library's in this program.
///
/// # Safety
/// As getrandom(2): `len` bytes at `buffer` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, len: usize, flags: c_uint) -> isize {
    let state = STATE.get();
    if state == 0 {
        // SAFETY: the caller's promise is the system call's.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) as isize };
    }
    let mut chance = Seeded::new(state);
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len) };
    for part in bytes.chunks_mut(8) {
        part.copy_from_slice(&chance.draw().to_le_bytes()[..part.len()]);
    }
    STATE.set(chance.draw() | 1);
    len as isize
}
