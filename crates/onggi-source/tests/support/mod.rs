//! A folder with files, a source over it, and sinks that meddle.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use onggi_source::bench::{self, Bench};
use onggi_source::carrier::{Launcher, SystemLauncher};
use onggi_source::paths::{Paths, PathsConfig};
use onggi_source::recorder::{RecordedTree, Recorder};
use onggi_source::{
    Content, Context, Item, Items, Known, Layout, Pushed, ReadAt, ReadError, Result, Source, SourceError, Surroundings,
    TreePath,
};
use tempfile::TempDir;

/// A folder, and onggi's state beside it.
pub struct Folder {
    files: TempDir,
    state: TempDir,
}

impl Folder {
    pub fn new() -> Self {
        Self { files: tempfile::tempdir().unwrap(), state: tempfile::tempdir().unwrap() }
    }

    /// With these files; a name with `/` at its end is a directory.
    pub fn with(names: &[&str]) -> Self {
        let folder = Self::new();
        for name in names {
            folder.put(name, name.as_bytes());
        }
        folder
    }

    pub fn put(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        if name.ends_with('/') {
            std::fs::create_dir_all(path).unwrap();
        } else {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    pub fn state(&self) -> &Path {
        self.state.path()
    }

    pub fn surroundings(&self) -> Surroundings {
        self.surroundings_with(Arc::new(SystemLauncher))
    }

    pub fn surroundings_with(&self, launcher: Arc<dyn Launcher>) -> Surroundings {
        Surroundings {
            host: "host-1".to_owned(),
            working_directory: self.files.path().to_owned(),
            launcher,
            attended: true,
            ..bench::surroundings("hub", &self.state.path().join("marks"))
        }
    }

    /// A source over these paths, relative to the folder.
    pub fn source(&self, paths: &[&str]) -> Paths {
        self.source_with(paths, |_| {})
    }

    pub fn source_with(&self, paths: &[&str], edit: impl FnOnce(&mut PathsConfig)) -> Paths {
        let mut config = PathsConfig::new(paths.iter().map(PathBuf::from));
        edit(&mut config);
        Paths::new(config, self.surroundings()).expect("a configuration without faults")
    }
}

/// Captures all items into a new recorder.
pub async fn record(bench: &Bench, source: &dyn Source) -> Result<RecordedTree> {
    record_over(bench, source, &RecordedTree::default()).await.map(|(tree, _)| tree)
}

/// Captures with a parent; also says which contents were opened.
pub async fn record_over(
    bench: &Bench,
    source: &dyn Source,
    parent: &RecordedTree,
) -> Result<(RecordedTree, Vec<TreePath>)> {
    let sink = Recorder::over(&bench.cx, parent);
    let facts = drain(bench, source, &sink).await?;
    assert_eq!(sink.broken_promises(), Vec::<String>::new());
    let opened = sink.opened();
    Ok((sink.commit(facts)?, opened))
}

/// Captures into any sink.
pub async fn drain(bench: &Bench, source: &dyn Source, sink: &dyn Items) -> Result<onggi_source::Facts> {
    let unit = source.discover(&bench.cx).await?.pop().ok_or(SourceError::Gone)?;
    source.capture(&bench.cx, &unit, None).await?.items(&bench.cx, sink).await
}

/// Does something before an item is pushed, and after a content was opened.
pub struct Meddle<'a, P: Fn(&TreePath) + Send + Sync, O: Fn(&TreePath) + Send + Sync> {
    pub sink: &'a Recorder,
    pub at_push: P,
    pub at_open: O,
}

#[async_trait]
impl<P: Fn(&TreePath) + Send + Sync, O: Fn(&TreePath) + Send + Sync> Items for Meddle<'_, P, O> {
    async fn push(&self, item: Item, content: Content<'_>) -> Result<Pushed> {
        (self.at_push)(&item.path);
        match content {
            Content::At(inner) => {
                let hooked = Hooked { inner, path: item.path.clone(), at_open: &self.at_open };
                self.sink.push(item, Content::At(&hooked)).await
            }
            other => self.sink.push(item, other).await,
        }
    }

    async fn reuse(&self, item: &Item) -> Result<bool> {
        self.sink.reuse(item).await
    }

    async fn leave(&self, directory: &TreePath) -> Result<()> {
        self.sink.leave(directory).await
    }
}

struct Hooked<'a, O: Fn(&TreePath) + Send + Sync> {
    inner: &'a dyn ReadAt,
    path: TreePath,
    at_open: &'a O,
}

#[async_trait]
impl<O: Fn(&TreePath) + Send + Sync> ReadAt for Hooked<'_, O> {
    async fn open(&self, cx: &Context, known: &Known<'_>) -> Result<Layout, ReadError> {
        let layout = self.inner.open(cx, known).await?;
        (self.at_open)(&self.path);
        Ok(layout)
    }

    async fn read(&self, cx: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.inner.read(cx, offset, buffer).await
    }

    async fn confirm(&self, cx: &Context) -> Result<(), ReadError> {
        self.inner.confirm(cx).await
    }
}
