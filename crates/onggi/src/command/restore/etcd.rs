//! What can be said of a restore of etcd.

use std::path::PathBuf;

use clap::ValueEnum;
use onggi_source::etcd::{CLUSTER_DEFAULT, Engine, QUOTA_DEFAULT, RestoreOptions, Until};

use crate::failure::Failure;
use crate::session::Session;
use crate::value::{Moment, Size};

/// Flags of etcd.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "With --to source, of etcd")]
pub struct Flags {
    /// The members to be: `m1=https://10.0.0.1:2380,m2=…` [default: one].
    #[arg(long, value_name = "NAME=URL,…", requires = "to")]
    pub initial_cluster: Option<String>,
    /// Only this member's directory; the same command with another name on each machine.
    #[arg(long, value_name = "NAME", requires = "to")]
    pub member: Option<String>,
    /// What makes the cluster's ids new; the same on each machine [default: of the snapshot].
    #[arg(long, value_name = "TOKEN", requires = "to")]
    pub initial_cluster_token: Option<String>,
    /// Up to this revision.
    #[arg(long, value_name = "N", requires = "to", conflicts_with = "at")]
    pub revision: Option<i64>,
    /// As it was received by this time: `2026-11-03 22:08:41`.
    #[arg(long, value_name = "TIME", requires = "to")]
    pub at: Option<Moment>,
    /// Leave out what was overwritten or deleted [default: yes, if deltas are applied].
    #[arg(long, value_name = "WHETHER", requires = "to")]
    pub compact: Option<Whether>,
    /// Raise revisions by so many, and mark all before as compacted [default: 1000000000 for Kubernetes, else 0].
    ///
    /// Without it watchers that were ahead keep what the restored cluster no longer has.
    #[arg(long, value_name = "N", requires = "to")]
    pub bump_revision: Option<u32>,
    /// What the members' databases may grow to; an alarm that one is full is dropped if there is room.
    #[arg(long, value_name = "SIZE", requires = "to")]
    pub quota_backend_bytes: Option<Size>,
    /// Who writes the data directories.
    #[arg(long, value_name = "WHO", requires = "to")]
    pub engine: Option<Who>,
    /// Restore a snapshot of a cluster that reported corruption.
    #[arg(long, requires = "to")]
    pub accept_corrupt: bool,
    /// Restore a version of etcd that restores were never tested with.
    #[arg(long, requires = "to")]
    pub force: bool,
    /// Move what is in the data directory out of the way.
    #[arg(long, requires = "to")]
    pub force_rename: bool,
    /// If the revision cannot be reached, restore to the last one before that can.
    #[arg(long, requires = "to")]
    pub best_effort: bool,
    /// Refuse if the cluster's id becomes another than this one, as another machine printed it.
    #[arg(long, value_name = "ID", requires = "to")]
    pub expect_cluster_id: Option<String>,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Whether {
    /// It is left out.
    Yes,
    /// It stays.
    No,
}

/// Who writes the data directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Who {
    /// onggi itself.
    Onggi,
    /// The program etcdutl; it knows no deltas.
    Etcdutl,
}

impl Flags {
    /// What the source understands.
    pub fn options(&self, target: Option<PathBuf>, session: &Session) -> Result<RestoreOptions, Failure> {
        let read = |id: &String| u64::from_str_radix(id, 16).map(onggi_source::etcd::model::ClusterId);
        let expect_cluster = self.expect_cluster_id.as_ref().map(read).transpose();
        let expect_cluster =
            expect_cluster.map_err(|error| Failure::usage("read --expect-cluster-id").because(error))?;
        let until = match (self.revision, &self.at) {
            (Some(revision), _) => Until::Revision(revision),
            (None, Some(moment)) => Until::Time(moment.0.timestamp()),
            (None, None) => Until::Latest,
        };
        Ok(RestoreOptions {
            target,
            initial_cluster: self.initial_cluster.clone().unwrap_or_else(|| CLUSTER_DEFAULT.to_owned()),
            member: self.member.clone(),
            token: self.initial_cluster_token.clone(),
            until,
            compact: self.compact.map(|whether| whether == Whether::Yes),
            bump: self.bump_revision.map(i64::from),
            quota: self.quota_backend_bytes.map_or(QUOTA_DEFAULT, |size| size.0),
            engine: if self.engine == Some(Who::Etcdutl) { Engine::Etcdutl } else { Engine::Onggi },
            etcd: session.machine.program("etcd"),
            accept_corrupt: self.accept_corrupt,
            force: self.force,
            rename: self.force_rename,
            best_effort: self.best_effort,
            expect_cluster,
            ..RestoreOptions::default()
        })
    }
}
