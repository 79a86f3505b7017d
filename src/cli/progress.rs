//! A bar on standard error for work that takes long; nothing when that is no terminal.

use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use crate::node::{OnOpen, Phase, Progress};

/// The bar of one piece of work.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    phase: Option<Phase>,
}

impl Bar {
    /// Invisible until there is progress, and always where standard error is no terminal.
    pub fn new() -> Self {
        Self { bar: ProgressBar::hidden(), phase: None }
    }

    /// A bar, and what moves it while a store is opened.
    pub fn shared() -> (Arc<Mutex<Self>>, OnOpen) {
        let bar = Arc::new(Mutex::new(Self::new()));
        let moved = Arc::clone(&bar);
        (bar, Arc::new(move |progress| moved.lock().show(progress)))
    }

    pub fn show(&mut self, progress: Progress) {
        if self.phase != Some(progress.phase) {
            self.clear();
            self.phase = Some(progress.phase);
            self.bar = bar(&progress);
        }
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.done);
    }

    pub fn clear(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn bar(progress: &Progress) -> ProgressBar {
    let template = match progress.phase {
        Phase::Chunks | Phase::Loading => "{msg} {wide_bar} {bytes} of {total_bytes}, {eta} left",
        Phase::Replaying => "{msg} {wide_bar} {human_pos} of {human_len}, {eta} left",
        Phase::Checking | Phase::Metadata | Phase::Files => "{spinner} {msg}, {human_pos} so far",
        Phase::Waiting => "{spinner} {msg}",
    };
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(progress.total)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(progress.phase.title())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_follows_the_phases() {
        let mut bar = Bar::new();
        for (phase, done, total) in [(Phase::Metadata, 1, 0), (Phase::Chunks, 3, 9)] {
            bar.show(Progress { phase, done, total });
            assert_eq!((bar.bar.position(), bar.bar.length()), (done, Some(total)));
            assert_eq!(bar.bar.message(), phase.title());
        }
        bar.clear();
        assert!(bar.bar.is_finished());
    }

    #[test]
    fn every_template_is_legal() {
        use Phase::{Checking, Chunks, Files, Loading, Metadata, Replaying};
        for phase in [Checking, Loading, Replaying, Metadata, Chunks, Files] {
            bar(&Progress { phase, done: 0, total: 0 }).finish_and_clear();
        }
    }
}
