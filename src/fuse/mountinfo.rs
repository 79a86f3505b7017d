//! `/proc/self/mountinfo`: what is mounted where, without touching any file system; proc(5).

use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The type our mounts have in the kernel's table.
pub(super) const KIND: &str = "fuse.bucketfs";

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Major and minor number of `st_dev` under it.
    pub(super) device: (u32, u32),
    pub(super) path: PathBuf,
    pub(super) kind: String,
    pub(super) source: String,
}

/// What a path shows: the last mount made on exactly it.
pub(super) fn topmost(path: &Path) -> Result<Option<Mount>> {
    const TABLE: &str = "/proc/self/mountinfo";
    let table = fs::read(TABLE).map_err(|error| Error::io(format!("reading {TABLE}"), error))?;
    Ok(parse(&table).filter(|mount| mount.path == path).last())
}

fn parse(table: &[u8]) -> impl Iterator<Item = Mount> {
    table.split(|&byte| byte == b'\n').filter_map(parse_line)
}

/// `ID PARENT MAJOR:MINOR ROOT PATH OPTIONS [TAGS…] - KIND SOURCE SUPER`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let (major, minor) = str::from_utf8(fields.nth(2)?).ok()?.split_once(':')?;
    let path = unescape(fields.nth(1)?);
    let mut tail = fields.skip_while(|field| *field != b"-").skip(1);
    Some(Mount {
        device: (major.parse().ok()?, minor.parse().ok()?),
        path: PathBuf::from(path),
        kind: String::from_utf8_lossy(tail.next()?).into_owned(),
        source: unescape(tail.next()?).to_string_lossy().into_owned(),
    })
}

/// Space, tab, newline and backslash come as `\` and three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let code = after.get(..3).filter(|_| *first == b'\\');
        let byte = code
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        text.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(text)
}

impl Mount {
    pub(super) fn is_ours(&self) -> bool {
        self.kind == KIND
    }

    /// The connection's directory below `/sys/fs/fuse/connections`; named by the device number as
    /// one integer, which for anonymous devices (major 0) is the minor.
    pub(super) fn connection(&self) -> Option<PathBuf> {
        let (major, minor) = self.device;
        (major == 0).then(|| Path::new("/sys/fs/fuse/connections").join(minor.to_string()))
    }

    /// The knobs of the mount's backing device.
    pub(super) fn bdi(&self) -> PathBuf {
        PathBuf::from(format!("/sys/class/bdi/{}:{}", self.device.0, self.device.1))
    }
}

/// The path as the kernel's table has it: absolute, its parents without symbolic links. The last
/// component is not touched, so a dead mount there does no harm.
pub(super) fn table_path(path: &Path) -> Result<PathBuf> {
    let failed = |error| Error::io(format!("looking up {}", path.display()), error);
    let absolute = std::path::absolute(path).map_err(failed)?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) if name.as_bytes() != b".." => {
            Ok(parent.canonicalize().map_err(failed)?.join(name))
        }
        _ => absolute.canonicalize().map_err(failed),
    }
}

/// A path as system calls take it.
pub(super) fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
80 22 0:57 / /mnt/with\\040space rw,nosuid,nodev shared:5 master:1 - fuse.bucketfs my\\134data rw,user_id=0\n\
81 80 0:58 / /mnt/with\\040space rw - tmpfs tmpfs rw\n\
broken line\n";

    #[test]
    fn lines_are_read_with_their_escapes() {
        let mounts: Vec<Mount> = parse(TABLE).collect();
        assert_eq!(mounts.len(), 3);
        let ours = &mounts[1];
        assert_eq!(ours.path, Path::new("/mnt/with space"));
        assert_eq!((ours.device, ours.source.as_str()), ((0, 57), "my\\data"));
        assert!(ours.is_ours() && !mounts[2].is_ours());
    }

    #[test]
    fn the_kernels_directories_are_named_by_the_device() {
        let mounts: Vec<Mount> = parse(TABLE).collect();
        assert_eq!(mounts[1].connection().unwrap(), Path::new("/sys/fs/fuse/connections/57"));
        assert_eq!(mounts[1].bdi(), Path::new("/sys/class/bdi/0:57"));
        assert_eq!(mounts[0].connection(), None);
    }

    #[test]
    fn a_stray_backslash_stays() {
        assert_eq!(unescape(br"a\b\999\04"), OsString::from(r"a\b\999\04"));
    }

    #[test]
    fn every_system_has_something_at_its_root() {
        assert!(topmost(Path::new("/")).unwrap().is_some());
        assert!(topmost(Path::new("/no/such/path")).unwrap().is_none());
    }

    #[test]
    fn parents_are_resolved_but_not_the_mount_point() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().canonicalize().unwrap().join("real");
        fs::create_dir(&real).unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(table_path(&link.join("mnt")).unwrap(), real.join("mnt"));
        assert_eq!(table_path(&real.join("x/..").join(".")).ok(), None);
        assert!(table_path(&root.path().join("none/mnt")).is_err());
    }
}
