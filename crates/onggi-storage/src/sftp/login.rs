//! From an address to an authenticated SSH connection: the other side proves who it is, then we do.

use super::{
    error::{HostError, LoginError, fingerprint},
    known_hosts::{KnownHosts, host_name},
    options::SftpOptions,
};
use crate::{Clock, Result, StorageError};
use futures::future::{Either, select};
use russh::{
    MethodKind, Preferred,
    client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse},
    keys::{
        Algorithm, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate,
        agent::{AgentIdentity, client::AgentClient},
    },
};
use secrecy::ExposeSecret;
use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::watch,
};

/// The longest time from the first packet to a session.
pub(super) const LOGIN: Duration = Duration::from_mins(1);
/// A connection on which nothing answers for three of these is lost.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Bytes that may be on their way to us unread: what a fast line with long ways holds.
const WINDOW_BYTES: u32 = 16 << 20;
/// Servers close the connection after a few tries (6 in OpenSSH); the files and the password need some of them.
const AGENT_KEYS_MAX: usize = 4;
/// Questions of a login dialog that are answered.
const DIALOG_ROUNDS_MAX: usize = 4;

/// A connection that is logged in.
pub(super) struct Session {
    pub(super) ssh: Handle<Doorkeeper>,
    /// Fails as soon as the connection has ended.
    pub(super) end: watch::Receiver<()>,
}

/// Connects and logs in.
pub(super) async fn login(options: &SftpOptions) -> Result<Session> {
    within(options.clock.as_ref(), LOGIN, async {
        let mut session = connect(options).await?;
        authenticate(&mut session.ssh, options).await?;
        Ok(session)
    })
    .await
}

/// Fails with `Unreachable` when the time is up.
pub(super) async fn within<T>(clock: &dyn Clock, limit: Duration, act: impl Future<Output = Result<T>>) -> Result<T> {
    match select(pin!(act), clock.reach(clock.elapsed() + limit)).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => Err(unreachable(format!("no answer within {} seconds", limit.as_secs()))),
    }
}

fn unreachable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StorageError {
    StorageError::Unreachable(cause.into())
}

async fn connect(options: &SftpOptions) -> Result<Session> {
    let trusted = Trusted::load(options).await?;
    let stream = TcpStream::connect((options.host.as_str(), options.port)).await.map_err(unreachable)?;
    // Small packets of a pipeline must not wait for each other.
    stream.set_nodelay(true).map_err(unreachable)?;
    let config = client::Config {
        window_size: WINDOW_BYTES,
        keepalive_interval: Some(KEEP_ALIVE),
        keepalive_max: 3,
        nodelay: true,
        preferred: Preferred { key: trusted.algorithms().into(), ..Preferred::DEFAULT },
        ..client::Config::default()
    };
    let refusal = Arc::new(Mutex::new(None));
    let (alive, end) = watch::channel(());
    let doorkeeper = Doorkeeper { trusted, refusal: refusal.clone(), _alive: alive };
    let connected = client::connect_stream(Arc::new(config), stream, doorkeeper).await;
    connected.map(|ssh| Session { ssh, end }).map_err(|error| {
        let refusal = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (refusal, error) {
            (Some(refusal), _) => StorageError::Identity(Box::new(refusal)),
            (None, error) if is_lost(&error) => unreachable(error),
            (None, error) => StorageError::Identity(Box::new(HostError::NoAgreement(error))),
        }
    })
}

/// Whether the line broke; any other end of a key exchange means that the two do not agree.
fn is_lost(error: &russh::Error) -> bool {
    use russh::Error;
    matches!(
        error,
        Error::IO(_)
            | Error::HUP
            | Error::Disconnect
            | Error::ConnectionTimeout
            | Error::KeepaliveTimeout
            | Error::InactivityTimeout
            | Error::SendError
            | Error::RecvError
            | Error::Elapsed(_)
            | Error::Join(_)
    )
}

/// Which keys the host may show.
#[derive(Debug)]
struct Trusted {
    host: String,
    port: u16,
    pinned: Option<String>,
    files: Vec<std::path::PathBuf>,
    known: KnownHosts,
}

impl Trusted {
    async fn load(options: &SftpOptions) -> Result<Self> {
        let mut known = KnownHosts::default();
        if options.host_key.is_none() {
            for file in &options.known_hosts {
                match tokio::fs::read(file).await {
                    Ok(text) => known.add(file, &String::from_utf8_lossy(&text)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => {
                        let text = format!("read {}: {error}", file.display());
                        return Err(StorageError::Denied(text.into()));
                    }
                }
            }
        }
        let (host, port) = (options.host.clone(), options.port);
        Ok(Self { host, port, pinned: options.host_key.clone(), files: options.known_hosts.clone(), known })
    }

    /// The kinds of key to ask for: known ones first, and never one that is signed with SHA-1.
    fn algorithms(&self) -> Vec<Algorithm> {
        let pinned = self.pinned.as_deref().and_then(|pin| PublicKey::from_openssh(pin).ok());
        let mut known = self.known.algorithms(&self.host, self.port);
        known.extend(pinned.map(|key| key.algorithm()));
        let is_rsa = |kind: &Algorithm| matches!(kind, Algorithm::Rsa { .. });
        let is_known = |asked: &Algorithm| known.iter().any(|known| known == asked || (is_rsa(known) && is_rsa(asked)));
        let safe = Preferred::DEFAULT.key.iter().filter(|kind| !matches!(kind, Algorithm::Rsa { hash: None }));
        let (mut first, rest): (Vec<_>, Vec<_>) = safe.cloned().partition(is_known);
        first.extend(rest);
        first
    }

    fn refusal(&self, key: &PublicKey) -> Option<HostError> {
        let Some(pinned) = &self.pinned else {
            let verdict = self.known.judge(&self.host, self.port, key);
            return HostError::of(verdict, &self.host, self.port, key, &self.files);
        };
        let is_line = PublicKey::from_openssh(pinned).is_ok_and(|pinned| pinned.key_data() == key.key_data());
        let is_fingerprint = key.fingerprint(russh::keys::HashAlg::Sha256).to_string() == *pinned;
        (!is_line && !is_fingerprint).then(|| HostError::Pinned {
            host: host_name(&self.host, self.port),
            fingerprint: fingerprint(key),
            pinned: pinned.clone(),
        })
    }
}

/// Lets a connection go on if the host shows a key that may be trusted; else keeps the reason.
#[derive(Debug)]
pub(super) struct Doorkeeper {
    trusted: Trusted,
    refusal: Arc<Mutex<Option<HostError>>>,
    /// Dropped with this, which the task of the connection owns.
    _alive: watch::Sender<()>,
}

impl client::Handler for Doorkeeper {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> std::result::Result<bool, russh::Error> {
        let refusal = self.trusted.refusal(&shown.public_key());
        let is_trusted = refusal.is_none() && shown.certificate().is_none();
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
        Ok(is_trusted)
    }
}

async fn authenticate(session: &mut Handle<Doorkeeper>, options: &SftpOptions) -> Result<()> {
    let mut offered = Vec::new();
    if offer_files(session, options, &mut offered).await?
        || offer_agent(session, options, &mut offered).await?
        || offer_password(session, options, &mut offered).await?
    {
        return Ok(());
    }
    let offered = if offered.is_empty() { "no key, agent or password is given".into() } else { offered.join(", ") };
    Err(StorageError::Denied(Box::new(LoginError {
        user: options.user.clone(),
        host: host_name(&options.host, options.port),
        offered,
    })))
}

async fn offer_files(
    session: &mut Handle<Doorkeeper>,
    options: &SftpOptions,
    offered: &mut Vec<String>,
) -> Result<bool> {
    for file in &options.identity_files {
        let key = Arc::new(load_key(file, options).await?);
        offered.push(format!("key {}", file.display()));
        let hash = rsa_hash(session, &key.algorithm()).await?;
        let key = PrivateKeyWithHashAlg::new(key, hash);
        let answer = session.authenticate_publickey(&options.user, key).await;
        if is_success(&answer, options, offered)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The strongest hash that the server takes with an RSA key.
async fn rsa_hash(session: &Handle<Doorkeeper>, algorithm: &Algorithm) -> Result<Option<russh::keys::HashAlg>> {
    if !matches!(algorithm, Algorithm::Rsa { .. }) {
        return Ok(None);
    }
    // A server that does not tell is old or shy; SHA-2 has been understood for long.
    let told = session.best_supported_rsa_hash().await.map_err(unreachable)?;
    Ok(told.unwrap_or(Some(russh::keys::HashAlg::Sha256)))
}

async fn load_key(file: &Path, options: &SftpOptions) -> Result<PrivateKey> {
    let denied = |text: String| StorageError::Denied(format!("key {}: {text}", file.display()).into());
    let metadata = tokio::fs::metadata(file).await.map_err(|error| denied(error.to_string()))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(denied(format!("others can read it (mode {mode:04o}, not above 0600)")));
    }
    let (path, passphrase) = (file.to_owned(), options.identity_passphrase.clone());
    // Opening an encrypted key takes its while on purpose.
    let load = move || russh::keys::load_secret_key(path, passphrase.as_ref().map(ExposeSecret::expose_secret));
    let loaded = tokio::task::spawn_blocking(load).await.map_err(|error| denied(error.to_string()))?;
    loaded.map_err(|error| denied(error.to_string()))
}

async fn offer_agent(
    session: &mut Handle<Doorkeeper>,
    options: &SftpOptions,
    offered: &mut Vec<String>,
) -> Result<bool> {
    let Some(socket) = &options.agent else { return Ok(false) };
    let identities = async {
        let mut agent = AgentClient::connect(UnixStream::connect(socket).await?);
        let identities = agent.request_identities().await?;
        Ok::<_, russh::keys::Error>((agent, identities))
    };
    let (mut agent, identities) = match identities.await {
        Ok(found) => found,
        Err(error) => {
            offered.push(format!("agent {} ({error})", socket.display()));
            return Ok(false);
        }
    };
    let keys = identities.into_iter().filter_map(|identity| match identity {
        AgentIdentity::PublicKey { key, .. } => Some(key),
        AgentIdentity::Certificate { .. } => None,
    });
    for key in keys.take(AGENT_KEYS_MAX) {
        offered.push(format!("agent's key {}", fingerprint(&key)));
        let hash = rsa_hash(session, &key.algorithm()).await?;
        let answer = session.authenticate_publickey_with(&options.user, key, hash, &mut agent).await;
        if matches!(answer, Ok(AuthResult::Success)) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn offer_password(
    session: &mut Handle<Doorkeeper>,
    options: &SftpOptions,
    offered: &mut Vec<String>,
) -> Result<bool> {
    let Some(password) = &options.password else { return Ok(false) };
    offered.push("password".into());
    let answer = session.authenticate_password(&options.user, password.expose_secret()).await;
    if is_success(&answer, options, offered)? {
        return Ok(true);
    }
    let Ok(AuthResult::Failure { remaining_methods, .. }) = answer else { return Ok(false) };
    if !remaining_methods.contains(&MethodKind::KeyboardInteractive) {
        return Ok(false);
    }
    let start = session.authenticate_keyboard_interactive_start(&options.user, None).await;
    let mut answer = start.map_err(unreachable)?;
    for _ in 0..DIALOG_ROUNDS_MAX {
        let prompts = match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(true),
            KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
        };
        // Only a hidden question asks for the password.
        let reply = prompts.iter().map(|prompt| if prompt.echo { "" } else { password.expose_secret() });
        let reply = reply.map(str::to_owned).collect();
        answer = session.authenticate_keyboard_interactive_respond(reply).await.map_err(unreachable)?;
    }
    Ok(false)
}

/// A server that hangs up after too many tries has refused; before the first answer the line may have broken.
fn is_success(
    answer: &std::result::Result<AuthResult, russh::Error>,
    options: &SftpOptions,
    offered: &[String],
) -> Result<bool> {
    match answer {
        Ok(answer) => Ok(answer.success()),
        Err(error) if offered.len() > 1 => Err(StorageError::Denied(Box::new(LoginError {
            user: options.user.clone(),
            host: host_name(&options.host, options.port),
            offered: format!("{} ({error})", offered.join(", ")),
        }))),
        Err(error) => Err(unreachable(error.to_string())),
    }
}
