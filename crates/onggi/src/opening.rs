//! From the command line to an open repository: which one, with which password, over which storage.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use futures::TryStreamExt as _;
use onggi_engine::exit::Exit;
use onggi_repo::format::KeyId;
use onggi_repo::{OpenOptions, RepoError, Repository};
use onggi_storage::limit::{Limits, Rate, RatePlan};
use onggi_storage::location::Location;
use onggi_storage::stack::{Access, CacheOptions, Stack, StackOptions};
use onggi_storage::FileType;
use secrecy::SecretString;

use crate::ask;
use crate::cli::Globals;
use crate::escape::escape_prose;
use crate::failure::Failure;
use crate::machine::Machine;

/// Bytes that the cache of one repository may take.
const CACHE_MAX: u64 = 10 << 30;
/// A password is not longer; a longer file is something else.
const PASSWORD_MAX: u64 = 64 << 10;

/// Which repository, and what opens it.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where it is.
    pub location: Location,
    /// It is the one that is used without any flag.
    pub is_default: bool,
}

/// Where a password comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// The content of a file that only its owner can read.
    File(PathBuf),
    /// What a command prints.
    Command(String),
    /// A variable of the environment.
    Variable(&'static str),
    /// A person.
    Terminal,
}

/// The repository that the command line, the environment or the user's habit names.
pub fn place(globals: &Globals, machine: &Machine) -> Result<Place, Failure> {
    let named = globals.repo.as_deref().or_else(|| machine.variable(&["ONGGI_REPOSITORY", "RESTIC_REPOSITORY"]));
    let Some(text) = named else {
        return Ok(Place { location: Location::Local(machine.default_repository()), is_default: true });
    };
    let location = location(text, machine)?;
    let is_default = location == Location::Local(machine.default_repository());
    Ok(Place { location, is_default })
}

/// Reads an address; a relative folder becomes an absolute one.
pub fn location(text: &str, machine: &Machine) -> Result<Location, Failure> {
    let refusal = |error| Failure::usage(format!("read the address {}", escape_prose(text))).because(error);
    match Location::parse(text).map_err(refusal)? {
        Location::Local(path) => Ok(Location::Local(machine.absolute(&path))),
        other => Ok(other),
    }
}

/// Where the password of a repository comes from.
pub fn password_source(globals: &Globals, machine: &Machine, is_default: bool) -> PasswordSource {
    let file = |path: &str| PasswordSource::File(machine.absolute(Path::new(path)));
    if let Some(path) = &globals.password_file {
        return PasswordSource::File(machine.absolute(path));
    }
    if let Some(command) = &globals.password_command {
        return PasswordSource::Command(command.clone());
    }
    if let Some(path) = machine.variable(&["ONGGI_PASSWORD_FILE", "RESTIC_PASSWORD_FILE"]) {
        return file(path);
    }
    if let Some(command) = machine.variable(&["ONGGI_PASSWORD_COMMAND", "RESTIC_PASSWORD_COMMAND"]) {
        return PasswordSource::Command(command.to_owned());
    }
    for name in ["ONGGI_PASSWORD", "RESTIC_PASSWORD"] {
        if machine.variables.contains_key(name) {
            return PasswordSource::Variable(name);
        }
    }
    let usual = machine.default_password_file();
    if is_default && usual.exists() { PasswordSource::File(usual) } else { PasswordSource::Terminal }
}

/// Reads a password where it lies.
pub async fn password(source: &PasswordSource, machine: &Machine, question: &str) -> Result<SecretString, Failure> {
    let secret = match source {
        PasswordSource::File(path) => password_file(path)?,
        PasswordSource::Command(command) => password_command(command).await?,
        PasswordSource::Variable(name) => machine.variable(&[name]).unwrap_or_default().to_owned().into(),
        PasswordSource::Terminal => return asked(question).await,
    };
    refuse_empty(secret)
}

/// A password is never empty: restic's empty ones are for those who say so there.
fn refuse_empty(secret: SecretString) -> Result<SecretString, Failure> {
    use secrecy::ExposeSecret as _;
    if secret.expose_secret().is_empty() {
        return Err(Failure::usage("read the password").because("it is empty"));
    }
    Ok(secret)
}

/// The content of a file without white space around it, as restic takes it.
pub fn password_file(path: &Path) -> Result<SecretString, Failure> {
    let act = || format!("read the password file {}", path.display());
    let wrong = |error: &std::io::Error| Failure::usage(act()).because(error);
    let meta = std::fs::metadata(path).map_err(|error| wrong(&error))?;
    let mode = meta.permissions().mode() & 0o777;
    if meta.is_file() && mode & 0o077 != 0 {
        return Err(Failure::usage(act())
            .because(format!("its mode is {mode:04o}: others can read it"))
            .hint(format!("chmod 600 {}", path.display())));
    }
    if meta.len() > PASSWORD_MAX {
        return Err(Failure::usage(act()).because("it is too long for a password"));
    }
    let content = zeroize::Zeroizing::new(std::fs::read(path).map_err(|error| wrong(&error))?);
    let text = std::str::from_utf8(&content).map_err(|_| Failure::usage(act()).because("it is not text"))?;
    Ok(text.trim().to_owned().into())
}

/// What a command prints. It is started without a shell, its words split at blanks.
async fn password_command(command: &str) -> Result<SecretString, Failure> {
    let act = || "run the password command".to_owned();
    let mut words = command.split_ascii_whitespace();
    let program = words.next().ok_or_else(|| Failure::usage(act()).because("it is empty"))?;
    let output = tokio::process::Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .await
        .map_err(|error| Failure::usage(act()).because(format!("{program}: {error}")))?;
    let content = zeroize::Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(Failure::usage(act()).because(format!("{program}: {}", output.status)));
    }
    let text = std::str::from_utf8(&content).map_err(|_| Failure::usage(act()).because("it printed no text"))?;
    Ok(text.trim().to_owned().into())
}

/// Asks a person.
pub async fn asked(question: &str) -> Result<SecretString, Failure> {
    if !ask::can_ask() {
        return Err(Failure::usage("read the password")
            .because("none is given, and there is no terminal to ask at")
            .hint("say --password-file FILE, or set ONGGI_PASSWORD_FILE"));
    }
    let secret = ask::password(question).await.map_err(|error| Failure::local("ask for the password", &error))?;
    let secret = secret.ok_or_else(|| Failure::usage("ask for the password").because("there was no answer"))?;
    refuse_empty(secret)
}

/// Connects to the storage of a repository.
pub async fn stack(location: &Location, globals: &Globals, machine: &Machine) -> Result<Stack, Failure> {
    let plan = |own: Option<crate::value::Rate>| {
        let rate = own.or(globals.limit_rate).map_or(Rate::Unlimited, |rate| Rate::BytesPerSecond(rate.0));
        RatePlan::constant(rate)
    };
    let mut options = StackOptions::new(machine.clock());
    options.limits = Limits { up: plan(globals.limit_upload), down: plan(globals.limit_download), connections: None };
    options.access = access(machine);
    let root = globals.cache_dir.clone().unwrap_or_else(|| machine.cache_folder());
    options.cache = (!globals.no_cache).then(|| CacheOptions { root: machine.absolute(&root), bytes_max: CACHE_MAX });
    Stack::open(location, options).await.map_err(|error| {
        Failure::repository(format!("open storage {location}"), &RepoError::Storage("connect".to_owned(), error))
    })
}

/// What the environment and the home of the user say about entering storages.
fn access(machine: &Machine) -> Access {
    let mut access = Access::default();
    #[cfg(feature = "s3")]
    {
        let key = machine.variable(&["AWS_ACCESS_KEY_ID"]).zip(machine.variable(&["AWS_SECRET_ACCESS_KEY"]));
        access.s3.credentials = key.map(|(name, secret)| onggi_storage::s3::S3Credentials {
            access_key: name.to_owned(),
            secret_key: secret.to_owned().into(),
            session_token: machine.variable(&["AWS_SESSION_TOKEN"]).map(|token| token.to_owned().into()),
        });
        access.s3.region = machine.variable(&["AWS_REGION", "AWS_DEFAULT_REGION"]).map(str::to_owned);
        access.s3.proxy = machine.variable(&["HTTPS_PROXY", "https_proxy"]).map(str::to_owned);
    }
    #[cfg(feature = "sftp")]
    {
        let ssh = machine.home().join(".ssh");
        let keys = ["id_ed25519", "id_ecdsa", "id_rsa"].map(|name| ssh.join(name));
        access.sftp.user = Some(machine.host.username.clone());
        access.sftp.identity_files = keys.into_iter().filter(|path| path.exists()).collect();
        access.sftp.agent = machine.variable(&["SSH_AUTH_SOCK"]).map(PathBuf::from);
        let known = [ssh.join("known_hosts"), PathBuf::from("/etc/ssh/ssh_known_hosts")];
        access.sftp.known_hosts = known.into_iter().filter(|path| path.exists()).collect();
    }
    access
}

/// Opens a repository over its storage.
pub async fn repository(
    place: &Place,
    stack: &Stack,
    password: &SecretString,
    globals: &Globals,
    machine: &Machine,
) -> Result<Repository, Failure> {
    let act = || format!("open repository {}", place.location);
    let failed = |error: &RepoError| {
        let failure = Failure::repository(act(), error);
        if failure.exit() == Exit::NoRepository && place.is_default {
            return Failure::new(Exit::NoRepository, act()).because("there is none yet").hint("onggi init");
        }
        failure
    };
    let key_hint = match &globals.key_hint {
        Some(start) => Some(key_of(stack, start).await.map_err(|error| failed(&error))?),
        None => None,
    };
    let options = OpenOptions { key_hint: key_hint.flatten(), fresh: Some(stack.uncached()) };
    let opened = Repository::open(stack.storage(), password, options, machine.environment()).await;
    let repo = opened.map_err(|error| failed(&error))?;
    stack.identify(onggi_storage::FileId(repo.id().0));
    Ok(repo)
}

/// The key whose id begins like this, if there is just one.
async fn key_of(stack: &Stack, start: &str) -> Result<Option<KeyId>, RepoError> {
    let storage = stack.uncached();
    let listed: Vec<_> = storage
        .list(FileType::Key)
        .try_collect()
        .await
        .map_err(|error| RepoError::Storage("list keys".to_owned(), error))?;
    let ids = listed.iter().filter_map(|file| file.handle.id()).map(KeyId::from);
    let fitting: Vec<KeyId> = ids.filter(|id| id.to_string().starts_with(start)).collect();
    Ok(if let [one] = fitting.as_slice() { Some(*one) } else { None })
}
