//! Brings the content of one item into the archive: inline, as a stream, or at offsets in parallel, without holes and
//! without what is known to be unchanged.

use super::{proof::Trust, rate::Rate, trail::Trail};
use crate::watch::Live;
use futures::{StreamExt, stream::FuturesOrdered};
use onggi_repo::{
    RepoError, Repository,
    archive::{Archive, ContentWriter, Cutting, PendingContent, READ_AHEAD, WINDOW_LENGTH, WINDOW_MAX, Window},
    format::{
        BlobId, BlobKind, Node,
        rechunk::{Planner, Step},
    },
};
use onggi_source::{
    ByteStream, Chunking, Content, Context, Known, KnownRange, Layout, Problem, ReadAt, ReadError, SourceError, Stop,
    TreePath,
};
use std::ops::Range;

/// What is read at once while a rate is kept.
const RATED_LENGTH: usize = 64 << 10;

/// Why a content did not come in.
pub(super) enum Failure {
    /// The item is lost.
    Item(Problem),
    /// The attempt ends.
    Unit(SourceError),
    /// The archive does not go on.
    Repo(RepoError),
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Item(problem) => Self::Item(problem),
            ReadError::Unit(error) => Self::Unit(error),
        }
    }
}

impl From<RepoError> for Failure {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self::Unit(stop.into())
    }
}

/// A content that came in.
pub(super) struct Read {
    pub content: PendingContent,
    /// It changed while it was read, twice; what was read is kept.
    pub doubt: Option<Problem>,
}

/// Reads the contents of one attempt.
pub(super) struct Reader<'a> {
    pub cx: &'a Context,
    pub repo: &'a Repository,
    pub archive: &'a Archive,
    pub live: &'a Live,
    pub trust: Trust,
    pub rate: Option<Rate>,
}

/// What is known of a content before it is read.
pub(super) struct Expected<'a> {
    pub path: &'a TreePath,
    pub chunking: Chunking,
    /// Its length as far as it is known.
    pub length: u64,
    pub before: Before,
    /// `None`: an interrupted run does not go on in it.
    pub trail: Option<Trail<'a>>,
}

/// What the parent has at the item's path.
#[derive(Default)]
pub(super) struct Before {
    pub chunks: Vec<(BlobId, u64)>,
    pub token: Option<Vec<u8>>,
}

impl Before {
    /// The chunks of a parent's file, if the repository has all of them and they will stay.
    pub fn new(reader: &Reader<'_>, node: Option<&Node>, token: Option<Vec<u8>>) -> Self {
        let length = |id: &BlobId| Some((*id, u64::from(reader.repo.blob_length(BlobKind::Data, id)?)));
        let node = node.filter(|node| reader.archive.can_keep(node));
        let chunks = node.and_then(|node| node.chunks().iter().map(length).collect::<Option<Vec<_>>>());
        Self { chunks: chunks.unwrap_or_default(), token }
    }

    /// Bytes of the chunks.
    pub fn length(&self) -> u64 {
        self.chunks.iter().map(|(_, length)| length).sum()
    }
}

impl Reader<'_> {
    /// Reads a content to its confirmed end.
    pub async fn read(&self, content: Content<'_>, expected: Expected<'_>) -> Result<Read, Failure> {
        let chunking = expected.chunking;
        match content {
            Content::None => {
                let writer = self.archive.content(Cutting::Default, Some(0)).await?;
                Ok(Read { content: writer.finish(), doubt: None })
            }
            Content::Inline(bytes) => {
                let mut writer = self.archive.content(cutting(chunking), Some(bytes.len() as u64)).await?;
                let written = self.write_all(&mut writer, &bytes).await;
                end(writer, written)
            }
            Content::Stream(stream) => {
                let mut writer = self.archive.content(cutting(chunking), None).await?;
                let written = self.copy_stream(&mut writer, stream).await;
                end(writer, written)
            }
            Content::At(content) => self.read_at(content, expected).await,
        }
    }

    /// Once more from the start if it changed meanwhile, then as it is; and once more if the source's word was untrue.
    async fn read_at(&self, content: &dyn ReadAt, expected: Expected<'_>) -> Result<Read, Failure> {
        let Expected { path, chunking, length, mut before, mut trail } = expected;
        let mut is_repeated = false;
        loop {
            let mut writer = self.archive.content(cutting(chunking), Some(length)).await?;
            let mut changed = None;
            let copied = match self.copy_at(&mut writer, (path, content), &before, trail.as_mut()).await {
                Ok(false) => {
                    writer.abandon();
                    self.lied(path);
                    (before, trail) = (Before::default(), None);
                    continue;
                }
                Ok(true) => match content.confirm(self.cx).await {
                    Err(ReadError::Item(problem)) if problem.class == "changed" => {
                        changed = Some(problem);
                        Ok(())
                    }
                    confirmed => confirmed.map_err(Failure::from),
                },
                Err(Failure::Item(problem)) if problem.class == "changed" && !is_repeated => {
                    changed = Some(problem);
                    Ok(())
                }
                Err(failure) => Err(failure),
            };
            if changed.is_some() && !is_repeated {
                writer.abandon();
                // What was read belongs to no version that the source told of.
                (is_repeated, trail) = (true, None);
                continue;
            }
            if let (Err(Failure::Unit(_)), Some(trail)) = (&copied, &mut trail) {
                // All that was read counts. An archive that failed has nothing to note.
                if writer.settle().await.is_ok() {
                    trail.note(self.archive, &mut writer);
                }
            }
            return end(writer, copied).map(|read| Read { doubt: changed, ..read });
        }
    }

    /// `false`: what the source says of unchanged ranges is untrue.
    async fn copy_at(
        &self,
        writer: &mut ContentWriter,
        (path, content): (&TreePath, &dyn ReadAt),
        before: &Before,
        mut trail: Option<&mut Trail<'_>>,
    ) -> Result<bool, Failure> {
        let ranges: Vec<KnownRange> =
            before.chunks.iter().map(|(id, length)| KnownRange { length: *length, sha256: id.0 }).collect();
        let known = Known { version: before.token.as_deref(), ranges: &ranges };
        let layout = content.open(self.cx, &known).await?;
        if !layout.same.is_empty()
            && let Some(mut planner) = planner(&layout, before)
        {
            return self.copy_changes(writer, (path, content), &layout, before, &mut planner).await;
        }
        let start = match &mut trail {
            Some(trail) => trail.resume(self.archive, writer, layout.length).await?,
            None => 0,
        };
        self.live.bytes.add(start);
        self.copy_range(writer, content, &layout, start..layout.length, trail).await.map(|()| true)
    }

    async fn copy_changes(
        &self,
        writer: &mut ContentWriter,
        (path, content): (&TreePath, &dyn ReadAt),
        layout: &Layout,
        before: &Before,
        planner: &mut Planner,
    ) -> Result<bool, Failure> {
        let mut ends: Vec<u64> = Vec::with_capacity(before.chunks.len());
        for (_, length) in &before.chunks {
            ends.push(ends.last().copied().unwrap_or(0) + length);
        }
        loop {
            self.cx.check()?;
            match planner.step() {
                Step::Done => return Ok(true),
                Step::Keep(chunks) => {
                    if !self.keeps(writer, (path, content), layout, before, chunks.clone()).await? {
                        return Ok(false);
                    }
                    writer.keep(&before.chunks[chunks.clone()]).await?;
                    self.live.bytes.add(before.chunks[chunks].iter().map(|(_, length)| length).sum());
                }
                Step::Chunk(from) => {
                    let mut position = from;
                    loop {
                        // Up to the next old cut, so that nothing lies behind it if the new cuts meet it.
                        let next = ends[ends.partition_point(|end| *end <= position)..].first();
                        let target = next.copied().unwrap_or(layout.length).min(layout.length);
                        self.copy_range(writer, content, layout, position..target, None).await?;
                        position = target;
                        if position == layout.length {
                            planner.cut(position);
                            break;
                        }
                        if writer.last_cut().await? == position && planner.cut(position) {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Reads a range: data in parallel, holes not at all.
    async fn copy_range(
        &self,
        writer: &mut ContentWriter,
        content: &dyn ReadAt,
        layout: &Layout,
        range: Range<u64>,
        mut trail: Option<&mut Trail<'_>>,
    ) -> Result<(), Failure> {
        let mut position = range.start;
        let first = layout.data.partition_point(|data| data.end <= range.start);
        for data in layout.data[first..].iter().take_while(|data| data.start < range.end) {
            let (start, end) = (data.start.max(position), data.end.min(range.end));
            writer.zeros(start - position).await?;
            self.live.bytes.add(start - position);
            self.copy_data(writer, content, start..end, trail.as_deref_mut()).await?;
            position = end;
        }
        writer.zeros(range.end - position).await?;
        self.live.bytes.add(range.end - position);
        Ok(())
    }

    async fn copy_data(
        &self,
        writer: &mut ContentWriter,
        content: &dyn ReadAt,
        range: Range<u64>,
        mut trail: Option<&mut Trail<'_>>,
    ) -> Result<(), Failure> {
        let step = if self.rate.is_some() { RATED_LENGTH } else { WINDOW_LENGTH };
        if range.end - range.start <= step as u64 {
            let window = self.window(writer, &range, step).await?;
            let window = self.fill(content, range.start, window).await?;
            return self.copied(writer, window, trail).await;
        }
        let mut next = range.start;
        let mut reading = FuturesOrdered::new();
        loop {
            while reading.len() < READ_AHEAD && next < range.end {
                let window = self.window(writer, &(next..range.end), step).await?;
                let at = next;
                next += window.len() as u64;
                reading.push_back(self.fill(content, at, window));
            }
            let Some(window) = reading.next().await else { return Ok(()) };
            self.copied(writer, window?, trail.as_deref_mut()).await?;
        }
    }

    /// A window for the beginning of a range, as long as the step at most.
    async fn window(&self, writer: &mut ContentWriter, range: &Range<u64>, step: usize) -> Result<Window, Failure> {
        self.cx.check()?;
        let length = usize::try_from(range.end - range.start).map_or(step, |left| left.min(step));
        self.wait(length).await?;
        // Memory may be scarce because the storage does not answer; the operator need not wait for that.
        Ok(self.cx.unless_stopped(writer.window(length)).await??)
    }

    async fn copied(
        &self,
        writer: &mut ContentWriter,
        window: Window,
        trail: Option<&mut Trail<'_>>,
    ) -> Result<(), Failure> {
        self.moved(window.len() as u64);
        writer.write(window).await?;
        if let Some(trail) = trail {
            trail.came(self.archive, writer);
        }
        Ok(())
    }

    async fn fill(&self, content: &dyn ReadAt, offset: u64, mut window: Window) -> Result<Window, ReadError> {
        content.read(self.cx, offset, &mut window).await.map(|()| window)
    }

    async fn copy_stream(&self, writer: &mut ContentWriter, stream: &mut dyn ByteStream) -> Result<(), Failure> {
        while let Some(bytes) = stream.next(self.cx).await? {
            self.write_all(writer, &bytes).await?;
        }
        Ok(())
    }

    async fn write_all(&self, writer: &mut ContentWriter, bytes: &[u8]) -> Result<(), Failure> {
        self.cx.check()?;
        self.wait(bytes.len()).await?;
        self.moved(bytes.len() as u64);
        Ok(writer.write_bytes(bytes).await?)
    }

    /// So many bytes more were read. What is read twice counts twice: a watcher sees that work goes on.
    fn moved(&self, bytes: u64) {
        self.live.bytes.add(bytes);
        self.live.bytes_moved.add(bytes);
    }

    pub(super) async fn wait(&self, length: usize) -> Result<(), Stop> {
        match &self.rate {
            Some(rate) => rate.take(self.cx, length as u64).await,
            None => Ok(()),
        }
    }
}

/// A plan for reading only what changed; `None` where reading everything is as cheap.
fn planner(layout: &Layout, before: &Before) -> Option<Planner> {
    if before.chunks.is_empty() {
        return None;
    }
    let mut end = 0;
    let ends = before.chunks.iter().map(|(_, length)| {
        end += length;
        end
    });
    let planner = Planner::new(ends.collect(), gaps(&layout.same, layout.length), layout.length);
    (planner.planned_reads() <= layout.length / 2).then_some(planner)
}

/// Finishes a writer, or gives it up without tearing the archive.
fn end(writer: ContentWriter, written: Result<(), Failure>) -> Result<Read, Failure> {
    match written {
        Ok(()) => Ok(Read { content: writer.finish(), doubt: None }),
        Err(failure) => {
            writer.abandon();
            Err(failure)
        }
    }
}

fn cutting(chunking: Chunking) -> Cutting {
    match chunking {
        Chunking::Default => Cutting::Default,
        Chunking::Content(mean) => Cutting::Content { mean },
        Chunking::Fixed(length) => Cutting::Fixed(length.min(WINDOW_MAX as u32)),
        Chunking::AsGiven => Cutting::AsGiven,
    }
}

/// What of `0..length` is not covered by sorted ranges.
fn gaps(ranges: &[Range<u64>], length: u64) -> Vec<Range<u64>> {
    let (mut position, mut gaps) = (0, Vec::new());
    for range in ranges {
        if range.start > position {
            gaps.push(position..range.start.min(length));
        }
        position = position.max(range.end);
    }
    if position < length {
        gaps.push(position..length);
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ranges: &[(u64, u64)], length: u64, expected: &[(u64, u64)]) {
        let ranges: Vec<Range<u64>> = ranges.iter().map(|(start, end)| *start..*end).collect();
        let found: Vec<_> = gaps(&ranges, length).iter().map(|gap| (gap.start, gap.end)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn gaps_are_what_the_ranges_leave() {
        check(&[], 10, &[(0, 10)]);
        check(&[(0, 3), (5, 8)], 10, &[(3, 5), (8, 10)]);
        check(&[(0, 10)], 10, &[]);
        check(&[(2, 4), (3, 6)], 6, &[(0, 2)]);
        check(&[], 0, &[]);
    }
}
