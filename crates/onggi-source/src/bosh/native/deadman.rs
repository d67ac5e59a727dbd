//! A dead-man on a machine: a process of root that waits for signs of life of a run. When none came for long enough it
//! ends the scripts that still run and unlocks the machine's jobs.
//!
//! A lease lies beside the artifacts. Whoever moves it away first decides: the dead-man, who then unlocks, or the run, who
//! then sends it home. So nothing is unlocked that a living run holds, and a run that finds its lease gone believes nothing
//! that was made since.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Active;
use super::site::{Lease, Of};
use crate::bosh::{Job, STORE, Script};
use crate::carrier::ssh::quote;
use crate::context::{Context, RunId};
use crate::source::{Result, SourceError};

/// Signs of life in the time after which a dead-man acts.
const SIGNS: u32 = 4;
/// How long a dead-man that unlocks is waited for, in seconds.
const UNLOCKING_SECONDS_MAX: u64 = 24 * 3600;
/// Scripts that hold jobs, as they stand in lists of processes.
const HOLDING: &str = "/var/vcap/jobs/[^/]+/bin/bbr/(pre-backup-lock|backup|pre-restore-lock|restore)$";

/// The files of one run's dead-man.
struct Files {
    /// A sign of life, each time another one.
    lease: String,
    /// What the lease is once the dead-man took it.
    lapsed: String,
    /// What it is once the run took it back.
    gone: String,
    /// The dead-man's process; locked while it lives.
    process: String,
}

impl Files {
    fn of(run: &RunId) -> Self {
        let file = |word: &str| quote(&format!("{STORE}/.{word}-{run}"));
        Self { lease: file("lease"), lapsed: file("lapsed"), gone: file("gone"), process: file("deadman") }
    }
}

/// For a root shell: leaves one that unlocks these jobs, in this order, once no sign came for so long.
pub(super) fn leave(run: &RunId, after: Duration, unlock: Script, jobs: &[&Job]) -> String {
    let Files { lease, process, .. } = Files::of(run);
    let watch = quote(&watch(run, after, unlock, jobs));
    format!(
        "umask 077; for tool in setsid flock pgrep ps; do command -v $tool >/dev/null || \
         {{ echo \"a dead-man needs $tool\" >&2; exit 1; }}; done; mkdir -p {STORE} && printf 0 > {lease} && \
         {{ setsid sh -c {watch} >/dev/null 2>&1 </dev/null & }} && \
         for try in $(seq 200); do [ -s {process} ] && exit 0; sleep 0.05; done; echo 'no dead-man starts' >&2; exit 1"
    )
}

/// What it does.
fn watch(run: &RunId, after: Duration, unlock: Script, jobs: &[&Job]) -> String {
    let Files { lease, lapsed, process, .. } = Files::of(run);
    let end = |signal: &str| {
        format!(
            "found=; for pid in $(pgrep -f {}); do session=$(ps -o sess= -p $pid | tr -d ' '); \
             [ \"${{session:-0}}\" -gt 1 ] && found=1 && pkill -{signal} -s $session; done; ",
            quote(HOLDING)
        )
    };
    let variable = if unlock == Script::PostBackupUnlock { "BBR_AFTER_BACKUP_SCRIPTS_SUCCESSFUL=false " } else { "" };
    let unlock = |job: &&Job| format!("sudo -n {variable}{} 9>&-; ", quote(&unlock.path(&job.name)));
    let unlocks = jobs.iter().map(unlock).collect::<Vec<_>>().concat();
    format!(
        "exec 9>{process}; flock 9; echo $$ >&9; last=; quiet=0; while [ $quiet -lt {} ]; do \
         sign=$(cat {lease} 2>/dev/null) || exit 0; \
         if [ \"$sign\" = \"$last\" ]; then quiet=$((quiet+1)); else last=$sign; quiet=0; fi; sleep 1 9>&-; done; \
         mv {lease} {lapsed} || exit 0; {}[ -z \"$found\" ] || sleep 3; {}{unlocks}",
        after.as_secs().max(1),
        end("TERM"),
        end("KILL"),
    )
}

/// For a root shell: a sign of life, and how the lease is. Waits for a dead-man that unlocks.
pub(super) fn renew(run: &RunId, sign: u64) -> String {
    let Files { lease, lapsed, process, .. } = Files::of(run);
    format!(
        "if [ -e {lapsed} ]; then flock -w {UNLOCKING_SECONDS_MAX} {process} true; echo lapsed; elif [ -e {lease} ]; then \
         printf %s {sign} > {lease}; if [ -e {lapsed} ]; then echo lapsed; else echo held; fi; else echo none; fi"
    )
}

/// For a root shell: sends it home. One that unlocks already is waited for.
pub(super) fn dismiss(run: &RunId) -> String {
    let Files { lease, lapsed, gone, process } = Files::of(run);
    format!(
        "if [ ! -e {process} ]; then :; elif [ ! -e {lapsed} ] && mv {lease} {gone} 2>/dev/null; then \
         pkill -KILL -s $(cat {process}); rm -f {gone} {process}; else flock -w {UNLOCKING_SECONDS_MAX} {process} true; fi"
    )
}

/// What [`renew`] says.
pub(super) fn lease(answer: &str) -> Lease {
    match answer.trim() {
        "held" => Lease::Held,
        "lapsed" => Lease::Lapsed,
        _ => Lease::None,
    }
}

impl Active {
    /// Leaves dead-men on all machines of the unit, and gives signs of life until they are sent home.
    pub(super) async fn be_watched(self: &Arc<Self>, cx: &Context, of: Of, after: Option<Duration>) -> Result<()> {
        let Some(after) = after else { return Ok(()) };
        self.site().watch(cx, of, after).await?;
        self.give_signs(cx, after);
        Ok(())
    }

    /// Whether dead-men wait for signs of this run.
    pub(super) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::SeqCst)
    }

    /// Fails if a dead-man has unlocked meanwhile what is to be believed.
    pub(super) async fn is_still_held(&self, cx: &Context) -> Result<()> {
        if self.is_watched() && self.site().renew(cx).await? != Lease::Held {
            let text = "no sign of life of this run arrived for so long that a dead-man unlocked its jobs";
            return Err(SourceError::Incomplete(text.to_owned()));
        }
        Ok(())
    }

    /// Keeps a dead-man of this run from acting while its jobs are unlocked by a run that may be another process.
    pub(super) async fn hold_off(self: &Arc<Self>, cx: &Context, after: Option<Duration>) -> Result<()> {
        let Some(after) = after else { return Ok(()) };
        if self.site().renew(cx).await? == Lease::Held {
            self.give_signs(cx, after);
        }
        Ok(())
    }

    /// Sends dead-men home.
    pub(super) async fn dismiss(&self, cx: &Context, after: Option<Duration>) -> Result<()> {
        if after.is_some() {
            self.site().dismiss(cx).await?;
            self.is_watched.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Gives signs of life while the unit is entered and dead-men wait for them. Whatever becomes of the run's calls: what
    /// ends them is not what holds jobs.
    pub(super) fn give_signs(self: &Arc<Self>, cx: &Context, after: Duration) {
        if !self.is_watched.swap(true, Ordering::SeqCst) {
            tokio::spawn(signs(Arc::downgrade(self), cx.clone(), after));
        }
    }
}

/// Until nobody waits for them any more.
async fn signs(active: Weak<Active>, cx: Context, after: Duration) {
    loop {
        cx.world.reach(cx.world.elapsed() + after / SIGNS).await;
        let Some(active) = active.upgrade().filter(|active| active.is_watched()) else { return };
        // One that does not arrive is missed there, and found out before anything is believed.
        let _ = active.site().renew(&cx.for_cleanup(after)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_unlocks_in_the_order_that_is_given_and_tells_of_no_success() {
        let job = |name: &str| Job {
            name: name.to_owned(),
            release: String::new(),
            scripts: std::collections::BTreeSet::new(),
            shared: None,
            metadata: crate::bosh::metadata::Metadata::default(),
        };
        let (first, second) = (job("api"), job("db"));
        let text = watch(&"r1".into(), Duration::from_secs(90), Script::PostBackupUnlock, &[&first, &second]);
        let unlock = |job: &str| {
            format!(
                "sudo -n BBR_AFTER_BACKUP_SCRIPTS_SUCCESSFUL=false /var/vcap/jobs/{job}/bin/bbr/post-backup-unlock 9>&-; "
            )
        };
        assert!(text.ends_with(&(unlock("api") + &unlock("db"))), "{text}");
        assert!(text.contains("-lt 90 ]") && text.contains("/.lease-r1"), "{text}");
        assert_eq!(["held\n", "lapsed\n", "none\n"].map(lease), [Lease::Held, Lease::Lapsed, Lease::None]);
    }
}
