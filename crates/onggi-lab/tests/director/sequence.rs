//! What is asked, in which order.

use std::time::Duration;

use onggi_lab::director::{EntryKind, Script};
use onggi_source::World as _;
use onggi_source::bosh::director::{DirectorError, Visit, Wait};

use crate::place::{Place, script};

#[tokio::test]
async fn a_backup_asks_what_the_reference_asks() {
    let Some(place) = Place::new(Script { entry: EntryKind::Uaa, polls: 1, ..script() }) else { return };
    let director = place.connect().await.unwrap();
    let instances = director.instances(&place.cx, "cf").await.unwrap();
    assert!(director.manifest(&place.cx, "cf").await.unwrap().starts_with("name: cf"));
    let visit = Visit::begin(&place.cx, &director, "cf", &instances, &place.guest()).await.unwrap();
    assert!(visit.leave(Wait::No).await.is_empty());
    let target = |command: &str, group: &str, ids: &str, params: &str| {
        let target = format!(r#"{{"job":"{group}","indexes":[{ids}],"ids":[{ids}]}}"#);
        format!(
            r#"POST /deployments/cf/ssh {{"command":"{command}","deployment_name":"cf","target":{target},"params":{params}}}"#
        )
    };
    let mut expected: Vec<String> = ["GET /info", "POST /uaa/oauth/token"].map(str::to_owned).into();
    // The redirect is followed once, which is the first poll of a task that is under way.
    expected.push("GET /deployments/cf/vms?format=full".to_owned());
    expected.push("GET /tasks/1".to_owned());
    expected.push("GET /tasks/1".to_owned());
    expected.push("GET /tasks/1/output?type=event bytes=0-".to_owned());
    expected.push("GET /tasks/1/output?type=result".to_owned());
    expected.push("GET /deployments/cf".to_owned());
    let user = r#"{"user":"bosh_0123456789abcde","public_key":"ssh-rsa AAAA us"}"#;
    for (id, group) in [(2, "db"), (3, "blobs")] {
        expected.push(target("setup", group, "", user));
        expected.push(format!("GET /tasks/{id}"));
        expected.push(format!("GET /tasks/{id}"));
        expected.push(format!("GET /tasks/{id}/output?type=event bytes=0-"));
        expected.push(format!("GET /tasks/{id}/output?type=result"));
    }
    for (id, group, instance) in [(4, "db", "db-id0"), (5, "db", "db-id1"), (6, "blobs", "blobs-id0")] {
        let params = r#"{"user_regex":"^bosh_0123456789abcde"}"#;
        expected.push(target("cleanup", group, &format!("\"{instance}\""), params));
        expected.push(format!("GET /tasks/{id}"));
    }
    assert_eq!(place.fake.take_log(), expected);
}

#[tokio::test]
async fn hosts_have_what_the_list_and_the_agents_say() {
    let Some(place) = Place::new(script()) else { return };
    let director = place.connect().await.unwrap();
    assert_eq!(director.uuid(), "3b1f-director");
    assert_eq!(director.deployments(&place.cx).await.unwrap(), ["cf", "empty"]);
    let instances = director.instances(&place.cx, "cf").await.unwrap();
    let visit = Visit::begin(&place.cx, &director, "cf", &instances, &place.guest()).await.unwrap();
    let shown: Vec<_> = visit
        .hosts()
        .iter()
        .map(|host| {
            format!("{}/{} {} {} {} {}", host.group, host.index, host.id, host.bootstrap, host.address, host.host_key)
        })
        .collect();
    let expected = [
        "db/0 db-id0 true 10.0.2.0 ssh-rsa HOST0",
        "db/1 db-id1 false 10.0.2.1 ssh-rsa HOST1",
        "blobs/0 blobs-id0 true 10.0.5.0 ssh-rsa HOST0",
    ];
    assert_eq!(shown, expected);
    assert!(visit.hosts().iter().all(|host| host.user == "bosh_0123456789abcde"));
    assert!(visit.leave(Wait::Briefly).await.is_empty());
}

#[tokio::test]
async fn a_task_is_polled_until_it_ends_and_its_events_are_asked_for_once() {
    let Some(place) = Place::new(Script { polls: 3, ..script() }) else { return };
    let director = place.connect().await.unwrap();
    assert!(director.instances(&place.cx, "empty").await.unwrap().is_empty());
    let log = place.fake.take_log();
    let events: Vec<_> = log.iter().filter(|line| line.contains("event")).collect();
    // The second question answers 416.
    assert_eq!(events.len(), 3, "{log:?}");
    assert!(events[0].ends_with("bytes=0-") && events[1] == events[2] && events[1] != events[0]);
    assert_eq!(place.world.elapsed(), Duration::from_secs(1));
}

#[tokio::test]
async fn a_task_that_ends_badly_says_why() {
    let failing = vec![("vms", "error", "Agent is unresponsive")];
    let Some(place) = Place::new(Script { failing, ..script() }) else { return };
    let director = place.connect().await.unwrap();
    let error = director.instances(&place.cx, "cf").await.unwrap_err();
    let expected = "expected task '1' to succeed but state is 'error': Agent is unresponsive";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_deployment_that_is_not_there_is_told_apart() {
    let Some(place) = Place::new(script()) else { return };
    let director = place.connect().await.unwrap();
    let error = director.manifest(&place.cx, "a/../b").await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    let error = director.instances(&place.cx, "gone").await.unwrap_err();
    assert!(error.to_string().starts_with("Director responded with non-successful status code '404'"), "{error}");
}

#[tokio::test]
async fn a_director_that_is_being_restarted_is_asked_again() {
    let Some(place) = Place::new(Script { unavailable: 2, ..script() }) else { return };
    let director = place.connect().await.unwrap();
    place.fake.script(|script| script.unavailable = 6);
    let error = director.deployments(&place.cx).await.unwrap_err();
    assert!(matches!(error, DirectorError::Status { status: 503, .. }), "{error}");
    assert_eq!(place.fake.take_log().len(), 3 + 6);
}

#[tokio::test]
async fn a_director_that_is_not_there_is_given_up_after_five_pauses() {
    let Some(place) = Place::new(script()) else { return };
    let mut target = place.target();
    target.url = "127.0.0.1:1".to_owned();
    let error = onggi_source::bosh::director::Director::connect(&place.cx, target).await.err().unwrap();
    assert!(matches!(error, DirectorError::Unreachable(..)), "{error}");
    assert_eq!(place.world.elapsed(), Duration::from_millis(2500));
}
