//! The S3 endpoint against nginx on the same files, its writes against the disk, and listings of very many keys.
//!
//! `make bench` runs it. `--quick` looks only; `--keys N` lists that many; `--output FILE` replaces the section `## S3`
//! of a report.

#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use md5::{Digest, Md5};
use support::rng::pattern;
use support::s3::Client;
use support::s3_world::{BUCKET, World, free_address};
use support::wait;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

#[derive(Parser)]
struct Args {
    /// Short: a look, not a measurement
    #[arg(long)]
    quick: bool,
    /// Keys in the listed prefix
    #[arg(long)]
    keys: Option<u64>,
    /// The report whose section is replaced; the terminal without
    #[arg(long)]
    output: Option<PathBuf>,
    /// Given by `cargo bench`; means nothing here
    #[arg(long, hide = true)]
    bench: bool,
}

/// A connection that stays open for many requests.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn new(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("connecting");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self { stream, buffer: vec![0; MIB as usize] }
    }

    /// Sends a request and reads its answer to the end; the bytes of its body.
    fn ask(&mut self, head: &[u8], body: &[u8]) -> u64 {
        self.stream.write_all(head).expect("sending a head");
        self.stream.write_all(body).expect("sending a body");
        let mut filled = 0;
        let end = loop {
            let read = self.stream.read(&mut self.buffer[filled..]).expect("reading");
            assert!(read > 0, "the endpoint has closed");
            filled += read;
            let there = &self.buffer[..filled];
            if let Some(end) = there.windows(4).position(|part| part == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = String::from_utf8_lossy(&self.buffer[..end]).to_lowercase();
        assert!(text.starts_with("http/1.1 200"), "{text}");
        let len = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let len: u64 = len.and_then(|len| len.trim().parse().ok()).expect("a content-length");
        let mut left = len - (filled - end) as u64;
        while left > 0 {
            let most = left.min(MIB) as usize;
            let read = self.stream.read(&mut self.buffer[..most]).expect("reading a body");
            assert!(read > 0, "the endpoint has closed");
            left -= read as u64;
        }
        len
    }
}

/// What many clients did in a while.
struct Load {
    seconds: f64,
    bytes: u64,
    /// Seconds of each request, sorted.
    times: Vec<f64>,
}

impl Load {
    /// `clients` threads do `work` again and again for `time`.
    fn run(
        clients: u64,
        time: Duration,
        address: &str,
        work: impl Fn(&mut Connection, u64) -> u64 + Sync,
    ) -> Self {
        let (start, turn) = (wait::now(), AtomicU64::new(0));
        let client = || {
            let (mut connection, mut times, mut bytes) = (Connection::new(address), Vec::new(), 0);
            while start.elapsed() < time || times.is_empty() {
                let begun: Instant = wait::now();
                bytes += work(&mut connection, turn.fetch_add(1, Ordering::Relaxed));
                times.push(begun.elapsed().as_secs_f64());
            }
            (times, bytes)
        };
        let done: Vec<(Vec<f64>, u64)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
            threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
        });
        let seconds = start.elapsed().as_secs_f64();
        let bytes = done.iter().map(|(_, bytes)| bytes).sum();
        let mut times: Vec<f64> = done.into_iter().flat_map(|(times, _)| times).collect();
        times.sort_by(f64::total_cmp);
        Self { seconds, bytes, times }
    }

    fn rate(&self) -> f64 {
        self.times.len() as f64 / self.seconds
    }

    fn mib_per_second(&self) -> f64 {
        self.bytes as f64 / MIB as f64 / self.seconds
    }

    fn median_ms(&self) -> f64 {
        self.times[self.times.len() / 2] * 1e3
    }
}

/// nginx with its defaults, on a directory.
struct Nginx {
    child: Child,
    address: String,
}

impl Nginx {
    fn start(dir: &Path, root: &Path) -> Self {
        let address = free_address();
        let conf = dir.join("nginx.conf");
        let text = format!(
            "daemon off; worker_processes auto; pid {0}/nginx.pid; error_log {0}/nginx.log;\n\
             events {{}}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n\
             client_body_temp_path {0}/t1; proxy_temp_path {0}/t2; fastcgi_temp_path {0}/t3;\n\
             uwsgi_temp_path {0}/t4; scgi_temp_path {0}/t5;\n\
             server {{ listen {address}; location /{BUCKET}/ {{ alias {1}/; }} }} }}\n",
            dir.display(),
            root.display()
        );
        fs::write(&conf, text).expect("nginx's configuration");
        // Its workers are another user.
        support::mounts::run(Command::new("chmod").args(["-R", "a+rX"]).arg(dir));
        let mut command = Command::new("nginx");
        let child = command.arg("-c").arg(&conf).stderr(Stdio::null()).spawn().expect("nginx");
        wait::until("nginx", Duration::from_secs(20), || TcpStream::connect(&address).ok());
        Self { child, address }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        drop(self.child.wait());
    }
}

/// Seconds of processor time that a process has used.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its stat");
    let (_, rest) = stat.rsplit_once(')').expect("a stat line");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().map(|at| fields[*at].parse::<f64>().unwrap_or(0.0)).sum();
    ticks / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
}

/// GETs of one size by so many clients at both endpoints, in turns.
fn gets(world: &World, nginx: &Nginx, time: Duration, out: &mut String) {
    let _ = writeln!(out, "| GET | clients | bucketfs | nginx | ratio | p50 | CPU an op |");
    let _ = writeln!(out, "|---|---|---|---|---|---|---|");
    for (name, size) in [("4 KiB", 4 * KIB), ("1 MiB", MIB), ("64 MiB", 64 * MIB)] {
        for clients in [1, 8, 32] {
            let s3 = &world.s3;
            let path = format!("/{BUCKET}/get-{size}");
            let get = |connection: &mut Connection, _: u64| {
                connection.ask(&s3.keep_alive_head("GET", &path, 0), b"")
            };
            let before = cpu_seconds(world.node.pid());
            let ours = Load::run(clients, time, &world.s3.address, get);
            let cpu = (cpu_seconds(world.node.pid()) - before) / ours.times.len() as f64;
            let theirs = Load::run(clients, time, &nginx.address, get);
            let _ = writeln!(
                out,
                "| {name} | {clients} | {:.0} MiB/s, {:.0}/s | {:.0} MiB/s, {:.0}/s | {:.2} | {:.2} ms | {:.0} µs |",
                ours.mib_per_second(),
                ours.rate(),
                theirs.mib_per_second(),
                theirs.rate(),
                ours.rate() / theirs.rate(),
                ours.median_ms(),
                cpu * 1e6
            );
            eprintln!("GET {name} by {clients} done");
        }
    }
}

/// Durable PUTs: large ones against the disk and md5, small ones by one client and by many.
fn puts(world: &World, time: Duration, out: &mut String) {
    let large = pattern(1, 64 * MIB as usize);
    let path = world.dir.path().join("direct");
    let s3 = &world.s3;
    let put = |len: u64, body: &[u8]| {
        Load::run(1, time, &world.s3.address, |connection, turn| {
            let head = s3.keep_alive_head("PUT", &format!("/{BUCKET}/put-{}", turn % 4), len);
            connection.ask(&head, body);
            len
        })
    };
    let ours = put(64 * MIB, &large);
    let (mut raw, mut rounds) = (0.0, 0.0);
    while raw < time.as_secs_f64() {
        raw += direct(&path, &large);
        rounds += 1.0;
    }
    let raw = 64.0 * rounds / raw;
    let _ = writeln!(
        out,
        "\nPUT of 64 MiB, durable: {:.0} MiB/s; O_DIRECT, fdatasync and md5 one after the other: {raw:.0} MiB/s; \
         ratio {:.2}.",
        ours.mib_per_second(),
        ours.mib_per_second() / raw
    );
    let small = |clients| {
        let body = pattern(2, 4096);
        Load::run(clients, time, &world.s3.address, |connection, turn| {
            let head = s3.keep_alive_head("PUT", &format!("/{BUCKET}/s/{turn}"), 4096);
            connection.ask(&head, &body);
            4096
        })
    };
    let (one, many) = (small(1), small(32));
    let _ = writeln!(
        out,
        "PUT of 4 KiB, durable: one client {:.0}/s, p50 {:.2} ms; 32 clients {:.0}/s, {:.1} times as many.",
        one.rate(),
        one.median_ms(),
        many.rate(),
        many.rate() / one.rate()
    );
}

/// Seconds to write bytes with O_DIRECT and fdatasync and to hash them.
fn direct(path: &Path, bytes: &[u8]) -> f64 {
    let start = wait::now();
    let file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .expect("a file for direct writes");
    let layout = std::alloc::Layout::from_size_align(4 * MIB as usize, 4096).expect("a layout");
    let buffer = unsafe {
        let start = std::alloc::alloc(layout);
        assert!(!start.is_null(), "memory for direct writes");
        std::slice::from_raw_parts_mut(start, layout.size())
    };
    for (at, piece) in bytes.chunks(buffer.len()).enumerate() {
        buffer[..piece.len()].copy_from_slice(piece);
        let offset = (at * buffer.len()) as u64;
        file.write_all_at(&buffer[..piece.len()], offset).expect("a direct write");
    }
    let synced = unsafe { libc::fdatasync(std::os::fd::AsRawFd::as_raw_fd(&file)) };
    assert_eq!(synced, 0, "fdatasync");
    unsafe { std::alloc::dealloc(buffer.as_mut_ptr(), layout) };
    std::hint::black_box(Md5::digest(bytes));
    start.elapsed().as_secs_f64()
}

/// Pages of 1,000 of very many keys under one prefix: the last ones cost what the first ones do.
fn lists(world: &World, keys: u64, out: &mut String) {
    let (next, s3) = (AtomicU64::new(0), &world.s3);
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let mut connection = Connection::new(&s3.address);
                loop {
                    let key = next.fetch_add(1, Ordering::Relaxed);
                    if key >= keys {
                        return;
                    }
                    let path = format!("/{BUCKET}/many/{key:08}");
                    connection.ask(&s3.keep_alive_head("PUT", &path, 0), b"");
                }
            });
        }
    });
    let last = keys.saturating_sub(1001);
    let (first, last) = (page(&world.s3, "many/"), page(&world.s3, &format!("many/{last:08}")));
    let _ = writeln!(
        out,
        "A page of 1,000 of {keys} keys under one prefix: the first {:.1} ms, the last {:.1} ms, {:.2} times as long.",
        first * 1e3,
        last * 1e3,
        last / first
    );
}

/// The median of some listings after a key, in seconds.
fn page(s3: &Client, after: &str) -> f64 {
    let mut times: Vec<f64> = (0..21)
        .map(|_| {
            let query = [("list-type", "2"), ("prefix", "many/"), ("start-after", after)];
            let start = wait::now();
            let listed = s3.send("GET", &format!("/{BUCKET}"), &query, &[], b"");
            let time = start.elapsed().as_secs_f64();
            assert_eq!(listed.status, 200);
            time
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let args = Args::parse();
    let time = Duration::from_millis(if args.quick { 700 } else { 4000 });
    let keys = args.keys.unwrap_or(if args.quick { 5000 } else { 1_000_000 });
    let world = World::new("s3bench");
    let files = world.scratch("files");
    for size in [4 * KIB, MIB, 64 * MIB] {
        let bytes = pattern(size, size as usize);
        fs::write(files.join(format!("get-{size}")), &bytes).expect("a file for nginx");
        assert_eq!(world.put(&format!("get-{size}"), &bytes).status, 200);
    }
    let mut out = String::from("## S3\n\n");
    let nginx = Nginx::start(world.dir.path(), &files);
    gets(&world, &nginx, time, &mut out);
    drop(nginx);
    puts(&world, time, &mut out);
    lists(&world, keys, &mut out);
    match &args.output {
        Some(path) => {
            let report = fs::read_to_string(path).unwrap_or_default();
            let kept = report.split("## S3\n").next().unwrap_or_default().trim_end();
            let glue = if kept.is_empty() { "" } else { "\n\n" };
            fs::write(path, format!("{kept}{glue}{out}")).expect("writing the report");
        }
        None => print!("{out}"),
    }
}
