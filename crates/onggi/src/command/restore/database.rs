//! What can be said of a restore of a database.

use serde_json::{Value, json};

/// Flags of databases.
#[derive(Debug, Default, clap::Args)]
#[group(id = "database-flags")]
#[command(next_help_heading = "With --to source, of a database")]
pub struct Flags {
    /// Replace a database that is not empty.
    #[arg(long, requires = "to")]
    pub clean: bool,
    /// Restore under this name.
    #[arg(long, value_name = "NAME", requires = "to")]
    pub into_database: Option<String>,
    /// How many tables are loaded at once [default: 2].
    #[arg(long, value_name = "N", requires = "to")]
    pub jobs: Option<u32>,
}

impl Flags {
    /// As the adapter takes them.
    pub fn options(&self) -> Value {
        json!({ "clean": self.clean, "database": self.into_database, "jobs": self.jobs })
    }
}
