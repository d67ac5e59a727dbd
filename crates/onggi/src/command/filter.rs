//! Which snapshots a command looks at: the same three flags everywhere, with restic's meaning.

use clap::Args;

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
