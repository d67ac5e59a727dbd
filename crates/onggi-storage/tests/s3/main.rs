//! S3 against a real service in this process: the conformance suite, then every answer of a service that is ill,
//! wrong, hostile or not there.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

mod faults;
mod identity;
mod renew;
mod second;
mod service;

use onggi_storage::{
    FileId, FileType, Handle, Storage, StorageError,
    clock::SystemClock,
    conformance,
    s3::{S3, S3Credentials, S3Options},
};
use service::{ACCESS_KEY, BUCKET, Meddle, SECRET_KEY, Service};
use std::{fs, sync::Arc};

#[tokio::test(flavor = "multi_thread")]
async fn s3_is_a_storage() {
    let service = Service::start().await;
    let storage = open(options(&service));
    conformance::check(&storage).await;
    assert!(storage.properties().exclusive_create, "the suite's first files tell that conditions are honored");
    assert_eq!(storage.properties().location, format!("s3:{}/bucket/some/prefix", &service.url[7..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_is_no_place() {
    let service = Service::start().await;
    let bucket = service.root().join(BUCKET);
    fs::remove_dir(&bucket).unwrap();
    let storage = open(options(&service));
    for file_type in FileType::ALL {
        let listed: Result<Vec<_>, _> = futures::TryStreamExt::try_collect(storage.list(file_type)).await;
        assert!(matches!(listed, Err(StorageError::NoPlace(_))), "{listed:?}");
    }
    assert!(matches!(storage.prepare().await, Err(StorageError::NoPlace(_))));
    // This service makes the missing folder when it writes; real ones refuse.
    let refusal = || Meddle::Answer(404, Vec::new(), "<Error><Code>NoSuchBucket</Code></Error>".into());
    service.meddle(move |_, _| refusal());
    let created = storage.create(pack(1), "x".into()).await;
    assert!(matches!(created, Err(StorageError::NoPlace(_))), "{created:?}");
    assert!(storage.read(pack(1), None).await.unwrap_err().is_not_found());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_conditions_is_a_storage_too() {
    let service = Service::start_open().await;
    service.meddle(|_, _| Meddle::WithoutCondition);
    let storage = open(S3Options { credentials: None, ..options(&service) });
    conformance::check(&storage).await;
    assert!(!storage.properties().exclusive_create, "no promise that the service does not keep");
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_objects_are_left_out() {
    let service = Service::start().await;
    let storage = open(options(&service));
    let plant = async |path: String| {
        let file = service.file(&format!("some/prefix/{path}"));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "x").unwrap();
    };
    conformance::check_foreign_names(&storage, plant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pages_are_one_list() {
    let service = Service::start().await;
    let storage = open(options(&service));
    for number in 0..1100_u16 {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_be_bytes());
        let file = service.file(&format!("some/prefix/{}", Handle::new(FileType::Pack, FileId(id)).path()));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "x").unwrap();
    }
    let listed: Vec<_> = futures::TryStreamExt::try_collect(storage.list(FileType::Pack)).await.unwrap();
    assert_eq!(listed.len(), 1100);
    assert!(listed.iter().all(|file| file.size == 1 && file.modified_at.is_some()));
}

fn options(service: &Service) -> S3Options {
    S3Options {
        endpoint: service.url.clone(),
        bucket: BUCKET.into(),
        prefix: "some/prefix".into(),
        region: "us-east-1".into(),
        credentials: Some(credentials(SECRET_KEY)),
        path_style: true,
        ca_certificates: Vec::new(),
        proxy: None,
        clock: Arc::new(SystemClock),
    }
}

fn credentials(secret: &str) -> S3Credentials {
    S3Credentials { access_key: ACCESS_KEY.into(), secret_key: secret.into(), session_token: None }
}

fn open(options: S3Options) -> S3 {
    S3::open(options).unwrap()
}

fn pack(number: u8) -> Handle {
    Handle::new(FileType::Pack, FileId([number; 32]))
}
