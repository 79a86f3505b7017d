//! A batch seen over what lies below it, as if it were committed there.

use std::collections::btree_map::Range;
use std::iter::Peekable;
use std::ops::Bound;

use super::kv::{KvRead, Visitor, WriteBatch};
use crate::error::Result;

/// Reads of `below` with `writes` applied. Neither changes while it lives.
pub struct Layered<'a> {
    pub writes: &'a WriteBatch,
    pub below: &'a dyn KvRead,
}

impl KvRead for Layered<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.writes.get(key) {
            Some(written) => Ok(written.clone()),
            None => self.below.get(key),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visitor<'_>) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        let range = (Bound::Included(from), Bound::Excluded(to));
        let mut writes = self.writes.range::<[u8], _>(range).peekable();
        let mut wanted = true;
        self.below.scan(from, to, &mut |key, value| {
            wanted = visit_written(&mut writes, Some(key), visit)?;
            if !wanted {
                return Ok(false);
            }
            wanted = match writes.next_if(|(written, _)| written.as_slice() == key) {
                Some((_, Some(value))) => visit(key, value)?,
                Some((_, None)) => true,
                None => visit(key, value)?,
            };
            Ok(wanted)
        })?;
        if wanted {
            visit_written(&mut writes, None, visit)?;
        }
        Ok(())
    }
}

type Written<'a> = Peekable<Range<'a, Vec<u8>, Option<Vec<u8>>>>;

/// Visits the written entries below `end`; false when the visitor wants no more.
fn visit_written(
    writes: &mut Written<'_>,
    end: Option<&[u8]>,
    visit: &mut Visitor<'_>,
) -> Result<bool> {
    while let Some((key, value)) =
        writes.next_if(|(key, _)| end.is_none_or(|end| key.as_slice() < end))
    {
        if let Some(value) = value
            && !visit(key, value)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}
