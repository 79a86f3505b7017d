//! Asks to stop: SIGTERM and SIGINT (Ctrl-C), the second of which hurries; and SIGHUP.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Error, Result};

/// Both signals, caught from the moment this is made.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// # Errors
    /// [`Error::Io`] when the handlers cannot be installed.
    pub fn catch() -> Result<Self> {
        let catch =
            |kind| signal(kind).map_err(|error| Error::io("catching the signals that stop", error));
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    /// Returns at the next signal; one that came since the last call counts.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// SIGHUP: files are to be read again.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// # Errors
    /// [`Error::Io`] when the handler cannot be installed.
    pub fn catch() -> Result<Self> {
        let caught = signal(SignalKind::hangup());
        caught.map(Self).map_err(|error| Error::io("catching SIGHUP", error))
    }

    pub async fn next(&mut self) {
        self.0.recv().await;
    }
}
