//! Uploads: each is to a bucket, each part is of one, and sums are of an inode.

use std::collections::BTreeSet;

use super::findings::{Findings, each, part};
use super::inodes::Inodes;
use crate::error::Result;
use crate::meta::keys;
use crate::meta::kv::KvRead;
use crate::meta::object::{Part, Sums, Upload};
use crate::types::{ContentId, Ino};

pub fn check(view: &dyn KvRead, inodes: &Inodes, findings: &mut Findings) -> Result<()> {
    let mut uploads = BTreeSet::new();
    each(view, keys::UPLOAD, |key, value| {
        let id = ContentId::from_bytes(part(keys::tail_id(key))?);
        let what = format!("upload {id}");
        findings.decode::<Upload>(&what, value);
        let bucket = Ino(part(keys::head_number(key))?);
        let known = view.get(&keys::bucket(bucket))?.is_some();
        findings.require(known, || format!("{what} is to no bucket"));
        findings.require(uploads.insert(id), || format!("{what} is there twice"));
        Ok(())
    })?;
    each(view, keys::ENDED_UPLOAD, |key, _| {
        let id = ContentId::from_bytes(part(keys::tail_id(key))?);
        findings.require(uploads.insert(id), || format!("upload {id} is open and has ended"));
        Ok(())
    })?;
    each(view, keys::PART, |key, value| {
        let id = part(keys::slot_content(key))?;
        let number = part(keys::part_number(key))?;
        let what = format!("part {number} of upload {id}");
        findings.require(uploads.contains(&id), || format!("{what} is of no upload"));
        findings.require(Part::is_number(number), || format!("{what} has a wrong number"));
        if let Some(part) = findings.decode::<Part>(&what, value) {
            let whole = part.content.is_some() == (part.size > 0);
            findings.require(whole, || format!("{what} has no bytes, or no size"));
        }
        Ok(())
    })?;
    each(view, keys::SUMS, |key, value| {
        let ino = part(keys::tail_number(key))?;
        findings.decode::<Sums>(&format!("the sums of inode {ino}"), value);
        let known = inodes.contains_key(&Ino(ino));
        findings.require(known, || format!("there are sums of inode {ino}, which is gone"));
        Ok(())
    })
}
