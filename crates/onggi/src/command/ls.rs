//! `onggi ls`: what is in a snapshot.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use onggi_engine::exit::Exit;
use onggi_engine::report::ReportProblem;
use onggi_engine::restore::{Entries, Guard, Origin, RestoreError, SnapshotTree, TreeEntry};
use onggi_repo::format::NodeKind;
use onggi_repo::lock::LockKind;
use onggi_source::TreePath;
use serde_json::Value;

use super::disk;
use super::filter::Filter;
use crate::escape::escape;
use crate::failure::Failure;
use crate::query::{self, Found};
use crate::session::{Opened, Session};
use crate::show::{node, snapshot};
use crate::watcher::show_problem;

/// Lists the contents of a snapshot.
///
/// A snapshot is an id or the beginning of one, `latest`, `latest~1` for the one before, or UNIT@DATE. Paths narrow the
/// listing; a folder shows what is directly in it, unless --recursive is given. Without a path everything is listed.
/// With --disk the listing is of a disk image in the snapshot: of its partitions, or of paths such as /part1/etc.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  onggi ls latest\n  onggi ls latest:/home/ann --long\n  onggi ls 4f1c09ab /etc --recursive --json\n  \
    onggi ls web-1@2026-11-03 --disk root.raw\n  onggi ls web-1@2026-11-03 --disk root.raw /part1/etc --long"
)]
pub struct Args {
    /// Which snapshot, and optionally which path: SNAPSHOT or SNAPSHOT:PATH.
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub snapshot: OsString,
    /// Only these paths.
    #[arg(value_name = "PATH")]
    pub paths: Vec<OsString>,
    /// List what is in this disk image of the snapshot; paths are then those of the disk.
    #[arg(long, value_name = "IMAGE")]
    pub disk: Option<OsString>,
    /// Mode, owner, size and time too.
    #[arg(short = 'l', long)]
    pub long: bool,
    /// What is below folders too.
    #[arg(long)]
    pub recursive: bool,
    #[command(flatten)]
    pub filter: Filter,
}

/// Lists it.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let (which, path) = session.query_with_path(&args.snapshot)?;
    let mut wanted = Vec::new();
    for path in
        args.paths.iter().map(|path| path.as_bytes()).chain([path.as_slice()].into_iter().filter(|p| !p.is_empty()))
    {
        wanted.push(tree_path(path)?);
    }
    session
        .with(LockKind::Reading, async |opened| {
            let (all, exit) = opened.snapshots(session).await?;
            let found = query::choose(&which, &all, &args.filter).map_err(|error| Failure::not_one(&error))?;
            head(found, session);
            let (origin, is_disk) = match &args.disk {
                Some(image) => (disk::open(session, opened, found, image).await?.into(), true),
                None => (snapshot_tree(opened, found).into(), false),
            };
            let mut listing = Listing { origin, session, is_long: args.long, exit };
            if wanted.is_empty() {
                listing.all(is_disk && !args.recursive).await?;
            }
            for path in &wanted {
                listing.path(path, args.recursive).await?;
            }
            let disk = args.disk.as_ref().map(|image| format!(" --disk {}", escape(image.as_bytes())));
            let (id, disk) = (found.0.short(), disk.unwrap_or_default());
            session.output.suggest(format_args!("onggi restore {id}:PATH{disk} --target ./out"));
            Ok(listing.exit)
        })
        .await
}

/// A path in a snapshot as it is typed: with or without a slash before and after.
pub fn tree_path(path: &[u8]) -> Result<TreePath, Failure> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.into_iter().try_fold(TreePath::root(), |path, name| path.join(name)).map_err(|_| {
        Failure::usage(format!("look for {}", escape(path))).because("a path in a snapshot has no `..` in it")
    })
}

fn head((id, one): &Found, session: &Session) {
    if session.output.is_json() {
        let mut document = snapshot::document(id, one);
        document.insert("message_type".into(), "snapshot".into());
        document.insert("struct_type".into(), "snapshot".into());
        session.output.json(Value::Object(document));
    } else {
        session.output.talk(format_args!("snapshot {}", snapshot::sentence(id, one)));
    }
}

fn snapshot_tree(opened: &Opened, (_, snapshot): &Found) -> SnapshotTree {
    SnapshotTree::new(opened.repo.clone(), vec![snapshot.tree], Vec::new())
}

/// A listing on its way.
struct Listing<'a> {
    origin: Origin,
    session: &'a Session,
    is_long: bool,
    exit: Exit,
}

impl Listing<'_> {
    /// Everything, or of a disk its parts and what is directly in a disk without partitions.
    async fn all(&mut self, only_top: bool) -> Result<(), Failure> {
        if let Origin::Disk(tree) = &self.origin
            && only_top
            && disk::show_parts(self.session, tree.parts().await)
        {
            return Ok(());
        }
        self.below(TreePath::root(), None, !only_top).await
    }

    /// An entry; of a folder what is in it.
    async fn path(&mut self, path: &TreePath, is_recursive: bool) -> Result<(), Failure> {
        if path.is_root() {
            return self.below(TreePath::root(), None, is_recursive).await;
        }
        let act = || format!("list /{}", escape(path.as_bytes()));
        let found = self.origin.find(path).await.map_err(|error| disk::failure(act(), &error))?;
        let entry = found.ok_or_else(|| {
            Failure::new(Exit::Failed, act())
                .because("it is not in this snapshot")
                .hint(format!("onggi find {}", escape(path.name().unwrap_or_default())))
        })?;
        self.show(path, &entry);
        if entry.node.kind == NodeKind::Dir {
            self.below(path.clone(), Some(&entry), is_recursive).await?;
        }
        Ok(())
    }

    /// What is in a folder, in the order of the names; with what is below, if wanted.
    async fn below(
        &mut self,
        path: TreePath,
        directory: Option<&TreeEntry>,
        is_recursive: bool,
    ) -> Result<(), Failure> {
        let mut guard = Guard::new(&self.origin);
        let mut open = vec![(path.clone(), self.entries(&path, directory).await)];
        while let Some((folder, entries)) = open.last_mut() {
            let Some(entry) = entries.next().await else {
                open.pop();
                continue;
            };
            if !self.session.output.is_open() {
                break;
            }
            // A name that no path may have is shown where it is, and not entered.
            let Ok(path) = folder.join(&entry.node.name) else {
                self.show_at(&[folder.as_bytes(), b"/", &entry.node.name].concat(), &entry);
                continue;
            };
            self.show(&path, &entry);
            if is_recursive && entry.node.kind == NodeKind::Dir {
                if let Err(why) = guard.enter(&entry, open.iter().map(|(_, entries)| entries)) {
                    self.problem("damaged", &path, why.to_owned(), Exit::Partial);
                    continue;
                }
                let entries = self.entries(&path, Some(&entry)).await;
                open.push((path, entries));
            }
        }
        Ok(())
    }

    async fn entries(&mut self, path: &TreePath, directory: Option<&TreeEntry>) -> Entries {
        let (entries, lost) = self.origin.list(directory).await;
        if let Some(error) = lost {
            let exit = match &error {
                RestoreError::Repository(error) => Exit::from(error),
                _ => Exit::Partial,
            };
            self.problem("lost-directory", path, error.text(), exit);
        }
        entries
    }

    fn problem(&mut self, class: &str, path: &TreePath, text: String, exit: Exit) {
        let problem = ReportProblem { class: class.to_owned(), path: Some(format!("/{path}")), text };
        show_problem(&self.session.output, &problem, "read");
        self.exit = self.exit.and(exit).and(Exit::Partial);
    }

    fn show(&self, path: &TreePath, entry: &TreeEntry) {
        self.show_at(path.as_bytes(), entry);
    }

    fn show_at(&self, path: &[u8], entry: &TreeEntry) {
        let path = [b"/", path].concat();
        let output = &self.session.output;
        if output.is_json() {
            let mut document = node::document(&path, &entry.node);
            document.insert("message_type".into(), "node".into());
            document.insert("struct_type".into(), "node".into());
            output.json(Value::Object(document));
        } else if self.is_long {
            output.data(node::long(&path, &entry.node));
        } else {
            output.data(escape(&path));
        }
    }
}
