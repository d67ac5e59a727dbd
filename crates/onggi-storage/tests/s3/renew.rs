//! Keys that expire: fetched anew in time, and once more when the service refuses them.

use super::{Service, credentials, options, pack, service::SECRET_KEY};
use onggi_storage::{
    Storage, StorageError,
    clock::TestClock,
    conformance,
    s3::{RenewedS3, S3Credentials, S3Keys, S3Options},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

const MINUTE: Duration = Duration::from_mins(1);

/// Has another secret than the one that the storage was opened with.
#[derive(Debug)]
struct Keys {
    secret: &'static str,
    lifetime: Option<Duration>,
    fetched: AtomicU32,
}

#[async_trait::async_trait]
impl S3Keys for Keys {
    async fn fetch(&self) -> Result<S3Credentials, Box<dyn std::error::Error + Send + Sync>> {
        self.fetched.fetch_add(1, Relaxed);
        Ok(credentials(self.secret))
    }

    fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }
}

struct Case {
    clock: TestClock,
    keys: Arc<Keys>,
    storage: RenewedS3,
}

fn case(service: &Service, first: &str, later: &'static str, lifetime: Option<Duration>) -> Case {
    let clock = TestClock::new(7);
    let keys = Arc::new(Keys { secret: later, lifetime, fetched: AtomicU32::new(0) });
    let options =
        S3Options { credentials: Some(credentials(first)), clock: Arc::new(clock.clone()), ..options(service) };
    Case { storage: RenewedS3::open(options, keys.clone()).unwrap(), clock, keys }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_keys_that_change_it_is_a_storage() {
    let service = Service::start().await;
    conformance::check(&case(&service, SECRET_KEY, SECRET_KEY, None).storage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_keys_are_fetched_once_more_and_all_calls_go_on() {
    let service = Service::start().await;
    let case = case(&service, "expired", SECRET_KEY, None);
    case.clock.advance(2 * MINUTE);
    let (one, two) = tokio::join!(case.storage.create(pack(1), "x".into()), case.storage.create(pack(2), "y".into()));
    (one.unwrap(), two.unwrap());
    assert_eq!(case.storage.read(pack(1), None).await.unwrap(), "x");
    assert_eq!(case.keys.fetched.load(Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_other_keys_do_not_cure_is_told_and_keys_are_not_fetched_all_the_time() {
    let service = Service::start().await;
    let case = case(&service, "wrong", "wrong", None);
    let is_denied = async || matches!(case.storage.prepare().await, Err(StorageError::Denied(_)));
    assert!(is_denied().await, "keys were fetched just now");
    assert_eq!(case.keys.fetched.load(Relaxed), 0);
    case.clock.advance(2 * MINUTE);
    for _ in 0..3 {
        assert!(is_denied().await);
    }
    assert_eq!(case.keys.fetched.load(Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_fetched_five_minutes_before_they_expire() {
    let service = Service::start().await;
    let case = case(&service, SECRET_KEY, SECRET_KEY, Some(60 * MINUTE));
    for (minutes, fetched) in [(54, 0), (2, 1), (50, 1), (6, 2)] {
        case.clock.advance(minutes * MINUTE);
        case.storage.prepare().await.unwrap();
        assert_eq!(case.keys.fetched.load(Relaxed), fetched, "{minutes} minutes later");
    }
}
