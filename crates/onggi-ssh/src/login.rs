//! From an address to an authenticated SSH connection: the other side proves who it is, then we do.

use crate::error::{HostError, LoginError, SshError, fingerprint};
use crate::known_hosts::KnownHosts;
use jiff::Timestamp;
use russh::{
    MethodKind, Preferred, SshId,
    client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse},
    keys::{
        Algorithm, Certificate, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate,
        agent::{AgentIdentity, client::AgentClient},
    },
};
use secrecy::{ExposeSecret, SecretString};
use std::{
    borrow::Cow,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::watch,
};

/// The longest time from the first packet to a session that callers should allow.
pub const LOGIN: Duration = Duration::from_mins(1);
/// A connection on which nothing answers for three of these is lost.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Servers close the connection after a few tries (6 in OpenSSH); the files and the password need some of them.
const AGENT_KEYS_MAX: usize = 4;
/// Questions of a login dialog that are answered.
const DIALOG_ROUNDS_MAX: usize = 4;
/// Bytes of a certificate's file; those of OpenSSH have about 2000.
const CERTIFICATE_BYTES_MAX: u64 = 64 << 10;

type Result<T> = std::result::Result<T, SshError>;

/// Where to, as whom, and whom to believe there.
#[derive(Debug, Clone)]
pub struct Login {
    /// The machine's name or address.
    pub host: String,
    /// Usually 22.
    pub port: u16,
    /// By which name its key is looked up, if not by `host`.
    pub alias: Option<String>,
    /// Who logs in there.
    pub user: String,
    /// Private keys, tried in this order. Others may not be able to read them.
    pub identity_files: Vec<PathBuf>,
    /// The certificate that an authority gave for the first of these keys.
    pub certificate: Option<PathBuf>,
    /// What opens those of the keys that are encrypted.
    pub identity_passphrase: Option<SecretString>,
    /// The socket of an agent whose keys are tried after the files.
    pub agent: Option<PathBuf>,
    /// Tried last.
    pub password: Option<SecretString>,
    /// Which key the host may show.
    pub trust: Trust,
    /// Also methods that are broken by today's measure, for devices that know no other.
    pub legacy: bool,
    /// Bytes that may be on their way to us unread: what a fast line with long ways holds.
    pub window_bytes: u32,
    /// The moment at which certificates must be valid.
    pub now: Timestamp,
}

/// Which key a host may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// One that these files name; those that do not exist are left out.
    Files(Vec<PathBuf>),
    /// This one, as `SHA256:…` or as a line `ssh-ed25519 AAAA…`.
    Pinned(String),
}

impl Login {
    /// The window of a connection that carries files.
    pub const WINDOW_BYTES: u32 = 16 << 20;

    fn shown(&self) -> String {
        host_name(&self.host, self.port)
    }

    /// The name that its key is looked up by; an alias stands for the port too.
    fn name(&self) -> (&str, u16) {
        self.alias.as_deref().map_or((self.host.as_str(), self.port), |alias| (alias, 22))
    }
}

/// The host as a line names it: `host`, or `[host]:port` where the port is not 22.
pub fn host_name(host: &str, port: u16) -> String {
    let host = host.to_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// A connection that is logged in.
pub struct Session {
    /// The connection.
    pub ssh: Handle<Doorkeeper>,
    /// Fails as soon as the connection has ended.
    pub end: watch::Receiver<()>,
    announced: Arc<Mutex<Vec<PublicKey>>>,
}

impl Session {
    /// The keys that the host announced for later, once it has proved to hold them all; empty without a proof.
    ///
    /// The connection itself is proof of the key that is known, so that a host can go over to new ones by itself.
    pub async fn proven_keys(&self) -> Vec<PublicKey> {
        let announced = std::mem::take(&mut *self.announced.lock().unwrap_or_else(PoisonError::into_inner));
        if announced.is_empty() || self.ssh.hostkeys_prove(announced.clone()).await.is_err() {
            return Vec::new();
        }
        announced
    }
}

/// Connects and logs in. Has no limit of time of its own: [`LOGIN`] is one.
pub async fn login(options: &Login) -> Result<Session> {
    let mut session = connect(options).await?;
    authenticate(&mut session.ssh, options).await?;
    Ok(session)
}

/// The key that a host shows, which nobody may believe yet. Nothing but the handshake is sent.
pub async fn shown_key(host: &str, port: u16, legacy: bool) -> Result<PublicKey> {
    let nobody = Login {
        host: host.to_owned(),
        port,
        alias: None,
        user: String::new(),
        identity_files: Vec::new(),
        certificate: None,
        identity_passphrase: None,
        agent: None,
        password: None,
        trust: Trust::Files(Vec::new()),
        legacy,
        window_bytes: Login::WINDOW_BYTES,
        now: Timestamp::UNIX_EPOCH,
    };
    match connect(&nobody).await {
        Err(SshError::Identity(error)) => match *error {
            HostError::Unknown { key, .. } => Ok(*key),
            other => Err(SshError::Identity(Box::new(other))),
        },
        Err(error) => Err(error),
        Ok(_) => unreachable!("no file says that the host is known"),
    }
}

fn unreachable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SshError {
    SshError::Unreachable(cause.into())
}

fn denied(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SshError {
    SshError::Denied(cause.into())
}

async fn connect(options: &Login) -> Result<Session> {
    let trusted = Trusted::load(options).await?;
    let stream = TcpStream::connect((options.host.as_str(), options.port)).await.map_err(unreachable)?;
    // Small packets of a pipeline must not wait for each other.
    stream.set_nodelay(true).map_err(unreachable)?;
    let config = client::Config {
        client_id: SshId::Standard(Cow::Borrowed("SSH-2.0-onggi")),
        window_size: options.window_bytes,
        keepalive_interval: Some(KEEP_ALIVE),
        keepalive_max: 3,
        nodelay: true,
        preferred: trusted.preferred(options.legacy),
        ..client::Config::default()
    };
    let refusal = Arc::new(Mutex::new(None));
    let announced = Arc::new(Mutex::new(Vec::new()));
    let (alive, end) = watch::channel(());
    let doorkeeper = Doorkeeper { trusted, refusal: refusal.clone(), announced: announced.clone(), _alive: alive };
    let connected = client::connect_stream(Arc::new(config), stream, doorkeeper).await;
    connected.map(|ssh| Session { ssh, end, announced }).map_err(|error| {
        let refusal = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (refusal, error) {
            (Some(refusal), _) => SshError::Identity(Box::new(refusal)),
            (None, error) if is_lost(&error) => unreachable(error),
            (None, error) => SshError::Identity(Box::new(HostError::NoAgreement(error))),
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
    /// As the files name it.
    host: String,
    port: u16,
    trust: Trust,
    known: KnownHosts,
    now: Timestamp,
}

impl Trusted {
    async fn load(options: &Login) -> Result<Self> {
        let mut known = KnownHosts::default();
        if let Trust::Files(files) = &options.trust {
            for file in files {
                match tokio::fs::read(file).await {
                    Ok(text) => known.add(file, &String::from_utf8_lossy(&text)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(denied(format!("read {}: {error}", file.display()))),
                }
            }
        }
        let (host, port) = options.name();
        Ok(Self { host: host.to_owned(), port, trust: options.trust.clone(), known, now: options.now })
    }

    /// What to ask for: the kinds of key that are known first, a certificate only where an authority is known, and
    /// nothing that is signed with SHA-1, except from devices that know no other.
    fn preferred(&self, legacy: bool) -> Preferred {
        let key = self.algorithms(legacy);
        let certificates = if self.known.has_authority(&self.host, self.port) { key.clone() } else { Vec::new() };
        let usual = Preferred { key: key.into(), host_key_certificates: certificates.into(), ..Preferred::DEFAULT };
        if !legacy {
            return usual;
        }
        let kex = [&*usual.kex, LEGACY_KEX].concat();
        let cipher = [&*usual.cipher, LEGACY_CIPHERS].concat();
        let mac = [&*usual.mac, LEGACY_MACS].concat();
        Preferred { kex: kex.into(), cipher: cipher.into(), mac: mac.into(), ..usual }
    }

    fn algorithms(&self, legacy: bool) -> Vec<Algorithm> {
        let pinned = match &self.trust {
            Trust::Pinned(pin) => PublicKey::from_openssh(pin).ok(),
            Trust::Files(_) => None,
        };
        let mut known = self.known.algorithms(&self.host, self.port);
        known.extend(pinned.map(|key| key.algorithm()));
        let is_rsa = |kind: &Algorithm| matches!(kind, Algorithm::Rsa { .. });
        let is_known = |asked: &Algorithm| known.iter().any(|known| known == asked || (is_rsa(known) && is_rsa(asked)));
        let is_safe = |kind: &&Algorithm| legacy || !matches!(kind, Algorithm::Rsa { hash: None });
        let safe = Preferred::DEFAULT.key.iter().filter(is_safe);
        let (mut first, rest): (Vec<_>, Vec<_>) = safe.cloned().partition(is_known);
        first.extend(rest);
        first
    }

    fn refusal(&self, shown: &PublicKeyOrCertificate) -> Option<HostError> {
        let key = shown.public_key();
        match (&self.trust, shown.certificate()) {
            (Trust::Pinned(pinned), _) => self.not_pinned(pinned, &key),
            (Trust::Files(files), Some(certificate)) => {
                let verdict = self.known.judge_certificate(&self.host, self.port, certificate, self.now);
                HostError::of(verdict, &self.host, self.port, &key, files)
            }
            (Trust::Files(files), None) => {
                let verdict = self.known.judge(&self.host, self.port, &key);
                HostError::of(verdict, &self.host, self.port, &key, files)
            }
        }
    }

    fn not_pinned(&self, pinned: &str, key: &PublicKey) -> Option<HostError> {
        let is_line = PublicKey::from_openssh(pinned).is_ok_and(|pinned| pinned.key_data() == key.key_data());
        let is_fingerprint = key.fingerprint(russh::keys::HashAlg::Sha256).to_string() == *pinned;
        (!is_line && !is_fingerprint).then(|| HostError::Pinned {
            host: host_name(&self.host, self.port),
            fingerprint: fingerprint(key),
            pinned: pinned.to_owned(),
        })
    }
}

/// What switches of ten years ago speak; `Preferred::DEFAULT` leaves it out.
const LEGACY_KEX: &[russh::kex::Name] = &[
    russh::kex::DH_GEX_SHA256,
    russh::kex::DH_G14_SHA256,
    russh::kex::DH_GEX_SHA1,
    russh::kex::DH_G14_SHA1,
    russh::kex::DH_G1_SHA1,
];
const LEGACY_CIPHERS: &[russh::cipher::Name] =
    &[russh::cipher::AES_256_CBC, russh::cipher::AES_192_CBC, russh::cipher::AES_128_CBC];
const LEGACY_MACS: &[russh::mac::Name] = &[russh::mac::HMAC_SHA1_ETM, russh::mac::HMAC_SHA1];

/// Lets a connection go on if the host shows a key that may be trusted; else keeps the reason.
#[derive(Debug)]
pub struct Doorkeeper {
    trusted: Trusted,
    refusal: Arc<Mutex<Option<HostError>>>,
    announced: Arc<Mutex<Vec<PublicKey>>>,
    /// Dropped with this, which the task of the connection owns.
    _alive: watch::Sender<()>,
}

impl client::Handler for Doorkeeper {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> std::result::Result<bool, russh::Error> {
        let refusal = self.trusted.refusal(shown);
        let is_trusted = refusal.is_none();
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
        Ok(is_trusted)
    }

    /// Kept until somebody asks for the proof.
    async fn openssh_ext_host_keys_announced(
        &mut self,
        keys: Vec<PublicKey>,
        _session: &mut client::Session,
    ) -> std::result::Result<(), russh::Error> {
        *self.announced.lock().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }
}

async fn authenticate(session: &mut Handle<Doorkeeper>, options: &Login) -> Result<()> {
    let mut offered = Vec::new();
    if offer_files(session, options, &mut offered).await?
        || offer_agent(session, options, &mut offered).await?
        || offer_password(session, options, &mut offered).await?
    {
        return Ok(());
    }
    let offered = if offered.is_empty() { "no key, agent or password is given".into() } else { offered.join(", ") };
    Err(denied(LoginError { user: options.user.clone(), host: options.shown(), offered }))
}

async fn offer_files(session: &mut Handle<Doorkeeper>, options: &Login, offered: &mut Vec<String>) -> Result<bool> {
    for (number, file) in options.identity_files.iter().enumerate() {
        let key = Arc::new(load_key(file, options).await?);
        if let Some(path) = options.certificate.as_ref().filter(|_| number == 0) {
            offered.push(format!("certificate {}", path.display()));
            let certificate = load_certificate(path).await?;
            let answer = session.authenticate_openssh_cert(&options.user, key.clone(), certificate).await;
            if is_success(&answer, options, offered)? {
                return Ok(true);
            }
        }
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

async fn load_key(file: &Path, options: &Login) -> Result<PrivateKey> {
    let denied = |text: String| denied(format!("key {}: {text}", file.display()));
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

async fn load_certificate(file: &Path) -> Result<Certificate> {
    let denied = |text: String| denied(format!("certificate {}: {text}", file.display()));
    let metadata = tokio::fs::metadata(file).await.map_err(|error| denied(error.to_string()))?;
    if metadata.len() > CERTIFICATE_BYTES_MAX {
        return Err(denied("it is too long to be one".to_owned()));
    }
    let text = tokio::fs::read_to_string(file).await.map_err(|error| denied(error.to_string()))?;
    Certificate::from_openssh(text.trim()).map_err(|error| denied(error.to_string()))
}

async fn offer_agent(session: &mut Handle<Doorkeeper>, options: &Login, offered: &mut Vec<String>) -> Result<bool> {
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

async fn offer_password(session: &mut Handle<Doorkeeper>, options: &Login, offered: &mut Vec<String>) -> Result<bool> {
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
    options: &Login,
    offered: &[String],
) -> Result<bool> {
    match answer {
        Ok(answer) => Ok(answer.success()),
        Err(error) if offered.len() > 1 => Err(denied(LoginError {
            user: options.user.clone(),
            host: options.shown(),
            offered: format!("{} ({error})", offered.join(", ")),
        })),
        Err(error) => Err(unreachable(error.to_string())),
    }
}
