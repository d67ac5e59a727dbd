//! `onggi import`: backups that another tool made, as snapshots of their own times.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueHint};
use jiff::tz::TimeZone;
use onggi_engine::backup::{History, UnitPlan};
use onggi_engine::exit::Exit;
use onggi_engine::import::{ImportPlan, import, plan_import};
use onggi_engine::report::UnitReport;
use onggi_repo::lock::LockKind;
use onggi_source::bosh::native::ArtifactDirectory;
use onggi_source::days::Days;
use onggi_source::etcd::SnapshotFiles;
use onggi_source::openstack::jcloud_tree::JcloudTree as Tree;
use onggi_source::{Purpose, Remnant, Source, TreePath};
use serde_json::json;

use crate::escape::escape_text;
use crate::failure::Failure;
use crate::figure;
use crate::member;
use crate::session::{Opened, Session};
use crate::watcher::{Watcher, show_problem};

/// Takes over backups that another tool made.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi import rsync-tree /backups --host ctl1\n  \
    onggi import etcd-files /mnt/backup --cluster prod")]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to take over.
#[derive(Debug, Subcommand)]
pub enum Verb {
    RsyncTree(RsyncTree),
    EtcdFiles(EtcdFiles),
    BbrArtifact(BbrArtifact),
    JcloudTree(JcloudTree),
}

/// Takes over a folder of dated trees, such as rsync makes with hard links between the days.
///
/// Each folder named like 2016-03-04 becomes a snapshot of that day. What the days share is read once. A second import
/// takes only what is new; nothing in the folder is changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi import rsync-tree /backups --host ctl1 --dry-run\n  \
    onggi import rsync-tree /backups --host ctl1 --time-zone Asia/Seoul")]
pub struct RsyncTree {
    /// The folder.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub folder: PathBuf,
    /// The machine whose backups these are.
    #[arg(short = 'H', long, value_name = "HOST")]
    pub host: String,
    /// Name of the source that the snapshots count to; that of the configuration that goes on with them.
    #[arg(long, value_name = "SOURCE", default_value = "rsync-tree")]
    pub source: String,
    /// Where a day begins at midnight [default: this machine's].
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    #[command(flatten)]
    pub how: How,
}

/// Takes over files that `etcdctl snapshot save` wrote into a folder.
///
/// Each file is proved as far as a file alone can be: its SHA-256, its pages, its keys. Its time is that in a name like
/// etcd-snapshot-2020-03-04_05-06-07_UTC.db, or else that of its last change. A second import takes only what is new;
/// nothing in the folder is changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi import etcd-files /mnt/backup --cluster prod --dry-run\n  \
    onggi import etcd-files /mnt/backup --cluster prod --time-zone Asia/Seoul")]
pub struct EtcdFiles {
    /// The folder.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub folder: PathBuf,
    /// The cluster whose snapshots these are.
    #[arg(long, value_name = "CLUSTER")]
    pub cluster: String,
    /// Name of the source that the snapshots count to.
    #[arg(long, value_name = "SOURCE", default_value = "etcd-files")]
    pub source: String,
    /// The zone of times in names, where they do not say UTC.
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    #[command(flatten)]
    pub how: How,
}

/// Takes over an artifact directory that bbr wrote.
///
/// Its archives are taken apart and stored file by file, each compared with the hash that the directory has of it; the
/// directory's name says of which platform and when. Nothing in it is changed. What is stored can be restored into the
/// platform, and goes out again with onggi export bbr-artifact.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  onggi import bbr-artifact /backups/10.0.0.6_20261120T111131Z --source director\n  \
    onggi import bbr-artifact cf_20261120T111131Z --source cf --dry-run"
)]
pub struct BbrArtifact {
    /// The directory.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub folder: PathBuf,
    /// Name of the source that the snapshot counts to; that of the configuration that goes on with it.
    #[arg(long, value_name = "SOURCE", default_value = "bbr-artifact")]
    pub source: String,
    #[command(flatten)]
    pub how: How,
}

/// Takes over a tree of images that JCloud wrote on a backup server.
///
/// Each file like PROJECT/SERVER/SECONDS_IMAGE becomes a snapshot of that moment; the disk in it is stored, so
/// that what two moments share is stored once. A second import takes only what is new; nothing in the folder is changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi import jcloud-tree /mnt/backup --dry-run\n  \
    onggi import jcloud-tree /mnt/backup --source demo")]
pub struct JcloudTree {
    /// The folder.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub folder: PathBuf,
    /// Name of the source that the snapshots count to.
    #[arg(long, value_name = "SOURCE", default_value = "jcloud-tree")]
    pub source: String,
    #[command(flatten)]
    pub how: How,
}

/// What all imports can be told.
#[derive(Debug, clap::Args)]
pub struct How {
    /// Tags of the new snapshots.
    #[arg(long, value_name = "TAG,…", value_delimiter = ',')]
    pub tag: Vec<String>,
    /// Say what would be taken; store nothing.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// An import of any kind.
struct Taking<'a> {
    folder: &'a Path,
    how: &'a How,
    plan: UnitPlan,
    /// What one of them is called, and several.
    words: [&'static str; 2],
}

/// Imports.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    match args.verb {
        Verb::RsyncTree(args) => rsync_tree(&args, session).await,
        Verb::EtcdFiles(args) => etcd_files(&args, session).await,
        Verb::BbrArtifact(args) => bbr_artifact(&args, session).await,
        Verb::JcloudTree(args) => jcloud_tree(&args, session).await,
    }
}

async fn rsync_tree(args: &RsyncTree, session: &Session) -> Result<Exit, Failure> {
    let zone = zone(args.time_zone.as_deref())?.unwrap_or_else(TimeZone::system);
    let surroundings = member::surroundings(session, &args.source).await?;
    let source = Days::new(session.machine.absolute(&args.folder), &args.host, zone, surroundings);
    let plan = UnitPlan {
        source: args.source.clone(),
        kind: "rsync-tree".to_owned(),
        hostname: args.host.clone(),
        paths: vec!["/".to_owned()],
        ..unit_plan(&args.how, session)
    };
    let taking = Taking { folder: &args.folder, how: &args.how, plan, words: ["day", "days"] };
    session.with_own_end(LockKind::Shared, async |opened| take(&taking, &source, session, opened).await).await
}

async fn etcd_files(args: &EtcdFiles, session: &Session) -> Result<Exit, Failure> {
    let zone = zone(args.time_zone.as_deref())?;
    let source = SnapshotFiles::new(session.machine.absolute(&args.folder), &args.cluster, zone);
    let root = source.root().map_err(|error| Failure::usage("name the cluster").because(error))?;
    let plan = UnitPlan {
        source: args.source.clone(),
        kind: "etcd-files".to_owned(),
        hostname: args.cluster.clone(),
        manifest: Some(root),
        ..unit_plan(&args.how, session)
    };
    let taking = Taking { folder: &args.folder, how: &args.how, plan, words: ["file", "files"] };
    session.with_own_end(LockKind::Shared, async |opened| take(&taking, &source, session, opened).await).await
}

async fn bbr_artifact(args: &BbrArtifact, session: &Session) -> Result<Exit, Failure> {
    let source = ArtifactDirectory::new(session.machine.absolute(&args.folder));
    let unit = source.unit().map_err(|error| Failure::usage("read the directory's name").because(error))?;
    let plan = UnitPlan {
        source: args.source.clone(),
        kind: "bosh".to_owned(),
        hostname: unit.name,
        paths: vec!["/bosh".to_owned()],
        manifest: Some(TreePath::root()),
        ..unit_plan(&args.how, session)
    };
    let taking = Taking { folder: &args.folder, how: &args.how, plan, words: ["directory", "directories"] };
    session.with_own_end(LockKind::Shared, async |opened| take(&taking, &source, session, opened).await).await
}

async fn jcloud_tree(args: &JcloudTree, session: &Session) -> Result<Exit, Failure> {
    let source = Tree::new(session.machine.absolute(&args.folder));
    let plan = UnitPlan {
        source: args.source.clone(),
        kind: "jcloud-tree".to_owned(),
        paths: vec!["/jcloud".to_owned()],
        ..unit_plan(&args.how, session)
    };
    let taking = Taking { folder: &args.folder, how: &args.how, plan, words: ["capture", "captures"] };
    session.with_own_end(LockKind::Shared, async |opened| take(&taking, &source, session, opened).await).await
}

fn zone(name: Option<&str>) -> Result<Option<TimeZone>, Failure> {
    let zone = name.map(TimeZone::get).transpose();
    zone.map_err(|error| Failure::usage("read the time zone").because(error))
}

async fn take(taking: &Taking<'_>, source: &dyn Source, session: &Session, opened: &Opened) -> Result<Exit, Failure> {
    let run = session.run(Purpose::Backup);
    let history =
        History::load(&opened.repo).await.map_err(|error| Failure::repository("read the snapshots", &error))?;
    for problem in &history.problems.first {
        show_problem(&session.output, problem, "read");
    }
    let look = async {
        source.preflight(&run.context).await?;
        plan_import(&run.context, &history, source, &taking.plan).await
    };
    let act = || format!("look at {}", taking.folder.display());
    let plan = look.await.map_err(|error| Failure::new(Exit::from(&error), act()).chain(&error))?;
    show_plan(&plan, taking, session);
    if taking.how.dry_run {
        return Ok(Exit::Done);
    }
    let watcher = Watcher::new(&session.output, "import");
    let job = opened.job(session, &history, watcher.clone())?;
    let (mut stored, mut exits) = (Vec::new(), Vec::new());
    for day in &plan.take {
        if run.context.check().is_err() {
            exits.push(Exit::Failed);
            break;
        }
        let ticker = watcher.draw();
        let mut plan = taking.plan.clone();
        if plan.hostname.is_empty() {
            plan.hostname.clone_from(&day.unit.name); // of a tree each unit is a machine of its own
        }
        let report = import(&run.context, &job, source, &plan, day, &mut stored).await;
        drop(ticker);
        show(day, &report, session);
        exits.push(report.exit);
    }
    let exit = Exit::of_units(exits);
    Ok(session.interrupt.exit().filter(|_| exit != Exit::Done).unwrap_or(exit))
}

fn unit_plan(how: &How, session: &Session) -> UnitPlan {
    let tags = how.tag.iter().filter(|tag| !tag.is_empty()).cloned().collect();
    onggi_engine::import::unit_plan(tags, session.globals.limit_rate.map(|rate| rate.0))
}

fn show_plan(plan: &ImportPlan, taking: &Taking<'_>, session: &Session) {
    let output = &session.output;
    if output.is_json() {
        if taking.how.dry_run {
            let days: Vec<_> = plan.take.iter().map(|day| day.what.as_str()).collect();
            output.json(json!({"message_type": "plan", "take": days, "present": plan.known.len()}));
        }
        return;
    }
    if taking.how.dry_run {
        plan.take.iter().for_each(|day| output.data(format_args!("would take {}", escape_text(&day.what))));
    }
    if !plan.known.is_empty() {
        let known = figure::counted(plan.known.len() as u64, taking.words[0], taking.words[1]);
        output.talk(format_args!("{known} there already"));
    }
}

fn show(day: &Remnant, report: &UnitReport, session: &Session) {
    let output = &session.output;
    for problem in &report.problems.first {
        show_problem(output, problem, "import");
    }
    let Some(snapshot) = &report.snapshot else {
        let failure = Failure::new(report.exit, format!("take {}", escape_text(&day.what)));
        report.causes.iter().fold(failure, Failure::because).report(output);
        return;
    };
    let figures = &report.figures;
    if output.is_json() {
        return output.json(json!({
            "message_type": "summary",
            "day": day.what,
            "time": day.seen_at.to_string(),
            "snapshot_id": snapshot,
            "files": figures.total_files_processed,
            "files_unmodified": figures.files_unmodified,
            "bytes_read": report.bytes_read,
            "data_added_packed": figures.data_added_packed,
            "problems": report.problems.count,
        }));
    }
    let files = figure::counted(figures.total_files_processed, "file", "files");
    let (read, added) = (figure::bytes(report.bytes_read), figure::bytes(figures.data_added_packed));
    let id = snapshot.get(..8).unwrap_or(snapshot);
    output.data(format_args!("{}  {files}, {read} read, {added} added  snapshot {id}", escape_text(&day.what)));
}
