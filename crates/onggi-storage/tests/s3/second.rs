//! A service of other make: moto, brought up by `lab/object-store/up`.

use super::{open, pack};
use bytes::Bytes;
use onggi_storage::{
    Storage, StorageError,
    clock::SystemClock,
    conformance,
    s3::{S3Credentials, S3Options},
};
use std::{fs, io::Write, path::Path, process::Command, sync::Arc};

#[tokio::test(flavor = "multi_thread")]
async fn s3_is_a_storage_on_another_service_too() {
    let Some(service) = Service::start() else { return };
    let storage = open(service.options(&service.bucket));
    conformance::check(&storage).await;
    assert!(storage.properties().exclusive_create);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_service_names_a_missing_bucket_too() {
    let Some(service) = Service::start() else { return };
    let storage = open(service.options("no-such-bucket"));
    assert!(matches!(storage.prepare().await, Err(StorageError::NoPlace(_))));
    let created = storage.create(pack(1), Bytes::from_static(b"x")).await;
    assert!(matches!(created, Err(StorageError::NoPlace(_))), "{created:?}");
}

/// A service that ends with the test.
struct Service {
    state: tempfile::TempDir,
    endpoint: String,
    bucket: String,
}

impl Service {
    /// `None`, loudly, if it cannot be had. With `CI=true` that is a failure.
    fn start() -> Option<Self> {
        let state = tempfile::tempdir().unwrap();
        let output = script("up").arg(state.path()).output().unwrap();
        if !output.status.success() {
            skip(String::from_utf8_lossy(&output.stderr).trim());
            return None;
        }
        let env = fs::read_to_string(state.path().join("env")).unwrap();
        let value =
            |name: &str| env.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap().into();
        Some(Self { endpoint: value("S3_ENDPOINT"), bucket: value("S3_BUCKET"), state })
    }

    fn options(&self, bucket: &str) -> S3Options {
        S3Options {
            endpoint: self.endpoint.clone(),
            bucket: bucket.into(),
            prefix: String::new(),
            region: "us-east-1".into(),
            credentials: Some(S3Credentials {
                access_key: "onggi-lab".into(),
                secret_key: "onggi-lab-secret".into(),
                session_token: Some("a session".into()),
            }),
            path_style: true,
            ca_certificates: Vec::new(),
            proxy: None,
            clock: Arc::new(SystemClock),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let output = script("down").arg(self.state.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn script(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lab/object-store").join(name))
}

/// Says it past the harness, which would keep it to itself.
#[expect(clippy::disallowed_methods, reason = "a test's environment, not the product's")]
fn skip(reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{reason}");
    let mut stderr = std::io::stderr();
    writeln!(stderr, "SKIPPED: S3 against a second service: {reason}").unwrap();
}
