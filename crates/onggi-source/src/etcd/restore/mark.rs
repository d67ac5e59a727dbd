//! What a run makes on this machine, noted before it is made, so that another process can remove it: a file of the run's
//! name in the source's private directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::directory;
use crate::context::{Purpose, RunId};
use crate::marks;
use crate::source::{Remnant, Unit};

const PREFIX: &str = "etcd-restore-";

/// A run's note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::etcd) struct Mark {
    pub run: RunId,
    pub purpose: Purpose,
    pub unit: Unit,
    pub began_at: Timestamp,
    /// Data directories, or others.
    pub directories: Vec<Marked>,
}

/// A directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::etcd) struct Marked {
    pub path: PathBuf,
    /// The run made the directory itself.
    pub is_made: bool,
    /// Name of the folder that is moved into it.
    pub holds: String,
    /// That folder is in place: that of the run, not one that was there before.
    pub is_published: bool,
}

fn file(state: &Path, run: &RunId) -> PathBuf {
    state.join(format!("{PREFIX}{run}.json"))
}

impl Mark {
    /// Writes it, instead of an earlier one.
    pub fn save(&self, state: &Path) -> io::Result<()> {
        marks::write(&file(state, &self.run), &serde_json::to_vec(self)?)
    }

    /// Those of all runs.
    pub fn load_all(state: &Path) -> io::Result<Vec<Self>> {
        let mut found = Vec::new();
        for path in marks::listed(state)? {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.strip_prefix(PREFIX).is_some_and(|run| run.strip_suffix(".json").is_some()) {
                found.extend(serde_json::from_slice::<Self>(&fs::read(&path)?).ok());
            }
        }
        Ok(found)
    }

    /// Removes what the run made, and the note.
    pub fn drop_all(self, state: &Path) -> io::Result<()> {
        for marked in &self.directories {
            directory::remove(&marked.path, &self.run, marked.is_published.then_some(&*marked.holds))?;
            if marked.is_made {
                // Whatever else was put there meanwhile stays.
                let _ = fs::remove_dir(&marked.path);
            }
        }
        self.forget(state)
    }

    /// Removes the note alone: what was made is the operator's from now on.
    pub fn forget(&self, state: &Path) -> io::Result<()> {
        fs::remove_file(file(state, &self.run))
    }

    /// For people.
    pub fn remnant(self) -> Remnant {
        let paths: Vec<_> = self.directories.iter().map(|marked| marked.path.display().to_string()).collect();
        Remnant {
            unit: self.unit,
            mark: Some((self.run, self.purpose)),
            seen_at: self.began_at,
            complete: false,
            what: format!("directory {}", paths.join(", ")),
        }
    }
}
