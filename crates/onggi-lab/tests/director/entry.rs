//! How a client enters, and stays in for hours.

use std::time::Duration;

use onggi_lab::director::{EntryKind, Script};
use onggi_source::bosh::director::{Director, DirectorError, Visit, Wait};

use crate::place::{Place, script};

fn with_tokens() -> Script {
    Script { entry: EntryKind::Uaa, ..script() }
}

fn tokens(place: &Place) -> usize {
    place.fake.take_log().iter().filter(|line| line.contains("/oauth/token")).count()
}

#[tokio::test]
async fn a_token_serves_until_it_is_refused() {
    let Some(place) = Place::new(with_tokens()) else { return };
    let director = place.connect().await.unwrap();
    let instances = director.instances(&place.cx, "cf").await.unwrap();
    let visit = Visit::begin(&place.cx, &director, "cf", &instances, &place.guest()).await.unwrap();
    assert_eq!(tokens(&place), 1);
    // Hours later.
    place.fake.expire_tokens();
    assert!(visit.leave(Wait::Briefly).await.is_empty());
    assert_eq!(tokens(&place), 1);
}

#[tokio::test]
async fn a_token_that_lets_in_thrice_is_replaced_in_the_middle_of_work() {
    let Some(place) = Place::new(Script { token_uses: Some(3), polls: 2, ..with_tokens() }) else { return };
    let director = place.connect().await.unwrap();
    let instances = director.instances(&place.cx, "cf").await.unwrap();
    let visit = Visit::begin(&place.cx, &director, "cf", &instances, &place.guest()).await.unwrap();
    assert_eq!((visit.hosts().len(), visit.leave(Wait::No).await.len()), (3, 0));
    assert!(tokens(&place) > 5);
}

#[tokio::test]
async fn a_token_that_is_about_to_end_is_replaced_before_it_is_refused() {
    let Some(place) = Place::new(Script { token_seconds: Some(600), ..with_tokens() }) else { return };
    let director = place.connect().await.unwrap();
    director.deployments(&place.cx).await.unwrap();
    place.world.pass(Duration::from_secs(560));
    director.deployments(&place.cx).await.unwrap();
    assert_eq!(tokens(&place), 1);
    place.world.pass(Duration::from_secs(15));
    director.deployments(&place.cx).await.unwrap();
    assert_eq!(place.fake.take_log(), ["POST /uaa/oauth/token", "GET /deployments"]);
}

#[tokio::test]
async fn a_wrong_secret_is_refused_once_and_not_repeated() {
    for script in [script(), with_tokens()] {
        let Some(place) = Place::new(script) else { return };
        let mut target = place.target();
        target.secret = "hunter3".to_owned().into();
        let director = Director::connect(&place.cx, target).await.unwrap();
        let error = director.deployments(&place.cx).await.unwrap_err();
        assert!(matches!(&error, DirectorError::Denied(text) if !text.contains("hunter")), "{error}");
        assert_eq!(place.fake.take_log().len(), 2);
    }
}

#[tokio::test]
async fn a_token_that_is_refused_at_once_is_not_replaced_for_ever() {
    let Some(place) = Place::new(Script { token_uses: Some(0), ..with_tokens() }) else { return };
    let director = place.connect().await.unwrap();
    assert!(matches!(director.deployments(&place.cx).await, Err(DirectorError::Denied(_))));
    assert_eq!(tokens(&place), 2);
}

#[tokio::test]
async fn requests_are_told_without_secrets() {
    let Some(place) = Place::new(with_tokens()) else { return };
    place.connect().await.unwrap().deployments(&place.cx).await.unwrap();
    let trace = place.trace.lock().unwrap().join("\n");
    assert!(trace.contains(&format!("Sending GET request to endpoint '{}/deployments'", place.fake.url())), "{trace}");
    assert!(!trace.contains("hunter2") && !trace.contains("token-1"), "{trace}");
}
