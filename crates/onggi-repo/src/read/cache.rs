//! Trees read lately, in two generations: when the young one is full the old one goes.

use crate::format::{BlobId, Tree};
use std::{collections::HashMap, sync::Arc};

/// Bytes of JSON whose trees one generation holds; parsed they take about as much again.
const GENERATION: usize = 6 << 20;

/// Holds trees of at most two generations.
#[derive(Debug, Default)]
pub(crate) struct TreeCache {
    young: HashMap<BlobId, (Arc<Tree>, usize)>,
    old: HashMap<BlobId, (Arc<Tree>, usize)>,
    bytes: usize,
}

impl TreeCache {
    pub fn get(&mut self, id: &BlobId) -> Option<Arc<Tree>> {
        if let Some((tree, _)) = self.young.get(id) {
            return Some(Arc::clone(tree));
        }
        let (tree, length) = self.old.remove(id)?;
        self.insert(*id, Arc::clone(&tree), length);
        Some(tree)
    }

    /// Keeps a tree; one that would fill a generation alone is not kept.
    pub fn insert(&mut self, id: BlobId, tree: Arc<Tree>, length: usize) {
        if length > GENERATION {
            return;
        }
        if self.bytes + length > GENERATION {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += length;
        self.young.insert(id, (tree, length));
    }
}
