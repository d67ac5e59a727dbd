//! Kind `etcd`: the key-value store of a Kubernetes control plane, as a snapshot of one member that was read to its
//! confirmed end, checked page by page and key by key, and compared with what the members say.
//!
//! [`manifest`] reads the static pod of a member; [`model`] holds what all parts share.

mod config;
pub mod manifest;
pub mod model;

use async_trait::async_trait;

use crate::config::Surroundings;
use crate::context::Context;
use crate::source::{Base, Capabilities, Capture, Image, Result, Source, SourceError, Unit};

pub use self::config::{AuthConfig, EtcdConfig, PkiMode, TlsConfig};
use self::manifest::Manifest;

/// A configured cluster. Its one unit is named by the cluster's id.
pub struct Etcd {
    config: EtcdConfig,
    surroundings: Surroundings,
}

impl Etcd {
    /// A source over a configuration without faults; touches nothing.
    pub fn new(config: EtcdConfig, surroundings: Surroundings) -> Self {
        Self { config, surroundings }
    }
}

#[async_trait]
impl Source for Etcd {
    fn capabilities(&self) -> Capabilities {
        Capabilities { freezes: false, image: Image::Fixed, chains: self.config.deltas, destinations: &[] }
    }

    async fn preflight(&self, cx: &Context) -> Result<()> {
        cx.check()?;
        if let Some(path) = self.config.manifest() {
            Manifest::load(&self.surroundings.working_directory.join(path)).await?;
        }
        Err(SourceError::Unsupported("a snapshot of a running cluster"))
    }

    async fn discover(&self, cx: &Context) -> Result<Vec<Unit>> {
        cx.check()?;
        Err(SourceError::Unsupported("a snapshot of a running cluster"))
    }

    async fn capture<'a>(&'a self, cx: &Context, _unit: &Unit, _base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        cx.check()?;
        Err(SourceError::Unsupported("a snapshot of a running cluster"))
    }
}
