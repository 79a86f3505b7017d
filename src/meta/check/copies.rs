//! Copies: the placement is that of the nodes, each chunk says who misses it, and each of these has
//! its errand.

use std::collections::BTreeMap;

use super::findings::{Findings, each, part};
use crate::error::Result;
use crate::meta::apply::ledger::errands;
use crate::meta::keys;
use crate::meta::kv::KvRead;
use crate::meta::placement::Placement;
use crate::meta::record::{ChunkRecord, Errand, NodeRecord};
use crate::types::{ChunkId, NodeId};

pub fn check(view: &dyn KvRead, findings: &mut Findings) -> Result<()> {
    let placement = match view.get(keys::PLACEMENT)? {
        Some(bytes) => match findings.decode::<Placement>("the placement", &bytes) {
            Some(placement) => placement,
            None => return Ok(()),
        },
        None => Placement::default(),
    };
    members(view, &placement, findings)?;
    let mut sent = 0;
    each(view, keys::CHUNK, |key, value| {
        let id = ChunkId::from_bytes(part(keys::tail_id(key))?);
        // What cannot be read is a finding already.
        let mut ignored = Findings::default();
        if let Some(record) = ignored.decode::<ChunkRecord>("", value) {
            sent += chunk(view, &placement, id, &record, findings)?;
        }
        Ok(())
    })?;
    let mut found = 0;
    each(view, keys::ERRAND, |key, value| {
        findings.decode::<Errand>("an errand", value);
        part(keys::tail_id(key))?;
        found += 1;
        Ok(())
    })?;
    findings.require(sent == found, || format!("{found} errands, {sent} of them of chunks"));
    Ok(())
}

fn members(view: &dyn KvRead, placement: &Placement, findings: &mut Findings) -> Result<()> {
    let mut nodes: BTreeMap<NodeId, NodeRecord> = BTreeMap::new();
    each(view, keys::NODE, |key, value| {
        let node = part(keys::tail_number(key))?;
        nodes.extend(findings.decode(&format!("node {node}"), value).map(|it| (node, it)));
        Ok(())
    })?;
    let records = nodes.iter().map(|(&node, record)| (node, record));
    let derived = placement.follow(placement.replication_factor, records);
    findings.require(derived == *placement, || "the placement is not that of the nodes".into());
    Ok(())
}

/// Returns how many errands the chunk has.
fn chunk(
    view: &dyn KvRead,
    placement: &Placement,
    id: ChunkId,
    record: &ChunkRecord,
    findings: &mut Findings,
) -> Result<usize> {
    let rising = record.stored_on.is_sorted_by(|left, right| left < right);
    findings.require(rising, || format!("chunk {id} is stored on nodes out of order"));
    let mut noted = record.clone();
    placement.note(id, &mut noted);
    let is_right = noted == *record || !placement.has_surveyed(id);
    findings.require(is_right, || format!("chunk {id}: the nodes that miss it are noted wrongly"));
    let errands = errands(record);
    for (node, errand) in &errands {
        let sent = match view.get(&keys::errand(*node, id))? {
            Some(bytes) => findings.decode::<Errand>("an errand", &bytes),
            None => None,
        };
        findings.require(sent == Some(*errand), || {
            format!("chunk {id}: node {node} has no errand to {errand:?} a copy")
        });
    }
    Ok(errands.len())
}
