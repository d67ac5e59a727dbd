//! `onggi openstack`: what lies in a cloud and belongs to nothing any more.

use std::collections::BTreeSet;

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
use crate::value::Span;

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
/// that another program or person made. What has only a name like ours is listed and never removed; what is removed is
/// looked at once more right before.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi openstack orphans\n  onggi openstack orphans --delete")]
pub struct Orphans {
    /// Remove what bears onggi's mark.
    #[arg(long)]
    pub delete: bool,
    /// Leave what is younger: it may still be in the making.
    #[arg(long, value_name = "DURATION", default_value = "1h", requires = "delete")]
    pub older_than: Span,
}

/// Does it.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let Verb::Orphans(orphans) = args.verb;
    let source = open(args.source.as_deref(), session).await?;
    let cx = session.run(Purpose::Backup).context;
    let failed = |act: &str, error: &SourceError| Failure::new(Exit::from(error), act.to_owned()).chain(error);
    let found = source.orphans(&cx).await.map_err(|error| failed("look for orphans", &error))?;
    let mut removed = BTreeSet::new();
    let grace = orphans.older_than.0;
    let is_any = found.iter().any(|orphan| orphan.is_removable(session.now(), grace));
    if orphans.delete && is_any {
        session.consent("remove orphans", "Remove them from the cloud?").await?;
        // Volumes go before the snapshots that they were made of.
        for kind in ["image", "volume", "snapshot"] {
            for orphan in found.iter().filter(|orphan| orphan.kind == kind) {
                let gone = source.remove_orphan(&cx, orphan, grace).await;
                if gone.map_err(|error| failed(&format!("remove {kind} {}", orphan.id), &error))? {
                    removed.insert(orphan.id.as_str());
                }
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
                "project": orphan.project, "why": orphan.why, "marked": orphan.is_marked,
                "created_at": orphan.made_at.map(|at| at.to_string()), "removed": removed.contains(orphan.id.as_str()),
            }));
        }
    }
    if !session.output.is_json() && !found.is_empty() {
        table.lines().iter().for_each(|line| session.output.data(line));
    }
    if orphans.delete && removed.len() < found.len() {
        let left = found.len() - removed.len();
        session.output.talk(format_args!("{left} left: younger than {} s, or without onggi's mark", grace.as_secs()));
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
