//! The machine's own file system.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::disk::{Access, Disk, DiskFile, Entry, Space};
use crate::types::limits::DIRECT_ALIGN;

/// [`Disk`] over open(2), pread(2), pwrite(2), fallocate(2), fdatasync(2) and fsync(2).
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl RealDisk {
    pub fn new() -> Self {
        Self
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, access: Access, direct: bool) -> io::Result<Arc<dyn DiskFile>> {
        if direct {
            match options(access).custom_flags(libc::O_DIRECT).open(path) {
                Ok(file) => return Ok(Arc::new(RealFile { file, direct: true })),
                // open(2): EINVAL where the file system does not support O_DIRECT. With O_CREAT
                // the name may have been made before it was found out.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                Err(error) => return Err(error),
            }
            if access == Access::Create {
                match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(Arc::new(RealFile { file: options(access).open(path)?, direct: false }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn remove_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            // Names that are not UTF-8 are nobody's here.
            if let Ok(name) = entry.file_name().into_string() {
                let len = if metadata.is_file() { metadata.len() } else { 0 };
                entries.push(Entry { name, is_dir: metadata.is_dir(), len });
            }
        }
        Ok(entries)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that syncs directories")]
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: statvfs is plain data for which zeros are a valid value.
        let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are valid for the call.
        check(unsafe { libc::statvfs(path.as_ptr(), &raw mut stat) })?;
        Ok(Space {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
            files_total: stat.f_files,
            files_available: stat.f_favail,
        })
    }
}

struct RealFile {
    file: File,
    direct: bool,
}

impl DiskFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            // A direct read that ends off the alignment has met the end of the file.
            if self.direct && !done.is_multiple_of(DIRECT_ALIGN) {
                break;
            }
        }
        Ok(done)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let signed =
            i64::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the descriptor is open as long as self.
        match check(unsafe { libc::fallocate(self.file.as_raw_fd(), 0, 0, signed) }) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                if self.size()? < len {
                    self.set_len(len)
                } else {
                    Ok(())
                }
            }
            result => result,
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that syncs files")]
    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn is_direct(&self) -> bool {
        self.direct
    }
}

fn options(access: Access) -> OpenOptions {
    let mut options = OpenOptions::new();
    match access {
        Access::Read => options.read(true),
        Access::Write => options.read(true).write(true),
        Access::Create => options.read(true).write(true).create_new(true).mode(0o600),
    };
    options
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::AlignedBuf;

    #[test]
    fn direct_files_write_read_and_grow() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = RealDisk.open(&path, Access::Create, true).unwrap();
        let data = AlignedBuf::from(&[7; 8192][..]);
        file.write_at(&data, 4096).unwrap();
        file.sync().unwrap();
        file.allocate(16384).unwrap();
        assert_eq!(file.size().unwrap(), 16384);
        file.set_len(12288).unwrap();

        let mut back = AlignedBuf::zeroed(16384);
        assert_eq!(file.read_at(&mut back, 0).unwrap(), 12288);
        assert!(back[..4096].iter().all(|&byte| byte == 0));
        assert_eq!(back[4096..12288], data[..]);
        assert_eq!(file.read_at(&mut back, 12288).unwrap(), 0);
    }

    #[test]
    fn a_file_system_without_direct_files_falls_back() {
        // /proc has no O_DIRECT on any kernel.
        let file = RealDisk.open(Path::new("/proc/self/stat"), Access::Read, true).unwrap();
        assert!(!file.is_direct());
        let mut head = [0; 4];
        assert_eq!(file.read_at(&mut head, 0).unwrap(), 4);
    }

    #[test]
    fn create_refuses_an_existing_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        RealDisk.open(&path, Access::Create, false).unwrap();
        let again = RealDisk.open(&path, Access::Create, true).map(|_| ());
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        RealDisk.sync_dir(dir.path()).unwrap();
        let names = RealDisk.list(dir.path()).unwrap();
        assert_eq!(names, [Entry { name: "file".into(), is_dir: false, len: 0 }]);
        assert!(RealDisk.space(dir.path()).unwrap().total > 0);
    }
}
