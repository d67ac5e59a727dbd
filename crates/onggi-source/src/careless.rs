//! An adapter that breaks the rules, so that a test can show that the engine commits nothing of it.

use std::time::Duration;

use async_trait::async_trait;

use crate::context::Context;
use crate::fake::FakeSource;
use crate::source::{Base, Capabilities, Capture, Facts, Items, Outcome, Result, Source, Unit};

/// Which rule is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carelessness {
    /// Answers of `push` are thrown away and the capture says that all went well.
    SwallowsErrors,
    /// A push is dropped half-way after this time, and the capture says that all went well.
    DropsPushes(Duration),
    /// Pushes the first item and calls it a day: nothing that an engine could notice, but a comparison does.
    StopsEarly,
    /// Leaves all directories before anything is pushed, and goes on pushing below them.
    LeavesTooEarly,
}

/// A [`FakeSource`] without care.
pub struct Careless {
    source: FakeSource,
    how: Carelessness,
}

impl Careless {
    /// Breaks this rule over that source.
    pub fn new(source: FakeSource, how: Carelessness) -> Self {
        Self { source, how }
    }
}

#[async_trait]
impl Source for Careless {
    fn capabilities(&self) -> Capabilities {
        self.source.capabilities()
    }

    async fn preflight(&self, cx: &Context) -> Result<()> {
        self.source.preflight(cx).await
    }

    async fn discover(&self, cx: &Context) -> Result<Vec<Unit>> {
        self.source.discover(cx).await
    }

    async fn freeze(&self, cx: &Context, unit: &Unit) -> Result<()> {
        self.source.freeze(cx, unit).await
    }

    async fn capture<'a>(&'a self, cx: &Context, unit: &Unit, base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        let inner = self.source.capture(cx, unit, base).await?;
        Ok(Box::new(CarelessCapture { inner, how: self.how }))
    }

    async fn thaw(&self, cx: &Context, unit: &Unit) -> Result<()> {
        self.source.thaw(cx, unit).await
    }

    async fn release(&self, cx: &Context, unit: &Unit, outcome: Outcome) -> Result<()> {
        self.source.release(cx, unit, outcome).await
    }
}

struct CarelessCapture<'a> {
    inner: Box<dyn Capture + 'a>,
    how: Carelessness,
}

#[async_trait]
impl Capture for CarelessCapture<'_> {
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        match self.how {
            Carelessness::SwallowsErrors => drop(self.inner.items(cx, out).await),
            Carelessness::DropsPushes(after) => {
                tokio::select! {
                    biased;
                    done = self.inner.items(cx, out) => drop(done),
                    () = cx.world.sleep(after) => {}
                }
            }
            Carelessness::StopsEarly => drop(self.inner.items(cx, &sinks::First::new(out)).await),
            Carelessness::LeavesTooEarly => {
                out.leave(&crate::path::TreePath::root()).await?;
                self.inner.items(cx, out).await?;
            }
        }
        Ok(Facts::new(cx.world.now()))
    }
}

mod sinks {
    //! A sink that takes one item for the real one and pretends for the rest.

    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;

    use crate::item::{Content, Item};
    use crate::path::TreePath;
    use crate::source::{Items, Pushed, Result};

    pub(super) struct First<'a> {
        out: &'a dyn Items,
        taken: AtomicBool,
    }

    impl<'a> First<'a> {
        pub(super) fn new(out: &'a dyn Items) -> Self {
            Self { out, taken: AtomicBool::new(false) }
        }
    }

    #[async_trait]
    impl Items for First<'_> {
        async fn push(&self, item: Item, content: Content<'_>) -> Result<Pushed> {
            if self.taken.swap(true, Ordering::Relaxed) {
                return Ok(Pushed::New);
            }
            self.out.push(item, content).await
        }

        async fn reuse(&self, _item: &Item) -> Result<bool> {
            Ok(false)
        }

        async fn leave(&self, _directory: &TreePath) -> Result<()> {
            Ok(())
        }
    }
}
