//! From the instances to the artifact directory: each archive is hashed while it arrives, compared with what the instance
//! itself reads, and only then listed and removed there.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::artifact::{Artifact, Directory};
use super::command;
use super::fault::{Cause, Fault, Faults};
use super::instance::{Instance, folder};
use super::phase::{Pace, each};
use super::platform::{Level, Platform};
use super::progress::Percent;
use super::script::Script;
use super::tar::{Checksums, Kept, checksums};
use crate::context::Context;

/// Pieces of an archive between the connection and the disk.
pub(crate) const PIECES_MAX: usize = 64;
/// Names that a fault lists.
const NAMES_MAX: usize = 5;

impl Platform {
    /// Copies all artifacts, up to ten at once; the others go on when one fails.
    pub(crate) async fn drain(&self, cx: &Context, directory: &Directory) -> Result<(), Faults> {
        let jobs = self.jobs();
        let work = Self::with(&jobs, Script::Backup).map(|(instance, job)| async move {
            let artifact = instance.made_by(job);
            let fetched = self.fetch(cx, instance, &artifact, directory).await;
            fetched.map_err(|cause| Fault::Drain { artifact, instance: instance.name(), cause }).inspect_err(|fault| {
                self.say(Level::Error, fault.whole());
            })
        });
        each(Pace::Parallel, work).await
    }

    async fn fetch(
        &self,
        cx: &Context,
        instance: &Instance,
        artifact: &Artifact,
        directory: &Directory,
    ) -> Result<(), Cause> {
        let (folder, whose) = (folder(artifact), format!("for job {} on {}", artifact.name(), instance.name()));
        let size = instance.remote.ask(cx, &command::measure(&folder)).await?;
        let (bytes, shown) = command::parse_size(&size).ok_or("Unable to check size")?;
        self.say(Level::Info, format!("Copying backup -- {shown} uncompressed -- {whose}..."));
        let arrived = self.receive(cx, instance, artifact, bytes, directory).await?;
        self.say(Level::Info, format!("Finished copying backup -- {whose}..."));
        self.say(Level::Info, format!("Starting validity checks -- {whose}..."));
        compare(&arrived, &there(cx, instance, &folder).await?)?;
        directory.add(artifact, arrived)?;
        instance.remote.ask(cx, &command::remove(&folder)).await?;
        self.say(Level::Info, format!("Finished validity checks -- {whose}..."));
        Ok(())
    }

    async fn receive(
        &self,
        cx: &Context,
        instance: &Instance,
        artifact: &Artifact,
        bytes: u64,
        directory: &Directory,
    ) -> Result<Checksums, Cause> {
        let mut file = directory.new_file(artifact)?;
        let (to_disk, arriving) = mpsc::channel(PIECES_MAX);
        let kept = tokio::task::spawn_blocking(move || {
            let sums = checksums(Kept::new(arriving, &mut file))?;
            file.sync_all().map(|()| sums)
        });
        let (sender, mut counted) = mpsc::channel::<Bytes>(1);
        let whose = format!("for job {} on {}", artifact.name(), instance.name());
        let count = async {
            let mut percent = Percent::of(bytes);
            while let Some(piece) = counted.recv().await {
                if let Some(percent) = percent.add(piece.len() as u64) {
                    self.say(Level::Info, format!("Copying backup {whose} -- {percent}% complete"));
                }
                if to_disk.send(piece).await.is_err() {
                    break;
                }
            }
            drop((counted, to_disk));
        };
        let command = command::pack(&folder(artifact));
        let (received, ()) = tokio::join!(instance.remote.receive(cx, &command, sender), count);
        // a disk that is full explains a transfer that ended, not the other way round
        let sums = kept.await?;
        match (sums, received) {
            (Ok(sums), Ok(())) => Ok(sums),
            (Err(error), Ok(())) => Err(error.into()),
            (Err(error), Err(_)) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(error.into()),
            (_, Err(trouble)) => Err(trouble.into()),
        }
    }
}

/// What the instance itself reads in a folder of its own.
pub(crate) async fn there(cx: &Context, instance: &Instance, folder: &str) -> Result<Checksums, Cause> {
    let text = instance.remote.ask(cx, &command::checksums(folder)).await?;
    let sums = command::parse_checksums(&text).ok_or("checksums of the instance cannot be read")?;
    Ok(sums.into_iter().collect())
}

/// Fails with the names that differ.
pub(crate) fn compare(ours: &Checksums, theirs: &Checksums) -> Result<(), Cause> {
    let names = differing(ours, theirs);
    if names.is_empty() { Ok(()) } else { Err(format!("checksums don't match for {names}").into()) }
}

/// Names that only one side has, or whose content differs; some of them.
pub(crate) fn differing(ours: &Checksums, theirs: &Checksums) -> String {
    let mut names: Vec<&str> = ours
        .iter()
        .filter(|(name, sum)| theirs.get(*name) != Some(sum))
        .map(|(name, _)| name.as_str())
        .chain(theirs.keys().filter(|name| !ours.contains_key(*name)).map(String::as_str))
        .collect();
    let more = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    let names = names.join(", ");
    if more == 0 { names } else { format!("{names} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ours: &[(&str, &str)], theirs: &[(&str, &str)], expected: &str) {
        let sums = |pairs: &[(&str, &str)]| -> Checksums {
            pairs.iter().map(|(name, sum)| ((*name).to_owned(), (*sum).to_owned())).collect()
        };
        assert_eq!(differing(&sums(ours), &sums(theirs)), expected);
    }

    #[test]
    fn what_differs_on_either_side_is_named() {
        check(&[("./a", "1"), ("./b", "2")], &[("./b", "2"), ("./a", "1")], "");
        check(&[("./a", "1"), ("./b", "2")], &[("./b", "3"), ("./c", "1")], "./a, ./b, ./c");
        let many: Vec<(String, &str)> = (0..8).map(|at| (format!("./{at}"), "1")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(name, sum)| (name.as_str(), *sum)).collect();
        check(&many, &[], "./0, ./1, ./2, ./3, ./4 and 3 more");
    }
}
