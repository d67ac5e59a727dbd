//! Obligations on single files: what is created is read back exactly, and nothing is ever replaced.

use super::{content, remove, sample};
use crate::{FileType, Handle, Result, Storage, StorageError};
use bytes::Bytes;

/// More than any window or part that a protocol uses.
const BIG: usize = 20 * 1024 * 1024 + 3;

pub(super) async fn what_was_created_is_read_back(storage: &dyn Storage, handle: Handle) {
    let bytes = content(1, 1000);
    storage.create(handle.clone(), bytes.clone()).await.expect("create");
    assert_eq!(storage.read(handle.clone(), None).await.expect("read"), bytes, "{handle}");
    let info = storage.stat(handle.clone()).await.expect("stat");
    assert_eq!((&info.handle, info.size), (&handle, 1000), "stat of {handle}");
    remove(storage, handle).await;
}

pub(super) async fn a_missing_file_is_not_found(storage: &dyn Storage, handle: Handle) {
    expect_absent("read", &storage.read(handle.clone(), None).await);
    expect_absent("read of a range", &storage.read(handle.clone(), Some(0..1)).await);
    expect_absent("stat", &storage.stat(handle.clone()).await);
    expect_absent("remove", &storage.remove(handle).await);
}

pub(super) fn expect_absent<T: std::fmt::Debug>(act: &str, answer: &Result<T>) {
    assert!(matches!(answer, Err(error) if error.is_not_found()), "{act} of what is not there is {answer:?}");
}

pub(super) async fn creating_twice_is_harmless_if_equal(storage: &dyn Storage) {
    let (handle, bytes) = (sample(FileType::Pack, 3), content(3, 5000));
    storage.create(handle.clone(), bytes.clone()).await.expect("create");
    storage.create(handle.clone(), bytes.clone()).await.expect("create again with equal content");
    assert_eq!(storage.read(handle.clone(), None).await.expect("read"), bytes);
    remove(storage, handle).await;
}

pub(super) async fn an_existing_file_is_never_replaced(storage: &dyn Storage) {
    let (handle, bytes) = (sample(FileType::Pack, 4), content(4, 5000));
    storage.create(handle.clone(), bytes.clone()).await.expect("create");
    let mut others = vec![Bytes::new(), content(5, 5000), bytes.slice(..4999)];
    others.push([&bytes[..], b"x"].concat().into());
    for other in others {
        let answer = storage.create(handle.clone(), other).await;
        let refused = matches!(&answer, Err(StorageError::AlreadyExists(named)) if *named == handle);
        assert!(refused, "create over an existing, different file is {answer:?}");
    }
    assert_eq!(storage.read(handle.clone(), None).await.expect("read"), bytes, "refused and unchanged");
    remove(storage, handle).await;
}

pub(super) async fn ranges_are_exact(storage: &dyn Storage) {
    let (handle, bytes) = (sample(FileType::Pack, 6), content(6, 70_000));
    storage.create(handle.clone(), bytes.clone()).await.expect("create");
    for range in [0..70_000, 0..1, 69_999..70_000, 100..65_700, 32_768..32_769, 0..0, 500..500, 70_000..70_000] {
        let part = storage.read(handle.clone(), Some(range.clone())).await.expect("read a range");
        assert_eq!(part, bytes[range.start as usize..range.end as usize], "bytes {range:?}");
    }
    remove(storage, handle).await;
}

pub(super) async fn a_range_past_the_end_is_short(storage: &dyn Storage) {
    let handle = sample(FileType::Pack, 7);
    storage.create(handle.clone(), content(7, 100)).await.expect("create");
    for range in [0..101, 99..101, 100..101, 101..102, 1000..2000, 0..u64::MAX] {
        let answer = storage.read(handle.clone(), Some(range.clone())).await;
        assert!(matches!(answer, Err(StorageError::Short(..))), "bytes {range:?} of 100 are {answer:?}");
    }
    remove(storage, handle).await;
}

pub(super) async fn an_empty_file_is_a_file(storage: &dyn Storage) {
    let handle = sample(FileType::Lock, 8);
    storage.create(handle.clone(), Bytes::new()).await.expect("create an empty file");
    assert_eq!(storage.stat(handle.clone()).await.expect("stat an empty file").size, 0);
    assert_eq!(storage.read(handle.clone(), None).await.expect("read an empty file"), Bytes::new());
    storage.create(handle.clone(), Bytes::new()).await.expect("create an empty file again");
    let filled = storage.create(handle.clone(), Bytes::from_static(b"x")).await;
    assert!(matches!(filled, Err(StorageError::AlreadyExists(_))), "an empty file is not replaced: {filled:?}");
    remove(storage, handle).await;
}

pub(super) async fn a_removed_file_is_gone_and_can_come_back(storage: &dyn Storage) {
    let handle = sample(FileType::Snapshot, 9);
    for round in 0..2 {
        storage.create(handle.clone(), content(round, 50)).await.expect("create after removal");
        assert_eq!(storage.read(handle.clone(), None).await.expect("read"), content(round, 50), "round {round}");
        remove(storage, handle.clone()).await;
        a_missing_file_is_not_found(storage, handle.clone()).await;
    }
}

pub(super) async fn a_big_file_is_whole(storage: &dyn Storage) {
    let (handle, bytes) = (sample(FileType::Pack, 10), content(10, BIG));
    storage.create(handle.clone(), bytes.clone()).await.expect("create a big file");
    assert!(storage.read(handle.clone(), None).await.expect("read a big file") == bytes, "a big file is read whole");
    let range = BIG as u64 / 2 - 7..BIG as u64;
    let part = storage.read(handle.clone(), Some(range.clone())).await.expect("read half of a big file");
    assert!(part == bytes[range.start as usize..], "half of a big file");
    remove(storage, handle).await;
}
