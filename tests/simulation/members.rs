//! Nodes that come and go: in some worlds a fourth joins, and one of the four is drained and removed.

use std::sync::Arc;

use bucketfs::error::Error;
use bucketfs::meta::NodeState;
use bucketfs::types::NodeId;
use parking_lot::Mutex;

use super::node::Node;
use super::world::World;

/// Ticks after which an attempt to remove a node is made again: its node may be gone.
const AGAIN: u64 = 5_000;

/// Who leaves, and how far that is.
pub struct Leaving {
    pub place: usize,
    attempt: Arc<Mutex<Option<Result<(), Error>>>>,
    since: u64,
}

impl World {
    /// One more node, or one less.
    pub fn change_members(&mut self) {
        if self.nodes.len() == 3 {
            let contact = self.nodes[0].id;
            self.nodes.push(Node::joining(4, &self.cluster, contact, &self.net));
            self.start(3);
        } else if self.leaving.is_none() && self.gone.is_none() {
            let place = self.chance.below(4) as usize;
            self.tell(format!("node {} is to leave", self.nodes[place].id));
            self.leaving = Some(Leaving { place, attempt: Arc::default(), since: 0 });
        }
    }

    /// Asks again, of some node, that the one that is to leave is drained and removed.
    pub fn go_on_leaving(&mut self) {
        let Some(Leaving { place, attempt, since }) = &self.leaving else { return };
        let (place, since) = (*place, *since);
        let id = self.nodes[place].id;
        let answered = attempt.lock().take();
        if self.is_removed(id) {
            self.tell(format!("node {id} is removed"));
            (self.leaving, self.gone) = (None, Some(place));
            return;
        }
        if answered.is_none() && since != 0 && self.tick < since + AGAIN {
            return;
        }
        let others: Vec<usize> = (0..self.nodes.len()).filter(|other| *other != place).collect();
        let asked = others[self.chance.below(others.len() as u64) as usize];
        let Some(parts) = self.nodes[asked].parts() else { return };
        let attempt = self.nodes[asked].begin(async move {
            parts.replica.set_draining(id, NodeState::Draining).await?;
            parts.replica.remove_node(id, false).await
        });
        self.leaving = Some(Leaving { place, attempt, since: self.tick });
    }

    /// Whether some node knows that this one belongs to the cluster no more.
    pub fn is_removed(&self, id: NodeId) -> bool {
        self.nodes.iter().filter_map(Node::parts).any(|parts| {
            let nodes = parts.replica.table().view().nodes().expect("a table in memory");
            nodes.iter().any(|(node, record)| *node == id && record.state == NodeState::Gone)
        })
    }

    /// The nodes that belong to the cluster, by place.
    pub fn members(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter(|(place, _)| Some(*place) != self.gone)
    }
}
