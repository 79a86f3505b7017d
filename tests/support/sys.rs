//! The system calls the standard library does not have, as functions that return `io::Result`.

use std::ffi::CString;
use std::io::{Error, Result};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path as the system takes it; test paths hold no NUL.
pub fn cstr(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL in a path")
}

fn check(result: i64) -> Result<i64> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

fn done(result: i32) -> Result<()> {
    check(i64::from(result)).map(drop)
}

/// open(2); the descriptor is the caller's to close.
pub fn open(path: &Path, flags: i32, mode: u32) -> Result<RawFd> {
    let path = cstr(path);
    check(i64::from(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode) }))
        .map(|fd| fd as RawFd)
}

/// close(2), whose error matters: it is where a failed write of a remote or mounted file is told.
pub fn close(fd: RawFd) -> Result<()> {
    done(unsafe { libc::close(fd) })
}

/// pread(2) until `len` bytes or the end of the file.
pub fn pread(fd: RawFd, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut out = vec![0; len];
    let mut have = 0;
    while have < len {
        let rest = &mut out[have..];
        let at = (offset + have as u64) as i64;
        let got =
            check(unsafe { libc::pread(fd, rest.as_mut_ptr().cast(), rest.len(), at) } as i64)?;
        if got == 0 {
            break;
        }
        have += got as usize;
    }
    out.truncate(have);
    Ok(out)
}

/// read(2) at the descriptor's own position, once.
pub fn read(fd: RawFd, len: usize) -> Result<Vec<u8>> {
    let mut out = vec![0; len];
    let got = check(unsafe { libc::read(fd, out.as_mut_ptr().cast(), len) } as i64)?;
    out.truncate(got as usize);
    Ok(out)
}

/// pwrite(2), once.
pub fn pwrite(fd: RawFd, offset: u64, data: &[u8]) -> Result<usize> {
    check(unsafe { libc::pwrite(fd, data.as_ptr().cast(), data.len(), offset as i64) } as i64)
        .map(|n| n as usize)
}

/// write(2), once.
pub fn write(fd: RawFd, data: &[u8]) -> Result<usize> {
    check(unsafe { libc::write(fd, data.as_ptr().cast(), data.len()) } as i64).map(|n| n as usize)
}

/// lseek(2).
pub fn lseek(fd: RawFd, offset: i64, whence: i32) -> Result<u64> {
    check(unsafe { libc::lseek(fd, offset, whence) }).map(|at| at as u64)
}

/// fsync(2).
pub fn fsync(fd: RawFd) -> Result<()> {
    done(unsafe { libc::fsync(fd) })
}

/// fdatasync(2).
pub fn fdatasync(fd: RawFd) -> Result<()> {
    done(unsafe { libc::fdatasync(fd) })
}

/// fsync(2) of a directory, or of any file, by its name.
pub fn fsync_path(path: &Path) -> Result<()> {
    let fd = open(path, libc::O_RDONLY, 0)?;
    let synced = fsync(fd);
    close(fd)?;
    synced
}

/// ftruncate(2).
pub fn ftruncate(fd: RawFd, size: u64) -> Result<()> {
    done(unsafe { libc::ftruncate(fd, size as i64) })
}

/// truncate(2).
pub fn truncate(path: &Path, size: u64) -> Result<()> {
    done(unsafe { libc::truncate(cstr(path).as_ptr(), size as i64) })
}

/// renameat2(2) with `RENAME_NOREPLACE`, `RENAME_EXCHANGE` or 0.
pub fn rename(from: &Path, to: &Path, flags: u32) -> Result<()> {
    let (from, to) = (cstr(from), cstr(to));
    done(unsafe {
        libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags)
    })
}

/// link(2): a second name; symlinks are not followed.
pub fn link(from: &Path, to: &Path) -> Result<()> {
    done(unsafe { libc::link(cstr(from).as_ptr(), cstr(to).as_ptr()) })
}

/// symlink(2).
pub fn symlink(target: &[u8], path: &Path) -> Result<()> {
    let target = CString::new(target).expect("no NUL in a target");
    done(unsafe { libc::symlink(target.as_ptr(), cstr(path).as_ptr()) })
}

/// mkdir(2).
pub fn mkdir(path: &Path, mode: u32) -> Result<()> {
    done(unsafe { libc::mkdir(cstr(path).as_ptr(), mode) })
}

/// mknod(2); `mode` holds the type.
pub fn mknod(path: &Path, mode: u32, device: u64) -> Result<()> {
    done(unsafe { libc::mknod(cstr(path).as_ptr(), mode, device) })
}

/// chmod(2).
pub fn chmod(path: &Path, mode: u32) -> Result<()> {
    done(unsafe { libc::chmod(cstr(path).as_ptr(), mode) })
}

/// lchown(2); `u32::MAX` leaves that id alone.
pub fn lchown(path: &Path, uid: u32, gid: u32) -> Result<()> {
    done(unsafe { libc::lchown(cstr(path).as_ptr(), uid, gid) })
}

/// utimensat(2) on the name itself, never through a symlink. Access time, then modification time.
pub fn utimens(path: &Path, times: [(i64, i64); 2]) -> Result<()> {
    let spec = times.map(|(tv_sec, tv_nsec)| libc::timespec { tv_sec, tv_nsec });
    done(unsafe {
        libc::utimensat(
            libc::AT_FDCWD,
            cstr(path).as_ptr(),
            spec.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
        )
    })
}

/// fallocate(2).
pub fn fallocate(fd: RawFd, mode: i32, offset: u64, len: u64) -> Result<()> {
    done(unsafe { libc::fallocate(fd, mode, offset as i64, len as i64) })
}

/// copy_file_range(2) until `len` bytes are copied or the source ends.
pub fn copy_range(from: RawFd, mut at: u64, to: RawFd, mut target: u64, len: u64) -> Result<u64> {
    let mut copied = 0;
    while copied < len {
        let (mut source, mut dest) = (at as i64, target as i64);
        let rest = (len - copied) as usize;
        let n = check(
            unsafe { libc::copy_file_range(from, &mut source, to, &mut dest, rest, 0) } as i64
        )? as u64;
        if n == 0 {
            break;
        }
        (at, target, copied) = (at + n, target + n, copied + n);
    }
    Ok(copied)
}

/// Writes `data` at `offset` through a shared mapping and syncs it; the range lies inside the file.
pub fn map_write(fd: RawFd, offset: u64, data: &[u8]) -> Result<()> {
    let page = offset % 4096;
    let len = data.len() + page as usize;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let start = (offset - page) as i64;
    let map =
        unsafe { libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, fd, start) };
    if map == libc::MAP_FAILED {
        return Err(Error::last_os_error());
    }
    unsafe {
        std::ptr::copy_nonoverlapping(
            data.as_ptr(),
            map.cast::<u8>().add(page as usize),
            data.len(),
        )
    };
    let synced = done(unsafe { libc::msync(map, len, libc::MS_SYNC) });
    done(unsafe { libc::munmap(map, len) })?;
    synced
}

/// unlink(2).
pub fn unlink(path: &Path) -> Result<()> {
    done(unsafe { libc::unlink(cstr(path).as_ptr()) })
}

/// rmdir(2).
pub fn rmdir(path: &Path) -> Result<()> {
    done(unsafe { libc::rmdir(cstr(path).as_ptr()) })
}

/// The size of an open file, by fstat(2).
pub fn size(fd: RawFd) -> Result<u64> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    done(unsafe { libc::fstat(fd, stat.as_mut_ptr()) })?;
    Ok(unsafe { stat.assume_init() }.st_size as u64)
}
