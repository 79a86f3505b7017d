//! POSIX ACLs as the kernel stores them in xattrs; acl(5), `linux/posix_acl_xattr.h`.
//!
//! Value: version 2 (u32, little-endian), then entries of tag (u16), permissions (u16), id (u32).

use crate::error::{Error, Result};

pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    /// rwx as in one octal digit of a mode.
    permissions: u16,
    id: u32,
}

/// Parses and checks a value.
fn parse(value: &[u8]) -> Result<Vec<Entry>> {
    let malformed = || Error::invalid("a malformed POSIX ACL");
    let (version, rest) = value.split_first_chunk::<4>().ok_or_else(malformed)?;
    let (entries, left) = rest.as_chunks::<8>();
    if u32::from_le_bytes(*version) != VERSION || !left.is_empty() {
        return Err(malformed());
    }
    let entries: Vec<Entry> = entries
        .iter()
        .map(|&[t0, t1, p0, p1, i0, i1, i2, i3]| Entry {
            tag: u16::from_le_bytes([t0, t1]),
            permissions: u16::from_le_bytes([p0, p1]),
            id: u32::from_le_bytes([i0, i1, i2, i3]),
        })
        .collect();
    let count = |tag| entries.iter().filter(|entry| entry.tag == tag).count();
    let named = count(USER) + count(GROUP);
    let known = named + count(USER_OBJ) + count(GROUP_OBJ) + count(MASK) + count(OTHER);
    let whole = count(USER_OBJ) == 1 && count(GROUP_OBJ) == 1 && count(OTHER) == 1;
    let masked = count(MASK) == 1 || (count(MASK) == 0 && named == 0);
    let bits = entries.iter().all(|entry| entry.permissions <= 7);
    if whole && masked && bits && known == entries.len() { Ok(entries) } else { Err(malformed()) }
}

fn serialise(entries: &[Entry]) -> Vec<u8> {
    let mut value = VERSION.to_le_bytes().to_vec();
    for entry in entries {
        value.extend(entry.tag.to_le_bytes());
        value.extend(entry.permissions.to_le_bytes());
        value.extend(entry.id.to_le_bytes());
    }
    value
}

/// The entries a mode's three digits stand for: with a mask, the group digit is the mask's.
fn class_of(tag: u16, has_mask: bool) -> Option<u32> {
    match tag {
        USER_OBJ => Some(6),
        GROUP_OBJ if !has_mask => Some(3),
        MASK => Some(3),
        OTHER => Some(0),
        _ => None,
    }
}

fn has_mask(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| entry.tag == MASK)
}

/// The nine permission bits an access ACL stands for, and whether they say all of it (then no
/// xattr is kept).
pub(super) fn mode_of(value: &[u8]) -> Result<(u32, bool)> {
    let entries = parse(value)?;
    let masked = has_mask(&entries);
    let bits = entries.iter().filter_map(|entry| {
        class_of(entry.tag, masked).map(|shift| u32::from(entry.permissions) << shift)
    });
    Ok((bits.sum(), !masked))
}

/// An access ACL after chmod(2): the classes of `mode` replace those of the ACL.
pub(super) fn after_chmod(value: &[u8], mode: u32) -> Result<Vec<u8>> {
    let mut entries = parse(value)?;
    let masked = has_mask(&entries);
    for entry in &mut entries {
        if let Some(shift) = class_of(entry.tag, masked) {
            entry.permissions = (mode >> shift & 7) as u16;
        }
    }
    Ok(serialise(&entries))
}

/// Name and value of an xattr.
type Xattr = (Vec<u8>, Vec<u8>);

/// What a new inode gets from its parent's default ACL: mode bits and ACL xattrs; acl(5), "Object
/// creation and default ACLs".
pub(super) fn inherit(default: &[u8], mode: u32, directory: bool) -> Result<(u32, Vec<Xattr>)> {
    let mut entries = parse(default)?;
    let masked = has_mask(&entries);
    for entry in &mut entries {
        if let Some(shift) = class_of(entry.tag, masked) {
            entry.permissions &= (mode >> shift & 7) as u16;
        }
    }
    let access = serialise(&entries);
    let (bits, minimal) = mode_of(&access)?;
    let mut xattrs = Vec::new();
    if !minimal {
        xattrs.push((ACCESS.to_vec(), access));
    }
    if directory {
        xattrs.push((DEFAULT.to_vec(), default.to_vec()));
    }
    Ok((mode & !0o777 | bits, xattrs))
}

/// # Errors
/// [`Error::InvalidArgument`] when the value is no ACL.
pub(super) fn check(value: &[u8]) -> Result<()> {
    parse(value).map(|_| ())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entry = |&(tag, permissions, id): &(u16, u16, u32)| Entry { tag, permissions, id };
        serialise(&entries.iter().map(entry).collect::<Vec<_>>())
    }

    const NONE: u32 = u32::MAX;

    #[test]
    fn a_minimal_acl_is_its_mode() {
        let value = acl(&[(USER_OBJ, 7, NONE), (GROUP_OBJ, 5, NONE), (OTHER, 1, NONE)]);
        assert_eq!(mode_of(&value).unwrap(), (0o751, true));
    }

    #[test]
    fn the_mask_is_the_group_digit() {
        let value = acl(&[
            (USER_OBJ, 6, NONE),
            (USER, 7, 1000),
            (GROUP_OBJ, 5, NONE),
            (MASK, 4, NONE),
            (OTHER, 0, NONE),
        ]);
        assert_eq!(mode_of(&value).unwrap(), (0o640, false));
        assert_eq!(mode_of(&after_chmod(&value, 0o777).unwrap()).unwrap(), (0o777, false));
        let (mode, xattrs) = inherit(&value, 0o1666, true).unwrap();
        assert_eq!((mode, xattrs.len()), (0o1640, 2));
    }

    #[test]
    fn malformed_values_are_refused() {
        let twice = [(USER_OBJ, 6, NONE), (USER_OBJ, 6, NONE), (OTHER, 0, NONE)];
        for bad in [&b""[..], &[2, 0, 0], &[1, 0, 0, 0], &[2, 0, 0, 0, 1], &acl(&twice)] {
            assert!(check(bad).is_err());
        }
    }

    proptest! {
        /// Users hand in what they like by setxattr(2): all functions agree whether it is a list.
        #[test]
        fn any_value_is_a_list_or_refused(
            entries in vec((0..7u16, 0..10u16, any::<u32>()), 0..8),
            flipped in vec(any::<(usize, u8)>(), 0..2),
            cut in 0..9usize,
            mode in 0..0o10000u32,
        ) {
            let tags = [USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER, 0x40];
            let named = entries.iter().map(|&(tag, bits, id)| (tags[usize::from(tag)], bits, id));
            let mut value = acl(&named.collect::<Vec<_>>());
            let len = value.len();
            flipped.iter().for_each(|(at, bits)| value[at % len] ^= bits);
            value.truncate(len - cut.min(len));
            let is_list = check(&value).is_ok();
            prop_assert_eq!(mode_of(&value).is_ok(), is_list);
            prop_assert_eq!(inherit(&value, mode, true).is_ok(), is_list);
            match after_chmod(&value, mode) {
                Ok(changed) => prop_assert_eq!(mode_of(&changed).unwrap().0, mode & 0o777),
                Err(_) => prop_assert!(!is_list),
            }
        }
    }
}
