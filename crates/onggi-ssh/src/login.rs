//! From an address to an authenticated SSH connection: the other side proves who it is, then we do.

use crate::authenticate::authenticate;
use crate::cipher;
use crate::error::{HostError, SshError, fingerprint};
use crate::known_hosts::KnownHosts;
use jiff::Timestamp;
use russh::{
    Preferred, SshId,
    client::{self, Handle},
    keys::{Algorithm, PrivateKey, PublicKey, PublicKeyOrCertificate},
};
use secrecy::SecretString;
use std::{
    borrow::Cow,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
};

/// The longest time from the first packet to a session that callers should allow.
pub const LOGIN: Duration = Duration::from_mins(1);
/// A connection on which nothing answers for three of these is lost.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

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
    /// Private keys at hand, tried first.
    pub keys: Vec<Arc<PrivateKey>>,
    /// Files of private keys, tried in this order. Others may not be able to read them.
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
    /// Whichever it shows, those that these files name first: the caller judges [`Session::host_key`] afterwards, and
    /// answers for what it sent until then.
    Any(Vec<PathBuf>),
}

impl Login {
    /// The window of a connection that carries files.
    pub const WINDOW_BYTES: u32 = 16 << 20;

    /// As `user`, who has nothing to show yet, for a connection that carries files.
    pub fn new(host: impl Into<String>, port: u16, user: impl Into<String>, trust: Trust, now: Timestamp) -> Self {
        Self {
            host: host.into(),
            port,
            alias: None,
            user: user.into(),
            keys: Vec::new(),
            identity_files: Vec::new(),
            certificate: None,
            identity_passphrase: None,
            agent: None,
            password: None,
            trust,
            legacy: false,
            window_bytes: Self::WINDOW_BYTES,
            now,
        }
    }

    pub(crate) fn shown(&self) -> String {
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
    shown: Arc<Mutex<Option<PublicKey>>>,
}

impl Session {
    /// The key by which the host proved who it is.
    pub fn host_key(&self) -> Option<PublicKey> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.end.has_changed().is_err()
    }

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

/// The same over a way that somebody else has made.
pub async fn login_over<S>(options: &Login, stream: S) -> Result<Session>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut session = shake_hands(options, Trusted::load(options).await?, stream).await?;
    authenticate(&mut session.ssh, options).await?;
    Ok(session)
}

/// The key that a host shows, which nobody may believe yet. Nothing but the handshake is sent.
pub async fn shown_key(host: &str, port: u16, legacy: bool) -> Result<PublicKey> {
    let trust = Trust::Files(Vec::new());
    let nobody = Login { legacy, ..Login::new(host, port, "", trust, Timestamp::UNIX_EPOCH) };
    match connect(&nobody).await {
        Err(SshError::Identity(error)) => match *error {
            HostError::Unknown { key, .. } => Ok(*key),
            other => Err(SshError::Identity(Box::new(other))),
        },
        Err(error) => Err(error),
        Ok(_) => unreachable!("no file says that the host is known"),
    }
}

pub(crate) fn unreachable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SshError {
    SshError::Unreachable(cause.into())
}

pub(crate) fn denied(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SshError {
    SshError::Denied(cause.into())
}

async fn connect(options: &Login) -> Result<Session> {
    let trusted = Trusted::load(options).await?;
    let stream = TcpStream::connect((options.host.as_str(), options.port)).await.map_err(unreachable)?;
    // Small packets of a pipeline must not wait for each other.
    stream.set_nodelay(true).map_err(unreachable)?;
    shake_hands(options, trusted, stream).await
}

async fn shake_hands<S>(options: &Login, trusted: Trusted, stream: S) -> Result<Session>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
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
    let shown = Arc::new(Mutex::new(None));
    let doorkeeper = Doorkeeper {
        trusted,
        refusal: refusal.clone(),
        announced: announced.clone(),
        shown: shown.clone(),
        _alive: alive,
    };
    let connected = client::connect_stream(Arc::new(config), stream, doorkeeper).await;
    connected.map(|ssh| Session { ssh, end, announced, shown }).map_err(|error| {
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
        if let Trust::Files(files) | Trust::Any(files) = &options.trust {
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
        let (key, host_key_certificates) = (key.into(), certificates.into());
        let cipher = cipher::by_speed().into();
        let usual = Preferred { key, host_key_certificates, cipher, ..Preferred::DEFAULT };
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
            Trust::Files(_) | Trust::Any(_) => None,
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
            (Trust::Any(_), _) => None,
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
    shown: Arc<Mutex<Option<PublicKey>>>,
    /// Dropped with this, which the task of the connection owns.
    _alive: watch::Sender<()>,
}

impl client::Handler for Doorkeeper {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> std::result::Result<bool, russh::Error> {
        let refusal = self.trusted.refusal(shown);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown.public_key());
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
