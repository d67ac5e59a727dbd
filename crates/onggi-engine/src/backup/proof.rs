//! Proves what a source says is unchanged: a sample in each run, everything in every n-th. Block maps lie after crashes,
//! and a version that was given twice stays unnoticed for ever if nobody reads.

use super::content::{Before, Failure, Reader};
use futures::{StreamExt, stream::FuturesOrdered};
use onggi_repo::{
    archive::{ContentWriter, Cutting, READ_AHEAD, WINDOW_LENGTH, Window},
    format::BlobId,
};
use onggi_source::{Content, Known, Layout, Problem, ReadAt, ReadError, RunId, TreePath};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

/// Of so many chunks or items one is proved in each run.
const SAMPLED: u64 = 100;
/// Bytes that are read ahead of the proof.
const AHEAD: u64 = (READ_AHEAD * WINDOW_LENGTH) as u64;

/// Which of a source's words are proved in this attempt.
pub(super) struct Trust {
    run: RunId,
    is_full: bool,
    /// Runs since everything was proved, this one included.
    since: u32,
    is_betrayed: AtomicBool,
}

impl Trust {
    /// `every`: everything is proved in so many runs once, 0 never. `before`: what the parent's run said of itself, if
    /// there is one.
    pub fn new(run: RunId, every: u32, before: Option<u32>) -> Self {
        let since = before.map_or(0, |runs| runs.saturating_add(1));
        let is_full = every != 0 && since >= every;
        Self { run, is_full, since: if is_full { 0 } else { since }, is_betrayed: AtomicBool::new(false) }
    }

    /// What the next run must know: after a lie it proves everything.
    pub fn runs_since_full(&self) -> u32 {
        if self.is_betrayed.load(Relaxed) && !self.is_full { u32::MAX } else { self.since }
    }

    /// Something proved untrue: all that comes is proved.
    fn betray(&self) {
        self.is_betrayed.store(true, Relaxed);
    }

    fn proves_all(&self) -> bool {
        self.is_full || self.is_betrayed.load(Relaxed)
    }

    /// Whether an item that has its parent's version is proved.
    pub fn proves(&self, path: &TreePath) -> bool {
        self.proves_all() || self.is_sampled(path, None)
    }

    /// The same answer within a run: an item that is not reused is then pushed, and asked about again.
    fn is_sampled(&self, path: &TreePath, chunk: Option<usize>) -> bool {
        let mut hasher = DefaultHasher::new();
        (self.run.as_str(), path.as_bytes(), chunk).hash(&mut hasher);
        hasher.finish().is_multiple_of(SAMPLED)
    }
}

/// What becomes of a source's word.
pub(super) enum Proof {
    /// It is true, or could not be read now.
    Holds,
    /// It is not.
    Untrue,
    /// Only storing the content tells.
    Open,
}

impl Reader<'_> {
    /// Whether a content is the parent's. What cannot be read now stays as it is in the parent, with a problem.
    pub async fn proves(&self, path: &TreePath, content: &mut Content<'_>, before: &Before) -> Result<Proof, Failure> {
        let is_true = match content {
            Content::Inline(bytes) => Ok(is_equal(bytes, &before.chunks)),
            Content::At(content) => self.proves_at(*content, before).await,
            Content::None | Content::Stream(_) => return Ok(Proof::Open),
        };
        match is_true {
            Ok(true) => Ok(Proof::Holds),
            Ok(false) => {
                self.lied(path);
                Ok(Proof::Untrue)
            }
            Err(Failure::Item(problem)) if problem.class == "changed" => Ok(Proof::Open),
            Err(Failure::Item(problem)) => {
                self.cx.problem(Problem { path: Some(path.clone()), ..problem });
                Ok(Proof::Holds)
            }
            Err(failure) => Err(failure),
        }
    }

    /// The source said that an item is as in the parent, and it is not.
    pub(super) fn lied(&self, path: &TreePath) {
        self.trust.betray();
        let text = "was said to be unchanged, but is not what the parent has; all of it is read";
        self.cx.problem(Problem { class: "untrue", path: Some(path.clone()), text: text.to_owned() });
    }

    async fn proves_at(&self, content: &dyn ReadAt, before: &Before) -> Result<bool, Failure> {
        let known = Known { version: before.token.as_deref(), ranges: &[] };
        let layout = content.open(self.cx, &known).await?;
        if layout.length != before.length() {
            return Ok(false);
        }
        let mut writer = self.archive.content(Cutting::Default, Some(layout.length)).await?;
        let has = self.has(&mut writer, content, &layout, 0, &before.chunks).await;
        writer.abandon();
        let has = has?;
        content.confirm(self.cx).await?;
        Ok(has)
    }

    /// Whether those of the parent's chunks that are proved are in the content, where the parent has them.
    pub(super) async fn keeps(
        &self,
        writer: &mut ContentWriter,
        (path, content): (&TreePath, &dyn ReadAt),
        layout: &Layout,
        before: &Before,
        chunks: Range<usize>,
    ) -> Result<bool, Failure> {
        let start = |index: usize| before.chunks[..index].iter().map(|(_, length)| length).sum();
        if self.trust.proves_all() {
            return self.has(writer, content, layout, start(chunks.start), &before.chunks[chunks]).await;
        }
        for index in chunks.filter(|index| self.trust.is_sampled(path, Some(*index))) {
            if !self.has(writer, content, layout, start(index), &before.chunks[index..=index]).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a content has these chunks from `start` on. Their memory is the writer's.
    async fn has(
        &self,
        writer: &mut ContentWriter,
        content: &dyn ReadAt,
        layout: &Layout,
        start: u64,
        chunks: &[(BlobId, u64)],
    ) -> Result<bool, Failure> {
        let (mut reading, mut position, mut ahead) = (FuturesOrdered::new(), start, 0);
        let mut chunks = chunks.iter().peekable();
        loop {
            while let Some((id, length)) = chunks.next_if(|(_, length)| ahead == 0 || ahead + length <= AHEAD) {
                self.cx.check()?;
                let bytes = usize::try_from(*length).unwrap_or(usize::MAX);
                self.wait(bytes).await?;
                let window = self.cx.unless_stopped(writer.window(bytes)).await??;
                let read = self.fill_data(content, layout, position, window);
                reading.push_back(async move { Ok::<_, ReadError>((id, read.await?)) });
                position += length;
                ahead += length;
            }
            let Some(read) = reading.next().await else { return Ok(true) };
            let (id, window) = read?;
            ahead -= window.len() as u64;
            if BlobId::of(&window) != *id {
                return Ok(false);
            }
        }
    }

    /// Fills a window: data is read, holes are not.
    async fn fill_data(
        &self,
        content: &dyn ReadAt,
        layout: &Layout,
        offset: u64,
        mut window: Window,
    ) -> Result<Window, ReadError> {
        let end = offset + window.len() as u64;
        window.fill(0);
        let first = layout.data.partition_point(|data| data.end <= offset);
        for data in layout.data[first..].iter().take_while(|data| data.start < end) {
            let place = |at: u64| usize::try_from(at.clamp(offset, end) - offset).unwrap_or(usize::MAX);
            let (from, to) = (place(data.start), place(data.end));
            content.read(self.cx, data.start.max(offset), &mut window[from..to]).await?;
        }
        Ok(window)
    }
}

fn is_equal(mut bytes: &[u8], chunks: &[(BlobId, u64)]) -> bool {
    for (id, length) in chunks {
        let piece = usize::try_from(*length).ok().and_then(|length| bytes.split_at_checked(length));
        let Some((piece, rest)) = piece else { return false };
        if BlobId::of(piece) != *id {
            return false;
        }
        bytes = rest;
    }
    bytes.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(every: u32, expected: &str) {
        let mut before = None;
        let mut runs = String::new();
        for _ in 0..expected.len() {
            let trust = Trust::new(RunId::from("r"), every, before);
            runs.push(if trust.is_full { 'F' } else { '.' });
            before = Some(trust.runs_since_full());
        }
        assert_eq!(runs, expected, "of the first, everything is read in any case");
    }

    #[test]
    fn every_nth_run_proves_everything() {
        check(3, "...F..F..F");
        check(1, ".FFFF");
        check(0, "......");
    }

    #[test]
    fn a_lie_makes_this_run_and_the_next_prove_everything() {
        let trust = Trust::new(RunId::from("r"), 30, Some(1));
        let path = TreePath::new("disk.raw").expect("a path");
        assert!(!trust.proves(&path));
        trust.betray();
        assert!(trust.proves(&path));
        assert!(Trust::new(RunId::from("r"), 30, Some(trust.runs_since_full())).is_full);
    }

    #[test]
    fn one_in_a_hundred_is_proved() {
        let trust = Trust::new(RunId::from("r"), 30, Some(1));
        let path = TreePath::new("disk.raw").expect("a path");
        let count = (0..10_000).filter(|chunk| trust.is_sampled(&path, Some(*chunk))).count();
        assert!((50..200).contains(&count), "{count}");
    }

    #[test]
    fn bytes_are_compared_chunk_by_chunk() {
        let chunks = [b"ab".as_slice(), b"c"].map(|bytes| (BlobId::of(bytes), bytes.len() as u64));
        let equal = ["abc", "abd", "ab", "abcd", ""].map(|text| is_equal(text.as_bytes(), &chunks));
        assert_eq!(equal, [true, false, false, false, false]);
        assert!(is_equal(b"", &[]));
    }
}
