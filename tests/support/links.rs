//! The connections between the nodes of a cluster, through proxies of ours: cut or slowed in each direction on its own.
//!
//! What is cut is kept and comes through later, as TCP would send it again; nobody is told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::wait::{now, pause};

/// How long a connection may take to show whose it is.
const KNOWN_LIMIT: Duration = Duration::from_secs(2);

/// What becomes of what one node says to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    #[default]
    Open,
    /// Each piece comes so much later.
    Slow(Duration),
    Cut,
}

#[derive(Default)]
struct State {
    /// By who speaks and who hears; those that are not here are open.
    flows: Vec<((usize, usize), Flow)>,
    /// Process ids of the nodes that run.
    nodes: Vec<(usize, u32)>,
    over: bool,
}

/// All links of a cluster; when dropped, its proxies end.
#[derive(Default)]
pub struct Links {
    shared: Arc<Shared>,
    doors: Vec<String>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Links {
    /// Takes connections for the node `place` at `door` and passes them on to where it `listens`.
    pub fn lead(&mut self, place: usize, door: &str, listens: &str) {
        let listener = TcpListener::bind(door).expect("the door of a node");
        let (shared, listens) = (Arc::clone(&self.shared), listens.to_owned());
        self.doors.push(door.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.state.lock().unwrap().over {
                    return;
                }
                let (shared, listens) = (Arc::clone(&shared), listens.clone());
                std::thread::spawn(move || shared.connect(place, stream, &listens));
            }
        });
    }

    /// The node `place` is the process `pid` from now on.
    pub fn runs(&self, place: usize, pid: u32) {
        let mut state = self.shared.state.lock().unwrap();
        state.nodes.retain(|(known, _)| *known != place);
        state.nodes.push((place, pid));
    }

    /// Lets what `from` says to `to` go this way from now on.
    pub fn set(&self, from: usize, to: usize, flow: Flow) {
        let mut state = self.shared.state.lock().unwrap();
        state.flows.retain(|(link, _)| *link != (from, to));
        state.flows.push(((from, to), flow));
        self.shared.changed.notify_all();
    }

    /// Opens all.
    pub fn heal(&self) {
        self.shared.state.lock().unwrap().flows.clear();
        self.shared.changed.notify_all();
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().over = true;
        self.shared.changed.notify_all();
        // Each door wakes up once more.
        self.doors.iter().for_each(|door| drop(TcpStream::connect(door)));
    }
}

impl Shared {
    /// One connection, from its beginning to its end.
    fn connect(self: &Arc<Self>, place: usize, stream: TcpStream, listens: &str) {
        let Some(from) = self.whose(&stream) else { return };
        self.pass(from, place);
        // A node that does not run refuses, and so does its door.
        let Ok(node) = TcpStream::connect(listens) else { return };
        for stream in [&stream, &node] {
            stream.set_nodelay(true).expect("TCP_NODELAY");
        }
        let (back, stream_back) = (node.try_clone(), stream.try_clone());
        let (back, stream_back) = (back.expect("a socket"), stream_back.expect("a socket"));
        let this = Arc::clone(self);
        std::thread::spawn(move || this.pump((place, from), back, stream_back));
        self.pump((from, place), stream, node);
    }

    /// Hands on all that comes, until one of both ends has gone.
    fn pump(&self, (from, to): (usize, usize), mut source: TcpStream, mut target: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = source.read(&mut buffer).unwrap_or(0);
            self.pass(from, to);
            if read == 0 || target.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        // Either may be gone already.
        let _ = target.shutdown(Shutdown::Write);
        let _ = source.shutdown(Shutdown::Read);
    }

    /// Returns when something may go from one to the other.
    fn pass(&self, from: usize, to: usize) {
        let mut state = self.state.lock().unwrap();
        loop {
            let found = state.flows.iter().find(|(link, _)| *link == (from, to));
            match found.map_or(Flow::Open, |(_, flow)| *flow) {
                _ if state.over => return,
                Flow::Open => return,
                Flow::Cut => state = self.changed.wait(state).unwrap(),
                Flow::Slow(time) => {
                    drop(state);
                    return pause(time);
                }
            }
        }
    }

    /// The node that has made a connection: its process has the socket of the other end.
    fn whose(&self, stream: &TcpStream) -> Option<usize> {
        let end = now() + KNOWN_LIMIT;
        while now() < end {
            let nodes = self.state.lock().unwrap().nodes.clone();
            let found = socket_of_peer(stream)
                .and_then(|socket| nodes.into_iter().find(|(_, pid)| has_open(*pid, &socket)));
            if let Some((place, _)) = found {
                return Some(place);
            }
            pause(Duration::from_millis(10));
        }
        None
    }
}

/// `socket:[INODE]` of the other end of a connection on this machine; proc(5), /proc/net/tcp.
fn socket_of_peer(stream: &TcpStream) -> Option<String> {
    let name = |address| match address {
        Ok(SocketAddr::V4(at)) => {
            Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(at.ip().octets()), at.port()))
        }
        _ => None,
    };
    let (theirs, ours) = (name(stream.peer_addr())?, name(stream.local_addr())?);
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut lines = lines.filter(|fields| fields.len() > 9);
    let line = lines.find(|fields| (fields[1], fields[2]) == (&theirs, &ours))?;
    Some(format!("socket:[{}]", line[9]))
}

fn has_open(pid: u32, socket: &str) -> bool {
    let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut files = open.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    files.any(|file| file == Path::new(socket))
}
