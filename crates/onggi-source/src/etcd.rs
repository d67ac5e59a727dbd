//! Kind `etcd`: the key-value store of a Kubernetes control plane, as a snapshot of one member that was read to its
//! confirmed end, checked page by page and key by key, and compared with what the members say.
//!
//! [`manifest`] reads the static pod of a member, `access` gathers what is needed to enter, `cluster` asks all members
//! how they are and `select` chooses one. `snapshot` reads it into the spool, `tail` is what is stored of it meanwhile,
//! `verify` proves it with [`bolt`], [`content`] and [`hashkv`], `capture` stores it with the [`model::Notes`] that a
//! restore reads, and [`pki`] with what a control plane has beside. [`cronjob`] writes jobs that do so on the control
//! plane itself.

mod access;
mod blank;
pub mod bolt;
mod capture;
mod client;
mod cluster;
mod config;
pub mod content;
pub mod cronjob;
pub mod delta;
mod drill;
pub mod hashkv;
mod import;
pub mod key_value;
pub mod manifest;
pub mod model;
mod pb;
pub mod pki;
mod restore;
mod select;
mod snapshot;
pub mod survey;
mod tail;
mod verify;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;

use crate::config::Surroundings;
use crate::context::{Context, Destination, UnitId};
use crate::path::TreePath;
use crate::source::{
    Base, Capabilities, Capture, Image, Outcome, Remnant, Restore, RestoreRequest, Result, Source, SourceError, Stored,
    Unit,
};

use self::client::{Dial, Grpc};
use self::cluster::Cluster;
pub use self::config::{AuthConfig, EtcdConfig, Pki, TlsConfig};
pub use self::import::SnapshotFiles;
use self::model::Notes;
use self::pki::Asked;
use self::restore::mark::Mark;
pub use self::restore::{BUMP_KUBERNETES, CLUSTER_DEFAULT, Engine, Placement, QUOTA_DEFAULT, RestoreOptions, Until};

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
        Capabilities {
            freezes: false,
            image: Image::Fixed,
            chains: true,
            destinations: &[Destination::Beside, Destination::Scratch],
        }
    }

    async fn preflight(&self, cx: &Context) -> Result<()> {
        let cluster = Cluster::reach(self, cx, None).await?;
        cluster.advice().iter().for_each(|advice| tracing::warn!("{advice}"));
        if let Some(pki) = pki::Set::gather(self, cx, &cluster.access).await? {
            pki.report(cx, Asked::Yes);
        }
        Ok(())
    }

    async fn discover(&self, cx: &Context) -> Result<Vec<Unit>> {
        let cluster = Cluster::reach(self, cx, None).await?;
        Ok(vec![Unit { id: UnitId::new(cluster.id.to_string()), name: self.cluster().to_owned() }])
    }

    /// Returns when a member has begun a snapshot, or, for a group, when a whole one lies in the spool. A stream that
    /// breaks later is begun anew: the snapshot is then of that moment, which its `taken_at` says.
    async fn capture<'a>(&'a self, cx: &Context, unit: &Unit, base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        let notes = base.and_then(|base| serde_json::from_value::<Notes>(base.facts.notes.clone()).ok());
        let last = notes.map(|notes| (notes.member_id, notes.server_version));
        let cluster = Cluster::reach(self, cx, last).await?;
        if cluster.id.to_string() != unit.id.as_str() {
            return Err(SourceError::Gone);
        }
        Ok(Box::new(capture::take(self, cx, cluster).await?))
    }

    /// A capture makes nothing in the cluster; a restore makes directories on this machine.
    async fn release(&self, cx: &Context, _unit: &Unit, outcome: Outcome) -> Result<()> {
        let state = &self.surroundings.state;
        let settle = || match (Mark::load_all(state)?.into_iter().find(|mark| mark.run == cx.run), outcome) {
            (None, _) => Ok(()),
            (Some(mark), Outcome::Kept) => mark.forget(state),
            (Some(mark), Outcome::Dropped) => mark.drop_all(state),
        };
        settle().map_err(|error: std::io::Error| SourceError::Busy(format!("remove what was restored: {error}")))
    }

    async fn remnants(&self, _cx: &Context) -> Result<Vec<Remnant>> {
        let marks = Mark::load_all(&self.surroundings.state);
        let marks = marks.map_err(|error| SourceError::Busy(format!("read what earlier runs noted: {error}")))?;
        Ok(marks.into_iter().map(Mark::remnant).collect())
    }

    async fn restore<'a>(
        &'a self,
        cx: &Context,
        request: &'a RestoreRequest,
        from: &'a dyn Stored,
    ) -> Result<Box<dyn Restore + 'a>> {
        let options: RestoreOptions = request.options()?;
        if let Some(placement) = options.pki {
            return Ok(Box::new(pki::restore::plan(self, cx, request, (placement, options.target), from).await?));
        }
        Ok(Box::new(restore::plan(self, cx, request, options, from).await?))
    }
}
