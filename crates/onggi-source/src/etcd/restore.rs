//! Restores a snapshot, or a chain of them, into data directories that new members start from.
//!
//! [`identity`] says who they are, [`database`] writes what they hold, [`raft_snapshot`] and [`wal`] the log that they
//! begin with, [`directory`] puts it in place, [`mark`] notes what was made. All of it is written here, because old
//! clusters have no etcdutl and no program of etcd's knows deltas; etcdutl stands in for versions that were never tested.

mod database;
pub(super) mod directory;
mod identity;
pub(super) mod mark;
mod options;
mod outside;
mod proto;
mod raft_snapshot;
mod stored;
#[cfg(test)]
mod tests;
mod wal;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

pub use self::options::{BUMP_KUBERNETES, CLUSTER_DEFAULT, Engine, Placement, QUOTA_DEFAULT, RestoreOptions, Until};

use self::database::{Changes, Newest, Written, unwritten};
use self::directory::{Place, State};
use self::identity::ClusterIdentity;
use self::mark::{Mark, Marked};
use self::stored::Full;
use super::bolt::{Bolt, Slice};
use super::cluster::is_tested;
use super::delta::replay::Replay;
use super::{Etcd, drill};
use crate::context::{Context, Destination, Problem};
use crate::source::{Proof, Restore, RestorePlan, RestoreRequest, Result, SourceError, Step, Stored};
use crate::spool::FileSpool;

/// A database is dropped its alarm if it needs less than this share of its quota, in percent.
const ROOM_PERCENT: u64 = 80;
/// A file that is so many times larger than what it holds is written anew, page by page.
const SPARSE_FACTOR: u64 = 2;

/// A planned restore.
pub(super) struct IntoDirectories<'a> {
    etcd: &'a Etcd,
    request: &'a RestoreRequest,
    from: &'a dyn Stored,
    options: RestoreOptions,
    full: Full,
    cluster: ClusterIdentity,
    token: String,
    places: Vec<Place>,
    plan: RestorePlan,
    drops_no_space: bool,
    done: Option<Written>,
}

/// Looks at what is stored and at the directories; changes nothing.
pub(super) async fn plan<'a>(
    etcd: &'a Etcd,
    cx: &Context,
    request: &'a RestoreRequest,
    mut options: RestoreOptions,
    from: &'a dyn Stored,
) -> Result<IntoDirectories<'a>> {
    cx.check()?;
    let full = Full::find(from, &etcd.root()?).await?;
    let refused = |text: String| Err(SourceError::Refused(text));
    if !options.force && (!is_tested(&full.notes.server_version) || full.has_unknown) && options.engine == Engine::Onggi
    {
        return refused(format!(
            "the snapshot is of etcd {}, which restores were never tested with; --engine etcdutl restores with etcd's own \
             program, --force all the same",
            full.notes.server_version
        ));
    }
    if !options.accept_corrupt && full.notes.alarms.iter().any(|alarm| alarm.starts_with("CORRUPT")) {
        return refused("the cluster had reported corruption; --accept-corrupt restores it all the same".to_owned());
    }
    let token = options.token.clone();
    let token = token.unwrap_or_else(|| format!("onggi-{}-{}", full.notes.cluster_id, full.notes.revision));
    let cluster = ClusterIdentity::parse(&options.initial_cluster, &token);
    let cluster = cluster.map_err(|error| SourceError::Refused(format!("--initial-cluster: {error}")))?;
    if let Some(expected) = options.expect_cluster.filter(|expected| expected.0 != cluster.id) {
        return refused(format!("the cluster's id becomes {:016x}, not {expected}", cluster.id));
    }
    if request.to == Destination::Scratch && options.target.is_none() {
        options.target = Some(etcd.surroundings.state.join(format!("etcd-{}", cx.run)));
    }
    let target = options.target.clone().unwrap_or_else(|| PathBuf::from(format!("{}.etcd", etcd.cluster())));
    let target = etcd.surroundings.working_directory.join(target);
    let places = places(&target, &cluster, &options)?;
    let (needed, quota) = (full.notes.db_size_in_use + full.delta_bytes, options.quota);
    let mut planned = IntoDirectories {
        etcd,
        request,
        from,
        drops_no_space: needed * 100 < quota * ROOM_PERCENT,
        options,
        full,
        cluster,
        token,
        places,
        plan: RestorePlan::default(),
        done: None,
    };
    planned.plan.steps = planned.steps();
    Ok(planned)
}

/// One directory if there is one member or one is named, else one for each below.
fn places(target: &Path, cluster: &ClusterIdentity, options: &RestoreOptions) -> Result<Vec<Place>> {
    let refused = |text: String| SourceError::Refused(text);
    let members = match &options.member {
        None => cluster.members.clone(),
        Some(name) => {
            let member = cluster.member(name);
            vec![member.ok_or_else(|| refused(format!("--initial-cluster names no member {name}")))?.clone()]
        }
    };
    let is_single = members.len() == 1;
    let mut places = Vec::new();
    for member in members {
        let directory = if is_single { target.to_owned() } else { target.join(&member.name) };
        let state = State::of(&directory);
        let state = state.map_err(|error| SourceError::Denied(format!("look at {}: {error}", directory.display())))?;
        let shown = directory.display();
        match state {
            State::Taken { is_running: true } => {
                return Err(refused(format!("a member is running on {shown}; stop it first")));
            }
            State::Taken { .. } if !options.rename => {
                return Err(refused(format!(
                    "{shown} is not empty; --force-rename moves what is there out of the way"
                )));
            }
            _ => places.push(Place { directory, member, state }),
        }
    }
    Ok(places)
}

impl IntoDirectories<'_> {
    fn steps(&self) -> Vec<Step> {
        let (ClusterIdentity { id, members }, token) = (&self.cluster, &self.token);
        let mut steps = vec![Step::Create(format!("cluster {id:016x} of {}, token {token}", named(members.len())))];
        for Place { directory, member, state } in &self.places {
            let shown = directory.display();
            if matches!(state, State::Taken { .. }) {
                let aside = aside(directory, &self.full);
                steps.push(Step::Replace(format!("{shown}: what is there moves to {}", aside.display())));
            }
            let addresses = member.peer_urls.join(", ");
            steps.push(Step::Create(format!(
                "{shown}: member {} ({:016x}), peers at {addresses}",
                member.name, member.id
            )));
        }
        if self.options.engine == Engine::Etcdutl {
            let lines = self.places.iter().map(|place| self.etcdutl_line(place));
            steps.extend(lines.map(|line| Step::Create(format!("its files by {line}"))));
        }
        steps.push(Step::Create(match self.options.until {
            Until::Latest => format!("keys up to revision {}", self.full.last),
            Until::Revision(revision) => format!("keys up to revision {revision}"),
            Until::Time(time) => format!("keys as they were received by {time}"),
        }));
        match self.bump() {
            0 => steps
                .push(Step::Leave("revisions as they are, so that watchers may miss that they went back".to_owned())),
            bump => steps.push(Step::Create(format!("revisions raised by {bump}, all before marked as compacted"))),
        }
        if self.full.notes.pki.is_some() {
            let text = "certificates and keys of the control plane: `onggi etcd pki` brings them back";
            steps.push(Step::Leave(text.to_owned()));
        }
        for alarm in self.full.notes.alarms.iter().filter(|alarm| alarm.starts_with("NOSPACE")) {
            steps.push(if self.drops_no_space {
                Step::Create(format!("no alarm {alarm}: the database has room now"))
            } else {
                Step::Leave(format!("the alarm {alarm}: the database is nearly as large as its quota"))
            });
        }
        steps
    }

    fn bump(&self) -> i64 {
        self.options.bump.unwrap_or(if self.full.is_kubernetes { BUMP_KUBERNETES } else { 0 }).max(0)
    }

    fn mark(&self, cx: &Context) -> Mark {
        let marked = |place: &Place| Marked {
            path: place.directory.clone(),
            is_made: place.state == State::Absent,
            holds: directory::MEMBER.to_owned(),
            is_published: false,
        };
        Mark {
            run: cx.run.clone(),
            purpose: cx.purpose,
            unit: self.request.unit.clone(),
            began_at: cx.world.now(),
            directories: self.places.iter().map(marked).collect(),
        }
    }

    /// The database of the first place; the others get a copy.
    async fn write_database(&self, cx: &Context, path: &Path) -> Result<Written> {
        if self.keeps_pages().await? {
            return self.amend_database(cx, path).await;
        }
        let spool = self.full.spool(cx, self.from).await?;
        let bytes = Slice::new(cx, &*spool, self.full.notes.db_size);
        let bolt = Bolt::open(&bytes, self.full.notes.db_size).await?;
        let until = match self.options.until {
            Until::Revision(revision) => Some(revision),
            Until::Latest | Until::Time(_) => None,
        };
        let mut replay = self.replay().await?;
        let compacts = self.options.compact.unwrap_or(!replay.is_empty());
        let newest = if compacts { Newest::find(cx, &bolt, &mut replay, until).await? } else { None };
        let mut replay = if compacts { self.replay().await? } else { replay };
        let changes =
            Changes { cluster: &self.cluster, until, bump: self.bump(), drops_no_space: self.drops_no_space, newest };
        let file = directory::create(path).map_err(unwritten)?;
        let out = io::BufWriter::with_capacity(stored::STEP_BYTES, file);
        let written = database::write(cx, &bolt, &mut replay, &changes, out).await?;
        self.tell_shortfall(cx, replay.broken(), written);
        Ok(written)
    }

    async fn replay(&self) -> Result<Replay<'_>> {
        Ok(self.full.replay(self.from, self.options.until).await?.forgiving(self.options.best_effort))
    }

    /// Tells what is missing of what was asked for.
    fn tell_shortfall(&self, cx: &Context, broken: Option<&str>, Written { revision, .. }: Written) {
        let text = match (broken, self.options.until) {
            (Some(why), _) => format!("{why}; what is restored ends at revision {revision}"),
            (None, Until::Revision(wanted)) if wanted > self.full.last => {
                format!("revision {wanted} was asked for, and what is stored ends at {revision}")
            }
            _ => return,
        };
        cx.problem(Problem { class: "chain-broken", path: None, text });
    }

    /// Whether the stored file itself, with a few pages behind, is the database: there is nothing to add or to leave out,
    /// little of it is free, and no alarm waits for it to become shorter.
    async fn keeps_pages(&self) -> Result<bool> {
        let Full { notes, .. } = &self.full;
        let wants_all = self.options.until == Until::Latest && self.options.compact != Some(true);
        let is_dense = notes.db_size <= notes.db_size_in_use.saturating_mul(SPARSE_FACTOR);
        let keeps = wants_all && is_dense && notes.alarms.is_empty();
        Ok(keeps && self.full.replay(self.from, Until::Latest).await?.is_empty())
    }

    async fn amend_database(&self, cx: &Context, path: &Path) -> Result<Written> {
        let mut file = directory::create(path).map_err(unwritten)?;
        let spool = FileSpool::new(file.try_clone().map_err(unwritten)?);
        self.full.copy(cx, self.from, &spool).await?;
        let length = self.full.notes.db_size;
        file.set_len(length).map_err(unwritten)?;
        let bytes = Slice::new(cx, &spool, length);
        let bolt = Bolt::open(&bytes, length).await?;
        let (cluster, bump) = (&self.cluster, self.bump());
        let changes = Changes { cluster, until: None, bump, drops_no_space: false, newest: None };
        database::amend(&bolt, &changes, &mut file).await
    }

    fn check_reached(&self, written: &Written) -> Result<()> {
        match self.options.until {
            Until::Revision(wanted) if wanted > self.full.last && !self.options.best_effort => {
                let last = written.revision.max(self.full.last);
                let text = format!("what is stored ends at revision {last}; --best-effort restores that");
                Err(SourceError::Refused(text))
            }
            _ => Ok(()),
        }
    }
}

fn named(members: usize) -> String {
    if members == 1 { "1 member".to_owned() } else { format!("{members} members") }
}

/// Where what was in a data directory goes: beside it.
fn aside(directory: &Path, full: &Full) -> PathBuf {
    let name = directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    directory.with_file_name(format!("{name}.onggi-{}", full.notes.revision))
}

#[async_trait]
impl Restore for IntoDirectories<'_> {
    fn plan(&self) -> &RestorePlan {
        &self.plan
    }

    async fn apply(&mut self, cx: &Context) -> Result<()> {
        self.check_reached(&Written::default())?;
        let state = &self.etcd.surroundings.state;
        let mut mark = self.mark(cx);
        mark.save(state).map_err(unwritten)?;
        for place in &self.places {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&place.directory);
            made.map_err(|error| SourceError::Denied(format!("make {}: {error}", place.directory.display())))?;
        }
        let staging = |place: &Place| directory::staging(&place.directory, &cx.run);
        let written = if self.options.engine == Engine::Etcdutl {
            self.run_etcdutl(cx).await?
        } else {
            let first = directory::begin(&staging(&self.places[0])).map_err(unwritten)?;
            let written = self.write_database(cx, &first).await?;
            for place in &self.places {
                let (staging, cluster, own) = (staging(place), self.cluster.clone(), place.member.clone());
                let first = first.clone();
                let made = tokio::task::spawn_blocking(move || {
                    let database = directory::begin(&staging)?;
                    if database != first {
                        // A link would be one file for two members that both write.
                        io::copy(&mut fs::File::open(&first)?, &mut directory::create(&database)?)?;
                    }
                    directory::complete(&staging, &cluster, &own)
                });
                made.await.map_err(io::Error::other).flatten().map_err(unwritten)?;
                cx.check()?;
            }
            written
        };
        for (place, marked) in self.places.iter().zip(0..) {
            mark.directories[marked].is_published = !matches!(place.state, State::Taken { .. });
            mark.save(state).map_err(unwritten)?;
            directory::publish(place, &cx.run, &aside(&place.directory, &self.full)).map_err(unwritten)?;
        }
        self.done = Some(written);
        Ok(())
    }

    async fn prove(&mut self, cx: &Context) -> Result<Proof> {
        cx.check()?;
        let (Some(written), Some(place)) = (self.done, self.places.first()) else {
            return Err(SourceError::Incomplete("nothing was restored".to_owned()));
        };
        drill::prove(self.etcd, cx, &place.directory, self.options.etcd.as_deref(), (written.revision, self.bump()))
            .await
    }
}
