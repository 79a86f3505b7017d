//! Close-to-open as a register: two nodes write into one file in place, and each read on the third shows what a single place
//! in memory would have shown, also while a node is cut off. Needs root.

mod support;

use std::fs;
use std::io::Result;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::cluster::Cluster;
use support::history::{Event, Model, explain};
use support::mounts::own_namespace;
use support::rng::number;
use support::s3::Client;
use support::sys;
use support::wait::{now, pause};

const NODES: usize = 3;
/// Bytes of a value.
const VALUE: usize = 20;
/// Where it lies in a file that is kept beside the metadata, and in one of chunks.
const SMALL: u64 = 0;
const LARGE: u64 = 150_000;
/// Writers of each of two nodes.
const WRITERS: usize = 2;
/// Of each writer in a round.
const WRITES: u64 = 30;

#[derive(Clone, Copy, Debug)]
enum Call {
    Read,
    Write(u64),
}

/// What a read found.
type Found = u64;

struct Register;

impl Model for Register {
    type State = u64;
    type Call = Call;
    /// Nothing for a write.
    type Answer = Option<Found>;

    fn step(state: &u64, call: &Call, answer: Option<&Option<Found>>) -> Option<u64> {
        match (*call, answer) {
            (Call::Write(value), None | Some(None)) => Some(value),
            (Call::Read, Some(Some(found))) => (found == state).then_some(*state),
            (Call::Write(_), Some(Some(_))) | (Call::Read, None | Some(None)) => None,
        }
    }
}

fn bytes_of(value: u64) -> Vec<u8> {
    format!("{value:0VALUE$}").into_bytes()
}

fn value_of(bytes: &[u8]) -> u64 {
    let value = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    value.unwrap_or_else(|| panic!("{} bytes are no value", bytes.len()))
}

/// Writes over what is there and closes, or has it saved by fsync(2).
fn write(path: &Path, at: u64, value: u64) -> Option<Event<Register>> {
    let begun = now();
    // Without effect.
    let file = sys::open(path, libc::O_WRONLY, 0).ok()?;
    let written = sys::pwrite(file, at, &bytes_of(value)).map(drop);
    let saved = if value.is_multiple_of(2) { sys::fsync(file) } else { Ok(()) };
    let synced = now();
    let closed = sys::close(file);
    let (outcome, ended) = match value.is_multiple_of(2) {
        true => (written.and(saved), synced),
        false => (written.and(closed), now()),
    };
    Some(Event { call: Call::Write(value), answer: outcome.ok().map(|()| None), begun, ended })
}

/// How a reader reaches its node.
enum Door {
    Mount(PathBuf),
    S3(Client, String),
}

impl Door {
    fn read(&self, at: u64) -> Option<Event<Register>> {
        let begun = now();
        let bytes = match self {
            Self::Mount(path) => read_file(path, at).ok()?,
            Self::S3(client, path) => {
                let range = format!("bytes={at}-{}", at + VALUE as u64 - 1);
                let answer = client.try_send("GET", path, &[], &[("range", &range)], b"").ok()?;
                (answer.status == 206).then_some(answer.body)?
            }
        };
        let found = Some(Some(value_of(&bytes)));
        Some(Event { call: Call::Read, answer: found, begun, ended: now() })
    }
}

fn read_file(path: &Path, at: u64) -> Result<Vec<u8>> {
    let file = sys::open(path, libc::O_RDONLY, 0)?;
    let bytes = sys::pread(file, at, VALUE);
    sys::close(file)?;
    bytes
}

/// > Writes in place by several nodes, each saved by close or fsync, are a register to whoever opens the file on another
/// > node or reads it through S3
///
/// The node that reads changes with each round; every other round a node is cut off.
#[test]
fn closes_in_place_are_linearizable_to_the_opens_of_other_nodes() {
    own_namespace();
    let cluster = Cluster::start_linked("register", NODES, &[]);
    fs::create_dir(cluster.path(0, "register")).unwrap();
    for round in 0..number("BUCKETFS_HISTORIES", 2) {
        let reader = round as usize % NODES;
        let at = if (round + round / 2) % 2 == 0 { SMALL } else { LARGE };
        let name = format!("register/{round}");
        let first = [vec![0; at as usize], bytes_of(0)].concat();
        fs::write(cluster.path(0, &name), first).unwrap();
        let victim = (round % 2 == 1).then_some((round / 2) as usize % NODES);
        let events = history(&cluster, &name, reader, at, || {
            if let Some(victim) = victim {
                pause(Duration::from_millis(200));
                cluster.cut_off(victim);
                pause(Duration::from_secs(7));
                cluster.links().heal();
            }
        });
        (0..NODES).for_each(|place| cluster.wait_for_health(place));
        let is = |event: &&Event<Register>, read| matches!(event.call, Call::Read) == read;
        let answered = || events.iter().filter(|event| event.answer.is_some());
        let (reads, writes) = (
            answered().filter(|event| is(event, true)).count(),
            answered().filter(|event| is(event, false)).count(),
        );
        println!("round {round}, {victim:?} cut off: {reads} reads, {writes} writes of {at}");
        let all = 2 * WRITERS * WRITES as usize;
        let least = if victim.is_some() { all / 4 } else { all };
        assert!(writes >= least && reads > 10, "{writes} writes of {all}, {reads} reads");
        if let Err(why) = explain(0, &events) {
            panic!(
                "round {round}, reader {reader}, cut off {victim:?}: no register says so: {why}"
            );
        }
    }
}

/// What the writers of two nodes and the readers of the third did.
fn history(
    cluster: &Cluster,
    name: &str,
    reader: usize,
    at: u64,
    meanwhile: impl FnOnce(),
) -> Vec<Event<Register>> {
    let paths = (0..NODES).filter(|place| *place != reader);
    let paths = paths.flat_map(|place| vec![cluster.path(place, name); WRITERS]);
    let doors =
        [Door::Mount(cluster.path(reader, name)), Door::S3(cluster.s3(reader), format!("/{name}"))];
    let over = &AtomicBool::new(false);
    std::thread::scope(|threads| {
        let writers = paths.zip(1..).map(|(path, number)| {
            threads.spawn(move || {
                let values = number * 1_000_000..number * 1_000_000 + WRITES;
                values.filter_map(|value| write(&path, at, value)).collect::<Vec<_>>()
            })
        });
        let writers: Vec<_> = writers.collect();
        let readers = doors.map(|door| {
            threads.spawn(move || {
                let mut events = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    events.extend(door.read(at));
                    pause(Duration::from_millis(3));
                }
                events
            })
        });
        meanwhile();
        let mut events = Vec::new();
        writers.into_iter().for_each(|writer| events.extend(writer.join().expect("a writer")));
        over.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| events.extend(reader.join().expect("a reader")));
        events
    })
}

#[test]
fn the_register_tells_good_histories_from_bad_ones() {
    let start = now();
    let explained = |calls: &[(u64, u64, Call, Option<Option<Found>>)]| {
        let at = |time: u64| start + Duration::from_millis(time);
        let event = |(begun, ended, call, answer): &(u64, u64, Call, _)| Event {
            call: *call,
            answer: *answer,
            begun: at(*begun),
            ended: at(*ended),
        };
        let events: Vec<Event<Register>> = calls.iter().map(event).collect();
        explain(0, &events).is_ok()
    };
    let read = |begun, found| (begun, begun + 1, Call::Read, Some(Some(found)));
    let write = |answer| (2, 9, Call::Write(7), answer);
    assert!(explained(&[read(0, 0), write(Some(None)), read(3, 0), read(5, 7), read(10, 7)]));
    assert!(!explained(&[write(Some(None)), read(10, 0)]), "a stale read");
    assert!(!explained(&[write(Some(None)), read(3, 7), read(5, 0)]), "it was there before");
    assert!(explained(&[write(None), read(10, 0), read(20, 7)]), "unknown comes late or never");
    assert!(!explained(&[write(None), read(10, 7), read(20, 0)]), "but not back");
}
