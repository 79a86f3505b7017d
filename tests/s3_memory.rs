//! Objects larger than the node's memory go through it: PUT, multipart and GET of many gigabytes by a process that may
//! have one. `BUCKETFS_LONG` takes 20 GiB, as issue 3 asks for.
#![cfg(feature = "s3")]

mod support;

use support::rng::Rng;
use support::s3_world::{BUCKET, World, is_long};

const GIB: u64 = 1 << 30;
/// What the process may have of data, stacks and heap.
const LIMIT: u64 = GIB;
/// What it had in memory at most: buffers, the table's cache and itself, far below what it stores.
const RESIDENT_MAX: u64 = 512 << 20;
const PART: u64 = 256 << 20;

/// Bytes that depend on their position alone.
struct Noise {
    rng: Rng,
    sum: u64,
}

impl Noise {
    fn new() -> Self {
        Self { rng: Rng::new(7), sum: 0 }
    }

    fn fill(&mut self, piece: &mut [u8]) {
        for bytes in piece.chunks_mut(8) {
            bytes.copy_from_slice(&self.rng.next().to_le_bytes()[..bytes.len()]);
        }
    }

    /// The next bytes must be these, whatever the pieces they come in.
    fn check(&mut self, piece: &[u8]) {
        let digest = piece.iter().fold(self.sum, |sum, byte| {
            sum.wrapping_mul(0x100_0000_01b3).wrapping_add(u64::from(*byte))
        });
        self.sum = digest;
    }
}

fn status(world: &World, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", world.node.pid())).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).expect("a line of the status");
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

#[test]
fn objects_larger_than_memory_go_through() {
    let size = if is_long() { 20 * GIB } else { GIB + GIB / 4 };
    let world = World::new("memory");
    let limit = libc::rlimit64 { rlim_cur: LIMIT, rlim_max: LIMIT };
    let pid = world.node.pid() as i32;
    let set = unsafe { libc::prlimit64(pid, libc::RLIMIT_DATA, &limit, std::ptr::null_mut()) };
    assert_eq!(set, 0, "limiting the node's memory: {}", std::io::Error::last_os_error());

    let (mut noise, mut sent) = (Noise::new(), Noise::new());
    let put = world.s3.send_stream("PUT", &format!("/{BUCKET}/one"), &[], size, |piece| {
        noise.fill(piece);
        sent.check(piece);
    });
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(read(&world, "one"), (size, sent.sum));
    assert_eq!(world.delete("one").status, 204);

    let path = format!("/{BUCKET}/parts");
    let begun = world.s3.send("POST", &path, &[("uploads", "")], &[], b"");
    let id = begun.all("UploadId").remove(0);
    let (mut noise, mut list) = (Noise::new(), String::new());
    for number in 1..=size / PART {
        let number = number.to_string();
        let query = [("partNumber", number.as_str()), ("uploadId", id.as_str())];
        let part = world.s3.send_stream("PUT", &path, &query, PART, |piece| noise.fill(piece));
        assert_eq!(part.status, 200, "{}", part.text());
        let etag = part.header("etag").unwrap();
        list.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        ));
    }
    let list = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
    let done = world.s3.send("POST", &path, &[("uploadId", &id)], &[], list.as_bytes());
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(read(&world, "parts"), (size, sent.sum));

    let peak = status(&world, "VmHWM:");
    println!("{} MiB stored twice and read with {} MiB of memory", size >> 20, peak >> 20);
    assert!(peak < RESIDENT_MAX, "the node had {} MiB in memory", peak >> 20);
    world.node.stop();
}

fn read(world: &World, key: &str) -> (u64, u64) {
    let mut got = Noise::new();
    let len = world.s3.get_stream(&format!("/{BUCKET}/{key}"), |piece| got.check(piece));
    (len, got.sum)
}
