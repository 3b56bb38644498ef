//! Failures that were told, and whose reason may show later.

use std::collections::VecDeque;

use crate::model::verdict::Failure;

/// The latest of them, no more than so many.
pub(in crate::trace) struct Pending {
    failures: VecDeque<Failure>,
    most: usize,
}

impl Pending {
    pub(in crate::trace) const fn new(most: usize) -> Self {
        Self { failures: VecDeque::new(), most }
    }

    pub(super) fn push(&mut self, failure: Failure) {
        if self.failures.len() >= self.most {
            self.failures.pop_front();
        }
        self.failures.push_back(failure);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.failures.is_empty()
    }

    /// All of them; those that have to wait longer are pushed again.
    pub(super) fn take(&mut self) -> VecDeque<Failure> {
        std::mem::take(&mut self.failures)
    }
}
