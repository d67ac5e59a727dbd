//! The obligations of a storage, as one suite that every storage and every decorator passes.
//!
//! A failed obligation panics with its name. Each uses names of its own and removes what it made, so that the suite
//! can run against a storage that is used by nobody else.

mod files;
mod lists;
mod races;

use crate::{FileId, FileType, Handle, OwnFolder, OwnName, Storage};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

/// Checks all obligations against an empty storage.
///
/// # Panics
/// If one is not met.
pub async fn check(storage: &dyn Storage) {
    preparing_is_idempotent(storage).await;
    lists::an_empty_storage_lists_nothing(storage).await;
    for file_type in FileType::ALL {
        files::what_was_created_is_read_back(storage, sample(file_type, 1)).await;
        files::a_missing_file_is_not_found(storage, sample(file_type, 2)).await;
        lists::each_file_is_listed_once_with_its_size(storage, file_type).await;
    }
    files::creating_twice_is_harmless_if_equal(storage).await;
    files::an_existing_file_is_never_replaced(storage).await;
    files::ranges_are_exact(storage).await;
    files::a_range_past_the_end_is_short(storage).await;
    files::an_empty_file_is_a_file(storage).await;
    files::a_removed_file_is_gone_and_can_come_back(storage).await;
    files::a_big_file_is_whole(storage).await;
    races::many_calls_at_once_do_not_disturb_each_other(storage).await;
    races::of_writers_with_different_content_one_wins_whole(storage).await;
    races::writers_with_equal_content_all_succeed(storage).await;
    races::a_reader_sees_all_or_nothing(storage).await;
    lists::an_empty_storage_lists_nothing(storage).await;
}

/// Checks what a storage answers while its place (folder, bucket) is not there; then prepares and checks it.
///
/// # Panics
/// If an obligation is not met.
pub async fn check_absent(storage: &dyn Storage) {
    for file_type in FileType::ALL {
        let first = storage.list(file_type).next().await;
        let no_place = matches!(first, Some(Err(crate::StorageError::NoPlace(_))));
        assert!(no_place, "list of {file_type:?} in an absent place is {first:?}");
        let handle = sample(file_type, 1);
        files::expect_absent("read", &storage.read(handle.clone(), None).await);
        files::expect_absent("stat", &storage.stat(handle.clone()).await);
        files::expect_absent("remove", &storage.remove(handle).await);
    }
    check(storage).await;
}

/// Checks that names which are not ours are left out of every list. `plant` puts a file of one byte at a path below
/// the repository's root by other means than the storage, and makes the folders above it.
///
/// # Panics
/// If an obligation is not met.
pub async fn check_foreign_names(storage: &dyn Storage, plant: impl AsyncFnMut(String)) {
    lists::foreign_names_are_left_out(storage, plant).await;
}

async fn preparing_is_idempotent(storage: &dyn Storage) {
    assert!(!storage.properties().location.is_empty(), "a storage tells where it is");
    storage.prepare().await.expect("prepare");
    storage.prepare().await.expect("prepare again");
}

/// A well-formed handle of any type, different for each `number`.
fn sample(file_type: FileType, number: u8) -> Handle {
    match file_type {
        FileType::Config => Handle::Config,
        FileType::Own(folder) => own(folder, &format!("file-{number}.v1")),
        _ => Handle::new(file_type, FileId([number; 32])),
    }
}

fn own(folder: OwnFolder, name: &str) -> Handle {
    Handle::Own(folder, OwnName::new(name).expect("a valid name"))
}

/// Bytes that differ at every offset from those of another seed.
fn content(seed: u8, length: usize) -> Bytes {
    // A period that is no power of two, so that shifted blocks are noticed.
    let period: Vec<u8> = (0..65_521_u32).map(|at| (at.wrapping_mul(31) ^ (at >> 8)) as u8 ^ seed).collect();
    Bytes::from(period.repeat(length / period.len() + 1)).slice(..length)
}

async fn handles(storage: &dyn Storage, file_type: FileType) -> Vec<Handle> {
    let listed: Vec<_> = storage.list(file_type).try_collect().await.expect("list");
    let mut handles: Vec<_> = listed.into_iter().map(|info| info.handle).collect();
    handles.sort();
    handles
}

async fn remove(storage: &dyn Storage, handle: Handle) {
    storage.remove(handle).await.expect("remove what was created");
}
