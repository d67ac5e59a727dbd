//! `onggi repository key`: the passwords that open a repository.

use std::path::PathBuf;

use clap::Subcommand;
use onggi_engine::exit::Exit;
use onggi_repo::RemoveKey;
use onggi_repo::format::{KdfCost, KeyId};
use onggi_repo::lock::LockKind;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::escape::escape_text;
use crate::failure::Failure;
use crate::figure::Table;
use crate::session::{Opened, Session};
use crate::show::node::moment;
use crate::watcher::show_problem;

/// Lists, adds, removes and changes the passwords that open the repository.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  onggi repository key list\n  onggi repository key add --new-password-file second.key"
)]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Lists the keys.
    #[command(after_help = "Example:\n  onggi repository key list")]
    List,
    /// Lets one more password open the repository.
    #[command(after_help = "Example:\n  onggi repository key add --new-password-file second.key")]
    Add(NewPassword),
    /// Removes a key; its password opens the repository no more.
    #[command(after_help = "Example:\n  onggi repository key remove 4f1c09ab")]
    Remove {
        /// Its id, or the beginning of it.
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Changes the password that opens the repository now.
    #[command(after_help = "Example:\n  onggi repository key passwd --new-password-file new.key")]
    Passwd(NewPassword),
}

/// A new password.
#[derive(Debug, clap::Args)]
pub struct NewPassword {
    /// File whose first line is the new password [default: ask].
    #[arg(long, value_name = "FILE")]
    pub new_password_file: Option<PathBuf>,
}

/// Does it.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    match args.verb {
        Verb::List => session.with(LockKind::Reading, async |opened| list(opened, session).await).await,
        Verb::Add(new) => {
            let password = new_password(&new, session).await?;
            session.with(LockKind::Shared, async |opened| add(opened, session, &password).await).await
        }
        Verb::Remove { key } => {
            session.with(LockKind::Exclusive, async |opened| remove(opened, session, &key).await).await
        }
        Verb::Passwd(new) => {
            let password = new_password(&new, session).await?;
            session.with(LockKind::Exclusive, async |opened| change(opened, session, &password).await).await
        }
    }
}

async fn new_password(new: &NewPassword, session: &Session) -> Result<SecretString, Failure> {
    session.new_password(new.new_password_file.as_deref()).await
}

async fn list(opened: &Opened, session: &Session) -> Result<Exit, Failure> {
    let keys = opened.repo.keys().await.map_err(|error| Failure::repository("list keys", &error))?;
    let output = &session.output;
    for problem in &keys.problems {
        show_problem(output, &problem.clone().into(), "list");
    }
    if output.is_json() {
        let documents = keys.found.iter().map(|key| {
            json!({
                "current": key.is_current,
                "id": key.id.short(),
                "userName": key.username,
                "hostName": key.hostname,
                "created": key.created.to_string(),
                "key_id": key.id.to_string(),
            })
        });
        output.json(Value::Array(documents.collect()));
    } else {
        let mut table = Table::new(&["ID", "Created", "User", "Host", ""]);
        for key in &keys.found {
            let used = if key.is_current { "in use" } else { "" };
            let (user, host) = (escape_text(&key.username), escape_text(&key.hostname));
            table.row(vec![key.id.short(), moment(key.created), user.into_owned(), host.into_owned(), used.to_owned()]);
        }
        table.lines().iter().for_each(|line| output.data(line));
    }
    Ok(if keys.problems.is_empty() { Exit::Done } else { Exit::Damaged })
}

async fn add(opened: &Opened, session: &Session, password: &SecretString) -> Result<Exit, Failure> {
    let added = opened.repo.add_key(password, KdfCost::STANDARD).await;
    let id = added.map_err(|error| Failure::repository("add a key", &error))?;
    told(session, "added", id);
    Ok(Exit::Done)
}

async fn remove(opened: &Opened, session: &Session, start: &str) -> Result<Exit, Failure> {
    let act = || format!("remove key {start}");
    let keys = opened.repo.keys().await.map_err(|error| Failure::repository("list keys", &error))?;
    let fitting: Vec<KeyId> = keys
        .found
        .iter()
        .map(|key| key.id)
        .filter(|id| !start.is_empty() && id.to_string().starts_with(start))
        .collect();
    let &[id] = fitting.as_slice() else {
        let cause = if fitting.is_empty() { "there is no such key" } else { "several keys begin like that" };
        return Err(Failure::new(Exit::Failed, act()).because(cause).hint("onggi repository key list"));
    };
    session.consent(&act(), &format!("Remove key {}? Its password opens the repository no more.", id.short())).await?;
    let removed = opened.repo.remove_key(id, RemoveKey::Other, &opened.lock).await;
    removed.map_err(|error| Failure::repository(act(), &error))?;
    told(session, "removed", id);
    Ok(Exit::Done)
}

async fn change(opened: &Opened, session: &Session, password: &SecretString) -> Result<Exit, Failure> {
    let changed = opened.repo.change_password(password, KdfCost::STANDARD, &opened.lock).await;
    let id = changed.map_err(|error| Failure::repository("change the password", &error))?;
    told(session, "changed", id);
    Ok(Exit::Done)
}

fn told(session: &Session, what: &str, id: KeyId) {
    if session.output.is_json() {
        session.output.json(json!({"message_type": what, "id": id.to_string()}));
    } else {
        session.output.talk(format_args!("key {} {what}", id.short()));
    }
}
