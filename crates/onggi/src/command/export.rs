//! `onggi export`: snapshots in the form of another tool.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Subcommand, ValueHint};
use onggi_engine::exit::Exit;
use onggi_engine::restore::{ChainError, chain};
use onggi_repo::lock::LockKind;
use onggi_source::Purpose;
use onggi_source::bosh::native::{Misfits, export};
use serde_json::json;

use super::filter::Filter;
use crate::escape::escape_text;
use crate::failure::Failure;
use crate::query;
use crate::session::Session;
use crate::show::snapshot;

/// The kind whose snapshots hold artifacts.
const BOSH: &str = "bosh";

/// Writes a snapshot in the form of another tool.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi export bbr-artifact cf@latest /var/tmp")]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

/// In which form.
#[derive(Debug, Subcommand)]
pub enum Verb {
    BbrArtifact(BbrArtifact),
}

/// Writes a snapshot of kind bosh as an artifact directory that bbr restores.
///
/// The directory is made below DIR and named as bbr names it. Nothing in it is encrypted. Names with blanks, quotes or
/// backslashes, symbolic links and special files make bbr fail in the middle of a restore; they are refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi export bbr-artifact latest /var/tmp\n  \
    onggi export bbr-artifact cf@2026-11-20 /var/tmp --allow-lossy")]
pub struct BbrArtifact {
    /// Which snapshot.
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: OsString,
    /// The folder in which the directory is made.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub folder: PathBuf,
    /// Leave out what bbr cannot restore, and say what.
    #[arg(long)]
    pub allow_lossy: bool,
    #[command(flatten)]
    pub filter: Filter,
}

/// Exports.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    match args.verb {
        Verb::BbrArtifact(args) => bbr_artifact(&args, session).await,
    }
}

async fn bbr_artifact(args: &BbrArtifact, session: &Session) -> Result<Exit, Failure> {
    let (which, path) = session.query_with_path(&args.snapshot)?;
    if !path.is_empty() {
        return Err(Failure::usage("export an artifact directory").because("it holds a whole snapshot, not a path"));
    }
    let folder = session.absolute(&args.folder)?;
    session.refuse_inside_repository("export", &folder).await?;
    session
        .with_own_end(LockKind::Reading, async |opened| {
            let (all, exit) = opened.snapshots(session).await?;
            let found = query::choose(&which, &all, &args.filter).map_err(|error| Failure::not_one(&error))?;
            session.output.talk(format_args!("export snapshot {}", snapshot::sentence(&found.0, &found.1)));
            let act = || format!("export snapshot {}", found.0.short());
            let joined = chain(&opened.repo, &all, &found.0).await;
            let (tree, manifest) = joined.map_err(|error| match &error {
                ChainError::Unreadable(_, cause) => Failure::new(Exit::from(cause), act()).chain(&error),
                ChainError::Plain(_) | ChainError::Broken(_) => Failure::usage(act()).because(error),
            })?;
            if manifest.kind != BOSH {
                let text = format!("it is of kind {}, which has no artifacts", manifest.kind);
                return Err(Failure::usage(act()).because(escape_text(&text)));
            }
            let run = session.run(Purpose::Restore);
            let misfits = if args.allow_lossy { Misfits::LeftOut } else { Misfits::Refused };
            let written = export(&run.context, &tree, &folder, misfits).await;
            let written = written.map_err(|error| Failure::new(Exit::from(&error), act()).chain(&error))?;
            if session.output.is_json() {
                session.output.json(json!({ "message_type": "summary", "directory": written }));
            } else {
                session.output.data(format_args!("{}", escape_text(&written.display().to_string())));
            }
            Ok(exit)
        })
        .await
}
