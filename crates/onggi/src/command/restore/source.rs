//! `onggi restore --to source`: a snapshot or a chain of them, back into the system that it is of, by its own adapter.

use std::path::PathBuf;

use onggi_engine::exit::Exit;
use onggi_engine::restore::{ChainError, SnapshotTree, carry_out, chain};
use onggi_repo::format::Snapshot;
use onggi_repo::lock::LockKind;
use onggi_source::etcd::EtcdConfig;
use onggi_source::{
    Context, Destination, Proof, Purpose, RestorePlan, RestoreRequest, Source, SourceConfig, SourceError, Step, Unit,
    UnitId,
};
use serde_json::json;

use super::Args;
use super::{database, etcd};
use crate::counted::Counted;
use crate::escape::{escape_prose, escape_text};
use crate::failure::Failure;
use crate::figure;
use crate::member;
use crate::query::{self, Found};
use crate::session::{Opened, Session};
use crate::show::snapshot;
use crate::watcher::Watcher;

/// The kind whose snapshots can be restored without a configuration.
const ETCD: &str = "etcd";
const DATABASE: &str = "database";
const HOSTS: &str = "hosts";
const OPENSTACK: &str = "openstack";
const BOSH: &str = "bosh";

/// A snapshot with its chain, and the source that it is of.
pub struct Chained {
    /// What is stored.
    pub tree: SnapshotTree,
    /// Whose it is.
    pub unit: Unit,
    /// The source's name.
    pub name: String,
    /// Its adapter.
    pub source: Box<dyn Source>,
    kind: String,
}

impl Chained {
    /// Refuses snapshots of other kinds.
    pub fn must_be_of_etcd(&self) -> Result<(), Failure> {
        if self.kind == ETCD {
            return Ok(());
        }
        Err(Failure::usage(format!("restore {}", escape_text(&self.unit.name)))
            .because(format!("it is of kind {}, not of etcd", self.kind)))
    }
}

/// What becomes of a planned restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// It is only shown.
    pub shows_only: bool,
    /// It is proved.
    pub proves: bool,
}

/// Restores.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let (which, path) = session.query_with_path(&args.snapshot)?;
    let target = args.target.as_ref().map(|target| session.absolute(target)).transpose()?;
    if let Some(target) = &target {
        session.refuse_inside_repository("restore", target).await?;
    }
    let wanted = Wanted { shows_only: args.dry_run, proves: args.prove };
    session
        .with_own_end(LockKind::Reading, async |opened| {
            let (all, exit) = opened.snapshots(session).await?;
            let found = query::choose(&which, &all, &args.filter).map_err(|error| Failure::not_one(&error))?;
            super::refuse_incomplete(&args, found)?;
            let found = reaching(&args.etcd, &all, found);
            session.output.talk(format_args!("restore snapshot {}", snapshot::sentence(&found.0, &found.1)));
            let chained = open(session, opened, &all, found).await?;
            if !path.is_empty() && chained.kind != HOSTS {
                return Err(Failure::usage("restore into the source")
                    .because("a path within the snapshot is for --target alone"));
            }
            let destination = match chained.source.capabilities().destinations {
                [] => return Err(unsupported(&chained)),
                some if some.contains(&Destination::Beside) => Destination::Beside,
                some => some[0],
            };
            let unit = chained.unit.clone();
            let request = match &chained.kind[..] {
                HOSTS => RestoreRequest::new(unit, destination, &args.hosts.options(target, args.in_place, &path)),
                BOSH => RestoreRequest::new(unit, destination, &args.bosh.options()),
                OPENSTACK => RestoreRequest::new(unit, destination, &args.openstack.options()),
                _ => request(&chained, destination, (&args.etcd, &args.database), target, session)?,
            };
            Ok(exit.and(restore_and_show(session, &chained, &request, wanted).await?))
        })
        .await
}

/// With a revision or a time asked for, the first snapshot of the unit that reaches it, if that is not the chosen one.
fn reaching<'a>(flags: &etcd::Flags, all: &'a [Found], chosen: &'a Found) -> &'a Found {
    let unit = |snapshot: &Found| snapshot.1.tags.iter().find(|tag| tag.starts_with("unit:")).cloned();
    let own = all.iter().filter(|one| unit(one) == unit(chosen) && one.1.time.instant <= chosen.1.time.instant);
    let reaches = |one: &&Found| match (flags.revision, &flags.at) {
        (Some(revision), _) => {
            onggi_source::etcd::model::revisions(&one.1.tags).is_some_and(|own| own.contains(&revision))
        }
        (None, Some(moment)) => one.1.time.instant >= moment.0.timestamp(),
        (None, None) => false,
    };
    let is_delta = |one: &&Found| one.1.tags.iter().any(|tag| tag == "delta");
    let before = |moment: jiff::Timestamp| own.clone().rev().find(|one| one.1.time.instant <= moment);
    let reaching = own.clone().find(reaches);
    match (&flags.at, reaching) {
        // A full shows its own moment, which is later than what was asked for.
        (Some(moment), found) if !found.is_some_and(|one| is_delta(&one)) => {
            before(moment.0.timestamp()).unwrap_or(chosen)
        }
        (_, found) => found.unwrap_or(chosen),
    }
}

/// Joins the chain and builds the adapter: of the configuration, or bare where it needs none.
pub async fn open(session: &Session, opened: &Opened, all: &[Found], found: &Found) -> Result<Chained, Failure> {
    let act = || format!("restore snapshot {}", found.0.short());
    let joined = chain(&opened.repo, all, &found.0).await;
    if let (Err(ChainError::Plain(_)), Some((source, unit))) = (&joined, of_host(&found.1)) {
        return open_host(session, opened, found, source, unit).await;
    }
    let (tree, manifest) = joined.map_err(|error| match &error {
        ChainError::Plain(_) => Failure::usage(act()).because(error).hint("say --target DIR without --to"),
        ChainError::Broken(_) => Failure::new(Exit::Damaged, act()).because(error).hint("name an earlier snapshot"),
        ChainError::Unreadable(_, cause) => Failure::new(Exit::from(cause), act()).chain(&error),
    })?;
    let surroundings = member::surroundings(session, &manifest.source).await?;
    let config = session.config().await?;
    let configured = config.as_deref().and_then(|config| config.sources.get(&manifest.source));
    let own = configured.map(|source| &source.source).filter(|source| source.kind() == manifest.kind);
    let bare = || SourceConfig::Etcd(EtcdConfig { cluster: Some(manifest.unit.name.clone()), ..EtcdConfig::default() });
    let config = match own {
        Some(own) => own.clone(),
        None if manifest.kind == ETCD => bare(),
        None => {
            let text = format!("no source {} of kind {} is configured", manifest.source, manifest.kind);
            return Err(Failure::usage(act()).because(escape_text(&text)).hint("say --target DIR without --to"));
        }
    };
    let source = config.build(surroundings);
    let source = source.map_err(|faults| {
        faults.iter().fold(Failure::usage(act()), |failure, fault| failure.because(fault).hint(&fault.remedy))
    })?;
    Ok(Chained { tree, unit: manifest.unit, name: manifest.source, source, kind: manifest.kind })
}

/// The source and the unit of a snapshot that is as restic's, without notes of onggi: its tags know them.
fn of_host(snapshot: &Snapshot) -> Option<(String, Unit)> {
    let value = |key: &str| snapshot.tags.iter().find_map(|tag| Some(tag.strip_prefix(key)?.to_owned()));
    let (kind, source, unit) = (value("kind:")?, value("source:")?, value("unit:")?);
    (kind == HOSTS).then(|| (source, Unit { id: UnitId::from(unit.as_str()), name: snapshot.hostname.clone() }))
}

async fn open_host(
    session: &Session,
    opened: &Opened,
    found: &Found,
    name: String,
    unit: Unit,
) -> Result<Chained, Failure> {
    let act = || format!("restore snapshot {}", found.0.short());
    let surroundings = member::surroundings(session, &name).await?;
    let config = session.config().await?;
    let configured = config.as_deref().and_then(|config| config.sources.get(&name));
    let configured = configured.filter(|source| source.source.kind() == HOSTS).ok_or_else(|| {
        let text = format!("no source {name} of kind {HOSTS} is configured");
        Failure::usage(act()).because(escape_text(&text)).hint("say --target DIR without --to")
    })?;
    let source = configured.source.clone().build(surroundings);
    let source = source.map_err(|faults| {
        faults.iter().fold(Failure::usage(act()), |failure, fault| failure.because(fault).hint(&fault.remedy))
    })?;
    let tree = SnapshotTree::new(opened.repo.clone(), vec![found.1.tree], Vec::new());
    Ok(Chained { tree, unit, name, source, kind: HOSTS.to_owned() })
}

/// What the adapter is asked for.
pub fn request(
    chained: &Chained,
    to: Destination,
    (etcd, database): (&etcd::Flags, &database::Flags),
    target: Option<PathBuf>,
    session: &Session,
) -> Result<RestoreRequest, Failure> {
    let unit = chained.unit.clone();
    Ok(match &chained.kind[..] {
        ETCD => RestoreRequest::new(unit, to, &etcd.options(target, session)?),
        DATABASE => RestoreRequest::new(unit, to, &database.options()),
        _ => RestoreRequest::new(unit, to, &()),
    })
}

/// Restores in a run of its own, and says that it is done.
pub async fn restore_and_show(
    session: &Session,
    chained: &Chained,
    request: &RestoreRequest,
    wanted: Wanted,
) -> Result<Exit, Failure> {
    let run = session.run(Purpose::Restore);
    let (counted, cx) = Counted::over(&run.context);
    let proof = restore(session, &cx, chained, request, wanted).await?;
    if !wanted.shows_only {
        show(session, chained, proof.as_ref(), run.elapsed());
    }
    Ok(counted.exit())
}

/// Plans, shows, asks where something is replaced, and carries out.
pub async fn restore(
    session: &Session,
    cx: &Context,
    chained: &Chained,
    request: &RestoreRequest,
    wanted: Wanted,
) -> Result<Option<Proof>, Failure> {
    let act = || format!("restore {}", escape_text(&chained.unit.name));
    let failed = |error: &SourceError| Failure::new(Exit::from(error), act()).chain(error);
    let planned = chained.source.restore(cx, request, &chained.tree).await.map_err(|error| failed(&error))?;
    show_plan(session, planned.plan());
    if wanted.shows_only {
        return Ok(None);
    }
    let steps = &planned.plan().steps;
    if let Some(Step::Cannot(text)) = steps.iter().find(|step| matches!(step, Step::Cannot(_))) {
        return Err(Failure::new(Exit::Refused, act()).because(escape_prose(text)));
    }
    if steps.iter().any(|step| matches!(step, Step::Replace(_))) {
        session.consent(&act(), "Replace what is there?").await?;
    }
    let watcher = Watcher::new(&session.output, "restore");
    let ticker = watcher.draw();
    let done = carry_out(cx, &*chained.source, &chained.unit, planned, wanted.proves).await;
    drop(ticker);
    done.map_err(|error| failed(&error))
}

fn unsupported(chained: &Chained) -> Failure {
    Failure::usage(format!("restore {}", escape_text(&chained.unit.name)))
        .because(format!("kind {} cannot be restored into the system by itself", chained.kind))
        .hint("say --target DIR without --to")
}

fn show_plan(session: &Session, plan: &RestorePlan) {
    let step = |step: &Step| match step {
        Step::Create(text) => ("create", text.clone()),
        Step::Replace(text) => ("replace", text.clone()),
        Step::Leave(text) => ("leave", text.clone()),
        Step::Cannot(text) => ("cannot", text.clone()),
    };
    let steps: Vec<_> = plan.steps.iter().map(step).collect();
    if session.output.is_json() {
        let steps: Vec<_> = steps.into_iter().map(|(word, text)| json!({"do": word, "what": text})).collect();
        return session.output.json_now(json!({"message_type": "plan", "steps": steps}));
    }
    for (word, text) in steps {
        session.output.data(format_args!("{word:<8}{}", escape_prose(&text)));
    }
}

fn show(session: &Session, chained: &Chained, proof: Option<&Proof>, took: std::time::Duration) {
    let checks = proof.map(|proof| proof.checks.clone()).unwrap_or_default();
    let output = &session.output;
    if output.is_json() {
        return output.json(json!({
            "message_type": "summary",
            "source": chained.name,
            "unit": chained.unit.id.as_str(),
            "seconds_elapsed": took.as_secs_f64(),
            "checks": checks,
        }));
    }
    for check in &checks {
        output.data(format_args!("proved  {}", escape_prose(check)));
    }
    output.talk(format_args!("  restored in {}", figure::duration(took)));
}
