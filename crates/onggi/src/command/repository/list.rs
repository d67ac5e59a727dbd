//! `onggi repository list`: which repositories the configuration names.

use onggi_engine::config::StoragePlace;
use onggi_engine::exit::Exit;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::figure::Table;
use crate::session::Session;

/// Lists the repositories that the configuration names, and the one that is used without -r.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  onggi repository list")]
pub struct Args {}

/// Lists them; opens none.
pub async fn run(_args: Args, session: &Session) -> Result<Exit, Failure> {
    let mut rows = Vec::new();
    if let Some(config) = session.config().await? {
        for (name, repository) in &config.repositories {
            let storage = config.storages.get(&repository.storage);
            let kind = storage.map_or("", |storage| match storage.place {
                StoragePlace::Local { .. } => "local",
                StoragePlace::S3(_) => "s3",
                StoragePlace::Sftp(_) => "sftp",
            });
            let place = session.place_at(Some(name)).await?;
            rows.push((name.clone(), kind, place.location.to_string()));
        }
    }
    let usual = session.machine.default_repository();
    if rows.is_empty() && usual.exists() {
        rows.push((String::new(), "local", usual.display().to_string()));
    }
    let output = &session.output;
    if output.is_json() {
        let documents = rows.iter().map(|(name, kind, place)| json!({"name": name, "kind": kind, "repository": place}));
        output.json(Value::Array(documents.collect()));
    } else if rows.is_empty() {
        output.talk("no repository yet");
        output.suggest("onggi init");
    } else {
        let mut table = Table::new(&["Name", "Kind", "Address"]);
        for (name, kind, place) in rows {
            table.row(vec![name, kind.to_owned(), place]);
        }
        table.lines().iter().for_each(|line| output.data(line));
    }
    Ok(Exit::Done)
}
