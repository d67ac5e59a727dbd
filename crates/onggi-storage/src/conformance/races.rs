//! Obligations under concurrency: calls from many tasks at once see whole files and exactly one winner.

use super::{content, handles, remove, sample};
use crate::{FileType, Handle, Result, Storage, StorageError};
use bytes::Bytes;
use futures::future::join_all;
use std::slice;

const WRITERS: u8 = 8;

/// Repetitions of a call that failed for a reason that may pass.
const ATTEMPTS: usize = 10;

pub(super) async fn many_calls_at_once_do_not_disturb_each_other(storage: &dyn Storage) {
    let one = |number: u8| async move {
        let (handle, bytes) = (sample(FileType::Pack, number), content(number, 3000 + usize::from(number)));
        storage.create(handle.clone(), bytes.clone()).await.expect("create beside others");
        assert_eq!(storage.read(handle.clone(), None).await.expect("read beside others"), bytes);
        assert!(handles(storage, FileType::Pack).await.contains(&handle), "listed beside others");
        let part = storage.read(handle.clone(), Some(10..20)).await.expect("read a range beside others");
        assert_eq!(part, bytes[10..20]);
        remove(storage, handle).await;
    };
    join_all((0..64).map(one)).await;
}

pub(super) async fn of_writers_with_different_content_one_wins_whole(storage: &dyn Storage) {
    for round in 0..8 {
        let handle = sample(FileType::Index, round);
        let write = |seed| create(storage, &handle, content(seed, 40_000));
        let answers = join_all((0..WRITERS).map(write)).await;
        let won: Vec<_> = (0..WRITERS).filter(|seed| answers[usize::from(*seed)].is_ok()).collect();
        let refused = answers.iter().filter(|answer| matches!(answer, Err(StorageError::AlreadyExists(_)))).count();
        assert_eq!(won.len() + refused, usize::from(WRITERS), "a loser is told that the file exists: {answers:?}");
        assert!(!won.is_empty(), "one writer wins");
        if storage.properties().exclusive_create {
            assert_eq!(won.len(), 1, "only one writer wins: {answers:?}");
        }
        let stored = storage.read(handle.clone(), None).await.expect("read the winner's content");
        assert!(won.iter().any(|seed| stored == content(*seed, 40_000)), "the content is a winner's, whole");
        remove(storage, handle).await;
    }
}

pub(super) async fn writers_with_equal_content_all_succeed(storage: &dyn Storage) {
    let (handle, bytes) = (sample(FileType::Pack, 100), content(100, 100_000));
    for answer in join_all((0..WRITERS).map(|_| create(storage, &handle, bytes.clone()))).await {
        answer.expect("create what others create with equal content");
    }
    assert_eq!(handles(storage, FileType::Pack).await, slice::from_ref(&handle), "listed once");
    remove(storage, handle).await;
}

pub(super) async fn a_reader_sees_all_or_nothing(storage: &dyn Storage) {
    let (handle, bytes) = (sample(FileType::Pack, 101), content(101, 4 << 20));
    let read = async {
        loop {
            match storage.read(handle.clone(), None).await {
                Ok(seen) => break assert!(seen == bytes, "a reader saw {} of {} bytes", seen.len(), bytes.len()),
                Err(error) => assert!(error.is_not_found(), "a reader saw {error}"),
            }
            tokio::task::yield_now().await;
        }
    };
    let (created, ()) = futures::join!(storage.create(handle.clone(), bytes.clone()), read);
    created.expect("create while others read");
    remove(storage, handle).await;
}

/// Creates as any caller does: an error that may pass says nothing of the file, so that the call is repeated. (A service
/// that refuses a body before it has read it closes the connection, and may hit another call with that.)
async fn create(storage: &dyn Storage, handle: &Handle, content: Bytes) -> Result<()> {
    for _ in 0..ATTEMPTS {
        match storage.create(handle.clone(), content.clone()).await {
            Err(error) if error.is_transient() => {}
            answer => return answer,
        }
    }
    storage.create(handle.clone(), content).await
}
