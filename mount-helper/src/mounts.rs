//! What is mounted, and which daemon serves it: `/proc/self/mounts` and `serve.json`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::Failure;

const TABLE: &str = "/proc/self/mounts";
const KIND: &[u8] = b"fuse.bucketfs";

/// The source of the BucketFS mount that `path` shows: its data directory.
///
/// # Errors
/// [`Failure::Mount`] when something else, or nothing, is mounted there.
pub fn source(path: &Path) -> Result<PathBuf, Failure> {
    source_in(&table()?, path)
        .ok_or_else(|| Failure::Mount(format!("{} has no BucketFS mounted", path.display())))
}

/// Whether any of `paths` still shows a mount of `source`.
pub fn any_mounted(paths: &[PathBuf], source: &Path) -> Result<bool, Failure> {
    let table = table()?;
    Ok(paths.iter().any(|path| source_in(&table, path).as_deref() == Some(source)))
}

fn table() -> Result<Vec<u8>, Failure> {
    fs::read(TABLE).map_err(|error| Failure::system(TABLE, error))
}

/// Lines are `SOURCE PATH KIND OPTIONS 0 0`; the last for a path is the one that is seen.
fn source_in(table: &[u8], path: &Path) -> Option<PathBuf> {
    let lines = table.split(|&byte| byte == b'\n').rev();
    let mut fields = lines
        .map(|line| line.split(|&byte| byte == b' '))
        .find(|fields| fields.clone().nth(1).is_some_and(|field| unescape(field) == path))?;
    let source = unescape(fields.next()?);
    (fields.nth(1)? == KIND).then(|| PathBuf::from(source))
}

/// Space, tab, newline and backslash come as `\` and three octal digits; proc(5).
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

/// The path as the table has it. The last component is not touched: what is mounted there may be
/// dead.
pub fn table_path(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |error| Failure::system(path.display(), error);
    let absolute = std::path::absolute(path).map_err(failed)?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) if name.as_bytes() != b".." => {
            Ok(parent.canonicalize().map_err(failed)?.join(name))
        }
        _ => absolute.canonicalize().map_err(failed),
    }
}

/// The daemon that serves a data directory, as it says itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Daemon {
    pub pid: i32,
    pub mounts: Vec<PathBuf>,
    /// Otherwise it goes on without them.
    pub ends_with_last_mount: bool,
}

/// `None` when none runs, or none that can be told from the outside.
pub fn daemon(data_dir: &Path) -> Option<Daemon> {
    let text = fs::read(data_dir.join("serve.json")).ok()?;
    let json: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let pid = i32::try_from(json.get("pid")?.as_i64()?).ok().filter(|pid| *pid > 0)?;
    let mounts = json.get("mounts")?.as_array()?.iter();
    let mounts = mounts.filter_map(|mount| Some(PathBuf::from(mount.as_str()?))).collect();
    let ends_with_last_mount = json.get("ends_with_last_mount")?.as_bool()?;
    Some(Daemon { pid, mounts, ends_with_last_mount })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &[u8] = b"\
/dev/sda1 / ext4 rw 0 0\n\
/srv/a\\040b /mnt/x fuse.bucketfs rw,user_id=0 0 0\n\
/srv/c /mnt/hidden fuse.bucketfs rw 0 0\n\
tmpfs /mnt/hidden tmpfs rw 0 0\n";

    #[test]
    fn only_what_is_seen_and_ours_is_found() {
        let found = |path: &str| source_in(LINES, Path::new(path));
        assert_eq!(found("/mnt/x"), Some(PathBuf::from("/srv/a b")));
        assert_eq!(found("/mnt/hidden"), None);
        assert_eq!(found("/"), None);
        assert_eq!(found("/mnt"), None);
        assert!(matches!(source(Path::new("/")), Err(Failure::Mount(_))));
        assert!(!any_mounted(&[PathBuf::from("/")], Path::new("/srv/c")).unwrap());
    }

    #[test]
    fn a_daemon_is_known_by_its_file() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(daemon(dir.path()), None);
        let file = dir.path().join("serve.json");
        for ends in [true, false] {
            let said = format!(
                r#"{{"pid":7,"mounts":["/mnt/x"],"ends_with_last_mount":{ends},"admin":"x"}}"#
            );
            fs::write(&file, said).unwrap();
            let mounts = vec![PathBuf::from("/mnt/x")];
            let expected = Daemon { pid: 7, mounts, ends_with_last_mount: ends };
            assert_eq!(daemon(dir.path()), Some(expected));
        }
        let negative = r#"{"pid":-1,"mounts":[],"ends_with_last_mount":true}"#;
        for broken in ["", "{}", negative, r#"{"pid":1}"#, r#"{"pid":1,"mounts":[]}"#] {
            fs::write(&file, broken).unwrap();
            assert_eq!(daemon(dir.path()), None, "{broken}");
        }
    }

    #[test]
    fn parents_are_resolved_but_not_the_mount_point() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().canonicalize().unwrap().join("real");
        fs::create_dir(&real).unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(table_path(&link.join("mnt")).unwrap(), real.join("mnt"));
        assert!(table_path(&root.path().join("none/mnt")).is_err());
    }
}
