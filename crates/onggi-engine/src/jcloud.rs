//! What the JCloud script does, step by step, on its own files and names: images of servers, the newest of which stays in
//! the cloud, the others on a backup server.
//!
//! An image is removed from the cloud only when its file on the backup server was read back and hashes to what Glance has.
//! Of neither side anything is removed that is not named and made as the script does it.
#![expect(clippy::disallowed_methods, reason = "its list, its staging folder and its mount are this machine's files")]

mod env;
mod list;
mod tree;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use onggi_source::openstack::jcloud::{DOCUMENT, Disk, FileName, ImageName, Project, ServerImage};
use onggi_source::{ByteStream, Context, SourceError, Stop};
use onggi_storage::StorageError;
use onggi_storage::sftp::PlainFolder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};
use tokio::sync::Mutex;

pub use self::env::Settings;
use self::list::{Begun, JobList};
use self::tree::surplus;
use crate::exit::Exit;

/// So much is read back at once, in bytes.
const STEP_BYTES: u64 = 4 << 20;
/// How long what must be taken away may take when the run is stopped.
const CLEANUP: Duration = Duration::from_mins(5);

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
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

/// One run.
pub struct Jcloud<'a> {
    /// What the script's file says.
    pub settings: &'a Settings,
    /// The project in the cloud.
    pub project: &'a Project,
    /// The folder on the backup server.
    pub remote: &'a PlainFolder,
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
        let mut summary = Summary { failed: 0, left: jobs.len() };
        for id in jobs {
            (self.tell)(Event::Server(id.clone()));
            let mut faults = Vec::new();
            if let Err(error) = self.server(cx, &list, &id, &mut faults).await {
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
    ) -> Result<(), Fault> {
        let Some(server) = self.project.server(cx, id).await? else {
            (self.tell)(Event::Unknown(id.to_owned()));
            return Ok(());
        };
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
        self.staged(cx, id, &images, faults).await?;
        let mut older = images.iter().take(images.len().saturating_sub(1)).collect::<Vec<_>>();
        if self.settings.only_oldest {
            older.truncate(1);
        }
        for image in older {
            if !image.is_active {
                (self.tell)(Event::Unready(image.id.clone()));
                continue;
            }
            if let Err(fault) = self.carry(cx, &server, image).await {
                match fault.ends_all() {
                    Ok(error) => return Err(error.into()),
                    Err(fault) => faults.push((image.id.clone(), fault.to_string())),
                }
            }
        }
        match begun {
            Some(image) => Ok(self.project.finish(cx, id, &image).await?),
            None => Ok(()),
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

    /// The folder of a server below the one on the backup server, as rsync makes it of the staging folder.
    fn folder(&self, server: &str) -> String {
        let base = self.settings.staging.file_name().unwrap_or_default().to_string_lossy();
        format!("{base}/{}/{server}", self.settings.project)
    }

    /// Brings over what the script had copied and not sent. Of what is in the cloud still, the cloud's is the better copy.
    async fn staged(
        &self,
        cx: &Context,
        server: &str,
        images: &[ServerImage],
        faults: &mut Vec<(String, String)>,
    ) -> Result<(), Fault> {
        let folder = self.settings.staging.join(&self.settings.project).join(server);
        for name in names_in(&folder)? {
            let Some(found) = FileName::parse(&name) else { continue };
            if images.iter().any(|image| image.id == found.image) {
                continue;
            }
            let path = folder.join(&name);
            let flow = Flow::of_file(cx, self.settings.rate, &path, None)?;
            let target = format!("{}/{name}", self.folder(server));
            match self.send(cx, &target, flow).await {
                Ok((bytes, _)) => {
                    fs::remove_file(&path)?;
                    (self.tell)(Event::Moved(target, bytes));
                }
                Err(fault) => faults.push((name.clone(), fault.to_string())),
            }
        }
        Ok(())
    }

    /// Moves one image: each of its disks, then what is too old, then the image itself.
    async fn carry(&self, cx: &Context, server: &Value, image: &ServerImage) -> Result<(), Fault> {
        let folder = self.folder(&image.name.server);
        for (number, disk) in self.project.disks(image).iter().enumerate() {
            let disk = self.project.open(cx, image, disk.as_deref(), number == 0).await?;
            let end = disk.volume.as_ref().map(|volume| format!(".{volume}")).unwrap_or_default();
            let target = format!("{folder}/{}_{}{end}", image.name.epoch, image.id);
            let moved = self.disk(cx, &target, &disk).await;
            self.project.close(&cx.for_cleanup(CLEANUP), &disk).await?;
            let (bytes, sha512) = moved?;
            let said = json!({
                "format": 1, "image": image.id, "name": image.name.to_string(), "volume": disk.volume,
                "bytes": bytes, "sha512": sha512, "server": server,
            });
            let said = serde_json::to_vec_pretty(&said).map_err(io::Error::other)?;
            self.remote.put(&format!("{target}{DOCUMENT}"), stream::iter([Ok(Bytes::from(said))]).boxed()).await?;
            (self.tell)(Event::Moved(target, bytes));
        }
        self.retain(&image.name.server).await?;
        self.project.delete(cx, image).await?;
        // What the script had copied of it is of no more use.
        let staged = self.settings.staging.join(&self.settings.project).join(&image.name.server);
        let staged = staged.join(format!("{}_{}", image.name.epoch, image.id));
        let _ = fs::remove_file(staged);
        (self.tell)(Event::Deleted(image.id.clone()));
        Ok(())
    }

    /// Sends a disk, out of Glance's folder if it lies there whole.
    async fn disk(&self, cx: &Context, target: &str, disk: &Disk) -> Result<(u64, String), Fault> {
        let wanted = disk.hash.as_ref().filter(|(kind, _)| kind == "sha512").map(|(_, hash)| hash.clone());
        // An earlier run may have ended between the file and the image.
        if let Some(wanted) = &wanted
            && self.remote.bytes(target).await? == Some(disk.bytes)
            && self.hash(cx, target, disk.bytes).await? == *wanted
        {
            return Ok((disk.bytes, wanted.clone()));
        }
        let near = self.settings.images.as_ref().map(|folder| folder.join(&disk.image));
        let is_near =
            |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == disk.bytes);
        if let (Some(path), Some(wanted)) = (near.filter(is_near), &wanted)
            && let Ok(flow) = Flow::of_file(cx, self.settings.rate, &path, Some(wanted.clone()))
        {
            match self.send(cx, target, flow).await {
                Err(Fault::Remote(StorageError::Faulty(cause))) => {
                    tracing::info!(%cause, "the image is fetched instead");
                }
                sent => return sent,
            }
        }
        let from = From::Cloud(self.project.fetch(cx, disk).await?);
        self.send(cx, target, Flow::new(cx, self.settings.rate, from, None)).await
    }

    /// Sends and reads back; answers the length and the hash.
    async fn send(&self, cx: &Context, target: &str, flow: Flow) -> Result<(u64, String), Fault> {
        let flow = Mutex::new(flow);
        let pieces = stream::unfold(&flow, |flow| async move {
            let piece = flow.lock().await.next(cx).await.transpose()?;
            Some((piece, flow))
        });
        let sent = self.remote.put(target, pieces.boxed()).await;
        let flow = flow.into_inner();
        if let Some(error) = flow.fault {
            return Err(Fault::Cloud(error));
        }
        let bytes = sent?;
        let sha512 = hexadecimal(&flow.hash.finalize());
        if self.remote.bytes(target).await? != Some(bytes) || self.hash(cx, target, bytes).await? != sha512 {
            self.remote.remove(target).await?;
            return Err(Fault::Differs(target.to_owned()));
        }
        Ok((bytes, sha512))
    }

    /// Reads a file of the backup server.
    async fn hash(&self, cx: &Context, path: &str, bytes: u64) -> Result<String, Fault> {
        let (mut hash, mut at) = (Sha512::new(), 0);
        while at < bytes {
            cx.check().map_err(SourceError::from)?;
            let end = bytes.min(at + STEP_BYTES);
            let piece = self.remote.read(path, at..end).await?;
            if piece.is_empty() {
                break;
            }
            at += piece.len() as u64;
            hash.update(&piece);
        }
        Ok(hexadecimal(&hash.finalize()))
    }

    /// Removes the oldest captures of a server from the backup server: where its folder is mounted there, else over SFTP.
    async fn retain(&self, server: &str) -> Result<(), Fault> {
        let (settings, folder) = (self.settings, self.folder(server));
        if !settings.backups.is_dir() {
            let files = self.remote.files(&folder).await?;
            for name in surplus(files.iter().map(|file| file.name.as_str()), settings.keep) {
                self.remote.remove(&format!("{folder}/{name}")).await?;
                (self.tell)(Event::Removed(format!("{folder}/{name}")));
            }
            return Ok(());
        }
        // Where the script looked, and where rsync puts it.
        let folders = [settings.backups.join(&settings.project).join(server), settings.backups.join(&folder)];
        let mut found = Vec::new();
        for folder in &folders {
            found.extend(names_in(folder)?.into_iter().map(|name| (folder, name)));
        }
        let old = surplus(found.iter().map(|(_, name)| name.as_str()), settings.keep);
        for (folder, name) in found.iter().filter(|(_, name)| old.contains(&name.as_str())) {
            let path = folder.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => (self.tell)(Event::Removed(path.display().to_string())),
            }
        }
        Ok(())
    }
}

/// The names of plain files in a folder; none where there is no such folder.
fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    names.sort();
    Ok(names)
}

/// Where bytes come from.
enum From {
    Cloud(Box<dyn ByteStream>),
    File(File),
}

/// Bytes on their way, hashed and paced.
struct Flow {
    from: From,
    hash: Sha512,
    /// What it must hash to.
    wanted: Option<String>,
    rate: Option<u64>,
    began_at: Duration,
    bytes: u64,
    /// Why the cloud's bytes ended.
    fault: Option<SourceError>,
}

impl Flow {
    fn new(cx: &Context, rate: Option<u64>, from: From, wanted: Option<String>) -> Self {
        Self { from, hash: Sha512::new(), wanted, rate, began_at: cx.world.elapsed(), bytes: 0, fault: None }
    }

    fn of_file(cx: &Context, rate: Option<u64>, path: &Path, wanted: Option<String>) -> io::Result<Self> {
        Ok(Self::new(cx, rate, From::File(File::open(path)?), wanted))
    }

    async fn next(&mut self, cx: &Context) -> io::Result<Option<Bytes>> {
        let piece = match &mut self.from {
            From::Cloud(stream) => match stream.next(cx).await {
                Ok(piece) => piece,
                Err(error) => {
                    let text = error.to_string();
                    self.fault = Some(match error {
                        onggi_source::ReadError::Unit(error) => error,
                        onggi_source::ReadError::Item(problem) => SourceError::Incomplete(problem.to_string()),
                    });
                    return Err(io::Error::other(text));
                }
            },
            From::File(file) => {
                let mut file = file.try_clone()?;
                let read = tokio::task::spawn_blocking(move || {
                    let mut piece = Vec::new();
                    file.by_ref().take(STEP_BYTES).read_to_end(&mut piece).map(|_| piece)
                });
                Some(Bytes::from(read.await.map_err(io::Error::other)??)).filter(|piece| !piece.is_empty())
            }
        };
        let Some(piece) = piece else {
            let is_whole =
                self.wanted.as_ref().is_none_or(|wanted| *wanted == hexadecimal(&self.hash.clone().finalize()));
            return if is_whole { Ok(None) } else { Err(io::Error::other("it is not what Glance has")) };
        };
        self.hash.update(&piece);
        self.bytes += piece.len() as u64;
        if let Some(rate) = self.rate {
            let due = self.began_at + Duration::from_secs_f64(self.bytes as f64 / rate as f64);
            let left = due.saturating_sub(cx.world.elapsed());
            if !left.is_zero()
                && let Err(stop) = cx.sleep(left).await
            {
                self.fault = Some(stop.into());
                return Err(io::Error::other("it was stopped"));
            }
        }
        Ok(Some(piece))
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
