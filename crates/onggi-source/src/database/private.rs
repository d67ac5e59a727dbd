//! What a run keeps on this machine beside the dump: a file with the password for the tools, the name of its folder.
//!
//! Each is a private file in the state directory that begins with the mark, so that another process finds and removes
//! what a dead run left.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::context::{Context, Purpose, RunId};
use crate::marks::{self, failed, remove};
use crate::source::{Remnant, Result, Unit};

/// Ends the name of a file with a password.
pub(super) const SECRET: &str = "secret";
/// Ends the name of a file that names a folder.
pub(super) const PLACE: &str = "place";

/// The state directory of one source.
pub(super) struct Private {
    folder: PathBuf,
    source: String,
}

/// A private file that is removed when this is dropped.
pub(super) struct Guarded {
    path: PathBuf,
}

/// The first line of each file, behind a `#`: a comment to those who read the rest.
#[derive(Serialize, Deserialize)]
struct Mark {
    source: String,
    run: RunId,
    purpose: Purpose,
    unit: Unit,
    made_at: Timestamp,
}

impl Guarded {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // release removes what stayed
    }
}

impl Private {
    pub(super) fn new(folder: PathBuf, source: String) -> Self {
        Self { folder, source }
    }

    /// Names what belongs to this run of the unit.
    pub(super) fn digest(cx: &Context, unit: &Unit) -> String {
        marks::name(&cx.run, cx.purpose, unit)
    }

    /// Writes a private file that bears the mark.
    pub(super) fn write(&self, cx: &Context, unit: &Unit, kind: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(Self::digest(cx, unit)).with_extension(kind);
        let mark = Mark {
            source: self.source.clone(),
            run: cx.run.clone(),
            purpose: cx.purpose,
            unit: unit.clone(),
            made_at: cx.world.now(),
        };
        let write = || -> io::Result<()> {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            remove(&path)?;
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            writeln!(file, "# {}", serde_json::to_string(&mark)?)?;
            file.write_all(text.as_bytes())
        };
        write().map_err(|error| failed("write", &path, &error))?;
        Ok(path)
    }

    /// The same, for as long as the answer lives.
    pub(super) fn guarded(&self, cx: &Context, unit: &Unit, kind: &str, text: &str) -> Result<Guarded> {
        self.write(cx, unit, kind, text).map(|path| Guarded { path })
    }

    /// The text of the file of this kind that bears the mark, without the mark.
    pub(super) fn read(&self, cx: &Context, unit: &Unit, kind: &str) -> Result<Option<String>> {
        let path = self.folder.join(Self::digest(cx, unit)).with_extension(kind);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.split_once('\n').map(|(_, rest)| rest.trim_end().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    /// Removes every file that bears the mark.
    pub(super) fn forget(&self, cx: &Context, unit: &Unit) -> Result<()> {
        for kind in [SECRET, PLACE] {
            let path = self.folder.join(Self::digest(cx, unit)).with_extension(kind);
            remove(&path).map_err(|error| failed("remove", &path, &error))?;
        }
        Ok(())
    }

    /// The files that lie there, by their marks. What is no file of ours is none of our business.
    pub(super) fn remnants(&self) -> Result<Vec<Remnant>> {
        let paths = marks::listed(&self.folder).map_err(|error| failed("list", &self.folder, &error))?;
        Ok(paths.iter().filter_map(|path| self.remnant(path)).collect())
    }

    /// What others left bears another source's name.
    fn remnant(&self, path: &Path) -> Option<Remnant> {
        let what = match path.extension()?.to_str()? {
            SECRET => "a file with the database's password",
            PLACE => "a working folder, maybe with a scratch server",
            _ => return None,
        };
        let text = std::fs::read_to_string(path).ok()?; // gone meanwhile
        let mark: Mark = serde_json::from_str(text.lines().next()?.strip_prefix("# ")?)
            .ok()
            .filter(|mark: &Mark| mark.source == self.source)?;
        Some(Remnant {
            unit: mark.unit,
            mark: Some((mark.run, mark.purpose)),
            seen_at: mark.made_at,
            complete: false,
            what: what.to_owned(),
        })
    }
}
