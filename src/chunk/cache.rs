//! What was used last: open chunk files with their footers, and blocks of their data.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

use super::footer::Footer;
use crate::env::DiskFile;

/// A chunk file and what its footer says.
pub struct OpenChunk {
    pub file: Arc<dyn DiskFile>,
    pub footer: Footer,
}

/// Keeps values up to a bounded size in all and lets go of those not used for longest.
pub struct Cache<K, V> {
    capacity: usize,
    state: Mutex<State<K, V>>,
}

struct State<K, V> {
    kept: HashMap<K, Kept<V>>,
    /// The keys by their last use.
    used: BTreeMap<u64, K>,
    size: usize,
    /// Counts uses.
    now: u64,
    /// Counts calls of `forget`.
    forgotten: u64,
}

struct Kept<V> {
    value: V,
    size: usize,
    used: u64,
}

impl<K: Copy + Eq + Hash, V: Clone> Cache<K, V> {
    pub fn new(capacity: usize) -> Self {
        let (kept, used) = (HashMap::new(), BTreeMap::new());
        let state = State { kept, used, size: 0, now: 0, forgotten: 0 };
        Self { capacity, state: Mutex::new(state) }
    }

    /// The value, or a token for [`Self::insert`] when it is not there.
    pub fn get(&self, key: K) -> Result<V, u64> {
        let mut state = self.state.lock();
        state.now += 1;
        let (now, forgotten) = (state.now, state.forgotten);
        let kept = state.kept.get_mut(&key).ok_or(forgotten)?;
        let (before, value) = (std::mem::replace(&mut kept.used, now), kept.value.clone());
        state.used.remove(&before);
        state.used.insert(now, key);
        Ok(value)
    }

    /// Keeps a value made after `get` gave `token`, unless any was forgotten since: it may be this
    /// one. One larger than the cache is not kept.
    pub fn insert(&self, key: K, value: V, size: usize, token: u64) {
        let mut state = self.state.lock();
        if state.forgotten != token || size > self.capacity {
            return;
        }
        state.remove(key);
        while state.size + size > self.capacity {
            let Some((_, oldest)) = state.used.pop_first() else { break };
            state.remove(oldest);
        }
        state.now += 1;
        let used = state.now;
        state.size += size;
        state.used.insert(used, key);
        state.kept.insert(key, Kept { value, size, used });
    }

    /// Lets go of a value that is not good any more.
    pub fn forget(&self, key: K) {
        let mut state = self.state.lock();
        state.forgotten += 1;
        state.remove(key);
    }
}

impl<K: Copy + Eq + Hash, V> State<K, V> {
    fn remove(&mut self, key: K) {
        if let Some(kept) = self.kept.remove(&key) {
            self.used.remove(&kept.used);
            self.size -= kept.size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(cache: &Cache<u64, Arc<()>>, key: u64, size: usize, value: &Arc<()>) {
        let token = cache.get(key).err().unwrap();
        cache.insert(key, Arc::clone(value), size, token);
    }

    #[test]
    fn the_one_not_used_for_longest_goes_first() {
        let (cache, value) = (Cache::new(3), Arc::new(()));
        (1..=3).for_each(|key| put(&cache, key, 1, &value));
        assert!(cache.get(1).is_ok());
        put(&cache, 4, 1, &value);
        let kept = [1, 2, 3, 4].map(|key| cache.get(key).is_ok());
        assert_eq!(kept, [true, false, true, true]);
        assert_eq!(Arc::strong_count(&value), 4, "what is let go of is dropped");
    }

    #[test]
    fn no_more_is_kept_than_the_capacity() {
        let (cache, value) = (Cache::new(100), Arc::new(()));
        (0..10).for_each(|key| put(&cache, key, 10, &value));
        put(&cache, 10, 95, &value);
        assert_eq!(Arc::strong_count(&value), 2);
        put(&cache, 11, 101, &value);
        assert!(cache.get(10).is_ok() && cache.get(11).is_err());
        cache.insert(10, Arc::clone(&value), 5, 0);
        put(&cache, 12, 95, &value);
        assert_eq!(Arc::strong_count(&value), 3);
    }

    #[test]
    fn what_was_made_before_it_was_forgotten_is_not_kept() {
        let (cache, value) = (Cache::new(3), Arc::new(()));
        let token = cache.get(1).err().unwrap();
        cache.forget(1);
        cache.insert(1, Arc::clone(&value), 1, token);
        assert!(cache.get(1).is_err());
        put(&cache, 1, 1, &value);
        cache.forget(1);
        assert!(cache.get(1).is_err());
    }
}
