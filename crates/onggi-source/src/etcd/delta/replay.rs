//! The deltas of a chain in order, without a gap.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use super::segment::{self, Revised};
use crate::context::Context;
use crate::etcd::model::ClusterId;
use crate::etcd::restore::Until;
use crate::path::TreePath;
use crate::source::{Known, ReadError, Result, SourceError, Stored};

/// The directory of deltas beside the full.
pub(in crate::etcd) const FOLDER: &str = "delta";
/// How their names end.
const SUFFIX: &str = ".ogd";
/// The longest file that is read, in bytes: far more than a capture lets one grow.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Name of the file of these revisions.
pub(in crate::etcd) fn file_name(first: i64, last: i64) -> String {
    format!("{first:016}-{last:016}{SUFFIX}")
}

/// Reads them one by one.
pub(in crate::etcd) struct Replay<'a> {
    from: &'a dyn Stored,
    files: VecDeque<(i64, TreePath)>,
    cluster: ClusterId,
    until: Until,
    /// The last revision that was given out.
    reached: i64,
    /// Leases of the files so far: seconds by id.
    pub leases: BTreeMap<i64, i64>,
    pending: VecDeque<Revised>,
    /// Bytes of all files.
    pub bytes: u64,
    has_ended: bool,
    /// Whether a damaged chain is one that ends there.
    forgives: bool,
    /// Why it ended early.
    broken: Option<String>,
}

impl<'a> Replay<'a> {
    /// The deltas after a full of this revision.
    pub async fn open(from: &'a dyn Stored, root: &TreePath, full: (ClusterId, i64), until: Until) -> Result<Self> {
        let (cluster, revision) = full;
        let folder = root.join(FOLDER).map_err(|error| SourceError::Denied(error.to_string()))?;
        let is_there = from.list(root).await?.iter().any(|entry| entry.path == folder);
        let mut files = Vec::new();
        let mut bytes = 0;
        for entry in if is_there { from.list(&folder).await? } else { Vec::new() } {
            let name = entry.path.name().and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
            let first = name.strip_suffix(SUFFIX).and_then(|name| name.split_once('-')?.0.parse::<i64>().ok());
            if let Some(first) = first.filter(|first| *first > revision) {
                bytes += entry.length;
                files.push((first, entry.path));
            }
        }
        files.sort();
        let (files, leases, pending) = (files.into(), BTreeMap::new(), VecDeque::new());
        let reached = revision.max(1);
        let (has_ended, forgives, broken) = (false, false, None);
        Ok(Self { from, files, cluster, until, reached, leases, pending, bytes, has_ended, forgives, broken })
    }

    /// Whether it ends where a file is missing or damaged, instead of failing there.
    #[must_use]
    pub fn forgiving(self, forgives: bool) -> Self {
        Self { forgives, ..self }
    }

    /// Why it ended before what was wanted.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.pending.is_empty()
    }

    /// The next revision, as long as there is one that is wanted. A gap is damage.
    pub async fn next(&mut self, cx: &Context) -> Result<Option<Revised>> {
        cx.check()?;
        while self.pending.is_empty() && !self.has_ended {
            let Some((_, file)) = self.files.pop_front() else { return Ok(None) };
            match self.load(cx, &file).await {
                Err(SourceError::Damaged(text)) if self.forgives => {
                    (self.has_ended, self.broken) = (true, Some(text));
                }
                loaded => loaded?,
            }
        }
        let Some(revised) = self.pending.pop_front().filter(|_| !self.has_ended) else { return Ok(None) };
        let is_wanted = match self.until {
            Until::Latest => true,
            Until::Revision(last) => revised.main <= last,
            Until::Time(last) => revised.received_ms <= last.as_millisecond(),
        };
        if !is_wanted {
            self.has_ended = true;
            return Ok(None);
        }
        self.reached = revised.main;
        Ok(Some(revised))
    }

    async fn load(&mut self, cx: &Context, file: &TreePath) -> Result<()> {
        let damaged = |text: String| SourceError::Damaged(format!("{file}: {text}"));
        let bytes = read(cx, self.from, file).await?;
        let (header, revisions) = segment::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
        if header.cluster_id != self.cluster {
            return Err(damaged(format!("it is of cluster {}", header.cluster_id)));
        }
        // What the same revisions were stored in twice is taken once.
        let fresh: VecDeque<_> = revisions.into_iter().filter(|revised| revised.main > self.reached).collect();
        if let Some(first) = fresh.front().filter(|first| first.main != self.reached + 1) {
            return Err(damaged(format!("revisions {} to {} are missing before it", self.reached + 1, first.main - 1)));
        }
        self.leases.extend(header.leases);
        self.pending = fresh;
        Ok(())
    }
}

async fn read(cx: &Context, from: &dyn Stored, file: &TreePath) -> Result<Vec<u8>> {
    let lost = |error: ReadError| match error {
        ReadError::Unit(error) => error,
        ReadError::Item(problem) => SourceError::Damaged(problem.to_string()),
    };
    let content = from.open(file).await?;
    let length = content.open(cx, &Known::default()).await.map_err(lost)?.length;
    if length > FILE_BYTES_MAX {
        return Err(SourceError::Damaged(format!("{file}: it has {length} bytes, more than any delta")));
    }
    let mut bytes = vec![0; length as usize];
    content.read(cx, 0, &mut bytes).await.map_err(lost)?;
    Ok(bytes)
}
