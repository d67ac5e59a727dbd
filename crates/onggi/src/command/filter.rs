//! Which snapshots a command looks at: the same three flags everywhere, with restic's meaning.

use clap::Args;
use onggi_repo::SnapshotFilter;
use onggi_repo::format::Snapshot;

/// Selects snapshots; given more than once, one match is enough.
#[derive(Debug, Clone, Default, Args)]
pub struct Filter {
    /// Only snapshots of this host.
    #[arg(short = 'H', long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Only snapshots that have all these tags: `--tag a,b`; may be repeated for alternatives.
    #[arg(long, value_name = "TAG,…")]
    pub tag: Vec<String>,
    /// Only snapshots of this path.
    #[arg(long, value_name = "PATH")]
    pub path: Vec<String>,
}

impl Filter {
    /// For finding the one that is meant: never one that was captured in part.
    pub fn wanted(&self) -> SnapshotFilter {
        let list = |text: &String| text.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
        SnapshotFilter {
            hosts: self.host.clone(),
            paths: self.path.clone(),
            tags: self.tag.iter().map(list).collect(),
            with_incomplete: false,
        }
    }

    /// Whether a snapshot is one of those that the flags take, complete or not.
    pub fn takes(&self, snapshot: &Snapshot) -> bool {
        SnapshotFilter { with_incomplete: true, ..self.wanted() }.matches(snapshot)
    }
}
