//! What the notes of a snapshot say of its files: their SHA-256, good for one length and one time. The next capture of an
//! unchanged file needs no machine to hash it again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::restore::shown;
use crate::bosh::Artifact;
use crate::source::Base;

/// Most files that the next capture is told of; with more it asks the machines again.
const FILES_MAX: usize = 200_000;

/// Length in bytes, time, SHA-256.
type Seen = (u64, Timestamp, String);

/// By artifact and name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Known(BTreeMap<String, BTreeMap<String, Seen>>);

impl Known {
    /// What the last snapshot says.
    pub(super) fn of(base: &Base) -> Self {
        serde_json::from_value(base.facts.notes["files"].clone()).unwrap_or_default()
    }

    /// The hash of a file, if it is as it was.
    pub(super) fn sum(&self, artifact: &Artifact, name: &str, is: (u64, Timestamp)) -> Option<&String> {
        let (length, time, sum) = self.0.get(&shown(artifact))?.get(name)?;
        (is == (*length, *time)).then_some(sum)
    }

    pub(super) fn note(&mut self, artifact: &Artifact, files: impl Iterator<Item = (String, Seen)>) {
        self.0.entry(shown(artifact)).or_default().extend(files);
    }

    /// For the notes.
    pub(super) fn value(&self) -> serde_json::Value {
        let count: usize = self.0.values().map(BTreeMap::len).sum();
        if count > FILES_MAX { serde_json::Value::Null } else { serde_json::json!(self) }
    }
}
