//! Kind `etcd`: the key-value store of a Kubernetes control plane, as a snapshot of one member that was read to its
//! confirmed end, checked page by page and key by key, and compared with what the members say.
//!
//! [`manifest`] reads the static pod of a member, `access` gathers what is needed to enter, `cluster` asks all members
//! how they are and `select` chooses one. `snapshot` reads it into the spool, `verify` proves it with [`bolt`],
//! [`content`] and [`hashkv`], `capture` stores it with the [`model::Notes`] that a restore reads.

mod access;
mod blank;
pub mod bolt;
mod capture;
mod client;
mod cluster;
mod config;
pub mod content;
pub mod hashkv;
mod import;
pub mod key_value;
pub mod manifest;
pub mod model;
mod pb;
mod select;
mod snapshot;
pub mod survey;
mod verify;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;

use crate::config::Surroundings;
use crate::context::{Context, UnitId};
use crate::path::TreePath;
use crate::source::{Base, Capabilities, Capture, Image, Result, Source, SourceError, Unit};

use self::client::{Dial, Grpc};
use self::cluster::Cluster;
pub use self::config::{AuthConfig, EtcdConfig, PkiMode, TlsConfig};
pub use self::import::SnapshotFiles;
use self::model::Notes;

/// A configured cluster. Its one unit is named by the cluster's id.
pub struct Etcd {
    config: EtcdConfig,
    surroundings: Surroundings,
    dial: Arc<dyn Dial>,
}

impl Etcd {
    /// A source over a configuration without faults; touches nothing.
    pub fn new(config: EtcdConfig, surroundings: Surroundings) -> Self {
        Self { config, surroundings, dial: Arc::new(Grpc) }
    }

    /// The cluster's name: the snapshot's host name and the directory below `/etcd`.
    fn cluster(&self) -> &str {
        self.config.cluster.as_deref().unwrap_or(&self.surroundings.source)
    }

    /// The virtual root of the cluster: `etcd/<cluster>`.
    fn root(&self) -> Result<TreePath> {
        let root = TreePath::new("etcd").and_then(|root| root.join(self.cluster()));
        root.map_err(|error| SourceError::Denied(format!("name the cluster: {error}")))
    }
}

#[async_trait]
impl Source for Etcd {
    /// A full needs no base but looks at it: bytes differ between members, so that it stays with the member of last time.
    fn capabilities(&self) -> Capabilities {
        Capabilities { freezes: false, image: Image::Fixed, chains: true, destinations: &[] }
    }

    async fn preflight(&self, cx: &Context) -> Result<()> {
        let cluster = Cluster::reach(self, cx, None).await?;
        cluster.advice().into_iter().for_each(|problem| cx.problem(problem));
        Ok(())
    }

    async fn discover(&self, cx: &Context) -> Result<Vec<Unit>> {
        let cluster = Cluster::reach(self, cx, None).await?;
        Ok(vec![Unit { id: UnitId::new(cluster.id.to_string()), name: self.cluster().to_owned() }])
    }

    /// Returns when a whole snapshot lies in the spool.
    async fn capture<'a>(&'a self, cx: &Context, unit: &Unit, base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        let notes = base.and_then(|base| serde_json::from_value::<Notes>(base.facts.notes.clone()).ok());
        let last = notes.map(|notes| (notes.member_id, notes.server_version));
        let cluster = Cluster::reach(self, cx, last).await?;
        if cluster.id.to_string() != unit.id.as_str() {
            return Err(SourceError::Gone);
        }
        Ok(Box::new(capture::take(self, cx, cluster).await?))
    }
}
