//! Every change of a cluster, stored while it happens, killed in the middle, and restored to any revision.

use crate::place::{Place, source};
use crate::restore::{hashes, revision};
use onggi_lab::service::EtcdCluster;
use serde_json::{Value, json};
use std::process::{Child, Stdio};

/// Ends with the test.
struct Following(Child);

impl Following {
    fn begin(place: &Place) -> Self {
        let mut command = place.command("etcd follow lab --flush 1s");
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // SIGKILL.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn tags(place: &Place) -> Vec<String> {
    let snapshots = place.onggi("snapshots --json --no-lock").ends(0).json();
    let tags = |one: &Value| one["tags"].as_array().unwrap().clone();
    let all = snapshots.as_array().unwrap().iter().flat_map(tags);
    all.filter_map(|tag| tag.as_str().map(ToOwned::to_owned)).collect()
}

/// Until what is stored reaches this revision.
fn reach(place: &Place, wanted: i64) {
    let last = |tag: &String| tag.strip_prefix("rev:")?.rsplit('-').next()?.parse::<i64>().ok();
    while tags(place).iter().filter_map(last).max().is_none_or(|reached| reached < wanted) {}
}

/// Transactions of several megabytes, deletions of ranges, leases.
fn work(cluster: &EtcdCluster, round: usize) {
    let value = "v".repeat(20_000);
    let keys: Vec<String> = (0..60).map(|number| format!("/registry/work/{round}/{number}")).collect();
    cluster.put(keys.iter().map(|key| (key.as_str(), value.as_str())));
    cluster.ctl(&format!("del --prefix /registry/work/{round}/1"));
    let lease = cluster.ctl("lease grant 100000");
    cluster.ctl(&format!("put --lease={} /registry/leased/{round} a", lease.split(' ').nth(1).unwrap()));
    cluster.ctl("put /registry/again 1");
    cluster.ctl("del /registry/again");
}

#[test]
fn a_cluster_is_restored_to_any_revision_though_onggi_was_killed_meanwhile() {
    let Some(cluster) = EtcdCluster::start("--version 3.5 --fill 200") else { return };
    let place = Place::new(&json!({ "lab": source(&cluster, json!({})) }));
    for round in 0..3 {
        let following = Following::begin(&place);
        if round == 0 {
            reach(&place, 1);
        }
        work(&cluster, round);
        // The last one is killed when all is stored, the others wherever they are.
        if round == 2 {
            reach(&place, revision(&cluster));
        }
        drop(following);
    }
    let stored = tags(&place);
    assert_eq!(stored.iter().filter(|tag| *tag == "full").count(), 1, "{stored:?}");
    let end = revision(&cluster);
    let program = cluster.program("etcd");
    for (number, at) in [end, end - 1, end - 7, end - 13].into_iter().enumerate() {
        let target = place.path(&format!("restored-{number}"));
        let line = format!(
            "--json restore latest --to source --target {} --revision {at} --compact no --bump-revision 0 --prove",
            target.display()
        );
        let summary = place.onggi_with(program.parent().unwrap(), &line).ends(0).json();
        let expected = json!(format!("its hash of all keys is equal: {}", hashes(&cluster, at)[0]));
        assert!(summary["checks"].as_array().unwrap().contains(&expected), "{at}: {summary} {expected}");
    }
}

#[test]
fn a_compaction_under_the_watcher_is_answered_with_a_full() {
    let Some(cluster) = EtcdCluster::start("--version 3.5 --fill 10") else { return };
    let place = Place::new(&json!({ "lab": source(&cluster, json!({})) }));
    let following = Following::begin(&place);
    reach(&place, 1);
    drop(following);
    work(&cluster, 0);
    cluster.ctl(&format!("compact {}", revision(&cluster)));
    let following = Following::begin(&place);
    reach(&place, revision(&cluster));
    work(&cluster, 1);
    reach(&place, revision(&cluster));
    drop(following);
    assert_eq!(tags(&place).iter().filter(|tag| *tag == "full").count(), 2);
}
