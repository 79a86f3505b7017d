//! A cluster under a seed: it is formed, works while things fail, is healed, and is looked at.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bucketfs::env::Seeded;
use bucketfs::types::{Ino, NodeId};
use parking_lot::Mutex;

use super::checks;
use super::clients::{CLIENTS, Client, WHO, bucket_name};
use super::ledger::Ledger;
use super::members::Leaving;
use super::net::Net;
use super::node::{Node, Parts};

/// Ticks that something may take which nothing stands in the way of.
const SOON: u64 = 120_000;
/// Nodes that there are at most.
pub const PLACES: u64 = 4;
/// Between two steps of a node that leaves.
const STEP: u64 = 200;
/// The node whose chunk files go bad now and then.
pub const FLIPS: usize = 1;
/// Between two looks at what must hold at all times.
const LOOK_EVERY: u64 = 50;

/// What came of a simulation.
pub struct Outcome {
    /// All messages there were.
    pub trace: u64,
    pub acknowledged: u64,
    pub failed: u64,
    pub compared: u64,
    pub ticks: u64,
    pub violations: Vec<String>,
}

impl Outcome {
    /// One line.
    pub fn summary(&self) -> String {
        format!(
            "trace {} acknowledged {} failed {} compared {} ticks {}",
            self.trace, self.acknowledged, self.failed, self.compared, self.ticks
        )
    }
}

pub struct World {
    seed: u64,
    pub chance: Seeded,
    pub net: Net,
    pub nodes: Vec<Node>,
    pub ledger: Ledger,
    pub cluster: String,
    pub tick: u64,
    /// Where the files are, once it is made.
    bucket: Arc<Mutex<Option<Ino>>>,
    /// Clients do nothing any more.
    at_rest: Arc<AtomicBool>,
    violations: Arc<Mutex<Vec<String>>>,
    leaders: BTreeMap<u64, NodeId>,
    tables: BTreeMap<u64, u32>,
    /// When a node that is down starts again.
    pub due: BTreeMap<usize, u64>,
    /// Whether nodes come and go in this world.
    pub has_changes: bool,
    pub leaving: Option<Leaving>,
    /// By place: who was removed.
    pub gone: Option<usize>,
    /// The table in which each chunk had its copies, once all nodes were there: so it is in all later ones.
    has_copies_since: Option<u64>,
    /// Copies may have gone bad, and are struck from the records when that is found.
    pub has_bad_copies: bool,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let net = Net::new(seed ^ 0x6e65_7400);
        let (first, cluster) = Node::first(seed, &net);
        let mut chance = Seeded::new(seed);
        let has_changes = chance.chance(25);
        Self {
            seed,
            chance,
            net,
            nodes: vec![first],
            ledger: Ledger::default(),
            cluster,
            tick: 0,
            bucket: Arc::default(),
            at_rest: Arc::default(),
            violations: Arc::default(),
            leaders: BTreeMap::new(),
            tables: BTreeMap::new(),
            due: BTreeMap::new(),
            has_changes,
            leaving: None,
            gone: None,
            has_copies_since: None,
            has_bad_copies: false,
        }
    }

    /// `work`: ticks under faults.
    pub fn run(mut self, work: u64) -> Outcome {
        self.form();
        let end = self.tick + work;
        while self.tick < end && self.is_sound() {
            let calm = 100 + self.chance.below(1_500);
            self.pass(calm);
            self.strike();
        }
        if self.is_sound() {
            self.heal();
            self.settle();
        }
        let books = self.ledger.lock();
        Outcome {
            trace: self.net.trace(),
            acknowledged: books.acknowledged,
            failed: books.failed,
            compared: books.compared,
            ticks: self.tick,
            violations: self.violations.lock().clone(),
        }
    }

    /// Kills the leader while all write; the milliseconds until another one leads.
    pub fn fail_over(mut self) -> u64 {
        self.form();
        self.net.lose_nothing();
        let calm = 1_000 + self.chance.below(1_000);
        self.pass(calm);
        let leads = |world: &Self| {
            let leads = |node: &Node| node.parts().is_some_and(|it| it.replica.leads());
            world.nodes.iter().position(leads)
        };
        self.wait("a leader", |world| leads(world).is_some());
        let leader = leads(&self).expect("it was waited for");
        let begun = self.tick;
        self.tell(format!("node {}, which leads, is killed", self.nodes[leader].id));
        self.nodes[leader].kill();
        self.wait("another leader", |world| leads(world).is_some());
        self.tick - begun
    }

    fn is_sound(&self) -> bool {
        self.violations.lock().is_empty()
    }

    pub fn violated(&self, what: String) {
        self.tell(format!("VIOLATED: {what}"));
        self.violations.lock().push(format!("after {} ms: {what}", self.tick));
    }

    /// Says what happens, for who looks for a cause.
    pub fn tell(&self, what: String) {
        println!("{:>7} {what}", self.tick);
    }

    /// One becomes three, and a bucket is made.
    fn form(&mut self) {
        self.start(0);
        self.wait("the first node", |world| world.nodes[0].parts().is_some());
        let contact = self.nodes[0].id;
        for id in [2, 3] {
            let node = Node::joining(id, &self.cluster, contact, &self.net);
            self.nodes.push(node);
            self.start(self.nodes.len() - 1);
        }
        self.wait("three voters", |world| {
            let votes = |node: &Node| node.parts().is_some_and(|it| it.replica.voters() == 3);
            world.nodes.iter().all(votes)
        });
        let (vfs, place) = (self.nodes[0].parts().expect("it runs").vfs, Arc::clone(&self.bucket));
        let made =
            self.nodes[0].begin(async move { vfs.create_bucket(&WHO, &bucket_name()).await });
        self.wait("the bucket", |_| made.lock().is_some());
        let made = made.lock().take().expect("it was waited for").expect("a bucket");
        *place.lock() = Some(made.ino);
        for place in 0..self.nodes.len() {
            if let Some(parts) = self.nodes[place].parts() {
                let begin = self.clients(place);
                self.nodes[place].begin(async move { begin(parts) });
            }
        }
    }

    /// Starts a node, with clients as soon as there is something to work on.
    pub fn start(&mut self, place: usize) {
        self.due.remove(&place);
        self.tell(format!("node {} starts", self.nodes[place].id));
        let clients = self.clients(place);
        self.nodes[place].start(self.seed, clients);
    }

    fn clients(&self, place: usize) -> impl FnOnce(Parts) + Send + 'static {
        let (bucket, ledger) = (Arc::clone(&self.bucket), Arc::clone(&self.ledger));
        let (violations, at_rest) = (Arc::clone(&self.violations), Arc::clone(&self.at_rest));
        let seed = self.seed ^ (place as u64) << 40 ^ self.nodes[place].starts << 48;
        move |node: Parts| {
            let Some(bucket) = *bucket.lock() else { return };
            for which in 0..CLIENTS {
                let violations = Arc::clone(&violations);
                let client = Client {
                    number: place as u64 * CLIENTS + which,
                    node: node.clone(),
                    bucket,
                    ledger: Arc::clone(&ledger),
                    chance: Seeded::new(seed ^ which << 32),
                    clients: PLACES * CLIENTS,
                    at_rest: Arc::clone(&at_rest),
                    violated: Arc::new(move |what| violations.lock().push(what)),
                };
                tokio::spawn(client.work());
            }
        }
    }

    /// Lets so many milliseconds pass.
    pub fn pass(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tick += 1;
            self.net.tick();
            for place in self.order() {
                self.nodes[place].tick();
            }
            let due: Vec<usize> = self
                .due
                .iter()
                .filter(|(_, at)| **at <= self.tick)
                .map(|(place, _)| *place)
                .collect();
            due.into_iter().for_each(|place| self.start(place));
            if self.tick.is_multiple_of(STEP) {
                self.go_on_leaving();
            }
            if self.tick.is_multiple_of(LOOK_EVERY) {
                self.look();
            }
            if !self.is_sound() {
                return;
            }
        }
    }

    /// Nobody is always the first.
    fn order(&mut self) -> Vec<usize> {
        let (count, first) =
            (self.nodes.len(), self.chance.below(self.nodes.len() as u64) as usize);
        (0..count).map(|place| (first + place) % count).collect()
    }

    fn wait(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let end = self.tick + SOON;
        while self.is_sound() && !is_so(self) {
            if self.tick > end {
                return self.violated(format!("{what}: not within {SOON} ms"));
            }
            self.pass(10);
        }
    }

    /// What must hold at all times, whatever has failed.
    fn look(&mut self) {
        for place in 0..self.nodes.len() {
            let node = &self.nodes[place];
            if let Some(error) = node.failure() {
                let (id, is_ailing) = (node.id, node.is_ailing);
                if self.is_removed(id) {
                    // It was told so, and has ended.
                    self.nodes[place].kill();
                    continue;
                }
                if !is_ailing && checks::needs_somebody(&error) {
                    return self.violated(format!("node {id} does not start: {error}"));
                }
                self.tell(format!("node {id} has not started: {error}"));
                self.nodes[place].kill();
                self.due.insert(place, self.tick + 500);
                continue;
            }
            let Some(parts) = node.parts() else { continue };
            let (id, term) = (node.id, parts.replica.term());
            if parts.replica.leads() {
                let leader = *self.leaders.entry(term).or_insert(id);
                if leader != id {
                    return self.violated(format!("{leader} and {id} lead in term {term}"));
                }
            }
            let status = parts.replica.status();
            if let Some(why) = status.disk_failed {
                if !node.is_ailing {
                    return self.violated(format!("node {id} has stopped working: {why}"));
                }
                self.tell(format!("node {id} works no more: {why}"));
                self.nodes[place].kill();
                self.due.insert(place, self.tick + 1_000);
                continue;
            }
            if place != FLIPS
                && self.tick.is_multiple_of(10 * LOOK_EVERY)
                && !node.is_ailing
                && let Err(why) = checks::has_what_is_recorded(id, &parts)
            {
                return self.violated(why);
            }
            if let Some(index) = status.applied {
                if !self.has_bad_copies && self.tick.is_multiple_of(10 * LOOK_EVERY) {
                    match (checks::has_its_copies(&parts), self.has_copies_since) {
                        (Ok(()), None) => self.has_copies_since = Some(index),
                        (Err(why), Some(since)) if index >= since => {
                            return self.violated(format!("on node {id} {why}"));
                        }
                        _ => {}
                    }
                }
                let sum = checks::sum_of_table(&parts);
                let known = *self.tables.entry(index).or_insert(sum);
                if known != sum {
                    return self.violated(format!("node {id} has another table at {index}"));
                }
            }
        }
    }

    /// Everything works again.
    fn heal(&mut self) {
        self.tell("all is healed, and everybody rests".into());
        self.at_rest.store(true, Ordering::Relaxed);
        self.net.heal();
        if self.nodes.len() > 3 && self.chance.chance(50) {
            self.change_members();
        }
        for place in 0..self.nodes.len() {
            self.nodes[place].disk.set_capacity(1 << 40);
            if self.nodes[place].is_ailing && self.nodes[place].is_up() {
                self.nodes[place].kill();
            }
            self.nodes[place].is_ailing = false;
            if !self.nodes[place].is_up() && Some(place) != self.gone {
                self.start(place);
            }
        }
    }

    /// The cluster comes to rest by itself, and nothing is missing.
    fn settle(&mut self) {
        self.wait("the node that leaves to be removed", |world| world.leaving.is_none());
        if let Some(place) = self.gone
            && self.nodes[place].is_up()
        {
            self.nodes[place].kill();
        }
        // Each client has one.
        self.wait("all clients to end", |world| Arc::strong_count(&world.at_rest) == 1);
        self.wait("all nodes serve", |world| {
            world.members().all(|(_, node)| node.parts().is_some())
        });
        // The one that was removed may have led: an election may take longer than a read waits.
        self.wait("a node that leads", |world| {
            let leads = |parts: Parts| parts.replica.leads();
            world.members().any(|(_, node)| node.parts().is_some_and(leads))
        });
        let bucket = (*self.bucket.lock()).expect("the bucket");
        let begin = |node: &Node| {
            let (parts, ledger) = (node.parts()?, Arc::clone(&self.ledger));
            Some((node.id, node.begin(checks::read_all(parts, bucket, ledger))))
        };
        let looks: Vec<_> = self.members().filter_map(|(_, node)| begin(node)).collect();
        self.wait("everything to be read", |_| looks.iter().all(|look| look.1.lock().is_some()));
        let mut found = Vec::new();
        for (id, look) in looks {
            match look.lock().take() {
                Some(Ok(seen)) => found.push(seen),
                Some(Err(why)) => return self.violated(format!("read on node {id}: {why}")),
                None => return,
            }
        }
        if found.windows(2).any(|pair| pair[0] != pair[1]) {
            return self.violated("nodes do not show the same".into());
        }
        let end = self.tick + SOON;
        while self.is_sound() {
            match checks::at_rest(self.members()) {
                Ok(()) => return,
                Err(why) if self.tick > end => self.violated(format!("no rest: {why}")),
                Err(_) => self.pass(200),
            }
        }
    }
}
