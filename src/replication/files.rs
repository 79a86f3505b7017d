//! Small files that are replaced whole: the one function that makes such a file durable, and the
//! one that reads it. The last line is the CRC-32C of what is before it, in hexadecimal.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::env::{Access, Disk};
use crate::error::{Error, Result};
use crate::types::crc32c;

/// Replaces the file by `value` as JSON; durable with its name when it returns.
pub fn replace<T: Serialize>(disk: &dyn Disk, path: &Path, value: &T) -> Result<()> {
    let json = serde_json::to_string_pretty(value)
        .map_err(|error| Error::invalid(format!("{}: {error}", path.display())))?;
    let text = format!("{json}\n");
    let text = format!("{text}{:08x}\n", crc32c(text.as_bytes()));
    let new = path.with_extension("new");
    let failed = |error| Error::io(format!("writing {}", path.display()), error);
    remove(disk, &new)?;
    let file = disk.open(&new, Access::Create, false).map_err(failed)?;
    file.write_at(text.as_bytes(), 0).map_err(failed)?;
    file.sync().map_err(|error| Error::DiskFailed(format!("{}: {error}", path.display())))?;
    disk.rename(&new, path).map_err(failed)?;
    sync_parent(disk, path)
}

/// The file's value; `None` when there is no file.
///
/// # Errors
/// [`Error::Damaged`] when checksum or form are wrong.
pub fn read<T: DeserializeOwned>(disk: &dyn Disk, path: &Path) -> Result<Option<T>> {
    let failed = |error| Error::io(format!("reading {}", path.display()), error);
    let file = match disk.open(path, Access::Read, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut bytes = vec![0; file.size().map_err(failed)? as usize];
    let read = file.read_at(&mut bytes, 0).map_err(failed)?;
    bytes.truncate(read);
    parse(&bytes).map(Some).ok_or_else(|| {
        Error::damaged(format!("{} fails its checksum or has another form", path.display()))
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (text, line) = bytes.split_at_checked(bytes.len().checked_sub(9)?)?;
    let crc = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let right = u32::from_str_radix(crc, 16).ok()? == crc32c(text);
    if right { serde_json::from_slice(text).ok() } else { None }
}

/// Removes the file if it is there; durable when it returns.
pub fn remove_durably(disk: &dyn Disk, path: &Path) -> Result<()> {
    if remove(disk, path)? { sync_parent(disk, path) } else { Ok(()) }
}

fn remove(disk: &dyn Disk, path: &Path) -> Result<bool> {
    match disk.remove(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(format!("removing {}", path.display()), error)),
    }
}

fn sync_parent(disk: &dyn Disk, path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    disk.sync_dir(parent)
        .map_err(|error| Error::DiskFailed(format!("{}: {error}", parent.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SimDisk;

    #[test]
    fn a_replaced_file_survives_the_power_and_shows_damage() {
        let disk = SimDisk::new();
        let (dir, path) = (Path::new("/d"), Path::new("/d/file"));
        disk.create_dir_all(dir).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        assert_eq!(read::<Vec<u32>>(&disk, path).unwrap(), None);
        replace(&disk, path, &vec![1]).unwrap();
        replace(&disk, path, &vec![2, 3]).unwrap();
        let disk = disk.crash(1);
        assert_eq!(read::<Vec<u32>>(&disk, path).unwrap(), Some(vec![2, 3]));
        disk.flip_bit(path, 9).unwrap();
        assert!(matches!(read::<Vec<u32>>(&disk, path), Err(Error::Damaged(_))));
        remove_durably(&disk, path).unwrap();
        assert_eq!(read::<Vec<u32>>(&disk.crash(2), path).unwrap(), None);
    }
}
