//! The directories that a restore keeps open, so that the way to the next one is short also in a very deep tree.

use rustix::fd::OwnedFd;
use std::{collections::HashMap, sync::Arc};

/// Kept of those wanted last: a restore goes directory by directory, down and up again, so a few serve nearly every call.
const NEAR_MAX: usize = 64;
/// One in so many levels of a deep path is kept as well: no way is longer than this.
const STRIDE: usize = 128;
/// The deepest path that is restored has half as many.
const MILESTONES_MAX: usize = 64;

/// Open directories by their path.
#[derive(Debug, Default)]
pub(super) struct OpenDirectories {
    near: HashMap<Vec<u8>, Arc<OwnedFd>>,
    milestones: HashMap<Vec<u8>, Arc<OwnedFd>>,
}

impl OpenDirectories {
    /// The nearest open directory at or above a path: its length in bytes, and what of it is open.
    pub fn nearest(&self, path: &[u8]) -> Option<(usize, Arc<OwnedFd>)> {
        let above = path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut ends = std::iter::once(path.len()).chain(above).take(STRIDE + 1);
        ends.find_map(|end| {
            let open = self.near.get(&path[..end]).or_else(|| self.milestones.get(&path[..end]))?;
            Some((end, open.clone()))
        })
    }

    /// Keeps a directory, if it is one of those that are kept. `level` is the number of its components, `wanted` that of
    /// the path it was opened for: those just above are wanted next when their metadata is set, from the bottom up.
    pub fn keep(&mut self, path: &[u8], (level, wanted): (usize, usize), directory: &Arc<OwnedFd>) {
        let (kept, max) = if level.is_multiple_of(STRIDE) {
            (&mut self.milestones, MILESTONES_MAX)
        } else if level + NEAR_MAX / 2 > wanted {
            (&mut self.near, NEAR_MAX)
        } else {
            return;
        };
        if kept.len() >= max {
            kept.clear();
        }
        kept.insert(path.to_vec(), directory.clone());
    }
}

/// How many components of a path are opened in one call; the milestones of a longer one are kept.
pub(super) const SHORT: usize = NEAR_MAX / 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> Arc<OwnedFd> {
        let folder = tempfile::tempdir().expect("a folder");
        let flags = rustix::fs::OFlags::DIRECTORY;
        Arc::new(rustix::fs::open(folder.path(), flags, rustix::fs::Mode::empty()).expect("it opens"))
    }

    #[test]
    fn the_way_to_any_place_on_a_deep_path_is_short() {
        let (mut open, directory) = (OpenDirectories::default(), directory());
        let path = ["d"; 4096].join("/");
        let end = |level: usize| 2 * level - 1;
        for level in 1..=4096 {
            open.keep(&path.as_bytes()[..end(level)], (level, 4096), &directory);
        }
        for level in STRIDE..=4096 {
            let (found, _) = open.nearest(&path.as_bytes()[..end(level)]).expect("a milestone is above");
            assert!(end(level) - found < 2 * STRIDE, "{level}");
        }
        assert!(open.near.len() <= NEAR_MAX && open.milestones.len() <= MILESTONES_MAX);
    }

    #[test]
    fn only_directories_above_are_near() {
        let (mut open, directory) = (OpenDirectories::default(), directory());
        open.keep(b"a/b", (2, 2), &directory);
        let nearest =
            ["a/b", "a/b/c/d", "a", "a/bc", "b"].map(|path| open.nearest(path.as_bytes()).map(|(end, _)| end));
        assert_eq!(nearest, [Some(3), Some(3), None, None, None]);
    }
}
