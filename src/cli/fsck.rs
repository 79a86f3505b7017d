//! `bucketfs fsck`: checks a store, running or not.

use clap::Args;

use super::flags::SettingFlags;
use super::operate::operate;
use super::output::{Exit, Output};
use super::progress::Bar;
use crate::error::Result;
use crate::node::LeftOver;

/// Check a store, running or not
///
/// Compares the records with each other, reads every chunk file and compares it with what is
/// recorded. Exits with 3 when damage was found. A store that no node runs is opened for it as
/// `serve` would open it, and closed again.
#[derive(Args, Debug)]
pub struct Fsck {
    /// Remove chunk files that a crash left over; data is never removed
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

impl Fsck {
    pub fn run(self, output: &Output) -> Result<Exit> {
        let left_over = if self.repair { LeftOver::Remove } else { LeftOver::Keep };
        let report = operate(self.settings, async |store| {
            let mut bar = Bar::new();
            let mut on_check = |progress| {
                bar.show(progress);
                Ok(())
            };
            let report = store.fsck(left_over, &mut on_check).await;
            bar.clear();
            report
        })?;
        output.show(&report)?;
        Ok(if report.is_sound() { Exit::Done } else { Exit::Damage })
    }
}
