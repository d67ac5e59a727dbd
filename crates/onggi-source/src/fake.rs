//! A source over a system in memory: freezable in parts, chaining, with images, restores and foreign things, and with
//! a script of faults at every call. The model for tests of the engine and the first that the suite is run against.

mod capture;
mod restore;
mod system;

use std::time::Duration;

use async_trait::async_trait;

use crate::context::{Context, Destination, Purpose, UnitId};
use crate::source::{
    Base, Capabilities, Capture, Image, Outcome, Remnant, Restore, RestoreRequest, Result, Source, SourceError, Stored,
    Unit,
};

pub use self::system::{FakeCopy, FakeFile, FakeImage, FakeLock, FakeSystem, Mark};

/// How a [`FakeSource`] behaves.
#[derive(Debug, Clone)]
pub struct FakeOptions {
    /// Parts that `freeze` locks one by one; without one it does not freeze.
    pub parts: Vec<&'static str>,
    /// Whether the capture stands still.
    pub image: Image,
    /// Whether it can continue a base.
    pub chains: bool,
    /// How contents are handed over.
    pub contents: FakeContents,
    /// How unchanged files are recognised.
    pub versions: FakeVersions,
    /// Pushes at once.
    pub width: usize,
    /// How long `capture` takes, and how long `items` waits before the image can be read.
    pub slow: (Duration, Duration),
}

/// How a [`FakeSource`] hands contents over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FakeContents {
    /// At any offset, with holes where there are 4096 zeros.
    At,
    /// In one go, in pieces of at most 1000 bytes.
    Stream,
    /// With the push.
    Inline,
}

/// How a [`FakeSource`] marks unchanged files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FakeVersions {
    /// Not at all.
    Unknown,
    /// By metadata.
    Stat,
    /// By the revision that wrote the file.
    Token,
}

impl Default for FakeOptions {
    /// Freezes two parts, takes a fixed image, does not chain, reads at offsets, one push after the other.
    fn default() -> Self {
        Self {
            parts: vec!["db", "api"],
            image: Image::Fixed,
            chains: false,
            contents: FakeContents::At,
            versions: FakeVersions::Unknown,
            width: 1,
            slow: (Duration::ZERO, Duration::ZERO),
        }
    }
}

/// A source over a [`FakeSystem`] with one unit; as many as wanted may stand over one system, like processes.
#[derive(Clone)]
pub struct FakeSource {
    system: FakeSystem,
    options: FakeOptions,
}

impl FakeSource {
    /// A source over this system.
    pub fn new(system: &FakeSystem, options: FakeOptions) -> Self {
        Self { system: system.clone(), options }
    }

    /// The system below.
    pub fn system(&self) -> &FakeSystem {
        &self.system
    }

    /// The one unit.
    pub fn unit(&self) -> Unit {
        let name = self.system.name();
        Unit { id: UnitId::from(name), name: name.to_owned() }
    }
}

#[async_trait]
impl Source for FakeSource {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            freezes: !self.options.parts.is_empty(),
            image: self.options.image,
            chains: self.options.chains,
            destinations: &[Destination::Origin, Destination::Beside, Destination::Scratch],
        }
    }

    async fn preflight(&self, _cx: &Context) -> Result<()> {
        self.system.call("preflight", |_| ()).await
    }

    async fn discover(&self, _cx: &Context) -> Result<Vec<Unit>> {
        self.system.call("discover", |_| ()).await?;
        Ok(vec![self.unit()])
    }

    async fn freeze(&self, cx: &Context, unit: &Unit) -> Result<()> {
        for part in &self.options.parts {
            cx.check()?;
            let lock = FakeLock { part: (*part).to_owned(), mark: Some(Mark::of(cx, unit)), seen_at: cx.world.now() };
            self.system.try_call(format!("lock {part}"), |state| state.lock(lock)).await?;
        }
        Ok(())
    }

    async fn capture<'a>(&'a self, cx: &Context, unit: &Unit, base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        cx.check()?;
        let since = base.map(|base| base.facts.notes["revision"].as_u64().unwrap_or(0));
        let (mark, now) = (Mark::of(cx, unit), cx.world.now());
        let ready_at = cx.world.elapsed() + self.options.slow.1;
        let fix = self.system.try_call("capture", |state| state.fix_image(mark, now, ready_at, since)).await?;
        cx.sleep(self.options.slow.0).await?;
        let follows = base.filter(|_| self.options.chains).map(|base| base.snapshot.clone());
        Ok(Box::new(capture::FakeCapture::new(self, fix, follows)))
    }

    async fn thaw(&self, cx: &Context, unit: &Unit) -> Result<()> {
        let mark = Mark::of(cx, unit);
        let locked = self.system.locked_parts(&mark);
        for part in locked.iter().rev() {
            cx.check()?;
            self.system.call(format!("unlock {part}"), |state| state.unlock(part, &mark)).await?;
        }
        Ok(())
    }

    async fn release(&self, cx: &Context, unit: &Unit, outcome: Outcome) -> Result<()> {
        cx.check()?;
        let mark = Mark::of(cx, unit);
        match outcome {
            Outcome::Dropped => self.system.call("remove", |state| state.remove(&mark)).await,
            Outcome::Kept if cx.purpose == Purpose::Backup => {
                self.system.call("keep", |state| state.keep_image(&mark)).await
            }
            Outcome::Kept => self.system.call("hand over", |state| state.hand_over(&mark)).await,
        }
    }

    async fn remnants(&self, cx: &Context) -> Result<Vec<Remnant>> {
        let elapsed = cx.world.elapsed();
        let unit = self.unit();
        self.system.call("list", |state| state.remnants(&unit, elapsed)).await
    }

    async fn reopen<'a>(&'a self, cx: &Context, remnant: &Remnant) -> Result<Box<dyn Capture + 'a>> {
        cx.check()?;
        let (run, purpose) = remnant.mark.clone().ok_or(SourceError::Unsupported("import"))?;
        let mark = Mark { run, purpose, unit: remnant.unit.id.clone() };
        let image = self.system.try_call("reopen", |state| state.image(&mark).ok_or(SourceError::Gone)).await?;
        Ok(Box::new(capture::FakeCapture::new(self, image, None)))
    }

    async fn restore<'a>(
        &'a self,
        cx: &Context,
        request: &'a RestoreRequest,
        from: &'a dyn Stored,
    ) -> Result<Box<dyn Restore + 'a>> {
        restore::plan(cx, &self.system, request, from).await
    }
}
