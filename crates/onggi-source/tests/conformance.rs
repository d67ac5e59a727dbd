//! Every source over its fake, through the one suite.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use onggi_source::carrier::{Program, ScriptedLauncher};
use onggi_source::command::{Command, CommandConfig};
use onggi_source::conformance::{self, Bed};
use onggi_source::fake::{FakeContents, FakeOptions, FakeSource, FakeSystem, FakeVersions};
use onggi_source::faults::Faults;
use onggi_source::paths::{Paths, PathsConfig};
use onggi_source::{Hook, Image, Source};

use support::Folder;

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
    /// Another tool holds one of the parts that the source would lock.
    fn leave_foreign(&self) -> bool {
        self.system.lock_foreign("api");
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

/// A folder, and programs that lock and unlock something and write a dump.
struct HookedBed {
    folder: Folder,
    launcher: ScriptedLauncher,
    locked: Arc<AtomicBool>,
    kind: HookedKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HookedKind {
    Paths,
    Command,
}

impl HookedBed {
    fn new(kind: HookedKind) -> Self {
        let folder = Folder::with(&["d/a", "d/deep/b"]);
        let locked = Arc::new(AtomicBool::new(false));
        let setting = |value| {
            let locked = locked.clone();
            let effect = move || locked.store(value, Ordering::Relaxed);
            Program { effect: Some(Arc::new(effect)), ..Program::default() }
        };
        let output = vec![Bytes::from_static(b"rows"), Bytes::from_static(b" and rows")];
        let launcher = ScriptedLauncher::default()
            .with("lock", setting(true))
            .with("unlock", setting(false))
            .with("dump", Program { output, ..Program::default() })
            .with("load", Program::default());
        Self { folder, launcher, locked, kind }
    }
}

fn hook(program: &str) -> Vec<Hook> {
    vec![Hook { command: vec![program.to_owned()], time_limit: Duration::from_mins(1) }]
}

impl Bed for HookedBed {
    fn source(&self) -> Box<dyn Source> {
        let surroundings = self.folder.surroundings_with(Arc::new(self.launcher.clone()));
        let (before, after) = (hook("lock"), hook("unlock"));
        match self.kind {
            HookedKind::Paths => {
                let config = PathsConfig { before, after, ..PathsConfig::new(["d".into()]) };
                Box::new(Paths::new(config, surroundings).unwrap())
            }
            HookedKind::Command => {
                let list = |name: &str| vec![name.to_owned()];
                let (command, restore_command, file) = (list("dump"), list("load"), "out".to_owned());
                let config =
                    CommandConfig { command, restore_command, file, before, after, ..CommandConfig::default() };
                Box::new(Command::new(config, surroundings))
            }
        }
    }
    fn faults(&self) -> Faults {
        self.launcher.faults().clone()
    }
    fn describe(&self) -> String {
        let marks = std::fs::read_dir(self.folder.state().join("marks")).into_iter().flatten().flatten();
        let mut names: Vec<_> = marks.map(|entry| entry.file_name()).collect();
        names.sort();
        let files = std::fs::read(self.folder.path("d/a")).unwrap();
        format!("locked {} marks {names:?} file {files:?}", self.locked.load(Ordering::Relaxed))
    }
    /// The mark of another run.
    fn leave_foreign(&self) -> bool {
        std::fs::create_dir_all(self.folder.state().join("marks")).unwrap();
        std::fs::write(self.folder.state().join("marks/0123.mark"), "{}").unwrap();
        true
    }
    fn foreign_is_there(&self) -> bool {
        self.folder.state().join("marks/0123.mark").exists()
    }
    fn flows(&self) -> bool {
        self.kind == HookedKind::Command
    }
}

#[tokio::test]
async fn kind_paths_conforms() {
    conformance::check(|| HookedBed::new(HookedKind::Paths)).await;
}

#[tokio::test]
async fn kind_command_conforms() {
    conformance::check(|| HookedBed::new(HookedKind::Command)).await;
}
