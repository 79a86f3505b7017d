//! What copies are still to be made or given up, counted for people.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::meta::{Errand, KvRead, Survey, Table, codec, keys};
use crate::types::NodeId;

/// Errands counted at most.
const COUNTED_MAX: usize = 1_000_000;
/// Errands counted in one view of the table, which keeps changes out.
const PAGE: usize = 1024;

/// Copies that are still to be made or given up, at most a million counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanting {
    /// Missing on this node.
    pub here: u64,
    /// Missing on all nodes.
    pub anywhere: u64,
    /// On some node for nothing.
    pub surplus: u64,
    /// A change of the nodes is still being looked into: there may be more.
    pub is_surveying: bool,
}

impl Wanting {
    /// # Errors
    /// What the table says.
    pub fn of(table: &Table, node: NodeId) -> Result<Self> {
        let is_surveying = table.view().placement()?.survey != Survey::Done;
        let mut wanting = Self { is_surveying, ..Self::default() };
        each_errand(table, |whose, errand| match errand {
            Errand::Make => {
                wanting.anywhere += 1;
                wanting.here += u64::from(whose == node);
            }
            Errand::Drop => wanting.surplus += 1,
        })?;
        Ok(wanting)
    }
}

/// Copies that each node has yet to make, at most a million counted.
///
/// # Errors
/// What the table says.
pub fn wanting_by_node(table: &Table) -> Result<BTreeMap<NodeId, u64>> {
    let mut wanting = BTreeMap::new();
    each_errand(table, |node, errand| {
        if errand == Errand::Make {
            *wanting.entry(node).or_default() += 1;
        }
    })?;
    Ok(wanting)
}

fn each_errand(table: &Table, mut see: impl FnMut(NodeId, Errand)) -> Result<()> {
    let (mut from, to) = keys::family(keys::ERRAND);
    for _ in 0..COUNTED_MAX / PAGE {
        let (mut counted, mut last) = (0, Vec::new());
        table.view().scan(&from, &to, &mut |key, value| {
            if let Some(node) = keys::head_number(key) {
                see(node, codec::decode(value)?);
            }
            counted += 1;
            if counted == PAGE {
                last = key.to_vec();
            }
            Ok(counted < PAGE)
        })?;
        if counted < PAGE {
            break;
        }
        from = keys::after(&last);
    }
    Ok(())
}
