//! Which entries of a snapshot a restore takes: patterns with restic's meaning, and paths as an operator types them.

use super::SnapshotTree;
use onggi_repo::{RepoError, format::NodeKind};
use onggi_source::{
    TreePath,
    paths::{Asked, BadPattern, Case, Pattern, Patterns},
};

/// How many places a name may fit before the search for it ends.
const FOUND_MAX: usize = 8;

/// Patterns of what is taken and what is left. Without any, all is taken.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    include: Option<Patterns>,
    exclude: Patterns,
}

impl Selection {
    /// Takes only what matches, itself or through a directory above it.
    pub fn include(&mut self, pattern: &[u8], case: Case) -> Result<(), BadPattern> {
        self.include.get_or_insert_default().push(Pattern::parse(pattern, case)?);
        Ok(())
    }

    /// Leaves what matches, and all below it.
    pub fn exclude(&mut self, pattern: &[u8], case: Case) -> Result<(), BadPattern> {
        self.exclude.push(Pattern::parse(pattern, case)?);
        Ok(())
    }

    /// Whether something may be taken at or below a path.
    pub fn enters(&self, path: &TreePath) -> bool {
        let path = absolute(path);
        self.include.as_ref().is_none_or(|include| include.reaches(&path)) && !self.exclude.exclude(&path, Asked::Above)
    }

    /// Whether the entry itself is taken.
    pub fn takes(&self, path: &TreePath) -> bool {
        let path = absolute(path);
        // An include list is asked like an exclude list: it answers whether the path or one above it matches.
        let is_included = self.include.as_ref().is_none_or(|include| include.exclude(&path, Asked::Nothing));
        is_included && !self.exclude.exclude(&path, Asked::Above)
    }
}

fn absolute(path: &TreePath) -> Vec<u8> {
    [b"/", path.as_bytes()].concat()
}

/// Finds what an operator means by the part after the colon in `latest:report.odt`: a path from the root, a path below
/// one of the snapshot's roots, or the end of exactly one stored path.
pub async fn locate(tree: &SnapshotTree, roots: &[TreePath], wanted: &TreePath) -> Result<TreePath, RepoError> {
    if wanted.is_root() || tree.find(wanted).await?.is_some() {
        return Ok(wanted.clone());
    }
    for root in roots {
        let below = root.below(wanted);
        if tree.find(&below).await?.is_some() {
            return Ok(below);
        }
        // A relative path is stored under its name; the snapshot calls it by its whole path.
        let outside = root.parent().map_or(0, |parent| parent.components().count());
        if let Some(named) = below_name(root, wanted, outside)
            && tree.find(&named).await?.is_some()
        {
            return Ok(named);
        }
    }
    let mut found = ending_in(tree, wanted).await?;
    match (found.len(), found.pop()) {
        (1, Some(path)) => Ok(path),
        (0, _) | (_, None) => Err(RepoError::Missing(format!("path {wanted}"))),
        (_, Some(last)) => {
            found.push(last);
            let names: Vec<_> = found.iter().map(|path| format!("/{path}")).collect();
            Err(RepoError::Ambiguous(format!("{wanted} ({})", names.join(", "))))
        }
    }
}

fn below_name(root: &TreePath, wanted: &TreePath, outside: usize) -> Option<TreePath> {
    let inside = wanted.starts_with(root).then(|| wanted.components().skip(outside))?;
    inside.into_iter().try_fold(TreePath::root(), |path, name| path.join(name).ok())
}

async fn ending_in(tree: &SnapshotTree, wanted: &TreePath) -> Result<Vec<TreePath>, RepoError> {
    let tail: Vec<&[u8]> = wanted.components().collect();
    let mut open = vec![(TreePath::root(), tree.roots().to_vec())];
    let mut found = Vec::new();
    while let Some((directory, trees)) = open.pop() {
        let (entries, _) = tree.entries(&trees).await;
        for entry in entries {
            let Ok(path) = directory.join(&entry.node.name) else { continue };
            if path.components().rev().zip(tail.iter().rev()).filter(|(a, b)| a == *b).count() == tail.len() {
                found.push(path.clone());
                if found.len() == FOUND_MAX {
                    return Ok(found);
                }
            }
            if entry.node.kind == NodeKind::Dir {
                open.push((path, entry.trees));
            }
        }
    }
    Ok(found)
}
