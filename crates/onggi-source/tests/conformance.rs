//! Every source over its fake, through the one suite.

use std::time::Duration;

use async_trait::async_trait;
use onggi_source::conformance::{self, Bed};
use onggi_source::fake::{FakeContents, FakeOptions, FakeSource, FakeSystem, FakeVersions};
use onggi_source::faults::Faults;
use onggi_source::{Image, Source};

struct FakeBed {
    system: FakeSystem,
    options: FakeOptions,
}

impl FakeBed {
    fn new(options: FakeOptions) -> Self {
        let system = FakeSystem::new("unit");
        system.put("etc/a", vec![1; 3000]);
        system.put("etc/deep/er/b", [vec![0; 8192], vec![2; 100], vec![0; 4096]].concat());
        system.put("top", "");
        Self { system, options }
    }
}

#[async_trait]
impl Bed for FakeBed {
    fn source(&self) -> Box<dyn Source> {
        Box::new(FakeSource::new(&self.system, self.options.clone()))
    }
    fn faults(&self) -> Faults {
        self.system.faults().clone()
    }
    fn describe(&self) -> String {
        self.system.describe()
    }
    fn leave_foreign(&self) -> bool {
        self.system.lock_foreign("foreign");
        self.system.image_foreign();
        true
    }
    fn foreign_is_there(&self) -> bool {
        let lock = self.system.locks().iter().any(|lock| lock.mark.is_none());
        lock && self.system.images().iter().any(|image| image.mark.is_none())
    }
}

async fn check(options: FakeOptions) {
    conformance::check(|| FakeBed::new(options.clone())).await;
}

#[tokio::test(start_paused = true)]
async fn the_fake_conforms() {
    check(FakeOptions::default()).await;
}

#[tokio::test(start_paused = true)]
async fn the_fake_conforms_in_every_manner() {
    for contents in [FakeContents::At, FakeContents::Stream, FakeContents::Inline] {
        for versions in [FakeVersions::Unknown, FakeVersions::Stat, FakeVersions::Token] {
            for image in [Image::Fixed, Image::Live] {
                let slow = (Duration::from_secs(1), Duration::from_secs(100));
                check(FakeOptions { contents, versions, image, width: 3, slow, ..FakeOptions::default() }).await;
            }
        }
    }
}
