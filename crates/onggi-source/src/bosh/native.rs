//! Kind `bosh` as a source: a Director, or each of its deployments, as a unit.
//!
//! Frozen by the lock scripts, captured by the backup scripts, thawed by the unlock scripts; only then are artifacts
//! carried away, file by file, straight into the repository. A mark lies on this machine before anything is touched and
//! beside the artifacts before the first lock, so that another process unlocks and removes what a dead run left, or
//! carries away what is whole.

mod archive;
mod arrived;
mod capture;
mod config;
mod deadman;
mod export;
#[cfg(test)]
mod fake;
mod gate;
mod import;
mod known;
mod listing;
mod machine;
mod mark;
mod platform;
mod restore;
mod site;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use self::arrived::Arrived;
use self::capture::BoshCapture;
pub use self::config::{
    Api, AutoCleanup, BoshConfig, Connect, Deadman, Drain, Excluded, Included, Incremental, Mode, Trust, Verify,
};
pub use self::export::{Misfits, export};
pub use self::import::ArtifactDirectory;
use self::mark::{Kept, Marks, Phase};
use self::restore::IntoPlatform;
pub use self::restore::RestoreOptions;
use self::site::{Examined, Found, Gate, Of, Site};
use crate::bosh::phase::UNDOING_MAX;
use crate::config::Surroundings;
use crate::context::{Context, Destination, Problem, Progress, Purpose, Stop};
use crate::source::{
    Base, Capabilities, Capture, Image, Outcome, Remnant, Restore, RestoreRequest, Result, Source, SourceError, Stored,
    Unit,
};

/// Digits of a user's name after the prefix, as the Director's own client makes them.
const USER_DIGITS: usize = 15;
/// Between two signs of life.
const BEAT: Duration = Duration::from_mins(1);

/// How long going away may take after a look.
const LEAVING: Duration = Duration::from_mins(2);

/// A Director or its deployments.
pub struct Bosh {
    config: BoshConfig,
    marks: Marks,
    gate: Box<dyn Gate>,
    /// Units that this process has entered, by run and purpose.
    active: tokio::sync::Mutex<BTreeMap<String, Arc<Active>>>,
}

/// A unit that was entered.
struct Active {
    site: Box<dyn Site>,
    /// Who we are there.
    user: String,
    /// Calls that may lock more: what is unlocked beside them does not stay so.
    busy: AtomicUsize,
    is_prepared: AtomicBool,
    /// Dead-men wait for signs of this run.
    is_watched: AtomicBool,
    /// When the first lock began, and for how long it held.
    locked_at: Mutex<Option<Duration>>,
    held: Mutex<Option<Duration>>,
    /// When somebody did not want to wait any longer.
    cancelled_at: Mutex<Option<Duration>>,
    /// Says to other processes that this one is at work.
    _claim: File,
}

/// One call that may lock more, while it lives.
struct Busy<'a>(&'a Active);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Active {
    fn site(&self) -> &dyn Site {
        &*self.site
    }

    fn enter(&self) -> Busy<'_> {
        self.busy.fetch_add(1, Ordering::SeqCst);
        Busy(self)
    }

    /// How long jobs were held.
    fn held(&self) -> Option<Duration> {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same call, ending when jobs were held for long enough.
    fn limited(&self, cx: &Context, limit: Duration) -> Context {
        let now = cx.world.elapsed();
        let since = *self.locked_at.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
        cx.within((since + limit).saturating_sub(now), Stop::FreezeLimit)
    }

    /// For undoing: as long as it takes, but not if somebody waits for it.
    fn undoing(&self, cx: &Context, grace: Duration) -> Context {
        let cancelled_at = *self.cancelled_at.lock().unwrap_or_else(PoisonError::into_inner);
        let left = cancelled_at.map(|at| (at + grace).saturating_sub(cx.world.elapsed()));
        cx.for_cleanup(left.unwrap_or(UNDOING_MAX))
    }

    /// Remembers that somebody does not want to wait.
    fn noted<T>(&self, cx: &Context, result: Result<T>) -> Result<T> {
        if matches!(result, Err(SourceError::Stopped(Stop::Cancelled))) {
            let mut at = self.cancelled_at.lock().unwrap_or_else(PoisonError::into_inner);
            at.get_or_insert(cx.world.elapsed());
        }
        result
    }

    fn note_thawed(&self, cx: &Context) {
        let since = *self.locked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let held = since.map(|since| cx.world.elapsed().saturating_sub(since));
        let mut kept = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = kept.or(held);
    }

    /// What this run's marks say, place by place.
    async fn phases(&self, cx: &Context, unit: &Unit) -> Result<Vec<Option<Phase>>> {
        let mut phases = Vec::new();
        for place in 0..self.site.places().len() {
            phases.push(match self.site.look(cx, place).await? {
                Found::Marked(text) => mark::own(cx, unit, &text),
                Found::Nothing | Found::Foreign => None,
            });
        }
        Ok(phases)
    }

    /// Looks at every machine, and tells what would be in a backup's way and what it would not hold. `took` is what the
    /// last one's artifacts took, by machine.
    async fn examine(&self, cx: &Context, unit: &Unit, took: &BTreeMap<String, u64>) -> Result<()> {
        let problem = |class, text| cx.problem(Problem { class, path: None, text });
        for (place, name) in self.site.places().iter().enumerate() {
            let Examined { mut faults, pointing, scope } =
                self.site.examine(cx, place, took.get(name).copied().unwrap_or_default()).await?;
            if let Some(whose) = self.others(cx, unit, place).await? {
                faults.push(format!("{} holds artifacts of {whose}", crate::bosh::STORE));
            }
            for fault in faults {
                problem("preflight", format!("{name}: {fault}"));
            }
            for job in pointing {
                let text = "stores only where its data lie in a bucket: its backup is not self-contained";
                problem("external-data", format!("{name}: job {job} {text}"));
            }
            for line in scope {
                cx.monitor.progress(Progress::Phase(format!("{name}: {line}")));
            }
        }
        Ok(())
    }

    /// Whose artifacts lie there, if they are not this run's.
    async fn others(&self, cx: &Context, unit: &Unit, place: usize) -> Result<Option<String>> {
        Ok(match self.site.look(cx, place).await? {
            Found::Nothing => None,
            Found::Marked(text) if mark::own(cx, unit, &text).is_some() => None,
            Found::Marked(text) => Some(mark::whose(&text)),
            Found::Foreign => Some("another program".to_owned()),
        })
    }

    async fn write(&self, cx: &Context, unit: &Unit, phase: Phase) -> Result<()> {
        for place in 0..self.site.places().len() {
            self.site.mark(cx, place, &mark::file_name(cx), &mark::text(cx, unit, phase)).await?;
        }
        Ok(())
    }
}

impl Bosh {
    /// A source over a configuration without faults; touches nothing.
    pub fn new(config: BoshConfig, surroundings: Surroundings) -> Self {
        let marks = Marks::new(&surroundings);
        let gate = gate::open(&config, surroundings);
        Self::over(config, marks, gate)
    }

    fn over(config: BoshConfig, marks: Marks, gate: Box<dyn Gate>) -> Self {
        Self { config, marks, gate, active: tokio::sync::Mutex::default() }
    }

    /// The unit as this process has entered it; else it is entered now, under the mark that lies here.
    async fn active(&self, cx: &Context, unit: &Unit) -> Result<Arc<Active>> {
        let key = format!("{} {:?} {}", cx.run, cx.purpose, unit.id);
        let mut all = self.active.lock().await;
        if let Some(active) = all.get(&key) {
            return Ok(active.clone());
        }
        let claim = self.marks.hold(cx, unit)?;
        let user = format!("bosh_{:.*}", USER_DIGITS, format!("{:016x}", cx.world.random()));
        let kept = self.marks.read(cx, unit)?;
        let mut kept = kept.unwrap_or_else(|| Kept {
            run: cx.run.clone(),
            purpose: cx.purpose,
            unit: unit.clone(),
            seen_at: cx.world.now(),
            users: Vec::new(),
            taken_at: None,
        });
        kept.users.push(user.clone());
        self.marks.write(cx, &kept)?;
        let site = self.gate.enter(cx, unit, &user).await?;
        let active = Arc::new(Active {
            site,
            user,
            busy: AtomicUsize::new(0),
            is_prepared: AtomicBool::new(false),
            is_watched: AtomicBool::new(false),
            locked_at: Mutex::default(),
            held: Mutex::default(),
            cancelled_at: Mutex::default(),
            _claim: claim,
        });
        all.insert(key, active.clone());
        Ok(active)
    }

    /// Enters the unit, refuses what is there already, and marks it as this run's.
    async fn prepare(&self, cx: &Context, unit: &Unit, of: Of) -> Result<Arc<Active>> {
        let active = self.active(cx, unit).await?;
        if active.site.artifacts(of).is_empty() {
            return match of {
                Of::Backup if self.config.skip_without_scripts => Err(SourceError::Gone),
                Of::Backup => Err(SourceError::Refused(format!("{} has no backup scripts", unit.name))),
                Of::Restore => Err(SourceError::Refused(format!("{} has no restore scripts", unit.name))),
            };
        }
        for (place, name) in active.site.places().iter().enumerate() {
            let Some(whose) = active.others(cx, unit, place).await? else { continue };
            let text =
                format!("{} on {name} holds artifacts of {whose}; remove them when it is gone", crate::bosh::STORE);
            return Err(SourceError::Refused(text));
        }
        active.write(cx, unit, Phase { is_whole: false, is_thawed: false }).await?;
        active.be_watched(cx, of, self.config.lock_deadman()).await?;
        active.is_prepared.store(true, Ordering::SeqCst);
        Ok(active)
    }

    /// Unlocks all jobs if this run's mark says that they may be locked.
    async fn unlock(&self, cx: &Context, unit: &Unit, active: &Arc<Active>) -> Result<()> {
        let phases = active.phases(cx, unit).await?;
        let is_done = phases.iter().flatten().all(|phase| phase.is_thawed);
        if is_done {
            return Ok(());
        }
        let is_whole = phases.iter().all(|phase| phase.is_some_and(|phase| phase.is_whole));
        let (undoing, deadman) = (active.undoing(cx, self.config.cancel_grace()), self.config.lock_deadman());
        active.hold_off(&undoing, deadman).await?;
        active.site.unlock(&undoing, of(cx), is_whole).await?;
        active.note_thawed(cx);
        active.dismiss(&undoing, deadman).await?;
        if active.busy.load(Ordering::SeqCst) > 0 {
            return Ok(());
        }
        let phase = Phase { is_whole, is_thawed: true };
        for (place, _) in phases.iter().enumerate().filter(|(_, phase)| phase.is_some()) {
            active.site.mark(cx, place, &mark::file_name(cx), &mark::text(cx, unit, phase)).await?;
        }
        Ok(())
    }

    /// Does work that may take hours, and says on the way that its run lives: a mark that is old counts as a dead run's.
    async fn alive<T>(&self, cx: &Context, unit: &Unit, work: impl Future<Output = T>) -> T {
        let beat = async {
            loop {
                cx.world.reach(cx.world.elapsed() + BEAT).await;
                // One that cannot be written is old by and by, and whoever reads it then says so.
                if let Ok(Some(kept)) = self.marks.read(cx, unit) {
                    let _ = self.marks.write(cx, &kept);
                }
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            () = beat => unreachable!("it beats for ever"),
        }
    }

    /// The tag that says what kind of platform it is.
    fn mode_tag(&self) -> String {
        let mode = match self.config.mode {
            Mode::Director => "director",
            Mode::Deployment => "deployment",
        };
        format!("mode:{mode}")
    }

    /// Remembers what artifacts took on each machine, for the next look at free space.
    fn note_took(&self, unit: &Unit, site: &dyn Site, took: &BTreeMap<usize, u64>) {
        let names = site.places();
        self.marks.note_took(unit, &took.iter().map(|(place, bytes)| (names[*place].clone(), *bytes)).collect());
    }

    fn note_whole(&self, cx: &Context, unit: &Unit, taken_at: Timestamp) -> Result<()> {
        match self.marks.read(cx, unit)? {
            Some(kept) => self.marks.write(cx, &Kept { taken_at: Some(taken_at), ..kept }),
            None => Err(SourceError::Incomplete("its mark was removed meanwhile".to_owned())),
        }
    }
}

/// Which scripts a run's purpose runs.
fn of(cx: &Context) -> Of {
    match cx.purpose {
        Purpose::Backup | Purpose::Drill => Of::Backup,
        Purpose::Restore => Of::Restore,
    }
}

#[async_trait]
impl Source for Bosh {
    fn capabilities(&self) -> Capabilities {
        // It continues nothing, but its notes say which hash an unchanged file has.
        Capabilities { freezes: true, image: Image::Fixed, chains: true, destinations: &[Destination::Origin] }
    }

    async fn preflight(&self, cx: &Context) -> Result<()> {
        let units = self.gate.units(cx).await?;
        if units.is_empty() {
            return Err(SourceError::Refused("there is no deployment to back up".to_owned()));
        }
        for unit in &units {
            for text in self.gate.under_way(cx, unit).await? {
                cx.problem(Problem { class: "preflight", path: None, text: format!("{}: {text}", unit.name) });
            }
            let looked = match self.active(cx, unit).await {
                Ok(active) => active.examine(cx, unit, &self.marks.took(unit)).await,
                Err(error) => Err(error),
            };
            let left = self.release(&cx.for_cleanup(LEAVING), unit, Outcome::Dropped).await;
            looked.and(left)?;
        }
        Ok(())
    }

    async fn discover(&self, cx: &Context) -> Result<Vec<Unit>> {
        self.gate.units(cx).await
    }

    async fn freeze(&self, cx: &Context, unit: &Unit) -> Result<()> {
        let active = self.prepare(cx, unit, Of::Backup).await?;
        let _busy = active.enter();
        let limited = active.limited(cx, self.config.lock_time_max());
        let locked = self.alive(cx, unit, active.site.lock(&limited, Of::Backup)).await;
        active.noted(cx, locked)
    }

    async fn capture<'a>(&'a self, cx: &Context, unit: &Unit, base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        let mut active = self.active(cx, unit).await?;
        if !active.is_prepared.load(Ordering::SeqCst) {
            active = self.prepare(cx, unit, Of::Backup).await?;
        }
        let busy = active.enter();
        let taken_at = cx.world.now();
        let limited = active.limited(cx, self.config.lock_time_max());
        let made = self.alive(cx, unit, active.site.work(&limited, Of::Backup, &[])).await;
        active.noted(cx, made)?;
        active.is_still_held(cx).await?;
        active.write(cx, unit, Phase { is_whole: true, is_thawed: false }).await?;
        self.note_whole(cx, unit, taken_at)?;
        drop(busy);
        let arrived = Arrived::open(&self.marks.arrived(cx, unit))?;
        Ok(Box::new(BoshCapture { source: self, unit: unit.clone(), active, base: base.cloned(), taken_at, arrived }))
    }

    async fn thaw(&self, cx: &Context, unit: &Unit) -> Result<()> {
        if self.marks.read(cx, unit)?.is_none() {
            return Ok(());
        }
        match self.active(cx, unit).await {
            Err(SourceError::Gone) => Ok(()),
            active => self.unlock(cx, unit, &active?).await,
        }
    }

    /// Removes artifacts, marks and users, in both outcomes: nothing of them serves the next capture.
    async fn release(&self, cx: &Context, unit: &Unit, _outcome: Outcome) -> Result<()> {
        let Some(kept) = self.marks.read(cx, unit)? else { return Ok(()) };
        let active = match self.active(cx, unit).await {
            Err(SourceError::Gone) => return self.marks.remove(cx, unit),
            active => active?,
        };
        self.unlock(cx, unit, &active).await?;
        let phases = active.phases(cx, unit).await?;
        for (place, _) in phases.iter().enumerate().filter(|(_, phase)| phase.is_some()) {
            active.site.clear(cx, place).await?;
        }
        active.site.leave(cx).await?;
        for user in kept.users.iter().filter(|user| **user != active.user) {
            self.gate.expel(cx, unit, user).await?;
        }
        self.active.lock().await.retain(|_, other| !Arc::ptr_eq(other, &active));
        self.marks.remove(cx, unit)
    }

    async fn remnants(&self, cx: &Context) -> Result<Vec<Remnant>> {
        match self.config.auto_cleanup {
            AutoCleanup::Own => self.marks.remnants(cx.world.now(), self.config.keep()),
            AutoCleanup::Never => Ok(Vec::new()),
        }
    }

    async fn reopen<'a>(&'a self, cx: &Context, remnant: &Remnant) -> Result<Box<dyn Capture + 'a>> {
        let unit = remnant.unit.clone();
        let active = self.active(cx, &unit).await?;
        let phases = active.phases(cx, &unit).await?;
        if !phases.iter().all(|phase| phase.is_some_and(|phase| phase.is_whole)) {
            return Err(SourceError::Incomplete("its artifacts are not whole".to_owned()));
        }
        let kept = self.marks.read(cx, &unit)?;
        let taken_at = kept.and_then(|kept| kept.taken_at).unwrap_or(remnant.seen_at);
        let arrived = Arrived::open(&self.marks.arrived(cx, &unit))?;
        Ok(Box::new(BoshCapture { source: self, unit, active, base: None, taken_at, arrived }))
    }

    async fn restore<'a>(
        &'a self,
        cx: &Context,
        request: &'a RestoreRequest,
        from: &'a dyn Stored,
    ) -> Result<Box<dyn Restore + 'a>> {
        Ok(Box::new(IntoPlatform::plan(self, cx, request, from).await?))
    }
}
