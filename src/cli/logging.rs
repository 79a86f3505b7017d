//! The log on standard error.

use log::LevelFilter;

use crate::config::LogLevel;

/// Other crates talk about themselves; what matters of it we say ourselves.
const OTHERS: LevelFilter = LevelFilter::Warn;

/// Lets messages of this program from `level` on through, and the warnings of others.
pub fn start(level: LogLevel) {
    let level = filter(level);
    let mut builder = env_logger::Builder::new();
    builder.filter_level(OTHERS.min(level)).filter_module("bucketfs", level);
    builder.filter_module("openraft", LevelFilter::Error.min(level));
    if builder.try_init().is_err() {
        log::debug!("the log was started before");
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    }
}
