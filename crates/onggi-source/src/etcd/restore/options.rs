//! What an operator may say of a restore.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::etcd::model::ClusterId;

/// What etcd allows a database to grow to where nobody says otherwise, in bytes.
pub const QUOTA_DEFAULT: u64 = 2 << 30;
/// How far Kubernetes' revisions are raised where nobody says otherwise: more than a cluster writes in a year.
pub const BUMP_KUBERNETES: i64 = 1_000_000_000;
/// The one member of a cluster that nobody describes; also what etcdutl calls it.
pub const CLUSTER_DEFAULT: &str = "default=http://localhost:2380";

/// The options of a restore into data directories.
#[expect(clippy::struct_excessive_bools, reason = "each is a word of the operator")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct RestoreOptions {
    /// Certificates and keys of the control plane instead of a data directory.
    pub pki: Option<Placement>,
    /// The data directory; of several members, the directory of theirs.
    pub target: Option<PathBuf>,
    /// The members to be: `m1=https://10.0.0.1:2380,m2=…`.
    pub initial_cluster: String,
    /// Only this one's directory.
    pub member: Option<String>,
    /// What makes the ids new; the same on every machine. By default made of the old cluster and the revision.
    pub token: Option<String>,
    /// How far.
    pub until: Until,
    /// Whether what was overwritten or deleted is left out. By default if deltas are applied.
    pub compact: Option<bool>,
    /// By how much revisions are raised, and all before is marked as compacted. By default for Kubernetes only.
    pub bump: Option<i64>,
    /// What the members' databases may grow to, in bytes.
    pub quota: u64,
    /// Who writes the directories.
    pub engine: Engine,
    /// The program for [`Engine::Etcdutl`].
    pub etcdutl: PathBuf,
    /// The program that a proof starts; without one it reads the files.
    pub etcd: Option<PathBuf>,
    /// Restores a snapshot of a cluster that reported corruption.
    pub accept_corrupt: bool,
    /// Restores what was never tested.
    pub force: bool,
    /// Moves a data directory that is there out of the way.
    pub rename: bool,
    /// Restores to the last revision that can be reached, if what is asked for cannot.
    pub best_effort: bool,
    /// Refuses if the cluster's id becomes another.
    pub expect_cluster: Option<ClusterId>,
}

/// Where certificates and keys go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Into a folder that their owner alone enters.
    Folder,
    /// To the places on the node that they are of, with the modes and owners that they had.
    InPlace,
}

/// How far a chain of snapshots is followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// To its end.
    #[default]
    Latest,
    /// To this revision.
    Revision(i64),
    /// To the last revision that was received by then.
    Time(Timestamp),
}

/// Who writes the data directories.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// onggi itself.
    #[default]
    Onggi,
    /// The program etcdutl, for versions that onggi does not know.
    Etcdutl,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            pki: None,
            target: None,
            initial_cluster: CLUSTER_DEFAULT.to_owned(),
            member: None,
            token: None,
            until: Until::Latest,
            compact: None,
            bump: None,
            quota: QUOTA_DEFAULT,
            engine: Engine::Onggi,
            etcdutl: PathBuf::from("etcdutl"),
            etcd: None,
            accept_corrupt: false,
            force: false,
            rename: false,
            best_effort: false,
            expect_cluster: None,
        }
    }
}
