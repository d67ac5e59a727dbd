//! `onggi find`: in which snapshots a file is, and where.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use jiff::Timestamp;
use onggi_engine::exit::Exit;
use onggi_engine::restore::SnapshotTree;
use onggi_repo::format::{Node, NodeKind};
use onggi_repo::lock::LockKind;
use onggi_source::TreePath;
use onggi_source::paths::{Asked, Case, Pattern, Patterns};
use serde_json::{Value, json};

use super::filter::Filter;
use crate::escape::escape;
use crate::failure::Failure;
use crate::query::{self, Found};
use crate::session::{Opened, Session};
use crate::show::{node, snapshot};
use crate::value::Moment;

/// Finds files by name in snapshots.
///
/// A pattern with `*`, `?` or `[…]` must match the whole name, or the whole path if it contains `/`. Each match is shown
/// with its snapshot, newest snapshot first.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  onggi find report.odt\n  onggi find '*.conf' --path /etc --long\n  onggi find -i 'readme*' --newest 2026-11-01"
)]
pub struct Args {
    /// What to look for.
    #[arg(value_name = "PATTERN", required = true)]
    pub patterns: Vec<OsString>,
    /// Whatever the case.
    #[arg(short = 'i', long)]
    pub ignore_case: bool,
    /// Mode, owner, size and time too.
    #[arg(short = 'l', long)]
    pub long: bool,
    /// Modified at this time or later.
    #[arg(short = 'O', long, value_name = "TIME")]
    pub oldest: Option<Moment>,
    /// Modified at this time or earlier.
    #[arg(short = 'N', long, value_name = "TIME")]
    pub newest: Option<Moment>,
    /// Only in this snapshot.
    #[arg(short = 's', long, value_name = "SNAPSHOT")]
    pub snapshot: Vec<String>,
    #[command(flatten)]
    pub filter: Filter,
}

/// Looks for them.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let wanted = Wanted::new(&args)?;
    let queries = session.queries(&args.snapshot)?;
    session
        .with(LockKind::Reading, async |opened| {
            let (all, mut exit) = opened.snapshots(session).await?;
            let chosen: Vec<Found> = if queries.is_empty() {
                all.iter().filter(|(_, snapshot)| args.filter.takes(snapshot)).cloned().collect()
            } else {
                let named = queries.iter().map(|which| query::choose(which, &all, &args.filter).cloned());
                named.collect::<Result<_, _>>().map_err(|error| Failure::not_one(&error))?
            };
            let mut documents = Vec::new();
            let (mut hits, mut first) = (0, None);
            for found in chosen.iter().rev() {
                if !session.output.is_open() {
                    break;
                }
                let mut search = Search { session, wanted: &wanted, matches: Vec::new(), exit: Exit::Done };
                search.run(opened, found).await;
                exit = exit.and(search.exit);
                hits += search.matches.len();
                first = first.or_else(|| search.matches.first().map(|(path, _)| (found.0, path.clone())));
                show(found, &search.matches, &args, session, &mut documents);
            }
            if session.output.is_json() {
                session.output.json(Value::Array(documents));
            } else if hits == 0 {
                session.output.talk("nothing found");
            } else if let Some((id, path)) = first {
                session.output.suggest(format_args!("onggi restore {}:{} --target ./out", id.short(), escape(&path)));
            }
            Ok(exit)
        })
        .await
}

fn show((id, one): &Found, matches: &[(Vec<u8>, Node)], args: &Args, session: &Session, documents: &mut Vec<Value>) {
    if matches.is_empty() {
        return;
    }
    let output = &session.output;
    if output.is_json() {
        let found: Vec<_> = matches.iter().map(|(path, node)| node::match_document(path, node)).collect();
        documents.push(json!({"matches": found, "hits": matches.len(), "snapshot": id.to_string()}));
        return;
    }
    output.talk(format_args!("in snapshot {}", snapshot::sentence(id, one)));
    for (path, node) in matches {
        if args.long {
            output.data(format_args!("{} {}", id.short(), node::long(path, node)));
        } else {
            output.data(format_args!("{} {}", id.short(), escape(path)));
        }
    }
}

/// What is looked for.
struct Wanted {
    patterns: Patterns,
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
}

impl Wanted {
    fn new(args: &Args) -> Result<Self, Failure> {
        let case = if args.ignore_case { Case::Folded } else { Case::Exact };
        let mut patterns = Patterns::default();
        for text in &args.patterns {
            let pattern = Pattern::parse(text.as_bytes(), case)
                .map_err(|error| Failure::usage(format!("look for {}", escape(text.as_bytes()))).because(error))?;
            patterns.push(pattern);
        }
        let instant = |moment: &Option<Moment>| moment.as_ref().map(|moment| moment.0.timestamp());
        Ok(Self { patterns, oldest: instant(&args.oldest), newest: instant(&args.newest) })
    }

    fn takes(&self, path: &[u8], node: &Node) -> bool {
        let mtime = node.mtime.instant;
        self.oldest.is_none_or(|oldest| mtime >= oldest)
            && self.newest.is_none_or(|newest| mtime <= newest)
            && self.patterns.exclude(path, Asked::Above)
    }
}

/// A search through one snapshot.
struct Search<'a> {
    session: &'a Session,
    wanted: &'a Wanted,
    matches: Vec<(Vec<u8>, Node)>,
    exit: Exit,
}

impl Search<'_> {
    async fn run(&mut self, opened: &Opened, (id, snapshot): &Found) {
        let tree = SnapshotTree::new(opened.repo.clone(), vec![snapshot.tree], Vec::new());
        let mut open = vec![(TreePath::root(), tree.roots().to_vec())];
        while let Some((folder, trees)) = open.pop() {
            let (entries, lost) = tree.entries(&trees).await;
            if let Some(error) = lost {
                self.session.problem("lost-directory", &format!("{}:/{folder}", id.short()), &error);
                self.exit = self.exit.and(Exit::from(&error)).and(Exit::Partial);
            }
            for entry in entries {
                let Ok(path) = folder.join(&entry.node.name) else { continue };
                let shown = [b"/", path.as_bytes()].concat();
                if entry.node.kind == NodeKind::Dir {
                    open.push((path, entry.trees));
                }
                if self.wanted.takes(&shown, &entry.node) {
                    self.matches.push((shown, entry.node));
                }
            }
        }
        self.matches.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
}
