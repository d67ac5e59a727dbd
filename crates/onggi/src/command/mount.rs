//! `onggi mount`: snapshots as a read-only file system.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueHint;
use onggi_engine::exit::Exit;
use onggi_repo::format::{Snapshot, SnapshotId};
use onggi_repo::lock::LockKind;

use super::filter::Filter;
use crate::failure::Failure;
use crate::figure;
use crate::mount::{Audience, Catalog, Mount, Select};
use crate::session::{Opened, Session};

/// Mounts the snapshots as a read-only file system, until Control-C.
///
/// Below DIR: `snapshots/` by time with `latest`, and the same below `hosts/` and `tags/`; `ids/` by id. New snapshots
/// appear by themselves.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi mount /mnt/backup\n  onggi mount ./snapshots --host web-1")]
pub struct Args {
    /// An empty folder.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub folder: PathBuf,
    /// Let other users look in too, as far as the stored modes allow.
    #[arg(long)]
    pub allow_other: bool,
    #[command(flatten)]
    pub filter: Filter,
}

/// How often to look whether somebody else unmounted it.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Mounts them and waits.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let place = args.folder.display();
    let is_usable = std::fs::read_dir(&args.folder)
        .map_err(|error| Failure::usage(format!("mount at {place}")).because(error).hint(format!("mkdir -p {place}")))?
        .next()
        .is_none();
    if !is_usable {
        return Err(Failure::usage(format!("mount at {place}"))
            .because("the folder is not empty")
            .hint("choose an empty one; what is in it would be hidden"));
    }
    session.with_own_end(LockKind::Reading, async |opened| mount(&args, session, opened).await).await
}

async fn mount(args: &Args, session: &Session, opened: &Opened) -> Result<Exit, Failure> {
    let (all, exit) = opened.snapshots(session).await?;
    let filter = args.filter.clone();
    let select: Select = Arc::new(move |_: &SnapshotId, snapshot: &Snapshot| filter.takes(snapshot));
    let catalog = Catalog::new(&all, &select);
    let count = figure::counted(catalog.len() as u64, "snapshot", "snapshots");
    let audience = if args.allow_other { Audience::Everybody } else { Audience::Owner };
    let mount = Mount::open(opened.repo.clone(), select, catalog, &args.folder, audience)
        .map_err(|error| refusal(args, &error))?;
    session.output.talk(format_args!("{count} mounted at {}; Control-C unmounts", args.folder.display()));
    let asked = wait(session, &mount).await;
    if !mount.is_gone() {
        mount.close().map_err(|error| {
            Failure::local(format!("unmount {}", args.folder.display()), &error)
                .hint(format!("close what uses it, then: umount {}", args.folder.display()))
        })?;
    }
    session.output.talk("unmounted");
    Ok(asked.filter(|exit| *exit == Exit::Terminated).unwrap_or(exit))
}

/// Until the operator ends it, or somebody unmounts it. Control-C is the way to end a mount, so it is no failure.
async fn wait(session: &Session, mount: &Mount) -> Option<Exit> {
    loop {
        tokio::select! {
            exit = session.interrupt.asked() => return Some(exit),
            () = tokio::time::sleep(LOOK_EVERY) => if mount.is_gone() { return None },
        }
    }
}

fn refusal(args: &Args, error: &io::Error) -> Failure {
    let failure = Failure::local(format!("mount at {}", args.folder.display()), error);
    match error.kind() {
        io::ErrorKind::NotFound => {
            failure.hint("install fuse3 (it brings fusermount3), and check that /dev/fuse is there")
        }
        io::ErrorKind::PermissionDenied => failure.hint("mount as root, or install fuse3 (it brings fusermount3)"),
        _ => failure,
    }
}
