//! Restores with the program etcdutl, for versions that onggi does not know. It knows no deltas, and each member is made
//! from the snapshot anew.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::IntoDirectories;
use super::database::{Written, unwritten};
use super::directory::{self, Place};
use super::identity::MemberIdentity;
use crate::carrier::Launch;
use crate::carrier::run_to_end;
use crate::context::Context;
use crate::etcd::model::SNAPSHOT_FILE;
use crate::source::{ReadError, Result, SourceError};

impl IntoDirectories<'_> {
    /// Runs it for each place, into the staging folder.
    pub(super) async fn run_etcdutl(&self, cx: &Context) -> Result<Written> {
        if self.full.last > self.full.notes.revision {
            return Err(SourceError::Refused("etcdutl knows no deltas; name a full snapshot".to_owned()));
        }
        let spool = self.full.spool(cx, self.from).await?;
        for place in &self.places {
            let staging = directory::staging(&place.directory, &cx.run);
            fs::create_dir(&staging).map_err(unwritten)?;
            let file = staging.join("snapshot.db");
            let mut out = directory::create(&file).map_err(unwritten)?;
            let mut step = vec![0; super::stored::STEP_BYTES];
            let mut offset = 0;
            while offset < spool.length() {
                let length = step.len().min((spool.length() - offset) as usize);
                spool.read(cx, offset, &mut step[..length]).await.map_err(|error| match error {
                    ReadError::Unit(error) => error,
                    ReadError::Item(problem) => SourceError::Incomplete(problem.to_string()),
                })?;
                std::io::Write::write_all(&mut out, &step[..length]).map_err(unwritten)?;
                offset += length as u64;
            }
            drop(out);
            let made = staging.join("data");
            let launch = Launch::new([self.etcdutl_words(&file, &place.member, &made)]);
            run_to_end(cx, &*self.etcd.surroundings.launcher, &launch).await?;
            fs::rename(made.join(directory::MEMBER), staging.join(directory::MEMBER)).map_err(unwritten)?;
            fs::remove_dir_all(&made).map_err(unwritten)?;
            fs::remove_file(&file).map_err(unwritten)?;
        }
        Ok(Written { revision: self.full.notes.revision, length: self.full.notes.db_size })
    }

    /// The command as one would type it, with the snapshot's file in the folder that one is in.
    pub(super) fn etcdutl_line(&self, place: &Place) -> String {
        let words = self.etcdutl_words(Path::new(SNAPSHOT_FILE), &place.member, &place.directory);
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    fn etcdutl_words(&self, file: &Path, member: &MemberIdentity, made: &Path) -> Vec<OsString> {
        let option = |name: &str, value: &str| OsString::from(format!("--{name}={value}"));
        let path = |name: &str, value: &Path| {
            let mut word = OsString::from(format!("--{name}="));
            word.push(value);
            word
        };
        let program: &PathBuf = &self.options.etcdutl;
        let mut words: Vec<OsString> = vec![program.into(), "snapshot".into(), "restore".into(), file.into()];
        words.extend([
            option("name", &member.name),
            option("initial-cluster", &self.options.initial_cluster),
            option("initial-cluster-token", &self.token),
            option("initial-advertise-peer-urls", &member.peer_urls.join(",")),
            path("data-dir", made),
        ]);
        if self.bump() > 0 {
            words.extend([option("bump-revision", &self.bump().to_string()), "--mark-compacted".into()]);
        }
        words
    }
}
