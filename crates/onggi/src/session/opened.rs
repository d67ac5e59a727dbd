//! An open repository, and what stores into it.

use std::sync::Arc;

use onggi_engine::backup::{HOLD_DEFAULT, History, Job};
use onggi_engine::watch::Watch;
use onggi_repo::lock::Lock;
use onggi_repo::{Repository, WriteBudget};

use super::Session;
use crate::failure::Failure;

/// An open repository under a lock.
pub struct Opened {
    /// The repository.
    pub repo: Repository,
    /// The lock, or what stands for it with `--no-lock`.
    pub lock: Lock,
}

impl Opened {
    /// What stores here: one unit at a time, each tried once, unless the caller wants it otherwise.
    pub fn job<'a>(
        &'a self,
        session: &Session,
        history: &'a History,
        watch: Arc<dyn Watch>,
    ) -> Result<Job<'a>, Failure> {
        Ok(Job {
            repo: &self.repo,
            lock: &self.lock,
            history,
            hold: HOLD_DEFAULT,
            attempts: 1,
            drains: 1,
            budget: WriteBudget::STANDARD,
            spill: Some(session.private_folder("spool")?),
            dry_run: false,
            program_version: concat!("onggi ", env!("CARGO_PKG_VERSION")).to_owned(),
            leases: None,
            watch,
        })
    }
}
