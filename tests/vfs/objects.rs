//! Objects through the vfs: whole, pinned while they are read, listed in byte order, and after a
//! power cut either as before or as acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use bucketfs::error::{Error, Result};
use bucketfs::types::{BucketName, ByteRange, ChecksumKind, ObjectKey};
use bucketfs::vfs::{
    AttrChange, Caller, Completion, Condition, Expected, ListQuery, NamedPart, NewUpload,
    ObjectHeaders, ObjectInfo, OpenFlags,
};

use super::store::{self, Store};
use super::words::Chance;

fn bucket() -> BucketName {
    BucketName::new("bucket").unwrap()
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).unwrap()
}

fn bytes(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251 + seed * 7) as u8).collect()
}

async fn put_if(
    store: &Store,
    name: &str,
    data: &[u8],
    condition: Condition,
) -> Result<ObjectInfo> {
    let mut writer = store.vfs.upload(&bucket(), &[ChecksumKind::Crc64Nvme]);
    for part in data.chunks(10_000) {
        writer.write(part).await?;
    }
    let uploaded = writer.finish().await?;
    let headers = ObjectHeaders {
        meta: BTreeMap::from([("len".to_owned(), data.len().to_string())]),
        ..ObjectHeaders::default()
    };
    let (bucket, key) = (bucket(), key(name));
    store.vfs.put_object(&Caller::default(), (&bucket, &key), uploaded, &headers, condition).await
}

async fn put(store: &Store, name: &str, data: &[u8]) -> Result<ObjectInfo> {
    put_if(store, name, data, Condition::Always).await
}

async fn get(store: &Store, name: &str) -> Result<Vec<u8>> {
    let reader = store.vfs.open_object(&Caller::default(), &bucket(), &key(name)).await?;
    Ok(reader.read_whole(ByteRange::between(0, reader.info.size)).await?.into())
}

/// Nothing is left of what was given up, once the readers that held it have gone.
async fn collected(store: &Store) {
    for _ in 0..200 {
        tokio::task::yield_now().await;
        store.vfs.upkeep_round().await.unwrap();
        if store.chunk_files() == 0 {
            return;
        }
    }
    panic!("{} chunk files are left", store.chunk_files());
}

async fn delete(store: &Store, name: &str) -> Result<bool> {
    store.vfs.delete_object(&Caller::default(), &bucket(), &key(name), Expected::default()).await
}

async fn list(store: &Store, query: &ListQuery) -> (Vec<String>, Vec<String>) {
    let (mut keys, mut prefixes) = (Vec::new(), Vec::new());
    let mut query = query.clone();
    loop {
        let page = store.vfs.list_objects(&Caller::default(), &bucket(), &query).await.unwrap();
        assert!(page.objects.len() + page.prefixes.len() <= query.limit);
        keys.extend(page.objects.into_iter().map(|object| object.key));
        prefixes.extend(page.prefixes);
        match page.next {
            Some(next) => query.after = next,
            None => return (keys, prefixes),
        }
    }
}

#[test]
fn objects_are_put_read_copied_and_deleted() {
    store::runtime().block_on(async {
        let store = Store::create().await;
        for (seed, len) in [0, 5, 16 << 10, 20_000, 64 << 10, 300_000].into_iter().enumerate() {
            let (name, data) = (format!("d/e {len}"), bytes(seed, len));
            let info = put(&store, &name, &data).await.unwrap();
            assert_eq!((info.size, info.version), (len as u64, 1));
            assert_eq!(info.checksums.len(), 1);
            assert_eq!(info.headers.meta["len"], len.to_string());
            assert_eq!(get(&store, &name).await.unwrap(), data, "{len}");
            let reader =
                store.vfs.open_object(&Caller::default(), &bucket(), &key(&name)).await.unwrap();
            let range = ByteRange::between(len as u64 / 3, len as u64 / 2);
            assert_eq!(reader.read(range).await.unwrap().concat(), data[len / 3..len / 2]);
            let (to, who) = (key(&format!("copy/{len}")), Caller::default());
            let place = (&bucket(), &to);
            let copied = store.vfs.copy_object(&who, &reader, place, None, Condition::Always);
            let copied = copied.await.unwrap();
            assert_eq!((&copied.etag, &copied.headers), (&info.etag, &info.headers));
            assert!(delete(&store, &name).await.unwrap() && !delete(&store, &name).await.unwrap());
            assert!(matches!(get(&store, &name).await, Err(Error::NotFound)));
            assert_eq!(get(&store, to.as_str()).await.unwrap(), data);
            // What was opened goes on.
            let all = ByteRange::between(0, len as u64);
            assert_eq!(reader.read_whole(all).await.unwrap(), data);
            assert!(delete(&store, to.as_str()).await.unwrap());
        }
        assert!(store.vfs.lookup(store.bucket, b"d").is_err());
        collected(&store).await;
    });
}

/// A file of few bytes keeps them with its record, however large truncate(2) makes it: a copy that
/// took its size for the number of its bytes would ask for that much memory.
#[test]
fn a_copy_of_a_sparse_file_is_sparse() {
    store::runtime().block_on(async {
        let (store, who) = (Store::create().await, Caller::default());
        for (data, size) in
            [("", 20_000), ("abc", 16 << 10), ("abc", 20_000), ("", 1 << 40), ("abc", 1 << 40)]
        {
            let made = store.vfs.create(&who, store.bucket, b"f", 0o644, OpenFlags(libc::O_RDWR));
            let (attr, opened) = made.await.unwrap();
            store.vfs.write(&who, opened.handle, 0, data.as_bytes()).await.unwrap();
            let cut = AttrChange { size: Some(size), ..AttrChange::default() };
            store.vfs.setattr(&who, attr.ino, cut).await.unwrap();
            store.vfs.flush(opened.handle).await.unwrap();
            store.vfs.release(opened.handle).await;
            let source = store.vfs.open_object(&who, &bucket(), &key("f")).await.unwrap();
            let (bucket, to) = (bucket(), key("copy"));
            let place = (&bucket, &to);
            let copied = store.vfs.copy_object(&who, &source, place, None, Condition::Always);
            assert_eq!(copied.await.unwrap().size, size, "{data:?}, {size}");
            let copy = store.vfs.open_object(&who, &bucket, &to).await.unwrap();
            let mut whole = data.as_bytes().to_vec();
            whole.resize(16_000, 0);
            for (start, expected) in [(0, whole), (size - 9, vec![0; 9])] {
                let range = ByteRange::between(start, start + expected.len() as u64);
                assert_eq!(copy.read_whole(range).await.unwrap(), expected);
                assert_eq!(source.read_whole(range).await.unwrap(), expected);
            }
            let attr = store.vfs.lookup(store.bucket, b"copy").unwrap();
            assert!(attr.size == size && attr.allocated <= 16 << 10, "{attr:?}");
            let flags = OpenFlags(libc::O_RDONLY);
            let handle = store.vfs.open(&who, attr.ino, flags).await.unwrap().handle;
            assert_eq!(store.vfs.read(handle, 0, 3).await.unwrap()[..data.len()], *data.as_bytes());
            store.vfs.release(handle).await;
            assert!(delete(&store, "f").await.unwrap() && delete(&store, "copy").await.unwrap());
        }
        store.assert_consistent();
        collected(&store).await;
    });
}

/// > Overwriting an object leaves open files alone
///
/// The mount and S3 see one file; an open handle keeps the version it has opened.
#[test]
fn an_overwrite_leaves_open_files_alone() {
    store::runtime().block_on(async {
        let (store, who) = (Store::create().await, Caller::default());
        put(&store, "a", &bytes(1, 100_000)).await.unwrap();
        let ino = store.vfs.lookup(store.bucket, b"a").unwrap().ino;
        let handle = store.vfs.open(&who, ino, OpenFlags(libc::O_RDWR)).await.unwrap().handle;
        put(&store, "a", b"new").await.unwrap();
        assert_eq!(store.vfs.read(handle, 0, 9).await.unwrap(), bytes(1, 9));
        assert_ne!(store.vfs.lookup(store.bucket, b"a").unwrap().ino, ino);
        assert_eq!(store.read_whole("a").await.unwrap(), b"new");
        store.vfs.release(handle).await;
        // An edit through the mount changes the tag; a reader of the old bytes breaks off.
        let before = store.vfs.open_object(&Caller::default(), &bucket(), &key("a")).await.unwrap();
        let ino = before.info.ino;
        let handle = store.vfs.open(&who, ino, OpenFlags(libc::O_RDWR)).await.unwrap().handle;
        store.vfs.write(&who, handle, 0, b"N").await.unwrap();
        assert_eq!(get(&store, "a").await.unwrap(), b"new");
        store.vfs.flush(handle).await.unwrap();
        assert_eq!(get(&store, "a").await.unwrap(), b"New");
        let after = store.vfs.head_object(&Caller::default(), &bucket(), &key("a")).await.unwrap();
        assert!(after.etag != before.info.etag && after.etag.contains('-'));
        assert!(after.checksums.is_empty());
        let read = before.read(ByteRange::between(0, 3)).await;
        assert!(matches!(read, Err(Error::Conflict)));
        store.vfs.release(handle).await;
    });
}

#[test]
fn conditions_and_obstacles_are_told_apart() {
    store::runtime().block_on(async {
        let store = Store::create().await;
        let etag = put_if(&store, "a", b"1", Condition::Absent).await.unwrap().etag;
        let again = put_if(&store, "a", b"2", Condition::Absent).await;
        assert!(matches!(again, Err(Error::PreconditionFailed)));
        put_if(&store, "a", b"3", Condition::ETag(etag)).await.unwrap();
        let named = |put, name| matches!(put, Err(Error::InTheWay(key)) if key == name);
        assert!(named(put(&store, "a/b", b"").await, "`a`"));
        put(&store, "d/", b"").await.unwrap();
        assert!(named(put(&store, "d", b"").await, "`d/`"));
        let other = BucketName::new("missing").unwrap();
        let missing = store.vfs.head_object(&Caller::default(), &other, &key("a")).await;
        assert!(matches!(missing, Err(Error::NoBucket)));
        // What was uploaded in vain is collected.
        let lost = put_if(&store, "a", &bytes(1, 200_000), Condition::Absent).await;
        assert!(matches!(lost, Err(Error::PreconditionFailed)));
        let mut writer = store.vfs.upload(&bucket(), &[]);
        writer.write(&bytes(2, 200_000)).await.unwrap();
        drop(writer);
        collected(&store).await;
    });
}

/// What S3 lists of these keys under a query; its documentation in a few lines.
fn expected(keys: &BTreeSet<String>, query: &ListQuery) -> (Vec<String>, Vec<String>) {
    let (mut objects, mut prefixes) = (Vec::new(), BTreeSet::new());
    for key in keys.iter().filter(|key| key.starts_with(&query.prefix)) {
        let rest = &key[query.prefix.len()..];
        let at = query.delimiter.as_ref().and_then(|text| Some(rest.find(text)? + text.len()));
        match at {
            Some(end) => {
                prefixes.insert(key[..query.prefix.len() + end].to_owned());
            }
            None => objects.push(key.clone()),
        }
    }
    objects.retain(|key| *key > query.after);
    (objects, prefixes.into_iter().filter(|prefix| *prefix > query.after).collect())
}

/// > Listings are in byte order of the keys, whatever the query
#[test]
fn listings_are_in_byte_order_whatever_the_query() {
    store::runtime().block_on(async {
        let (store, mut chance) = (Store::create().await, Chance::new(5));
        let names = ["a", "a b", "a-b", "a.b", "a0", "b", "ü", "a!"];
        let mut keys = BTreeSet::new();
        for _ in 0..120 {
            let depth = 1 + chance.below(3);
            let parts: Vec<&str> =
                (0..depth).map(|_| names[chance.below(names.len() as u64) as usize]).collect();
            let name = parts.join("/") + if chance.below(5) == 0 { "/" } else { "" };
            match put(&store, &name, b"x").await {
                Ok(_) => drop(keys.insert(name)),
                Err(Error::InTheWay(_)) => {}
                Err(error) => panic!("{name}: {error}"),
            }
        }
        let prefixes = ["", "a", "a/", "a b/", "a-", "a/a", "a/a/", "zzz", "ü/"];
        let afters = ["", "a", "a/", "a/b", "a.b", "b/zz", "ü"];
        for prefix in prefixes {
            for delimiter in [None, Some("/"), Some("b"), Some("a/")] {
                for after in afters {
                    for limit in [1, 3, 1000] {
                        let query = ListQuery {
                            prefix: prefix.into(),
                            delimiter: delimiter.map(Into::into),
                            after: after.into(),
                            limit,
                            xml_only: false,
                        };
                        let found = list(&store, &query).await;
                        assert_eq!(found, expected(&keys, &query), "{query:?}");
                    }
                }
            }
        }
    });
}

struct Upload<'a> {
    store: &'a Store,
    name: &'a str,
    id: String,
}

impl<'a> Upload<'a> {
    async fn begin(store: &'a Store, name: &'a str) -> Result<Self> {
        let new =
            NewUpload { checksum: Some((ChecksumKind::Crc32, false)), ..NewUpload::default() };
        let id = store.vfs.create_upload(&Caller::default(), &bucket(), &key(name), &new).await?;
        Ok(Self { store, name, id })
    }

    async fn part(&self, number: u16, data: &[u8]) -> Result<NamedPart> {
        let mut writer = self.store.vfs.upload_part(&bucket(), &[ChecksumKind::Crc32]);
        writer.write(data).await?;
        let uploaded = writer.finish().await?;
        let (bucket, key, who) = (bucket(), key(self.name), Caller::default());
        let place = (&bucket, &key, self.id.as_str());
        let part = self.store.vfs.put_part(&who, place, number, uploaded).await?;
        Ok(NamedPart { number, etag: part.etag, checksums: part.checksums })
    }

    async fn complete(&self, parts: &[NamedPart]) -> Result<ObjectInfo> {
        self.complete_sized(parts, None).await
    }

    async fn complete_sized(&self, parts: &[NamedPart], size: Option<u64>) -> Result<ObjectInfo> {
        let (bucket, key, who) = (bucket(), key(self.name), Caller::default());
        let place = (&bucket, &key, self.id.as_str());
        let completion = Completion { parts: parts.to_vec(), size, ..Completion::default() };
        self.store.vfs.complete_upload(&who, place, &completion, Condition::Always).await
    }
}

#[test]
fn parts_in_any_order_become_one_object() {
    store::runtime().block_on(async {
        let store = Store::create().await;
        let (first, second) = (bytes(1, 5 << 20 | 12345), bytes(2, 777));
        let upload = Upload::begin(&store, "big/one").await.unwrap();
        let two = upload.part(2, &second).await.unwrap();
        let stale = upload.part(1, &bytes(3, 5 << 20)).await.unwrap();
        let one = upload.part(1, &first).await.unwrap();
        let tail = upload.part(7, b"").await.unwrap();
        let small = upload.complete(&[two.clone(), one.clone()]).await;
        assert!(matches!(small, Err(Error::PartTooSmall(2))));
        let replaced = upload.complete(&[stale, two.clone()]).await;
        assert!(matches!(replaced, Err(Error::NoPart(1))));
        let uploads =
            store.vfs.list_uploads(&Caller::default(), &bucket(), "big", ("", ""), 10).unwrap();
        assert_eq!((uploads.len(), uploads[0].key.as_str()), (1, "big/one"));
        let named = [one, two];
        let info = upload.complete(&named).await.unwrap();
        let whole = [first, second].concat();
        assert_eq!(get(&store, "big/one").await.unwrap(), whole);
        assert!(info.etag.ends_with("-2") && info.parts.len() == 2);
        let plain = {
            let mut writer = store.vfs.upload(&bucket(), &[ChecksumKind::Crc32]);
            writer.write(&whole).await.unwrap();
            writer.finish().await.unwrap().checksums.clone()
        };
        assert_eq!(info.checksums, plain);
        // Asked again, for the answer may have been lost.
        assert_eq!(upload.complete(&named).await.unwrap(), info);
        assert!(matches!(upload.complete(&[tail]).await, Err(Error::NoUpload)));
        assert!(matches!(upload.part(3, b"late").await, Err(Error::NoUpload)));
        assert!(delete(&store, "big/one").await.unwrap());
        collected(&store).await;
    });
}

/// A client whose answer was lost asks again, with the size it named before; one that is impatient
/// asks again while the first request is still at it, or while the parts are being freed.
#[test]
fn a_completion_that_is_asked_again_is_answered_again() {
    store::runtime().block_on(async {
        let store = Store::create().await;
        for round in 0..16_u64 {
            let upload = Upload::begin(&store, "k").await.unwrap();
            let data = bytes(round as usize, 5 << 20);
            let named =
                [upload.part(1, &data).await.unwrap(), upload.part(2, b"end").await.unwrap()];
            let size = data.len() as u64 + 3;
            let wrong = upload.complete_sized(&named, Some(size - 1)).await;
            assert!(matches!(wrong, Err(Error::WrongSize)));
            let late = async {
                for _ in 0..round {
                    tokio::task::yield_now().await;
                }
                upload.complete_sized(&named, Some(size)).await
            };
            let freeing = async {
                for _ in 0..20 {
                    store.vfs.upkeep_round().await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let one = upload.complete_sized(&named, Some(size));
            let two = upload.complete(&named);
            let (one, two, late, ()) = tokio::join!(one, two, late, freeing);
            let one = one.unwrap();
            assert_eq!((&two.unwrap(), &late.unwrap()), (&one, &one), "round {round}");
            assert_eq!(upload.complete_sized(&named, Some(size)).await.unwrap(), one);
            let wrong = upload.complete_sized(&named, Some(size + 1)).await;
            assert!(matches!(wrong, Err(Error::WrongSize)));
            assert!(delete(&store, "k").await.unwrap());
            assert!(matches!(upload.complete(&named).await, Err(Error::NoUpload)));
        }
        collected(&store).await;
    });
}

/// A client may go away while its rename first commits what the file's writer has not saved yet: the
/// commit goes on without it, and leaves no chunk that nobody settles.
#[test]
fn a_rename_that_is_given_up_leaves_nothing_behind() {
    store::runtime().block_on(async {
        let (store, who) = (Store::create().await, Caller::default());
        for turns in 0..12 {
            let made = store.vfs.create(&who, store.bucket, b"f", 0o644, OpenFlags(libc::O_RDWR));
            let handle = made.await.unwrap().1.handle;
            store.vfs.write(&who, handle, 0, b"abc").await.unwrap();
            store.vfs.flush(handle).await.unwrap();
            store.vfs.write(&who, handle, 10, &bytes(turns, 100_000)).await.unwrap();
            let (bucket, from, to) = (bucket(), key("f"), key("g"));
            let rename = store.vfs.rename_object(
                &who,
                &bucket,
                (&from, Condition::Always),
                (&to, Condition::Always),
            );
            let patience = async {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                renamed = rename => renamed.unwrap(),
                () = patience => {}
            }
            store.vfs.flush(handle).await.unwrap();
            store.vfs.release(handle).await;
            assert!(delete(&store, "f").await.unwrap() || delete(&store, "g").await.unwrap());
        }
        collected(&store).await;
    });
}

/// An object's bytes, if there is one.
type Seen = Option<Vec<u8>>;

/// Versions of each key in order: a power cut may lose what was not acknowledged, nothing else.
#[derive(Default)]
struct History {
    /// The last acknowledged state of each key, and what was tried after it.
    keys: BTreeMap<String, (Seen, Vec<Seen>)>,
}

impl History {
    fn note<T>(&mut self, name: &str, state: Option<Vec<u8>>, result: &Result<T>) {
        let (acknowledged, tried) = self.keys.entry(name.to_owned()).or_default();
        match result {
            Ok(_) => (*acknowledged, *tried) = (state, Vec::new()),
            Err(_) => tried.push(state),
        }
    }
}

async fn uploads_until_cut(store: &Store) -> History {
    let mut history = History::default();
    for round in 0..3 {
        for (index, len) in [100, 100_000, 200_000].into_iter().enumerate() {
            let (name, data) = (format!("d{index}/k"), bytes(round + index, len));
            let result = put(store, &name, &data).await;
            history.note(&name, Some(data), &result);
            if result.is_err() {
                return history;
            }
        }
        let data = bytes(round, 150_000);
        let result = async {
            let upload = Upload::begin(store, "multi/k").await?;
            let part = upload.part(1, &data).await?;
            upload.complete(&[part]).await
        }
        .await;
        history.note("multi/k", Some(data), &result);
        let result = delete(store, "d1/k").await;
        history.note("d1/k", None, &result);
        if result.is_err() {
            return history;
        }
    }
    history
}

#[test]
fn a_power_cut_at_any_sync_keeps_what_was_acknowledged() {
    let long = std::env::var("BUCKETFS_LONG").is_ok();
    let syncs = store::runtime().block_on(async {
        let store = Store::create().await;
        let before = store.disk.syncs();
        uploads_until_cut(&store).await;
        store.disk.syncs() - before
    });
    let stride = if long { 1 } else { (syncs / 40).max(1) };
    for cut in (0..syncs).step_by(stride as usize) {
        store::runtime().block_on(async {
            let store = Store::create().await;
            store.disk.stop_after_syncs(cut);
            let history = uploads_until_cut(&store).await;
            let store = store.power_cut(cut).await;
            for (name, (acknowledged, tried)) in &history.keys {
                let found = match get(&store, name).await {
                    Ok(bytes) => Some(bytes),
                    Err(Error::NotFound) => None,
                    Err(error) => panic!("sync {cut}, {name}: {error}"),
                };
                let allowed = found == *acknowledged || tried.contains(&found);
                assert!(allowed, "sync {cut}: {name} is neither what was acknowledged nor newer");
            }
        });
    }
}

/// Clients that send most of a chunk and then nothing must not keep the write buffer to themselves.
#[test]
fn uploads_that_stand_still_leave_room_for_writes() {
    store::runtime().block_on(async {
        let store = Store::create().await;
        let mut stalled = Vec::new();
        for _ in 0..16 {
            let mut writer = store.vfs.upload(&bucket(), &[]);
            writer.write(&bytes(1, 60_000)).await.unwrap();
            let silent = async move { writer.next(std::future::pending::<()>()).await.unwrap() };
            stalled.push(tokio::spawn(silent));
        }
        let who = Caller::default();
        let file = store.vfs.create(&who, store.bucket, b"f", 0o644, OpenFlags(libc::O_WRONLY));
        let handle = file.await.unwrap().1.handle;
        let data = bytes(2, 500_000);
        let written = store.vfs.write(&who, handle, 0, &data);
        let limit = std::time::Duration::from_secs(30);
        tokio::time::timeout(limit, written).await.expect("no room for a write").unwrap();
        store.vfs.flush(handle).await.unwrap();
        store.vfs.release(handle).await;
        assert_eq!(store.read_whole("f").await.unwrap(), data);
        assert!(stalled.iter().all(|upload| !upload.is_finished()));
        stalled.iter().for_each(tokio::task::JoinHandle::abort);
    });
}

#[test]
fn an_upload_that_made_room_is_whole() {
    store::runtime().block_on(async {
        let store = Store::create().await;
        let data = bytes(3, 150_000);
        let mut writer = store.vfs.upload(&bucket(), &[]);
        for part in data.chunks(30_000) {
            writer.next(async {}).await.unwrap();
            writer.write(part).await.unwrap();
        }
        let mut others = Vec::new();
        for _ in 0..18 {
            let mut other = store.vfs.upload(&bucket(), &[]);
            // The last ones wait for room, so that the first has to give its own.
            others.push(tokio::spawn(async move {
                other.write(&bytes(1, 60_000)).await.map(|()| other)
            }));
        }
        let pause = std::time::Duration::from_secs(6);
        writer.next(tokio::time::sleep(pause)).await.unwrap();
        let uploaded = writer.finish().await.unwrap();
        let (bucket, name) = (bucket(), key("k"));
        let (headers, who) = (ObjectHeaders::default(), Caller::default());
        let put =
            store.vfs.put_object(&who, (&bucket, &name), uploaded, &headers, Condition::Always);
        put.await.unwrap();
        assert_eq!(get(&store, "k").await.unwrap(), data);
        others.iter().for_each(tokio::task::JoinHandle::abort);
    });
}
