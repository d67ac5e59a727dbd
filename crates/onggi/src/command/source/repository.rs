//! Whether the repository can be written, asked before a run holds a system still for nothing.

use onggi_engine::exit::Exit;
use onggi_repo::StorageTime;

use crate::failure::Failure;
use crate::session::Session;

/// Opens the repository, writes a file there and removes it again. The repository that is used where none is named is
/// asked only if it is there: whoever names none may want none.
pub async fn prove(session: &Session) -> Result<(), Failure> {
    let place = session.place().await?;
    let is_there = session.repository_folder().await?.is_none_or(|folder| folder.exists());
    if place.is_default && !is_there {
        return Ok(());
    }
    let work = session.with_unlocked(async |repo| {
        let time = repo.storage_time().await.map_err(|error| {
            Failure::repository("write to the repository", &error)
                .hint("a backup would hold its systems still and store nothing; mend this first")
        })?;
        check(&time).map(|()| Exit::Done)
    });
    work.await.map(drop)
}

/// Clocks that are far apart make ages of files meaningless.
fn check(time: &StorageTime) -> Result<(), Failure> {
    let Some(skew) = time.skew().filter(|_| time.is_skewed()) else { return Ok(()) };
    Err(Failure::new(Exit::Partial, "compare the clocks of this machine and of the repository's storage")
        .because(format!("they are {} seconds apart", skew.as_secs().unsigned_abs()))
        .hint("set the clocks: until then nothing is deleted by age"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_far_apart_are_told() {
        let time = |seconds: i64| {
            let local = jiff::Timestamp::from_second(1_800_000_000).unwrap();
            StorageTime { storage: Some(local - jiff::SignedDuration::from_secs(seconds)), local }
        };
        assert!(check(&time(60)).is_ok() && check(&StorageTime { storage: None, ..time(0) }).is_ok());
        for seconds in [900, -900] {
            assert!(format!("{:?}", check(&time(seconds)).unwrap_err()).contains("900 seconds apart"));
        }
    }
}
