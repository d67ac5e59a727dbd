//! Who the service is and who we are: keys, buckets, regions, certificates, redirects, dead addresses.

use super::{Meddle, Service, credentials, open, options, pack};
use onggi_storage::{Storage, StorageError, s3::S3Options};
use std::{fs, path::Path, process::Command, sync::Arc};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        version::TLS13,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_denied() {
    let service = Service::start().await;
    let storage = open(S3Options { credentials: Some(credentials("wrong")), ..options(&service) });
    check_denied(storage.create(pack(1), "x".into()).await, "403");
    let mut other = credentials("wrong");
    other.access_key = "nobody".into();
    let storage = open(S3Options { credentials: Some(other), ..options(&service) });
    check_denied(storage.prepare().await, "403");
    check_denied(storage.remove(pack(1)).await, "403");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_region_is_denied_and_the_right_one_is_named() {
    let service = Service::start().await;
    service.meddle(|_, _| Meddle::Answer(301, vec![("x-amz-bucket-region", "eu-north-1".into())], String::new()));
    check_denied(open(options(&service)).prepare().await, "set region");
    check_denied(open(options(&service)).create(pack(1), "x".into()).await, "eu-north-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_refused_and_not_followed() {
    let (service, other) = (Service::start().await, Service::start().await);
    let target = format!("{}/bucket/some/prefix/config", other.url);
    service.meddle(move |_, _| Meddle::Answer(307, vec![("location", target.clone())], String::new()));
    check_denied(open(options(&service)).read(onggi_storage::Handle::Config, None).await.map(drop), &other.url);
    assert_eq!(other.calls(), [""; 0], "no call may reach the other host");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_endpoint_is_unreachable() {
    let service = Service::start().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let storage = open(S3Options { endpoint: format!("http://{closed}"), ..options(&service) });
    let error = storage.prepare().await.unwrap_err();
    assert!(matches!(error, StorageError::Unreachable(_)), "{error:?}");
    let error = storage.create(pack(1), "x".into()).await.unwrap_err();
    assert!(matches!(error, StorageError::Unreachable(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let certificate = Certificate::make("localhost");
    let service = Service::start_tls(certificate.acceptor()).await;
    check_identity(&open(options(&service)).create(pack(1), "x".into()).await);
    assert_eq!(service.calls(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_host_is_refused() {
    let certificate = Certificate::make("other.example");
    let service = Service::start_tls(certificate.acceptor()).await;
    let storage = open(S3Options { ca_certificates: vec![certificate.pem()], ..options(&service) });
    check_identity(&storage.prepare().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_can_be_trusted() {
    let certificate = Certificate::make("localhost");
    let service = Service::start_tls(certificate.acceptor()).await;
    let storage = open(S3Options { ca_certificates: vec![certificate.pem()], ..options(&service) });
    storage.create(pack(1), "over TLS".into()).await.unwrap();
    assert_eq!(storage.read(pack(1), None).await.unwrap(), "over TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_speaks_no_tls_proves_nothing() {
    let service = Service::start().await;
    let endpoint = service.url.replace("http:", "https:");
    check_identity(&open(S3Options { endpoint, ..options(&service) }).prepare().await);
}

#[test]
fn nothing_shows_a_secret() {
    let options = S3Options {
        endpoint: "http://127.0.0.1:1".into(),
        bucket: "bucket".into(),
        prefix: String::new(),
        region: "us-east-1".into(),
        credentials: Some(credentials("the-marked-secret")),
        path_style: true,
        ca_certificates: Vec::new(),
        proxy: None,
        clock: Arc::new(onggi_storage::clock::SystemClock),
    };
    let shown = format!("{options:?} {:?}", open(options.clone()));
    assert!(!shown.contains("the-marked-secret"), "{shown}");
}

#[track_caller]
fn check_denied(result: Result<(), StorageError>, because: &str) {
    match result {
        Err(error @ StorageError::Denied(_)) => {
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains(because), "{cause}");
            assert!(!error.is_transient());
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn check_identity(result: &Result<(), StorageError>) {
    assert!(matches!(result, Err(error @ StorageError::Identity(_)) if !error.is_transient()), "{result:?}");
}

/// A certificate that signs itself, and its key.
struct Certificate(tempfile::TempDir);

impl Certificate {
    fn make(host: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let status = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=onggi test", "-addext", &format!("subjectAltName=DNS:{host}")])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout".as_ref(), folder.path().join("key.pem").as_os_str()])
            .args(["-out".as_ref(), folder.path().join("certificate.pem").as_os_str()])
            .output()
            .expect("openssl makes the certificates of these tests");
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
        Self(folder)
    }

    fn path(&self, name: &str) -> impl AsRef<Path> {
        self.0.path().join(name)
    }

    fn pem(&self) -> Vec<u8> {
        fs::read(self.path("certificate.pem")).unwrap()
    }

    fn acceptor(&self) -> TlsAcceptor {
        let chain = vec![CertificateDer::from_pem_slice(&self.pem()).unwrap()];
        let key = PrivateKeyDer::from_pem_file(self.path("key.pem")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}
