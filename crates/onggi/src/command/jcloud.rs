//! `onggi jcloud`: what the JCloud script does, from its own file of variables.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ValueHint;
use onggi_engine::backup::{History, UnitPlan};
use onggi_engine::edge::Rsync;
use onggi_engine::exit::Exit;
use onggi_engine::import::unit_plan;
use onggi_engine::jcloud::{Event, Jcloud, JcloudError, Settings, Shelf, Summary, Target, surplus};
use onggi_repo::forget::ForgetPlan;
use onggi_repo::lock::LockKind;
use onggi_source::openstack::jcloud::Project;
use onggi_source::openstack::{Openrc, OpenrcMode, OpenstackConfig};
use onggi_source::{Purpose, TreePath};
use onggi_storage::sftp::{PlainFolder, SftpOptions};
use serde_json::json;

use crate::escape::escape_text;
use crate::failure::Failure;
use crate::member;
use crate::session::{Opened, Session};
use crate::watcher::Watcher;

/// Does what the JCloud script does, from its own .env: images of servers, the newest in the cloud, the others on a backup
/// server.
///
/// The same variables, list of jobs, names and folders, so that either goes on with the other's work. Each file is read
/// back and compared before its image is removed from the cloud. A rate is in KiB/s, as rsync took it; BANDWIDTH_UNIT=MB
/// in the file says otherwise, ONLY_OLDEST=1 moves one image of a server in a run, as the script did, and RSYNC=1 has the
/// installed rsync send the files.
///
/// With --repo the same is done into a repository in the place of the backup server: each capture is a snapshot that
/// `onggi restore --to source` makes a server of, where the configuration has --source with kind openstack.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi jcloud --env /opt/jcloud/.env\n  onggi jcloud --env .env --strict\n  \
    onggi --repo main jcloud --env .env --source demo")]
pub struct Args {
    /// The script's file of variables.
    #[arg(long, value_name = "FILE", default_value = ".env", value_hint = ValueHint::FilePath)]
    pub env: PathBuf,
    /// End with 3 when a server failed or is left over; the script always ends with 0.
    #[arg(long)]
    pub strict: bool,
    /// Name of the source that snapshots count to, with --repo.
    #[arg(long, value_name = "SOURCE", default_value = "jcloud")]
    pub source: String,
}

/// Does it.
pub async fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let path = session.machine.absolute(&args.env);
    let reading = || format!("read {}", path.display());
    let text = std::fs::read_to_string(&path).map_err(|error| Failure::usage(reading()).because(error))?;
    let settings = Settings::read(&text, &session.machine.directory);
    let settings = settings.map_err(|faults| faults.iter().fold(Failure::usage(reading()), Failure::because))?;
    let openrc = Openrc {
        file: settings.openrc.clone(),
        mode: OpenrcMode::Source,
        args: vec![settings.account.clone(), settings.project.clone()],
    };
    let config = OpenstackConfig { openrc: Some(openrc), ..OpenstackConfig::default() };
    let surroundings =
        member::surroundings_without_repository(session, &format!("jcloud {}", settings.joblist.display()));
    let project = Project::new(config, surroundings, settings.project.clone());
    let is_korean = is_korean(session);
    if settings.rate.is_some() && !text.contains("BANDWIDTH_UNIT") {
        session.output.talk(if is_korean {
            "BANDWIDTH_LIMIT의 단위는 rsync와 같이 KiB/s입니다. MB/s로 쓰려면 BANDWIDTH_UNIT=MB를 더하십시오."
        } else {
            "BANDWIDTH_LIMIT is in KiB/s, as rsync takes it; BANDWIDTH_UNIT=MB makes it MB/s."
        });
    }
    let tell = |event: Event| show(&event, is_korean, session);
    let work = async |to: Target<'_>| {
        let cx = session.run(Purpose::Backup).context;
        let jcloud = Jcloud { settings: &settings, project: &project, to, tell: &tell };
        jcloud.run(&cx).await.map_err(|error| failure(&error))
    };
    let summary = if session.globals.repo.is_some() {
        into_repository(args, &settings, session, work).await?
    } else {
        let options = backup_server(&settings, session);
        let rsync = settings.rsync.then(|| Rsync {
            host: settings.host.clone(),
            user: settings.user.clone(),
            port: settings.port,
            key: settings.key.clone(),
            known_hosts: options.known_hosts.clone(),
            rate: settings.rate,
        });
        let remote = PlainFolder::open(options).await.map_err(|error| {
            Failure::new(Exit::from(&error), format!("enter the backup server {}", settings.host)).chain(&error)
        })?;
        work(Target::Folder(&remote, rsync.as_ref())).await?
    };
    let is_whole = summary.failed == 0 && summary.left == 0;
    Ok(if args.strict && !is_whole { Exit::Partial } else { Exit::Done })
}

fn backup_server(settings: &Settings, session: &Session) -> SftpOptions {
    let ssh = session.machine.home().join(".ssh/known_hosts");
    SftpOptions {
        host: settings.host.clone(),
        port: settings.port,
        user: settings.user.clone(),
        path: settings.remote.clone(),
        identity_files: vec![settings.key.clone()],
        identity_passphrase: None,
        agent: None,
        password: None,
        known_hosts: [ssh, PathBuf::from("/etc/ssh/ssh_known_hosts")]
            .into_iter()
            .filter(|path| path.exists())
            .collect(),
        host_key: None,
        clock: session.machine.clock(),
    }
}

/// Stores captures as snapshots, then forgets those of the same servers that are too many.
async fn into_repository(
    args: &Args,
    settings: &Settings,
    session: &Session,
    work: impl AsyncFnOnce(Target<'_>) -> Result<Summary, Failure>,
) -> Result<Summary, Failure> {
    let mut done = None;
    let store = async |opened: &Opened| {
        let history = History::load(&opened.repo).await;
        let history = history.map_err(|error| Failure::repository("read the snapshots", &error))?;
        let watcher = Watcher::new(&session.output, "jcloud");
        let shelf = Shelf::new(opened.job(session, &history, watcher)?, plan(args, settings, session));
        let summary = work(Target::Repository(&shelf)).await?;
        let surplus = !surplus_of(&summary, args, opened, session).await?.is_empty();
        done = Some((summary, surplus));
        Ok(Exit::Done)
    };
    let exit = session.with_own_end(LockKind::Shared, store).await?;
    let Some((summary, has_surplus)) = done else {
        return Err(Failure::new(exit, "store in the repository").because("it was asked to end"));
    };
    if has_surplus {
        let forget = async |opened: &Opened| {
            for plan in surplus_of(&summary, args, opened, session).await? {
                let forgotten = opened.repo.forget(&opened.lock, &plan).await;
                forgotten.map_err(|error| Failure::repository("forget old snapshots", &error))?;
                for id in plan.forgotten() {
                    show(&Event::Removed(format!("snapshot {}", id.short())), is_korean(session), session);
                }
            }
            Ok(Exit::Done)
        };
        session.with(LockKind::Exclusive, forget).await?;
        session.output.suggest("onggi repository prune");
    }
    Ok(summary)
}

/// What goes of each server of which a capture came.
async fn surplus_of(
    summary: &Summary,
    args: &Args,
    opened: &Opened,
    session: &Session,
) -> Result<Vec<ForgetPlan>, Failure> {
    let candidates = opened.repo.forget_candidates().await;
    let (candidates, _) = candidates.map_err(|error| Failure::repository("list snapshots", &error))?;
    let mut plans = Vec::new();
    // Several captures of one server may have come.
    let moved: BTreeMap<_, _> = summary.moved.iter().map(|(server, keep)| (server, *keep)).collect();
    for (server, keep) in moved {
        let plan = surplus(&candidates, &args.source, server, keep, session.now());
        plans.push(plan.map_err(|error| Failure::repository("plan what to forget", &error))?);
    }
    plans.retain(|plan| !plan.forgotten().is_empty());
    Ok(plans)
}

fn plan(args: &Args, settings: &Settings, session: &Session) -> UnitPlan {
    let rate = session.globals.limit_rate.map(|rate| rate.0).or(settings.rate);
    UnitPlan {
        source: args.source.clone(),
        kind: "openstack".to_owned(),
        paths: vec!["/openstack".to_owned()],
        manifest: Some(TreePath::root()),
        ..unit_plan(Vec::new(), rate)
    }
}

fn is_korean(session: &Session) -> bool {
    session.machine.variable(&["LC_ALL", "LC_MESSAGES", "LANG"]).is_some_and(|name| name.starts_with("ko"))
}

fn failure(error: &JcloudError) -> Failure {
    Failure::new(error.exit(), "do what the list of jobs says").chain(error)
}

fn show(event: &Event, is_korean: bool, session: &Session) {
    if session.output.is_json() {
        return session.output.json_now(document(event));
    }
    let pick = |korean: String, english: String| if is_korean { korean } else { english };
    let line = match event {
        Event::Filled(count) => {
            pick(format!("작업 목록에 서버 {count}대를 넣었습니다"), format!("{count} servers on the list"))
        }
        Event::Server(id) => pick(format!("서버 {id}"), format!("server {id}")),
        Event::Unknown(id) => {
            pick(format!("서버 {id}: 클라우드에 없습니다"), format!("server {id}: the cloud has none"))
        }
        Event::Begun(id) => pick(format!("  이미지 {id} 생성 시작"), format!("  image {id} begun")),
        Event::Moved(path, bytes) => {
            pick(format!("  {path} 전송 완료, {bytes}바이트"), format!("  {path} sent, {bytes} bytes"))
        }
        Event::Removed(path) => pick(format!("  {path} 삭제"), format!("  {path} removed")),
        Event::Deleted(id) => pick(format!("  이미지 {id} 삭제"), format!("  image {id} removed from the cloud")),
        Event::Unready(id) => {
            pick(format!("  이미지 {id}: 아직 준비되지 않았습니다"), format!("  image {id}: not ready yet"))
        }
        Event::Failed(what, why) => pick(format!("  실패: {what}: {why}"), format!("  failed: {what}: {why}")),
        Event::TimeOver(left) => {
            pick(format!("시간이 끝났습니다. 남은 서버 {left}대"), format!("the time is over, {left} servers are left"))
        }
    };
    let line = escape_text(&line).into_owned();
    match event {
        Event::Failed(..) | Event::Unknown(_) => session.output.say(line),
        _ => session.output.data(line),
    }
}

fn document(event: &Event) -> serde_json::Value {
    let (kind, what, more) = match event {
        Event::Filled(count) => ("filled", String::new(), json!(count)),
        Event::Server(id) => ("server", id.clone(), json!(null)),
        Event::Unknown(id) => ("unknown", id.clone(), json!(null)),
        Event::Begun(id) => ("begun", id.clone(), json!(null)),
        Event::Moved(path, bytes) => ("moved", path.clone(), json!(bytes)),
        Event::Removed(path) => ("removed", path.clone(), json!(null)),
        Event::Deleted(id) => ("deleted", id.clone(), json!(null)),
        Event::Unready(id) => ("unready", id.clone(), json!(null)),
        Event::Failed(what, why) => ("failed", what.clone(), json!(why)),
        Event::TimeOver(left) => ("time-over", String::new(), json!(left)),
    };
    json!({ "message_type": "jcloud", "event": kind, "what": what, "value": more })
}
