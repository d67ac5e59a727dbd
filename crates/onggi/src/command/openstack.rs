//! `onggi openstack`: what lies in a cloud and belongs to nothing any more.

use clap::Subcommand;
use onggi_engine::exit::Exit;
use onggi_source::openstack::Openstack;
use onggi_source::{Purpose, SourceConfig, SourceError};
use serde_json::json;

use crate::escape::escape_text;
use crate::failure::Failure;
use crate::figure::Table;
use crate::member;
use crate::session::Session;

/// Looks after what onggi makes in clouds.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi openstack orphans\n  onggi openstack orphans --delete")]
pub struct Args {
    /// The source of kind openstack, where the configuration has several.
    #[arg(long, value_name = "SOURCE", global = true)]
    pub source: Option<String>,
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Orphans(Orphans),
}

/// Lists what runs that ended early left in the cloud, and snapshots whose image is gone.
///
/// The next backup settles most of it by itself. What is stored and stays in the cloud on purpose is none, nor is anything
/// that another program or person made.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi openstack orphans\n  onggi openstack orphans --delete")]
pub struct Orphans {
    /// Remove it.
    #[arg(long)]
    pub delete: bool,
}

/// Does it.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let Verb::Orphans(orphans) = args.verb;
    let source = open(args.source.as_deref(), session).await?;
    let cx = session.run(Purpose::Backup).context;
    let failed = |act: &str, error: &SourceError| Failure::new(Exit::from(error), act.to_owned()).chain(error);
    let found = source.orphans(&cx).await.map_err(|error| failed("look for orphans", &error))?;
    if orphans.delete && !found.is_empty() {
        session.consent("remove orphans", "Remove them from the cloud?").await?;
        // Volumes go before the snapshots that they were made of.
        for kind in ["image", "volume", "snapshot"] {
            for orphan in found.iter().filter(|orphan| orphan.kind == kind) {
                let removed = source.remove_orphan(&cx, orphan).await;
                removed.map_err(|error| failed(&format!("remove {kind} {}", orphan.id), &error))?;
            }
        }
    }
    let mut table = Table::new(&["Kind", "Id", "Name", "Project", "Why"]);
    for orphan in &found {
        let cells = [orphan.kind, &orphan.id, &orphan.name, &orphan.project, &orphan.why];
        table.row(cells.map(|cell| escape_text(cell).into_owned()).to_vec());
        if session.output.is_json() {
            session.output.json(json!({
                "message_type": "orphan", "kind": orphan.kind, "id": orphan.id, "name": orphan.name,
                "project": orphan.project, "why": orphan.why, "removed": orphans.delete,
            }));
        }
    }
    if !session.output.is_json() && !found.is_empty() {
        table.lines().iter().for_each(|line| session.output.data(line));
    }
    Ok(Exit::Done)
}

async fn open(wanted: Option<&str>, session: &Session) -> Result<Openstack, Failure> {
    let of_kind = |source: &SourceConfig| match source {
        SourceConfig::Openstack(config) => Some((**config).clone()),
        _ => None,
    };
    let (config, surroundings) = member::only_source(session, wanted, "openstack", of_kind).await?;
    Ok(Openstack::new(config, surroundings))
}
