//! `onggi diff`: what changed between two snapshots.

mod text;

use std::ffi::OsString;

use onggi_engine::exit::Exit;
use onggi_engine::restore::SnapshotTree;
use onggi_repo::diff::{Change, Difference};
use onggi_repo::format::{BlobId, NodeKind};
use onggi_repo::lock::LockKind;
use serde_json::{Value, json};

use super::filter::Filter;
use super::ls::tree_path;
use crate::escape::escape;
use crate::failure::Failure;
use crate::figure;
use crate::query::{self, Found};
use crate::session::{Opened, Session};
use crate::show::snapshot;

/// Shows what changed between two snapshots.
///
/// `+` added, `-` removed, `M` content changed, `T` turned into something else, `U` only metadata changed.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  onggi diff latest~1 latest\n  onggi diff 4f1c09ab:/etc 90ab12cd:/etc --metadata\n  \
    onggi diff latest~1 latest --text"
)]
pub struct Args {
    /// The older one.
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub from: OsString,
    /// The newer one.
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub to: OsString,
    /// Show changes of metadata too.
    #[arg(long)]
    pub metadata: bool,
    /// Show what changed inside of text files, line by line.
    #[arg(long)]
    pub text: bool,
    #[command(flatten)]
    pub filter: Filter,
}

/// Compares them.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let (from, from_path) = session.query_with_path(&args.from)?;
    let (to, to_path) = session.query_with_path(&args.to)?;
    session
        .with(LockKind::Reading, async |opened| {
            let (all, exit) = opened.snapshots(session).await?;
            let choose = |which| query::choose(which, &all, &args.filter).map_err(|error| Failure::not_one(&error));
            let (from, to) = (choose(&from)?, choose(&to)?);
            let sentence = |(id, one): &Found| snapshot::sentence(id, one);
            session.output.talk(format_args!("from {}", sentence(from)));
            session.output.talk(format_args!("to   {}", sentence(to)));
            let (old, new) = (folder(opened, from, &from_path).await?, folder(opened, to, &to_path).await?);
            let mut tally = Tally::default();
            let mut texts = Vec::new();
            let compared = opened.repo.diff(old, new, |change| {
                tally.add(&change);
                show(&change, &args, session);
                if args.text && text::may_be_text(&change) && texts.len() < text::TEXTS_MAX {
                    texts.push(change.path.clone());
                }
            });
            compared.await.map_err(|error| Failure::repository("compare", &error))?;
            for path in &texts {
                text::show(opened, (old, new), path, session).await?;
            }
            finish(&tally, from, to, session);
            Ok(exit)
        })
        .await
}

/// The tree of a folder in a snapshot.
async fn folder(opened: &Opened, (_, snapshot): &Found, path: &[u8]) -> Result<BlobId, Failure> {
    let path = tree_path(path)?;
    if path.is_root() {
        return Ok(snapshot.tree);
    }
    let act = || format!("compare /{}", escape(path.as_bytes()));
    let tree = SnapshotTree::new(opened.repo.clone(), vec![snapshot.tree], Vec::new());
    let found = tree.find(&path).await.map_err(|error| Failure::repository(act(), &error))?;
    found
        .and_then(|entry| entry.node.subtree)
        .ok_or_else(|| Failure::new(Exit::Failed, act()).because("it is not a folder in this snapshot"))
}

/// What was added and removed.
#[derive(Debug, Default)]
struct Tally {
    changed: u64,
    added: Side,
    removed: Side,
}

#[derive(Debug, Default)]
struct Side {
    files: u64,
    dirs: u64,
    others: u64,
    bytes: u64,
}

impl Side {
    fn add(&mut self, kind: &NodeKind, bytes: u64) {
        match kind {
            NodeKind::File => self.files += 1,
            NodeKind::Dir => self.dirs += 1,
            _ => self.others += 1,
        }
        self.bytes += bytes;
    }

    fn document(&self) -> Value {
        json!({"files": self.files, "dirs": self.dirs, "others": self.others, "bytes": self.bytes})
    }
}

impl Tally {
    fn add(&mut self, change: &Change) {
        let (old, new) = change.sizes;
        match change.difference {
            Difference::Added => self.added.add(&change.kind, new),
            Difference::Removed => self.removed.add(&change.kind, old),
            Difference::Content | Difference::Kind => {
                self.changed += 1;
                self.removed.bytes += old;
                self.added.bytes += new;
            }
            Difference::Metadata => {}
        }
    }
}

fn modifier(difference: Difference) -> &'static str {
    match difference {
        Difference::Added => "+",
        Difference::Removed => "-",
        Difference::Content => "M",
        Difference::Metadata => "U",
        Difference::Kind => "T",
    }
}

fn show(change: &Change, args: &Args, session: &Session) {
    if change.difference == Difference::Metadata && !args.metadata {
        return;
    }
    let slash = if change.kind == NodeKind::Dir { "/" } else { "" };
    let path = [b"/", change.path.as_slice(), slash.as_bytes()].concat();
    let modifier = modifier(change.difference);
    if session.output.is_json() {
        let path = String::from_utf8_lossy(&path);
        session.output.json(json!({"message_type": "change", "path": path, "modifier": modifier}));
    } else {
        session.output.data(format_args!("{modifier}    {}", escape(&path)));
    }
}

fn finish(tally: &Tally, from: &Found, to: &Found, session: &Session) {
    let output = &session.output;
    if output.is_json() {
        output.json(json!({
            "message_type": "statistics",
            "source_snapshot": from.0.to_string(),
            "target_snapshot": to.0.to_string(),
            "changed_files": tally.changed,
            "added": tally.added.document(),
            "removed": tally.removed.document(),
        }));
        return;
    }
    let side = |side: &Side| {
        let entries = side.files + side.dirs + side.others;
        format!("{} ({})", figure::count(entries), figure::bytes(side.bytes))
    };
    let dot = output.dot();
    output.talk(format_args!(
        "  {} changed{dot}{} added{dot}{} removed",
        figure::count(tally.changed),
        side(&tally.added),
        side(&tally.removed)
    ));
}
