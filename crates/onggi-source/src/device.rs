//! Kind `device`: what switches and routers answer to the commands that show their configuration, as text.
//!
//! Each device is a unit. An answer that is empty, cut, much shorter than the last one or an error message is refused;
//! one that differs from the last only in lines that always differ makes no snapshot.

mod capture;
mod config;
mod dialog;
mod line;
mod model;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use crate::config::Surroundings;
use crate::context::{Context, UnitId};
use crate::source::{Base, Capabilities, Capture, Image, Result, Source, SourceError, Unit};

pub use self::config::{DeviceConfig, DeviceConnect, DeviceInventory, DeviceTrust};
pub use self::line::{Dialer, Line, SshDialer};
pub use self::model::{How, Model};

use self::capture::Reading;
use self::config::Device;

/// Configured devices. A restore is the engine's directory restore: a person feeds the text to the device.
pub struct Devices {
    config: DeviceConfig,
    surroundings: Surroundings,
    dialer: Arc<dyn Dialer>,
}

impl Devices {
    /// A source over a configuration without faults; touches nothing.
    pub fn new(config: DeviceConfig, surroundings: Surroundings) -> Self {
        Self::over(config, surroundings, Arc::new(SshDialer))
    }

    /// The same, reaching devices in another way.
    pub fn over(config: DeviceConfig, surroundings: Surroundings, dialer: Arc<dyn Dialer>) -> Self {
        Self { config, surroundings, dialer }
    }

    /// The devices of the inventory as it is now, by name.
    fn devices(&self) -> Result<BTreeMap<String, Device>> {
        config::load(&self.config, &self.surroundings.working_directory)
    }

    fn device(&self, unit: &Unit) -> Result<Device> {
        self.devices()?.remove(unit.id.as_str()).ok_or(SourceError::Gone)
    }
}

#[async_trait]
impl Source for Devices {
    /// It looks at the last answers, to tell what changed.
    fn capabilities(&self) -> Capabilities {
        Capabilities { freezes: false, image: Image::Fixed, chains: true, destinations: &[] }
    }

    /// Reads the inventory. Whether a device lets us in is seen when it is asked.
    async fn preflight(&self, cx: &Context) -> Result<()> {
        cx.check()?;
        self.devices().map(drop)
    }

    async fn discover(&self, _cx: &Context) -> Result<Vec<Unit>> {
        let unit = |name: String| Unit { id: UnitId::new(name.as_str()), name };
        Ok(self.devices()?.into_keys().map(unit).collect())
    }

    /// Nothing is asked yet, so that a device that does not answer concerns no other.
    async fn capture<'a>(&'a self, cx: &Context, unit: &Unit, base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        cx.check()?;
        Ok(Box::new(Reading::new(self, self.device(unit)?, base)))
    }
}
