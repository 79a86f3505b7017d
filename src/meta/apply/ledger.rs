//! The reference counts of the chunks that one mutation touches, kept exact.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::state::{Step, encode};
use crate::error::{Error, Result};
use crate::meta::kv::{KvRead, KvTxn};
use crate::meta::mutation::{NewChunk, Refusal};
use crate::meta::placement::Placement;
use crate::meta::record::{ChunkRecord, Errand};
use crate::meta::{codec, keys};
use crate::types::{ChunkId, NodeId};

/// Nodes one chunk record can name.
const STORED_ON_MAX: usize = 64;

#[derive(Default)]
pub struct Ledger {
    accounts: BTreeMap<ChunkId, Account>,
}

struct Account {
    record: ChunkRecord,
    /// `None`: not in the table yet.
    stored: Option<ChunkRecord>,
}

impl Ledger {
    /// The record as the mutation has left it so far.
    pub fn chunk(&mut self, view: &dyn KvRead, id: ChunkId) -> Result<Option<&mut ChunkRecord>> {
        match self.accounts.entry(id) {
            Entry::Occupied(account) => Ok(Some(&mut account.into_mut().record)),
            Entry::Vacant(place) => {
                let Some(bytes) = view.get(&keys::chunk(id))? else { return Ok(None) };
                let record: ChunkRecord = codec::decode(&bytes)?;
                let account = Account { stored: Some(record.clone()), record };
                Ok(Some(&mut place.insert(account).record))
            }
        }
    }

    /// Records a new chunk without references, or that a known one is on more nodes.
    /// `may_be_new`: the proposer has the right to bring this id into the world.
    pub fn introduce(&mut self, view: &dyn KvRead, chunk: &NewChunk, may_be_new: bool) -> Step<()> {
        let known = self.chunk(view, chunk.id)?;
        if known.is_none() && !may_be_new {
            return Err(Refusal::UnknownChunk.into());
        }
        let mut stored_on = chunk.stored_on.clone();
        if let Some(known) = &known {
            if (known.len, known.sha256) != (chunk.len, chunk.sha256) {
                return Err(Refusal::Malformed.into());
            }
            stored_on.extend(&known.stored_on);
        }
        stored_on.sort_unstable();
        stored_on.dedup();
        if stored_on.len() > STORED_ON_MAX {
            return Err(Refusal::Malformed.into());
        }
        match known {
            Some(known) => known.stored_on = stored_on,
            None => {
                let record = ChunkRecord {
                    len: chunk.len,
                    sha256: chunk.sha256,
                    references: 0,
                    stored_on,
                    missing_on: Vec::new(),
                    surplus_on: Vec::new(),
                };
                self.accounts.insert(chunk.id, Account { record, stored: None });
            }
        }
        Ok(())
    }

    /// The mutation removes the record itself.
    pub fn forget(&mut self, id: ChunkId) {
        self.accounts.remove(&id);
    }

    /// Whether something named the chunk before the mutation.
    pub fn is_named(&mut self, view: &dyn KvRead, id: ChunkId) -> Result<bool> {
        self.chunk(view, id)?;
        let stored = self.accounts.get(&id).and_then(|account| account.stored.as_ref());
        Ok(stored.is_some_and(|stored| stored.references > 0))
    }

    pub fn add(&mut self, view: &dyn KvRead, id: ChunkId) -> Step<()> {
        let record = self.chunk(view, id)?.ok_or(Refusal::UnknownChunk)?;
        record.references = record.references.checked_add(1).ok_or(Refusal::TooMuch)?;
        Ok(())
    }

    pub fn remove(&mut self, view: &dyn KvRead, id: ChunkId) -> Result<()> {
        let record = self.chunk(view, id)?;
        let record =
            record.ok_or_else(|| Error::damaged(format!("chunk {id} is used, not recorded")))?;
        record.references = record
            .references
            .checked_sub(1)
            .ok_or_else(|| Error::damaged(format!("chunk {id} has more uses than counted")))?;
        Ok(())
    }

    /// Nothing was looked at.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Writes what changed, with what the placement makes of it; a chunk without references becomes
    /// garbage, one with any is none.
    pub fn store(self, txn: &mut dyn KvTxn, placement: &Placement) -> Step<()> {
        for (id, mut account) in self.accounts {
            placement.note(id, &mut account.record);
            if account.stored.as_ref() == Some(&account.record) {
                continue;
            }
            txn.put(keys::chunk(id), encode(&account.record)?);
            store_errands(txn, id, account.stored.as_ref(), &account.record)?;
            let was_garbage = account.stored.is_some_and(|stored| stored.references == 0);
            match (was_garbage, account.record.references == 0) {
                (false, true) => txn.put(keys::garbage(id), Vec::new()),
                (true, false) => txn.delete(keys::garbage(id)),
                (true, true) | (false, false) => {}
            }
        }
        Ok(())
    }
}

/// One record for each node that has to do something about a chunk.
fn store_errands(
    txn: &mut dyn KvTxn,
    id: ChunkId,
    before: Option<&ChunkRecord>,
    after: &ChunkRecord,
) -> Step<()> {
    let (old, new) = (before.map(errands).unwrap_or_default(), errands(after));
    for node in old.keys().filter(|node| !new.contains_key(node)) {
        txn.delete(keys::errand(*node, id));
    }
    for (node, errand) in &new {
        if old.get(node) != Some(errand) {
            txn.put(keys::errand(*node, id), encode(errand)?);
        }
    }
    Ok(())
}

/// What a chunk's record sends its nodes to do.
pub fn errands(record: &ChunkRecord) -> BTreeMap<NodeId, Errand> {
    let make = record.missing_on.iter().map(|node| (*node, Errand::Make));
    let drop = record.surplus_on.iter().map(|node| (*node, Errand::Drop));
    make.chain(drop).collect()
}
