//! Files of real members, whole and damaged, judged by what etcd itself said of them.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

use futures::executor::block_on;
use onggi_source::etcd::bolt::{Bolt, BoltError, Direction};
use onggi_source::etcd::content::Content;
use onggi_source::etcd::hashkv::HashKv;
use onggi_source::etcd::survey::Survey;

const FILES: [&[u8]; 2] = [
    include_bytes!("../../../testdata/etcd/snapshot-3.4.db"),
    include_bytes!("../../../testdata/etcd/snapshot-3.5.db"),
];
const TRAILER_BYTES: usize = 32;

fn databases() -> impl Iterator<Item = &'static [u8]> {
    FILES.iter().map(|file| &file[..file.len() - TRAILER_BYTES])
}

/// Everything that is looked at before a snapshot is stored.
fn examine(bytes: &[u8]) -> Result<(Survey, Content, HashKv), BoltError> {
    block_on(async {
        let bolt = Bolt::open(bytes, bytes.len() as u64).await?;
        let survey = Survey::take(&bolt).await?;
        let content = Content::check(&bolt, &survey).await?;
        let hash_kv = HashKv::compute(&bolt, &[survey.compact_revision]).await?;
        Ok((survey, content, hash_kv.unwrap()))
    })
}

#[test]
fn a_file_tells_its_revisions_members_and_keys() {
    for bytes in databases() {
        let (survey, content, hash_kv) = examine(bytes).unwrap();
        assert_eq!((survey.revision, survey.compact_revision), (50, 43));
        assert_eq!((survey.leases, content.lost_leases), (1, 0));
        assert_eq!(survey.members.len(), 1);
        assert_eq!(survey.unknown, Vec::<String>::new());
        assert_eq!(hash_kv.live(), 32);
        assert!(content.tombstones > 0 && survey.consistent_index > 50);
        assert_eq!((content.census.used + content.census.free) * 4096, bytes.len() as u64);
    }
}

#[test]
fn the_hashes_are_those_that_members_and_etcdutl_compute() {
    let said = [(788_544_136, 69, 2_553_533_666), (805_545_192, 71, 1_273_534_603)];
    for (bytes, (hash, entries, hash_kv)) in databases().zip(said) {
        let (survey, content, computed) = examine(bytes).unwrap();
        assert_eq!((content.hash, content.entries), (hash, entries));
        assert_eq!(computed.at(survey.compact_revision), Some(hash_kv));
    }
}

#[test]
fn both_directions_meet_the_same_entries() {
    for bytes in databases() {
        let walk = |direction| {
            block_on(async {
                let bolt = Bolt::open(bytes, bytes.len() as u64).await.unwrap();
                let (buckets, _) = bolt.buckets().await.unwrap();
                let bucket = buckets.iter().find(|bucket| bucket.name == b"key").unwrap();
                let (mut cursor, mut keys) = (bolt.cursor(bucket, direction), Vec::new());
                while let Some(entry) = cursor.next().await.unwrap() {
                    keys.push(entry.key.to_vec());
                }
                keys
            })
        };
        let mut backward = walk(Direction::Backward);
        backward.reverse();
        assert_eq!(walk(Direction::Forward), backward);
        assert!(backward.is_sorted() && backward.len() > 30);
    }
}

#[test]
fn a_cut_file_is_refused_wherever_it_ends() {
    for bytes in databases() {
        for length in (0..bytes.len()).step_by(509) {
            let cut = examine(&bytes[..length]);
            assert!(matches!(cut, Err(BoltError::Structure(_))), "{length}");
        }
    }
}

/// What a changed byte is found by.
#[track_caller]
fn check(bytes: &[u8], at: usize, expected: &str) {
    let found = match examine(&changed(bytes, at)) {
        Ok(_) => "nothing".to_owned(),
        Err(BoltError::Structure(what)) => format!("structure: {what}"),
        Err(BoltError::Content(what)) => format!("content: {what}"),
        Err(BoltError::Read(error)) => format!("read: {error}"),
    };
    assert!(found.contains(expected), "byte {at}: {found}");
}

/// Freed pages still have copies of a word, which nobody looks at; a change before or in the one that counts is found.
#[track_caller]
fn check_copies(bytes: &[u8], word: &[u8], before: usize) {
    let copies = bytes.windows(word.len()).enumerate().filter(|(_, window)| *window == word);
    let is_found = |at: usize| matches!(examine(&changed(bytes, at - before)), Err(BoltError::Content(_)));
    assert_eq!(copies.filter(|(at, _)| is_found(*at)).count(), 1);
}

fn page_of(bytes: &[u8], flag: u8) -> usize {
    let is_it = |page: &usize| bytes[page * 4096 + 8] == flag && reached(bytes, *page as u64);
    (2..bytes.len() / 4096).find(is_it).unwrap() * 4096
}

/// A freed page still looks like one.
fn reached(bytes: &[u8], page: u64) -> bool {
    examine(&changed(bytes, page as usize * 4096)).is_err()
}

fn changed(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[at] ^= 0x41;
    changed
}

#[test]
fn a_changed_byte_is_found_by_the_layer_that_it_breaks() {
    for bytes in databases() {
        for meta in [0, 4096] {
            check(bytes, meta + 16, "structure: page");
            check(bytes, meta + 20, "it is of another version");
            check(bytes, meta + 64, "its checksum is wrong");
        }
        let (branch, leaf) = (page_of(bytes, 1), page_of(bytes, 2));
        check(bytes, branch, "it says that it is page");
        check(bytes, branch + 8, "it is neither branch nor leaf");
        check(bytes, branch + 16 + 8, "structure: page");
        check(bytes, leaf + 10, "structure: page");
        check(bytes, leaf + 12, "structure: page");
        check(bytes, leaf + 16 + 5, "an element points outside of it");
        // Its last letter, so that the keys still ascend.
        check_copies(bytes, b"x\0\0\0\0\0\0\0", 0);
        check_copies(bytes, b"/registry/leased", 2);
    }
}

#[test]
fn a_changed_value_changes_the_hashes() {
    for bytes in databases() {
        let mut damaged = bytes.to_vec();
        let (_, good, good_keys) = examine(bytes).unwrap();
        for at in 0..damaged.len() {
            if damaged[at..].starts_with(b"value of ") {
                damaged[at] = b'V';
            }
        }
        let (_, content, keys) = examine(&damaged).unwrap();
        assert_ne!(content.hash, good.hash);
        assert_ne!(keys.at(43), good_keys.at(43));
    }
}
