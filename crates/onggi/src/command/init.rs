//! `onggi init`: a new repository, and a password that will not be lost.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use onggi_engine::config::value::{SecretReference, is_name};
use onggi_engine::exit::Exit;
use onggi_repo::format::{KdfCost, Polynomial};
use onggi_repo::{NewRepository, RepoError, Repository};
use onggi_storage::clock::random_below;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use crate::ask;
use crate::failure::Failure;
use crate::opening::{self, PasswordSource, Place};
use crate::recovery;
use crate::session::Session;

/// Creates a repository.
///
/// Without arguments a local one, with a generated password in a file of its own and a recovery sheet: the same password
/// as twelve words, to be printed and kept elsewhere. A lost password is a lost backup, so one word is asked back.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi init\n  onggi init /srv/backup --password-file /etc/onggi/backup.key\n  \
    onggi init offsite --chunker-from main")]
pub struct Args {
    /// Where: an address, or a name under `repositories:` [default: -r, else a place of this user's].
    #[arg(value_name = "REPO")]
    pub place: Option<String>,
    /// Cut contents as this repository does, so that later copies between both share data.
    #[arg(long, value_name = "REPO")]
    pub chunker_from: Option<String>,
    /// File with the password of that repository.
    #[arg(long, value_name = "FILE", requires = "chunker_from", alias = "from-password-file")]
    pub chunker_password_file: Option<PathBuf>,
}

/// How often a wrong word may be typed.
const TRIES: usize = 3;

/// A password and the file that holds it.
struct Password {
    secret: SecretString,
    file: Option<PathBuf>,
    is_generated: bool,
}

/// Creates it.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let place = match &args.place {
        Some(text) => session.place_at(Some(text)).await?,
        None => session.place().await?.clone(),
    };
    let act = || format!("create repository {}", place.location);
    let chunker_from = match &args.chunker_from {
        Some(other) => Some(other.clone()),
        None => configured_chunker(&args, session).await?,
    };
    let polynomial = match chunker_from {
        Some(other) => Some(polynomial_of(&other, &args, session).await?),
        None => None,
    };
    let stack = session.stack_at(&place).await?;
    let password = password(&place, session).await?;
    let new = NewRepository { polynomial, kdf: KdfCost::STANDARD };
    let created = Repository::create(stack.storage(), &password.secret, new, session.machine.environment()).await;
    let repo = created.map_err(|error| {
        if password.is_generated {
            // Made a moment ago for nothing: without the repository it opens nothing.
            let _ = password.file.as_ref().map(std::fs::remove_file);
        }
        not_created(act(), &error)
    })?;
    show(&repo, &place, &password, session);
    let exit = if password.is_generated && !session.globals.yes && ask::can_ask() && !session.output.is_json() {
        ask_back(&password, session).await?
    } else {
        Exit::Done
    };
    session.output.suggest("onggi backup ~/Documents");
    Ok(exit)
}

fn not_created(act: String, error: &RepoError) -> Failure {
    match error {
        RepoError::AlreadyExists(_) => Failure::new(Exit::Failed, act)
            .because(error)
            .hint("use it as it is (`onggi snapshots`), or choose another place"),
        error => Failure::repository(act, error),
    }
}

/// The repository that the configuration names as `chunker-from` of the new one.
async fn configured_chunker(args: &Args, session: &Session) -> Result<Option<String>, Failure> {
    let named = args.place.as_deref().or(session.globals.repo.as_deref()).filter(|text| is_name(text));
    let Some(name) = named else { return Ok(None) };
    Ok(session.config().await?.and_then(|config| config.repositories.get(name)?.chunker_from.clone()))
}

async fn polynomial_of(other: &str, args: &Args, session: &Session) -> Result<Polynomial, Failure> {
    let place = session.place_at(Some(other)).await?;
    let source = match &args.chunker_password_file {
        Some(path) => PasswordSource::file(&session.machine.absolute(path)),
        None => opening::password_source(&session.globals, &session.machine, &place),
    };
    let repo = session.open_place(&place, &source).await?;
    Ok(repo.config().polynomial)
}

/// The password that is given; for the usual place one that is generated and kept in the usual file.
async fn password(place: &Place, session: &Session) -> Result<Password, Failure> {
    let machine = &session.machine;
    let usual = machine.default_password_file();
    match opening::password_source(&session.globals, machine, place) {
        PasswordSource::Terminal if place.is_default => {
            let secret = generate(session);
            write_private(&usual, &secret)?;
            Ok(Password { secret, file: Some(usual), is_generated: true })
        }
        PasswordSource::Terminal => {
            let secret = session.new_password(None).await?;
            Ok(Password { secret, file: None, is_generated: false })
        }
        source @ PasswordSource::Reference(_) => {
            let secret = opening::password(&source, machine, "").await?;
            let file = match source {
                PasswordSource::Reference(SecretReference::File(path)) => Some(PathBuf::from(path)),
                PasswordSource::Reference(_) | PasswordSource::Terminal => None,
            };
            Ok(Password { secret, file, is_generated: false })
        }
    }
}

fn generate(session: &Session) -> SecretString {
    let mut random = zeroize::Zeroizing::new([0; recovery::RANDOM_BYTES]);
    session.machine.clock().fill_random(&mut *random);
    recovery::password(&random)
}

/// Writes a file that only its owner can read; one that is there stays as it is.
fn write_private(path: &Path, secret: &SecretString) -> Result<(), Failure> {
    let act = || format!("write the password file {}", path.display());
    let failed = |error: std::io::Error| Failure::local(act(), &error);
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    writeln!(file, "{}", secret.expose_secret()).and_then(|()| file.sync_all()).map_err(failed)?;
    let folder = path.parent().map(std::fs::File::open).transpose().map_err(failed)?;
    folder.map_or(Ok(()), |folder| folder.sync_all()).map_err(failed)
}

fn show(repo: &Repository, place: &Place, password: &Password, session: &Session) {
    let output = &session.output;
    if output.is_json() {
        output.json(json!({
            "message_type": "initialized",
            "id": repo.id().to_string(),
            "repository": place.location.to_string(),
            "password_file": password.file,
        }));
        return;
    }
    output.data(format_args!("created repository   {}", session.machine.shown(&place.location.to_string())));
    if let Some(file) = &password.file {
        let how = if password.is_generated { "      (generated, mode 0600)" } else { "" };
        output.data(format_args!("password file        {}{how}", session.machine.shown(&file.display().to_string())));
    }
    if !password.is_generated {
        return;
    }
    if output.style().data_on_terminal {
        let words = password.secret.expose_secret();
        output.data("RECOVERY SHEET       print this, keep it elsewhere: without it nothing can be restored");
        output.data(format_args!("                     {words}"));
        output.data("                     (the same password as 12 words, joined by -)");
    } else {
        // What is not a terminal may be a log, where a password must not lie.
        output.data(
            "RECOVERY SHEET       print the password file, keep it elsewhere: without it nothing can be restored",
        );
    }
}

/// A lost password is the commonest total loss: whoever has the sheet can tell one of its words.
async fn ask_back(password: &Password, session: &Session) -> Result<Exit, Failure> {
    let number = 1 + random_below(&*session.machine.clock(), recovery::WORDS as u64) as usize;
    let question = format!("type word {number} of the sheet: ");
    for _ in 0..TRIES {
        let answer = tokio::select! {
            answer = ask::line(&question) => answer,
            exit = session.interrupt.asked() => return Ok(exit),
        };
        match answer.map_err(|error| Failure::local("ask for a word of the sheet", &error))? {
            Some(answer) if recovery::knows_word(&password.secret, number, &answer) => {
                session.output.talk("the sheet is right");
                return Ok(Exit::Done);
            }
            Some(_) => session.output.talk("that is another word"),
            None => break,
        }
    }
    let file = password.file.as_deref().unwrap_or(Path::new("")).display();
    session.output.say(format_args!("problem: the recovery sheet was not confirmed; print it again: cat {file}"));
    Ok(Exit::Partial)
}
