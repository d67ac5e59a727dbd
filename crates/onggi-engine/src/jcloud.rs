//! What the JCloud script does, step by step, on its own files and names: images of servers, the newest of which stays in
//! the cloud, the others on a backup server, or in a repository instead.
//!
//! An image is removed from the cloud only when its file on the backup server was read back and hashes to what Glance has, or
//! its snapshot was read back. Of neither side anything is removed that is not named and made as the script does it.
#![expect(clippy::disallowed_methods, reason = "its list, its staging folder and its mount are this machine's files")]

mod env;
mod flow;
mod folder;
mod list;
mod shelf;
mod tree;

use std::io;
use std::path::PathBuf;

use onggi_source::openstack::jcloud::{ImageName, Project, ServerImage};
use onggi_source::openstack::kept;
use onggi_source::{Context, SourceError, Stop};
use onggi_storage::StorageError;
use onggi_storage::sftp::PlainFolder;
use serde_json::Value;

pub use self::env::Settings;
use self::folder::Folder;
use self::list::{Begun, JobList};
pub use self::shelf::{Shelf, surplus};
use crate::edge::{Rsync, RsyncError};
use crate::exit::Exit;

/// What happens, as it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The list was empty and has all servers now.
    Filled(usize),
    /// It is this server's turn.
    Server(String),
    /// The list has an id that the cloud does not know.
    Unknown(String),
    /// An image was begun, or had been by an earlier run.
    Begun(String),
    /// A file lies on the backup server, proved.
    Moved(String, u64),
    /// A file went from the backup server, because enough newer ones are there.
    Removed(String),
    /// An image went from the cloud.
    Deleted(String),
    /// An image cannot be moved yet.
    Unready(String),
    /// Something failed; the run goes on.
    Failed(String, String),
    /// The time is over, and so many are left.
    TimeOver(usize),
}

/// How a run went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Servers of which a capture was moved, each with how many of its captures are to stay.
    pub moved: Vec<(String, usize)>,
    /// Servers of which something failed.
    pub failed: usize,
    /// Servers on the list.
    pub left: usize,
}

/// Why a run ended.
#[derive(Debug, thiserror::Error)]
pub enum JcloudError {
    /// The list of jobs.
    #[error("use the list of jobs {0}")]
    List(PathBuf, #[source] io::Error),
    /// Somebody else has it.
    #[error("another onggi works on the list of jobs {0}")]
    Busy(PathBuf),
    /// The cloud.
    #[error("{0}")]
    Cloud(&'static str, #[source] SourceError),
}

impl JcloudError {
    /// Its exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::List(..) => Exit::Failed,
            Self::Busy(_) => Exit::Locked,
            Self::Cloud(_, error) => Exit::from(error),
        }
    }
}

/// Why one thing of one server failed.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Cloud(#[from] SourceError),
    #[error("backup server: {}", crate::chain(.0))]
    Remote(#[from] StorageError),
    #[error(transparent)]
    Local(#[from] io::Error),
    #[error("{0} on the backup server is not what was sent")]
    Differs(String),
    #[error("repository: {0}")]
    Store(String),
    #[error(transparent)]
    Rsync(RsyncError),
}

impl From<RsyncError> for Fault {
    fn from(error: RsyncError) -> Self {
        match error {
            RsyncError::Stopped(stop) => Self::Cloud(stop.into()),
            other => Self::Rsync(other),
        }
    }
}

impl Fault {
    /// Whether no other server will fare better.
    fn ends_all(self) -> Result<SourceError, Self> {
        match self {
            Self::Cloud(
                error @ (SourceError::Stopped(_)
                | SourceError::Denied(_)
                | SourceError::Configuration(_)
                | SourceError::Unreachable(_)),
            ) => Ok(error),
            other => Err(other),
        }
    }
}

/// Where captures are moved to.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// The folder on the backup server, as the script has it, and the rsync that sends files there, if not we.
    Folder(&'a PlainFolder, Option<&'a Rsync>),
    /// A repository.
    Repository(&'a Shelf<'a>),
}

/// One run.
pub struct Jcloud<'a> {
    /// What the script's file says.
    pub settings: &'a Settings,
    /// The project in the cloud.
    pub project: &'a Project,
    /// Where captures are moved to.
    pub to: Target<'a>,
    /// Hears what happens.
    pub tell: &'a (dyn Fn(Event) + Sync),
}

impl Jcloud<'_> {
    /// Does what is on the list; an empty one is filled first.
    pub async fn run(&self, cx: &Context) -> Result<Summary, JcloudError> {
        let path = &self.settings.joblist;
        let of_list = |error| JcloudError::List(path.clone(), error);
        let list = JobList::claim(path).map_err(of_list)?.ok_or_else(|| JcloudError::Busy(path.clone()))?;
        let began_at = cx.world.elapsed();
        let settled = self.project.settle(cx).await;
        settled.map_err(|error| JcloudError::Cloud("take away what an earlier run left", error))?;
        let mut jobs = list.read().map_err(of_list)?;
        if jobs.is_empty() {
            let servers = self.project.servers(cx).await;
            jobs = servers.map_err(|error| JcloudError::Cloud("list the servers", error))?;
            list.write(&jobs).map_err(of_list)?;
            (self.tell)(Event::Filled(jobs.len()));
        }
        let mut summary = Summary { left: jobs.len(), ..Summary::default() };
        for id in jobs {
            (self.tell)(Event::Server(id.clone()));
            let mut faults = Vec::new();
            if let Err(error) = self.server(cx, &list, &id, &mut faults, &mut summary.moved).await {
                match error.ends_all() {
                    Ok(SourceError::Stopped(Stop::TimeLimit)) => {
                        (self.tell)(Event::TimeOver(summary.left));
                        return Ok(summary);
                    }
                    Ok(error) => return Err(JcloudError::Cloud("work on a server", error)),
                    Err(fault) => faults.push((id.clone(), fault.to_string())),
                }
            }
            summary.failed += usize::from(!faults.is_empty());
            for (what, why) in faults {
                (self.tell)(Event::Failed(what, why));
            }
            list.strike(&id).map_err(of_list)?;
            summary.left -= 1;
            if summary.left > 0 && cx.world.elapsed().saturating_sub(began_at) >= self.settings.time_limit {
                (self.tell)(Event::TimeOver(summary.left));
                break;
            }
        }
        Ok(summary)
    }

    /// Begins an image, and moves the older ones.
    async fn server(
        &self,
        cx: &Context,
        list: &JobList,
        id: &str,
        faults: &mut Vec<(String, String)>,
        moved: &mut Vec<(String, usize)>,
    ) -> Result<(), Fault> {
        let Some(server) = self.project.server(cx, id).await? else {
            (self.tell)(Event::Unknown(id.to_owned()));
            return Ok(());
        };
        let keep = self.keep(id, &server, faults);
        let images = self.project.images(cx, &server).await?;
        let begun = match self.begin(cx, list, id, &images).await {
            Ok(image) => Some(image),
            Err(fault) => {
                match fault.ends_all() {
                    Ok(error) => return Err(error.into()),
                    Err(fault) => faults.push((id.to_owned(), fault.to_string())),
                }
                None
            }
        };
        let images = self.project.images(cx, &server).await?;
        if let Target::Folder(remote, rsync) = self.to {
            self.folder(remote, rsync).staged(cx, id, &images, faults).await?;
        }
        let mut older = images.iter().take(images.len().saturating_sub(1)).collect::<Vec<_>>();
        if self.settings.only_oldest {
            older.truncate(1);
        }
        for image in older {
            if !image.is_active {
                (self.tell)(Event::Unready(image.id.clone()));
                continue;
            }
            match self.carry(cx, &server, image, keep, faults).await {
                Ok(()) => moved.push((id.to_owned(), keep)),
                Err(fault) => match fault.ends_all() {
                    Ok(error) => return Err(error.into()),
                    Err(fault) => faults.push((image.id.clone(), fault.to_string())),
                },
            }
        }
        match begun {
            Some(image) => Ok(self.project.finish(cx, id, &image).await?),
            None => Ok(()),
        }
    }

    fn folder<'b>(&'b self, remote: &'b PlainFolder, rsync: Option<&'b Rsync>) -> Folder<'b> {
        Folder { settings: self.settings, project: self.project, remote, rsync, tell: self.tell }
    }

    /// Moves one image, and removes it from the cloud once it lies elsewhere, proved.
    async fn carry(
        &self,
        cx: &Context,
        server: &Value,
        image: &ServerImage,
        keep: usize,
        faults: &mut Vec<(String, String)>,
    ) -> Result<(), Fault> {
        match self.to {
            Target::Folder(remote, rsync) => self.folder(remote, rsync).carry(cx, server, image, keep).await?,
            Target::Repository(shelf) => {
                let stored = shelf.store(cx, self.project, server, image).await?;
                faults.extend(stored.problems.into_iter().map(|text| (image.id.clone(), text)));
                (self.tell)(Event::Moved(stored.name, stored.bytes));
            }
        }
        self.project.delete(cx, image).await?;
        if let Target::Folder(remote, rsync) = self.to {
            self.folder(remote, rsync).forget_staged(image);
        }
        (self.tell)(Event::Deleted(image.id.clone()));
        Ok(())
    }

    /// How many captures of a server stay: what it says itself, where that is heard and is a number.
    fn keep(&self, id: &str, server: &Value, faults: &mut Vec<(String, String)>) -> usize {
        let own = if self.settings.keep_own { kept(server) } else { Ok(None) };
        match own {
            Ok(number) => number.map_or(self.settings.keep, |number| number as usize),
            Err(text) => {
                faults.push((id.to_owned(), text));
                self.settings.keep
            }
        }
    }

    /// Has an image made, unless an earlier run had it made for this very job.
    async fn begin(&self, cx: &Context, list: &JobList, id: &str, images: &[ServerImage]) -> Result<String, Fault> {
        if let Some(begun) = list.begun(id)?
            && let Some(image) = images.iter().find(|image| image.name.epoch == begun.epoch)
        {
            (self.tell)(Event::Begun(image.id.clone()));
            return Ok(image.id.clone());
        }
        let now = u64::try_from(cx.world.now().as_second()).unwrap_or(0);
        let epoch = images.last().map_or(now, |newest| now.max(newest.name.epoch + 1));
        list.begin(&Begun { server: id.to_owned(), epoch })?;
        let name = ImageName { project: self.settings.project.clone(), server: id.to_owned(), epoch };
        let image = self.project.begin(cx, &name).await?;
        (self.tell)(Event::Begun(image.clone()));
        Ok(image)
    }
}
