//! Access lists of buckets and objects: who may do what besides those whom a bucket grants rights.

use std::fmt;
use std::str::FromStr;

/// Grants of one list; as many as Amazon S3 has.
pub const ACL_GRANTS_MAX: usize = 100;

/// Whom an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grantee {
    /// Holders of access keys with this uid.
    User(u32),
    /// Holders of any access key.
    Authenticated,
    /// Anybody, without a key too.
    Everyone,
}

/// What an entry allows; Amazon S3 user guide, "What permissions can I grant?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// List a bucket; read an object's bytes and metadata.
    Read,
    /// Make, replace and remove a bucket's objects.
    Write,
    ReadAcl,
    WriteAcl,
    Full,
}

/// Who asks, as far as a list is concerned: a key's uid, or nobody known.
pub type Asker = Option<u32>;

/// An access list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl(pub Vec<(Grantee, Permission)>);

/// A text that is no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an access list is GRANTEE=PERMISSION with commas between them")]
pub struct NotAnAcl;

const PERMISSIONS: [(Permission, &str); 5] = [
    (Permission::Read, "read"),
    (Permission::Write, "write"),
    (Permission::ReadAcl, "read-acl"),
    (Permission::WriteAcl, "write-acl"),
    (Permission::Full, "full"),
];

impl Acl {
    /// The list of what nobody has set one for.
    pub fn private(owner: u32) -> Self {
        Self(vec![(Grantee::User(owner), Permission::Full)])
    }

    pub fn allows(&self, asker: Asker, wanted: Permission) -> bool {
        self.0.iter().any(|(grantee, given)| {
            let is_meant = match (grantee, asker) {
                (Grantee::Everyone, _) | (Grantee::Authenticated, Some(_)) => true,
                (Grantee::User(uid), Some(asker)) => *uid == asker,
                (Grantee::User(_) | Grantee::Authenticated, None) => false,
            };
            is_meant && (*given == wanted || *given == Permission::Full)
        })
    }
}

impl fmt::Display for Grantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "{uid}"),
            Self::Authenticated => f.write_str("authenticated"),
            Self::Everyone => f.write_str("everyone"),
        }
    }
}

impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (grantee, given)) in self.0.iter().enumerate() {
            let name = PERMISSIONS.iter().find(|(there, _)| there == given).map_or("", |it| it.1);
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{grantee}={name}")?;
        }
        Ok(())
    }
}

impl FromStr for Acl {
    type Err = NotAnAcl;

    fn from_str(text: &str) -> Result<Self, NotAnAcl> {
        let entry = |part: &str| {
            let (grantee, name) = part.split_once('=').ok_or(NotAnAcl)?;
            let grantee = match grantee {
                "authenticated" => Grantee::Authenticated,
                "everyone" => Grantee::Everyone,
                uid => Grantee::User(uid.parse().map_err(|_| NotAnAcl)?),
            };
            let found = PERMISSIONS.iter().find(|(_, there)| *there == name);
            Ok((grantee, found.ok_or(NotAnAcl)?.0))
        };
        let parts = text.split(',').filter(|part| !part.is_empty());
        let entries: Result<Vec<_>, NotAnAcl> = parts.map(entry).collect();
        Ok(Self(entries?))
            .and_then(|acl| if acl.0.len() > ACL_GRANTS_MAX { Err(NotAnAcl) } else { Ok(acl) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_allows_what_its_entries_say_and_no_more() {
        use Permission::{Full, Read, ReadAcl, Write};
        let acl: Acl = "7=full,8=write,authenticated=read-acl,everyone=read".parse().unwrap();
        assert_eq!(acl.to_string(), "7=full,8=write,authenticated=read-acl,everyone=read");
        for (asker, wanted, allowed) in [
            (Some(7), Write, true),
            (Some(7), Full, true),
            (Some(8), Write, true),
            (Some(8), Full, false),
            (Some(9), ReadAcl, true),
            (Some(9), Write, false),
            (None, Read, true),
            (None, ReadAcl, false),
        ] {
            assert_eq!(acl.allows(asker, wanted), allowed, "{asker:?} {wanted:?}");
        }
        assert_eq!("".parse(), Ok(Acl::default()));
        assert!(!Acl::default().allows(Some(7), Read));
        for bad in ["7", "7=", "x=read", "7=all", "-1=read", "7=read=write"] {
            assert_eq!(bad.parse::<Acl>(), Err(NotAnAcl), "{bad}");
        }
        assert!("1=read,".repeat(101).parse::<Acl>().is_err());
    }

    proptest! {
        /// Any text is a list or none; what is one says itself the same way.
        #[test]
        fn any_text_is_a_list_or_refused(
            words in vec(prop_oneof![
                "[0-9]{0,11}", "everyone|authenticated", "read|write|read-acl|write-acl|full",
                "=", ",", "=", ",", ".{0,3}",
            ], 0..12),
        ) {
            let text = words.concat();
            if let Ok(acl) = text.parse::<Acl>() {
                prop_assert_eq!(acl.to_string().parse(), Ok(acl));
            }
        }
    }
}
