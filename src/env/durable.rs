//! Small files that are replaced as a whole.

use std::io;
use std::path::Path;

use super::disk::{Access, Disk};

/// Makes `path` hold `bytes`, readable by the owner only: all of the old file or all of the new is
/// there after any crash, the new one once this has returned.
pub fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = Path::new(&unfinished);
    match disk.remove(unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.open(unfinished, Access::Create, false)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    disk.rename(unfinished, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new("/")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::RealDisk;
    use super::*;

    #[test]
    fn the_file_is_replaced_even_over_a_left_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        std::fs::write(dir.path().join("keys.json.new"), b"half of a fi").unwrap();
        replace_file(&RealDisk, &path, b"one").unwrap();
        replace_file(&RealDisk, &path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
