//! What a few files should hold: what is seen, what is committed, and every state that a crash may
//! leave, in order.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bucketfs::error::Error;

use super::store::{self, Store};
use super::words::{Chance, FILES, Step};
use super::workload;

/// Name → length and hash of the bytes.
pub type State = BTreeMap<String, (usize, u64)>;

pub fn digest(bytes: &[u8]) -> (usize, u64) {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    (bytes.len(), hasher.finish())
}

#[derive(Clone, Debug, Default)]
pub struct File {
    pub seen: Vec<u8>,
    committed: (usize, u64),
    pub links: u32,
}

/// Files by number of their inode in the model; names point to them.
#[derive(Debug, Default)]
pub struct Model {
    pub files: BTreeMap<u64, File>,
    pub names: BTreeMap<u64, u64>,
    next: u64,
    /// Committed states in the order of the log.
    pub history: Vec<State>,
    /// Index into `history`: a crash leaves this one or a later one.
    pub durable: usize,
}

pub fn name(file: u64) -> String {
    format!("file-{file}")
}

impl Model {
    pub fn new() -> Self {
        let mut model = Self::default();
        model.record();
        model
    }

    pub fn create(&mut self, name: u64) -> u64 {
        self.next += 1;
        let file = File { seen: Vec::new(), committed: digest(&[]), links: 1 };
        self.files.insert(self.next, file);
        self.names.insert(name, self.next);
        self.record();
        self.next
    }

    pub fn write(&mut self, id: u64, offset: usize, data: &[u8]) {
        let seen = &mut self.files.get_mut(&id).unwrap().seen;
        seen.resize(seen.len().max(offset + data.len()), 0);
        seen[offset..offset + data.len()].copy_from_slice(data);
    }

    pub fn commit(&mut self, id: u64) {
        let file = self.files.get_mut(&id).unwrap();
        file.committed = digest(&file.seen);
        self.record();
    }

    pub fn unlink(&mut self, name: u64) {
        if let Some(id) = self.names.remove(&name) {
            self.files.get_mut(&id).unwrap().links -= 1;
        }
        self.record();
    }

    /// The log is on disk through everything so far.
    pub fn synced(&mut self) {
        self.durable = self.history.len() - 1;
    }

    /// The committed state of the moment joins the history.
    pub fn record(&mut self) {
        let state = |(&number, id): (&u64, &u64)| (name(number), self.files[id].committed);
        self.history.push(self.names.iter().map(state).collect());
    }
}

async fn compare(store: &Store, model: &Model, story: &[Step]) {
    for file in 0..FILES {
        let found = store.read_whole(&name(file)).await;
        match (model.names.get(&file), found) {
            (Some(id), Ok(bytes)) => {
                let seen = &model.files[id].seen;
                if *seen != bytes {
                    let at = seen.iter().zip(&bytes).position(|(left, right)| left != right);
                    panic!(
                        "{}: {} bytes wanted, {} found, first difference at {at:?}, after {:#?}",
                        name(file),
                        seen.len(),
                        bytes.len(),
                        &story[story.len().saturating_sub(30)..]
                    );
                }
            }
            (None, Err(Error::NotFound)) => {}
            (wanted, found) => panic!("{}: {wanted:?} wanted, {found:?}", name(file)),
        }
    }
}

/// Random steps: what is read is what the model holds, at every step, and the metadata agrees with
/// itself; after a kill in between, too.
#[test]
fn random_steps_equal_the_model() {
    let seeds = std::env::var("BUCKETFS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = seeds.map_or(0..20, |seed: u64| seed..seed + 1);
    for seed in seeds {
        println!("seed {seed}");
        store::runtime().block_on(async {
            let mut work = workload::Workload::start(Store::create().await);
            let mut chance = Chance::new(seed);
            let mut story = Vec::new();
            for number in 1..=600 {
                let step = chance.step();
                story.push(step.clone());
                work.run(step).await.unwrap_or_else(|error| panic!("{error}: {story:#?}"));
                if number % 10 == 0 {
                    compare(&work.store, &work.model, &story).await;
                }
                if number % 200 == 0 {
                    work = work.kill_and_reopen().await;
                    work.store.assert_consistent();
                    compare(&work.store, &work.model, &story).await;
                }
            }
        });
    }
}
