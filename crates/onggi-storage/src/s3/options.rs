//! Where the bucket is and how to enter it.

use super::wire::Trust;
use crate::{Clock, Result, StorageError};
use opendal::{Operator, services};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;

/// The address of a bucket and what is needed to use it. The environment is not asked: what `AWS_*` says is for the
/// engine to find and to put here.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// The service's URL without the bucket: `https://s3.eu-central-1.amazonaws.com`, `http://127.0.0.1:9000`.
    pub endpoint: String,
    /// The bucket's name.
    pub bucket: String,
    /// What the names of all files start with, without slashes at its ends; may be empty.
    pub prefix: String,
    /// The region that requests are signed for; services without regions take `us-east-1`.
    pub region: String,
    /// Who asks; nobody for a public bucket.
    pub credentials: Option<S3Credentials>,
    /// The bucket is the first part of the path (`https://host/bucket`), not of the host name.
    pub path_style: bool,
    /// Authorities that are trusted beside the machine's own, each one or more certificates in PEM.
    pub ca_certificates: Vec<Vec<u8>>,
    /// The proxy's URL, if there is one on the way.
    pub proxy: Option<String>,
    /// Measures stalls.
    pub clock: Arc<dyn Clock>,
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct S3Credentials {
    /// The access key's name; no secret.
    pub access_key: String,
    /// Its secret.
    pub secret_key: SecretString,
    /// The token of a session, if the key is a temporary one.
    pub session_token: Option<SecretString>,
}

impl S3Credentials {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let token = self.session_token.as_ref().map(ExposeSecret::expose_secret);
        self.access_key == other.access_key
            && self.secret_key.expose_secret() == other.secret_key.expose_secret()
            && token == other.session_token.as_ref().map(ExposeSecret::expose_secret)
    }
}

impl S3Options {
    pub(super) fn trust(&self) -> Trust<'_> {
        Trust { ca_certificates: &self.ca_certificates, proxy: self.proxy.as_deref() }
    }

    /// The storage's name for people; checks everything that it is made of.
    pub(super) fn location(&self) -> Result<String> {
        let bad = |what: &str, text: &str| Err(StorageError::Address(format!("{what} {text:?}")));
        let Ok(url) = reqwest::Url::parse(&self.endpoint) else { return bad("endpoint is not a URL:", &self.endpoint) };
        let Some(host) = url.host_str() else { return bad("endpoint names no host:", &self.endpoint) };
        let is_plain = matches!(url.path(), "" | "/") && url.query().is_none() && url.username().is_empty();
        if !matches!(url.scheme(), "http" | "https") || !is_plain || url.password().is_some() {
            return bad("endpoint is not just http(s)://host[:port]:", host);
        }
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if !(3..=63).contains(&self.bucket.len()) || !self.bucket.bytes().all(fits) || self.bucket.contains("..") {
            return bad("not a bucket's name:", &self.bucket);
        }
        if !self.prefix.is_empty() && self.prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return bad("not a prefix:", &self.prefix);
        }
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        Ok(format!("s3:{host}{port}/{}{slash}{}", self.bucket, self.prefix))
    }

    pub(super) fn operator(&self) -> Result<Operator> {
        let mut service = services::S3::default()
            .endpoint(&self.endpoint)
            .bucket(&self.bucket)
            .root(&self.prefix)
            .region(&self.region)
            // The checksum that the most services verify; it also comes back as the ETag.
            .checksum_algorithm("md5")
            .disable_config_load()
            .disable_ec2_metadata();
        if !self.path_style {
            service = service.enable_virtual_host_style();
        }
        match &self.credentials {
            Some(credentials) => {
                service = service
                    .access_key_id(&credentials.access_key)
                    .secret_access_key(credentials.secret_key.expose_secret());
                if let Some(token) = &credentials.session_token {
                    service = service.session_token(token.expose_secret());
                }
            }
            None => service = service.skip_signature(),
        }
        Operator::new(service).map_err(|error| StorageError::Address(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn the_location_names_host_bucket_and_prefix() {
        check("https://s3.example", "bucket", "a/b", "s3:s3.example/bucket/a/b");
        check("http://127.0.0.1:9000/", "bucket", "", "s3:127.0.0.1:9000/bucket");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for endpoint in ["s3.example", "ftp://s3.example", "https://s3.example/path", "https://me:secret@s3.example"] {
            check(endpoint, "bucket", "", "storage address is not valid");
        }
        for bucket in ["", "ab", "a/b", "a b", "a..b"] {
            check("https://s3.example", bucket, "", "storage address is not valid");
        }
        for prefix in ["/a", "a/", "a//b", "../a", "a/./b"] {
            check("https://s3.example", "bucket", prefix, "storage address is not valid");
        }
    }

    #[test]
    fn a_secret_in_the_address_is_not_repeated() {
        check("https://me:secret@s3.example", "bucket", "", "http(s)://host[:port]: \"s3.example\"");
    }

    #[track_caller]
    fn check(endpoint: &str, bucket: &str, prefix: &str, expected: &str) {
        let options = S3Options {
            endpoint: endpoint.into(),
            bucket: bucket.into(),
            prefix: prefix.into(),
            region: "us-east-1".into(),
            credentials: None,
            path_style: true,
            ca_certificates: Vec::new(),
            proxy: None,
            clock: Arc::new(SystemClock),
        };
        let seen = options.location().unwrap_or_else(|error| error.to_string());
        assert!(seen.contains(expected), "{seen}");
    }
}
