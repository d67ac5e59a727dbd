//! Import: what another tool captured is stored as snapshots of its own times. It lies there as remnants without a mark,
//! which are read and never thawed, released or removed.

use crate::{
    backup::{self, History, Job, Member, Parents, UnitPlan},
    report::UnitReport,
};
use onggi_repo::format::{Compression, Snapshot, SnapshotId};
use onggi_source::{Context, Remnant, Result, Source, UnitId};

/// What an import is going to do.
#[derive(Debug, Default)]
pub struct ImportPlan {
    /// What is stored, oldest first.
    pub take: Vec<Remnant>,
    /// What has a snapshot of its unit and time already.
    pub known: Vec<Remnant>,
}

/// What holds for everything that another tool captured: all of it is read, and nothing is known before. The rate is in
/// bytes per second.
pub fn unit_plan(tags: Vec<String>, rate: Option<u64>) -> UnitPlan {
    UnitPlan {
        source: String::new(),
        kind: String::new(),
        hostname: String::new(),
        paths: Vec::new(),
        tags,
        excludes: Vec::new(),
        manifest: None,
        chunker: None,
        compression: Compression::DEFAULT,
        rate,
        time_limit: None,
        parents: Parents::Nothing,
        time: None,
        journal: None,
        hold: None,
        full_read_every: 0,
    }
}

/// Compares what lies there with what is stored; changes nothing.
pub async fn plan_import(cx: &Context, history: &History, source: &dyn Source, plan: &UnitPlan) -> Result<ImportPlan> {
    let foreign = source.remnants(cx).await?.into_iter().filter(|remnant| remnant.mark.is_none() && remnant.complete);
    let (known, mut take): (Vec<_>, Vec<_>) =
        foreign.partition(|remnant| history.at(&plan.source, &remnant.unit.id, remnant.seen_at).is_some());
    take.sort_by_key(|remnant| remnant.seen_at);
    Ok(ImportPlan { take, known })
}

/// Stores one of them, compared with the newest of its unit that is not younger. `stored` are those of this import.
pub async fn import(
    cx: &Context,
    job: &Job<'_>,
    source: &dyn Source,
    plan: &UnitPlan,
    remnant: &Remnant,
    stored: &mut Vec<(SnapshotId, Snapshot)>,
) -> UnitReport {
    let before = |(_, snapshot): &&(SnapshotId, Snapshot)| snapshot.time.instant <= remnant.seen_at;
    let own = |(_, snapshot): &&(SnapshotId, Snapshot)| is_of(snapshot, plan, &remnant.unit.id);
    let all = job.history.snapshots.iter().chain(stored.iter()).filter(own).filter(before);
    let parent = all.max_by_key(|(_, snapshot)| snapshot.time.instant).map(|(id, _)| *id);
    let parents = parent.map_or(Parents::Nothing, |id| Parents::Given(vec![id]));
    let plan = UnitPlan { parents, time: Some(remnant.seen_at), ..plan.clone() };
    let member = Member { source, unit: &remnant.unit, plan: &plan };
    let (report, committed) = backup::store_foreign(cx, job, member, remnant).await;
    stored.extend(committed);
    report
}

fn is_of(snapshot: &Snapshot, plan: &UnitPlan, unit: &UnitId) -> bool {
    backup::is_of(snapshot, &plan.source, unit)
}
