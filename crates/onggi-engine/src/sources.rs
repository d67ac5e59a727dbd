//! Configured sources, ready for a run: the adapter, and what the engine must know of each unit.

use crate::{
    backup::{FULL_READ_EVERY_DEFAULT, Parents, UnitPlan},
    config::{Config, SourceConfig},
};
use onggi_repo::format::Compression;
use onggi_source::{ConfigFault, Source, Surroundings};
use std::path::PathBuf;

/// A configured source that can run.
pub struct Configured<'a> {
    /// Its name.
    pub name: &'a str,
    /// What the file says of it.
    pub config: &'a SourceConfig,
    /// The adapter.
    pub source: Box<dyn Source>,
    host: String,
    directory: PathBuf,
}

/// Why a source cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SourceFault {
    /// The configuration has none of this name; the text lists those that it has.
    #[error("no source is named {0:?} in the configuration (there are: {1})")]
    Unknown(String, String),
    /// It is of a kind without an adapter.
    #[error("source {0} is of kind {1}, and this build has no adapter for it")]
    WithoutAdapter(String, String),
    /// Its keys do not fit together.
    #[error("source {0}: {list}", list = .1.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Wrong(String, Vec<ConfigFault>),
}

impl Config {
    /// Builds the adapter of a source; touches nothing.
    pub fn source<'a>(&'a self, name: &'a str, surroundings: Surroundings) -> Result<Configured<'a>, SourceFault> {
        if let Some(kind) = self.without_adapter.get(name) {
            return Err(SourceFault::WithoutAdapter(name.to_owned(), kind.clone()));
        }
        let unknown = || {
            let known = self.sources.keys().chain(self.without_adapter.keys()).map(String::as_str);
            SourceFault::Unknown(name.to_owned(), known.collect::<Vec<_>>().join(", "))
        };
        let config = self.sources.get(name).ok_or_else(unknown)?;
        let (host, directory) = (surroundings.host.clone(), surroundings.working_directory.clone());
        let source = config.source.build(surroundings).map_err(|faults| SourceFault::Wrong(name.to_owned(), faults))?;
        Ok(Configured { name, config, source, host, directory })
    }
}

impl Configured<'_> {
    /// Whether each unit is a machine that is backed up apart from the others, and if so, how many at once.
    pub fn apart(&self) -> Option<usize> {
        self.config.source.outline(self.name, &self.directory).apart
    }

    /// What the engine must know of this source's units.
    pub fn plan(&self) -> UnitPlan {
        let outline = self.config.source.outline(self.name, &self.directory);
        UnitPlan {
            source: self.name.to_owned(),
            kind: self.config.source.kind().to_owned(),
            hostname: outline.hostname.unwrap_or_else(|| self.host.clone()),
            paths: outline.paths,
            tags: self.config.tags.clone(),
            excludes: outline.excludes,
            manifest: outline.root,
            chunker: self.config.chunker,
            compression: match self.config.compression {
                None => Compression::DEFAULT,
                Some(0) => Compression::Off,
                Some(level) => Compression::Level(level.into()),
            },
            hold: outline.hold,
            full_read_every: self.config.full_read_every.unwrap_or(FULL_READ_EVERY_DEFAULT),
            rate: self.config.rate,
            time_limit: self.config.time_limit,
            parents: Parents::Newest,
            time: None,
            journal: None,
        }
    }
}
