//! Extended attributes of a name, never through a symlink.

use super::sys::cstr;
use std::ffi::CString;
use std::io::{Error, Result};
use std::path::Path;

fn size(result: isize) -> Result<usize> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result as usize) }
}

fn attribute(name: &str) -> CString {
    CString::new(name).expect("no NUL in a name")
}

/// lsetxattr(2); `flags` is 0, `XATTR_CREATE` or `XATTR_REPLACE`.
pub fn set(path: &Path, name: &str, value: &[u8], flags: i32) -> Result<()> {
    let (path, name) = (cstr(path), attribute(name));
    let done = unsafe {
        libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags)
    };
    size(done as isize).map(drop)
}

/// lgetxattr(2): the whole value.
pub fn get(path: &Path, name: &str) -> Result<Vec<u8>> {
    let (path, name) = (cstr(path), attribute(name));
    let mut out = vec![0_u8; 65_536];
    let n = size(unsafe {
        libc::lgetxattr(path.as_ptr(), name.as_ptr(), out.as_mut_ptr().cast(), out.len())
    })?;
    out.truncate(n);
    Ok(out)
}

/// llistxattr(2): the names, sorted.
pub fn list(path: &Path) -> Result<Vec<String>> {
    let path = cstr(path);
    let mut out = vec![0_u8; 65_536];
    let n = size(unsafe { libc::llistxattr(path.as_ptr(), out.as_mut_ptr().cast(), out.len()) })?;
    let names = out[..n].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<_> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.sort();
    Ok(names)
}

/// lremovexattr(2).
pub fn remove(path: &Path, name: &str) -> Result<()> {
    let (path, name) = (cstr(path), attribute(name));
    size(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) } as isize).map(drop)
}
