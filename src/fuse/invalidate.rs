//! Tells the kernel what changed behind its back: by S3, another mount, another node.
//!
//! Notifications are written by threads of their own, never by a request's: dropping a name takes
//! the lock of its directory, which a process may hold that waits for us. Dropping attributes takes
//! no lock, so it has its own thread, and a mount's requests only ever wait for that one.

use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use fuser::Notifier;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::door::Door;
use crate::error::{Error, Result};
use crate::types::{FileName, Ino};
use crate::vfs::Change;

/// Changes that may wait to be told. What does not fit is left to the TTL.
const QUEUE: usize = 1 << 16;
/// Longest wait; afterwards the TTL has made what the kernel knows invalid anyway.
const PATIENCE: Duration = Duration::from_secs(1);

/// An offset before the file drops attributes and leaves the pages: they go by size and mtime.
const ATTRIBUTES: i64 = -1;
/// From the first byte on: pages that size and mtime do not give away.
const PAGES: i64 = 0;

/// How many changes of one kind were queued, and how many the kernel knows.
pub(super) struct Told {
    queued: AtomicU64,
    told: watch::Sender<u64>,
    /// How many times everything may be different, and names from before have not run out yet.
    aging: watch::Sender<u32>,
}

impl Told {
    pub(super) fn new() -> Self {
        Self {
            queued: AtomicU64::new(0),
            told: watch::Sender::new(0),
            aging: watch::Sender::new(0),
        }
    }

    /// Returns when the kernel knows every change queued before the call.
    pub(super) async fn caught_up(&self) {
        let wanted = self.queued.load(Ordering::Acquire);
        if *self.told.borrow() >= wanted && *self.aging.borrow() == 0 {
            return;
        }
        let (mut told, mut aging) = (self.told.subscribe(), self.aging.subscribe());
        let known = async {
            // Gone means what late does: that the kernel asks again by itself.
            let _ = told.wait_for(|told| *told >= wanted).await;
            let _ = aging.wait_for(|aging| *aging == 0).await;
        };
        let _ = tokio::time::timeout(PATIENCE, known).await;
    }

    /// The kernel was told of one more.
    fn count(&self) {
        self.told.send_modify(|told| *told += 1);
    }

    /// Nobody is told any more, and nobody has to wait for it: neither for what is queued still, nor for
    /// what comes.
    fn end(&self) {
        self.told.send_replace(u64::MAX);
    }

    /// Nothing the kernel knows counts any more. It cannot be told so of names that nobody can list;
    /// they run out by themselves after `ttl`, for which nobody waits beyond [`PATIENCE`].
    fn age(self: &Arc<Self>, ttl: Duration, runtime: &Handle) {
        self.aging.send_modify(|aging| *aging += 1);
        let this = Arc::clone(self);
        runtime.spawn(async move {
            tokio::time::sleep(ttl.min(PATIENCE)).await;
            this.aging.send_modify(|aging| *aging -= 1);
        });
    }
}

/// `None` ends the thread.
type Queue<T> = SyncSender<Option<T>>;

/// The threads of one mount.
pub(super) struct Invalidator {
    attributes: Queue<(Ino, i64)>,
    names: Queue<(Ino, FileName)>,
}

/// Subscribes to the changes that do not come from the mount behind `door`.
pub(super) fn start(door: &Door, notifier: Notifier) -> Result<Invalidator> {
    let (vfs, told) = (&door.vfs, Arc::clone(&door.told));
    let (numbers, origin) = (door.numbers, door.origin);
    let named = Arc::new(Told::new());
    let kernel = notifier.clone();
    let attributes = spawn("fuse-attributes", &told, move |(ino, from): (Ino, i64)| {
        kernel.inval_inode(numbers.to_node(ino), from, 0)
    })?;
    let names = spawn("fuse-names", &named, move |(parent, name): (Ino, FileName)| {
        notifier.inval_entry(numbers.to_node(parent), OsStr::from_bytes(name.as_bytes()))
    })?;
    let fences = (Arc::clone(&told), Arc::clone(&named));
    let fence = Box::new(move || -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (told, named) = (Arc::clone(&fences.0), Arc::clone(&fences.1));
        Box::pin(async move {
            told.caught_up().await;
            named.caught_up().await;
        })
    });
    let queues = Invalidator { attributes: attributes.clone(), names: names.clone() };
    let (ttl, runtime) = (door.ttl, door.runtime.clone());
    // The hub that keeps the listener belongs to the vfs.
    let known = Arc::downgrade(vfs);
    let listener = Box::new(move |change: &Change, from: u32| {
        if from == origin {
            return;
        }
        if *change == Change::Everything {
            told.age(ttl, &runtime);
            let known = known.upgrade().map(|vfs| vfs.known_to(origin)).unwrap_or_default();
            for ino in known {
                enqueue(&Change::Attributes(ino), (&attributes, &told), (&names, &named));
            }
        }
        enqueue(change, (&attributes, &told), (&names, &named));
    });
    vfs.attach(origin, listener, fence);
    Ok(queues)
}

fn enqueue(
    change: &Change,
    (attributes, told): (&Queue<(Ino, i64)>, &Told),
    (names, named): (&Queue<(Ino, FileName)>, &Told),
) {
    let (ino, from) = match change {
        Change::Entry { parent, name } => {
            if offer(names, (*parent, name.clone())) {
                named.queued.fetch_add(1, Ordering::Release);
            }
            (*parent, ATTRIBUTES)
        }
        Change::Attributes(ino) | Change::Data(ino) | Change::Gone(ino) => (*ino, ATTRIBUTES),
        Change::Moved(ino) => (*ino, PAGES),
        Change::Unnamed(_)
        | Change::Orphaned(_)
        | Change::Reaped(_)
        | Change::Unwanted(..)
        | Change::Unlocked(_)
        | Change::SessionEnded(_)
        | Change::Everything => {
            return;
        }
    };
    if offer(attributes, (ino, from)) {
        told.queued.fetch_add(1, Ordering::Release);
    }
}

/// Never waits: the caller applies everybody's changes.
fn offer<T>(queue: &Queue<T>, item: T) -> bool {
    match queue.try_send(Some(item)) {
        Ok(()) => true,
        Err(TrySendError::Full(_)) => {
            log::debug!("the kernel takes invalidations too slowly; one is left to the TTL");
            false
        }
        // The mount has ended.
        Err(TrySendError::Disconnected(_)) => false,
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    told: &Arc<Told>,
    tell: impl Fn(T) -> io::Result<()> + Send + 'static,
) -> Result<Queue<T>> {
    let (queue, items) = sync_channel(QUEUE);
    let told = Arc::clone(told);
    thread::Builder::new()
        .name(name.into())
        .spawn(move || tell_all(&items, &told, &tell))
        .map_err(|error| Error::io(format!("starting the thread {name}"), error))?;
    Ok(queue)
}

/// fuser takes ENOENT (the kernel does not know the inode) for success; others mean that the mount
/// is ending.
fn tell_all<T>(items: &Receiver<Option<T>>, told: &Told, tell: &dyn Fn(T) -> io::Result<()>) {
    while let Ok(Some(item)) = items.recv() {
        if let Err(error) = tell(item) {
            log::debug!("an invalidation was not taken: {error}");
        }
        told.count();
    }
    told.end();
}

impl Invalidator {
    /// Lets both threads end once they have told what was queued.
    pub(super) fn stop(&self) {
        // A full queue empties itself; a closed one has no thread any more.
        let _ = self.attributes.send(None);
        let _ = self.names.send(None);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Mutex;
    use std::task::{Context, Waker};

    use super::*;

    fn name(text: &str) -> FileName {
        FileName::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_name_that_changes_also_changes_its_directory() {
        let (attributes, inodes) = sync_channel(9);
        let (names, entries) = sync_channel(9);
        let (told, named) = (Told::new(), Told::new());
        let change = Change::Entry { parent: Ino(5), name: name("x") };
        enqueue(&change, (&attributes, &told), (&names, &named));
        enqueue(&Change::Data(Ino(6)), (&attributes, &told), (&names, &named));
        enqueue(&Change::Moved(Ino(7)), (&attributes, &told), (&names, &named));
        enqueue(&Change::Reaped(Vec::new()), (&attributes, &told), (&names, &named));
        drop((attributes, names));
        let inodes: Vec<_> = inodes.into_iter().flatten().collect();
        assert_eq!(inodes, [(Ino(5), ATTRIBUTES), (Ino(6), ATTRIBUTES), (Ino(7), PAGES)]);
        assert_eq!(entries.into_iter().flatten().collect::<Vec<_>>(), [(Ino(5), name("x"))]);
        assert_eq!(told.queued.load(Ordering::Relaxed), 3);
        assert_eq!(named.queued.load(Ordering::Relaxed), 1);
    }

    /// The applier must not hang on a kernel that hangs, and nobody may wait for what was left out.
    #[test]
    fn a_full_queue_drops_without_counting() {
        let (attributes, _inodes) = sync_channel(1);
        let (names, entries) = sync_channel(1);
        drop(entries);
        let told = Told::new();
        for number in 1..=3 {
            let change = Change::Attributes(Ino(number));
            enqueue(&change, (&attributes, &told), (&names, &Told::new()));
        }
        assert_eq!(told.queued.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_thread_tells_in_order_and_ends_when_told_to() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (queue, items) = sync_channel(9);
        for number in 1..=3 {
            queue.send(Some(number)).unwrap();
        }
        queue.send(None).unwrap();
        let sink = Arc::clone(&seen);
        tell_all(&items, &Told::new(), &move |number: u32| {
            sink.lock().unwrap().push(number);
            if number == 2 { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
        });
        assert_eq!(*seen.lock().unwrap(), [1, 2, 3]);
    }

    /// A change that came between the word to end and the end was counted and never told: everybody waited
    /// for it, for ever.
    #[tokio::test]
    async fn nobody_waits_for_a_thread_that_has_ended() {
        let (queue, items) = sync_channel(9);
        let told = Told::new();
        queue.send(None).unwrap();
        assert!(offer(&queue, 1));
        told.queued.fetch_add(1, Ordering::Release);
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(told.caught_up()).as_mut().poll(&mut context).is_pending());
        tell_all(&items, &told, &|_: u32| Ok(()));
        assert!(pin!(told.caught_up()).as_mut().poll(&mut context).is_ready());
    }

    /// > A node that caught up by a snapshot asks its kernels to forget all attributes; its opens
    /// > wait until the names from before have run out (at most 1 s)
    #[tokio::test]
    async fn an_open_waits_for_names_to_run_out() {
        let told = Arc::new(Told::new());
        told.age(Duration::from_millis(5), &Handle::current());
        let mut waiting = pin!(told.caught_up());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        waiting.await;
        assert_eq!(*told.aging.borrow(), 0);
        told.caught_up().await;
    }

    #[tokio::test]
    async fn an_open_waits_for_exactly_what_was_queued_before_it() {
        let told = Told::new();
        told.caught_up().await;
        told.queued.store(2, Ordering::Relaxed);
        let mut waiting = pin!(told.caught_up());
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        told.queued.store(3, Ordering::Relaxed);
        told.told.send_replace(1);
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        told.told.send_replace(2);
        assert!(waiting.as_mut().poll(&mut context).is_ready());
    }
}
