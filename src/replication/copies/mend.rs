//! Mends this node's bad files: each gets a whole one in its place, put together from the good bytes
//! of all nodes; where there is no file at all, the log hears of it.

use std::sync::Arc;
use std::time::Duration;

use super::errands::FAILURES_MAX;
use super::keeper::Copies;
use super::repair::{ROUND_MAX, Repair, on_disk};
use crate::chunk::SealedChunk;
use crate::env::AlignedBuf;
use crate::error::{Error, Result};
use crate::meta::{ChunkRecord, Loss, Mutation, Outcome};
use crate::types::ChunkId;
use crate::types::limits::{CRC_BLOCK, REAP_IDS_MAX};

/// What became of a suspect.
enum Seen {
    Good,
    Missing,
    Mended,
}

impl Repair {
    /// Looks at the files that are perhaps bad or missing. Those there is no time for, and those that
    /// cannot be mended now, are looked at again in a later round.
    ///
    /// # Errors
    /// What the log says, or the table.
    pub(super) async fn see_to_suspects(&self) -> Result<()> {
        let until = self.copies.clock.elapsed() + ROUND_MAX;
        let (mut missing, mut mended, mut unreachable) = (Vec::new(), 0, 0);
        let mut lost = Lost::default();
        for id in self.copies.chunks.take_suspects() {
            let Some(record) = self.to_be_mended(id)? else { continue };
            let is_vain = self.state.lock().rests(id) || unreachable > FAILURES_MAX;
            if is_vain || self.is_late(until) {
                self.copies.suspect(id);
                continue;
            }
            match look(&self.copies, id, &record).await {
                Ok(Seen::Good) => self.state.lock().has_rested(id),
                Ok(Seen::Missing) => missing.push(id),
                Ok(Seen::Mended) => {
                    self.state.lock().has_rested(id);
                    mended += 1;
                }
                Err(error) => {
                    unreachable += usize::from(matches!(error, Error::Unreachable(_)));
                    self.failed(id, error, &mut lost);
                    self.copies.suspect(id);
                }
            }
        }
        lost.tell();
        if mended > 0 {
            self.sync_names().await?;
            self.copies.tally.mended(mended);
        }
        let told = self.tell_missing(&missing).await;
        // Their files are gone, and no reader would tell.
        told.inspect_err(|_| missing.iter().for_each(|id| self.copies.suspect(*id)))
    }

    /// Tells the log of chunks whose files are not here, where another node has a copy: they become
    /// errands.
    ///
    /// # Errors
    /// What the log says.
    pub(super) async fn tell_missing(&self, ids: &[ChunkId]) -> Result<()> {
        for ids in ids.chunks(REAP_IDS_MAX) {
            let (node, ids) = (self.node(), ids.to_vec());
            let unstored = Mutation::Unstored { node, ids, why: Loss::Damaged };
            if let Outcome::Reaped(struck) = self.propose(unstored).await? {
                self.copies.tally.mended(struck.len());
            }
        }
        Ok(())
    }

    /// The record of a chunk that is on this node and on another.
    fn to_be_mended(&self, id: ChunkId) -> Result<Option<ChunkRecord>> {
        let record = self.copies.table.view().chunk(id)?;
        let is_here = |record: &ChunkRecord| record.stored_on.contains(&self.node());
        Ok(record.filter(|record| is_here(record) && record.stored_on.len() > 1))
    }
}

/// Looks a second time.
async fn look(copies: &Arc<Copies>, id: ChunkId, record: &ChunkRecord) -> Result<Seen> {
    let (chunks, wanted) = (Arc::clone(&copies.chunks), (record.len, record.sha256));
    let what = match on_disk(move || chunks.verify_settled(id)).await {
        Ok(info) if (info.len, info.sha256) == wanted => return Ok(Seen::Good),
        Ok(_) => format!("the file of chunk {id} is another one than recorded"),
        Err(Error::NotFound) => return Ok(Seen::Missing),
        Err(Error::Damaged(what)) => what,
        Err(error) => return Err(error),
    };
    let chunk = whole(copies, id, record).await?;
    let chunks = Arc::clone(&copies.chunks);
    on_disk(move || chunks.renew(&chunk)).await?;
    log::error!("{what}: it was made again with what all nodes have");
    Ok(Seen::Mended)
}

/// A whole chunk for this node: the good bytes of the file here with those of others in place of the
/// bad ones, so that it can be made also when no node has all of them; else that of another node.
///
/// # Errors
/// As [`Copies::read`].
pub(super) async fn whole(
    copies: &Arc<Copies>,
    id: ChunkId,
    record: &ChunkRecord,
) -> Result<SealedChunk> {
    let (chunks, wanted) = (Arc::clone(&copies.chunks), (record.len, record.sha256));
    let header = match on_disk(move || chunks.info(id)).await {
        Ok(info) if (info.len, info.sha256) == wanted => info.header,
        Ok(_) | Err(Error::NotFound | Error::Damaged(_)) => {
            return copies.fetch(id, &[], Some(record), Duration::ZERO).await;
        }
        Err(error) => return Err(error),
    };
    let mut data = AlignedBuf::with_capacity(record.len as usize);
    let mut at = 0;
    while at < record.len {
        let len = (record.len - at).min(CRC_BLOCK as u32);
        data.extend(&good_bytes(copies, id, (at, len)).await?);
        at += len;
    }
    let chunk = on_disk(move || SealedChunk::new(&header, Arc::new(data))).await?;
    let is_it = chunk.info().sha256 == record.sha256;
    let other = || Error::damaged(format!("what all nodes have of chunk {id} is not what it was"));
    if is_it { Ok(chunk) } else { Err(other()) }
}

/// One block, from here or from anybody.
async fn good_bytes(copies: &Arc<Copies>, id: ChunkId, (at, len): (u32, u32)) -> Result<Vec<u8>> {
    let chunks = Arc::clone(&copies.chunks);
    let read = move || {
        let mut bytes = Vec::new();
        chunks.read(id, at, len, &mut bytes).map(|()| bytes)
    };
    match on_disk(read).await {
        Err(Error::NotFound | Error::Damaged(_)) => {
            copies.read_from(id, copies.holders(id, &[])?.others, (at, len)).await
        }
        read => read,
    }
}

/// Chunks that no node has a good copy of, told once a round.
#[derive(Default)]
pub(super) struct Lost {
    count: usize,
    one: Option<(ChunkId, Error)>,
}

impl Lost {
    pub fn note(&mut self, id: ChunkId, error: Error) {
        self.count += 1;
        self.one.get_or_insert((id, error));
    }

    pub fn tell(self) {
        if let Some((id, error)) = self.one {
            let count = self.count;
            log::error!("no node has a good copy of {count} chunks; of them {id}: {error}");
        }
    }
}
