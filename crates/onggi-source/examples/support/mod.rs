//! What the measuring tools share: this machine as a source sees it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use onggi_source::bench;
use onggi_source::secret::Secrets;
use onggi_source::spool::FileSpool;
use onggi_source::{Result, RunId, SourceError, Spool, Surroundings, World};

/// The real clock; spools lie in the current folder.
pub struct Real(pub Instant);

#[async_trait]
impl World for Real {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
    fn random(&self) -> u64 {
        0
    }
    async fn spool(&self, _run: &RunId, name: &str) -> Result<Box<dyn Spool>> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(name).map_err(lost)?;
        fs::remove_file(name).map_err(lost)?;
        Ok(Box::new(FileSpool::new(file)))
    }
}

/// An error of this machine as one of a source.
pub fn lost(error: std::io::Error) -> SourceError {
    SourceError::Incomplete(error.to_string())
}

/// A source of this name on this machine.
pub fn surroundings(source: &str, secrets: Arc<dyn Secrets>) -> Surroundings {
    let working_directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let bench = bench::surroundings(source, Path::new("/nonexistent"));
    Surroundings { working_directory, secrets, attended: true, ..bench }
}
