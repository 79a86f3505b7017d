//! Keys of objects, and the paths they stand for.

use super::limits::KEY_MAX;
use super::{FileName, NameError};

/// A key that has a place in the tree: names joined by single slashes, one more at the end for a
/// directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectKey {
    text: String,
    names: Vec<FileName>,
}

impl ObjectKey {
    /// # Errors
    /// [`NameError`] for `.` and `..` components, `//`, a leading `/`, NUL, a component beyond 255
    /// bytes, and the empty key.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let bare = text.strip_suffix('/').unwrap_or(text);
        let names: Result<_, _> =
            bare.split('/').map(|name| FileName::new(name.as_bytes())).collect();
        Ok(Self { text: text.to_owned(), names: names? })
    }

    /// # Errors
    /// [`NameError::TooLong`] for a key that no object may be made with.
    pub fn check_length(&self) -> Result<(), NameError> {
        if self.text.len() > KEY_MAX { Err(NameError::TooLong) } else { Ok(()) }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// At least one.
    pub fn names(&self) -> &[FileName] {
        &self.names
    }

    /// Ends with a slash.
    pub fn is_directory(&self) -> bool {
        self.text.ends_with('/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_have_no_place_are_refused() {
        for bad in ["", "/", "/a", "a//b", "a//", "./a", "a/../b", "a/.", "a\0b"] {
            assert_eq!(ObjectKey::new(bad), Err(NameError::Forbidden), "{bad:?}");
        }
        assert_eq!(ObjectKey::new(&"x".repeat(256)), Err(NameError::TooLong));
        let key = ObjectKey::new("a b/ü/").unwrap();
        assert!(key.is_directory() && key.names().len() == 2 && key.as_str() == "a b/ü/");
        assert!(ObjectKey::new(&"a/".repeat(512)).unwrap().check_length().is_ok());
        let long = ObjectKey::new(&format!("{}b", "a/".repeat(512))).unwrap();
        assert_eq!(long.check_length(), Err(NameError::TooLong));
        assert!(!ObjectKey::new("...").unwrap().is_directory());
    }
}
