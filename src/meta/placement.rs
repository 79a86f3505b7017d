//! Where the copies of a chunk belong: the same answer on every node, from the table in the log.
//!
//! Chunks fall into 256 groups. A group's nodes are found by weighted rendezvous hashing (Thaler and
//! Ravishankar 1998; the weights as Schindelhauer and Schomaker 2005 have them), zone by zone: a node
//! that comes or goes moves the groups it takes or leaves, and no other copy of them.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::record::{ChunkRecord, NodeRecord, NodeState};
use crate::types::{ChunkId, NodeId, quorum};

/// Groups that chunks are placed by.
pub const GROUPS: u16 = 256;
/// Copies of each chunk, until something else is set.
pub const FACTOR_DEFAULT: u8 = 3;
pub const FACTOR_MAX: u8 = 9;

/// A node that takes copies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub node: NodeId,
    /// What fails together: a rack, a room. Empty is a zone like another.
    pub zone: String,
    /// Its share of the copies in relation to the others'; not 0.
    pub weight: u32,
}

/// How far the chunks were looked through since the table changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Survey {
    /// All of them are noted as the table wants them.
    #[default]
    Done,
    /// Chunks up to this one are.
    After(Option<ChunkId>),
}

/// The table; the record. Without members (a store that never had a node record) whoever has a
/// chunk is where it belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Counts changes of what follows.
    pub epoch: u64,
    pub replication_factor: u8,
    /// By rising id.
    pub members: Vec<Member>,
    /// Nodes that are no more: nothing is on them. Rising.
    pub gone: Vec<NodeId>,
    pub survey: Survey,
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            epoch: 0,
            replication_factor: FACTOR_DEFAULT,
            members: Vec::new(),
            gone: Vec::new(),
            survey: Survey::Done,
        }
    }
}

impl Placement {
    /// The table after the node records became `nodes`, in the order of their ids.
    pub(super) fn follow<'a>(
        &self,
        replication_factor: u8,
        nodes: impl Iterator<Item = (NodeId, &'a NodeRecord)>,
    ) -> Self {
        let mut next = Self { replication_factor, ..Self::default() };
        for (node, record) in nodes {
            match record.state {
                NodeState::Active if record.weight > 0 => {
                    let (zone, weight) = (record.zone.clone(), record.weight);
                    next.members.push(Member { node, zone, weight });
                }
                NodeState::Active | NodeState::Draining => {}
                NodeState::Gone => next.gone.push(node),
            }
        }
        next.epoch = self.epoch;
        next.survey = self.survey;
        if next != *self {
            next.epoch += 1;
            next.survey = Survey::After(None);
        }
        next
    }

    /// The nodes that should have the chunk, the first choice first: `replication_factor` of them, or
    /// all there are. Empty without members.
    pub fn places(&self, id: ChunkId) -> Vec<NodeId> {
        let wanted = usize::from(self.replication_factor).min(self.members.len());
        if wanted == self.members.len() {
            return self.members.iter().map(|member| member.node).collect();
        }
        let mut ranked: Vec<&Member> = self.members.iter().collect();
        let group = group(id);
        ranked.sort_by(|left, right| compare(group, left, right));
        let mut places: Vec<&Member> = Vec::with_capacity(wanted);
        while places.len() < wanted {
            let in_zone = |zone: &str| places.iter().filter(|placed| placed.zone == zone).count();
            let left = ranked.iter().enumerate();
            let Some((at, _)) = left.min_by_key(|(at, next)| (in_zone(&next.zone), *at)) else {
                break;
            };
            places.push(ranked.remove(at));
        }
        places.iter().map(|member| member.node).collect()
    }

    /// Copies that must be on disk before the chunk may be named.
    pub fn quorum(&self) -> usize {
        quorum(usize::from(self.replication_factor).min(self.members.len()))
    }

    /// Whether nodes that have a chunk are a quorum of its places.
    pub fn is_quorum(&self, id: ChunkId, stored_on: &[NodeId]) -> bool {
        if self.members.is_empty() {
            return !stored_on.is_empty();
        }
        let places = self.places(id);
        places.iter().filter(|node| stored_on.contains(node)).count() >= quorum(places.len())
    }

    /// Whether a node is no more, with all it had.
    pub fn is_gone(&self, node: NodeId) -> bool {
        self.gone.binary_search(&node).is_ok()
    }

    /// Notes in a chunk's record who has to get it, and who may give it up once all places have it.
    pub(super) fn note(&self, id: ChunkId, record: &mut ChunkRecord) {
        record.stored_on.retain(|node| !self.is_gone(*node));
        (record.missing_on, record.surplus_on) = (Vec::new(), Vec::new());
        if record.references == 0 || self.members.is_empty() {
            return;
        }
        let places = self.places(id);
        let missing = places.iter().filter(|node| !record.stored_on.contains(node));
        record.missing_on = missing.copied().collect();
        record.missing_on.sort_unstable();
        if record.missing_on.is_empty() {
            let surplus = record.stored_on.iter().filter(|node| !places.contains(node));
            record.surplus_on = surplus.copied().collect();
        }
    }

    /// Whether the chunk's record is noted as this table wants it.
    pub fn has_surveyed(&self, id: ChunkId) -> bool {
        match self.survey {
            Survey::Done => true,
            Survey::After(last) => last.is_some_and(|last| id <= last),
        }
    }
}

/// The group a chunk is in.
pub fn group(id: ChunkId) -> u16 {
    (mixed(id.session.0.wrapping_add(mixed(id.counter))) >> 56) as u16
}

/// The better of two nodes for a group is the lesser.
fn compare(group: u16, left: &Member, right: &Member) -> Ordering {
    let cost = |member: &Member| u128::from(minus_log2(draw(group, member.node)));
    // weight / cost, the larger first, without a division.
    let (mine, other) =
        (u128::from(left.weight) * cost(right), u128::from(right.weight) * cost(left));
    other.cmp(&mine).then(left.node.cmp(&right.node))
}

/// A number that is random over groups and nodes, and the same for ever.
fn draw(group: u16, node: NodeId) -> u64 {
    mixed(node ^ mixed(u64::from(group) + 1)).max(1)
}

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// -log2(number / 2^64) in units of 2^-32, for a number above 0. In whole numbers, so that no two
/// machines disagree about it.
fn minus_log2(number: u64) -> u64 {
    let zeros = number.leading_zeros();
    let mut log = u64::from(63 - zeros);
    // 1 <= mantissa < 2, in units of 2^-63.
    let mut mantissa = u128::from(number << zeros);
    for _ in 0..32 {
        mantissa = (mantissa * mantissa) >> 63;
        let bit = u64::from(mantissa >> 64 != 0);
        mantissa >>= bit;
        log = log << 1 | bit;
    }
    (64 << 32) - log
}

const _: () = assert!(GROUPS == 1 << 8);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::types::SessionId;

    fn id(counter: u64) -> ChunkId {
        ChunkId { session: SessionId(3), counter }
    }

    fn table(factor: u8, nodes: &[(NodeId, &str, u32)]) -> Placement {
        let member = |&(node, zone, weight): &(NodeId, &str, u32)| Member {
            node,
            zone: zone.into(),
            weight,
        };
        let members = nodes.iter().map(member).collect();
        Placement { replication_factor: factor, members, ..Placement::default() }
    }

    fn without(table: &Placement, node: NodeId) -> Placement {
        let mut less = table.clone();
        less.members.retain(|member| member.node != node);
        less
    }

    /// How often each node is chosen over many chunks.
    fn shares(table: &Placement, chunks: u64) -> Vec<f64> {
        let mut counts = vec![0u64; table.members.len()];
        for counter in 0..chunks {
            for place in table.places(id(counter)) {
                let at = table.members.iter().position(|member| member.node == place).unwrap();
                counts[at] += 1;
            }
        }
        counts.iter().map(|&count| count as f64 / chunks as f64).collect()
    }

    #[test]
    fn logarithms_are_right() {
        assert_eq!(minus_log2(1), 64 << 32);
        assert_eq!(minus_log2(1 << 63), 1 << 32);
        assert_eq!(minus_log2(u64::MAX), 1);
        let third = minus_log2(u64::MAX / 3) as f64 / 2f64.powi(32);
        assert!((third - 3f64.log2()).abs() < 1e-8, "{third}");
    }

    #[test]
    fn few_nodes_have_everything() {
        assert!(Placement::default().places(id(1)).is_empty());
        assert!(Placement::default().is_quorum(id(1), &[9]));
        assert!(!Placement::default().is_quorum(id(1), &[]));
        let three = table(3, &[(1, "", 1), (2, "", 5), (3, "", 1)]);
        assert_eq!(three.places(id(9)), [1, 2, 3]);
        assert!(three.is_quorum(id(9), &[3, 1]) && !three.is_quorum(id(9), &[3, 8, 9]));
        assert_eq!((three.quorum(), without(&three, 1).quorum()), (2, 2));
    }

    /// Where chunks lie on disks must not change with the program.
    #[test]
    fn the_choice_is_for_ever() {
        let nodes = table(2, &[(10, "a", 1), (20, "a", 2), (30, "b", 3), (40, "c", 1)]);
        let found: Vec<_> = (1..6).map(|counter| nodes.places(id(counter))).collect();
        assert_eq!(found, FIXED);
        assert_eq!((1..6).map(|counter| group(id(counter))).collect::<Vec<_>>(), GROUPS_FIXED);
    }

    const FIXED: [[NodeId; 2]; 5] = [[20, 30], [20, 40], [20, 30], [20, 30], [20, 40]];
    const GROUPS_FIXED: [u16; 5] = [177, 166, 9, 67, 142];

    #[test]
    fn weights_are_shares() {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let nodes: Vec<_> = (0..8).map(|at| (at as u64 + 100, names[at], 1)).collect();
        for share in shares(&table(3, &nodes), 60_000) {
            // 256 groups are few: an eighth of the copies, give or take a third.
            assert!((0.25..0.5).contains(&share), "{share}");
        }
        let heavy = table(1, &[(1, "a", 1), (2, "b", 3)]);
        let share = shares(&heavy, 60_000)[1];
        assert!((0.68..0.82).contains(&share), "{share}");
    }

    proptest! {
        /// The copies of a chunk are on different nodes, and in as many zones as can be.
        #[test]
        fn zones_are_spread(
            zones in prop::collection::vec(0usize..4, 1..12), factor in 1u8..6, counter in 0u64..9999
        ) {
            let names = ["a", "b", "c", "d"];
            let nodes: Vec<_> =
                (1..).zip(&zones).map(|(node, &zone)| (node, names[zone], 1)).collect();
            let table = table(factor, &nodes);
            let places = table.places(id(counter));
            prop_assert_eq!(places.len(), nodes.len().min(factor.into()));
            let zone_of = |node: &NodeId| zones[*node as usize - 1];
            let used: BTreeSet<usize> = places.iter().map(zone_of).collect();
            let there: BTreeSet<usize> = zones.iter().copied().collect();
            prop_assert_eq!(used.len(), there.len().min(factor.into()));
            prop_assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), places.len());
        }

        /// A node that no copy is on may go and come without moving it; one that goes takes no more
        /// than its own place along, as long as each zone has others.
        #[test]
        fn only_what_has_to_move_moves(node in 1u64..13, counter in 0u64..9999) {
            let zones = ["a", "b", "c"];
            let nodes: Vec<_> = (1..13).map(|node| (node, zones[node as usize % 3], 2)).collect();
            let all = table(3, &nodes);
            let (before, after) = (all.places(id(counter)), without(&all, node).places(id(counter)));
            if before.contains(&node) {
                let kept = before.iter().filter(|place| after.contains(place)).count();
                prop_assert_eq!(kept, 2);
            } else {
                prop_assert_eq!(before, after);
            }
        }
    }
}
