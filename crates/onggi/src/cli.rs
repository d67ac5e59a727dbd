//! The command line as a whole: global flags, verbs, and nothing of what they do.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgAction, Args, Parser, ValueEnum};

use crate::command::Command;
use crate::value::{Rate, Span};

const STYLES: Styles = Styles::styled().header(AnsiColor::Green.on_default().bold());

/// Backs up and restores cloud infrastructure into one encrypted, deduplicated repository.
///
/// The repository has restic's format: restic reads what onggi writes, and the other way round. The first five minutes:
/// `onggi init`, `onggi backup ~/Documents`, `onggi snapshots`, `onggi restore latest:report.odt --target ./out`.
#[derive(Debug, Parser)]
#[command(
    name = "onggi",
    version,
    styles = STYLES,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  onggi init\n  onggi backup ~/Documents\n  onggi restore latest:report.odt --target ./out"
)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Configuration file [default: /etc/onggi/onggi.yaml or ~/.config/onggi/onggi.yaml, where it exists].
    #[arg(short = 'c', long, global = true, value_name = "FILE", env = "ONGGI_CONFIG")]
    pub config: Option<PathBuf>,
    /// Repository: a name under `repositories:`, or an address such as /srv/repo, s3:host/bucket or sftp:user@host:/path.
    #[arg(short = 'r', long, global = true, value_name = "REPO")]
    pub repo: Option<String>,
    /// File with the repository's password; only its owner may read it (mode 0600).
    #[arg(short = 'p', long, global = true, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Command whose output is the repository's password.
    #[arg(long, global = true, value_name = "COMMAND", conflicts_with = "password_file")]
    pub password_command: Option<String>,
    /// Id of the key to try first.
    #[arg(long, global = true, value_name = "ID")]
    pub key_hint: Option<String>,
    /// Print data as JSON, with restic's fields.
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more; twice: say everything.
    #[arg(short = 'v', long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Say only what went wrong.
    #[arg(short = 'q', long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Use no colors (also: NO_COLOR in the environment).
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Answer every question with yes; needed for destructive verbs without a terminal.
    #[arg(long, global = true)]
    pub yes: bool,
    /// Stop after this time, resumable: 90m, 5h.
    #[arg(long, global = true, value_name = "DURATION")]
    pub timeout: Option<Span>,
    /// Limit both directions: 10MiB/s.
    #[arg(long, global = true, value_name = "RATE")]
    pub limit_rate: Option<Rate>,
    /// Limit writing to the storage; without unit KiB/s.
    #[arg(long, global = true, value_name = "RATE")]
    pub limit_upload: Option<Rate>,
    /// Limit reading from the storage; without unit KiB/s.
    #[arg(long, global = true, value_name = "RATE")]
    pub limit_download: Option<Rate>,
    /// Folder of the cache [default: /var/cache/onggi or ~/.cache/onggi].
    #[arg(long, global = true, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Use no cache.
    #[arg(long, global = true)]
    pub no_cache: bool,
    /// Take no lock; only for reading, and for storages that cannot be written.
    #[arg(long, global = true)]
    pub no_lock: bool,
    /// Wait so long for a lock that another holds [default: do not wait].
    #[arg(long, global = true, value_name = "DURATION", visible_alias = "retry-lock")]
    pub lock_wait: Option<Span>,
    /// How hard to compress [default: as the configuration says, else auto].
    #[arg(long, global = true, value_name = "MODE")]
    pub compression: Option<Compression>,
}

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// Fast.
    Auto,
    /// Not at all.
    Off,
    /// Smallest, slow.
    Max,
}
