//! Reading an address. What is wrong with it is said together with how to write it right; a secret in it is not repeated.

use super::Location;
use crate::{Result, StorageError};
use std::path::PathBuf;

const S3_FORM: &str = "write s3:https://host/bucket/prefix";
const SFTP_FORM: &str = "write sftp:user@host:/path or sftp://user@host:port//path";

/// What restic knows and onggi does not.
const UNSUPPORTED: [&str; 7] = ["rest", "b2", "azure", "gs", "swift", "rclone", "swiftio"];

pub(super) fn location(text: &str) -> Result<Location> {
    if text.is_empty() {
        return Err(bad("it is empty; write a folder, s3:host/bucket or sftp:user@host:/path"));
    }
    if text.contains(char::is_control) {
        return Err(bad("it has control characters"));
    }
    match text.split_once(':') {
        Some(("local", path)) => local(path),
        Some(("s3", address)) => s3(address),
        Some(("sftp", address)) => sftp(address),
        Some((scheme, _)) if UNSUPPORTED.contains(&scheme) => {
            Err(bad(format!("storages of kind {scheme}: are not supported; use a folder, s3: or sftp:")))
        }
        Some((scheme, _)) if !is_path(text) => {
            let shown = scheme.split('@').next_back().unwrap_or_default();
            Err(bad(format!("{shown:?} is no kind of storage; for a folder write local: before it")))
        }
        _ => local(text),
    }
}

fn bad(what: impl Into<String>) -> StorageError {
    StorageError::Address(what.into())
}

/// Cannot be taken for a scheme.
fn is_path(text: &str) -> bool {
    ["/", "./", "../"].iter().any(|start| text.starts_with(start))
}

fn local(path: &str) -> Result<Location> {
    if path.is_empty() {
        return Err(bad("local: names no folder; write local:/path"));
    }
    Ok(Location::Local(PathBuf::from(path)))
}

fn s3(address: &str) -> Result<Location> {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        Some(("", _)) | None => ("https", address.trim_start_matches('/')),
        Some((scheme, _)) => return Err(bad(format!("s3 over {scheme:?} is unknown; {S3_FORM}"))),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    no_secret(host, "s3:", "access-key and secret-key")?;
    let (bucket, prefix) = path.trim_matches('/').split_once('/').unwrap_or((path.trim_matches('/'), ""));
    if host.contains('@') {
        return Err(bad(format!("s3 takes no user before the host; {S3_FORM}")));
    }
    if !is_host_and_port(host) {
        return Err(bad(format!("s3:{host} names no host; {S3_FORM}")));
    }
    if bucket.is_empty() {
        return Err(bad(format!("s3:{host} names no bucket; {S3_FORM}")));
    }
    if rest.contains(['?', '#']) || prefix.split('/').any(|part| matches!(part, "." | "..")) || prefix.contains("//") {
        return Err(bad(format!("s3:{host}/{bucket} goes on with what is no prefix; {S3_FORM}")));
    }
    let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
    Ok(Location::S3 { endpoint: format!("{scheme}://{}", host.to_ascii_lowercase()), bucket, prefix })
}

fn sftp(address: &str) -> Result<Location> {
    let (authority, path) = authority_and_path(address)?;
    no_secret(authority, "sftp:", "a key")?;
    let (user, host_and_port) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let is_url = address.starts_with("//");
    let (host, port) = if is_url { host_and_port_of(host_and_port)? } else { (unbracketed(host_and_port), None) };
    if host.is_empty() || host.starts_with('-') || !is_word(host) || user.is_some_and(|user| !is_word(user)) {
        return Err(bad(format!("sftp:{authority} names no user and host; {SFTP_FORM}")));
    }
    if path.trim_matches('/').is_empty() && !path.starts_with('/') {
        return Err(bad(format!("sftp:{authority} names no folder; {SFTP_FORM}")));
    }
    if path.starts_with('~') {
        return Err(bad("the path starts with ~, which most servers do not know; leave ~/ away: paths begin at home"));
    }
    Ok(Location::Sftp { user: user.map(Into::into), host: host.into(), port, path: path.into() })
}

/// Takes `//authority/path` or `authority:path` apart.
fn authority_and_path(address: &str) -> Result<(&str, &str)> {
    if let Some(url) = address.strip_prefix("//") {
        return Ok(url.split_once('/').unwrap_or((url, "")));
    }
    let Some(colon) = end_of_host(address) else {
        no_secret(address, "sftp:", "a key")?;
        return Err(bad(format!("sftp: names no folder; {SFTP_FORM}")));
    };
    let (authority, path) = (&address[..colon], &address[colon + 1..]);
    // `user:password@host:/path` would be a host and a path with the password in it.
    if !authority.contains('@') && path.split_once('@').is_some_and(|(_, host)| host.contains(':')) {
        no_secret(address, "sftp:", "a key")?;
    }
    Ok((authority, path))
}

/// The colon before the path: that behind an IPv6 address in brackets, else the first.
fn end_of_host(address: &str) -> Option<usize> {
    let first = address.find(':')?;
    let behind_bracket = match address[..first].find('[') {
        Some(open) => address[open..].find(']').map(|close| open + close)?,
        None => 0,
    };
    address[behind_bracket..].find(':').map(|colon| behind_bracket + colon)
}

fn host_and_port_of(text: &str) -> Result<(&str, Option<u16>)> {
    let is_bracketed = text.ends_with(']');
    match text.rsplit_once(':').filter(|_| !is_bracketed) {
        None => Ok((unbracketed(text), None)),
        Some((host, port)) => match port.parse() {
            Ok(port) if port != 0 => Ok((unbracketed(host), Some(port))),
            _ => Err(bad(format!("{port:?} is no port; {SFTP_FORM}"))),
        },
    }
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|sign: char| sign.is_whitespace() || matches!(sign, '/' | '[' | ']'))
}

fn is_host_and_port(text: &str) -> bool {
    let host = match text.rsplit_once(':').filter(|_| !text.ends_with(']')) {
        Some((host, port)) if port.parse::<u16>().is_ok_and(|port| port != 0) => host,
        Some(_) => return false,
        None => text,
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let fits =
        |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte) || (bracketed && b"[]:".contains(&byte));
    !host.is_empty() && host.bytes().all(fits)
}

/// Refuses `user:password@host` without repeating it.
fn no_secret(authority: &str, kind: &str, instead: &str) -> Result<()> {
    match authority.rsplit_once('@') {
        Some((user, _)) if user.contains(':') => {
            Err(bad(format!("a {kind} address must not hold a password; give {instead} in the configuration instead")))
        }
        _ => Ok(()),
    }
}
