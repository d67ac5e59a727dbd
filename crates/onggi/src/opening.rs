//! From the command line to an open repository: which one, with which password, over which storage.

use std::path::Path;

use futures::TryStreamExt as _;
use onggi_engine::config::Config;
use onggi_engine::config::value::SecretReference;
use onggi_engine::edge::fetch;
use onggi_engine::exit::Exit;
use onggi_repo::format::KeyId;
use onggi_repo::{OpenOptions, RepoError, Repository};
use onggi_storage::FileType;
use onggi_storage::limit::{Limits, Rate, RatePlan};
use onggi_storage::location::Location;
use onggi_storage::stack::{Access, CacheOptions, Stack, StackOptions};
use secrecy::{ExposeSecret as _, SecretString};

use crate::ask;
use crate::cli::Globals;
use crate::escape::escape_prose;
use crate::failure::Failure;
use crate::machine::Machine;

/// Bytes that the cache of one repository may take.
const CACHE_MAX: u64 = 10 << 30;

/// Which repository, and what the configuration says of it.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where it is.
    pub location: Location,
    /// It is the one that is used without any flag.
    pub is_default: bool,
    /// What the configuration says, if it names it.
    pub configured: Option<Configured>,
}

/// What the configuration says of a repository.
#[derive(Debug, Clone)]
pub struct Configured {
    password: SecretReference,
    access: Access,
    limits: Limits,
}

/// Where a password comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// A file that only its owner can read, a command, a variable, a credential.
    Reference(SecretReference),
    /// A person.
    Terminal,
}

/// The repository that a text means: a name of the configuration, or an address. Without a text the one that the
/// configuration has, or that of this user.
pub async fn place(text: Option<&str>, config: Option<&Config>, machine: &Machine) -> Result<Place, Failure> {
    let is_named = |config: &&Config| match text {
        Some(text) => config.repositories.contains_key(text),
        None => !config.repositories.is_empty(),
    };
    if let Some(config) = config.filter(is_named) {
        let way = config.way(text, &machine.habits()).await;
        let way = way.map_err(|error| Failure::opening("choose the repository", &error))?;
        let configured = Configured { password: way.password.clone(), access: way.access, limits: way.limits };
        return Ok(Place { location: way.location, is_default: false, configured: Some(configured) });
    }
    let usual = Location::Local(machine.default_repository());
    let location = text.map_or(Ok(usual.clone()), |text| location(text, machine))?;
    Ok(Place { is_default: location == usual, location, configured: None })
}

/// Reads an address; a relative folder becomes an absolute one.
pub fn location(text: &str, machine: &Machine) -> Result<Location, Failure> {
    let refusal = |error| Failure::usage(format!("read the address {}", escape_prose(text))).because(error);
    match Location::parse(text).map_err(refusal)? {
        Location::Local(path) => Ok(Location::Local(machine.absolute(&path))),
        other => Ok(other),
    }
}

impl PasswordSource {
    /// The content of a file.
    pub fn file(path: &Path) -> Self {
        Self::Reference(SecretReference::File(path.display().to_string()))
    }
}

/// Where the password of a repository comes from: flags, then the environment, then the configuration, then the usual
/// file, then a person.
pub fn password_source(globals: &Globals, machine: &Machine, place: &Place) -> PasswordSource {
    let command = |text: &str| {
        PasswordSource::Reference(SecretReference::Command(text.split_ascii_whitespace().map(str::to_owned).collect()))
    };
    if let Some(path) = &globals.password_file {
        return PasswordSource::file(&machine.absolute(path));
    }
    if let Some(text) = &globals.password_command {
        return command(text);
    }
    if let Some(path) = machine.variable(&["ONGGI_PASSWORD_FILE", "RESTIC_PASSWORD_FILE"]) {
        return PasswordSource::file(&machine.absolute(Path::new(path)));
    }
    if let Some(text) = machine.variable(&["ONGGI_PASSWORD_COMMAND", "RESTIC_PASSWORD_COMMAND"]) {
        return command(text);
    }
    for name in ["ONGGI_PASSWORD", "RESTIC_PASSWORD"] {
        if machine.variables.contains_key(name) {
            return PasswordSource::Reference(SecretReference::Environment(name.to_owned()));
        }
    }
    if let Some(configured) = &place.configured {
        return PasswordSource::Reference(configured.password.clone());
    }
    let usual = machine.default_password_file();
    if place.is_default && usual.exists() { PasswordSource::file(&usual) } else { PasswordSource::Terminal }
}

/// Reads a password where it lies.
pub async fn password(source: &PasswordSource, machine: &Machine, question: &str) -> Result<SecretString, Failure> {
    match source {
        PasswordSource::Reference(reference) => fetch(reference, &machine.variables)
            .await
            .map_err(|error| Failure::usage("read the password").because(error)),
        PasswordSource::Terminal => asked(question).await,
    }
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
    if secret.expose_secret().is_empty() {
        return Err(Failure::usage("read the password").because("it is empty"));
    }
    Ok(secret)
}

/// Connects to the storage of a repository. Flags prevail over the configuration.
pub async fn stack(place: &Place, globals: &Globals, machine: &Machine) -> Result<Stack, Failure> {
    let mut options = StackOptions::new(machine.clock());
    match &place.configured {
        Some(configured) => (options.limits, options.access) = (configured.limits.clone(), configured.access.clone()),
        None => options.access = access(machine),
    }
    for (plan, own) in
        [(&mut options.limits.up, globals.limit_upload), (&mut options.limits.down, globals.limit_download)]
    {
        if let Some(rate) = own.or(globals.limit_rate) {
            *plan = RatePlan::constant(Rate::BytesPerSecond(rate.0));
        }
    }
    let root = globals.cache_dir.clone().unwrap_or_else(|| machine.cache_folder());
    options.cache = (!globals.no_cache).then(|| CacheOptions { root: machine.absolute(&root), bytes_max: CACHE_MAX });
    Stack::open(&place.location, options).await.map_err(|error| {
        Failure::repository(
            format!("open storage {}", place.location),
            &RepoError::Storage("connect".to_owned(), error),
        )
    })
}

/// What the environment and the home of the user say about entering storages.
#[cfg_attr(
    not(any(feature = "s3", feature = "sftp")),
    expect(unused_mut, unused_variables, reason = "a folder needs none")
)]
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
        access.sftp.agent = machine.variable(&["SSH_AUTH_SOCK"]).map(std::path::PathBuf::from);
        let known = [ssh.join("known_hosts"), std::path::PathBuf::from("/etc/ssh/ssh_known_hosts")];
        access.sftp.known_hosts = known.into_iter().filter(|path| path.exists()).collect();
    }
    access
}

/// Nobody is asked for the password of a repository that is not there.
pub async fn refuse_absent(place: &Place, stack: &Stack) -> Result<(), Failure> {
    let storage = stack.uncached();
    let is_absent = match storage.list(FileType::Key).try_next().await {
        Ok(first) => first.is_none(),
        Err(error) => error.is_not_found(),
    };
    if is_absent { Err(absent(place)) } else { Ok(()) }
}

fn absent(place: &Place) -> Failure {
    let failure = Failure::new(Exit::NoRepository, format!("open repository {}", place.location));
    if place.is_default {
        failure.because("there is none yet").hint("onggi init")
    } else {
        failure.because("there is no repository").hint("check -r; `onggi init` makes a new one there")
    }
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
        if failure.exit() == Exit::NoRepository { absent(place) } else { failure }
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
