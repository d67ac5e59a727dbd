//! Addresses of storages, written as restic writes them.

mod parse;

#[cfg(test)]
mod tests;

use std::{fmt, path::PathBuf};

/// Where a storage is. It never holds a secret: an address with one is refused.
///
/// | text | means |
/// |---|---|
/// | `/srv/onggi`, `./onggi`, `local:onggi` | a folder of this machine |
/// | `s3:host/bucket/prefix`, `s3:http://host:9000/bucket` | a bucket; without a scheme over TLS |
/// | `sftp:user@host:path`, `sftp:user@host:/path` | a folder of another machine, from home or from the root |
/// | `sftp://user@host:port/path`, `sftp://user@host:port//path` | the same |
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// A folder of this machine.
    Local(PathBuf),
    /// A bucket, or what is below a prefix in it.
    S3 {
        /// The service's URL, without a slash at its end: `https://s3.eu-central-1.amazonaws.com`.
        endpoint: String,
        /// The bucket's name.
        bucket: String,
        /// What all names start with, without slashes at its ends; may be empty.
        prefix: String,
    },
    /// A folder of another machine.
    Sftp {
        /// Who logs in; `None` is left to the configuration.
        user: Option<String>,
        /// The machine, without brackets around an IPv6 address.
        host: String,
        /// `None` is the usual one.
        port: Option<u16>,
        /// Relative to the user's home if it does not start with a slash; never empty.
        path: String,
    },
}

impl Location {
    /// Reads an address; pure.
    ///
    /// # Errors
    /// `Address`, which names the address (but no secret in it) and how to write it.
    pub fn parse(text: &str) -> crate::Result<Self> {
        parse::location(text)
    }

    /// The word before the colon: `local`, `s3`, `sftp`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::S3 { .. } => "s3",
            Self::Sftp { .. } => "sftp",
        }
    }

    /// The region that the name of an Amazon endpoint implies; other services are asked as `us-east-1`.
    pub fn region(&self) -> Option<&str> {
        let Self::S3 { endpoint, .. } = self else { return None };
        let host = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, host)| host);
        let name = host.strip_suffix(".amazonaws.com.cn").or_else(|| host.strip_suffix(".amazonaws.com"));
        let region = name.and_then(|name| name.rsplit_once('.').map(|(_, region)| region).or(name.strip_prefix("s3-")));
        Some(region.filter(|region| *region != "s3").unwrap_or("us-east-1"))
    }

    /// Whether the service is Amazon's, where the bucket is a part of the host name.
    pub fn is_amazon(&self) -> bool {
        let Self::S3 { endpoint, .. } = self else { return false };
        endpoint.ends_with(".amazonaws.com") || endpoint.ends_with(".amazonaws.com.cn")
    }
}

impl std::str::FromStr for Location {
    type Err = crate::StorageError;

    fn from_str(text: &str) -> crate::Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for Location {
    /// The shortest text that is read as the same location.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) if path.starts_with("/") => write!(f, "{}", path.display()),
            Self::Local(path) => write!(f, "local:{}", path.display()),
            Self::S3 { endpoint, bucket, prefix } => {
                let slash = if prefix.is_empty() { "" } else { "/" };
                write!(f, "s3:{}/{bucket}{slash}{prefix}", endpoint.strip_prefix("https://").unwrap_or(endpoint))
            }
            Self::Sftp { user, host, port, path } => {
                let at = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                match port {
                    // With `@` in the path the short form could be taken for one with a password.
                    None if path.contains('@') => write!(f, "sftp://{at}{host}/{path}"),
                    None => write!(f, "sftp:{at}{host}:{path}"),
                    Some(port) => write!(f, "sftp://{at}{host}:{port}/{path}"),
                }
            }
        }
    }
}
