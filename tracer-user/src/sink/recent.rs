//! What is remembered of the last so many ids: bounded, oldest forgotten first.

use std::collections::{HashMap, VecDeque};

/// A map from id to value that holds at most `capacity` entries.
#[derive(Debug)]
pub(super) struct Recent<V> {
    capacity: usize,
    order: VecDeque<u64>,
    values: HashMap<u64, V>,
}

impl<V> Recent<V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, order: VecDeque::new(), values: HashMap::new() }
    }

    /// Remembers `value`; an id that is known keeps its age.
    pub(super) fn insert(&mut self, id: u64, value: V) {
        if self.values.insert(id, value).is_none() {
            self.order.push_back(id);
            if self.order.len() > self.capacity
                && let Some(oldest) = self.order.pop_front()
            {
                self.values.remove(&oldest);
            }
        }
    }

    pub(super) fn get(&self, id: u64) -> Option<&V> {
        self.values.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut V> {
        self.values.get_mut(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;

    #[test]
    fn the_oldest_is_forgotten() {
        let mut recent = Recent::new(2);
        recent.insert(1, 'a');
        recent.insert(2, 'b');
        recent.insert(1, 'c');
        recent.insert(3, 'd');
        assert_eq!((recent.get(1), recent.get(2), recent.get(3)), (None, Some(&'b'), Some(&'d')));
        *recent.get_mut(2).unwrap() = 'e';
        assert_eq!(recent.get(2), Some(&'e'));
    }
}
