//! Certificates, keys and settings of a control plane, stored beside the snapshot of its etcd: without them a restored
//! cluster trusts nobody, and its encrypted secrets stay so.
//!
//! `listing` says which files they are, `tree` reads them, `check` looks whether they would do: keys belong to
//! their certificates (`certificate`, `kubeconfig`), those to their authorities, and nobody else reads them;
//! `encryption` knows what Kubernetes encrypts with. `restore` brings them back. Contents are wiped from memory when
//! they were pushed, and never shown.

mod certificate;
mod check;
mod encryption;
mod kubeconfig;
mod listing;
pub(super) mod restore;
#[cfg(test)]
mod tests;
mod tree;

use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use self::check::{Finding, Weight};
use self::tree::Tree;
use super::Etcd;
use super::access::Access;
use super::config::Pki;
use crate::context::{Context, Problem};
use crate::item::{Content, Item, Metadata};
use crate::path::TreePath;
use crate::source::{Items, Result, SourceError};

/// Name of the folder below `/etcd/<cluster>`; within it each file has the path that it has on the node.
pub const FOLDER: &str = "control-plane";
/// Of a snapshot that has it.
pub const TAG: &str = "pki";

/// What the notes say of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PkiNotes {
    /// Number of files.
    pub files: u64,
    /// Where the API server is told what to encrypt with; `None` if it is not told so.
    pub encryption: Option<String>,
    /// Key management services that are needed to decrypt; their keys are not in the snapshot.
    pub kms: Vec<String>,
    /// What was found to be wrong, or to be known.
    pub findings: Vec<String>,
}

/// Files in memory, and what is to be said of them.
pub(super) struct Set {
    tree: Tree,
    encryption: Option<String>,
    kms: Vec<String>,
    findings: Vec<Finding>,
    /// Given back when the last was pushed.
    _memory: Option<OwnedSemaphorePermit>,
}

impl Set {
    /// Reads and checks the files; `None` where there are none to be stored.
    pub async fn gather(etcd: &Etcd, cx: &Context, access: &Access) -> Result<Option<Self>> {
        let config = &etcd.config;
        let takes_pki = match config.pki {
            Pki::Never => false,
            Pki::Always => true,
            Pki::Auto => is_own(etcd, access).await,
        };
        if !takes_pki && config.also_files.is_empty() {
            return Ok(None);
        }
        let (root, also_files) = (config.on_node("/".as_ref()), config.also_files.clone());
        let listed = in_thread(move || listing::list(&root, takes_pki, &also_files)).await?;
        let memory = cx.unless_stopped(cx.memory.clone().acquire_many_owned(listed.bytes())).await?.ok();
        let now = cx.world.now();
        let gathered = in_thread(move || {
            let encryption = listed.encryption.clone();
            let tree = listed.read();
            let (findings, kms) = check::check(&tree, encryption.as_ref(), now);
            let encryption = encryption.map(|path| format!("/{path}"));
            Self { tree, encryption, kms, findings, _memory: memory }
        });
        gathered.await.map(Some)
    }

    /// Tells what was found: what must be mended as a problem, the rest where somebody asked.
    pub fn report(&self, cx: &Context, asked: Asked) {
        for Finding { class, weight, text } in &self.findings {
            match (weight, asked) {
                (Weight::Problem, _) => cx.problem(Problem { class, path: None, text: text.clone() }),
                (Weight::Advice, Asked::Yes) => tracing::warn!("{text}"),
                // The preflight has said it, and it stands in the notes.
                (Weight::Advice, Asked::No) => {}
            }
        }
    }

    pub fn notes(&self) -> PkiNotes {
        PkiNotes {
            files: self.tree.files.len() as u64,
            encryption: self.encryption.clone(),
            kms: self.kms.clone(),
            findings: self.findings.iter().map(|finding| finding.text.clone()).collect(),
        }
    }

    /// Pushes all below the folder.
    pub async fn push(&self, out: &dyn Items, root: &TreePath, taken_at: jiff::Timestamp) -> Result<()> {
        let top = root.join(FOLDER).map_err(|error| SourceError::Denied(error.to_string()))?;
        let own = Metadata { mode: 0o700, mtime: taken_at, ..Metadata::default() };
        out.push(Item::directory(top.clone()).with_metadata(own), Content::None).await?;
        for (path, metadata) in &self.tree.directories {
            let item = Item::directory(top.below(path)).with_metadata(metadata.clone());
            out.push(item, Content::None).await?;
        }
        for (path, file) in &self.tree.files {
            let item = Item::file(top.below(path)).with_metadata(file.metadata.clone()).secret();
            out.push(item, Content::Inline(file.content.clone())).await?;
        }
        for path in self.tree.directories.keys().rev() {
            out.leave(&top.below(path)).await?;
        }
        out.leave(&top).await
    }
}

/// Whether somebody asked how things stand, or a backup is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Yes,
    No,
}

/// Whether this machine is a control-plane node of the cluster that is read: another cluster's keys would be of no use.
async fn is_own(etcd: &Etcd, access: &Access) -> bool {
    let path = etcd.config.on_node(listing::ETCD_AUTHORITY.as_ref());
    let node = tokio::fs::read(path).await.ok();
    node.is_some() && node == access.ca
}

/// Reading some dozens of small files is nothing to wait for one by one.
async fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| SourceError::Incomplete(format!("read the control plane's files: {error}")))
}
