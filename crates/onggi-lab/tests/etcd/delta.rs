//! Every change of a cluster, stored while it happens, killed in the middle, and restored to any revision.

use crate::database::{bucket, hash, visible};
use crate::place::{Place, source};
use crate::restore::{hashes, revision};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onggi_lab::corpus::Random;
use onggi_lab::service::EtcdCluster;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Ends with the test.
struct Following(Child);

impl Following {
    fn begin(place: &Place) -> Self {
        Self::begin_with(place, "1s")
    }

    fn begin_with(place: &Place, flush: &str) -> Self {
        let mut command = place.command(&format!("etcd follow lab --flush {flush}"));
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Asks it to end in good order, as Ctrl-C does, and returns its exit code.
    fn end(&mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.0), Signal::INT).unwrap();
        self.0.wait().unwrap().code()
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

/// A transaction of several megabytes, more than etcdctl sends, by the members' other port of entry.
fn put_large(cluster: &EtcdCluster, random: &mut Random, round: u64) {
    let put = |number: u64| {
        let key = format!("/registry/large/{}", (round + number) % 40);
        json!({"requestPut": {"key": STANDARD.encode(key), "value": STANDARD.encode(random.bytes(80_000))}})
    };
    let body = json!({ "success": (0..30).map(put).collect::<Vec<_>>() }).to_string();
    assert!(body.len() > 3 << 20);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--data-binary", "@-"])
        .arg("--cacert")
        .arg(cluster.pki("etcd/ca.crt"));
    curl.arg("--cert").arg(cluster.pki("etcd/healthcheck-client.crt"));
    curl.arg("--key").arg(cluster.pki("etcd/healthcheck-client.key"));
    let mut child = curl
        .arg(format!("{}/v3/kv/txn", cluster.endpoints()[0]))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("curl starts");
    child.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Whatever a cluster can be told, in any order: puts, transactions, deletions of ranges, leases that are used and not.
fn anything(cluster: &EtcdCluster, random: &mut Random, changes: u64) {
    for round in 0..changes {
        let key = |number: u64| format!("/registry/any/{:02}", number % 50);
        let one = key(random.word());
        match random.below(9) {
            0..=2 => drop(cluster.ctl(&format!("put {one} {}", random.word()))),
            3 => {
                let pairs: BTreeMap<_, _> =
                    (0..random.below(30) + 1).map(|_| (key(random.word()), random.word().to_string())).collect();
                cluster.put(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())));
            }
            4 => drop(cluster.ctl(&format!("del --prefix /registry/any/{}", random.below(5)))),
            5 => drop(cluster.ctl(&format!("del {one}"))),
            6 => drop(cluster.ctl("lease grant 100000")),
            7 => {
                let lease = cluster.ctl("lease grant 100000");
                cluster.ctl(&format!("put --lease={} {one} leased", lease.split(' ').nth(1).unwrap()));
            }
            _ => put_large(cluster, random, round),
        }
    }
}

/// Restores to a revision without leaving anything out, and returns the database.
fn restored(place: &Place, at: &str) -> PathBuf {
    let target = place.path(&format!("restored-{}", at.replace(' ', "")));
    let line = format!("restore latest --to source --target {} --compact no --bump-revision 0 {at}", target.display());
    place.onggi(&line).ends(0);
    target.join("member/snap/db")
}

/// What a reader of the cluster is told of a revision: the records by their keys, all of them but for their values as
/// text.
fn read_at(cluster: &EtcdCluster, at: i64) -> BTreeMap<Vec<u8>, [Value; 5]> {
    let said: Value = serde_json::from_str(&cluster.ctl(&format!("get --prefix / --rev={at} -w json"))).unwrap();
    let record = |one: &Value| {
        let number = |name: &str| if one[name].is_null() { json!(0) } else { one[name].clone() };
        let numbers = ["create_revision", "mod_revision", "version", "lease"].map(number);
        let [create, change, version, lease] = numbers;
        (STANDARD.decode(one["key"].as_str().unwrap()).unwrap(), [create, change, version, lease, one["value"].clone()])
    };
    said["kvs"].as_array().into_iter().flatten().map(record).collect()
}

fn read_in(database: &Path) -> BTreeMap<Vec<u8>, [Value; 5]> {
    let entries = bucket(database, "key");
    let record = |(key, record): (&[u8], onggi_source::etcd::key_value::KeyValue<'_>)| {
        let numbers = [record.create_revision, record.mod_revision, record.version, record.lease].map(Value::from);
        let [create, change, version, lease] = numbers;
        let value = if record.value.is_empty() { Value::Null } else { json!(STANDARD.encode(record.value)) };
        (key.to_vec(), [create, change, version, lease, value])
    };
    visible(&entries).into_iter().map(record).collect()
}

#[test]
fn what_is_replayed_is_the_database_of_the_source_at_every_revision() {
    let Some(cluster) = EtcdCluster::start("--version 3.5 --fill 100 --request 8388608") else { return };
    let place = Place::new(&json!({ "lab": source(&cluster, json!({})) }));
    let seed = std::env::var("ONGGI_ETCD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut random = Random::new(seed);
    let mut first = 0;
    for round in 0..4 {
        let following = Following::begin(&place);
        if round == 0 {
            reach(&place, 1);
            first = revision(&cluster);
        }
        anything(&cluster, &mut random, 25);
        if round == 3 {
            reach(&place, revision(&cluster));
        }
        // SIGKILL, wherever it is.
        drop(following);
    }
    let end = revision(&cluster);
    let saved = place.path("saved.db");
    cluster.ctl(&format!("snapshot save {}", saved.display()));
    let latest = restored(&place, "");
    assert!(bucket(&latest, "key") == bucket(&saved, "key"), "seed {seed}: the records differ");
    let leases = |file: &Path| bucket(file, "lease").into_keys().collect::<Vec<_>>();
    assert_eq!(leases(&latest), leases(&saved), "seed {seed}");
    let mut revisions = BTreeSet::new();
    while revisions.len() < 20 {
        revisions.insert(first + random.below((end - first + 1).unsigned_abs()).cast_signed());
    }
    for at in revisions {
        let database = restored(&place, &format!("--revision {at}"));
        let (found, expected) = (read_in(&database), read_at(&cluster, at));
        assert!(found == expected, "seed {seed}, revision {at}: {} and {} keys", found.len(), expected.len());
        assert_eq!(json!(hash(&database)), hashes(&cluster, at)[0], "seed {seed}, revision {at}");
    }
}

#[test]
fn what_was_gathered_is_stored_when_the_end_is_asked_for() {
    let Some(cluster) = EtcdCluster::start("--version 3.5 --fill 10") else { return };
    let place = Place::new(&json!({ "lab": source(&cluster, json!({})) }));
    let following = Following::begin(&place);
    reach(&place, 1);
    drop(following);
    cluster.ctl("put /registry/before 1");
    // What there was before it watched is stored at once; from then on only the end stores.
    let mut following = Following::begin_with(&place, "1h");
    reach(&place, revision(&cluster));
    cluster.ctl("put /registry/after 1");
    assert_eq!(following.end(), Some(130));
    assert!(tags(&place).iter().any(|tag| tag.ends_with(&format!("-{}", revision(&cluster)))), "{:?}", tags(&place));
}
