//! Every step of the protocol fails in turn, once or for ever, and what is left is never a broken file under its name.

use super::{bare, in_memory, names, over, pack, scripted::Outcome, scripted::Scripted};
use crate::{FileType, Handle, Storage, StorageError, conformance, local::Local};
use bytes::Bytes;
use futures::TryStreamExt;
use rustix::io::Errno;

const STEPS: usize = 6;

fn content() -> Bytes {
    (0..100_000_u32).map(|at| at as u8).collect()
}

/// What a reader finds is the whole file or none, and creating it again ends well.
#[track_caller]
fn whole_or_absent(found: Result<Bytes, StorageError>, what: &str) {
    match found {
        Ok(found) => assert!(found == content(), "{what}: {} bytes under the final name", found.len()),
        Err(error) => assert!(error.is_not_found(), "{what}: {error}"),
    }
}

async fn create(local: &Local, script: impl Fn(usize, &str) -> Outcome + Send + Sync + 'static) -> crate::Result<()> {
    over(Scripted::new(script).0, local).create(pack(7), content()).await
}

fn leftovers(local: &Local) -> usize {
    names(&local.path().join("data/07")).iter().filter(|name| name.starts_with('.')).count()
}

#[tokio::test]
async fn an_error_at_any_step_leaves_a_whole_file_or_none() {
    for errno in [Errno::IO, Errno::NOSPC, Errno::ROFS, Errno::MFILE] {
        for step in 0..STEPS {
            for outcome in [Outcome::NotDone, Outcome::DoneButError, Outcome::HalfDone] {
                let (_folder, local) = bare();
                let what = format!("{errno:?} at step {step}");
                let script = move |number, _: &str| if number == step { outcome(errno) } else { Outcome::Done };
                let answer = create(&local, script).await;
                let found = local.read(pack(7), None).await;
                assert!(answer.is_err() || found.is_ok(), "{what}: confirmed but absent");
                whole_or_absent(found, &what);
                let opened_but_error = step == 0 && matches!(outcome(errno), Outcome::DoneButError(_));
                assert_eq!(leftovers(&local), usize::from(opened_but_error), "{what}: nothing is left behind");
                local.create(pack(7), content()).await.expect("create again");
            }
        }
    }
}

#[tokio::test]
async fn a_crash_at_any_step_leaves_a_whole_file_or_none() {
    for last in 0..STEPS {
        for outcome in [Outcome::NotDone, Outcome::DoneButError, Outcome::HalfDone] {
            let (_folder, local) = bare();
            let script = move |number: usize, _: &str| match number.cmp(&last) {
                std::cmp::Ordering::Less => Outcome::Done,
                std::cmp::Ordering::Equal => outcome(Errno::IO),
                std::cmp::Ordering::Greater => Outcome::NotDone(Errno::IO),
            };
            create(&local, script).await.expect_err("stopped");
            let what = format!("stopped at step {last}");
            whole_or_absent(local.read(pack(7), None).await, &what);
            let listed: Vec<_> = local.list(FileType::Pack).try_collect().await.unwrap();
            assert!(listed.iter().all(|info| info.size == content().len() as u64), "{what}: {listed:?}");
            local.create(pack(7), content()).await.expect("the next run goes on");
        }
    }
}

#[tokio::test]
async fn a_failed_sync_is_never_asked_again_on_the_same_file() {
    let (_folder, local) = bare();
    let fails_once = |number, name: &str| match name {
        "sync" if number == 3 => Outcome::DoneButError(Errno::IO),
        _ => Outcome::Done,
    };
    let (scripted, calls) = Scripted::new(fails_once);
    over(scripted, &local).create(pack(7), content()).await.unwrap();
    let words: Vec<_> = calls.take().iter().map(|call| call.split(' ').next().unwrap().to_owned()).collect();
    let expected = "open_new write protect sync unlink open_new write protect sync rename_new sync_folder".split(' ');
    assert_eq!(words, expected.collect::<Vec<_>>(), "written afresh from memory");
}

#[tokio::test]
async fn a_sync_that_fails_twice_fails_the_call() {
    let (_folder, local) = bare();
    let answer = create(&local, |_, name| if name == "sync" { Outcome::NotDone(Errno::IO) } else { Outcome::Done });
    assert!(matches!(answer.await, Err(StorageError::Faulty(_))));
    assert_eq!(names(&local.path().join("data/07")), [""; 0]);
}

#[tokio::test]
async fn a_folder_that_cannot_be_synced_fails_the_call() {
    let (_folder, local) = bare();
    let script = |_, name: &str| if name == "sync_folder" { Outcome::NotDone(Errno::IO) } else { Outcome::Done };
    assert!(matches!(create(&local, script).await, Err(StorageError::Faulty(_))));
}

#[tokio::test]
async fn errors_of_space_and_permission_are_permanent() {
    for (errno, is_full) in [
        (Errno::NOSPC, true),
        (Errno::DQUOT, true),
        (Errno::FBIG, true),
        (Errno::ROFS, false),
        (Errno::ACCESS, false),
        (Errno::PERM, false),
    ] {
        let (_folder, local) = bare();
        let (scripted, calls) =
            Scripted::new(move |_, name| if name == "write" { Outcome::HalfDone(errno) } else { Outcome::Done });
        let error = over(scripted, &local).create(pack(7), content()).await.unwrap_err();
        assert_eq!(matches!(error, StorageError::Full(_)), is_full, "{error:?}");
        assert_eq!(matches!(error, StorageError::Denied(_)), !is_full, "{error:?}");
        assert!(!error.is_transient());
        assert_eq!(calls.take().len(), 3, "not written afresh: open, write, unlink");
    }
}

#[tokio::test]
async fn running_out_of_descriptors_may_pass() {
    let (_folder, local) = bare();
    let script = |_, name: &str| if name == "open_new" { Outcome::NotDone(Errno::MFILE) } else { Outcome::Done };
    assert!(create(&local, script).await.unwrap_err().is_transient());
}

#[tokio::test]
async fn an_error_names_the_act_and_the_path() {
    let (_folder, local) = bare();
    let script = |_, name: &str| if name == "write" { Outcome::NotDone(Errno::NOSPC) } else { Outcome::Done };
    let error = create(&local, script).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap();
    assert!(cause.to_string().starts_with("write /"), "{cause}");
    assert!(cause.source().unwrap().to_string().contains("No space"), "{cause:?}");
}

/// What file systems without `renameat2` answer.
fn without_rename(_: usize, name: &str) -> Outcome {
    if name == "rename_new" { Outcome::NotDone(Errno::INVAL) } else { Outcome::Done }
}

#[tokio::test]
async fn without_exclusive_rename_links_do_the_same() {
    let folder = in_memory();
    let path = folder.path().join("repository");
    conformance::check(&Local::on(Box::new(Scripted::new(without_rename).0), path.clone())).await;
    let temporaries = names(&path.join("data/07"));
    assert_eq!(temporaries, [""; 0]);
}

#[tokio::test]
async fn without_rename_and_links_the_file_system_is_refused() {
    let (_folder, local) = bare();
    let script = |_, name: &str| match name {
        "rename_new" => Outcome::NotDone(Errno::INVAL),
        "link" => Outcome::NotDone(Errno::PERM),
        _ => Outcome::Done,
    };
    assert!(matches!(create(&local, script).await, Err(StorageError::Denied(_))));
    assert_eq!(names(&local.path().join("data/07")), [""; 0]);
}

#[tokio::test]
async fn a_file_system_without_sync_is_accepted_and_told() {
    let (_folder, local) = bare();
    let script = |_, name: &str| if name.starts_with("sync") { Outcome::NotDone(Errno::INVAL) } else { Outcome::Done };
    let unsynced = over(Scripted::new(script).0, &local);
    assert!(unsynced.properties().durable);
    unsynced.create(pack(7), content()).await.unwrap();
    assert!(!unsynced.properties().durable);
}

#[tokio::test]
async fn a_file_system_without_modes_is_accepted() {
    let (_folder, local) = bare();
    let script = |_, name: &str| if name == "protect" { Outcome::NotDone(Errno::PERM) } else { Outcome::Done };
    create(&local, script).await.unwrap();
}

#[tokio::test]
async fn a_file_cut_short_by_others_is_short_and_never_fewer_bytes() {
    let (_folder, local) = bare();
    local.create(Handle::Config, content()).await.unwrap();
    std::fs::remove_file(local.path().join("config")).unwrap();
    std::fs::write(local.path().join("config"), &content()[..50]).unwrap();
    let read = local.read(Handle::Config, Some(0..100)).await;
    assert!(matches!(read, Err(StorageError::Short(..))), "{read:?}");
}
