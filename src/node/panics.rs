//! A panic ends the process: what it says goes to the log first.

use std::panic;

/// Writes panics to the log, with the thread and the place. Whatever was acknowledged is on disk;
/// the service manager starts the node again, which detaches the dead mounts.
pub fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        log::error!("program error in thread {name}, the node ends now: {panic}");
        // No thread unwinds, also in a build whose profile would let it.
        std::process::abort();
    }));
}
