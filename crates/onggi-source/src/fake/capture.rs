//! Pushes the files of an image, or of the live system, in the way that the options say.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use super::system::{FakeFile, FakeImage};
use super::{FakeContents, FakeSource, FakeVersions};
use crate::context::{Context, Problem, SnapshotId, each};
use crate::item::{Content, Item, Layout, Metadata, Version};
use crate::path::TreePath;
use crate::source::{ByteStream, Capture, Facts, Image, Items, Known, ReadAt, ReadError, Result};

/// Zeros of this length at a multiple of it are a hole.
const HOLE_BYTES: usize = 4096;
/// Length of a stream's pieces.
const PIECE_BYTES: usize = 1000;

pub(super) struct FakeCapture<'a> {
    source: &'a FakeSource,
    image: FakeImage,
    follows: Option<SnapshotId>,
}

impl<'a> FakeCapture<'a> {
    pub(super) fn new(source: &'a FakeSource, image: FakeImage, follows: Option<SnapshotId>) -> Self {
        Self { source, image, follows }
    }
}

#[async_trait]
impl Capture for FakeCapture<'_> {
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        cx.sleep(self.image.ready_at.saturating_sub(cx.world.elapsed())).await?;
        let (system, options) = (&self.source.system, &self.source.options);
        let files: BTreeMap<TreePath, FakeFile> = match options.image {
            Image::Fixed => system.call("list image", |_| self.image.files.clone()).await?,
            Image::Live => system.call("list files", |state| state.live()).await?,
        };
        let directories = directories(files.keys());
        for directory in &directories {
            let metadata = Metadata { mode: 0o755, ..Metadata::default() };
            out.push(Item::directory(directory.clone()).with_metadata(metadata), Content::None).await?;
        }
        each(options.width, &files, async |(path, file): (&TreePath, &FakeFile)| {
            cx.check()?;
            push(self.source, path, file, out).await
        })
        .await?;
        for directory in directories.iter().rev() {
            out.leave(directory).await?;
        }
        out.leave(&TreePath::root()).await?;
        let notes = serde_json::json!({ "revision": self.image.revision });
        Ok(Facts { follows: self.follows.clone(), notes, ..Facts::new(self.image.taken_at) })
    }
}

/// All directories above these paths, each after the one that it lies in.
fn directories<'a>(paths: impl Iterator<Item = &'a TreePath>) -> BTreeSet<TreePath> {
    let above = |path: &TreePath| std::iter::successors(path.parent(), TreePath::parent);
    paths.flat_map(above).filter(|path| !path.is_root()).collect()
}

async fn push(source: &FakeSource, path: &TreePath, file: &FakeFile, out: &dyn Items) -> Result<()> {
    let size = file.content.len() as u64;
    let metadata = Metadata { mode: 0o644, mtime: file.mtime, size, links: 1, ..Metadata::default() };
    let version = match source.options.versions {
        FakeVersions::Unknown => Version::Unknown,
        FakeVersions::Stat => Version::Stat,
        FakeVersions::Token => Version::Token(file.revision.to_string().into_bytes()),
    };
    let item = Item::file(path.clone()).with_metadata(metadata).with_version(version);
    let mut reader = Reader { source, path: path.clone(), file: file.clone(), sent: 0 };
    match source.options.contents {
        FakeContents::At => out.push(item, Content::At(&reader)).await,
        FakeContents::Stream => out.push(item, Content::Stream(&mut reader)).await,
        FakeContents::Inline => out.push(item, Content::Inline(file.content.clone())).await,
    }
    .map(drop)
}

/// A file being read, in either way.
struct Reader<'a> {
    source: &'a FakeSource,
    path: TreePath,
    file: FakeFile,
    sent: usize,
}

impl Reader<'_> {
    async fn call(&self, verb: &str) -> Result<(), ReadError> {
        let name = format!("{verb} {}", self.path);
        Ok(self.source.system.call(name, |_| ()).await?)
    }

    fn readable(&self) -> Result<(), ReadError> {
        if self.file.readable {
            return Ok(());
        }
        let (path, text) = (Some(self.path.clone()), "permission denied".to_owned());
        Err(ReadError::Item(Problem { class: "denied", path, text }))
    }

    /// What the file is now, for a live image; else what it was.
    async fn now(&self) -> Result<Option<FakeFile>, ReadError> {
        if self.source.options.image == Image::Fixed {
            return Ok(Some(self.file.clone()));
        }
        Ok(self.source.system.call("stat", |state| state.live().remove(&self.path)).await?)
    }
}

#[async_trait]
impl ByteStream for Reader<'_> {
    async fn next(&mut self, cx: &Context) -> Result<Option<Bytes>, ReadError> {
        cx.check()?;
        self.call("next").await?;
        self.readable()?;
        let end = self.file.content.len().min(self.sent + PIECE_BYTES);
        let piece = self.file.content.slice(self.sent..end);
        self.sent = end;
        Ok((!piece.is_empty()).then_some(piece))
    }
}

#[async_trait]
impl ReadAt for Reader<'_> {
    async fn open(&self, cx: &Context, _known: &Known<'_>) -> Result<Layout, ReadError> {
        cx.check()?;
        self.call("open").await?;
        self.readable()?;
        Ok(Layout { data: data_ranges(&self.file.content), ..Layout::dense(self.file.content.len() as u64) })
    }

    async fn read(&self, cx: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        cx.check()?;
        self.call("read").await?;
        let start = usize::try_from(offset).expect("a test's file fits into memory");
        buffer.copy_from_slice(&self.file.content[start..start + buffer.len()]);
        Ok(())
    }

    async fn confirm(&self, _cx: &Context) -> Result<(), ReadError> {
        if self.now().await?.is_some_and(|now| now.revision == self.file.revision) {
            return Ok(());
        }
        let text = "it changed while it was read".to_owned();
        Err(ReadError::Item(Problem { class: "changed", path: Some(self.path.clone()), text }))
    }
}

fn data_ranges(content: &[u8]) -> Vec<Range<u64>> {
    let mut found: Vec<Range<u64>> = Vec::new();
    for (number, block) in content.chunks(HOLE_BYTES).enumerate() {
        if block.len() == HOLE_BYTES && block.iter().all(|byte| *byte == 0) {
            continue;
        }
        let start = (number * HOLE_BYTES) as u64;
        let end = start + block.len() as u64;
        match found.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => found.push(start..end),
        }
    }
    found
}
