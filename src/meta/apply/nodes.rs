//! The nodes of the cluster, where copies belong, and who has which.

use std::collections::{BTreeMap, BTreeSet};

use super::collect::may_still_come;
use super::state::{State, Step, require};
use crate::error::{Error, Result};
use crate::meta::mutation::{Change, Loss, Outcome, Refusal};
use crate::meta::placement::{FACTOR_MAX, Placement, Survey};
use crate::meta::record::{Bucket, NodeRecord, NodeState};
use crate::meta::{codec, keys};
use crate::types::limits::{NODES_MAX, REAP_IDS_MAX};
use crate::types::{ChunkId, Ino, NodeId};

/// Bytes of an address and of a zone.
const TEXT_MAX: usize = 256;
const WEIGHT_MAX: u32 = 1_000_000;
/// Chunks that one mutation looks at.
const SURVEYED_AT_ONCE: usize = 1024;

pub fn set_node(state: &mut State<'_>, node: NodeId, record: &NodeRecord) -> Step<Outcome> {
    let short = record.address.len() <= TEXT_MAX && record.zone.len() <= TEXT_MAX;
    require(short && record.weight <= WEIGHT_MAX && node != 0, Refusal::Malformed)?;
    let mut nodes = nodes(state)?;
    let old = nodes.insert(node, record.clone()).map(|old| old.state);
    let is_gone = old == Some(NodeState::Gone);
    require(!is_gone || record.state == NodeState::Gone, Refusal::NodeGone)?;
    let members = nodes.values().filter(|record| record.state != NodeState::Gone).count();
    require(members <= NODES_MAX, Refusal::TooMuch)?;
    let factor = state.placement()?.replication_factor;
    let next = followed(state, factor, &nodes)?;
    // Here, for two that drain at the same time know nothing of each other when they are asked for.
    let starts_to_drain = record.state == NodeState::Draining && old != Some(NodeState::Draining);
    let enough = next.members.len() >= usize::from(factor);
    require(enough || !starts_to_drain, Refusal::TooFewNodes)?;
    state.put(keys::node(node), record)?;
    place(state, next)
}

pub fn set_factor(state: &mut State<'_>, factor: u8) -> Step<Outcome> {
    require((1..=FACTOR_MAX).contains(&factor), Refusal::Malformed)?;
    let nodes = nodes(state)?;
    let next = followed(state, factor, &nodes)?;
    place(state, next)
}

pub fn set_quorum_required(state: &mut State<'_>, bucket: Ino, is_required: bool) -> Step<Outcome> {
    let key = keys::bucket(bucket);
    let record: Bucket = state.get(&key)?.ok_or(Refusal::NotFound)?;
    state.put(key, &Bucket { quorum_required: is_required, ..record })?;
    Ok(Outcome::Done)
}

/// The table in force, brought to what the records of the nodes say.
fn followed(
    state: &mut State<'_>,
    factor: u8,
    nodes: &BTreeMap<NodeId, NodeRecord>,
) -> Step<Placement> {
    let placement = state.placement()?;
    Ok(placement.follow(factor, nodes.iter().map(|(&node, record)| (node, record))))
}

fn place(state: &mut State<'_>, next: Placement) -> Step<Outcome> {
    if next != *state.placement()? {
        state.set_placement(next)?;
    }
    Ok(Outcome::Done)
}

fn nodes(state: &State<'_>) -> Result<BTreeMap<NodeId, NodeRecord>> {
    let (from, to) = keys::family(keys::NODE);
    let mut nodes = BTreeMap::new();
    state.view().scan(&from, &to, &mut |key, value| {
        let node = keys::tail_number(key).ok_or_else(|| Error::damaged("a node's key"))?;
        nodes.insert(node, codec::decode(value)?);
        Ok(true)
    })?;
    Ok(nodes)
}

/// Notes of some chunks who misses them now. Those of later mutations are noted at once.
pub fn survey(state: &mut State<'_>, epoch: u64) -> Step<Outcome> {
    let placement = state.placement()?.clone();
    let Survey::After(last) = placement.survey else { return Ok(Outcome::More(false)) };
    if placement.epoch != epoch {
        return Ok(Outcome::More(false));
    }
    let (first, to) = keys::family(keys::CHUNK);
    let from = last.map_or(first, |last| keys::after(&keys::chunk(last)));
    let found = state.keys(&(from, to), SURVEYED_AT_ONCE)?;
    let mut seen = last;
    for key in &found {
        let id = keys::tail_id(key).map(ChunkId::from_bytes);
        let id = id.ok_or_else(|| Error::damaged("a chunk's key"))?;
        // Looked at, it is noted anew when the mutation is through.
        state.chunk(id)?;
        seen = Some(id);
    }
    let more = found.len() == SURVEYED_AT_ONCE;
    let survey = if more { Survey::After(seen) } else { Survey::Done };
    state.set_placement(Placement { survey, ..placement })?;
    Ok(Outcome::More(more))
}

pub fn stored(state: &mut State<'_>, node: NodeId, ids: &[ChunkId]) -> Step<Outcome> {
    require(ids.len() <= REAP_IDS_MAX, Refusal::Malformed)?;
    let record: Option<NodeRecord> = state.get(&keys::node(node))?;
    require(record.is_some_and(|record| record.state != NodeState::Gone), Refusal::NodeGone)?;
    let placement = state.placement()?.clone();
    let (mut gone, mut unwanted) = (Vec::new(), Vec::new());
    for &id in ids.iter().collect::<BTreeSet<_>>() {
        let places = placement.places(id);
        if let Some(record) = state.chunk(id)? {
            let is_wanted = places.is_empty() || places.contains(&node);
            if !is_wanted && !record.missing_on.contains(&node) {
                // The word is late: a file that is nobody's may be removed by now.
                unwanted.push(id);
                continue;
            }
            if let Err(at) = record.stored_on.binary_search(&node) {
                record.stored_on.insert(at, node);
            }
        } else if !may_still_come(state, id)? {
            gone.push(id);
        }
    }
    if !unwanted.is_empty() {
        state.tell(Change::Unwanted(node, unwanted));
    }
    Ok(reaped(state, gone))
}

pub fn unstored(state: &mut State<'_>, node: NodeId, ids: &[ChunkId], why: Loss) -> Step<Outcome> {
    require(ids.len() <= REAP_IDS_MAX, Refusal::Malformed)?;
    let placement = state.placement()?.clone();
    let mut dropped = Vec::new();
    for &id in ids.iter().collect::<BTreeSet<_>>() {
        let Some(record) = state.chunk(id)? else { continue };
        // Not what was noted once: what the table of this moment says.
        placement.note(id, record);
        let may_go = match why {
            // Two nodes may lose theirs at the same time: the last copy is never struck.
            Loss::Damaged => record.stored_on.iter().any(|there| *there != node),
            Loss::Surplus => record.surplus_on.contains(&node),
        };
        if may_go {
            record.stored_on.retain(|there| *there != node);
            dropped.push(id);
        }
    }
    Ok(Outcome::Reaped(dropped))
}

fn reaped(state: &mut State<'_>, ids: Vec<ChunkId>) -> Outcome {
    if !ids.is_empty() {
        state.tell(Change::Reaped(ids.clone()));
    }
    Outcome::Reaped(ids)
}
