//! The kinds of work that run while the program is killed. Each is called again and again.

use super::world::{BLOCK, Holds, exactly};
use super::writer::Writer;
use crate::support::rng::pattern;
use crate::support::sys;
use std::io::Result;
use std::path::{Path, PathBuf};

/// A kind of work.
pub type Load = fn(&mut Writer) -> Result<()>;

/// All kinds, with the name of their directory.
pub const LOADS: [(&str, Load); 8] = [
    ("small", small),
    ("large", large),
    ("append", append),
    ("replace", replace),
    ("rewrite", rewrite),
    ("blocks", blocks),
    ("names", names),
    ("unlinked", unlinked),
];

/// New small files, closed and nothing else; old ones removed.
fn small(writer: &mut Writer) -> Result<()> {
    let name = writer.some_name("s", 40);
    if writer.now.contains_key(&name) {
        writer.remove(&name)?;
    }
    let len =
        if writer.rng.chance(80) { writer.rng.below(16_385) } else { writer.rng.below(100_000) };
    let seed = writer.rng.next();
    let fd = writer.create(&name, libc::O_EXCL)?;
    writer.fill(fd, &name, seed, len as usize)
}

/// A new file of several chunks, synced now and then on the way.
fn large(writer: &mut Writer) -> Result<()> {
    let name = writer.some_name("l", 3);
    if writer.now.contains_key(&name) {
        writer.remove(&name)?;
    }
    let seed = writer.rng.next();
    let bytes = pattern(seed, writer.rng.below(14 << 20) as usize);
    let fd = writer.create(&name, libc::O_EXCL)?;
    let (mut safe, mut written) = (0, 0);
    for piece in bytes.chunks(300_000) {
        written += piece.len();
        writer.write(fd, &name, piece, vec![Holds::Stream { seed, min: safe, max: written }])?;
        if writer.rng.chance(10) {
            writer.settle(&name, exactly(seed, written), || sys::fsync(fd))?;
            safe = written;
        }
    }
    writer.settle(&name, exactly(seed, written), || sys::close(fd))
}

/// A log: records appended, each synced before the next.
fn append(writer: &mut Writer) -> Result<()> {
    let name = writer.some_name("a", 2);
    let (seed, mut len) = match writer.now.get(&name).map(|may| &may[0]) {
        Some(Holds::Stream { max, .. }) if *max > 20 << 20 => {
            writer.remove(&name)?;
            (writer.rng.next(), 0)
        }
        Some(Holds::Stream { seed, max, .. }) if *max > 0 => (*seed, *max),
        _ => (writer.rng.next(), 0),
    };
    let fd = writer.create(&name, libc::O_APPEND)?;
    for _ in 0..20 {
        let size =
            if writer.rng.chance(90) { writer.rng.below(5000) } else { writer.rng.below(300_000) };
        let end = len + 1 + size as usize;
        let record = pattern(seed, end).split_off(len);
        writer.write(fd, &name, &record, vec![Holds::Stream { seed, min: len, max: end }])?;
        let data_only = writer.rng.chance(50);
        let sync = || if data_only { sys::fdatasync(fd) } else { sys::fsync(fd) };
        writer.settle(&name, exactly(seed, end), sync)?;
        len = end;
    }
    sys::close(fd)
}

/// What editors and databases do: a new file is renamed over the old one. Never half, never none.
fn replace(writer: &mut Writer) -> Result<()> {
    let (name, fresh) = (writer.some_name("r", 4), PathBuf::from("fresh"));
    if writer.now.contains_key(&fresh) {
        writer.remove(&fresh)?;
    }
    let (seed, len) = (writer.rng.next(), writer.rng.below(400_000) as usize);
    let fd = writer.create(&fresh, libc::O_EXCL)?;
    writer.fill(fd, &fresh, seed, len)?;
    writer.rename(&fresh, &name)
}

/// A file emptied by O_TRUNC and written anew: the old content stays until the close.
fn rewrite(writer: &mut Writer) -> Result<()> {
    let name = writer.some_name("t", 4);
    let most = if writer.rng.chance(70) { 20_000 } else { 6 << 20 };
    let (seed, len) = (writer.rng.next(), writer.rng.below(most) as usize);
    let fd = writer.create(&name, libc::O_TRUNC)?;
    writer.fill(fd, &name, seed, len)
}

/// Blocks of one file overwritten in place, some of them between two syncs.
fn blocks(writer: &mut Writer) -> Result<()> {
    const COUNT: usize = 150;
    let name = PathBuf::from("blocks");
    let mut blocks = match writer.now.get(&name).map(|may| &may[0]) {
        Some(Holds::Blocks(blocks)) => blocks.clone(),
        _ => return first_blocks(writer, &name, COUNT),
    };
    let fd = writer.call(|_| {}, |root| sys::open(&root.join(&name), libc::O_WRONLY, 0))?;
    for _ in 0..writer.rng.below(6) {
        let (at, seed) = (writer.rng.below(COUNT as u64) as usize, writer.rng.next());
        blocks[at].push(seed);
        let may = vec![Holds::Blocks(blocks.clone())];
        let write =
            |_: &Path| sys::pwrite(fd, (at * BLOCK) as u64, &pattern(seed, BLOCK)).map(drop);
        writer.call(|world| drop(world.insert(name.clone(), may)), write)?;
    }
    let last = blocks.iter().map(|seeds| seeds[seeds.len() - 1..].to_vec()).collect();
    let synced = writer.rng.chance(50);
    let act = || if synced { sys::fsync(fd).and_then(|()| sys::close(fd)) } else { sys::close(fd) };
    writer.settle(&name, Holds::Blocks(last), act)
}

fn first_blocks(writer: &mut Writer, name: &Path, count: usize) -> Result<()> {
    if writer.now.contains_key(name) {
        writer.remove(name)?;
    }
    let seeds: Vec<_> = (0..count).map(|_| writer.rng.next()).collect();
    let bytes: Vec<_> = seeds.iter().flat_map(|seed| pattern(*seed, BLOCK)).collect();
    let fd = writer.create(name, libc::O_EXCL)?;
    let empty = vec![exactly(0, 0)];
    writer.write(fd, name, &bytes, empty)?;
    let holds = Holds::Blocks(seeds.into_iter().map(|seed| vec![seed]).collect());
    writer.settle(name, holds, || sys::close(fd))
}

/// Directories made, filled, renamed with what is in them, emptied and removed.
fn names(writer: &mut Writer) -> Result<()> {
    let (dir, moved) = (writer.some_name("d", 3), writer.some_name("m", 3));
    if !writer.now.contains_key(&dir) {
        let make = |root: &Path| sys::mkdir(&root.join(&dir), 0o755);
        writer.call(|world| drop(world.insert(dir.clone(), vec![Holds::Dir])), make)?;
    }
    let file = dir.join(writer.some_name("f", 5));
    if !writer.now.contains_key(&file) {
        let (seed, len) = (writer.rng.next(), writer.rng.below(3000) as usize);
        let fd = writer.create(&file, libc::O_EXCL)?;
        writer.fill(fd, &file, seed, len)?;
        let second = dir.join(writer.some_name("k", 5));
        if !writer.now.contains_key(&second) {
            let link = |root: &Path| sys::link(&root.join(&file), &root.join(&second));
            writer
                .call(|world| drop(world.insert(second.clone(), vec![exactly(seed, len)])), link)?;
        }
    }
    if writer.rng.chance(30) {
        let inner: Vec<_> =
            writer.now.keys().filter(|name| name.starts_with(&moved)).cloned().collect();
        inner.iter().rev().try_for_each(|name| writer.remove(name))?;
        writer.rename(&dir, &moved)?;
    }
    Ok(())
}

/// A file that has lost its name while it is still written: after a crash nothing of it is left.
fn unlinked(writer: &mut Writer) -> Result<()> {
    let name = writer.some_name("u", 2);
    let (seed, len) = (writer.rng.next(), writer.rng.below(3 << 20) as usize);
    let fd = writer.create(&name, libc::O_TRUNC)?;
    writer.remove(&name)?;
    for piece in pattern(seed, len).chunks(200_000) {
        writer.call(|_| {}, |_| sys::write(fd, piece).map(drop))?;
    }
    writer.call(|_| {}, |_| sys::fsync(fd))?;
    sys::close(fd)
}
