//! What the verbs that ask or change a store have in common.

use super::flags::SettingFlags;
use super::logging;
use super::progress::Bar;
use crate::config::{Config, LogLevel};
use crate::error::Result;
use crate::node::{Operator, runtime};

/// Runs `work` on the store that the settings name, through the node that runs it if one does.
///
/// # Errors
/// What `work` says, else what closing the store says.
pub fn operate<T>(
    flags: SettingFlags,
    work: impl AsyncFnOnce(&mut Operator) -> Result<T>,
) -> Result<T> {
    let config = settings(flags)?;
    runtime()?.block_on(async {
        let (bar, on_open) = Bar::shared();
        let opened = Operator::open(&config, on_open).await;
        bar.lock().clear();
        let mut operator = opened?;
        let done = work(&mut operator).await;
        let closed = operator.close().await;
        done.and_then(|answer| closed.map(|()| answer))
    })
}

/// Runs `work` with the node that runs the store; never opens the store itself.
///
/// # Errors
/// What `work` says; that no node runs.
pub fn ask_node<T>(
    flags: SettingFlags,
    work: impl AsyncFnOnce(&mut Operator) -> Result<T>,
) -> Result<T> {
    let config = settings(flags)?;
    runtime()?.block_on(async { work(&mut Operator::running(&config).await?).await })
}

fn settings(flags: SettingFlags) -> Result<Config> {
    let config = flags.load()?.config;
    // An answer is on standard output; of the log only what is wrong belongs next to it.
    logging::start(config.log_level.min(LogLevel::Warn));
    Ok(config)
}
