//! The way from version 1 of the format, which knows no compression, to version 2. A repository of version 1 is read, and
//! nothing but locks is written to it: its readers could not read what we write.

use crate::{
    Repository, Result,
    control::{self, Control},
    error::{Act, RepoError},
    format::{config::Config, seal},
    lock::{Lock, LockKind},
    repository::CONFIG_DAMAGED,
    verify::{ReadData, SPARE_COPY},
};
use bytes::Bytes;
use onggi_storage::Handle;
use std::sync::Arc;

/// The version that is written.
pub const VERSION: u32 = 2;

/// What an upgrade did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgraded {
    /// The repository has the newest version now; open it again.
    Done,
    /// It had it already.
    Already,
}

impl Repository {
    /// Whether anything may be written beside locks.
    pub fn check_version(&self) -> Result<()> {
        if self.config().version >= VERSION {
            return Ok(());
        }
        let reason = "it has version 1 of the format, which is only read".into();
        Err(RepoError::Refused { guard: "version", reason })
    }

    /// Gives the repository version 2 of the format, after its structure was found whole. Data that is there stays as it
    /// is. Needs an exclusive lock; programs that know version 1 only cannot read it afterwards.
    ///
    /// The old config is kept in `onggi/control/`, and the new one is there before the old one goes: a crash in between
    /// leaves a repository that opens with the copy, and the same call again completes it.
    pub async fn upgrade(&self, lock: &Lock) -> Result<Upgraded> {
        lock.check()?;
        if lock.kind() != LockKind::Exclusive {
            let reason = "the format is upgraded under an exclusive lock only".into();
            return Err(RepoError::Refused { guard: "exclusive-lock", reason });
        }
        let is_whole = self.problems().iter().all(|problem| problem.class != CONFIG_DAMAGED);
        if self.config().version >= VERSION && is_whole {
            return Ok(Upgraded::Already);
        }
        self.load_index().await?;
        let report = self.verify(lock, ReadData::None, &Arc::default()).await?;
        // A crash of this very call leaves a copy that its original does not match yet.
        if let Some(problem) = report.problems.iter().find(|problem| problem.class != SPARE_COPY) {
            let reason = format!("the repository is damaged: {problem}");
            return Err(RepoError::Refused { guard: "damage", reason });
        }
        let storage = &**self.storage();
        if self.config().version < VERSION {
            control::replace(storage, &Control::OldConfig, self.sealed(self.config())).await?;
        }
        let config = self.sealed(&Config { version: VERSION, ..self.config().clone() });
        control::replace(storage, &Control::Config, config.clone()).await?;
        lock.check()?;
        match storage.remove(Handle::Config).await {
            Err(error) if error.is_not_found() => {}
            answer => answer.act(|| "remove the old config".into())?,
        }
        storage.create(Handle::Config, config).await.act(|| "create config".into())?;
        Ok(Upgraded::Done)
    }

    fn sealed(&self, config: &Config) -> Bytes {
        let mut sealed = Vec::new();
        seal::seal(self.master(), self.env().nonce(), &config.print(), &mut sealed);
        sealed.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Compute, Environment, Host, NewRepository, OpenOptions, format::KdfCost};
    use onggi_storage::{
        Storage,
        clock::TestClock,
        faulty::{Fault, Faulty, Rule},
        memory::Memory,
    };
    use std::time::Duration;

    async fn open(storage: Arc<dyn Storage>) -> Result<Repository> {
        let clock = Arc::new(TestClock::new(7));
        let host = Host { hostname: "hub".into(), username: "operator".into(), pid: 7, uid: 0, gid: 0 };
        let env = Environment { clock, host, compute: Compute::new(1) };
        if storage.stat(Handle::Config).await.is_err() && control::read(&*storage, &Control::Config).await.is_err() {
            let new = NewRepository { polynomial: Some("3da3358b4dc173".parse().unwrap()), kdf: KdfCost::testing() };
            return Repository::create(storage, &"secret".into(), new, env).await;
        }
        Repository::open(storage, &"secret".into(), OpenOptions::default(), env).await
    }

    /// One as restic before 0.14 made it: without copies.
    async fn version_1() -> Memory {
        let memory = Memory::new();
        let repo = open(Arc::new(memory.clone())).await.unwrap();
        let old = repo.sealed(&Config { version: 1, ..repo.config().clone() });
        control::remove(&memory, &Control::Config).await.unwrap();
        memory.remove(Handle::Config).await.unwrap();
        memory.create(Handle::Config, old).await.unwrap();
        memory
    }

    async fn upgrade(storage: Arc<dyn Storage>) -> Result<Upgraded> {
        let repo = open(storage).await?;
        let lock = repo.lock(LockKind::Exclusive, Duration::ZERO).await?;
        let done = repo.upgrade(&lock).await;
        lock.release().await?;
        done
    }

    #[tokio::test]
    async fn an_upgrade_keeps_the_repository_and_the_old_config() {
        let memory = version_1().await;
        let before = open(Arc::new(memory.clone())).await.unwrap();
        assert!(matches!(before.check_version(), Err(RepoError::Refused { guard: "version", .. })));
        assert_eq!(upgrade(Arc::new(memory.clone())).await.unwrap(), Upgraded::Done);
        let after = open(Arc::new(memory.clone())).await.unwrap();
        assert_eq!((after.config().version, after.id()), (2, before.id()));
        assert!(after.problems().is_empty() && after.check_version().is_ok());
        assert!(control::read(&memory, &Control::OldConfig).await.is_ok());
        assert_eq!(upgrade(Arc::new(memory)).await.unwrap(), Upgraded::Already);
    }

    #[tokio::test]
    async fn an_upgrade_survives_a_crash_anywhere() {
        let prepared = version_1().await;
        let counting = Arc::new(Faulty::new(Arc::new(prepared.copy())));
        upgrade(counting.clone()).await.unwrap();
        for nth in 0..counting.mutations() {
            for fault in &Fault::CRASHES {
                let memory = prepared.copy();
                let rule = Rule::new(fault.clone()).mutating().nth(nth).then_stop();
                let _ = upgrade(Arc::new(Faulty::new(Arc::new(memory.clone())).with(rule))).await;
                let at = format!("call {nth}, {fault:?}");
                let repo = open(Arc::new(memory.clone())).await.unwrap_or_else(|error| panic!("{at}: {error:?}"));
                repo.unlock(crate::lock::Unlock::All).await.unwrap();
                let again = upgrade(Arc::new(memory.clone())).await;
                assert!(again.is_ok(), "{at}: {again:?}");
                let whole = open(Arc::new(memory)).await.unwrap();
                assert!(whole.config().version == 2 && whole.problems().is_empty(), "{at}: {:?}", whole.problems());
            }
        }
    }
}
