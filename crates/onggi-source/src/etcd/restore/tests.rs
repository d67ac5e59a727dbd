//! What is written, beside what etcdutl 3.5.16 wrote of the same snapshot with the same arguments.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;

use crate::bench::Bench;
use crate::context::{Destination, Purpose};
use crate::etcd::bolt::{Bolt, BoltWriter, Entry};
use crate::etcd::fake::FakeCluster;
use crate::etcd::survey::Survey;
use crate::recorder::{RecordedTree, Recorder};
use crate::source::{Outcome, RestoreRequest, Result, Source, Step, Unit};

const THREE: &str = "m1=https://10.0.0.1:2380,m2=https://10.0.0.2:2380,m3=https://10.0.0.3:2380";
const OLD_STATE: &[u8] = br#"{"voters":[6308755931705457966],"auto_leave":false}"#;
const ONE: &str = "m1=https://10.0.0.1:2380";

async fn stored(cluster: &FakeCluster) -> (Unit, RecordedTree) {
    let (bench, source) = (Bench::new("r1"), cluster.source());
    let unit = source.discover(&bench.cx).await.unwrap().remove(0);
    let mut capture = source.capture(&bench.cx, &unit, None).await.unwrap();
    let sink = Recorder::new(&bench.cx);
    let facts = capture.items(&bench.cx, &sink).await.unwrap();
    (unit, sink.commit(facts).unwrap())
}

/// A restore with these options; the steps of its plan.
async fn restore(cluster: &FakeCluster, options: serde_json::Value) -> Result<Vec<Step>> {
    let (unit, stored) = stored(cluster).await;
    let (bench, source) = (Bench::new("r2"), cluster.source());
    let cx = bench.cx.for_run(&"r2".into(), Purpose::Restore);
    let request = RestoreRequest { unit: unit.clone(), to: Destination::Beside, options };
    let mut planned = source.restore(&cx, &request, &stored).await?;
    planned.apply(&cx).await?;
    planned.prove(&cx).await?;
    let steps = planned.plan().steps.clone();
    drop(planned);
    source.release(&cx, &unit, Outcome::Kept).await?;
    assert!(source.remnants(&cx).await?.is_empty());
    Ok(steps)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[track_caller]
fn check_files(directory: &Path, golden: &str, index: usize) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/etcd").join(golden);
    let snapshot = format!("0000000000000001-{index:016x}.snap");
    let log = "0000000000000000-0000000000000000.wal";
    let member = directory.join("member");
    assert_eq!(fs::read(member.join("snap").join(&snapshot)).unwrap(), fs::read(golden.join(&snapshot)).unwrap());
    let mut expected = fs::read(golden.join(log)).unwrap();
    expected.resize(64_000_000, 0);
    assert!(fs::read(member.join("wal").join(log)).unwrap() == expected, "the log differs");
    for folder in [directory, &member, &member.join("snap"), &member.join("wal")] {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
    }
    for file in [member.join("snap/db"), member.join("snap").join(snapshot), member.join("wal").join(log)] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

/// The hash of all buckets, as `etcdutl snapshot status` prints it of its own, and the last revision. The one difference
/// is taken back: etcdutl leaves the voters of the old cluster.
async fn content(directory: &Path) -> (u32, i64) {
    let bytes = fs::read(directory.join("member/snap/db")).unwrap();
    let bolt = Bolt::open(bytes.as_slice(), bytes.len() as u64).await.unwrap();
    let survey = Survey::take(&bolt).await.unwrap();
    let mut hash = 0;
    let take = |bucket: &[u8], entry: Option<Entry<'_>>| {
        let is_state = |entry: &Entry<'_>| bucket == b"meta" && entry.key == b"confState";
        let value = |entry: Entry<'_>| if is_state(&entry) { OLD_STATE.to_vec() } else { entry.value.to_vec() };
        let bytes = entry.map_or_else(|| bucket.to_vec(), |entry| [entry.key.to_vec(), value(entry)].concat());
        hash = crc32c::crc32c_append(hash, &bytes);
        Ok(())
    };
    bolt.check(take).await.unwrap();
    (hash, survey.revision)
}

#[tokio::test(start_paused = true)]
async fn three_members_are_those_that_etcdutl_makes() {
    let (place, cluster) = (tempfile::tempdir().unwrap(), FakeCluster::new(1));
    let options = json!({"target": place.path(), "initial-cluster": THREE, "token": "golden", "bump": 0});
    restore(&cluster, options).await.unwrap();
    check_files(&place.path().join("m2"), "three-members", 3);
    for member in ["m1", "m2", "m3"] {
        assert_eq!(content(&place.path().join(member)).await, (2_258_895_506, 50));
    }
}

#[tokio::test(start_paused = true)]
async fn one_member_with_raised_revisions_is_that_of_etcdutl() {
    let (place, cluster) = (tempfile::tempdir().unwrap(), FakeCluster::new(1));
    let target = place.path().join("new");
    let options = json!({"target": target, "initial-cluster": ONE, "token": "golden", "bump": 1000});
    restore(&cluster, options).await.unwrap();
    check_files(&target, "one-member", 1);
    assert_eq!(content(&target).await, (1_863_642_888, 1050));
}

#[tokio::test(start_paused = true)]
async fn an_earlier_revision_is_what_a_reader_saw_then() {
    let (place, cluster) = (tempfile::tempdir().unwrap(), FakeCluster::new(1));
    let options = json!({"target": place.path(), "until": {"revision": 47}, "bump": 0});
    restore(&cluster, options).await.unwrap();
    assert_eq!(content(place.path()).await.1, 47);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_way_is_never_overwritten() {
    let (place, cluster) = (tempfile::tempdir().unwrap(), FakeCluster::new(1));
    let target = place.path().join("etcd");
    fs::create_dir_all(target.join("member/snap")).unwrap();
    fs::write(target.join("member/snap/db"), "old").unwrap();
    let refused = restore(&cluster, json!({"target": target})).await.unwrap_err();
    assert!(refused.to_string().contains("is not empty"), "{refused}");
    let steps = restore(&cluster, json!({"target": target, "rename": true})).await.unwrap();
    assert!(steps.iter().any(|step| matches!(step, Step::Replace(_))));
    assert_eq!(fs::read(place.path().join("etcd.onggi-50/member/snap/db")).unwrap(), b"old");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_right_is_refused_before_anything_is_made() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("etcd");
    let check = async |cluster: &FakeCluster, more: serde_json::Value, expected: &str| {
        let mut options = json!({"target": target});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let refused = restore(cluster, options).await.unwrap_err();
        assert!(refused.to_string().contains(expected), "{refused}");
        assert!(!target.exists());
    };
    let cluster = FakeCluster::new(1);
    check(&cluster, json!({"initial-cluster": "m1"}), "is not NAME=URL").await;
    check(&cluster, json!({"initial-cluster": THREE, "member": "m4"}), "names no member m4").await;
    check(&cluster, json!({"expect-cluster": "0000000000000001"}), "the cluster's id becomes").await;
    check(&cluster, json!({"unknown": 1}), "read the options").await;
    let newer = FakeCluster::new(1).with(1, |member| member.status.version = "3.7.0".to_owned());
    check(&newer, json!({}), "never tested with").await;
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_run_made_is_shown_and_goes() {
    let (place, cluster) = (tempfile::tempdir().unwrap(), FakeCluster::new(1));
    let (unit, stored) = stored(&cluster).await;
    let (bench, source) = (Bench::new("r2"), cluster.source());
    let cx = bench.cx.for_run(&"r2".into(), Purpose::Drill);
    let target = place.path().join("etcd");
    let request = RestoreRequest { unit: unit.clone(), to: Destination::Scratch, options: json!({"target": target}) };
    let mut planned = source.restore(&cx, &request, &stored).await.unwrap();
    planned.apply(&cx).await.unwrap();
    drop(planned);
    let remnants = source.remnants(&cx).await.unwrap();
    assert_eq!(remnants[0].mark, Some(("r2".into(), Purpose::Drill)));
    source.release(&cx, &unit, Outcome::Dropped).await.unwrap();
    assert!(source.remnants(&cx).await.unwrap().is_empty() && !target.exists());
}

mod writer {
    use std::collections::BTreeMap;
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    type Buckets = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

    fn write(buckets: &Buckets, page: usize) -> Vec<u8> {
        let mut writer = BoltWriter::new(Cursor::new(Vec::new()), page).unwrap();
        for (name, entries) in buckets {
            writer.bucket(name, 7).unwrap();
            entries.iter().for_each(|(key, value)| writer.put(key, value).unwrap());
        }
        let (file, length) = writer.finish().unwrap();
        let mut bytes = file.into_inner();
        bytes.resize(length as usize, 0);
        bytes
    }

    fn read(bytes: &[u8]) -> (Buckets, u64) {
        futures::executor::block_on(async {
            let bolt = Bolt::open(bytes, bytes.len() as u64).await.unwrap();
            let mut found = Buckets::new();
            let take = |bucket: &[u8], entry: Option<Entry<'_>>| {
                let entries = found.entry(bucket.to_vec()).or_default();
                entries.extend(entry.map(|entry| (entry.key.to_vec(), entry.value.to_vec())));
                Ok(())
            };
            let census = bolt.check(take).await.unwrap();
            (found, census.0.free)
        })
    }

    fn bytes(longest: usize) -> impl Strategy<Value = Vec<u8>> {
        (prop::collection::vec(any::<u8>(), 1..20), 0..longest)
            .prop_map(|(start, longer)| [start, vec![b'x'; longer]].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_page_of_a_written_file_is_used_and_what_was_written_is_read(
            buckets in prop::collection::btree_map(bytes(3), prop::collection::btree_map(bytes(40), bytes(3000), 0..400), 0..5),
            page in prop::sample::select(vec![1024_usize, 4096, 65_536]),
        ) {
            prop_assert_eq!(read(&write(&buckets, page)), (buckets, 0));
        }
    }

    #[test]
    fn trees_of_several_levels_are_whole() {
        for count in [0_u64, 1, 2, 50, 51, 52, 3_000, 60_000] {
            let entries = (0..count).map(|number| (number.to_be_bytes().to_vec(), vec![b'v'; 5])).collect();
            let buckets = Buckets::from([(b"key".to_vec(), entries)]);
            assert!(read(&write(&buckets, 1024)) == (buckets, 0), "{count}");
        }
    }

    #[test]
    fn disorder_is_refused() {
        let mut writer = BoltWriter::new(Cursor::new(Vec::new()), 4096).unwrap();
        assert!(writer.put(b"a", b"").is_err());
        writer.bucket(b"b", 0).unwrap();
        writer.put(b"b", b"").unwrap();
        assert!(writer.put(b"b", b"").is_err());
        assert!(BoltWriter::new(Cursor::new(Vec::new()), 3000).is_err());
    }
}
