//! `onggi etcd pki`: certificates and keys of a control plane, out of a snapshot.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ValueHint;
use onggi_engine::exit::Exit;
use onggi_repo::lock::LockKind;
use onggi_source::etcd::{Placement, RestoreOptions};
use onggi_source::{Destination, RestoreRequest};

use crate::command::filter::Filter;
use crate::command::restore::source::{Wanted, open, restore_and_show};
use crate::failure::Failure;
use crate::query;
use crate::session::Session;
use crate::show::snapshot;

/// Brings back certificates and keys of a control plane, into a folder or to their places.
///
/// A snapshot has them if it was made on a control-plane node, or with `pki: always`. In the folder all files are their
/// owner's alone, each below the path that it had on the node. In place they have the modes and owners that they had.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi etcd pki latest --host prod --target /root/pki\n  \
    onggi etcd pki 4f1c09ab --in-place --dry-run")]
pub struct Pki {
    /// A snapshot: its id, `latest`, or `latest~1` for the one before.
    #[arg(value_name = "SNAPSHOT", default_value = "latest")]
    pub snapshot: OsString,
    /// A new or an empty folder.
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath, required_unless_present = "in_place")]
    pub target: Option<PathBuf>,
    /// To their places on this node; what is there and differs is kept beside under a hidden name.
    #[arg(long, conflicts_with = "target")]
    pub in_place: bool,
    /// Check that keys belong to their certificates and these to their authorities.
    #[arg(long)]
    pub prove: bool,
    /// Show what would be done; write nothing.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub filter: Filter,
}

/// Restores them.
pub async fn run(args: Pki, session: &Session) -> Result<Exit, Failure> {
    let (which, path) = session.query_with_path(&args.snapshot)?;
    if !path.is_empty() {
        return Err(Failure::usage("restore certificates and keys").because("a path within the snapshot is not needed"));
    }
    let target = args.target.as_ref().map(|target| session.absolute(target)).transpose()?;
    if let Some(target) = &target {
        session.refuse_inside_repository("restore", target).await?;
    }
    let wanted = Wanted { shows_only: args.dry_run, proves: args.prove };
    let placement = if args.in_place { Placement::InPlace } else { Placement::Folder };
    session
        .with_own_end(LockKind::Reading, async |opened| {
            let (all, exit) = opened.snapshots(session).await?;
            let found = query::choose(&which, &all, &args.filter).map_err(|error| Failure::not_one(&error))?;
            session.output.talk(format_args!("restore from snapshot {}", snapshot::sentence(&found.0, &found.1)));
            let chained = open(session, opened, &all, found).await?;
            chained.must_be_of_etcd()?;
            let options = RestoreOptions { pki: Some(placement), target: target.clone(), ..RestoreOptions::default() };
            let request = RestoreRequest::new(chained.unit.clone(), Destination::Beside, &options);
            Ok(exit.and(restore_and_show(session, &chained, &request, wanted).await?))
        })
        .await
}
