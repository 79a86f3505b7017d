//! Access keys, and the grants in the records of buckets.

use super::findings::{Findings, each, part};
use crate::error::Result;
use crate::meta::apply::GRANTS_MAX;
use crate::meta::keys;
use crate::meta::kv::KvRead;
use crate::meta::record::{AccessKey, Bucket};

pub fn check(view: &dyn KvRead, findings: &mut Findings) -> Result<()> {
    each(view, keys::ACCESS_KEY, |key, value| {
        match keys::access_key_id(key) {
            Some(id) => drop(findings.decode::<AccessKey>(&format!("access key {id}"), value)),
            None => findings.say(format!("key {} names no access key", key.escape_ascii())),
        }
        Ok(())
    })?;
    each(view, keys::BUCKET, |key, value| {
        let ino = part(keys::tail_number(key))?;
        let what = format!("the bucket of inode {ino}");
        let Some(bucket) = findings.decode::<Bucket>(&what, value) else { return Ok(()) };
        let sorted = bucket.grants.is_sorted_by(|(one, _), (two, _)| one < two);
        let sound = sorted && bucket.grants.len() <= GRANTS_MAX;
        findings.require(sound, || format!("the grants of {what} are out of order"));
        Ok(())
    })
}
