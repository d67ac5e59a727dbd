//! Time, randomness and spool for sources.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use onggi_source::spool::FileSpool;
use onggi_source::{RunId, SourceError, Spool, World};
use onggi_storage::Clock;

/// The real one.
pub struct Machinery {
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
    /// The folder of spool files, made when first needed.
    pub spool: PathBuf,
}

#[async_trait]
impl World for Machinery {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        self.clock.fill_random(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    async fn spool(&self, run: &RunId, name: &str) -> Result<Box<dyn Spool>, SourceError> {
        let path = self.spool.join(format!("{run}-{:016x}", self.random()));
        let made = self.make(&path);
        let file = made.map_err(|error| SourceError::Incomplete(format!("spool {name} cannot be made: {error}")))?;
        Ok(Box::new(FileSpool::new(file)))
    }
}

impl Machinery {
    /// A private file without a name: it goes with the process, whatever happens.
    fn make(&self, path: &std::path::Path) -> std::io::Result<File> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.spool)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        std::fs::remove_file(path)?;
        Ok(file)
    }
}
