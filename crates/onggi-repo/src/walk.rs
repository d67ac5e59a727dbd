//! Going through all trees of snapshots, each tree once, many at a time. A tree that cannot be read is a problem; its
//! siblings are visited nevertheless.

use crate::{
    Problem, Repository, Result,
    format::{BlobId, BlobKind, Node, Tree},
};
use futures::{StreamExt, stream::FuturesUnordered};
use std::sync::Arc;

/// Deeper directories are damage: no system makes such paths.
const DEPTH_MAX: usize = 4096;

/// Where a tree was found first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its id.
    pub id: BlobId,
    /// For people: the snapshot, then the path below it.
    pub path: String,
    depth: usize,
}

impl Place {
    /// The root tree of a snapshot, named for people.
    pub fn root(id: BlobId, name: String) -> Self {
        Self { id, path: name, depth: 0 }
    }

    /// The path of one of its nodes, for people.
    pub fn path_of(&self, node: &Node) -> String {
        format!("{}/{}", self.path, node.name.escape_ascii())
    }
}

/// What is done with each tree, on a computing thread.
pub(crate) type Inspect = dyn Fn(&Place, &Tree, &mut Vec<Problem>) + Send + Sync;
/// Whether a tree is met for the first time.
pub(crate) type IsNew = dyn Fn(&BlobId) -> bool + Send + Sync;

/// Visits every tree below the roots for which `is_new` says yes, and returns the problems: unreadable trees, and what
/// `inspect` found. Fails only where the storage does.
pub(crate) async fn walk(
    repo: &Repository,
    roots: Vec<Place>,
    is_new: Arc<IsNew>,
    inspect: Arc<Inspect>,
) -> Result<Vec<Problem>> {
    let at_once = repo.at_once().max(2 * repo.env().compute.threads());
    let (mut open, mut problems) = (roots, Vec::new());
    // Taken from the end: depth first, so that the list stays short.
    open.reverse();
    let mut active = FuturesUnordered::new();
    loop {
        while active.len() < at_once
            && let Some(place) = open.pop()
        {
            if is_new(&place.id) {
                active.push(visit(repo, place, Arc::clone(&inspect)));
            }
        }
        let Some(visited) = active.next().await else { return Ok(problems) };
        let (children, found) = visited?;
        open.extend(children);
        problems.extend(found);
    }
}

async fn visit(repo: &Repository, place: Place, inspect: Arc<Inspect>) -> Result<(Vec<Place>, Vec<Problem>)> {
    let json = match repo.blob(BlobKind::Tree, place.id).await {
        Ok(json) => json,
        Err(error) if error.is_damage() || error.is_not_found() => {
            return Ok((Vec::new(), vec![Problem::of("tree-lost", &place.path, &error)]));
        }
        Err(error) => return Err(error),
    };
    let read = move || match Tree::parse(&json) {
        Err(fault) => (Vec::new(), vec![Problem::of("tree-damaged", &place.path, &fault)]),
        Ok(tree) => {
            let mut problems = Vec::new();
            inspect(&place, &tree, &mut problems);
            (children(&place, &tree, &mut problems), problems)
        }
    };
    Ok(repo.env().compute.run(read).await)
}

fn children(place: &Place, tree: &Tree, problems: &mut Vec<Problem>) -> Vec<Place> {
    let below = tree.nodes().iter().filter_map(|node| {
        let id = node.subtree?;
        Some(Place { id, path: place.path_of(node), depth: place.depth + 1 })
    });
    let below: Vec<_> = below.collect();
    if place.depth >= DEPTH_MAX && !below.is_empty() {
        let text = format!("directories deeper than {DEPTH_MAX} are not followed");
        problems.push(Problem { class: "tree-depth", what: place.path.clone(), text });
        return Vec::new();
    }
    below
}
