//! What must hold: at all times, and once everything works again.

use std::collections::{BTreeMap, BTreeSet};

use bucketfs::error::Error;
use bucketfs::meta::{ChunkRecord, KvRead, Survey, View, keys};
use bucketfs::replication::Wanting;
use bucketfs::types::{Ino, NodeId, crc32c, quorum};

use super::clients::{
    APPENDED, CLIENTS, COUNTER, RECORD, names, parse, read_file, read_object, record,
};
use super::ledger::Ledger;
use super::node::{FACTOR, Node, Parts};
use super::world::{FLIPS, PLACES};

/// Whether a start failed in a way that does not mend itself.
pub fn needs_somebody(error: &Error) -> bool {
    matches!(error, Error::Store(_) | Error::Damaged(_) | Error::Config(_))
}

/// All records but how far the table is, which is known.
pub fn sum_of_table(parts: &Parts) -> u32 {
    let view = parts.replica.table().view();
    let mut records = Vec::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        if key != keys::APPLIED {
            records.extend_from_slice(key);
            records.extend_from_slice(value);
        }
        Ok(true)
    };
    view.scan(&[], keys::END, visit).expect("a table in memory");
    crc32c(&records)
}

/// What a node shows of everything, when it is what was promised.
pub async fn read_all(
    node: Parts,
    bucket: Ino,
    ledger: Ledger,
) -> Result<BTreeMap<String, Option<Vec<u8>>>, String> {
    let mut found = BTreeMap::new();
    let mut whole = BTreeMap::new();
    for name in (0..PLACES * CLIENTS).flat_map(names) {
        let since = ledger.lock().acknowledged(&name);
        let of_name = |error: Error| format!("{name}: {error}");
        let as_object = read_object(&node.vfs, &name).await.map(|(_, bytes)| bytes);
        let as_object = present(as_object).map_err(of_name)?;
        let bytes = present(read_file(&node.vfs, bucket, &name).await).map_err(of_name)?;
        if as_object != bytes {
            return Err(format!("{name} is another file than object"));
        }
        ledger.lock().compare(&name, since, bytes.as_deref())?;
        found.insert(name, bytes);
    }
    for name in [APPENDED, COUNTER] {
        let read = read_file(&node.vfs, bucket, name).await;
        let bytes = present(read).map_err(|error| format!("{name}: {error}"))?;
        whole.insert(name.to_owned(), bytes);
    }
    check_appends(whole[APPENDED].as_deref().unwrap_or_default(), &ledger)?;
    check_counter(whole[COUNTER].as_deref(), &ledger)?;
    found.extend(whole);
    Ok(found)
}

fn present(read: Result<Vec<u8>, Error>) -> Result<Option<Vec<u8>>, Error> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Every acknowledged record is there once, no other twice, and nothing is between them.
fn check_appends(bytes: &[u8], ledger: &Ledger) -> Result<(), String> {
    let mut times: BTreeMap<(u64, u64), u32> = BTreeMap::new();
    for part in bytes.chunks(RECORD) {
        let number = |at: usize| {
            let raw = part.get(at..at + 8).and_then(|raw| raw.try_into().ok());
            raw.map(u64::from_le_bytes)
        };
        match (number(0), number(8)) {
            (Some(who), Some(which)) if part == record(who, which) => {
                *times.entry((who, which)).or_default() += 1;
            }
            _ => return Err(format!("{APPENDED} has {part:?} in it")),
        }
    }
    let books = ledger.lock();
    for (who, appends) in &books.appends {
        for which in 1..=appends.next {
            let found = times.remove(&(*who, which)).unwrap_or(0);
            let is_right =
                if appends.acknowledged.contains(&which) { found == 1 } else { found < 2 };
            if !is_right {
                return Err(format!("record {which} of {who} is {found} times in {APPENDED}"));
            }
        }
    }
    if times.is_empty() { Ok(()) } else { Err(format!("{APPENDED} has what nobody wrote")) }
}

fn check_counter(bytes: Option<&[u8]>, ledger: &Ledger) -> Result<(), String> {
    let found = bytes.map_or(0, parse);
    let books = ledger.lock();
    let least = books.counter.acknowledged.last().copied().unwrap_or(0);
    if found < least || found > 0 && !books.counter.attempted.contains(&found) {
        return Err(format!("the counter is {found}, {least} was acknowledged"));
    }
    Ok(())
}

/// A node has a file of each chunk that its table says it has.
///
/// # Errors
/// Which one is missing.
pub fn has_what_is_recorded(id: NodeId, parts: &Parts) -> Result<(), String> {
    let view = parts.replica.table().view();
    let mut files = BTreeSet::new();
    let note = &mut |chunk, _| {
        files.insert(chunk);
        Ok(true)
    };
    // A node whose disk has just failed is seen elsewhere.
    if parts.chunks.visit(note).is_err() {
        return Ok(());
    }
    for (chunk, record) in view.chunks(None, 100_000).expect("a table in memory") {
        if record.references > 0 && record.stored_on.contains(&id) && !files.contains(&chunk) {
            return Err(format!("node {id} has lost chunk {chunk}: {record:?}"));
        }
    }
    Ok(())
}

/// Whether each chunk that is named has a quorum of copies on record, under a table with all nodes.
pub fn has_its_copies(parts: &Parts) -> Result<(), String> {
    let view = parts.replica.table().view();
    let factor = usize::from(FACTOR);
    let members = view.placement().expect("a table in memory").members.len();
    if members < factor {
        return Err(format!("copies are placed on {members} nodes"));
    }
    let chunks = view.chunks(None, 100_000).expect("a table in memory");
    let lacks = |record: &ChunkRecord| record.stored_on.len() < quorum(factor);
    match chunks.iter().find(|(_, record)| record.references > 0 && lacks(record)) {
        Some((id, record)) => Err(format!("chunk {id} has too few copies: {record:?}")),
        None => Ok(()),
    }
}

/// All copies are made, nothing is left over, and all tables agree.
///
/// # Errors
/// What is still to be done.
pub fn at_rest<'a>(nodes: impl Iterator<Item = (usize, &'a Node)>) -> Result<(), String> {
    let mut tables = Vec::new();
    for (place, node) in nodes {
        let parts = node.parts().ok_or_else(|| format!("node {} is down", node.id))?;
        let failed = |error: Error| format!("node {}: {error}", node.id);
        let wanting = Wanting::of(parts.replica.table(), node.id).map_err(failed)?;
        let view = parts.replica.table().view();
        if wanting != Wanting::default() {
            return Err(format!("node {}: {wanting:?}", node.id));
        }
        let findings = bucketfs::meta::check(&view).map_err(failed)?;
        if !findings.is_empty() {
            return Err(format!("node {}: {findings:?}", node.id));
        }
        check_chunks(node, &parts, &view, place == FLIPS)?;
        drop(view);
        tables.push((parts.replica.status().applied, sum_of_table(&parts)));
    }
    if tables.windows(2).all(|pair| pair[0] == pair[1]) {
        Ok(())
    } else {
        Err(format!("tables differ: {tables:?}"))
    }
}

/// A node has a good file of each chunk that is recorded on it, and no other. Where bits flip, what
/// nobody read is found as the scrubbing would find it.
fn check_chunks(node: &Node, parts: &Parts, view: &View<'_>, flips: bool) -> Result<(), String> {
    let failed = |error: Error| format!("node {}: {error}", node.id);
    let placement = view.placement().map_err(failed)?;
    if placement.survey != Survey::Done {
        return Err("the survey goes on".into());
    }
    let (mut recorded, mut files) = (BTreeSet::new(), BTreeSet::new());
    for (id, record) in view.chunks(None, 100_000).map_err(failed)? {
        if record.references == 0 || record.stored_on.len() != usize::from(FACTOR) {
            return Err(format!("chunk {id} is {record:?}"));
        }
        if !record.stored_on.contains(&node.id) {
            continue;
        }
        if let Err(error) = parts.chunks.verify(id) {
            if flips {
                parts.copies.suspect(id);
            }
            return Err(format!("chunk {id} on {}: {error}", node.id));
        }
        recorded.insert(id);
    }
    let note = &mut |id, _| {
        files.insert(id);
        Ok(true)
    };
    parts.chunks.visit(note).map_err(failed)?;
    match files.difference(&recorded).next() {
        Some(id) => Err(format!("node {} has chunk {id}, which nothing names", node.id)),
        None => Ok(()),
    }
}
