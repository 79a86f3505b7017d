//! Access keys are records like others: made once, changed one thing at a time, gone for good; and
//! a bucket's grants stay in order and in bounds.

use super::Bench;
use crate::meta::apply::GRANTS_MAX;
use crate::meta::mutation::{KeyChange, Mutation, Outcome, Refusal};
use crate::meta::record::{AccessKey, Bucket, KeyRole, KeyState};
use crate::meta::{codec, keys};
use crate::types::{FileKind, Ino, KeyId, Right, Rights, Timestamp};

fn id(number: usize) -> KeyId {
    format!("BF{number:018}").parse().unwrap()
}

fn key() -> AccessKey {
    AccessKey {
        sealed_secret: vec![1, 2, 3],
        uid: 7,
        gid: 8,
        umask: 0o022,
        role: KeyRole::Creator,
        state: KeyState::Active,
        created_at: Timestamp::default(),
        rotated_at: None,
    }
}

fn create(bench: &mut Bench, number: usize) {
    let create = Mutation::CreateKey { id: id(number), key: key() };
    assert_eq!(bench.propose(create), Outcome::Done);
}

fn record(bench: &Bench, number: usize) -> Option<AccessKey> {
    bench.table.0.get(&keys::access_key(id(number))).map(|bytes| codec::decode(bytes).unwrap())
}

fn bucket(bench: &Bench, ino: Ino) -> Bucket {
    codec::decode(&bench.table.0[&keys::bucket(ino)]).unwrap()
}

#[test]
fn a_key_is_made_once_and_changed_by_parts() {
    let (mut bench, _) = Bench::new();
    create(&mut bench, 1);
    let again = Mutation::CreateKey { id: id(1), key: key() };
    assert_eq!(bench.propose(again), Outcome::Refused(Refusal::AlreadyExists));
    let at = bench.now();
    let change = KeyChange::Secret { sealed: vec![9], at };
    assert_eq!(bench.propose(Mutation::ChangeKey { id: id(1), change }), Outcome::Done);
    let change = KeyChange::State(KeyState::Disabled);
    assert_eq!(bench.propose(Mutation::ChangeKey { id: id(1), change }), Outcome::Done);
    let changed = AccessKey {
        sealed_secret: vec![9],
        state: KeyState::Disabled,
        rotated_at: Some(at),
        ..key()
    };
    assert_eq!(record(&bench, 1), Some(changed));
    assert_eq!(bench.propose(Mutation::DeleteKey { id: id(1) }), Outcome::Done);
    assert_eq!(record(&bench, 1), None);
    let gone = Outcome::Refused(Refusal::NoKey);
    assert_eq!(bench.propose(Mutation::DeleteKey { id: id(1) }), gone);
    let change = KeyChange::State(KeyState::Active);
    assert_eq!(bench.propose(Mutation::ChangeKey { id: id(1), change }), gone);
    bench.check();
}

#[test]
fn what_is_malformed_makes_no_key() {
    let (mut bench, _) = Bench::new();
    let long = AccessKey { sealed_secret: vec![0; 257], ..key() };
    let mask = AccessKey { umask: 0o1000, ..key() };
    for key in [long, mask] {
        let create = Mutation::CreateKey { id: id(1), key };
        assert_eq!(bench.propose(create), Outcome::Refused(Refusal::Malformed));
    }
    assert_eq!(record(&bench, 1), None);
}

#[test]
fn a_bucket_belongs_to_the_key_that_made_it() {
    let (mut bench, other) = Bench::new();
    let make = bench.new_node(Ino::ROOT, "own", FileKind::Directory);
    let of = |number| Mutation::MakeBucket { make: make.clone(), owner: id(number) };
    assert_eq!(bench.propose(of(1)), Outcome::Refused(Refusal::NoKey));
    create(&mut bench, 1);
    create(&mut bench, 2);
    let Outcome::Node { ino, .. } = bench.propose(of(1)) else { panic!("not made") };
    assert_eq!(bench.propose(of(2)), Outcome::Refused(Refusal::AlreadyExists));
    assert!(bucket(&bench, ino).rights(id(1)).allow(Right::Owner));
    assert_eq!(bucket(&bench, ino).rights(id(2)), Rights::NONE);
    assert_eq!(bucket(&bench, other).owner, None);
    let below = bench.new_node(ino, "d", FileKind::Directory);
    let below = Mutation::MakeBucket { make: below, owner: id(1) };
    assert_eq!(bench.propose(below), Outcome::Refused(Refusal::RootRule));
    bench.check();
}

#[test]
fn grants_are_kept_in_order_replaced_and_taken_back() {
    let (mut bench, ino) = Bench::new();
    for number in 1..=3 {
        create(&mut bench, number);
    }
    let grant = |bench: &mut Bench, number, rights: &str| {
        let (bucket, key, rights) = (ino, id(number), rights.parse().unwrap());
        bench.propose(Mutation::Grant { bucket, key, rights })
    };
    for (number, rights) in [(3, "read"), (1, "write"), (2, "owner"), (1, "read,write")] {
        assert_eq!(grant(&mut bench, number, rights), Outcome::Done);
    }
    let held: Vec<String> =
        bucket(&bench, ino).grants.iter().map(|(_, rights)| rights.to_string()).collect();
    assert_eq!(held, ["read,write", "owner", "read"]);
    assert_eq!(grant(&mut bench, 2, "none"), Outcome::Done);
    assert_eq!(grant(&mut bench, 2, "none"), Outcome::Done, "asked again");
    assert_eq!(bucket(&bench, ino).grants.len(), 2);
    assert_eq!(grant(&mut bench, 9, "read"), Outcome::Refused(Refusal::NoKey));
    bench.propose(Mutation::DeleteKey { id: id(3) });
    assert_eq!(grant(&mut bench, 3, "none"), Outcome::Done, "of a key that is gone");
    let nowhere = Mutation::Grant { bucket: Ino(999), key: id(1), rights: Rights::NONE };
    assert_eq!(bench.propose(nowhere), Outcome::Refused(Refusal::NotFound));
    bench.check();
}

#[test]
fn a_bucket_full_of_the_longest_grants_still_has_a_record() {
    let (mut bench, ino) = Bench::new();
    let rights: Rights = "read,write,owner,chown".parse().unwrap();
    for number in 0..=GRANTS_MAX {
        create(&mut bench, number);
        let grant = Mutation::Grant { bucket: ino, key: id(number), rights };
        let outcome = bench.propose(grant);
        let expected = match number {
            GRANTS_MAX => Outcome::Refused(Refusal::TooManyGrants),
            _ => Outcome::Done,
        };
        assert_eq!(outcome, expected);
    }
    bench.check();
}
