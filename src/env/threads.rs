//! Work that blocks, and threads that stay: the only place that makes them for what a simulation runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, Thread};

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task;

use super::sim_threads::SimThreads;
use crate::error::{Error, Result};

/// Runs `work`, which may block, beside the tasks of this runtime. It is done also when nobody waits
/// for it any more.
pub fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> task::JoinHandle<T> {
    if SimThreads::are_here() {
        return simulated(work);
    }
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks tokio")]
    task::spawn_blocking(work)
}

fn simulated<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> task::JoinHandle<T> {
    let pause = SimThreads::pause();
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        work()
    })
}

/// As [`blocking`], on a new thread that no runtime waits for.
///
/// # Errors
/// [`Error::Io`] without a thread; [`Error::ShuttingDown`] when it has not come to its end.
pub async fn detached<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if SimThreads::are_here() {
        return simulated(work).await.unwrap_or(Err(Error::ShuttingDown));
    }
    let (tell, told) = oneshot::channel();
    // Nobody listens when whoever asked has ended meanwhile.
    spawn(name, move || drop(tell.send(work())))?;
    told.await.unwrap_or(Err(Error::ShuttingDown))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let spawned = thread::Builder::new().name(name.into()).spawn(work);
    spawned.map_err(|error| Error::io(format!("starting the thread {name}"), error))
}

fn join(thread: Option<JoinHandle<()>>) {
    // A thread that can be joined did not panic: that ends the process.
    let _ = thread.map(JoinHandle::join);
}

/// A thread that does its work whenever it is woken.
pub struct Worker {
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

/// Wakes a [`Worker`], from anywhere.
#[derive(Clone)]
pub struct Waker(Way);

#[derive(Clone)]
enum Way {
    Thread(Thread, Arc<Bell>),
    Turns(Arc<Turns>),
}

/// Set before the thread is unparked: what it runs may park, too.
#[derive(Default)]
struct Bell {
    is_due: AtomicBool,
    closing: AtomicBool,
}

/// A worker in a simulation.
struct Turns {
    runtime: Handle,
    turn: Mutex<Box<dyn FnMut() + Send>>,
    /// A turn is to come.
    is_due: AtomicBool,
    closing: AtomicBool,
}

impl Worker {
    /// `turn` is called at least once after each [`Waker::wake`], by one thread, and sometimes for
    /// nothing. It ends when the worker is stopped or dropped.
    ///
    /// # Errors
    /// [`Error::Io`] without a thread.
    pub fn start(name: &str, mut turn: impl FnMut() + Send + 'static) -> Result<Self> {
        if SimThreads::are_here() {
            let (runtime, turn) = (Handle::current(), Mutex::new(Box::new(turn) as Box<_>));
            let (is_due, closing) = (AtomicBool::new(false), AtomicBool::new(false));
            let turns = Arc::new(Turns { runtime, turn, is_due, closing });
            return Ok(Self { waker: Waker(Way::Turns(turns)), thread: None });
        }
        let bell = Arc::new(Bell::default());
        let heard = Arc::clone(&bell);
        let handle = spawn(name, move || {
            while !heard.closing.load(Ordering::Acquire) {
                if heard.is_due.swap(false, Ordering::AcqRel) {
                    turn();
                } else {
                    thread::park();
                }
            }
        })?;
        let waker = Waker(Way::Thread(handle.thread().clone(), bell));
        Ok(Self { waker, thread: Some(handle) })
    }

    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub fn wake(&self) {
        self.waker.wake();
    }

    /// No turn begins any more, and none is under way on return.
    pub fn stop(&mut self) {
        let closing = match &self.waker.0 {
            Way::Thread(_, bell) => &bell.closing,
            Way::Turns(turns) => &turns.closing,
        };
        closing.store(true, Ordering::Release);
        self.wake();
        join(self.thread.take());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Waker {
    pub fn wake(&self) {
        match &self.0 {
            Way::Thread(thread, bell) => {
                bell.is_due.store(true, Ordering::Release);
                thread.unpark();
            }
            Way::Turns(turns) => turns.come(),
        }
    }
}

impl Turns {
    fn come(self: &Arc<Self>) {
        if self.closing.load(Ordering::Relaxed) || self.is_due.swap(true, Ordering::Relaxed) {
            return;
        }
        let (turns, pause) = (Arc::clone(self), SimThreads::pause());
        self.runtime.spawn(async move {
            tokio::time::sleep(pause).await;
            turns.is_due.store(false, Ordering::Relaxed);
            if !turns.closing.load(Ordering::Relaxed) {
                (turns.turn.lock())();
            }
        });
    }
}

/// A thread with a runtime of its own for tasks. They are dropped with it.
pub struct TaskThread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TaskThread {
    /// In a simulation it is the runtime that this is called in.
    ///
    /// # Errors
    /// [`Error::Io`] without a thread.
    pub fn start(name: &str) -> Result<Self> {
        if SimThreads::are_here() {
            return Ok(Self { handle: Handle::current(), stop: None, thread: None });
        }
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::io("starting a runtime", error))?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        // Sent or dropped: both mean stop.
        let thread = spawn(name, move || drop(runtime.block_on(stopped)))?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for TaskThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        join(self.thread.take());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A wake during a turn leads to another one, also when the turn itself parks; a stop waits for the
    /// turn that is under way.
    #[test]
    fn a_worker_has_a_turn_after_each_wake() {
        let (turns, seen) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let mut worker = Worker::start("worker", move || {
            turns.send(()).unwrap();
            // Nobody holds the gate any more at the end.
            let _ = gate.recv();
        });
        let worker = worker.as_mut().unwrap();
        worker.wake();
        seen.recv().unwrap();
        worker.wake();
        go.send(()).unwrap();
        seen.recv().unwrap();
        drop(go);
        worker.stop();
        worker.wake();
        assert_eq!(seen.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    }

    /// The same seed lets the same things happen in the same order, another seed does not.
    #[test]
    fn simulated_threads_take_turns_by_their_seed() {
        let order = |seed| {
            let _threads = SimThreads::new(seed);
            let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
            runtime.unwrap().block_on(async {
                let order = Arc::new(Mutex::new(Vec::new()));
                let note = |number| {
                    let order = Arc::clone(&order);
                    move || order.lock().push(number)
                };
                let worker = Worker::start("worker", note(100)).unwrap();
                let all: Vec<_> = (0..20).map(|number| blocking(note(number))).collect();
                worker.wake();
                worker.wake();
                for one in all {
                    one.await.unwrap();
                }
                let last = note(200);
                let work = move || {
                    last();
                    Ok(())
                };
                detached("thread", work).await.unwrap();
                order.lock().clone()
            })
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }
}
