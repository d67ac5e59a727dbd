//! The backup server's folder, as the script keeps it: a file for each disk of a capture, a document beside it, and so
//! many captures as are to stay.
//!
//! A file counts only when it was read back and is what was sent. What is not named as a capture is never removed.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use onggi_source::hex::hexadecimal;
use onggi_source::openstack::jcloud::{DOCUMENT, Disk, FileName, Project, ServerImage};
use onggi_source::{Context, SourceError};
use onggi_storage::StorageError;
use onggi_storage::sftp::PlainFolder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};
use tokio::sync::Mutex;

use super::flow::{Flow, From, STEP_BYTES};
use super::tree::surplus;
use super::{Event, Fault, Settings};
use crate::edge::Rsync;

/// What a file in the staging folder is called that is not whole; no capture is called so.
const UNFINISHED: &str = "unfinished";
/// How long what must be taken away may take when the run is stopped.
const CLEANUP: Duration = Duration::from_mins(5);

/// What a run needs to work on it.
pub(super) struct Folder<'a> {
    pub(super) settings: &'a Settings,
    pub(super) project: &'a Project,
    pub(super) remote: &'a PlainFolder,
    /// Who sends files, if not we.
    pub(super) rsync: Option<&'a Rsync>,
    pub(super) tell: &'a (dyn Fn(Event) + Sync),
}

impl Folder<'_> {
    /// The folder of a server below the one on the backup server, as rsync makes it of the staging folder.
    fn folder(&self, server: &str) -> String {
        let base = self.settings.staging.file_name().unwrap_or_default().to_string_lossy();
        format!("{base}/{}/{server}", self.settings.project)
    }

    /// Brings over what the script had copied and not sent. Of what is in the cloud still, the cloud's is the better copy.
    pub(super) async fn staged(
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
            let target = format!("{}/{name}", self.folder(server));
            let sent = match self.rsync {
                Some(rsync) => {
                    async {
                        let sum = hashed(cx, Flow::of_file(cx, None, &path, None)?).await?;
                        self.sync(cx, rsync, &target, sum).await
                    }
                    .await
                }
                None => self.send(cx, &target, Flow::of_file(cx, self.settings.rate, &path, None)?).await,
            };
            match sent {
                Ok((bytes, _)) => {
                    fs::remove_file(&path)?;
                    (self.tell)(Event::Moved(target, bytes));
                }
                Err(fault) => faults.push((name.clone(), fault.to_string())),
            }
        }
        Ok(())
    }

    /// Moves one image: each of its disks; then removes what is too old.
    pub(super) async fn carry(
        &self,
        cx: &Context,
        server: &Value,
        image: &ServerImage,
        keep: usize,
    ) -> Result<(), Fault> {
        let folder = self.folder(&image.name.server);
        for (number, disk) in self.project.disks(image).iter().enumerate() {
            let disk = self.project.open(cx, image, disk.as_deref(), number == 0).await?;
            let end = disk.volume.as_ref().map(|volume| format!(".{volume}")).unwrap_or_default();
            let target = format!("{folder}/{}_{}{end}", image.name.epoch, image.id);
            let moved = self.disk(cx, &target, &disk).await;
            let closed = self.project.close(&cx.for_cleanup(CLEANUP), &disk).await;
            let (bytes, sha512) = moved?;
            closed?;
            let said = json!({
                "format": 1, "image": image.id, "name": image.name.to_string(), "volume": disk.volume,
                "bytes": bytes, "sha512": sha512, "server": server,
            });
            let said = serde_json::to_vec_pretty(&said).map_err(io::Error::other)?;
            self.remote.put(&format!("{target}{DOCUMENT}"), stream::iter([Ok(Bytes::from(said))]).boxed()).await?;
            (self.tell)(Event::Moved(target, bytes));
        }
        self.retain(&image.name.server, keep).await
    }

    /// Once the image is gone, what the script had copied of it is of no more use.
    pub(super) fn forget_staged(&self, image: &ServerImage) {
        let staged = self.settings.staging.join(&self.settings.project).join(&image.name.server);
        let staged = staged.join(format!("{}_{}", image.name.epoch, image.id));
        let _ = fs::remove_file(staged);
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
        if let Some(rsync) = self.rsync {
            let sum = self.stage(cx, target, disk, wanted.as_deref()).await?;
            let sent = self.sync(cx, rsync, target, sum).await?;
            fs::remove_file(self.base().join(target))?;
            return Ok(sent);
        }
        let near = self.settings.images.as_ref().map(|folder| folder.join(&disk.image));
        if let (Some(path), Some(wanted)) = (near.filter(|path| has_bytes(path, disk.bytes)), &wanted)
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

    /// Puts a disk into the staging folder, as the script does, for rsync to send it from there; what an earlier run put
    /// there whole is still good. Answers the length and the hash.
    async fn stage(
        &self,
        cx: &Context,
        target: &str,
        disk: &Disk,
        wanted: Option<&str>,
    ) -> Result<(u64, String), Fault> {
        let path = self.base().join(target);
        if let (true, Some(wanted)) = (has_bytes(&path, disk.bytes), wanted) {
            let sum = hashed(cx, Flow::of_file(cx, None, &path, None)?).await?;
            if sum.1 == wanted {
                return Ok(sum);
            }
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // Nobody takes what is not whole for a capture.
        let unfinished = path.with_extension(UNFINISHED);
        let near = self.settings.images.as_ref().map(|folder| folder.join(&disk.image));
        if let (Some(near), Some(wanted)) = (near.filter(|near| has_bytes(near, disk.bytes)), wanted)
            && let Ok(flow) = Flow::of_file(cx, None, &near, None)
        {
            let sum = fill(cx, &unfinished, flow).await?;
            if sum.1 == wanted {
                fs::rename(unfinished, path)?;
                return Ok(sum);
            }
        }
        let from = From::Cloud(self.project.fetch(cx, disk).await?);
        let sum = fill(cx, &unfinished, Flow::new(cx, None, from, None)).await?;
        fs::rename(unfinished, path)?;
        Ok(sum)
    }

    /// What files have the same path below as on the backup server.
    fn base(&self) -> &Path {
        self.settings.staging.parent().unwrap_or(Path::new("/"))
    }

    /// Has rsync send what is staged, and reads it back; takes and answers the length and the hash.
    async fn sync(
        &self,
        cx: &Context,
        rsync: &Rsync,
        target: &str,
        (bytes, sha512): (u64, String),
    ) -> Result<(u64, String), Fault> {
        rsync.send(cx, self.base(), target, &self.settings.remote).await?;
        self.prove(cx, target, bytes, &sha512).await?;
        Ok((bytes, sha512))
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
        self.prove(cx, target, bytes, &sha512).await?;
        Ok((bytes, sha512))
    }

    /// Reads a file back; one that is not what was sent goes.
    async fn prove(&self, cx: &Context, target: &str, bytes: u64, sha512: &str) -> Result<(), Fault> {
        if self.remote.bytes(target).await? == Some(bytes) && self.hash(cx, target, bytes).await? == sha512 {
            return Ok(());
        }
        self.remote.remove(target).await?;
        Err(Fault::Differs(target.to_owned()))
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
    async fn retain(&self, server: &str, keep: usize) -> Result<(), Fault> {
        let (settings, folder) = (self.settings, self.folder(server));
        if !settings.backups.is_dir() {
            let files = self.remote.files(&folder).await?;
            for name in surplus(files.iter().map(|file| file.name.as_str()), keep) {
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
        let old = surplus(found.iter().map(|(_, name)| name.as_str()), keep);
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

fn has_bytes(path: &Path, bytes: u64) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == bytes)
}

/// Reads to the end, and answers the length and the hash.
async fn hashed(cx: &Context, mut flow: Flow) -> Result<(u64, String), Fault> {
    let mut bytes = 0;
    while let Some(piece) = next_of(cx, &mut flow).await? {
        bytes += piece.len() as u64;
    }
    Ok((bytes, hexadecimal(&flow.hash.finalize())))
}

/// Writes all of it into a file, and answers the length and the hash.
async fn fill(cx: &Context, path: &Path, mut flow: Flow) -> Result<(u64, String), Fault> {
    let mut file = fs::File::create(path)?;
    let mut bytes = 0;
    while let Some(piece) = next_of(cx, &mut flow).await? {
        bytes += piece.len() as u64;
        let written = tokio::task::spawn_blocking(move || file.write_all(&piece).map(|()| file)).await;
        file = written.map_err(io::Error::other)??;
    }
    Ok((bytes, hexadecimal(&flow.hash.finalize())))
}

async fn next_of(cx: &Context, flow: &mut Flow) -> Result<Option<Bytes>, Fault> {
    cx.check().map_err(SourceError::from)?;
    let next = flow.next(cx).await;
    if let Some(error) = flow.fault.take() {
        return Err(Fault::Cloud(error));
    }
    Ok(next?)
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
