//! Restores into the system in memory: in place, or as a marked copy, which is proved by comparison.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;

use super::system::{FakeCopy, FakeSystem, Mark};
use crate::context::{Context, Destination};
use crate::path::TreePath;
use crate::source::{Known, Proof, ReadError, Restore, RestorePlan, RestoreRequest, Result, SourceError, Step, Stored};

struct FakeRestore<'a> {
    system: &'a FakeSystem,
    request: &'a RestoreRequest,
    from: &'a dyn Stored,
    plan: RestorePlan,
}

pub(super) async fn plan<'a>(
    cx: &Context,
    system: &'a FakeSystem,
    request: &'a RestoreRequest,
    from: &'a dyn Stored,
) -> Result<Box<dyn Restore + 'a>> {
    cx.check()?;
    let locked = system.call("look", |_| ()).await.map(|()| !system.locks().is_empty())?;
    let name = &request.unit.name;
    let mut steps = vec![match request.to {
        Destination::Origin => Step::Replace(format!("all files of {name}")),
        Destination::Beside | Destination::Scratch => Step::Create(format!("a copy of {name}")),
    }];
    if locked && request.to == Destination::Origin {
        steps.push(Step::Cannot(format!("{name} is locked")));
    }
    Ok(Box::new(FakeRestore { system, request, from, plan: RestorePlan { steps } }))
}

#[async_trait]
impl Restore for FakeRestore<'_> {
    fn plan(&self) -> &RestorePlan {
        &self.plan
    }

    async fn apply(&mut self, cx: &Context) -> Result<()> {
        let files = read_all(cx, self.from).await?;
        if self.request.to == Destination::Origin {
            return self.system.call("replace", |state| state.replace(files)).await;
        }
        let copy = FakeCopy { mark: Some(Mark::of(cx, &self.request.unit)), files };
        self.system.call("copy", |state| state.add_copy(copy)).await
    }

    async fn prove(&mut self, cx: &Context) -> Result<Proof> {
        let mark = Mark::of(cx, &self.request.unit);
        let copy = self.system.call("start", |state| state.copy_of(&mark)).await?;
        let copy = copy.ok_or_else(|| SourceError::Incomplete("there is no copy".to_owned()))?;
        if copy.files != read_all(cx, self.from).await? {
            return Err(SourceError::Incomplete("the copy differs".to_owned()));
        }
        Ok(Proof { checks: vec![format!("{} files are equal", copy.files.len())] })
    }
}

/// All files of the stored tree.
async fn read_all(cx: &Context, from: &dyn Stored) -> Result<BTreeMap<TreePath, Bytes>> {
    let (mut files, mut open) = (BTreeMap::new(), vec![TreePath::root()]);
    while let Some(directory) = open.pop() {
        for entry in from.list(&directory).await? {
            cx.check()?;
            if entry.kind.is_directory() {
                open.push(entry.path);
            } else if entry.kind.is_file() {
                let content = read_stored(cx, from, &entry.path).await?;
                files.insert(entry.path, content);
            }
        }
    }
    Ok(files)
}

/// One stored file as a whole.
pub(crate) async fn read_stored(cx: &Context, from: &dyn Stored, path: &TreePath) -> Result<Bytes> {
    let content = from.open(path).await?;
    let layout = content.open(cx, &Known::default()).await.map_err(lost)?;
    let mut bytes = vec![0; usize::try_from(layout.length).expect("a test's file fits into memory")];
    for range in layout.data {
        let (start, end) = (range.start as usize, range.end as usize);
        content.read(cx, range.start, &mut bytes[start..end]).await.map_err(lost)?;
    }
    content.confirm(cx).await.map_err(lost)?;
    Ok(bytes.into())
}

fn lost(error: ReadError) -> SourceError {
    match error {
        ReadError::Unit(error) => error,
        ReadError::Item(problem) => SourceError::Incomplete(problem.to_string()),
    }
}
