//! The source over a cloud in memory.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::OnceCell;

use super::fake::FakeCloud;
use super::{Openstack, OpenstackConfig, items, mark};
use crate::bench::{Bench, surroundings};
use crate::conformance::{self, Bed};
use crate::context::{Context, Destination, Purpose, Stop};
use crate::faults::{Fault, Faults};
use crate::recorder::{RecordedTree, Recorder};
use crate::source::{Outcome, RestoreRequest, Source, SourceError, Unit};

struct CloudBed {
    cloud: FakeCloud,
    state: tempfile::TempDir,
    keys: &'static str,
}

impl CloudBed {
    fn new(keys: &'static str) -> Self {
        Self { cloud: FakeCloud::new(), state: tempfile::tempdir().unwrap(), keys }
    }

    fn openstack(&self) -> Openstack {
        let config: OpenstackConfig = serde_saphyr::from_str(self.keys).unwrap();
        assert_eq!(config.faults(), []);
        let clouds: Vec<Arc<dyn super::cloud::Cloud>> = vec![Arc::new(self.cloud.clone())];
        Openstack {
            clouds: OnceCell::new_with(Some(clouds)),
            ..Openstack::new(config, surroundings("lab", self.state.path()))
        }
    }

    async fn back_up(&self, run: &str) {
        let (bench, source) = (Bench::new(run), self.openstack());
        let unit = source.discover(&bench.cx).await.unwrap().remove(0);
        let mut capture = source.capture(&bench.cx, &unit, None).await.unwrap();
        capture.items(&bench.cx, &Recorder::new(&bench.cx)).await.unwrap();
        drop(capture);
        source.release(&bench.cx, &unit, Outcome::Kept).await.unwrap();
    }
}

#[async_trait]
impl Bed for CloudBed {
    fn source(&self) -> Box<dyn Source> {
        Box::new(self.openstack())
    }

    fn faults(&self) -> Faults {
        self.cloud.faults.clone()
    }

    fn describe(&self) -> String {
        self.cloud.describe()
    }

    fn leave_foreign(&self) -> bool {
        let image = json!({
            "id": "other", "name": "onggi-r1-s", "status": "active", mark::SOURCE: "elsewhere/lab", mark::SERVER: "s",
            mark::RUN: "r1", mark::PURPOSE: "backup",
        });
        self.cloud.state().images.insert("other".to_owned(), image);
        true
    }

    fn foreign_is_there(&self) -> bool {
        self.cloud.state().images.contains_key("other")
    }
}

#[tokio::test(start_paused = true)]
async fn it_passes_the_suite_of_all_sources() {
    conformance::check(|| CloudBed::new("{cloud: c, project-configuration: false}")).await;
}

#[tokio::test(start_paused = true)]
async fn it_passes_the_suite_when_servers_are_stopped_for_it() {
    conformance::check(|| CloudBed::new("{cloud: c, project-configuration: false, freeze: stop, cloud-keep-last: 0}"))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_whose_image_is_not_what_glance_has_is_given_up() {
    let bed = CloudBed::new("{cloud: c, project-configuration: false}");
    let (bench, source) = (Bench::new("r1"), bed.openstack());
    let unit = source.discover(&bench.cx).await.unwrap().remove(0);
    let mut capture = source.capture(&bench.cx, &unit, None).await.unwrap();
    let known: Vec<_> = bed.cloud.state().images.keys().filter(|id| id.starts_with("image-")).cloned().collect();
    let set = |hash: &serde_json::Value| {
        bed.cloud.state().images.get_mut(&known[0]).unwrap()["os_hash_value"] = hash.clone();
    };
    let true_hash = bed.cloud.state().images[&known[0]]["os_hash_value"].clone();
    set(&json!("00"));
    let sink = Recorder::new(&bench.cx);
    let refused = capture.items(&bench.cx, &sink).await.unwrap_err();
    assert!(refused.to_string().contains("and Glance has 00"), "{refused}");
    assert!(sink.is_torn(), "what was read of it is not stored");
    set(&true_hash);
    let sink = Recorder::new(&bench.cx);
    let facts = capture.items(&bench.cx, &sink).await.unwrap();
    assert!(sink.commit(facts).unwrap().lines().iter().any(|line| line.contains("disks/00-root.raw")));
}

#[tokio::test(start_paused = true)]
async fn the_next_snapshot_waits_for_the_one_before_and_not_for_its_transfer() {
    let bed = CloudBed::new("{cloud: c, project-configuration: false, parallel-snapshots-max: 1}");
    let (bench, source) = (Bench::new("r1"), bed.openstack());
    let unit = source.discover(&bench.cx).await.unwrap().remove(0);
    let mut first = source.capture(&bench.cx, &unit, None).await.unwrap();
    let mut next = source.capture(&bench.cx, &unit, None);
    assert!(tokio::time::timeout(Duration::from_hours(1), &mut next).await.is_err(), "the cloud is at work");
    let transfers = source.transfers.acquire().await.unwrap();
    let sink = Recorder::new(&bench.cx);
    let mut storing = first.items(&bench.cx, &sink);
    let next = tokio::select! {
        _ = &mut storing => panic!("it has no turn to be fetched"),
        next = next => next.unwrap(),
    };
    drop(transfers);
    storing.await.unwrap();
    drop(next);
    // a stopped run waits for no turn
    let turn = source.snapshots.acquire().await.unwrap();
    let limited = bench.cx.within(Duration::from_secs(1), Stop::TimeLimit);
    assert!(matches!(source.capture(&limited, &unit, None).await, Err(SourceError::Stopped(_))));
    drop(turn);
}

#[tokio::test(start_paused = true)]
async fn the_newest_stay_in_the_cloud_and_older_ones_go() {
    let bed = CloudBed::new("{cloud: c, project-configuration: false, cloud-keep-last: 2}");
    for run in ["r1", "r2", "r3"] {
        bed.back_up(run).await;
    }
    let described = bed.describe();
    let of = |run: &str| {
        described.matches(&format!("name\": \"onggi-{run}")).count()
            + described.matches(&format!(" onggi-{run}-")).count()
    };
    assert_eq!(["r1", "r2", "r3"].map(of), [0, 2, 2], "{described}");
}

#[tokio::test(start_paused = true)]
async fn older_copies_go_when_the_cloud_cannot_read_a_snapshot_beside_them() {
    let bed = CloudBed::new("{cloud: c, project-configuration: false, cloud-keep-last: 2}");
    bed.cloud.state().refuses_chains = true;
    for run in ["r1", "r2"] {
        bed.back_up(run).await;
    }
    let described = bed.describe();
    assert!(!described.contains("onggi-r1-"), "{described}");
    assert!(described.contains("onggi-r2-"), "{described}");
}

#[tokio::test(start_paused = true)]
async fn snapshots_of_a_protected_image_stay() {
    let bed = CloudBed::new("{cloud: c, project-configuration: false, cloud-keep-last: 0}");
    bed.back_up("r1").await;
    assert!(!bed.describe().contains("onggi-r1-"));
    let bed = CloudBed::new("{cloud: c, project-configuration: false, cloud-keep-last: 1}");
    bed.back_up("r1").await;
    let made = |id: &String| id.starts_with("image-");
    for (_, image) in bed.cloud.state().images.iter_mut().filter(|(id, _)| made(id)) {
        image["protected"] = json!(true);
    }
    let before = bed.cloud.state().snapshots.len();
    bed.back_up("r2").await;
    assert_eq!(bed.cloud.state().snapshots.len(), before + 1, "{}", bed.describe());
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_run_left_is_found_and_stored_by_another_process() {
    let bed = CloudBed::new("{cloud: c, project-configuration: false}");
    let dead = Bench::new("r1");
    {
        let source = bed.openstack();
        let unit = source.discover(&dead.cx).await.unwrap().remove(0);
        drop(source.capture(&dead.cx, &unit, None).await.unwrap());
    }
    let (next, source) = (Bench::new("r2"), bed.openstack());
    let left = source.remnants(&next.cx).await.unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].complete, "{left:?}");
    let cx: Context = next.cx.for_run(&"r1".into(), Purpose::Backup);
    let sink = Recorder::new(&cx);
    let facts = source.reopen(&cx, &left[0]).await.unwrap().items(&cx, &sink).await.unwrap();
    let lines = sink.commit(facts).unwrap().lines();
    assert!(lines.iter().any(|line| line.contains("disks/01-v.raw")), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_an_orphan_only_when_no_image_of_anybody_has_it() {
    let bed = CloudBed::new("{cloud: c, project-configuration: false}");
    let devices = json!([{"snapshot_id": "held"}]).to_string();
    let image = json!({
        "id": "other", "name": "onggi-r1-s", "status": "active", mark::SOURCE: "elsewhere/lab", mark::SERVER: "s",
        "block_device_mapping": devices,
    });
    bed.cloud.state().images.insert("other".to_owned(), image);
    for id in ["held", "left"] {
        let snapshot = json!({"id": id, "name": "snapshot for onggi-r1-s", "status": "available", "metadata": {}});
        bed.cloud.state().snapshots.insert(id.to_owned(), snapshot);
    }
    let (bench, source) = (Bench::new("r2"), bed.openstack());
    let found = source.orphans(&bench.cx).await.unwrap();
    assert_eq!(found.iter().map(|orphan| orphan.id.as_str()).collect::<Vec<_>>(), ["left"], "{found:?}");
}

/// What a dead run left, and whether its image is gone after an attempt to remove it.
async fn orphan_goes(created_at: &str, meanwhile: impl FnOnce(&FakeCloud), expected: bool) {
    let bed = CloudBed::new("{cloud: c, project-configuration: false}");
    let image = json!({
        "id": "dead", "name": "onggi-r1-s", "status": "active", "created_at": created_at, mark::SOURCE: "here/lab",
        mark::SERVER: "s", mark::RUN: "r1", mark::PURPOSE: "backup",
    });
    bed.cloud.state().images.insert("dead".to_owned(), image);
    let (bench, source) = (Bench::new("r2"), bed.openstack());
    let found = source.orphans(&bench.cx).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    meanwhile(&bed.cloud);
    let gone = source.remove_orphan(&bench.cx, &found[0], Duration::from_hours(1)).await.unwrap();
    assert_eq!((gone, bed.cloud.state().images.contains_key("dead")), (expected, !expected), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn an_old_orphan_goes_and_a_young_one_stays() {
    let now = Bench::new("r2").cx.world.now();
    orphan_goes("2001-01-01T00:00:00Z", |_| {}, true).await;
    orphan_goes(&now.to_string(), |_| {}, false).await;
}

#[tokio::test(start_paused = true)]
async fn an_orphan_that_was_settled_meanwhile_stays() {
    let settled = |cloud: &FakeCloud| {
        let mut state = cloud.state();
        let image = state.images.get_mut("dead").and_then(|image| image.as_object_mut()).unwrap();
        image.remove(mark::RUN);
        image.insert(mark::STORED.to_owned(), json!("r1"));
    };
    orphan_goes("2001-01-01T00:00:00Z", settled, false).await;
}

#[tokio::test(start_paused = true)]
async fn what_only_has_a_name_like_ours_is_never_removed() {
    let bed = CloudBed::new("{cloud: c, project-configuration: false}");
    let snapshot = json!({
        "id": "left", "name": "snapshot for onggi-r1-s", "status": "available", "metadata": {},
        "created_at": "2001-01-01T00:00:00.000000",
    });
    bed.cloud.state().snapshots.insert("left".to_owned(), snapshot);
    let (bench, source) = (Bench::new("r2"), bed.openstack());
    let found = source.orphans(&bench.cx).await.unwrap();
    assert!(!found[0].is_marked, "{found:?}");
    assert!(!source.remove_orphan(&bench.cx, &found[0], Duration::ZERO).await.unwrap());
    assert!(bed.cloud.state().snapshots.contains_key("left"));
}

/// A project with nothing else, stored; and what was told.
async fn stored_project(bed: &CloudBed) -> (RecordedTree, Vec<String>) {
    let (bench, source) = (Bench::new("r1"), bed.openstack());
    let unit = source.discover(&bench.cx).await.unwrap().remove(0);
    assert_eq!((unit.id.as_str(), unit.name.as_str()), ("project-p", "demo"));
    let sink = Recorder::new(&bench.cx);
    let mut capture = source.capture(&bench.cx, &unit, None).await.unwrap();
    let facts = capture.items(&bench.cx, &sink).await.unwrap();
    assert!(sink.broken_promises().is_empty(), "{:?}", sink.broken_promises());
    (sink.commit(facts).unwrap(), bench.seen.problem_texts())
}

fn network(cloud: &FakeCloud, path: &str, things: serde_json::Value) {
    let serde_json::Value::Array(things) = things else { panic!("{things} is no list") };
    cloud.state().lists.insert(path.to_owned(), things);
}

fn project_bed() -> CloudBed {
    let bed = CloudBed::new("{cloud: c, exclude: {name: [\"*\"]}}");
    let rules = json!([{ "id": "r2" }, { "id": "r1" }]);
    network(&bed.cloud, "/networks", json!([{ "id": "n", "name": "net", "tags": ["b", "a"], "project_id": "p" }]));
    network(&bed.cloud, "/security-groups", json!([{ "id": "g", "security_group_rules": rules, "project_id": "p" }]));
    network(&bed.cloud, "/os-keypairs", json!([{ "keypair": { "name": "a key/1", "public_key": "ssh-ed25519 A" } }]));
    bed
}

#[tokio::test(start_paused = true)]
async fn a_project_is_stored_as_a_file_for_each_of_its_things() {
    let (tree, problems) = stored_project(&project_bed()).await;
    assert_eq!(problems, Vec::<String>::new(), "what a cloud does not have is no problem");
    let lines: Vec<_> = tree
        .lines()
        .iter()
        .filter_map(|line| line.strip_prefix("openstack/R/p/project/"))
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .filter(|line| line.ends_with("json"))
        .collect();
    let expected = [
        "flavors/f.json",
        "images/base.json",
        "keypairs/a%20key%2F1.json",
        "networks/n.json",
        "security-groups/g.json",
        "withheld.json",
    ];
    assert_eq!(lines, expected);
    assert!(tree.facts[0].tags.contains(&"configuration".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_project_that_did_not_change_is_the_same_files_however_the_cloud_lists_it() {
    let (bed, other) = (project_bed(), project_bed());
    let rules = json!([{ "id": "r1" }, { "id": "r2" }]);
    network(&other.cloud, "/networks", json!([{ "tags": ["a", "b"], "project_id": "p", "name": "net", "id": "n" }]));
    network(&other.cloud, "/security-groups", json!([{ "project_id": "p", "security_group_rules": rules, "id": "g" }]));
    let capture = json!({ "id": "c", "name": "onggi-r9-s", "status": "active", mark::SOURCE: "elsewhere/lab" });
    other.cloud.state().images.insert("c".to_owned(), capture);
    assert_eq!(stored_project(&bed).await.0.items, stored_project(&other).await.0.items);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_listed_is_told_and_all_else_is_stored() {
    let bed = project_bed();
    bed.cloud.state().withheld.insert("/routers".to_owned());
    let (tree, problems) = stored_project(&bed).await;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("routers are not stored") && problems[0].contains("project-configuration: false"));
    let withheld = String::from_utf8(tree.at("openstack/R/p/project/withheld.json").content.to_vec()).unwrap();
    assert!(withheld.contains("\"what\": \"routers\"") && withheld.contains("status 403"), "{withheld}");
    tree.at("openstack/R/p/project/networks/n.json");
}

#[tokio::test(start_paused = true)]
async fn of_what_an_administrator_sees_only_the_projects_own_is_stored() {
    let bed = project_bed();
    let networks = json!([
        { "id": "n", "project_id": "p" }, { "id": "foreign", "project_id": "q" },
        { "id": "outside", "project_id": "q", "router:external": true },
    ]);
    let subnets = json!([
        { "id": "sn", "network_id": "outside", "project_id": "q" }, { "id": "sf", "network_id": "foreign", "project_id": "q" },
    ]);
    network(&bed.cloud, "/networks", networks);
    network(&bed.cloud, "/subnets", subnets);
    let lines = stored_project(&bed).await.0.lines().join("\n");
    assert!(lines.contains("outside.json") && lines.contains("sn.json"), "{lines}");
    assert!(!lines.contains("foreign.json") && !lines.contains("sf.json"), "{lines}");
}

#[tokio::test(start_paused = true)]
async fn a_projects_documents_make_nothing_in_a_cloud() {
    let (bed, bench) = (project_bed(), Bench::new("r1"));
    let source = bed.openstack();
    let unit = source.discover(&bench.cx).await.unwrap().remove(0);
    let (tree, _) = stored_project(&bed).await;
    let before = bed.describe();
    let request = RestoreRequest::new(unit.clone(), Destination::Beside, &json!({}));
    let refused = source.restore(&bench.cx, &request, &tree).await.err().unwrap();
    assert!(matches!(&refused, SourceError::Refused(text) if text.contains("--target")), "{refused}");
    source.thaw(&bench.cx, &unit).await.unwrap();
    source.release(&bench.cx, &unit, Outcome::Dropped).await.unwrap();
    assert_eq!(bed.describe(), before);
}

/// A snapshot is read out, and these calls after the first of this name fail: what is said, and what stays.
async fn read_out(call: &str, faults: &[(usize, Fault)]) -> (Option<SourceError>, Vec<String>, Vec<String>) {
    let bed = CloudBed::new("{cloud: c}");
    let unit = Unit { id: "s".into(), name: "demo/web".to_owned() };
    let snapshot = json!({"id": "snap", "name": "", "status": "available", "metadata": {}});
    bed.cloud.state().snapshots.insert("snap".to_owned(), snapshot);
    let (bench, source) = (Bench::new("r1"), bed.openstack());
    let known = CloudBed::new("{cloud: c}");
    items::export(&source, &bench.cx, &known.cloud, &unit, "snap").await.unwrap();
    let at = known.cloud.faults.calls().iter().position(|name| name.starts_with(call)).unwrap();
    for (after, fault) in faults {
        bed.cloud.faults.at(at + after, *fault);
    }
    let done = items::export(&source, &bench.cx, &bed.cloud, &unit, "snap").await;
    let left = bed.describe().lines().filter(|line| line.contains("onggi-r1")).map(ToOwned::to_owned).collect();
    (done.err(), left, bench.seen.problem_texts())
}

#[tokio::test(start_paused = true)]
async fn what_a_snapshot_was_read_through_goes_wherever_that_fails() {
    for call in ["POST Volume /volumes", "GET Volume /volumes/", "POST Volume /volumes/", "GET Image /images/"] {
        for fault in [Fault::Error, Fault::ErrorButDone] {
            let (error, left, problems) = read_out(call, &[(0, fault)]).await;
            assert!(
                error.is_some() && left.is_empty() && problems.is_empty(),
                "{call}: {error:?} {left:?} {problems:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_fails_does_not_hide_why_it_was_needed() {
    let (error, left, problems) = read_out("POST Volume /volumes/", &[(0, Fault::Error), (1, Fault::Error)]).await;
    let error = error.unwrap().to_string();
    assert!(error.contains("/action: scripted"), "{error}");
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(problems[0].contains("stays until the next run"), "{problems:?}");
}

#[tokio::test(start_paused = true)]
async fn how_many_are_kept_is_a_servers_own_word_if_it_is_a_number() {
    for (said, tag, told) in [("14", Some("keep:14"), 0), ("many", None, 1)] {
        let bed = CloudBed::new("{cloud: c, project-configuration: false}");
        bed.cloud.state().servers.get_mut("s").unwrap()["metadata"]["onggi_keep"] = json!(said);
        let (bench, source) = (Bench::new("r1"), bed.openstack());
        let unit = source.discover(&bench.cx).await.unwrap().remove(0);
        let mut capture = source.capture(&bench.cx, &unit, None).await.unwrap();
        let facts = capture.items(&bench.cx, &Recorder::new(&bench.cx)).await.unwrap();
        let found = facts.tags.iter().find(|tag| tag.starts_with("keep:"));
        assert_eq!(found.map(String::as_str), tag);
        let problems = bench.seen.problem_texts();
        assert_eq!(problems.iter().filter(|line| line.contains("onggi_keep")).count(), told, "{problems:?}");
    }
}
