//! `onggi ls`: what is in a snapshot.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use onggi_engine::exit::Exit;
use onggi_engine::restore::{SnapshotTree, TreeEntry};
use onggi_repo::format::NodeKind;
use onggi_repo::lock::LockKind;
use onggi_source::TreePath;
use serde_json::Value;

use super::filter::Filter;
use crate::escape::escape;
use crate::failure::Failure;
use crate::query::{self, Found};
use crate::session::{Opened, Session};
use crate::show::{node, snapshot};

/// Lists the contents of a snapshot.
///
/// A snapshot is an id or the beginning of one, `latest`, `latest~1` for the one before, or UNIT@DATE. Paths narrow the
/// listing; a folder shows what is directly in it, unless --recursive is given. Without a path everything is listed.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  onggi ls latest\n  onggi ls latest:/home/ann --long\n  onggi ls 4f1c09ab /etc --recursive --json"
)]
pub struct Args {
    /// Which snapshot, and optionally which path: SNAPSHOT or SNAPSHOT:PATH.
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub snapshot: OsString,
    /// Only these paths.
    #[arg(value_name = "PATH")]
    pub paths: Vec<OsString>,
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
            let mut listing = Listing::new(opened, found, session, args.long);
            if wanted.is_empty() {
                listing.below(TreePath::root(), listing.tree.roots().to_vec(), true).await?;
            }
            for path in &wanted {
                listing.path(path, args.recursive).await?;
            }
            session.output.suggest(format_args!("onggi restore {}:PATH --target ./out", found.0.short()));
            Ok(exit.and(listing.exit))
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

/// A listing on its way.
struct Listing<'a> {
    tree: SnapshotTree,
    session: &'a Session,
    is_long: bool,
    exit: Exit,
}

impl<'a> Listing<'a> {
    fn new(opened: &Opened, (_, snapshot): &Found, session: &'a Session, is_long: bool) -> Self {
        let tree = SnapshotTree::new(opened.repo.clone(), vec![snapshot.tree], Vec::new());
        Self { tree, session, is_long, exit: Exit::Done }
    }

    /// An entry; of a folder what is in it.
    async fn path(&mut self, path: &TreePath, is_recursive: bool) -> Result<(), Failure> {
        if path.is_root() {
            return self.below(TreePath::root(), self.tree.roots().to_vec(), is_recursive).await;
        }
        let act = || format!("list /{}", escape(path.as_bytes()));
        let found = self.tree.find(path).await.map_err(|error| Failure::repository(act(), &error))?;
        let entry = found.ok_or_else(|| {
            Failure::new(Exit::Failed, act())
                .because("it is not in this snapshot")
                .hint(format!("onggi find {}", escape(path.name().unwrap_or_default())))
        })?;
        self.show(path, &entry);
        if entry.node.kind == NodeKind::Dir {
            self.below(path.clone(), entry.trees, is_recursive).await?;
        }
        Ok(())
    }

    /// What is in a folder, in the order of the names; with what is below, if wanted.
    async fn below(
        &mut self,
        path: TreePath,
        trees: Vec<onggi_repo::format::BlobId>,
        is_recursive: bool,
    ) -> Result<(), Failure> {
        let mut open = vec![(path.clone(), self.entries(&path, &trees).await)];
        while let Some((folder, entries)) = open.last_mut() {
            let Some(entry) = entries.next() else {
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
                let entries = self.entries(&path, &entry.trees).await;
                open.push((path, entries));
            }
        }
        Ok(())
    }

    async fn entries(
        &mut self,
        path: &TreePath,
        trees: &[onggi_repo::format::BlobId],
    ) -> std::vec::IntoIter<TreeEntry> {
        let (entries, lost) = self.tree.entries(trees).await;
        if let Some(error) = lost {
            self.session.problem("lost-directory", &format!("/{path}"), &error);
            self.exit = self.exit.and(Exit::from(&error)).and(Exit::Partial);
        }
        entries.into_iter()
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
