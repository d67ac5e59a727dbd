//! `.onggi/manifest.json` in a snapshot's virtual root: what a capture knew of itself, the versions of its items, and
//! the group that it was made with. Kinds whose trees equal restic's have none.

use onggi_repo::{
    RepoError, Repository,
    format::{BlobId, Node, Snapshot},
};
use onggi_source::{Facts, TreePath, Unit};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Directory of our own files in a virtual root.
pub const FOLDER: &str = ".onggi";
/// Name of the manifest in it.
pub const FILE: &str = "manifest.json";
/// Name of the list of problems in it.
pub const ERRORS_FILE: &str = "errors.json";
/// The longest manifest that is read, in bytes.
const LENGTH_MAX: u64 = 256 << 20;

/// What is stored of a capture beside its items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// Version of this format: 1.
    pub schema: u32,
    /// Kind of the source.
    pub kind: String,
    /// Its name in the configuration.
    pub source: String,
    /// Which unit.
    pub unit: Unit,
    /// The run that made it.
    pub run: String,
    /// What the capture knew of itself.
    pub facts: Facts,
    /// All units of the window; one that stands alone has itself.
    pub group: Vec<MemberName>,
    /// Items whose source has a version for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<ItemToken>,
    /// Runs since everything was read that the source said is unchanged; 0: this one did.
    #[serde(default)]
    pub runs_since_full_read: u32,
    /// Items that are keys or passwords: refused by an unencrypted export, never previewed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<TreePath>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemberName {
    /// The source's name.
    pub source: String,
    /// The unit.
    pub unit: Unit,
}

/// The version of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ItemToken {
    /// Which item.
    pub path: TreePath,
    /// Its token, in hexadecimal digits.
    pub token: String,
}

impl Manifest {
    /// Reads the manifest below a virtual root; `None` where there is none.
    pub async fn load(repo: &Repository, tree: BlobId, root: &TreePath) -> Result<Option<Self>, RepoError> {
        let Some(node) = find(repo, tree, root).await? else { return Ok(None) };
        let reader = repo.content_reader(node.chunks())?;
        let length = usize::try_from(reader.len().min(LENGTH_MAX)).unwrap_or(0);
        let mut json = vec![0; length];
        let count = reader.read_at(0, &mut json).await?;
        match serde_json::from_slice(&json[..count]) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) => {
                tracing::warn!(%error, "manifest is not readable and counts as absent");
                Ok(None)
            }
        }
    }

    /// Reads the manifest of a snapshot, below the one root that it names or in its root directory.
    pub async fn of(repo: &Repository, snapshot: &Snapshot) -> Result<Option<Self>, RepoError> {
        let roots = snapshot.paths.iter().filter_map(|path| TreePath::new(path.trim_matches('/')).ok());
        for root in roots.chain([TreePath::root()]) {
            if let Some(manifest) = Self::load(repo, snapshot.tree, &root).await? {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }

    /// The versions of the items by path.
    pub(super) fn versions(&self) -> HashMap<TreePath, Vec<u8>> {
        let token = |one: &ItemToken| Some((one.path.clone(), from_hex(&one.token)?));
        self.tokens.iter().filter_map(token).collect()
    }
}

async fn find(repo: &Repository, mut tree: BlobId, root: &TreePath) -> Result<Option<Node>, RepoError> {
    let mut components = root.components().map(<[u8]>::to_vec).collect::<Vec<_>>();
    components.push(FOLDER.into());
    for component in components {
        match repo.tree(tree).await?.find(&component).and_then(|node| node.subtree) {
            Some(subtree) => tree = subtree,
            None => return Ok(None),
        }
    }
    Ok(repo.tree(tree).await?.find(FILE.as_bytes()).cloned())
}

/// Bytes from their hexadecimal digits.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use onggi_source::hex::hexadecimal;

    use super::*;

    #[test]
    fn hexadecimal_digits_come_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&hexadecimal(&bytes)), Some(bytes));
        assert_eq!((from_hex("0"), from_hex("zz"), from_hex("")), (None, None, Some(Vec::new())));
    }
}
