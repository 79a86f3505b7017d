//! One file of the simulated disk: what reads show, and what a power cut may leave.

use std::ops::Range;

use super::seeded::Seeded;

/// What a disk writes at once.
const SECTOR: usize = 512;
const PAGE: u64 = 4096;

/// A file with its past since the last sync.
#[derive(Clone, Debug, Default)]
pub struct SimFile {
    /// What reads show.
    live: Vec<u8>,
    /// What the last sync left on the disk.
    durable: Vec<u8>,
    /// What happened since, in order.
    pending: Vec<Change>,
    /// Bytes of space the file takes.
    allocated: u64,
    /// Bytes that the disk cannot read any more.
    unreadable: Vec<Range<u64>>,
}

#[derive(Clone, Debug)]
enum Change {
    /// Whole sectors from `start` as they were after a write. The file's size was `len` then.
    Sectors {
        start: usize,
        bytes: Vec<u8>,
        len: usize,
    },
    Resize {
        len: usize,
    },
}

impl SimFile {
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Bytes of space, in whole pages.
    pub fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Bytes of space after a write or allocation up to `end`.
    pub fn allocated_with(&self, end: u64) -> u64 {
        self.allocated.max(end.next_multiple_of(PAGE))
    }

    pub fn lose(&mut self, range: Range<u64>) {
        self.unreadable.push(range);
    }

    /// Whether the disk has lost some of `len` bytes from `offset`.
    pub fn is_lost(&self, offset: u64, len: u64) -> bool {
        let end = offset.saturating_add(len);
        self.unreadable.iter().any(|lost| lost.start < end && offset < lost.end)
    }

    pub fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let start = usize::try_from(offset).map_or(self.len(), |start| start.min(self.len()));
        let len = buf.len().min(self.len() - start);
        buf[..len].copy_from_slice(&self.live[start..start + len]);
        len
    }

    pub fn write(&mut self, buf: &[u8], offset: usize) {
        let end = offset + buf.len();
        if end > self.live.len() {
            set_len(&mut self.live, end);
        }
        self.live[offset..end].copy_from_slice(buf);
        self.allocated = self.allocated_with(end as u64);
        let start = offset - offset % SECTOR;
        let stop = end.next_multiple_of(SECTOR).min(self.live.len());
        let bytes = self.live[start..stop].to_vec();
        self.pending.push(Change::Sectors { start, bytes, len: self.live.len() });
    }

    /// Reserves space up to `len` bytes and grows the file to it.
    pub fn allocate(&mut self, len: usize) {
        self.allocated = self.allocated_with(len as u64);
        if len > self.live.len() {
            self.resize(len);
        }
    }

    pub fn resize(&mut self, len: usize) {
        set_len(&mut self.live, len);
        self.allocated = self.allocated.min((len as u64).next_multiple_of(PAGE));
        self.pending.push(Change::Resize { len });
    }

    pub fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// What a failed sync does to the page cache of Linux: the pages are clean, and never written.
    pub fn lose_pending(&mut self) {
        self.pending.clear();
    }

    /// Flips a bit on the disk and in what reads show; false beyond the end.
    pub fn flip(&mut self, bit: usize) -> bool {
        for image in [&mut self.live, &mut self.durable] {
            if let Some(byte) = image.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
        bit / 8 < self.live.len()
    }

    /// The file after a power cut: the synced bytes, any sectors of later writes, any size since.
    pub fn after_power_cut(&self, seeded: &mut Seeded) -> SimFile {
        let percent = [0, 50, 90, 100][seeded.below(4) as usize];
        let mut image = self.durable.clone();
        let mut len = image.len();
        for change in &self.pending {
            change.apply_some(&mut image, seeded, percent);
            if seeded.chance(percent) {
                len = change.len();
            }
        }
        set_len(&mut image, len);
        let allocated = (len as u64).next_multiple_of(PAGE);
        let unreadable = self.unreadable.clone();
        SimFile { live: image.clone(), durable: image, pending: Vec::new(), allocated, unreadable }
    }
}

/// As `resize`, which takes longest of all in a build for tests: it sets byte by byte there.
fn set_len(image: &mut Vec<u8>, len: usize) {
    match len.checked_sub(image.len()) {
        Some(more) => image.extend_from_slice(&vec![0; more]),
        None => image.truncate(len),
    }
}

impl Change {
    /// The file's size after the change.
    fn len(&self) -> usize {
        match self {
            Change::Sectors { len, .. } | Change::Resize { len } => *len,
        }
    }

    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Change::Sectors { start, bytes, len } => {
                set_len(image, *len);
                image[*start..start + bytes.len()].copy_from_slice(bytes);
            }
            Change::Resize { len } => set_len(image, *len),
        }
    }

    /// Applies each sector or not. The image may stay longer than the file's size.
    fn apply_some(&self, image: &mut Vec<u8>, seeded: &mut Seeded, percent: u64) {
        match self {
            Change::Sectors { start, bytes, .. } => {
                for (n, sector) in bytes.chunks(SECTOR).enumerate() {
                    if seeded.chance(percent) {
                        let at = start + n * SECTOR;
                        let end = at + sector.len();
                        let len = image.len().max(end);
                        set_len(image, len);
                        image[at..end].copy_from_slice(sector);
                    }
                }
            }
            Change::Resize { len } => {
                if *len < image.len() && seeded.chance(percent) {
                    image[*len..].fill(0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(len: usize) -> SimFile {
        let mut file = SimFile::default();
        file.write(&vec![1; len], 0);
        file.sync();
        file
    }

    fn bytes(file: &SimFile) -> &[u8] {
        &file.live
    }

    #[test]
    fn synced_bytes_survive_and_later_sectors_are_whole() {
        let mut file = file(2048);
        file.write(&[2; 1024], 512);
        file.write(&[3; 100], 1000);
        let mut seen = std::collections::HashSet::new();
        for seed in 0..200 {
            let cut = file.after_power_cut(&mut Seeded::new(seed));
            assert_eq!(bytes(&cut).len(), 2048);
            assert!(bytes(&cut)[..512].iter().all(|&byte| byte == 1));
            assert!(bytes(&cut)[1536..].iter().all(|&byte| byte == 1));
            let (second, third) = (&bytes(&cut)[512..1024], &bytes(&cut)[1024..1536]);
            // The second write found the first one's bytes in its sectors.
            let versions = [vec![1; 512], vec![2; 512], [vec![2; 488], vec![3; 24]].concat()];
            assert!(versions.contains(&second.to_vec()));
            let versions = [vec![1; 512], vec![2; 512], [vec![3; 76], vec![2; 436]].concat()];
            assert!(versions.contains(&third.to_vec()));
            seen.insert((second[511], third[0]));
        }
        assert_eq!(seen.len(), 9, "each mixture happens");
    }

    #[test]
    fn any_size_since_the_sync_may_be_left() {
        let mut file = file(1000);
        file.write(&[2; 1000], 1000);
        file.resize(300);
        file.allocate(4096);
        let mut sizes = std::collections::BTreeSet::new();
        for seed in 0..400 {
            let cut = file.after_power_cut(&mut Seeded::new(seed));
            sizes.insert(cut.len());
            assert!(bytes(&cut)[..300].iter().all(|&byte| byte == 1));
            assert!(bytes(&cut)[2000.min(cut.len())..].iter().all(|&byte| byte == 0));
        }
        assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [300, 1000, 2000, 4096]);
    }

    #[test]
    fn nothing_is_lost_after_a_sync_and_all_after_a_failed_one() {
        let mut file = file(600);
        file.write(&[2; 600], 300);
        file.lose_pending();
        assert_eq!(bytes(&file.after_power_cut(&mut Seeded::new(1))), [1; 600]);
        let mut file = self::file(600);
        file.write(&[2; 600], 300);
        file.resize(700);
        file.sync();
        assert_eq!(bytes(&file.after_power_cut(&mut Seeded::new(1))), bytes(&file));
    }
}
