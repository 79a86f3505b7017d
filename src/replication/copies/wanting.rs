//! What copies are still to be made or given up, counted for people.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::meta::{Errand, KvRead, Survey, View, codec, keys};
use crate::types::NodeId;

/// Errands counted at most.
const COUNTED_MAX: usize = 1_000_000;

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
    pub fn of(view: &View<'_>, node: NodeId) -> Result<Self> {
        let is_surveying = view.placement()?.survey != Survey::Done;
        let mut wanting = Self { is_surveying, ..Self::default() };
        each_errand(view, |whose, errand| match errand {
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
pub fn wanting_by_node(view: &View<'_>) -> Result<BTreeMap<NodeId, u64>> {
    let mut wanting = BTreeMap::new();
    each_errand(view, |node, errand| {
        if errand == Errand::Make {
            *wanting.entry(node).or_default() += 1;
        }
    })?;
    Ok(wanting)
}

fn each_errand(view: &View<'_>, mut see: impl FnMut(NodeId, Errand)) -> Result<()> {
    let (from, to) = keys::family(keys::ERRAND);
    let mut counted = 0;
    view.scan(&from, &to, &mut |key, value| {
        if let Some(node) = keys::head_number(key) {
            see(node, codec::decode(value)?);
        }
        counted += 1;
        Ok(counted < COUNTED_MAX)
    })
}
