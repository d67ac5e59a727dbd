//! A source that is nothing but its capture.

use async_trait::async_trait;
use onggi_source::{Base, Capabilities, Capture, Context, Image, Result, Source, Unit};

/// A value that can be captured, as a source that needs no freeze and is never asked for its units.
pub struct Alone<'d, T>(pub &'d T);

#[async_trait]
impl<'d, T: Sync> Source for Alone<'d, T>
where
    &'d T: Capture,
{
    fn capabilities(&self) -> Capabilities {
        Capabilities { freezes: false, image: Image::Fixed, chains: false, destinations: &[] }
    }
    async fn preflight(&self, _: &Context) -> Result<()> {
        Ok(())
    }
    async fn discover(&self, _: &Context) -> Result<Vec<Unit>> {
        Ok(vec![])
    }
    async fn capture<'a>(&'a self, _: &Context, _: &Unit, _: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        Ok(Box::new(self.0))
    }
}
