//! A service that is ill: ambiguous answers, damage, overload, stalls.

use super::{Meddle, Service, open, options, pack};
use bytes::Bytes;
use hyper::Method;
use onggi_storage::{
    FileType, Storage, StorageError,
    clock::TestClock,
    s3::{S3, S3Options},
};
use std::{fs, sync::Arc, time::Duration};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_of_a_write_that_happened_is_a_success() {
    let (service, storage) = ready().await;
    service.meddle(|method, _| if method == Method::PUT { Meddle::Lose } else { Meddle::Pass });
    storage.create(pack(1), content()).await.unwrap();
    assert_eq!(storage.read(pack(1), None).await.unwrap(), content());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_of_a_write_that_did_not_happen_is_a_failure() {
    let (service, storage) = ready().await;
    service.meddle(|method, _| if method == Method::PUT { Meddle::Cut } else { Meddle::Pass });
    let error = storage.create(pack(1), content()).await.unwrap_err();
    assert!(matches!(error, StorageError::Unreachable(_)), "{error:?}");
    assert!(error.is_transient());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_over_another_content_is_a_failure() {
    let (service, storage) = ready().await;
    let file = service.file(&format!("some/prefix/{}", pack(1).path()));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, vec![9; content().len()]).unwrap();
    service.meddle(|method, _| if method == Method::PUT { Meddle::Cut } else { Meddle::Pass });
    let error = storage.create(pack(1), content()).await.unwrap_err();
    assert!(matches!(error, StorageError::Unreachable(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_error_after_the_write_is_a_success() {
    let (service, storage) = ready().await;
    storage.create(pack(1), content()).await.unwrap();
    service.meddle(|method, _| match *method {
        Method::PUT => Meddle::Answer(500, Vec::new(), "<Error><Code>InternalError</Code></Error>".into()),
        _ => Meddle::Pass,
    });
    storage.create(pack(1), content()).await.unwrap();
    let error = storage.create(pack(2), content()).await.unwrap_err();
    assert!(matches!(error, StorageError::Faulty(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_echo_that_differs_is_looked_after_once_and_then_by_size() {
    let (service, storage) = ready().await;
    // As of a bucket that is encrypted with a key service.
    service.meddle(|_, _| Meddle::Etag("\"00112233445566778899aabbccddeeff\""));
    let reads = |calls: Vec<String>| calls.iter().filter(|call| call.starts_with("GET")).count();
    service.calls();
    storage.create(pack(1), content()).await.unwrap();
    assert_eq!(reads(service.calls()), 1, "the first is read back");
    storage.create(pack(2), content()).await.unwrap();
    assert_eq!(reads(service.calls()), 0, "then it is known that ETags say nothing here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_costs_one_call_once_the_service_is_known() {
    let (service, storage) = ready().await;
    service.calls();
    storage.create(pack(1), content()).await.unwrap();
    assert_eq!(service.calls(), [format!("PUT /bucket/some/prefix/{}", pack(1).path())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_refuses_conditions_is_written_to_without_them() {
    let service = Service::start().await;
    let storage = open(options(&service));
    service.meddle({
        let first = std::sync::atomic::AtomicBool::new(true);
        move |method, _| {
            if method == Method::PUT && first.swap(false, std::sync::atomic::Ordering::Relaxed) {
                return Meddle::Answer(501, Vec::new(), "<Error><Code>NotImplemented</Code></Error>".into());
            }
            Meddle::Pass
        }
    });
    storage.create(pack(1), content()).await.unwrap();
    assert!(!storage.properties().exclusive_create);
    let error = storage.create(pack(1), "other".into()).await.unwrap_err();
    assert!(matches!(error, StorageError::AlreadyExists(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_tells_how_long_to_wait() {
    let (service, storage) = ready().await;
    service.meddle(|_, _| Meddle::Answer(503, vec![("retry-after", "7".into())], "<Code>SlowDown</Code>".into()));
    let error = storage.read(pack(1), None).await.unwrap_err();
    assert!(matches!(error, StorageError::Busy(Some(7), _)), "{error:?}");
    let error = storage.create(pack(1), content()).await.unwrap_err();
    assert!(matches!(error, StorageError::Busy(Some(7), _)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_list_is_a_fault_and_not_an_empty_list() {
    let (service, storage) = ready().await;
    for text in ["", "<ListBucketResult><Contents>", "<html>hello</html>"] {
        service.meddle(move |_, _| Meddle::Answer(200, Vec::new(), text.into()));
        let listed: Result<Vec<_>, _> = futures::TryStreamExt::try_collect(storage.list(FileType::Pack)).await;
        assert!(matches!(listed, Err(StorageError::Faulty(_))), "{text:?}: {listed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_goes_in_circles_ends() {
    let (service, storage) = ready().await;
    let entry = format!(
        "<Contents><Key>some/prefix/{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
         <ETag>\"x\"</ETag><Size>1</Size></Contents>",
        pack(1).path()
    );
    let page = format!(
        "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken>{}\
         </ListBucketResult>",
        entry.repeat(500)
    );
    service.meddle(move |_, _| Meddle::Answer(200, Vec::new(), page.clone()));
    let listed: Result<Vec<_>, _> = futures::TryStreamExt::try_collect(storage.list(FileType::Pack)).await;
    assert!(matches!(listed, Err(StorageError::Faulty(_))), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_the_wrong_length_is_never_taken() {
    let (service, storage) = ready().await;
    storage.create(pack(1), content()).await.unwrap();
    service.meddle(|_, _| Meddle::Answer(206, Vec::new(), "short".into()));
    let error = storage.read(pack(1), Some(0..100)).await.unwrap_err();
    assert!(matches!(error, StorageError::Faulty(_)), "{error:?}");
    let cut = || Meddle::Answer(206, vec![("content-range", "bytes 0-4/5".into())], "short".into());
    service.meddle(move |_, _| cut());
    let error = storage.read(pack(1), Some(0..100)).await.unwrap_err();
    assert!(matches!(error, StorageError::Short(_, 100)), "{error:?}");
    service.meddle(|_, _| Meddle::Answer(200, Vec::new(), "x".repeat(1000)));
    let error = storage.read(pack(1), Some(0..100)).await.unwrap_err();
    assert!(matches!(error, StorageError::Faulty(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_a_lock_forbids_is_immutable() {
    let (service, storage) = ready().await;
    storage.create(pack(1), content()).await.unwrap();
    service.meddle(|method, _| match *method {
        Method::DELETE => Meddle::Answer(403, Vec::new(), "<Code>ObjectLocked</Code>".into()),
        _ => Meddle::Pass,
    });
    let error = storage.remove(pack(1)).await.unwrap_err();
    assert!(matches!(error, StorageError::Immutable(_)), "{error:?}");
    assert!(!error.is_transient());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_call_ends_after_two_minutes_without_a_byte() {
    let service = Service::start().await;
    service.meddle(|_, _| Meddle::Stall);
    let clock = TestClock::new(1);
    let storage = Arc::new(open(S3Options { clock: Arc::new(clock.clone()), ..options(&service) }));
    let read = tokio::spawn({
        let storage = storage.clone();
        async move { storage.read(pack(1), None).await }
    });
    while !read.is_finished() {
        clock.advance(Duration::from_secs(30));
        tokio::task::yield_now().await;
    }
    let error = read.await.unwrap().unwrap_err();
    assert!(matches!(error, StorageError::Unreachable(_)), "{error:?}");
}

/// A service and a storage that knows it already.
async fn ready() -> (Service, S3) {
    let service = Service::start().await;
    let storage = open(options(&service));
    storage.create(pack(0), Bytes::from_static(b"first")).await.unwrap();
    assert!(storage.properties().exclusive_create);
    (service, storage)
}

fn content() -> Bytes {
    (0..300_000_u32).map(|at| at as u8).collect()
}
