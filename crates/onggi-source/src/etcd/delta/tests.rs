//! Deltas of a scripted watch: where revisions end, what ends a chain, and what is restored of one.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::capture::{Flush, Follower};
use super::segment::put_varint;
use crate::bench::Bench;
use crate::context::{Destination, Purpose, SnapshotId};
use crate::etcd::client::{Event, Told};
use crate::etcd::fake::{FakeCluster, UNUSED_LEASE};
use crate::recorder::{RecordedTree, Recorder};
use crate::source::{Base, RestoreRequest, Result, Source, SourceError};

fn field(record: &mut Vec<u8>, number: u64, value: &[u8]) {
    put_varint(record, number << 3 | 2);
    put_varint(record, value.len() as u64);
    record.extend_from_slice(value);
}

fn put(key: &str, main: u64, lease: u64) -> Event {
    let mut record = Vec::new();
    field(&mut record, 1, key.as_bytes());
    for (number, value) in [(2, main), (3, main), (4, 1)] {
        put_varint(&mut record, number << 3);
        put_varint(&mut record, value);
    }
    field(&mut record, 5, b"new");
    if lease > 0 {
        put_varint(&mut record, 6 << 3);
        put_varint(&mut record, lease);
    }
    Event { is_tombstone: false, record: record.into() }
}

fn delete(key: &str, main: u64) -> Event {
    let mut record = Vec::new();
    field(&mut record, 1, key.as_bytes());
    put_varint(&mut record, 3 << 3);
    put_varint(&mut record, main);
    Event { is_tombstone: true, record: Bytes::from(record) }
}

fn told(is_fragment: bool, events: Vec<Event>) -> Told {
    Told::Changes { events, is_fragment }
}

const FLUSH: Flush = Flush { after: Duration::from_secs(30), ..Flush::DEFAULT };

fn follower(cluster: &FakeCluster) -> Follower {
    Follower::new(cluster.source(), FLUSH)
}

async fn step(bench: &Bench, source: &Follower, base: Option<&Base>) -> Result<RecordedTree> {
    let unit = source.discover(&bench.cx).await?.remove(0);
    let mut capture = source.capture(&bench.cx, &unit, base).await?;
    let sink = Recorder::new(&bench.cx);
    let facts = capture.items(&bench.cx, &sink).await?;
    sink.commit(facts)
}

fn base(tree: &RecordedTree, name: &str) -> Base {
    Base { snapshot: SnapshotId::new(name), facts: tree.facts[0].clone() }
}

/// The full, and what a watch that tells this makes of it.
async fn follow(messages: Vec<Told>) -> (FakeCluster, RecordedTree, Result<RecordedTree>) {
    let cluster = FakeCluster::new(1).with(1, |member| member.told = VecDeque::from(messages));
    let (bench, source) = (Bench::new("r1"), follower(&cluster));
    let full = step(&bench, &source, None).await.unwrap();
    let delta = step(&bench, &source, Some(&base(&full, "full"))).await;
    (cluster, full, delta)
}

fn tag(tree: &RecordedTree) -> &str {
    tree.facts[0].tags.iter().find(|tag| tag.starts_with("rev:")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_a_fragment_cuts_is_stored_whole_or_not_at_all() {
    let cut = vec![told(true, vec![put("a", 51, 0), put("b", 52, 0)]), told(false, vec![put("c", 52, 0)])];
    let (_, _, delta) = follow(cut).await;
    assert_eq!(tag(&delta.unwrap()), "rev:51-52");
    let (_, _, delta) = follow(vec![told(true, vec![put("a", 51, 0), put("b", 52, 0)])]).await;
    assert_eq!(tag(&delta.unwrap()), "rev:51-51");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_continued_is_a_full_again() {
    let lost = async |messages| match follow(messages).await.2 {
        Err(SourceError::BaseLost(text)) => text,
        other => panic!("{:?}", other.map(|tree| tree.lines())),
    };
    assert!(lost(vec![Told::Compacted(60)]).await.contains("compacted"));
    assert!(lost(vec![told(false, vec![put("a", 53, 0)])]).await.contains("revision 51 is missing"));
    let (cluster, full, _) = follow(vec![told(false, vec![put("a", 51, 0)])]).await;
    let again = async |cluster: &FakeCluster| {
        let bench = Bench::new("r2");
        step(&bench, &follower(cluster), Some(&base(&full, "full"))).await.unwrap_err().to_string()
    };
    let cluster = cluster.with(1, |member| member.auth_revision = Some(99));
    assert!(again(&cluster).await.contains("users or roles"));
    let cluster = cluster.with(1, |member| member.status.cluster_id = crate::etcd::model::ClusterId(8));
    assert!(again(&cluster).await.contains("replaced"));
}

#[tokio::test(start_paused = true)]
async fn a_chain_is_restored_up_to_any_revision_with_its_leases() {
    let changes = vec![
        told(false, vec![put("/registry/a", 51, 7), put("/registry/b", 51, 0)]),
        told(false, vec![delete("/registry/a", 52)]),
    ];
    let (cluster, full, delta) = follow(changes).await;
    let mut delta = delta.unwrap();
    assert_eq!(delta.facts[0].follows, Some(SnapshotId::new("full")));
    assert_eq!(delta.facts[0].notes["leases"], json!([7, UNUSED_LEASE]));
    // One that was stored twice, as after a lost answer, is taken once.
    let chain = delta.clone().over(&full);
    delta.facts.clear();
    for (until, revision, keys) in
        [(json!("latest"), 52, 33), (json!({"revision": 51}), 51, 34), (json!({"revision": 50}), 50, 32)]
    {
        for compact in [true, false] {
            let place = tempfile::tempdir().unwrap();
            let (bench, source) = (Bench::new("r3"), cluster.source());
            let cx = bench.cx.for_run(&"r3".into(), Purpose::Restore);
            let unit = source.discover(&cx).await.unwrap().remove(0);
            let options = json!({"target": place.path(), "until": until, "compact": compact, "bump": 0});
            let request = RestoreRequest { unit, to: Destination::Beside, options };
            let mut planned = source.restore(&cx, &request, &chain).await.unwrap();
            planned.apply(&cx).await.unwrap();
            let proof = planned.prove(&cx).await.unwrap();
            let expected = format!("the database is whole: {keys} keys at revision {revision}");
            assert_eq!(proof.checks[0], expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_delta_is_damage_and_a_revision_beyond_the_end_is_refused() {
    let (cluster, full, first) =
        follow(vec![told(false, vec![put("a", 51, 0)]), told(false, vec![put("b", 52, 0)])]).await;
    let first = first.unwrap();
    let mut broken = first.clone().over(&full);
    let file = broken.items.keys().find(|path| path.to_string().ends_with(".ogd")).unwrap().clone();
    let damaged = {
        let content = broken.items[&file].content.slice(..40);
        broken.items.get_mut(&file).unwrap().content = content;
        broken
    };
    let restore = async |tree: &RecordedTree, until, best_effort: bool| {
        let place = tempfile::tempdir().unwrap();
        let (bench, source) = (Bench::new("r3"), cluster.source());
        let cx = bench.cx.for_run(&"r3".into(), Purpose::Restore);
        let unit = source.discover(&cx).await.unwrap().remove(0);
        let options = json!({"target": place.path(), "until": until, "best-effort": best_effort});
        let request = RestoreRequest { unit, to: Destination::Beside, options };
        let mut planned = source.restore(&cx, &request, tree).await.unwrap();
        planned.apply(&cx).await.map(|()| bench.seen.problem_lines())
    };
    let whole = first.over(&full);
    let (latest, beyond) = (json!("latest"), json!({"revision": 99}));
    assert!(matches!(restore(&damaged, latest.clone(), false).await, Err(SourceError::Damaged(_))));
    assert!(matches!(restore(&whole, beyond.clone(), false).await, Err(SourceError::Refused(_))));
    assert_eq!(restore(&whole, latest.clone(), true).await.unwrap(), Vec::<String>::new());
    for (tree, until) in [(&damaged, latest), (&whole, beyond)] {
        assert_eq!(restore(tree, until, true).await.unwrap(), ["chain-broken"]);
    }
}
