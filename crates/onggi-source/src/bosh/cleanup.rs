//! Taking away what a run made on instances: its own at its end, or that of one that died.

use super::fault::{Cause, Fault, Faults};
use super::instance::Instance;
use super::phase::{Pace, UNDOING_MAX, each, left};
use super::platform::{Level, Mode, Platform};
use super::script::Script;
use super::{STORE, command};
use crate::context::Context;

/// Unlocks all jobs and removes the store, after a backup that died. Nobody may be backing up there at the same time.
pub async fn backup(cx: &Context, platform: &Platform) -> Result<(), Faults> {
    let mut faults = Faults::default();
    faults.add(platform.unlock_backup(&cx.for_cleanup(UNDOING_MAX), false).await);
    faults.add(platform.remove_leftovers(cx).await);
    faults.check()
}

/// The same after a restore that died.
pub async fn restore(cx: &Context, platform: &Platform) -> Result<(), Faults> {
    let mut faults = Faults::default();
    faults.add(platform.unlock_restore(&cx.for_cleanup(UNDOING_MAX)).await);
    faults.add(platform.remove_leftovers(cx).await);
    faults.check()
}

impl Platform {
    /// Leaves a platform that was only found.
    pub async fn abandon(&self, cx: &Context) -> Result<(), Faults> {
        self.clean_up(cx).await
    }

    /// Removes what this run made and closes the doors that it opened. Nothing stops it.
    pub(crate) async fn clean_up(&self, cx: &Context) -> Result<(), Faults> {
        let cx = &cx.for_cleanup(UNDOING_MAX);
        let work = self.instances.iter().map(|instance| async move {
            let removed = if instance.is_made() { self.remove(cx, instance).await } else { Ok(()) };
            let closed = self.close(cx, instance).await;
            removed.and(closed).map_err(|cause| Fault::CleanUp { instance: instance.name(), asked: false, cause })
        });
        each(Pace::Parallel, work).await
    }

    /// Removes what a dead run made, where there are scripts that could have.
    async fn remove_leftovers(&self, cx: &Context) -> Result<(), Faults> {
        let cx = &cx.for_cleanup(UNDOING_MAX);
        let work = self.instances.iter().map(|instance| async move {
            let has_scripts = instance.has(Script::Backup) || instance.has(Script::Restore);
            let removed = if has_scripts { self.remove(cx, instance).await } else { Ok(()) };
            let closed = self.close(cx, instance).await;
            removed.and(closed).map_err(|cause| Fault::CleanUp { instance: instance.name(), asked: true, cause })
        });
        each(Pace::Parallel, work).await
    }

    async fn remove(&self, cx: &Context, instance: &Instance) -> Result<(), Cause> {
        let speaks = self.mode == Mode::Director;
        if speaks {
            self.say(Level::Info, "Cleaning up...");
        }
        let removed = instance.remote.ask(cx, &command::remove(STORE)).await;
        if speaks && removed.is_err() {
            self.say(Level::Error, "Backup artifact clean up failed");
        }
        removed?;
        instance.note_removed();
        self.owed.settle(&left(instance));
        Ok(())
    }

    async fn close(&self, cx: &Context, instance: &Instance) -> Result<(), Cause> {
        match &self.doors {
            Some(doors) => doors.close(cx, instance).await,
            None => Ok(()),
        }
    }
}
