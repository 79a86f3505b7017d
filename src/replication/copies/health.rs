//! Which peers failed lately: they are asked last for a while.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::env::Clock;
use crate::types::NodeId;

/// How long a peer that failed is not asked first.
const REST: Duration = Duration::from_secs(3);

pub struct Health {
    clock: Arc<dyn Clock>,
    /// Since when, by the clock, a node may be trusted again.
    ailing: Mutex<HashMap<NodeId, Duration>>,
}

impl Health {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, ailing: Mutex::default() }
    }

    pub fn note(&self, node: NodeId, is_well: bool) {
        let mut ailing = self.ailing.lock();
        if is_well {
            ailing.remove(&node);
        } else {
            ailing.insert(node, self.clock.elapsed() + REST);
        }
    }

    pub fn is_ailing(&self, node: NodeId) -> bool {
        let until = self.ailing.lock().get(&node).copied();
        until.is_some_and(|until| self.clock.elapsed() < until)
    }

    /// Puts those that failed lately last, else keeps the order.
    pub fn sort(&self, nodes: &mut [NodeId]) {
        nodes.sort_by_key(|node| self.is_ailing(*node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SimClock;

    #[test]
    fn who_failed_is_asked_last_for_a_while() {
        let clock = Arc::new(SimClock::new(1));
        let health = Health::new(Arc::clone(&clock) as Arc<dyn Clock>);
        health.note(1, false);
        let mut nodes = [1, 2, 3];
        health.sort(&mut nodes);
        assert_eq!(nodes, [2, 3, 1]);
        health.note(1, true);
        assert!(!health.is_ailing(1));
        health.note(2, false);
        clock.advance(REST);
        assert!(!health.is_ailing(2));
    }
}
