//! `onggi restore`: files of a snapshot, back into a folder; or the system itself, by its source.

pub mod bosh;
pub mod database;
pub mod etcd;
pub mod hosts;
pub mod openstack;
pub mod source;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{ValueEnum, ValueHint};
use onggi_engine::exit::Exit;
use onggi_engine::restore::{
    self, DirectoryRestore, Origin, Plan, Policy, Privilege, Report, Request, RestoreError, Selection, SnapshotTree,
    locate,
};
use onggi_repo::forget::INCOMPLETE;
use onggi_repo::format::Snapshot;
use onggi_repo::lock::LockKind;
use onggi_source::paths::Case;
use onggi_source::{Purpose, TreePath};
use serde_json::json;

use super::disk;
use super::filter::Filter;
use super::ls::tree_path;
use crate::escape::{escape, escape_text};
use crate::failure::Failure;
use crate::figure;
use crate::query::{self, Found};
use crate::session::{Opened, Session};
use crate::show::snapshot;
use crate::watcher::Watcher;

/// Restores files of a snapshot into a folder.
///
/// Nothing outside the folder is ever touched, whatever the snapshot contains. A path after the snapshot restores just
/// that; a name without `/` is looked for in the whole snapshot. Every path that was written is printed. With --disk
/// files come out of a disk image in the snapshot, single ones or all, and the path is one of the disk.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  onggi restore latest:report.odt --target ./out\n  onggi restore 4f1c09ab --target /mnt/new \
    --include '/etc/**'\n  onggi restore web-1@2026-11-03 --target ./web --dry-run\n  \
    onggi restore web-1@2026-11-03:/part1/etc --disk root.raw --target ./etc\n  \
    onggi restore etcd@2026-11-03 --to source --target /var/lib/etcd --initial-cluster m1=https://10.0.0.1:2380\n  \
    onggi restore ctl1@2026-11-03:/etc/nova --to source --target /restore"
)]
pub struct Args {
    /// Which snapshot, and optionally what of it.
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub snapshot: OsString,
    /// Where to.
    #[arg(short = 't', long, value_name = "DIR", value_hint = ValueHint::DirPath, required_unless_present = "to")]
    pub target: Option<PathBuf>,
    /// Restore what is in this disk image of the snapshot; paths and patterns are then those of the disk: /part1/etc.
    #[arg(long, value_name = "IMAGE", conflicts_with = "to")]
    pub disk: Option<OsString>,
    /// Restore the system itself, in the way of its kind; --target is then its data directory, or a directory of the host.
    #[arg(long, value_name = "WHAT", conflicts_with_all = ["include", "iinclude", "exclude", "iexclude", "existing",
        "overwrite", "verify", "privileged"])]
    pub to: Option<To>,
    /// With --to: show that what was restored works.
    #[arg(long, requires = "to")]
    pub prove: bool,
    /// Only what matches.
    #[arg(short = 'i', long, value_name = "PATTERN")]
    pub include: Vec<OsString>,
    /// The same, whatever the case.
    #[arg(long, value_name = "PATTERN")]
    pub iinclude: Vec<OsString>,
    /// Not what matches.
    #[arg(short = 'e', long, value_name = "PATTERN")]
    pub exclude: Vec<OsString>,
    /// The same, whatever the case.
    #[arg(long, value_name = "PATTERN")]
    pub iexclude: Vec<OsString>,
    /// What becomes of files that are there already; needed if the folder is not empty.
    #[arg(long, value_name = "WHAT")]
    pub existing: Option<Existing>,
    /// What becomes of files whose content is damaged in the repository.
    #[arg(long, value_name = "WHAT", default_value = "skip")]
    pub damaged: Damaged,
    /// Holes are always made where a file has only zeros.
    #[arg(long, hide = true)]
    pub sparse: bool,
    /// restic's words for --existing.
    #[arg(long, hide = true, value_name = "WHAT", conflicts_with = "existing")]
    pub overwrite: Option<Overwrite>,
    /// Read everything back and compare.
    #[arg(long)]
    pub verify: bool,
    /// Say what would be written; write nothing.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// As root: restore owners, devices, setuid bits and security attributes too.
    #[arg(long)]
    pub privileged: bool,
    /// Allow `/` as the target; with --to, of a host: what is there may be replaced.
    #[arg(long)]
    pub in_place: bool,
    /// Take also a snapshot whose reading ended early.
    #[arg(long)]
    pub allow_incomplete: bool,
    #[command(flatten)]
    pub filter: Filter,
    #[command(flatten)]
    pub etcd: etcd::Flags,
    #[command(flatten)]
    pub database: database::Flags,
    #[command(flatten)]
    pub hosts: hosts::Flags,
    #[command(flatten)]
    pub openstack: openstack::Flags,
    #[command(flatten)]
    pub bosh: bosh::Flags,
}

/// Where to, if not into a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum To {
    /// The kind of source that the snapshot is of.
    Source,
}

/// What becomes of files that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Existing {
    /// They stay.
    Keep,
    /// They are replaced, unless they have the same content.
    Replace,
    /// They are replaced by newer ones.
    Newer,
}

/// restic's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Overwrite {
    /// `replace`.
    Always,
    /// `replace`.
    IfChanged,
    /// `newer`.
    IfNewer,
    /// `keep`.
    Never,
}

/// What becomes of files whose content is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Damaged {
    /// Nothing is left under their names.
    Skip,
    /// They end in `.onggi-damaged`, with a map of what is lost.
    Mark,
    /// Zeros stand for what is lost.
    Zero,
}

/// Restores.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let Some(folder) = args.target.clone().filter(|_| args.to.is_none()) else {
        return source::run(args, session).await;
    };
    let (which, path) = session.query_with_path(&args.snapshot)?;
    let path = tree_path(&path)?;
    let selection = selection(&args)?;
    let target = session.absolute(&folder)?;
    session.refuse_inside_repository("restore", &target).await?;
    session
        .with_own_end(LockKind::Reading, async |opened| {
            let (all, exit) = opened.snapshots(session).await?;
            let found = query::choose(&which, &all, &args.filter).map_err(|error| Failure::not_one(&error))?;
            refuse_incomplete(&args, found)?;
            let restored = restore(&args, session, opened, found, path, selection, target).await?;
            // What comes back is whole, whatever else is damaged.
            let exit = if exit == Exit::Damaged { Exit::Partial } else { exit };
            Ok(exit.and(restored))
        })
        .await
}

async fn restore(
    args: &Args,
    session: &Session,
    opened: &Opened,
    found: &Found,
    wanted: TreePath,
    selection: Selection,
    target: PathBuf,
) -> Result<Exit, Failure> {
    let (output, (id, snapshot)) = (&session.output, found);
    output.talk(format_args!("restore snapshot {}", snapshot::sentence(id, snapshot)));
    let (origin, path) = if let Some(image) = &args.disk {
        let tree = disk::open(session, opened, found, image).await?;
        disk::check(&tree, &wanted).await?;
        (Origin::from(tree), wanted)
    } else {
        let tree = SnapshotTree::new(opened.repo.clone(), vec![snapshot.tree], Vec::new());
        let path = located(&tree, snapshot, &wanted).await?;
        (tree.into(), path)
    };
    let request = Request {
        path,
        selection,
        existing: policy(args),
        damaged: match args.damaged {
            Damaged::Skip => restore::Damaged::Skip,
            Damaged::Mark => restore::Damaged::Mark,
            Damaged::Zero => restore::Damaged::Zero,
        },
        privilege: if args.privileged { Privilege::Full } else { Privilege::Plain },
        in_place: args.in_place,
        verify: args.verify,
        target: target.clone(),
    };
    let run = session.run(Purpose::Restore);
    let planned = DirectoryRestore::plan(origin, request, &run.context).await;
    let planned = planned.map_err(|error| failure(&target, &error))?;
    refuse_nothing(args, planned.planned())?;
    if args.dry_run {
        show_plan(planned.planned(), &target, session);
        return Ok(Exit::Done);
    }
    let watcher = Watcher::new(output, "restore");
    watcher.print_items_below(args.target.as_deref().unwrap_or(&target));
    let ticker = watcher.draw();
    let applied = planned.apply(&run.context, watcher.clone()).await;
    drop(ticker);
    let report = applied.map_err(|error| failure(&target, &error))?;
    Ok(show(&report, planned.planned(), &target, session, run.elapsed()))
}

/// A pattern that fits nothing is a slip of the pen, not a wish to restore nothing.
/// What was read in part is no backup, and is not taken for one.
fn refuse_incomplete(args: &Args, (id, snapshot): &Found) -> Result<(), Failure> {
    if args.allow_incomplete || !snapshot.has_tag(INCOMPLETE) {
        return Ok(());
    }
    let failure = Failure::new(Exit::Refused, format!("restore snapshot {}", id.short()));
    Err(failure
        .because("it is incomplete: its reading ended early")
        .hint("choose a whole one, or say --allow-incomplete"))
}

fn refuse_nothing(args: &Args, plan: &Plan) -> Result<(), Failure> {
    let has_patterns = !args.include.is_empty() || !args.iinclude.is_empty();
    if !has_patterns || plan.files + plan.dirs + plan.others + plan.keeps > 0 {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, "restore what --include names")
        .because("nothing in the snapshot matches it")
        .hint("onggi find PATTERN"))
}

fn policy(args: &Args) -> Option<Policy> {
    let from_restic = args.overwrite.map(|overwrite| match overwrite {
        Overwrite::Always | Overwrite::IfChanged => Policy::Replace,
        Overwrite::IfNewer => Policy::Newer,
        Overwrite::Never => Policy::Keep,
    });
    let own = args.existing.map(|existing| match existing {
        Existing::Keep => Policy::Keep,
        Existing::Replace => Policy::Replace,
        Existing::Newer => Policy::Newer,
    });
    own.or(from_restic)
}

fn selection(args: &Args) -> Result<Selection, Failure> {
    let mut selection = Selection::default();
    let lists = [
        (&args.include, Case::Exact, true),
        (&args.iinclude, Case::Folded, true),
        (&args.exclude, Case::Exact, false),
        (&args.iexclude, Case::Folded, false),
    ];
    for (patterns, case, includes) in lists {
        for pattern in patterns {
            let bytes = pattern.as_bytes();
            let added = if includes { selection.include(bytes, case) } else { selection.exclude(bytes, case) };
            added.map_err(|error| Failure::usage(format!("read the pattern {}", escape(bytes))).because(error))?;
        }
    }
    Ok(selection)
}

/// What is meant by a path of a snapshot.
pub(super) async fn located(tree: &SnapshotTree, snapshot: &Snapshot, wanted: &TreePath) -> Result<TreePath, Failure> {
    let roots: Vec<TreePath> = snapshot.paths.iter().filter_map(|path| tree_path(path.as_bytes()).ok()).collect();
    locate(tree, &roots, wanted).await.map_err(|error| not_located(wanted, &error))
}

fn not_located(wanted: &TreePath, error: &onggi_repo::RepoError) -> Failure {
    let act = format!("look for /{}", escape(wanted.as_bytes()));
    match error {
        onggi_repo::RepoError::Missing(_) => Failure::new(Exit::Failed, act)
            .because("it is not in this snapshot")
            .hint(format!("onggi find {}", escape(wanted.name().unwrap_or_default()))),
        onggi_repo::RepoError::Ambiguous(places) => Failure::new(Exit::Failed, act)
            .because(format!("several are meant: {places}"))
            .hint("give the whole path after the colon"),
        error => Failure::repository(act, error),
    }
}

fn failure(target: &Path, error: &RestoreError) -> Failure {
    let act = format!("restore into {}", target.display());
    match error {
        RestoreError::NotEmpty(_) => {
            Failure::usage(act).because(error).hint("choose another folder, or say --existing keep, replace or newer")
        }
        RestoreError::Live => Failure::usage(act).because(error).hint("choose another folder, or say --in-place"),
        RestoreError::Full { needed, free, .. } => Failure::new(Exit::Full, act)
            .because(format!("it is full: {} are needed and {} are free", figure::bytes(*needed), figure::bytes(*free)))
            .hint("free space or choose another folder; --existing keep goes on where it stood"),
        RestoreError::Target(_, fault) => Failure::local(act, fault),
        RestoreError::Repository(_) | RestoreError::Disk(_) => disk::failure(act, error),
        RestoreError::Stopped(stop) => {
            Failure::new(Exit::from(*stop), act).because(stop).hint("--existing keep goes on where it stood")
        }
    }
}

fn show_plan(plan: &Plan, target: &Path, session: &Session) {
    let output = &session.output;
    if output.is_json() {
        let mut document = serde_json::to_value(plan).expect("a plan is plain data");
        document["message_type"] = "plan".into();
        document["target"] = target.display().to_string().into();
        return output.json(document);
    }
    output.data(format_args!(
        "would write {}, {} and {} others, {}, to {}",
        figure::counted(plan.files, "file", "files"),
        figure::counted(plan.dirs, "folder", "folders"),
        figure::count(plan.others),
        figure::bytes(plan.bytes),
        target.display()
    ));
    for path in &plan.replaced {
        output.data(format_args!("would replace {}", escape_text(path)));
    }
    let unnamed = plan.replaces.saturating_sub(plan.replaced.len() as u64);
    if unnamed > 0 {
        output.data(format_args!("would replace {} more", figure::count(unnamed)));
    }
    if plan.keeps > 0 {
        output.data(format_args!("would keep {}", figure::count(plan.keeps)));
    }
}

fn show(report: &Report, plan: &Plan, target: &Path, session: &Session, took: std::time::Duration) -> Exit {
    let output: &Arc<_> = &session.output;
    let exit = if report.problems.is_empty() { Exit::Done } else { Exit::Partial };
    if output.is_json() {
        output.json(json!({
            "message_type": "summary",
            "seconds_elapsed": took.as_secs(),
            "total_files": plan.files + plan.keeps,
            "files_restored": report.files_restored,
            "files_skipped": report.files_unchanged,
            "files_deleted": 0,
            "total_bytes": plan.bytes,
            "bytes_restored": report.bytes_restored,
            "bytes_skipped": plan.bytes.saturating_sub(report.bytes_restored),
            "target": target.display().to_string(),
            "report": report,
            "exit": exit,
        }));
        return exit;
    }
    let mut figures = vec![
        figure::counted(report.files_restored, "file", "files"),
        figure::bytes(report.bytes_restored),
        figure::duration(took),
    ];
    if report.files_unchanged > 0 {
        figures.push(format!("{} unchanged", figure::count(report.files_unchanged)));
    }
    if report.files_verified > 0 {
        figures.push(format!("{} read back", figure::count(report.files_verified)));
    }
    if !report.problems.is_empty() {
        figures.push(figure::counted(report.problems.count, "problem", "problems"));
    }
    output.talk(format_args!("  {}      restored to {}", figures.join(output.dot()), target.display()));
    if exit == Exit::Done && report.files_verified == 0 {
        output.suggest("onggi repository verify --read-data-subset 5%");
    }
    for (kind, count) in &report.left_out {
        output.talk(format_args!(
            "  left out: {kind:?} of {}; --privileged as root restores it",
            figure::counted(*count, "entry", "entries")
        ));
    }
    exit
}
