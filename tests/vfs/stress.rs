//! Random writers and readers on all nodes while disks, ways and the table of nodes change under
//! them: what was acknowledged is read back everywhere, whatever happened; in the end every copy
//! that is wanted is there.

use std::collections::BTreeMap;

use bucketfs::env::Seeded;
use bucketfs::error::Error;
use bucketfs::meta::NodeState;

use super::cluster::{CHUNK, Cluster};
use super::store::runtime;

const NODES: usize = 5;
const FILES: u64 = 6;
const STEPS: usize = 60;

/// What a file holds: what was acknowledged last. A write that failed changes nothing.
#[derive(Default)]
struct Expected {
    acknowledged: Option<Vec<u8>>,
}

struct Run {
    cluster: Cluster,
    chance: Seeded,
    files: BTreeMap<String, Expected>,
    down: Vec<usize>,
    writes: u64,
    failed: u64,
}

#[test]
fn random_faults_lose_nothing() {
    for seed in 0..6 {
        println!("seed {seed}");
        runtime().block_on(async { Run::new(seed).await.run().await });
    }
}

impl Run {
    async fn new(seed: u64) -> Self {
        Self {
            cluster: Cluster::new(NODES).await,
            chance: Seeded::new(seed),
            files: BTreeMap::new(),
            down: Vec::new(),
            writes: 0,
            failed: 0,
        }
    }

    async fn run(mut self) {
        for _ in 0..STEPS {
            match self.chance.below(100) {
                0..45 => self.write().await,
                45..70 => self.read().await,
                70..80 => self.faults(),
                80..84 => self.lose_a_copy().await,
                84..90 => self.change_nodes().await,
                _ => self.repair().await,
            }
        }
        self.heal().await;
        assert!(self.writes > self.failed, "{} of {} writes failed", self.failed, self.writes);
        for number in 0..NODES {
            for name in self.files.keys().cloned().collect::<Vec<_>>() {
                let read = self.cluster.read(number, &name).await;
                self.compare(number, &name, read);
            }
        }
    }

    fn node(&mut self) -> usize {
        self.chance.below(NODES as u64) as usize
    }

    /// From a node that can be reached: the others' writers are the next test.
    async fn write(&mut self) {
        let (number, seed) = (self.node(), self.chance.draw());
        let name = format!("f{}", self.chance.below(FILES));
        let len = self.chance.below(3 * CHUNK) as usize + 20_000;
        let data: Vec<u8> = (0..len).map(|at| (at as u64 * 31 + seed) as u8).collect();
        self.writes += 1;
        let written = self.cluster.write(number, &name, &data).await;
        let expected = self.files.entry(name).or_default();
        match written {
            Ok(()) => expected.acknowledged = Some(data),
            Err(Error::NoQuorum(_) | Error::NoSpace) => self.failed += 1,
            Err(error) => panic!("a write failed with {error}"),
        }
    }

    async fn read(&mut self) {
        let number = self.node();
        let names: Vec<String> = self.files.keys().cloned().collect();
        let Some(name) = names.get(self.chance.below(names.len() as u64) as usize) else { return };
        match self.cluster.read(number, name).await {
            // Those who have it are away just now.
            Err(Error::Unreachable(_)) if !self.down.is_empty() => {}
            read => self.compare(number, name, read),
        }
    }

    fn compare(&self, number: usize, name: &str, read: Result<Vec<u8>, Error>) {
        let expected = &self.files[name];
        let read = match read {
            // Not even the name was made.
            Err(Error::NotFound) if expected.acknowledged.is_none() => return,
            read => read.unwrap_or_else(|error| panic!("node {number}, {name}: {error}")),
        };
        let is_right = match &expected.acknowledged {
            Some(bytes) => *bytes == read,
            // Created, and never committed with bytes.
            None => read.is_empty(),
        };
        assert!(is_right, "node {number} reads {} wrong bytes of {name}", read.len());
    }

    /// One node of the five at most is in trouble, and another may be slow to come back.
    fn faults(&mut self) {
        let (number, id) = {
            let number = self.node();
            (number, self.cluster.nodes[number].id)
        };
        for number in std::mem::take(&mut self.down) {
            let id = self.cluster.nodes[number].id;
            self.cluster.set_down(number, false);
            self.cluster.peers.set_lying(id, false);
            self.cluster.nodes[number].disk.set_capacity(1 << 40);
        }
        match self.chance.below(5) {
            0 => return,
            1 => self.cluster.peers.set_lying(id, true),
            2 => self.cluster.nodes[number].disk.set_capacity(0),
            3 => self.cluster.peers.down_after(id, self.chance.below(6)),
            _ => self.cluster.set_down(number, true),
        }
        self.down.push(number);
    }

    /// A file of a chunk that others have too vanishes.
    async fn lose_a_copy(&mut self) {
        let number = self.node();
        let node = &self.cluster.nodes[number];
        let chunks = self.cluster.chunks();
        let ours: Vec<_> = chunks
            .iter()
            .filter(|(_, record)| record.stored_on.contains(&node.id) && record.stored_on.len() > 2)
            .filter(|(id, _)| self.cluster.holders(**id).len() > 2)
            .map(|(id, _)| *id)
            .collect();
        if let Some(id) = ours.get(self.chance.below(ours.len() as u64) as usize) {
            node.chunks.delete(*id).unwrap();
            node.copies.suspect(*id);
        }
    }

    /// One drains or comes back; three stay in any case.
    async fn change_nodes(&mut self) {
        let number = 3 + self.chance.below(2) as usize;
        let states = [NodeState::Active, NodeState::Draining];
        let state = states[self.chance.below(2) as usize];
        self.cluster.set_node(number, state).await;
    }

    async fn repair(&mut self) {
        for node in &self.cluster.nodes {
            node.vfs.upkeep_round().await.unwrap();
            let _ = node.repair.round().await;
        }
    }

    async fn heal(&mut self) {
        for number in 0..NODES {
            self.cluster.set_down(number, false);
            self.cluster.peers.set_lying(self.cluster.nodes[number].id, false);
            self.cluster.nodes[number].disk.set_capacity(1 << 40);
        }
        self.cluster.settle().await;
        self.cluster.assert_whole();
    }
}
