//! The head of the report: what was measured where.

use crate::Sizes;

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn field(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or("");
    line.split(':').nth(1).unwrap_or("unknown").trim().to_owned()
}

/// The file system and device below the images.
fn disk() -> String {
    let base = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let table = read("/proc/self/mounts");
    let mounts = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let holding = mounts.filter(|fields| base.starts_with(fields[1]));
    let deepest = holding.max_by_key(|fields| fields[1].len());
    deepest.map_or(String::from("unknown"), |fields| format!("{} on {}", fields[2], fields[0]))
}

/// The text above the table.
pub fn describe(sizes: &Sizes) -> String {
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "# Performance

Measured by `make bench`: the same work on a plain directory and on a bucket mount, in turns, each on a fresh journalled
ext4 loop image; medians of {rounds} rounds. A close on the bucket mount is on disk when it returns; where that is
compared with a directory whose close promises nothing, the row says so. Smaller is better everywhere.

| machine | |
|---|---|
| processor | {cores} × {cpu} |
| memory | {memory} |
| kernel | {kernel} |
| below the images | {disk} |
| BucketFS | {version}, default settings (sled) |
| sizes | file {file} MiB, {random} random operations, {files} small files, tree of {tree} files, {many} files in one directory |

",
        rounds = sizes.rounds,
        cpu = field(&cpu, "model name"),
        memory = field(&memory, "MemTotal"),
        kernel = read("/proc/sys/kernel/osrelease").trim(),
        disk = disk(),
        version = env!("CARGO_PKG_VERSION"),
        file = sizes.file_mib,
        random = sizes.random,
        files = sizes.files,
        tree = sizes.tree_files,
        many = sizes.many,
    )
}
