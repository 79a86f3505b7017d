//! Whose bytes lie in a damaged chunk: a walk over all names, made only when there is damage.

use std::collections::HashMap;

use super::Report;
use crate::error::Result;
use crate::meta::{Body, KvRead, Slot, Table, codec, keys};
use crate::types::{ContentId, FileKind, Ino};

/// Names and slots read at a time.
const PAGE: usize = 1024;

/// Fills in the files of each damaged chunk.
pub fn name_files(table: &Table, report: &mut Report) -> Result<()> {
    if report.damaged.is_empty() {
        return Ok(());
    }
    let by_id: HashMap<String, usize> =
        report.damaged.iter().enumerate().map(|(at, bad)| (bad.chunk.clone(), at)).collect();
    let mut directories = vec![(Ino::ROOT, String::new())];
    while let Some((directory, path)) = directories.pop() {
        let mut after = None;
        loop {
            let page = table.view().children(directory, after.as_ref(), PAGE)?;
            let Some((name, dirent)) = page.last() else { break };
            after = Some((name.clone(), dirent.kind == FileKind::Directory));
            for (name, dirent) in page {
                let path = format!("{path}{name}");
                match dirent.kind {
                    FileKind::Directory => directories.push((dirent.ino, format!("{path}/"))),
                    FileKind::Regular => {
                        for at in damaged_chunks(table, dirent.ino, &by_id)? {
                            report.damaged[at].files.push(path.clone());
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

/// The damaged chunks in a file's manifest, each once.
fn damaged_chunks(table: &Table, ino: Ino, by_id: &HashMap<String, usize>) -> Result<Vec<usize>> {
    let body = table.view().inode(ino)?.map(|inode| inode.body);
    let Some(Body::Manifest(content)) = body else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let mut first = 0;
    while let Some((last, chunks)) = chunks_from(table, content, first)? {
        found.extend(chunks.iter().filter_map(|chunk| by_id.get(chunk)).copied());
        first = last + 1;
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The chunks named by a page of slots, and the page's last slot; `None` past the end.
fn chunks_from(
    table: &Table,
    content: ContentId,
    first: u64,
) -> Result<Option<(u64, Vec<String>)>> {
    let (from, to) = keys::slots(content, first);
    let (mut last, mut slots, mut chunks) = (None, 0, Vec::new());
    table.view().scan(&from, &to, &mut |key, value| {
        let slot: Slot = codec::decode(value)?;
        chunks.extend(slot.pieces.iter().map(|piece| piece.chunk.to_string()));
        last = keys::slot_number(key);
        slots += 1;
        Ok(slots < PAGE)
    })?;
    Ok(last.map(|last| (last, chunks)))
}
