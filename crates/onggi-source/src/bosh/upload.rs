//! From the artifact directory to the instances, where each archive is unpacked and read back.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::artifact::{Artifact, Directory};
use super::command;
use super::drain::{PIECES_MAX, compare, there};
use super::fault::{Cause, Fault, Faults};
use super::instance::{Instance, folder};
use super::phase::{Pace, each};
use super::platform::{Level, Platform};
use super::progress::{Percent, on_disk};
use super::restore::Wanted;
use crate::context::Context;

/// How much of an archive is read at once, in bytes.
const STEP_BYTES: usize = 32 << 10;
/// In which Linux counts the place that a file takes, whatever the disk's own blocks are.
const BLOCK_BYTES: u64 = 512;

impl Platform {
    /// Copies all artifacts that are wanted, up to ten at once; the others go on when one fails.
    pub(crate) async fn upload(
        &self,
        cx: &Context,
        directory: &Directory,
        wanted: &[Wanted<'_>],
    ) -> Result<(), Faults> {
        let mut seen = BTreeSet::new();
        let once = wanted.iter().filter(|one| seen.insert((one.instance.name(), one.artifact.clone())));
        let work = once.map(|one| async move {
            self.bring(cx, directory, one).await.map_err(|cause| {
                let fault = Fault::Upload { artifact: one.artifact.clone(), instance: one.instance.name(), cause };
                self.say(Level::Error, fault.whole());
                fault
            })
        });
        each(Pace::Parallel, work).await
    }

    async fn bring(&self, cx: &Context, directory: &Directory, wanted: &Wanted<'_>) -> Result<(), Cause> {
        let Wanted { instance, artifact, checksums } = wanted;
        let (folder, whose) = (folder(artifact), format!("for job {} on {}", artifact.name(), instance.place()));
        let file = directory.file(artifact)?;
        let about = file.metadata()?;
        let (bytes, shown) = (about.len(), on_disk(about.blocks() * BLOCK_BYTES));
        self.say(Level::Info, format!("Copying backup -- {shown} uncompressed -- {whose}..."));
        self.make(cx, instance, &folder).await?;
        self.feed(cx, instance, artifact, file, bytes).await?;
        compare(checksums, &there(cx, instance, &folder).await?)?;
        self.say(Level::Info, format!("Finished copying backup {whose}."));
        Ok(())
    }

    async fn feed(
        &self,
        cx: &Context,
        instance: &Instance,
        artifact: &Artifact,
        file: File,
        bytes: u64,
    ) -> Result<(), Cause> {
        let (from_disk, mut read) = mpsc::channel(PIECES_MAX);
        let reading = tokio::task::spawn_blocking(move || pieces(file, &from_disk));
        let (to_instance, arriving) = mpsc::channel::<Bytes>(1);
        let whose = format!("for job {} on {}", artifact.name(), instance.name());
        let count = async {
            let mut percent = Percent::of(bytes);
            while let Some(piece) = read.recv().await {
                let percent = percent.add(piece.len() as u64);
                if to_instance.send(piece).await.is_err() {
                    break;
                }
                if let Some(percent) = percent {
                    self.say(Level::Info, format!("Copying backup {whose} -- {percent}% complete"));
                }
            }
            drop((read, to_instance));
        };
        let command = command::unpack(&folder(artifact));
        let (sent, ()) = tokio::join!(instance.remote.send(cx, &command, arriving), count);
        reading.await??;
        Ok(sent?)
    }
}

/// Reads until the end, or until nobody takes it.
fn pieces(mut file: File, to: &mpsc::Sender<Bytes>) -> std::io::Result<()> {
    loop {
        let mut piece = BytesMut::zeroed(STEP_BYTES);
        let length = file.read(&mut piece)?;
        piece.truncate(length);
        if length == 0 || to.blocking_send(piece.freeze()).is_err() {
            return Ok(());
        }
    }
}
