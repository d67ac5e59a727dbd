//! Who we are: keys, certificates, agent and password, offered in this order until the other side lets us in.

use crate::error::{LoginError, SshError, fingerprint};
use crate::login::{Doorkeeper, Login, denied, unreachable};
use russh::{
    MethodKind,
    client::{AuthResult, Handle, KeyboardInteractiveAuthResponse},
    keys::{
        Algorithm, Certificate, PrivateKey, PrivateKeyWithHashAlg,
        agent::{AgentIdentity, client::AgentClient},
    },
};
use secrecy::ExposeSecret;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixStream;

/// Servers close the connection after a few tries (6 in OpenSSH); the files and the password need some of them.
const AGENT_KEYS_MAX: usize = 4;
/// Questions of a login dialog that are answered.
const DIALOG_ROUNDS_MAX: usize = 4;
/// Bytes of a certificate's file; those of OpenSSH have about 2000.
const CERTIFICATE_BYTES_MAX: u64 = 64 << 10;

type Result<T> = std::result::Result<T, SshError>;

/// A private key that is at hand as text, in any of the usual forms, without a passphrase.
pub fn private_key(text: &str) -> Result<PrivateKey> {
    russh::keys::decode_secret_key(text, None).map_err(denied)
}

pub(crate) async fn authenticate(session: &mut Handle<Doorkeeper>, options: &Login) -> Result<()> {
    let mut offered = Vec::new();
    if offer_keys(session, options, &mut offered).await?
        || offer_files(session, options, &mut offered).await?
        || offer_agent(session, options, &mut offered).await?
        || offer_password(session, options, &mut offered).await?
    {
        return Ok(());
    }
    let offered = if offered.is_empty() { "no key, agent or password is given".into() } else { offered.join(", ") };
    Err(denied(LoginError { user: options.user.clone(), host: options.shown(), offered }))
}

async fn offer_keys(session: &mut Handle<Doorkeeper>, options: &Login, offered: &mut Vec<String>) -> Result<bool> {
    for key in &options.keys {
        offered.push(format!("key {}", fingerprint(key.public_key())));
        let hash = rsa_hash(session, &key.algorithm()).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::clone(key), hash);
        let answer = session.authenticate_publickey(&options.user, key).await;
        if is_success(&answer, options, offered)? {
            return Ok(true);
        }
    }
    Ok(false)
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
