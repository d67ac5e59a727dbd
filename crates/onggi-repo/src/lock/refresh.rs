//! Renewing: a new file first, then the old one goes. Only while the old one is still there before and after, since
//! its absence means that someone took us for dead and may have worked without us.

use super::{Held, LOST_AFTER, REFRESH};
use crate::error::{Result, chain};
use onggi_storage::Storage;
use std::{sync::Arc, time::Duration};

/// After a failed renewal the next one is tried this much later.
const AGAIN: Duration = Duration::from_mins(1);

/// Renews until the lock is lost.
pub(super) async fn keep(held: Arc<Held>) {
    let clock = Arc::clone(&held.repo.env().clock);
    let mut next = held.state().refreshed + REFRESH;
    loop {
        clock.reach(next).await;
        match refresh(&held).await {
            Ok(true) => next = held.state().refreshed + REFRESH,
            Ok(false) => {
                held.state().lost = Some("its file was removed by someone else".into());
                return;
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "lock is not renewed");
                next = clock.elapsed() + AGAIN;
                if next > held.state().refreshed + 2 * LOST_AFTER {
                    held.state().lost = Some(chain(&error));
                    return;
                }
            }
        }
    }
}

/// `false`: the old lock file is gone.
async fn refresh(held: &Held) -> Result<bool> {
    let old = held.state().id;
    let storage = held.repo.fresh();
    let started = held.repo.env().clock.elapsed();
    if !exists(&**storage, old).await? {
        return Ok(false);
    }
    let new = held.repo.write_lock(held.kind).await?;
    if !exists(&**storage, old).await? {
        // Ours must not stay: nobody would renew it.
        drop(storage.remove(new.handle()).await);
        return Ok(false);
    }
    {
        let mut state = held.state();
        state.id = new;
        state.gap = state.gap.max(started.saturating_sub(state.refreshed));
        state.refreshed = started;
    }
    if let Err(error) = storage.remove(old.handle()).await {
        tracing::warn!(error = chain(&error), "renewed lock leaves its old file behind");
    }
    Ok(true)
}

async fn exists(storage: &dyn Storage, id: crate::format::LockId) -> Result<bool> {
    use crate::error::Act;
    match storage.stat(id.handle()).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error).act(|| format!("look for {}", id.handle())),
    }
}
