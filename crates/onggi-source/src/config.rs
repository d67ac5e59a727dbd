//! The configuration of a source: a closed list of kinds, each checked as a whole before anything is touched.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::carrier::Launcher;
use crate::command::CommandConfig;
use crate::paths::PathsConfig;
use crate::source::Source;

/// One configured source, as the configuration file has it below `sources:`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SourceConfig {
    /// Files and directories of this machine.
    Paths(PathsConfig),
    /// The output of a command as one file.
    Command(CommandConfig),
}

/// What a source is built with beside its configuration: this machine, as the engine sees it.
#[derive(Clone)]
pub struct Surroundings {
    /// The source's name in the configuration.
    pub source: String,
    /// This machine's host name.
    pub host: String,
    /// What relative paths start from; absolute.
    pub working_directory: PathBuf,
    /// A private directory for the marks of this source; made when first needed.
    pub state: PathBuf,
    /// Directories that are never backed up, because onggi writes there itself: a local repository, the cache.
    pub never: Vec<PathBuf>,
    /// The variables that exclude files may name.
    pub environment: BTreeMap<String, String>,
    /// Starts processes.
    pub launcher: Arc<dyn Launcher>,
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {text}")]
pub struct ConfigFault {
    /// The key below the source, with its index in a list: `exclude[2]`.
    pub key: String,
    /// What is wrong, in one line.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}

impl SourceConfig {
    /// The kind's name, as it is written in the configuration and in the tag `kind:`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Paths(_) => "paths",
            Self::Command(_) => "command",
        }
    }

    /// Everything that is wrong; touches nothing.
    pub fn faults(&self) -> Vec<ConfigFault> {
        match self {
            Self::Paths(config) => config.faults(),
            Self::Command(config) => config.faults(),
        }
    }

    /// The running source, or everything that is wrong; touches nothing.
    pub fn build(&self, surroundings: Surroundings) -> Result<Box<dyn Source>, Vec<ConfigFault>> {
        let faults = self.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(match self {
            Self::Paths(config) => Box::new(crate::paths::Paths::new(config.clone(), surroundings)?),
            Self::Command(config) => Box::new(crate::command::Command::new(config.clone(), surroundings)),
        })
    }
}

impl ConfigFault {
    pub(crate) fn new(key: impl Into<String>, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { key: key.into(), text: text.into(), remedy: remedy.into() }
    }
}
