//! Users on instances go, whatever happens.

use std::sync::{Arc, Mutex};

use onggi_lab::director::{Certificate, Command, FakeDirector, Script};
use onggi_source::bosh::director::{DirectorError, Visit, Wait};

use crate::place::{Place, script};

/// The users on instances, by instance id.
type Users = Arc<Mutex<Vec<String>>>;

fn with_users(script: Script) -> Option<(Place, Users)> {
    let users = Users::default();
    let made = users.clone();
    let fake = FakeDirector::start_with(script, Certificate::Signed, move |order| {
        let mut made = made.lock().unwrap();
        match &order.command {
            Command::Setup { .. } => made.push(order.instance.id.clone()),
            Command::Cleanup { .. } => made.retain(|id| *id != order.instance.id),
        }
        Ok(())
    })?;
    Some((Place::with(fake), users))
}

async fn begin(place: &Place) -> Result<Visit, DirectorError> {
    let director = place.connect().await?;
    let instances = director.instances(&place.cx, "cf").await?;
    Visit::begin(&place.cx, &director, "cf", &instances, &place.guest()).await
}

fn cleanups(place: &Place) -> usize {
    place.fake.take_log().iter().filter(|line| line.contains("cleanup")).count()
}

#[tokio::test]
async fn leave_is_taken_once() {
    let Some((place, users)) = with_users(script()) else { return };
    let visit = begin(&place).await.unwrap();
    assert_eq!(users.lock().unwrap().len(), 3);
    assert!(visit.leave(Wait::Briefly).await.is_empty());
    assert!(visit.leave(Wait::Briefly).await.is_empty());
    drop(visit);
    assert_eq!((users.lock().unwrap().len(), cleanups(&place)), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_that_is_dropped_or_ends_in_panic_leaves_no_user() {
    let Some((place, users)) = with_users(script()) else { return };
    drop(begin(&place).await.unwrap());
    assert_eq!((users.lock().unwrap().len(), cleanups(&place)), (0, 3));
    let visit = begin(&place).await.unwrap();
    let panicked = tokio::spawn(async move {
        let _visit = visit;
        panic!("on purpose");
    });
    assert!(panicked.await.is_err());
    assert_eq!((users.lock().unwrap().len(), cleanups(&place)), (0, 3));
}

#[tokio::test]
async fn one_instance_that_refuses_ends_the_visit_on_all() {
    let statuses = vec![("db-id1".to_owned(), "failure")];
    let Some((place, users)) = with_users(Script { statuses, ..script() }) else { return };
    let error = begin(&place).await.err().unwrap();
    assert_eq!(error.to_string(), "SSH access to db/db-id1 was not set up: its status is 'failure'");
    // The group after it was never entered.
    assert_eq!((users.lock().unwrap().len(), cleanups(&place)), (0, 2));
}

#[tokio::test]
async fn a_task_that_fails_after_it_made_users_leaves_none() {
    let failing = vec![("setup", "timeout", "")];
    let Some((place, users)) = with_users(Script { failing, ..script() }) else { return };
    let error = begin(&place).await.err().unwrap();
    assert!(matches!(error, DirectorError::Task { .. }), "{error}");
    assert_eq!((users.lock().unwrap().len(), cleanups(&place)), (0, 2));
}

#[tokio::test]
async fn a_cleanup_that_fails_is_told_when_it_was_awaited() {
    for (wait, expected) in [(Wait::Briefly, 3), (Wait::No, 0)] {
        let failing = vec![("cleanup", "error", "agent is gone")];
        let Some((place, _users)) = with_users(Script { failing, ..script() }) else { return };
        let visit = begin(&place).await.unwrap();
        assert_eq!(visit.leave(wait).await.len(), expected);
    }
}

#[tokio::test]
async fn a_slow_cleanup_is_no_fault() {
    let Some((place, _users)) = with_users(script()) else { return };
    let visit = begin(&place).await.unwrap();
    place.fake.script(|script| script.polls = 1000);
    assert!(visit.leave(Wait::Briefly).await.is_empty());
}

#[tokio::test]
async fn a_user_of_a_dead_run_goes_by_its_name() {
    let Some((place, users)) = with_users(script()) else { return };
    let director = place.connect().await.unwrap();
    let instances = director.instances(&place.cx, "cf").await.unwrap();
    let visit = begin(&place).await.unwrap();
    let user = visit.user().to_owned();
    std::mem::forget(visit);
    let recalled = Visit::recall(&place.cx, &director, "cf", &instances, &user);
    assert!(recalled.leave(Wait::No).await.is_empty());
    assert!(users.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_host_that_redirects_name_is_not_asked() {
    let redirect_host = Some("https://director.internal.invalid:25555".to_owned());
    let Some((place, users)) = with_users(Script { redirect_host, ..script() }) else { return };
    let visit = begin(&place).await.unwrap();
    assert!(visit.leave(Wait::No).await.is_empty());
    assert!(users.lock().unwrap().is_empty());
}
