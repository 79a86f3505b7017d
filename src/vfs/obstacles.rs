//! What an object cannot be put past, by its key.

use super::Vfs;
use crate::error::{Error, Result};
use crate::meta::ObjectPath;
use crate::types::FileKind;

impl Vfs {
    /// Names what an object cannot be put past.
    pub(super) fn name_obstacle(&self, path: &ObjectPath, error: Error) -> Error {
        match (error, self.obstacle(path)) {
            (Error::InTheWay(_), Ok(Some(key))) => {
                // It may have come by a mount, whatever is in its name.
                let key = String::from_utf8_lossy(&key).escape_debug().to_string();
                Error::InTheWay(format!("`{key}`"))
            }
            (error, _) => error,
        }
    }

    /// The key of what has the name of an object, or of a directory on the way to it.
    fn obstacle(&self, path: &ObjectPath) -> Result<Option<Vec<u8>>> {
        let view = self.replica.table().view();
        let (mut at, mut key) = (path.bucket, Vec::new());
        for (number, name) in path.names.iter().enumerate() {
            key.extend_from_slice(name.as_bytes());
            let Some(dirent) = view.lookup(at, name)? else { return Ok(None) };
            let is_directory = dirent.kind == FileKind::Directory;
            let may_be = number + 1 < path.names.len() || path.is_directory;
            if !is_directory {
                return Ok(Some(key));
            }
            key.push(b'/');
            if !may_be {
                return Ok(Some(key));
            }
            at = dirent.ino;
        }
        Ok(None)
    }
}
