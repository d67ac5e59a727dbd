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

/// A piece of how far a long file came: the chunks since the checkpoint before.
#[derive(Serialize, Deserialize)]
struct Checkpoint<'a> {
    /// What says that the source's content is still the same.
    token: Cow<'a, str>,
    /// How many chunks come before these.
    before: usize,
    /// Id and length in bytes.
    chunks: Cow<'a, [(BlobId, u64)]>,
}

/// Chunks in one record; it keeps lines short.
const CHUNKS_MAX: usize = 4096;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Record<'a> {
    Repository(RepositoryId),
    Pack(PackId),
    /// Path in hex, since it may be any bytes; the node's JSON as in its tree; the source's token for the content.
    File(Cow<'a, str>, Cow<'a, str>, Option<Cow<'a, str>>),
    Checkpoint(Cow<'a, str>, Checkpoint<'a>),
}

/// A file that an earlier run finished.
#[derive(Debug)]
pub(super) struct FinishedFile {
    pub node: Node,
    /// The source's token for the content, if it had one.
    pub token: Option<String>,
}

/// Bytes of records that are written in one go. A machine that stops loses no more than these, and then only time.
const PENDING_MAX: usize = 64 << 10;

/// The journal that this run writes.
pub(super) struct Journal {
    /// `None` once it is given up or removed.
    writer: Mutex<Option<Writer>>,
    path: PathBuf,
}

struct Writer {
    file: Scratch,
    pending: Vec<u8>,
}

/// What an earlier run left: its records, and the packs it stored.
type Left = (Earlier, Vec<PackId>);

/// The records of an earlier run.
pub(super) struct Earlier {
    records: Records,
    file: Mutex<Scratch>,
}

impl Journal {
    /// Opens a journal and reads what an earlier run left, with the packs it stored. One of another repository is
    /// started anew.
    pub fn open(path: &Path, repo: &Repository) -> Result<(Self, Option<Left>)> {
        let mut file = Scratch::kept(path)?;
        let mut records = Records::default();
        let is_torn = !file.lines(|place, line| records.take(place, line, repo.id()))?;
        if !records.is_ours {
            drop(file);
            Scratch::remove(path)?;
            let journal = Self::writing(Scratch::kept(path)?, path);
            journal.write(&Record::Repository(repo.id()), When::Now);
            return Ok((journal, None));
        }
        if is_torn {
            file.append(b"\n")?;
        }
        let packs = std::mem::take(&mut records.packs);
        let earlier = Earlier { records, file: Mutex::new(Scratch::kept(path)?) };
        Ok((Self::writing(file, path), Some((earlier, packs))))
    }

    fn writing(file: Scratch, path: &Path) -> Self {
        Self { writer: Mutex::new(Some(Writer { file, pending: Vec::new() })), path: path.to_path_buf() }
    }

    /// A pack reached the storage.
    pub fn pack(&self, id: PackId) {
        self.write(&Record::Pack(id), When::Now);
    }

    /// A file was finished; `node` is its JSON, `token` the source's for its content.
    pub fn file(&self, path: &[u8], node: &[u8], token: Option<&str>) {
        self.write(&Record::File(hex(path).into(), String::from_utf8_lossy(node), token.map(Cow::from)), When::Full);
    }

    /// A long file came so much further. The chunks follow `before` others.
    pub fn checkpoint(&self, path: &[u8], token: &str, before: usize, chunks: &[(BlobId, u64)]) {
        let path = hex(path);
        for (number, some) in chunks.chunks(CHUNKS_MAX).enumerate() {
            let before = before + number * CHUNKS_MAX;
            let piece = Checkpoint { token: token.into(), before, chunks: some.into() };
            self.write(&Record::Checkpoint((&path).into(), piece), When::Now);
        }
    }

    /// A failing journal costs nothing but the resume: it is given up with a warning.
    fn write(&self, record: &Record<'_>, when: When) {
        let Ok(line) = serde_json::to_vec(record) else { return };
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(error)) = writer.as_mut().map(|writer| writer.take(&line, when)) {
            tracing::warn!(error = crate::error::chain(&error), "run journal is given up");
            *writer = None;
        }
    }

    /// Writes nothing more.
    pub fn close(&self) {
        drop(self.writer.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// The run is committed: nothing is left to resume.
    pub fn remove(&self) -> Result<()> {
        if let Some(mut writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            writer.pending.clear();
        }
        Scratch::remove(&self.path)
    }
}

/// When records reach the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    /// When there are enough of them.
    Full,
}

impl Writer {
    fn take(&mut self, line: &[u8], when: When) -> Result<()> {
        self.pending.extend_from_slice(line);
        self.pending.push(b'\n');
        if when == When::Now || self.pending.len() >= PENDING_MAX { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.file.append(&self.pending)?;
        self.pending.clear();
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::debug!(error = crate::error::chain(&error), "last records of the run journal are not written");
        }
    }
}

impl Earlier {
    /// A file that was finished.
    pub fn find(&self, path: &[u8]) -> Option<FinishedFile> {
        let hex = hex(path);
        match self.record(*self.records.files.get(&key(&hex))?)? {
            Record::File(of, node, token) if of == hex => {
                let node = serde_json::from_str(&node).ok()?;
                Some(FinishedFile { node, token: token.map(Cow::into_owned) })
            }
            _ => None,
        }
    }

    /// The chunks that a long file came to while its token was this one, without a gap from the start.
    pub fn checkpoint(&self, path: &[u8], token: &str) -> Vec<(BlobId, u64)> {
        let hex = hex(path);
        let mut chunks = Vec::new();
        for place in self.records.checkpoints.get(&key(&hex)).into_iter().flatten() {
            match self.record(*place) {
                Some(Record::Checkpoint(of, piece))
                    if of == hex && piece.token == token && piece.before == chunks.len() =>
                {
                    chunks.extend_from_slice(&piece.chunks);
                }
                _ => break,
            }
        }
        chunks
    }

    fn record(&self, (at, length): Place) -> Option<Record<'static>> {
        let line = self.file.lock().unwrap_or_else(PoisonError::into_inner).read(at, length as usize).ok()?;
        serde_json::from_slice(&line).ok()
    }
}

/// Offset and length of a line.
type Place = (u64, u32);

/// Where the records of a journal lie, by a hash of their path.
#[derive(Default)]
struct Records {
    is_ours: bool,
    files: HashMap<u64, Place>,
    checkpoints: HashMap<u64, Vec<Place>>,
    packs: Vec<PackId>,
}

impl Records {
    fn take(&mut self, place: Place, line: &[u8], repository: RepositoryId) {
        match serde_json::from_slice(line) {
            Ok(Record::Repository(id)) => self.is_ours = id == repository,
            Ok(Record::Pack(id)) => self.packs.push(id),
            Ok(Record::File(path, ..)) => drop(self.files.insert(key(&path), place)),
            Ok(Record::Checkpoint(path, piece)) => {
                let places = self.checkpoints.entry(key(&path)).or_default();
                if piece.before == 0 {
                    places.clear();
                }
                places.push(place);
            }
            Err(_) => {}
        }
    }
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
