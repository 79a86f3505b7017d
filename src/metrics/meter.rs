//! Measures with a clock, and a disk that measures its syncs.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Labels, Latencies};
use crate::env::{Access, Clock, Disk, DiskFile, Entry, Space};

/// A clock, and where what it measured is counted.
#[derive(Clone)]
pub struct Meter<const N: usize> {
    clock: Arc<dyn Clock>,
    latencies: Latencies<N>,
}

impl<const N: usize> Meter<N> {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, latencies: Latencies::default() }
    }

    /// What [`Self::count`] is told when the work is done.
    pub fn begin(&self) -> Duration {
        self.clock.elapsed()
    }

    pub fn count(&self, labels: &Labels<N>, begun: Duration) {
        self.latencies.observe(labels, self.clock.elapsed().saturating_sub(begun));
    }

    pub fn latencies(&self) -> &Latencies<N> {
        &self.latencies
    }
}

/// A disk whose syncs are measured, by what is synced.
pub struct MeteredDisk<D> {
    inner: D,
    syncs: Meter<1>,
}

struct MeteredFile {
    inner: Arc<dyn DiskFile>,
    syncs: Meter<1>,
}

impl<D: Disk> MeteredDisk<D> {
    pub fn new(inner: D, syncs: Meter<1>) -> Self {
        Self { inner, syncs }
    }
}

impl<D: Disk> Disk for MeteredDisk<D> {
    fn open(&self, path: &Path, access: Access, direct: bool) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.inner.open(path, access, direct)?;
        Ok(Arc::new(MeteredFile { inner, syncs: self.syncs.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir(path)
    }

    fn remove_all(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_all(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.inner.list(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let begun = self.syncs.begin();
        let synced = self.inner.sync_dir(path);
        self.syncs.count(&[("of", "directory")], begun);
        synced
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.inner.space(path)
    }
}

impl DiskFile for MeteredFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(buf, offset)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn sync(&self) -> io::Result<()> {
        let begun = self.syncs.begin();
        let synced = self.inner.sync();
        self.syncs.count(&[("of", "file")], begun);
        synced
    }

    fn is_direct(&self) -> bool {
        self.inner.is_direct()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{SimClock, SimDisk};
    use crate::metrics::Book;

    /// A disk that measures is still a disk.
    #[test]
    fn a_metered_disk_counts_its_syncs() {
        let meter = Meter::new(Arc::new(SimClock::new(1)));
        let disk = MeteredDisk::new(SimDisk::new(), meter.clone());
        disk.create_dir_all(Path::new("/d")).unwrap();
        let file = disk.open(Path::new("/d/f"), Access::Create, false).unwrap();
        file.write_at(b"bytes", 0).unwrap();
        file.sync().unwrap();
        file.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        let mut book = Book::default();
        book.latencies("disk_sync", "Syncs", meter.latencies());
        let mut text = String::new();
        book.write(&mut text).unwrap();
        assert!(text.contains("bucketfs_disk_sync_seconds_count{of=\"file\"} 2"), "{text}");
        assert!(text.contains("bucketfs_disk_sync_seconds_count{of=\"directory\"} 1"));
        assert_eq!(disk.list(Path::new("/d")).unwrap().len(), 1);
        assert_eq!(file.size().unwrap(), 5);
    }
}
