//! Hands applied changes on to whoever caches something: the kernels behind the mounts, the upkeep.

use std::future::Future;
use std::pin::Pin;

use parking_lot::RwLock;

use crate::meta::Change;

/// Called with each change and the number of the mount it came through.
pub type Listener = Box<dyn Fn(&Change, u32) + Send + Sync>;

/// Returns, at once when asked, what ends when every change before the asking is known to a cache.
pub type Fence = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Made before the replica, whose applier publishes to it.
#[derive(Default)]
pub struct ChangeHub {
    listeners: RwLock<Vec<Listener>>,
    mounts: RwLock<Vec<Attached>>,
}

/// What a mount hears with.
struct Attached {
    mount: u32,
    listener: Listener,
    fence: Fence,
}

impl ChangeHub {
    pub fn new() -> std::sync::Arc<Self> {
        std::sync::Arc::default()
    }

    pub fn subscribe(&self, listener: Listener) {
        self.listeners.write().push(listener);
    }

    /// As [`Self::subscribe`], until the mount is detached; until then [`Self::told`] waits for it.
    pub fn attach(&self, mount: u32, listener: Listener, fence: Fence) {
        self.mounts.write().push(Attached { mount, listener, fence });
    }

    pub fn detach(&self, mount: u32) {
        self.mounts.write().retain(|attached| attached.mount != mount);
    }

    /// Returns when every cache knows of the changes published before the call.
    pub async fn told(&self) {
        let waiting: Vec<_> = self.mounts.read().iter().map(|mount| (mount.fence)()).collect();
        for fence in waiting {
            fence.await;
        }
    }

    /// Called by the applier once `changes` can be read.
    pub fn publish(&self, changes: &[Change], origin: u32) {
        let (listeners, mounts) = (self.listeners.read(), self.mounts.read());
        for change in changes {
            listeners.iter().for_each(|listener| listener(change, origin));
            mounts.iter().for_each(|mount| (mount.listener)(change, origin));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::types::Ino;

    #[test]
    fn every_listener_hears_every_change() {
        let hub = ChangeHub::new();
        let heard = Arc::new(AtomicU32::new(0));
        for _ in 0..2 {
            let heard = Arc::clone(&heard);
            hub.subscribe(Box::new(move |_, origin| {
                heard.fetch_add(origin, Ordering::Relaxed);
            }));
        }
        hub.publish(&[Change::Data(Ino(3)), Change::Gone(Ino(3))], 10);
        assert_eq!(heard.load(Ordering::Relaxed), 40);
    }

    /// Each change through S3 waited for mounts that were gone, and for ever.
    #[tokio::test]
    async fn a_mount_that_is_gone_hears_nothing_and_is_not_waited_for() {
        let hub = ChangeHub::new();
        let heard = Arc::new(AtomicU32::new(0));
        for mount in 1..3 {
            let heard = Arc::clone(&heard);
            let listener = Box::new(move |_: &Change, _| {
                heard.fetch_add(mount, Ordering::Relaxed);
            });
            let waits = mount == 1;
            let fence = move || -> Pin<Box<dyn Future<Output = ()> + Send>> {
                if waits { Box::pin(std::future::pending()) } else { Box::pin(async {}) }
            };
            hub.attach(mount, listener, Box::new(fence));
        }
        hub.detach(1);
        hub.publish(&[Change::Data(Ino(3))], 0);
        assert_eq!(heard.load(Ordering::Relaxed), 2);
        hub.told().await;
    }
}
