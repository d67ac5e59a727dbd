//! The run journal: a local file that lets a run go on where an earlier one was interrupted. It names the packs that
//! reached the storage, the files that were finished, and how far long files came. Each record is one line of JSON; a
//! torn last line is ignored. Everything it says is checked against the repository before it is used.

use crate::{
    Repository,
    error::Result,
    format::{BlobId, Node, PackId, RepositoryId},
    scratch::Scratch,
};
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// How far a long file came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// What says that the source's content is still the same.
    pub token: String,
    /// Chunks up to the last cut: id and length in bytes.
    pub chunks: Vec<(BlobId, u64)>,
}

impl Checkpoint {
    /// Where reading goes on.
    pub fn offset(&self) -> u64 {
        self.chunks.iter().map(|(_, length)| length).sum()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Record<'a> {
    Repository(RepositoryId),
    Pack(PackId),
    /// Path in hex, since it may be any bytes; the node's JSON as in its tree.
    File(Cow<'a, str>, Cow<'a, str>),
    Checkpoint(Cow<'a, str>, Checkpoint),
}

/// The journal that this run writes.
pub(super) struct Journal {
    file: Mutex<Option<Scratch>>,
    path: PathBuf,
}

/// What an earlier run left: its records, and the packs it stored.
type Left = (Earlier, Vec<PackId>);

/// The records of an earlier run.
pub(super) struct Earlier {
    /// Hash of a path to the place of its record.
    files: HashMap<u64, (u64, u32)>,
    checkpoints: HashMap<u64, (u64, u32)>,
    file: Mutex<Scratch>,
}

impl Journal {
    /// Opens a journal and reads what an earlier run left, with the packs it stored. One of another repository is
    /// started anew.
    pub fn open(path: &Path, repo: &Repository) -> Result<(Self, Option<Left>)> {
        let mut file = Scratch::kept(path)?;
        let text = file.read_all()?;
        let earlier = read(&text, repo.id());
        if earlier.is_none() {
            drop(file);
            Scratch::remove(path)?;
            file = Scratch::kept(path)?;
        }
        let mut reader = Scratch::kept(path)?;
        if text.last().is_some_and(|&byte| byte != b'\n') && earlier.is_some() {
            file.append(b"\n")?;
        }
        let journal = Self { file: Mutex::new(Some(file)), path: path.to_path_buf() };
        if earlier.is_none() {
            journal.write(&Record::Repository(repo.id()));
            return Ok((journal, None));
        }
        reader.read_all()?;
        let found = earlier
            .map(|(files, checkpoints, packs)| (Earlier { files, checkpoints, file: Mutex::new(reader) }, packs));
        Ok((journal, found))
    }

    /// A pack reached the storage.
    pub fn pack(&self, id: PackId) {
        self.write(&Record::Pack(id));
    }

    /// A file was finished; `node` is its JSON.
    pub fn file(&self, path: &[u8], node: &[u8]) {
        self.write(&Record::File(hex(path).into(), String::from_utf8_lossy(node)));
    }

    /// A long file came so far.
    pub fn checkpoint(&self, path: &[u8], checkpoint: Checkpoint) {
        self.write(&Record::Checkpoint(hex(path).into(), checkpoint));
    }

    /// A failing journal costs nothing but the resume: it is given up with a warning.
    fn write(&self, record: &Record<'_>) {
        let Ok(mut line) = serde_json::to_vec(record) else { return };
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(error)) = file.as_mut().map(|file| file.append(&line)) {
            tracing::warn!(error = crate::error::chain(&error), "run journal is given up");
            *file = None;
        }
    }

    /// The run is committed: nothing is left to resume.
    pub fn remove(&self) -> Result<()> {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Scratch::remove(&self.path)
    }
}

impl Earlier {
    /// The node of a file that was finished.
    pub fn find(&self, path: &[u8]) -> Option<Node> {
        match self.record(&self.files, path)? {
            Record::File(_, node) => serde_json::from_str(&node).ok(),
            _ => None,
        }
    }

    /// How far a long file came.
    pub fn checkpoint(&self, path: &[u8]) -> Option<Checkpoint> {
        match self.record(&self.checkpoints, path)? {
            Record::Checkpoint(_, checkpoint) => Some(checkpoint),
            _ => None,
        }
    }

    fn record(&self, places: &HashMap<u64, (u64, u32)>, path: &[u8]) -> Option<Record<'static>> {
        let hex = hex(path);
        let (at, length) = *places.get(&key(&hex))?;
        let line = self.file.lock().unwrap_or_else(PoisonError::into_inner).read(at, length as usize).ok()?;
        match serde_json::from_slice(&line).ok()? {
            Record::File(path, node) if path == hex => Some(Record::File(path, node)),
            Record::Checkpoint(path, point) if path == hex => Some(Record::Checkpoint(path, point)),
            _ => None,
        }
    }
}

type Places = HashMap<u64, (u64, u32)>;

/// `None` if it is not a journal of this repository.
fn read(text: &[u8], repository: RepositoryId) -> Option<(Places, Places, Vec<PackId>)> {
    let (mut files, mut checkpoints, mut packs) = (Places::new(), Places::new(), Vec::new());
    let mut at = 0;
    let mut is_ours = false;
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let place = (at, line.len() as u32);
        at += line.len() as u64;
        match serde_json::from_slice(line) {
            Ok(Record::Repository(id)) => is_ours = id == repository,
            Ok(Record::Pack(id)) => packs.push(id),
            Ok(Record::File(path, _)) => drop(files.insert(key(&path), place)),
            Ok(Record::Checkpoint(path, _)) => drop(checkpoints.insert(key(&path), place)),
            Err(_) => {}
        }
    }
    is_ours.then_some((files, checkpoints, packs))
}

fn key(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

fn hex(path: &[u8]) -> String {
    path.iter().fold(String::with_capacity(2 * path.len()), |mut text, byte| {
        text.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])));
        text
    })
}
