//! How other machines are reached: straight, through a SOCKS proxy, or through an SSH host. Requests to a Director and
//! connections to instances go the same way.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::SocksV5;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use jiff::Timestamp;
use onggi_ssh::{Login, Session, Trust, login};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tower_service::Service as _;

use super::address::Address;
use super::{DirectorError, Result};
use crate::percent::unescape;

/// The port of SSH.
const SSH_PORT: u16 = 22;
/// The port of a SOCKS proxy.
const SOCKS_PORT: u16 = 1080;

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The way to other machines.
pub enum Route {
    /// Without a detour.
    Direct,
    /// Through what listens for SOCKS 5, except to what is spared.
    Socks(Box<Matcher>),
    /// Through one SSH connection, which all share.
    Ssh(Box<Tunnel>),
}

/// What an operator sets as the proxy for all that concerns BOSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proxy {
    /// `socks5://host:port`.
    Socks(String),
    /// `ssh+socks5://user@host:port?private-key=/path`.
    Ssh {
        /// Who logs in there.
        user: String,
        /// Where.
        address: Address,
        /// With which key.
        key: PathBuf,
    },
}

/// An SSH host to go through. Opened when first needed, and again when it was lost.
pub struct Tunnel {
    login: Login,
    session: Mutex<Option<Arc<Session>>>,
}

impl Proxy {
    /// Reads the value of the variable.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| DirectorError::Configuration(format!("the proxy {:?} {why}", hidden(text)));
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("has no scheme"))?;
        match scheme {
            "socks5" | "socks5h" => {
                Address::parse(text, SOCKS_PORT)?;
                Ok(Self::Socks(format!("socks5h://{rest}")))
            }
            "ssh+socks5" => {
                let (place, query) = rest.split_once('?').ok_or_else(|| bad("names no private-key"))?;
                let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                let key = pairs.find(|(name, _)| *name == "private-key").map(|(_, key)| unescape(key));
                let key = key.filter(|key| !key.is_empty()).ok_or_else(|| bad("names no private-key"))?;
                let (user, _) = place.rsplit_once('@').ok_or_else(|| bad("names no user"))?;
                let user = unescape(user.split(':').next().unwrap_or(user));
                Ok(Self::Ssh { user, address: Address::parse(place, SSH_PORT)?, key: key.into() })
            }
            _ => Err(bad("is neither socks5:// nor ssh+socks5://")),
        }
    }
}

impl Route {
    /// Through this proxy, except to hosts of the list `spared`, as `NO_PROXY` has it. An SSH host spares nobody.
    /// `trust` says which key the SSH host may show.
    pub fn through(proxy: Proxy, spared: &str, trust: Trust, now: Timestamp) -> Self {
        match proxy {
            Proxy::Socks(url) => Self::Socks(Box::new(Matcher::builder().all(url).no(spared).build())),
            Proxy::Ssh { user, address, key } => {
                let login = Login::new(address.host, address.port, user, trust, now);
                let login = Login { identity_files: vec![key], ..login };
                Self::Ssh(Box::new(Tunnel { login, session: Mutex::default() }))
            }
        }
    }

    /// The same, believing any SSH host.
    pub fn through_any(proxy: Proxy, spared: &str, now: Timestamp) -> Self {
        Self::through(proxy, spared, Trust::Any(Vec::new()), now)
    }

    /// Connects. Has no limit of time of its own.
    pub async fn dial(&self, address: &Address) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Direct => straight(address).await,
            Self::Socks(matcher) => {
                let uri: Uri = format!("https://{address}").parse().map_err(io::Error::other)?;
                match matcher.intercept(&uri) {
                    Some(proxy) => socks(&proxy, uri).await,
                    None => straight(address).await,
                }
            }
            Self::Ssh(tunnel) => tunnel.dial(address).await,
        }
    }
}

impl Tunnel {
    async fn dial(&self, address: &Address) -> io::Result<Box<dyn Stream>> {
        let session = self.session().await?;
        let channel = session.forward(&address.host, address.port).await.map_err(|error| told(&error))?;
        Ok(Box::new(channel))
    }

    async fn session(&self) -> io::Result<Arc<Session>> {
        let mut held = self.session.lock().await;
        if let Some(session) = held.as_ref().filter(|session| !session.has_ended()) {
            return Ok(session.clone());
        }
        let session = Arc::new(login(&self.login).await.map_err(|error| told(&error))?);
        Ok(held.insert(session).clone())
    }
}

async fn straight(address: &Address) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

async fn socks(proxy: &Intercept, to: Uri) -> io::Result<Box<dyn Stream>> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    let mut socks = SocksV5::new(proxy.uri().clone(), connector);
    if let Some((user, password)) = proxy.raw_auth() {
        socks = socks.with_auth(user.to_owned(), password.to_owned());
    }
    let connected = socks.call(to).await.map_err(io::Error::other)?;
    Ok(Box::new(connected.into_inner()))
}

/// An error of SSH with what is behind it.
fn told(error: &onggi_ssh::SshError) -> io::Error {
    use std::error::Error as _;
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    io::Error::other(format!("SSH tunnel: {error}{cause}"))
}

/// Without the password that may stand in it.
fn hidden(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return "…".to_owned() };
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}://{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_proxy_are_read() {
        assert_eq!(Proxy::parse("socks5://10.0.0.1:1080").unwrap(), Proxy::Socks("socks5h://10.0.0.1:1080".into()));
        let tunnel = Proxy::parse("ssh+socks5://jump@box:2222?private-key=%2Fhome%2Fa b/key").unwrap();
        let address = Address { host: "box".into(), port: 2222 };
        assert_eq!(tunnel, Proxy::Ssh { user: "jump".into(), address, key: "/home/a b/key".into() });
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_refused_without_its_password() {
        for text in ["http://a:hunter2@b:1", "ssh+socks5://a:hunter2@b", "ssh+socks5://b?private-key=/k", "b:1080"] {
            let error = Proxy::parse(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
