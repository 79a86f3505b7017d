//! The key that seals the secrets of access keys: a file of this node, never part of the metadata.

use std::path::{Path, PathBuf};

use crate::env::{Clock, Disk, replace_file};
use crate::error::{Error, Result};
use crate::types::hex;
use crate::vfs::SEALING_KEY_LEN;

pub const FILE: &str = "secrets.key";
/// As systemd's `LoadCredential=` names it; systemd.exec(5).
const CREDENTIAL: &str = "bucketfs.secrets-key";

pub type SealingKey = [u8; SEALING_KEY_LEN];

/// Where the key is: the credential that the service manager handed over, else the node's file.
pub fn path(data_dir: &Path) -> PathBuf {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let credential = credentials.map(|dir| dir.join(CREDENTIAL)).filter(|path| path.exists());
    credential.unwrap_or_else(|| data_dir.join(FILE))
}

/// The key of this node; `None` when there is none.
///
/// # Errors
/// [`Error::Store`] when it is not in the form this program writes.
pub fn load(data_dir: &Path) -> Result<Option<SealingKey>> {
    let path = path(data_dir);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(format!("reading {}", path.display()), error)),
    };
    parse(&text).map(Some).ok_or_else(|| {
        Error::Store(format!(
            "{} is damaged: it has to be one line of {} hexadecimal digits; bring it back from a \
             copy",
            path.display(),
            2 * SEALING_KEY_LEN
        ))
    })
}

/// A new key, on disk when it returns, readable for the owner only.
///
/// # Errors
/// [`Error::Io`] and [`Error::NoSpace`].
pub fn make(disk: &dyn Disk, clock: &dyn Clock, data_dir: &Path) -> Result<SealingKey> {
    let path = data_dir.join(FILE);
    let mut key = SealingKey::default();
    for part in key.chunks_mut(8) {
        part.copy_from_slice(&clock.random().to_ne_bytes()[..part.len()]);
    }
    replace_file(disk, &path, format!("{}\n", hex(&key)).as_bytes())
        .map_err(|error| Error::io(format!("writing {}", path.display()), error))?;
    Ok(key)
}

fn parse(text: &[u8]) -> Option<SealingKey> {
    let text = std::str::from_utf8(text).ok()?.trim_end();
    let is_hex = text.len() == 2 * SEALING_KEY_LEN && text.bytes().all(|c| c.is_ascii_hexdigit());
    let mut key = SealingKey::default();
    for (byte, at) in key.iter_mut().zip((0..text.len()).step_by(2)).filter(|_| is_hex) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    is_hex.then_some(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::env::{RealDisk, SystemClock};

    #[test]
    fn only_the_owner_can_read_what_was_kept() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()).unwrap(), None);
        let key = make(&RealDisk, &SystemClock::new(), dir.path()).unwrap();
        assert_ne!(key, SealingKey::default());
        assert_eq!(load(dir.path()).unwrap(), Some(key));
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_file_of_another_form_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "abc", &"g".repeat(64), &"a".repeat(63), &"a".repeat(66), &"é".repeat(32)]
        {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            let error = load(dir.path()).unwrap_err();
            assert!(matches!(&error, Error::Store(said) if said.contains(FILE)), "{error}");
        }
    }
}
