//! Random requests against the model: after each the table agrees with itself, a repetition changes
//! nothing, and names and bytes are the model's; the whole history gives the same table again.

use super::model::Model;
use super::moves::Random;
use super::{Bench, Memory, Speaker};
use crate::meta::keys;
use crate::meta::mutation::{Mutation, Outcome, Refusal};
use crate::types::{FileKind, FileName, Ino, SessionId};

const STEPS: usize = 350;

/// A store, its model, and who draws what happens next.
pub struct Driver {
    pub bench: Bench,
    pub model: Model,
    pub random: Random,
    pub nonce: u64,
    pub other: Option<Speaker>,
    commits: (u32, u32),
}

#[test]
fn random_requests_do_what_the_model_does() {
    for seed in 0..8 {
        println!("seed {seed}");
        Driver::new(seed).run();
    }
}

impl Driver {
    fn new(seed: u64) -> Self {
        let (bench, bucket) = Bench::new();
        let (model, random) = (Model::new(bucket), Random(seed));
        Self { bench, model, random, nonce: 1, other: None, commits: (0, 0) }
    }

    fn run(mut self) {
        for step in 0..STEPS {
            let mutation = self.mutation();
            self.propose(mutation);
            if self.random.percent(20) {
                self.settle();
            }
            if self.random.percent(5) {
                self.late();
            }
            if step % 25 == 0 {
                self.model.compare(&self.bench);
            }
        }
        self.model.compare(&self.bench);
        let (done, refused) = self.commits;
        assert!(done > 3 * refused, "{done} commits done, {refused} refused");
        let mut again = Memory::default();
        for (request, outcome) in &self.bench.history {
            assert_eq!(&again.apply(request).outcome, outcome);
        }
        assert!(again == self.bench.table, "the same requests gave another table");
        self.clear_away();
    }

    fn propose(&mut self, mutation: Mutation) -> Outcome {
        let outcome = self.bench.propose(mutation.clone());
        let after = self.bench.table.clone();
        let (request, _) = self.bench.history.last().unwrap().clone();
        assert_eq!(self.bench.apply(&request), outcome, "{request:?}");
        assert!(self.bench.table == after, "a repetition changed something: {request:?}");
        self.model.who = request.id.session;
        self.model.follow(&mutation, &outcome);
        self.bench.check();
        if let Mutation::Commit(commit) = &mutation {
            self.model.compare_bytes(&self.bench, commit.ino);
            let refused = matches!(outcome, Outcome::Refused(_));
            self.commits.0 += u32::from(!refused);
            self.commits.1 += u32::from(refused);
        }
        outcome
    }

    /// Everything so far is answered.
    fn settle(&mut self) {
        let who = &mut self.bench.who;
        who.settled = who.sequence.saturating_sub(self.random.below(3));
        who.chunk_mark = who.counter;
    }

    /// An old request arrives once more: it is answered from memory, or fenced.
    fn late(&mut self) {
        let at = self.random.below(self.bench.history.len() as u64) as usize;
        let (request, outcome) = self.bench.history[at].clone();
        // An opening may come again after the session's end, and opens another one.
        if request.id.session == SessionId(0) {
            return;
        }
        let before = self.bench.table.clone();
        let again = self.bench.apply(&request);
        let fenced = Outcome::Refused(Refusal::Fenced);
        assert!(again == outcome || again == fenced, "{request:?}: {again:?}");
        assert!(self.bench.table == before, "a late request changed something: {request:?}");
    }

    /// When everything is removed, nothing is left: no slot, no chunk, no byte.
    fn clear_away(mut self) {
        if let Some(other) = self.other.take() {
            self.propose(Mutation::EndSession { session: other.session });
        }
        let at = self.bench.now();
        let own: Vec<_> = self.model.staged.keys().copied().collect();
        for content in own {
            self.propose(Mutation::Unstage { content });
        }
        while let Some((parent, name, directory)) = self.leaf() {
            let held = false;
            self.propose(match directory {
                true => Mutation::Rmdir { parent, name, held, at },
                false => Mutation::Unlink { parent, name, held, at },
            });
        }
        for ino in self.model.nodes.keys().copied().collect::<Vec<_>>() {
            self.propose(Mutation::ReleaseOrphans { inos: vec![ino] });
        }
        for key in self.bench.table.keys(keys::DOOMED) {
            let content = keys::slot_content(&key).unwrap();
            self.propose(Mutation::FreeContent { content });
        }
        self.settle();
        let ids: Vec<_> = self.model.chunks.keys().copied().collect();
        for ids in ids.chunks(2000) {
            self.propose(Mutation::Reap { ids: ids.to_vec() });
        }
        assert!(self.model.chunks.is_empty());
        for prefix in
            [keys::CHUNK, keys::SLOT, keys::GARBAGE, keys::DOOMED, keys::ORPHAN, keys::HOLD]
        {
            assert!(self.bench.table.keys(prefix).is_empty());
        }
        let superblock = self.bench.superblock();
        assert_eq!((superblock.data_bytes, superblock.inodes), (0, 1));
    }

    /// A name that can be removed.
    fn leaf(&self) -> Option<(Ino, FileName, bool)> {
        self.model.nodes.iter().find_map(|(&parent, node)| {
            let empty = |ino: &Ino| self.model.nodes[ino].entries.is_empty();
            let (name, ino) = node.entries.iter().find(|(_, ino)| empty(ino))?;
            let directory = self.model.nodes[ino].kind == FileKind::Directory;
            Some((parent, name.clone(), directory))
        })
    }
}
