//! Brings certificates and keys back: into a folder of their own that only its owner enters, or, if that is asked for,
//! to their places on the node. What is replaced there is kept beside under a hidden name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::listing::{FILE_BYTES_MAX, at};
use super::tree::{FileInMemory, Tree, in_memory};
use super::{FOLDER, check};
use crate::context::{Context, RunId};
use crate::etcd::Etcd;
use crate::etcd::restore::Placement;
use crate::etcd::restore::directory::{State, staging};
use crate::etcd::restore::mark::{Mark, Marked};
use crate::path::TreePath;
use crate::source::{
    Facts, Known, Proof, ReadError, Restore, RestorePlan, RestoreRequest, Result, SourceError, Step, Stored,
};

/// A restore that is planned.
pub(in crate::etcd) struct IntoPlace<'a> {
    etcd: &'a Etcd,
    request: &'a RestoreRequest,
    tree: Tree,
    to: To,
    plan: RestorePlan,
    is_done: bool,
}

/// Where to.
enum To {
    /// The folder, and whether it is there.
    Folder(PathBuf, State),
    /// The node's root, and the files that are not as they were.
    Node(PathBuf, Vec<TreePath>),
}

/// Reads what is stored and looks at the places; changes nothing.
pub(in crate::etcd) async fn plan<'a>(
    etcd: &'a Etcd,
    cx: &Context,
    request: &'a RestoreRequest,
    (placement, target): (Placement, Option<PathBuf>),
    from: &'a dyn Stored,
) -> Result<IntoPlace<'a>> {
    let root = from.facts().first().and_then(|facts: &Facts| facts.roots.first().cloned());
    let top = root.map_or_else(|| etcd.root(), Ok)?.join(FOLDER).map_err(|error| wrong(&error))?;
    let tree = load(cx, from, &top).await?;
    let to = match placement {
        Placement::Folder => {
            let target = target.ok_or_else(|| SourceError::Refused("no folder is named".to_owned()))?;
            let target = etcd.surroundings.working_directory.join(target);
            let state = State::of(&target).map_err(|error| denied("look at", &target, &error))?;
            if matches!(state, State::Taken { .. }) {
                return Err(SourceError::Refused(format!("{} is not empty; name a new folder", target.display())));
            }
            To::Folder(target, state)
        }
        Placement::InPlace => {
            let root = etcd.config.on_node("/".as_ref());
            let differs = |(path, file): &(&TreePath, &FileInMemory)| {
                fs::read(root.join(at(path))).map(Zeroizing::new).ok().is_none_or(|there| *there != *file.content)
            };
            let mut paths: Vec<_> = tree.files.iter().filter(differs).map(|(path, _)| path.clone()).collect();
            // A static pod starts when its manifest appears, and needs the rest then.
            paths.sort_by_key(|path| (is_static_pod(path), path.clone()));
            To::Node(root, paths)
        }
    };
    let mut planned = IntoPlace { etcd, request, tree, to, plan: RestorePlan::default(), is_done: false };
    planned.plan.steps = planned.steps(&cx.run);
    Ok(planned)
}

/// All files below the folder.
async fn load(cx: &Context, from: &dyn Stored, top: &TreePath) -> Result<Tree> {
    let refused = || SourceError::Refused("the snapshot has no certificates and keys of a control plane".to_owned());
    let parent = top.parent().unwrap_or_else(TreePath::root);
    if !from.list(&parent).await?.iter().any(|entry| entry.path == *top) {
        return Err(refused());
    }
    let (mut tree, mut open) = (Tree::default(), vec![top.clone()]);
    while let Some(directory) = open.pop() {
        cx.check()?;
        for entry in from.list(&directory).await? {
            let own = TreePath::new(entry.path.as_bytes().get(top.as_bytes().len() + 1..).unwrap_or_default());
            let own = own.map_err(|error| wrong(&error))?;
            if entry.kind.is_directory() {
                tree.directories.insert(own, entry.metadata);
                open.push(entry.path);
            } else if entry.kind.is_file() && entry.length <= FILE_BYTES_MAX {
                let mut content = Zeroizing::new(vec![0; entry.length as usize]);
                let reader = from.open(&entry.path).await?;
                reader.open(cx, &Known::default()).await.map_err(lost)?;
                reader.read(cx, 0, &mut content).await.map_err(lost)?;
                let file = FileInMemory { metadata: entry.metadata, content: in_memory(content) };
                tree.files.insert(own, file);
            } else {
                return Err(SourceError::Damaged(format!("{} is nothing that was stored so", entry.path)));
            }
        }
    }
    if tree.files.is_empty() { Err(refused()) } else { Ok(tree) }
}

impl IntoPlace<'_> {
    fn steps(&self, run: &RunId) -> Vec<Step> {
        let files = self.tree.files.len();
        match &self.to {
            To::Folder(target, _) => {
                let folder = target.join(FOLDER);
                vec![Step::Create(format!("{}: {}, for its owner alone", folder.display(), counted(files)))]
            }
            To::Node(root, paths) => {
                let step = |path: &TreePath| {
                    let place = root.join(at(path));
                    if fs::symlink_metadata(&place).is_ok() {
                        let aside = aside(&place, run);
                        let name = aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
                        Step::Replace(format!("{}: what is there becomes {name}", place.display()))
                    } else {
                        Step::Create(place.display().to_string())
                    }
                };
                let mut steps: Vec<_> = paths.iter().map(step).collect();
                if paths.len() < files {
                    steps.push(Step::Leave(format!("{} that did not change", counted(files - paths.len()))));
                }
                steps
            }
        }
    }

    /// Notes every directory that something is made in, before it is.
    fn note(&self, cx: &Context) -> Result<Mark> {
        let marked =
            |path: PathBuf, is_made: bool| Marked { path, is_made, holds: FOLDER.to_owned(), is_published: false };
        let directories = match &self.to {
            To::Folder(target, state) => vec![marked(target.clone(), *state == State::Absent)],
            To::Node(root, paths) => {
                let parents: BTreeSet<_> = paths.iter().filter_map(TreePath::parent).collect();
                let parents = parents.iter().map(|parent| root.join(at(parent)));
                parents.map(|path| (path.exists(), path)).map(|(is_there, path)| marked(path, !is_there)).collect()
            }
        };
        let mark = Mark {
            run: cx.run.clone(),
            purpose: cx.purpose,
            unit: self.request.unit.clone(),
            began_at: cx.world.now(),
            directories,
        };
        let saved = mark.save(&self.etcd.surroundings.state);
        saved.map_err(|error| SourceError::Busy(format!("note what is made: {error}")))?;
        Ok(mark)
    }

    fn fill_folder(&self, target: &Path, run: &RunId, mark: &mut Mark) -> io::Result<()> {
        let staged = staging(target, run);
        let top = staged.join(FOLDER);
        let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(&top)?;
        for path in self.tree.directories.keys() {
            make(&top.join(at(path)))?;
        }
        for (path, file) in &self.tree.files {
            write(&top.join(at(path)), &file.content, 0o600)?.sync_all()?;
        }
        mark.directories[0].is_published = true;
        mark.save(&self.etcd.surroundings.state)?;
        fs::rename(&top, target.join(FOLDER))?;
        fs::remove_dir(&staged)?;
        File::open(target)?.sync_all()
    }

    /// Makes all files beside their places first, so that little can go wrong when the first is replaced.
    fn fill_node(&self, root: &Path, paths: &[TreePath], run: &RunId) -> io::Result<()> {
        for (path, metadata) in &self.tree.directories {
            let place = root.join(at(path));
            if !place.exists() {
                DirBuilder::new().mode(metadata.mode).create(&place)?;
                own(&File::open(&place)?, metadata.uid, metadata.gid)?;
            }
        }
        let mut made = BTreeMap::new();
        for path in paths {
            let (file, place) = (&self.tree.files[path], root.join(at(path)));
            let staged = staging(place.parent().unwrap_or(root), run);
            DirBuilder::new().recursive(true).mode(0o700).create(&staged)?;
            let name = staged.join(place.file_name().unwrap_or_default());
            let written = write(&name, &file.content, 0o600)?;
            own(&written, file.metadata.uid, file.metadata.gid)?;
            written.set_permissions(fs::Permissions::from_mode(file.metadata.mode))?;
            written.sync_all()?;
            made.insert(path, (name, place));
        }
        for path in paths {
            let (name, place) = &made[path];
            if fs::symlink_metadata(place).is_ok() {
                fs::rename(place, aside(place, run))?;
            }
            fs::rename(name, place)?;
        }
        for (name, place) in made.values() {
            // The first of a directory takes its staging folder away.
            let _ = name.parent().map(fs::remove_dir);
            File::open(place.parent().unwrap_or(root))?.sync_all()?;
        }
        Ok(())
    }
}

#[async_trait]
impl Restore for IntoPlace<'_> {
    fn plan(&self) -> &RestorePlan {
        &self.plan
    }

    async fn apply(&mut self, cx: &Context) -> Result<()> {
        cx.check()?;
        let mut mark = self.note(cx)?;
        let (done, place) = match &self.to {
            To::Folder(target, _) => (self.fill_folder(target, &cx.run, &mut mark), target),
            To::Node(root, paths) => (self.fill_node(root, paths, &cx.run), root),
        };
        done.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SourceError::Full(error.to_string()),
            _ => denied("write below", place, &error),
        })?;
        self.is_done = true;
        Ok(())
    }

    /// What was restored is read again, and looked at as a backup would.
    async fn prove(&mut self, cx: &Context) -> Result<Proof> {
        if !self.is_done {
            return Err(SourceError::Incomplete("nothing was restored".to_owned()));
        }
        let place = match &self.to {
            To::Folder(target, _) => target.join(FOLDER),
            To::Node(root, _) => root.clone(),
        };
        let there = Tree::read(&place, &self.tree.files.keys().cloned().collect(), Vec::new());
        let differs = self.tree.files.iter().find(|(path, file)| there.content(path) != Some(&*file.content));
        if let Some((path, _)) = differs {
            return Err(SourceError::Damaged(format!("{} is not what was stored", place.join(at(path)).display())));
        }
        let mut checks = vec![format!("{} are there", counted(there.files.len()))];
        let (findings, _) = check::check(&there, None, cx.world.now());
        match findings.iter().find(|finding| finding.is_unfit()) {
            Some(finding) => return Err(SourceError::Damaged(finding.text.clone())),
            None => checks.push("keys belong to their certificates, and these to their authorities".to_owned()),
        }
        Ok(Proof { checks })
    }
}

fn is_static_pod(path: &TreePath) -> bool {
    path.as_bytes().starts_with(b"etc/kubernetes/manifests/")
}

/// Where a file goes that is replaced; a kubelet starts nothing that is hidden.
fn aside(place: &Path, run: &RunId) -> PathBuf {
    let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
    place.with_file_name(format!(".{name}.onggi-{run}"))
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    Ok(file)
}

/// Gives a file away, unless it is owned like that already.
fn own(file: &File, uid: u32, gid: u32) -> io::Result<()> {
    let stat = rustix::fs::fstat(file)?;
    if (stat.st_uid, stat.st_gid) == (uid, gid) {
        return Ok(());
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    Ok(rustix::fs::fchown(file, Some(uid), Some(gid))?)
}

fn counted(files: usize) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{files} files") }
}

fn denied(act: &str, path: &Path, error: &io::Error) -> SourceError {
    SourceError::Denied(format!("{act} {}: {error}", path.display()))
}

fn wrong(error: &crate::path::BadComponent) -> SourceError {
    SourceError::Denied(error.to_string())
}

fn lost(error: ReadError) -> SourceError {
    match error {
        ReadError::Unit(error) => error,
        ReadError::Item(problem) => SourceError::Damaged(problem.to_string()),
    }
}
