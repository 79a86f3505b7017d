//! Opens and reads a table that may be damaged, for a node that asks by this process.

use std::io::Write;
use std::path::Path;

use super::store::engine_kind;
use crate::config::Engine;
use crate::error::{Error, Result};
use crate::meta::probe;

/// Writes what the table in `dir` is worth to `out`, in the lines that [`probe`] tells. The engine
/// may abort the process on a table that is damaged: call it in one that can be spared.
pub fn probe_table(engine: Engine, dir: &Path, out: &mut dyn Write) -> Result<()> {
    probe::answer(engine_kind(engine), dir, out)
        .map_err(|error| Error::io("telling what the table is worth", error))
}
