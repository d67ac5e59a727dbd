//! Walks the entries of a bucket in order, from either end.

use super::check::Reached;
use super::page::{Node, wrong};
use super::read::{Bolt, BoltError, FileBytes, Root};

/// Deeper than any file with branches of two children or more can be.
const DEPTH_MAX: usize = 64;

/// Which key comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The smallest.
    Forward,
    /// The greatest.
    Backward,
}

/// One key with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value; of a bucket, where it lies.
    pub value: &'a [u8],
    /// A bucket rather than a key.
    pub is_bucket: bool,
}

/// The entries of one bucket.
pub struct Cursor<'a, F: ?Sized> {
    bolt: &'a Bolt<'a, F>,
    root: Option<&'a Root>,
    direction: Direction,
    path: Vec<Step>,
    spare: Vec<Vec<u8>>,
    last: Option<Vec<u8>>,
    reached: Reached,
}

/// A node on the way down.
struct Step {
    node: Node,
    page: u64,
    /// Elements that were passed, counted from the end that the walk began at.
    passed: usize,
}

impl<'a, F: FileBytes + ?Sized> Cursor<'a, F> {
    pub(super) fn new(bolt: &'a Bolt<'a, F>, root: &'a Root, direction: Direction, reached: Reached) -> Self {
        Self { bolt, root: Some(root), direction, path: Vec::new(), spare: Vec::new(), last: None, reached }
    }

    /// The next entry, as long as there is one.
    pub async fn next(&mut self) -> Result<Option<Entry<'_>>, BoltError> {
        match self.root.take() {
            Some(Root::Page(page)) => self.enter(*page, None).await?,
            Some(Root::Inline(bytes)) => self.path.push(Step { node: Root::inline(bytes)?, page: 0, passed: 0 }),
            None => {}
        }
        loop {
            let Some(step) = self.path.last_mut() else { return Ok(None) };
            if step.passed == step.node.count() {
                let done = self.path.pop().map(|step| step.node.into_bytes());
                self.spare.extend(done);
                continue;
            }
            let index = step.index(self.direction);
            step.passed += 1;
            if !step.node.is_branch() {
                self.ascend()?;
                let node = &self.path[self.path.len() - 1].node;
                let element = node.element(index);
                let entry = Entry { key: element.key, value: element.value, is_bucket: element.is_bucket };
                return Ok(Some(entry));
            }
            let (child, key) = (step.node.child(index), step.node.key(index).to_vec());
            self.enter(child, Some(&key)).await?;
        }
    }

    /// The pages that this walk reached, and those before it.
    pub fn into_reached(self) -> Reached {
        self.reached
    }

    async fn enter(&mut self, page: u64, branch: Option<&[u8]>) -> Result<(), BoltError> {
        if self.path.len() == DEPTH_MAX {
            return Err(wrong(page, "the tree is deeper than any"));
        }
        let node = self.bolt.node(page, self.spare.pop().unwrap_or_default(), &mut self.reached).await?;
        if let Some(key) = branch {
            if node.count() == 0 {
                return Err(wrong(page, "it is empty and no root"));
            }
            if key > node.key(0) {
                return Err(wrong(page, "its first key comes before that of the branch above"));
            }
            let is_forward = self.direction == Direction::Forward;
            if is_forward && self.last.as_deref().is_some_and(|last| last >= key) {
                return Err(wrong(page, "the branch above begins before the last one ends"));
            }
        }
        self.path.push(Step { node, page, passed: 0 });
        Ok(())
    }

    /// Keys ascend inside of a node; here, from one leaf to the next.
    fn ascend(&mut self) -> Result<(), BoltError> {
        let Some(step) = self.path.last() else { return Ok(()) };
        let is_first = step.passed == 1;
        let key = step.node.key(step.last_index(self.direction));
        let in_order = |last: &Vec<u8>| match self.direction {
            Direction::Forward => last.as_slice() < key,
            Direction::Backward => last.as_slice() > key,
        };
        if is_first && self.last.as_ref().is_some_and(|last| !in_order(last)) {
            return Err(wrong(step.page, "its keys do not follow those of the leaf before"));
        }
        if step.passed == step.node.count() {
            let last = self.last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(key);
        }
        Ok(())
    }
}

impl Step {
    /// The element that comes next.
    fn index(&self, direction: Direction) -> usize {
        match direction {
            Direction::Forward => self.passed,
            Direction::Backward => self.node.count() - 1 - self.passed,
        }
    }

    /// The element that was passed last.
    fn last_index(&self, direction: Direction) -> usize {
        match direction {
            Direction::Forward => self.passed - 1,
            Direction::Backward => self.node.count() - self.passed,
        }
    }
}
