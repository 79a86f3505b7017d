//! Names and their contents, changed through the mounts and the S3 endpoints of three nodes at once, also while a node is cut
//! off: each history of calls and answers must be one that a single map would have given. Needs root.

mod support;

use std::fs;
use std::io::{Error, Result};
use std::path::PathBuf;
use std::time::Duration;

use support::cluster::Cluster;
use support::history::{Event, Model, explain};
use support::mounts::own_namespace;
use support::rng::{Rng, number, seed};
use support::s3::Client;
use support::sys;
use support::wait::{now, pause};

const NODES: usize = 3;
const NAMES: [&str; 4] = ["a", "b", "c", "lock"];
/// Those that all doors use. The last one is of the mounts alone: a file without bytes is there for S3 only when the
/// kernel has told of its last close, some time after close(2).
const SHARED: usize = 3;
const LOCK: usize = 3;
/// Bytes of a value; a file holds it once or many times.
const VALUE: usize = 20;
/// What is in a file without bytes.
const NOTHING: u64 = 0;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Held {
    value: u64,
    /// A bit for each name that this file was renamed away from.
    had: u8,
}

impl Held {
    fn new(value: u64) -> Self {
        Self { value, had: 0 }
    }

    fn renamed_from(self, name: usize) -> Self {
        Self { had: self.had | 1 << name, ..self }
    }

    fn had(self, name: usize) -> bool {
        self.had >> name & 1 == 1
    }
}

/// Each name with what it stands for.
type Names = [Option<Held>; NAMES.len()];

#[derive(Clone, Copy, Debug)]
enum Call {
    Read(usize),
    /// Replaces what is there.
    Put(usize, u64),
    /// Only where nothing is: `RENAME_NOREPLACE`, `If-None-Match: *`.
    PutNew(usize, u64),
    /// A file without bytes, where nothing is: open(2) with `O_CREAT | O_EXCL`.
    Create(usize),
    /// Only where the first value is: `If-Match`.
    Swap(usize, u64, u64),
    /// unlink(2), which knows whether there was anything.
    Unlink(usize),
    /// DELETE, which does not.
    Delete(usize),
    Rename(usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Done,
    /// There was nothing, there was something, or there was something else.
    Refused,
    Found(Option<u64>),
}

struct Map;

impl Model for Map {
    type State = Names;
    type Call = Call;
    type Answer = Answer;

    fn step(state: &Names, call: &Call, answer: Option<&Answer>) -> Option<Names> {
        let mut next = *state;
        let fits = match *call {
            Call::Read(name) => {
                let there = state[name].map(|held| held.value);
                return (answer == Some(&Answer::Found(there))).then_some(next);
            }
            Call::Put(name, value) => {
                next[name] = Some(Held::new(value));
                true
            }
            Call::Create(name) => return Self::step(state, &Call::PutNew(name, NOTHING), answer),
            Call::PutNew(name, value) => {
                let fits = state[name].is_none();
                next[name] = state[name].or(Some(Held::new(value)));
                fits
            }
            Call::Swap(name, old, new) => {
                let fits = state[name].is_some_and(|held| held.value == old);
                next[name] = if fits { Some(Held::new(new)) } else { state[name] };
                fits
            }
            Call::Unlink(name) => next[name].take().is_some(),
            Call::Delete(name) => {
                next[name] = None;
                true
            }
            // The kernel looks up both names first. When another node has renamed the one to the other in between, it
            // takes them for two names of one file and answers without asking: rename(2) leaves those alone.
            Call::Rename(from, to)
                if state[from].is_none()
                    && state[to].is_some_and(|held| held.had(from))
                    && answer == Some(&Answer::Done) =>
            {
                true
            }
            Call::Rename(from, to) => {
                let fits = state[from].is_some();
                if fits {
                    next[to] = next[from].take().map(|held| held.renamed_from(from));
                }
                fits
            }
        };
        match answer {
            Some(Answer::Done) => fits.then_some(next),
            Some(Answer::Refused) => (!fits).then_some(*state),
            Some(Answer::Found(_)) => None,
            None => Some(next),
        }
    }
}

/// How a caller reaches its node.
enum Door {
    Mount(PathBuf),
    S3(Client, String),
}

/// One of those who call at once.
struct Caller {
    door: Door,
    rng: Rng,
    /// Different for each caller.
    next_value: u64,
    /// The values last read, with their entity tags.
    tags: [Option<(u64, String)>; NAMES.len()],
    /// Those that failed without effect are left out.
    events: Vec<Event<Map>>,
}

/// How a call ended.
enum End {
    Answered(Answer),
    /// Nobody knows what became of it.
    Unknown,
    /// It failed, and cannot have had an effect.
    Nothing,
}

impl Caller {
    fn new(door: Door, number: u64, seed: u64) -> Self {
        let rng = Rng::new(seed ^ number);
        let next_value = number * 1_000_000 + 1;
        Self { door, rng, next_value, tags: Default::default(), events: Vec::new() }
    }

    fn work(mut self, calls: u64) -> Self {
        for _ in 0..calls {
            let call = self.choose();
            let Ok(prepared) = self.prepare(call) else { continue };
            let begun = now();
            let end = match &self.door {
                Door::Mount(_) => through_mount(call, &prepared),
                Door::S3(client, prefix) => through_s3(client, prefix, call, &mut self.tags),
            };
            let ended = now();
            let answer = match end {
                End::Answered(answer) => Some(answer),
                End::Unknown => None,
                End::Nothing => continue,
            };
            self.events.push(Event { call, answer, begun, ended });
        }
        self
    }

    fn choose(&mut self) -> Call {
        let is_mount = matches!(self.door, Door::Mount(_));
        if is_mount && self.rng.chance(20) {
            return *self.rng.pick(&[Call::Create(LOCK), Call::Unlink(LOCK), Call::Read(LOCK)]);
        }
        let name = self.rng.below(SHARED as u64) as usize;
        let other = (name + 1 + self.rng.below(SHARED as u64 - 1) as usize) % SHARED;
        let value = self.next_value;
        self.next_value += 1;
        match self.rng.below(10) {
            0..4 => Call::Read(name),
            4 | 5 => Call::Put(name, value),
            6 => Call::PutNew(name, value),
            7 | 8 if is_mount => Call::Rename(name, other),
            7 | 8 => match &self.tags[name] {
                Some((old, _)) => Call::Swap(name, *old, value),
                None => Call::Read(name),
            },
            _ if is_mount => Call::Unlink(name),
            _ => Call::Delete(name),
        }
    }

    /// A mount's writers make a file of their own first, whose renaming is the call.
    fn prepare(&self, call: Call) -> Result<[PathBuf; 2]> {
        let Door::Mount(root) = &self.door else { return Ok(Default::default()) };
        let of = |name: usize| root.join(NAMES[name]);
        match call {
            Call::Put(name, value) | Call::PutNew(name, value) => {
                let new = root.join(format!("new-{value}"));
                let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY;
                let file = sys::open(&new, flags, 0o644)?;
                let written = sys::write(file, &content(value));
                sys::close(file).and(written)?;
                Ok([new, of(name)])
            }
            Call::Rename(from, to) => Ok([of(from), of(to)]),
            Call::Create(name)
            | Call::Read(name)
            | Call::Unlink(name)
            | Call::Delete(name)
            | Call::Swap(name, ..) => Ok([of(name), PathBuf::new()]),
        }
    }
}

fn through_mount(call: Call, [path, to]: &[PathBuf; 2]) -> End {
    let refusals = [libc::ENOENT, libc::EEXIST];
    let is_refused = |error: &Error| error.raw_os_error().is_some_and(|it| refusals.contains(&it));
    let done = match call {
        Call::Read(_) => {
            return match fs::read(path) {
                Ok(bytes) => End::Answered(Answer::Found(Some(value_of(&bytes)))),
                Err(error) if is_refused(&error) => End::Answered(Answer::Found(None)),
                Err(_) => End::Nothing,
            };
        }
        Call::Create(_) => {
            let created = sys::open(path, libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY, 0o644);
            // There is nothing to save.
            created.map(|file| drop(sys::close(file)))
        }
        Call::PutNew(..) => sys::rename(path, to, libc::RENAME_NOREPLACE),
        Call::Put(..) | Call::Rename(..) => sys::rename(path, to, 0),
        Call::Unlink(_) | Call::Delete(_) | Call::Swap(..) => sys::unlink(path),
    };
    match done {
        Ok(()) => End::Answered(Answer::Done),
        Err(error) if is_refused(&error) => End::Answered(Answer::Refused),
        Err(_) => End::Unknown,
    }
}

fn through_s3(
    client: &Client,
    prefix: &str,
    call: Call,
    tags: &mut [Option<(u64, String)>],
) -> End {
    let send = |method, name: usize, headers: &[(&str, &str)], body: &[u8]| {
        let path = format!("{prefix}/{}", NAMES[name]);
        client.try_send(method, &path, &[], headers, body)
    };
    let answer = match call {
        Call::Read(name) => {
            let Ok(answer) = send("GET", name, &[], b"") else { return End::Nothing };
            return match answer.status {
                200 => {
                    let value = value_of(&answer.body);
                    tags[name] = answer.header("etag").map(|tag| (value, tag.to_owned()));
                    End::Answered(Answer::Found(Some(value)))
                }
                404 => End::Answered(Answer::Found(None)),
                _ => End::Nothing,
            };
        }
        Call::PutNew(name, value) => send("PUT", name, &[("if-none-match", "*")], &content(value)),
        Call::Swap(name, _, new) => {
            let tag = tags[name].take().map(|(_, tag)| tag).unwrap_or_default();
            send("PUT", name, &[("if-match", &tag)], &content(new))
        }
        Call::Put(name, value) => send("PUT", name, &[], &content(value)),
        Call::Create(name) | Call::Unlink(name) | Call::Delete(name) | Call::Rename(name, _) => {
            send("DELETE", name, &[], b"")
        }
    };
    match answer.map(|answer| answer.status) {
        Ok(200 | 204) => End::Answered(Answer::Done),
        Ok(404 | 412) => End::Answered(Answer::Refused),
        _ => End::Unknown,
    }
}

/// Some are a few bytes, some too long to be kept beside the metadata.
fn content(value: u64) -> Vec<u8> {
    let times = if value.is_multiple_of(3) { 5000 } else { 1 };
    format!("{value:0VALUE$}").into_bytes().repeat(times)
}

/// The value of a content, which has to be whole.
fn value_of(bytes: &[u8]) -> u64 {
    if bytes.is_empty() {
        return NOTHING;
    }
    let text = bytes.get(..VALUE).and_then(|text| std::str::from_utf8(text).ok());
    let value = text.and_then(|text| text.parse().ok());
    let value = value.unwrap_or_else(|| panic!("{} bytes are no value", bytes.len()));
    assert!(bytes == content(value), "{} bytes are not all of {value}", bytes.len());
    value
}

/// > With `-o ttl=0`, contents and names are linearizable across mounts, S3 endpoints and nodes;
/// > only that a rename(2) whose source another node renames to the same target meanwhile answers
/// > success instead of ENOENT, because the kernel takes both for one file;
/// > and that a file just created is there for S3 from its first commit on
///
/// Two callers on each node, in a new directory, and a fault in every other round.
#[test]
fn names_and_contents_are_linearizable_across_nodes_and_doors() {
    own_namespace();
    let seed = seed(1);
    let cluster = Cluster::start_linked("linear", NODES, &["-o", "ttl=0"]);
    fs::create_dir(cluster.path(0, "linear")).unwrap();
    for round in 0..number("BUCKETFS_HISTORIES", 2) {
        let name = format!("linear/{round}");
        fs::create_dir(cluster.path(0, &name)).unwrap();
        let callers = (0..NODES).flat_map(|place| {
            let mount = Door::Mount(cluster.path(place, &name));
            let s3 = Door::S3(cluster.s3(place), format!("/{name}"));
            [mount, s3]
        });
        let caller = |(door, number)| Caller::new(door, number, seed ^ round << 32);
        let callers: Vec<Caller> = callers.zip(1..).map(caller).collect();
        let cut = (round % 2 == 1).then_some((round / 2) as usize % NODES);
        let events = at_once(callers, || {
            if let Some(victim) = cut {
                cut_off(&cluster, victim);
            }
        });
        (0..NODES).for_each(|place| cluster.wait_for_health(place));
        let answered = events.iter().filter(|event| event.answer.is_some()).count() as u64;
        let unknown = events.len() as u64 - answered;
        let failed = CALLERS * CALLS - events.len() as u64;
        println!(
            "history {round}, {cut:?} cut off: {answered} answered, {unknown} unknown, {failed} failed"
        );
        // A history of calls that nobody answered shows nothing. Those of a node that is cut off may fail.
        let least = if cut.is_some() { CALLERS * CALLS / 2 } else { CALLERS * CALLS * 19 / 20 };
        assert!(answered >= least, "{answered} of {} calls were answered", CALLERS * CALLS);
        if let Err(why) = explain([None; NAMES.len()], &events) {
            panic!("round {round}, cut off {cut:?}: no single map answers so: {why}");
        }
    }
}

/// All calls of all callers, while `meanwhile` happens.
fn at_once(callers: Vec<Caller>, meanwhile: impl FnOnce()) -> Vec<Event<Map>> {
    std::thread::scope(|threads| {
        let working = callers.into_iter().map(|caller| threads.spawn(|| caller.work(CALLS)));
        let working: Vec<_> = working.collect();
        meanwhile();
        working.into_iter().flat_map(|caller| caller.join().expect("a caller").events).collect()
    })
}

/// A mount and an endpoint of each node.
const CALLERS: u64 = 2 * NODES as u64;
/// Calls of each caller in a round.
const CALLS: u64 = 40;

/// Cuts a node off, in the middle of a round, for longer than the others need to go on.
fn cut_off(cluster: &Cluster, victim: usize) {
    pause(Duration::from_millis(300));
    cluster.cut_off(victim);
    pause(Duration::from_secs(8));
    cluster.links().heal();
}

/// A history of one name: when each call began and ended, and how it was answered.
fn history(calls: &[(u64, u64, Call, Option<Answer>)]) -> Vec<Event<Map>> {
    let start = now();
    let at = |time: u64| start + Duration::from_millis(time);
    let event = |(begun, ended, call, answer): &(u64, u64, Call, Option<Answer>)| Event {
        call: *call,
        answer: *answer,
        begun: at(*begun),
        ended: at(*ended),
    };
    calls.iter().map(event).collect()
}

#[test]
fn the_checker_tells_good_histories_from_bad_ones() {
    use Answer::{Done, Found, Refused};
    let explained = |calls: &[_]| explain([None; NAMES.len()], &history(calls)).is_ok();
    let put = (0, 1, Call::Put(0, 7), Some(Done));
    assert!(explained(&[put, (2, 3, Call::Read(0), Some(Found(Some(7))))]));
    assert!(!explained(&[put, (2, 3, Call::Read(0), Some(Found(None)))]), "a stale read");
    let slow = (0, 9, Call::Put(0, 7), Some(Done));
    let (none, seven) = (Some(Found(None)), Some(Found(Some(7))));
    assert!(explained(&[slow, (1, 2, Call::Read(0), none), (3, 4, Call::Read(0), seven)]));
    assert!(!explained(&[slow, (1, 2, Call::Read(0), seven), (3, 4, Call::Read(0), none)]));
    let new = |begun, value, answer| (begun, 5, Call::PutNew(0, value), Some(answer));
    assert!(explained(&[new(0, 1, Done), new(0, 2, Refused)]));
    assert!(!explained(&[new(0, 1, Done), new(0, 2, Done)]), "both were first");
    assert!(!explained(&[new(0, 1, Refused)]), "nothing was there");
    let create = |begun, answer| (begun, 5, Call::Create(0), Some(answer));
    let empty = (6, 7, Call::Read(0), Some(Found(Some(NOTHING))));
    assert!(explained(&[create(0, Done), create(0, Refused), empty]));
    assert!(!explained(&[create(0, Done), create(0, Done)]), "both have created it");
    assert!(!explained(&[put, create(2, Refused), empty]), "it is not empty");
    let lost = (0, 1, Call::Put(0, 7), None);
    for seen in [none, seven] {
        assert!(explained(&[lost, (2, 3, Call::Read(0), seen)]), "unknown is either");
    }
    let renamed = (2, 3, Call::Rename(0, 1), Some(Done));
    assert!(explained(&[put, renamed, (4, 5, Call::Read(1), seven), (6, 7, Call::Read(0), none)]));
    assert!(!explained(&[put, renamed, (4, 5, Call::Read(0), seven)]));
    let again = |from, to| (4, 5, Call::Rename(from, to), Some(Done));
    assert!(explained(&[put, renamed, again(0, 1)]), "the kernel's own answer");
    assert!(!explained(&[put, renamed, again(0, 2)]), "nothing was there, and it did not go there");
    assert!(!explained(&[put, again(2, 0)]), "it was never there");
    let swap = (2, 3, Call::Swap(0, 6, 9), Some(Done));
    assert!(!explained(&[put, swap]), "another value was there");
}
