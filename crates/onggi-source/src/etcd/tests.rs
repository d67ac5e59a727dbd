//! The source over a fake cluster: the suite that every source passes, and each way in which a cluster can fail it.

use async_trait::async_trait;
use bytes::Bytes;
use sha2::Digest as _;

use super::EtcdConfig;
use super::bolt::Bolt;
use super::client::{HashAnswer, Piece};
use super::content::Content;
use super::fake::{FILE, FakeCluster, pieces};
use super::model::{ClusterId, Notes, SNAPSHOT_FILE};
use super::survey::Survey;
use crate::bench::Bench;
use crate::conformance::{self, Bed};
use crate::context::Stop;
use crate::faults::Faults;
use crate::item::Chunking;
use crate::path::TreePath;
use crate::recorder::{RecordedTree, Recorder};
use crate::source::{Base, Facts, Result, Source, SourceError};

struct EtcdBed(FakeCluster);

#[async_trait]
impl Bed for EtcdBed {
    fn source(&self) -> Box<dyn Source> {
        Box::new(self.0.source())
    }

    fn faults(&self) -> Faults {
        self.0.faults.clone()
    }

    /// Nothing is ever changed in a cluster.
    fn describe(&self) -> String {
        String::new()
    }

    fn leave_foreign(&self) -> bool {
        false
    }

    fn foreign_is_there(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn etcd_passes_the_suite_of_sources() {
    conformance::check(|| EtcdBed(FakeCluster::new(1))).await;
}

/// One backup; what was stored, its notes, and the problems by class.
async fn back_up(cluster: &FakeCluster, base: Option<&Base>) -> Result<(RecordedTree, Notes, Vec<String>)> {
    let (bench, source) = (Bench::new("r1"), cluster.source());
    let unit = source.discover(&bench.cx).await?.remove(0);
    let mut capture = source.capture(&bench.cx, &unit, base).await?;
    let sink = Recorder::new(&bench.cx);
    let facts = capture.items(&bench.cx, &sink).await?;
    let notes = serde_json::from_value(facts.notes.clone()).unwrap();
    Ok((sink.commit(facts)?, notes, bench.seen.problem_lines()))
}

/// What a backup of the cluster ends with: its tags beside `full`, or its error, and the problems.
#[track_caller]
fn check(cluster: &FakeCluster, expected: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let ended = match runtime.block_on(back_up(cluster, None)) {
        Ok((tree, _, problems)) => format!("{} | {}", tree.facts[0].tags[1..].join(" "), problems.join(" ")),
        Err(error) => error.to_string(),
    };
    assert_eq!(ended, expected);
}

const GOOD: &str = "cid:0000000000000009 rev:50 | ";

fn altered(change: impl FnOnce(&mut Vec<Piece>)) -> Vec<Piece> {
    let mut messages = pieces(FILE);
    change(&mut messages);
    messages
}

/// The file with a byte changed and a trailer that fits.
fn forged(at: usize) -> Vec<u8> {
    let mut file = FILE[..FILE.len() - 32].to_vec();
    file[at] ^= 0x41;
    let trailer = sha2::Sha256::digest(&file);
    file.extend_from_slice(&trailer);
    file
}

#[tokio::test(start_paused = true)]
async fn the_stored_file_is_the_stream_in_fixed_chunks_and_knows_its_revision() {
    let (tree, notes, problems) = back_up(&FakeCluster::new(3), None).await.unwrap();
    let path = TreePath::new("etcd/prod").unwrap().join(SNAPSHOT_FILE).unwrap();
    let stored = &tree.items[&path];
    assert_eq!(stored.content, FILE);
    assert_eq!(stored.item.chunking, Chunking::Fixed(64 << 10));
    assert_eq!((notes.revision, notes.verified.as_str(), notes.live_keys), (50, "L3", Some(32)));
    assert_eq!((notes.member.as_str(), notes.hash_kv.len(), problems.len()), ("m2", 3, 0));
}

#[tokio::test(start_paused = true)]
async fn free_pages_can_be_left_out_of_a_file_that_restores_all_the_same() {
    let config = EtcdConfig { zero_free_pages: true, ..EtcdConfig::default() };
    let (bench, source) = (Bench::new("r1"), FakeCluster::new(1).source_with(config));
    let unit = source.discover(&bench.cx).await.unwrap().remove(0);
    let mut capture = source.capture(&bench.cx, &unit, None).await.unwrap();
    let sink = Recorder::new(&bench.cx);
    let facts = capture.items(&bench.cx, &sink).await.unwrap();
    let tree = sink.commit(facts).unwrap();
    let path = TreePath::new("etcd/prod").unwrap().join(SNAPSHOT_FILE).unwrap();
    let stored = &tree.items[&path].content;
    assert_eq!(content_hash(stored).await, content_hash(FILE).await);
    let is_zero = |file: &[u8]| file.chunks(4096).filter(|page| page.iter().all(|byte| *byte == 0)).count();
    assert_eq!((stored.len(), is_zero(FILE), is_zero(stored)), (FILE.len(), 0, 6));
    let (database, trailer) = stored.split_at(stored.len() - 32);
    assert_eq!(trailer, <[u8; 32]>::from(sha2::Sha256::digest(database)));
}

#[tokio::test(start_paused = true)]
async fn the_member_of_last_time_is_read_again() {
    let cluster = FakeCluster::new(3);
    let notes = Notes { member_id: ClusterId(3), server_version: "3.5.16".to_owned(), ..Notes::default() };
    let facts = Facts { notes: serde_json::to_value(notes).unwrap(), ..Facts::new(jiff::Timestamp::UNIX_EPOCH) };
    let base = Base { snapshot: "s".into(), facts };
    assert_eq!(back_up(&cluster, Some(&base)).await.unwrap().1.member, "m3");
}

#[test]
fn a_broken_stream_is_begun_anew_and_at_last_elsewhere() {
    let cut = altered(|messages| messages.truncate(1));
    let cluster = FakeCluster::new(1).with(1, |member| member.snapshots.push_front(cut.clone()));
    check(&cluster, GOOD);
    let cluster = FakeCluster::new(2).with(2, |member| member.snapshots = [cut.clone()].into());
    check(&cluster, GOOD);
}

/// The file with so much room behind its pages that it comes in many pieces.
fn grown() -> Vec<u8> {
    let mut file = FILE[..FILE.len() - 32].to_vec();
    file.resize(3 << 20, 0);
    let trailer = sha2::Sha256::digest(&file);
    file.extend_from_slice(&trailer);
    file
}

fn stored(tree: &RecordedTree) -> &[u8] {
    &tree.items[&TreePath::new("etcd/prod").unwrap().join(SNAPSHOT_FILE).unwrap()].content
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_while_it_arrives_is_what_came() {
    let cluster = FakeCluster::new(1).with(1, |member| member.snapshots = [pieces(&grown())].into());
    // etcd writes nothing behind the last page, hence the doubt.
    let (tree, _, problems) = back_up(&cluster, None).await.unwrap();
    assert!(stored(&tree) == grown(), "other bytes were stored");
    assert_eq!(problems.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn of_a_stream_that_breaks_while_it_is_stored_nothing_is_kept() {
    for kept in [20, 60, 95] {
        let mut cut = pieces(&grown());
        cut.truncate(kept);
        let mut forged = pieces(&grown());
        forged[kept].blob = vec![7; forged[kept].blob.len()].into();
        for broken in [cut, forged] {
            let snapshots = [broken, pieces(FILE)];
            let cluster = FakeCluster::new(1).with(1, |member| member.snapshots = snapshots.into());
            let (tree, notes, problems) = back_up(&cluster, None).await.unwrap();
            assert_eq!(stored(&tree), FILE);
            assert_eq!((notes.verified.as_str(), problems.len()), ("L3", 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_says_nothing_more_is_left_and_read_again() {
    for kept in [0, 1, 60] {
        let mut silent = pieces(&grown());
        silent.truncate(kept);
        let snapshots = [silent, pieces(FILE)];
        let cluster = FakeCluster::new(1).with(1, |member| {
            (member.snapshots, member.is_silent) = (snapshots.into(), true);
        });
        let (tree, notes, _) = back_up(&cluster, None).await.unwrap();
        assert_eq!((stored(&tree), notes.verified.as_str()), (FILE, "L3"));
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_snapshot_that_takes_too_long_nothing_is_stored() {
    for kept in [0, 60] {
        let mut silent = pieces(&grown());
        silent.truncate(kept);
        let cluster = FakeCluster::new(1).with(1, |member| {
            (member.snapshots, member.is_silent) = ([silent].into(), true);
        });
        let (bench, source) = (Bench::new("r1"), cluster.source());
        let unit = source.discover(&bench.cx).await.unwrap().remove(0);
        let cx = bench.cx.within(std::time::Duration::from_secs(5), Stop::TimeLimit);
        let sink = Recorder::new(&cx);
        let ended = async {
            let mut capture = source.capture(&cx, &unit, None).await?;
            capture.items(&cx, &sink).await
        };
        let ended = ended.await;
        assert!(matches!(ended, Err(SourceError::Stopped(Stop::TimeLimit))), "{ended:?}");
        assert_eq!(bench.cx.world.elapsed(), std::time::Duration::from_secs(5));
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_group_a_snapshot_is_read_before_others_are_waited_for() {
    let (mut bench, source) = (Bench::new("r1"), FakeCluster::new(1).source());
    bench.cx.is_prompt = false;
    let unit = source.discover(&bench.cx).await.unwrap().remove(0);
    let mut capture = source.capture(&bench.cx, &unit, None).await.unwrap();
    // The member is gone by then.
    bench.cx.is_prompt = true;
    let sink = Recorder::new(&bench.cx);
    let facts = capture.items(&bench.cx, &sink).await.unwrap();
    assert_eq!(stored(&sink.commit(facts).unwrap()), FILE);
}

#[test]
fn a_stream_that_is_not_whole_is_never_stored() {
    let lasting = |messages: Vec<Piece>| FakeCluster::new(1).with(1, |member| member.snapshots = [messages].into());
    let failed = |text: &str| format!("capture is incomplete: {text}");
    let without_trailer = altered(|messages| drop(messages.pop()));
    check(&lasting(without_trailer), &failed("the snapshot ended after 61440 of 61472 bytes"));
    check(&lasting(Vec::new()), &failed("the snapshot ended after 0 of 32 bytes"));
    let flipped = altered(|messages| {
        let mut blob = messages[1].blob.to_vec();
        blob[7] ^= 1;
        messages[1].blob = blob.into();
    });
    check(&lasting(flipped), &failed("the snapshot's SHA-256 is not that of its trailer"));
    let endless = altered(|messages| messages.push(messages[1].clone()));
    check(&lasting(endless), &failed("the snapshot does not end after 61472 bytes"));
    let empty = Piece { remaining: 28_672, blob: Bytes::new(), version: String::new() };
    let silent = altered(|messages| drop(messages.splice(1.., vec![empty; 20])));
    check(&lasting(silent), &failed("the member sends nothing although 28672 bytes remain"));
}

#[test]
fn a_snapshot_that_etcd_would_not_write_is_kept_as_suspect() {
    let serving = |file: Vec<u8>| FakeCluster::new(1).with(1, |member| member.snapshots = [pieces(&file)].into());
    check(&serving(forged(16)), "cid:0000000000000009 suspect | suspect");
    // Of a key that still exists: what was deleted since the compaction is in no member's hash.
    let copies = FILE.windows(11).enumerate().filter(|(_, window)| window == b"value of 25");
    let live = copies.map(|(at, _)| forged(at)).find(|file| differs(file)).unwrap();
    check(&serving(live), "cid:0000000000000009 rev:50 suspect | suspect");
}

/// Whether the change is in a page that counts.
fn differs(file: &[u8]) -> bool {
    futures::executor::block_on(content_hash(file)) != futures::executor::block_on(content_hash(FILE))
}

async fn content_hash(file: &[u8]) -> u32 {
    let database = &file[..file.len() - 32];
    let bolt = Bolt::open(database, database.len() as u64).await.unwrap();
    let survey = Survey::take(&bolt).await.unwrap();
    Content::check(&bolt, &survey).await.unwrap().hash
}

#[test]
fn members_that_differ_are_told() {
    let other = HashAnswer::Hash { hash: 1, compact_revision: 43 };
    let cluster = FakeCluster::new(2).with(1, |member| member.hash = other);
    check(&cluster, "cid:0000000000000009 rev:50 inconsistent | inconsistent");
    let cluster = FakeCluster::new(2).with(2, |member| member.hash = other);
    check(&cluster, "cid:0000000000000009 rev:50 suspect | suspect");
    for answer in [HashAnswer::Compacted, HashAnswer::Future] {
        check(&FakeCluster::new(2).with(1, |member| member.hash = answer), GOOD);
    }
}

#[test]
fn alarms_and_a_lost_quorum_are_told_or_refused() {
    let alarmed = |kind: &str| {
        let text = format!("memberID:1 alarm:{kind} ");
        FakeCluster::new(1).with(1, |member| member.status.errors = vec![text])
    };
    check(&alarmed("NOSPACE"), &format!("{GOOD}alarm"));
    let refused = "refused: a member reports corruption: CORRUPT 0000000000000001; `allow-corrupt: true` takes a snapshot \
                   all the same";
    check(&alarmed("CORRUPT"), refused);
    let alone = FakeCluster::new(1).with(1, |member| member.status.leader = None);
    let refused = "refused: the cluster has no leader, so its members may be stale; `allow-no-quorum: true` takes one all \
                   the same";
    check(&alone, refused);
}

#[test]
fn a_version_that_nobody_tested_is_marked() {
    let cluster = FakeCluster::new(1).with(1, |member| member.status.version = "3.7.0".to_owned());
    check(&cluster, "cid:0000000000000009 rev:50 untested | ");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_was_replaced_is_another_unit() {
    let (bench, cluster) = (Bench::new("r1"), FakeCluster::new(1));
    let unit = cluster.source().discover(&bench.cx).await.unwrap().remove(0);
    let cluster = cluster.with(1, |member| member.status.cluster_id = ClusterId(8));
    let source = cluster.source();
    let ended = source.capture(&bench.cx, &unit, None).await;
    assert!(matches!(ended.map(drop), Err(SourceError::Gone)));
}
