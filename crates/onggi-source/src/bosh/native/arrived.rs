//! What has arrived of artifacts, file by file, in a file beside the mark on this machine: a drain that goes on compares
//! what it has with it, and asks no machine again for what was proved.
//!
//! Like every journal it costs nothing but time when it is lost: what it does not know is proved anew.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::restore::shown;
use crate::bosh::Artifact;
use crate::bosh::tar::Checksums;
use crate::marks;
use crate::source::Result;

/// One line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    /// Artifact, file, SHA-256.
    File(String, String, String),
    /// All that has arrived of this artifact is what its machine has.
    Proved(String),
}

/// What has arrived of one artifact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) sums: Checksums,
    /// The machine said the same.
    pub(super) is_proved: bool,
}

/// What has arrived of all of them.
pub(super) struct Arrived(Mutex<State>);

struct State {
    file: File,
    parts: BTreeMap<String, Part>,
}

impl Arrived {
    /// Reads what an earlier drain of the same artifacts noted; goes on behind it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        Self::read(path).map_err(|error| marks::failed("open", path, &error))
    }

    fn read(path: &Path) -> io::Result<Self> {
        let mut parts: BTreeMap<String, Part> = BTreeMap::new();
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let text = std::fs::read(path)?;
        // One that was cut is none.
        for line in text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()) {
            match line {
                Line::File(artifact, name, sum) => {
                    let part = parts.entry(artifact).or_default();
                    part.is_proved = false;
                    part.sums.insert(name, sum);
                }
                Line::Proved(artifact) => parts.entry(artifact).or_default().is_proved = true,
            }
        }
        if text.last().is_some_and(|byte| *byte != b'\n') {
            file.write_all(b"\n")?;
        }
        Ok(Self(Mutex::new(State { file, parts })))
    }

    pub(super) fn of(&self, artifact: &Artifact) -> Part {
        self.state().parts.get(&shown(artifact)).cloned().unwrap_or_default()
    }

    /// A file has arrived, and with it the artifact is to be proved again.
    pub(super) fn note(&self, artifact: &Artifact, name: &str, sum: &str) {
        let (mut state, artifact) = (self.state(), shown(artifact));
        state.write(&Line::File(artifact.clone(), name.to_owned(), sum.to_owned()));
        let part = state.parts.entry(artifact).or_default();
        part.is_proved = false;
        part.sums.insert(name.to_owned(), sum.to_owned());
    }

    pub(super) fn prove(&self, artifact: &Artifact) {
        let (mut state, artifact) = (self.state(), shown(artifact));
        state.write(&Line::Proved(artifact.clone()));
        state.parts.entry(artifact).or_default().is_proved = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, line: &Line) {
        let Ok(mut line) = serde_json::to_vec(line) else { return };
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line) {
            tracing::debug!(%error, "what has arrived is not noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_known_afterwards_and_a_line_that_was_cut_is_not() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x");
        let job = |job: &str| Artifact::Instance { group: "db".into(), index: "0".into(), job: job.to_owned() };
        let arrived = Arrived::open(&path).unwrap();
        arrived.note(&job("a"), "./x", "1");
        arrived.prove(&job("a"));
        arrived.note(&job("b"), "./x", "2");
        drop(arrived);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{{\"file\":[\"db/0/b\",\"./y\"")).unwrap();
        let again = Arrived::open(&path).unwrap();
        let part = |sum: &str, is_proved| Part { sums: [("./x".to_owned(), sum.to_owned())].into(), is_proved };
        assert_eq!((again.of(&job("a")), again.of(&job("b"))), (part("1", true), part("2", false)));
        again.note(&job("a"), "./z", "3");
        drop(again);
        assert!(!Arrived::open(&path).unwrap().of(&job("a")).is_proved, "more came");
    }
}
