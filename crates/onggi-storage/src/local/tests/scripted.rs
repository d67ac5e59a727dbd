//! A disk that records its calls and fails those that a script names.

use super::super::disk::{Disk, Kernel, Temporary};
use rustix::io::Errno;
use std::{
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

/// What a script says of the n-th call (from 0), given its name.
type Script = Box<dyn Fn(usize, &str) -> Outcome + Send + Sync>;

/// What becomes of a call.
pub enum Outcome {
    Done,
    NotDone(Errno),
    DoneButError(Errno),
    /// A write of the first half, then the error.
    HalfDone(Errno),
}

pub struct Scripted {
    calls: Calls,
    script: Script,
}

/// The record, shared with the test.
#[derive(Clone, Default)]
pub struct Calls(Arc<Mutex<Vec<String>>>);

impl Calls {
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Scripted {
    pub fn recording() -> (Self, Calls) {
        Self::new(|_, _| Outcome::Done)
    }

    pub fn new(script: impl Fn(usize, &str) -> Outcome + Send + Sync + 'static) -> (Self, Calls) {
        let calls = Calls::default();
        (Self { calls: calls.clone(), script: Box::new(script) }, calls)
    }

    fn call<T>(&self, name: &str, paths: &[&Path], act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.outcome(name, paths) {
            Outcome::Done => act(),
            Outcome::NotDone(errno) | Outcome::HalfDone(errno) => Err(errno.into()),
            Outcome::DoneButError(errno) => act().and(Err(errno.into())),
        }
    }

    fn outcome(&self, name: &str, paths: &[&Path]) -> Outcome {
        let mut calls = self.calls.0.lock().unwrap();
        let number = calls.len();
        let paths: Vec<_> = paths.iter().map(|path| shown(path)).collect();
        calls.push(format!("{name} {}", paths.join(" ")));
        (self.script)(number, name)
    }
}

/// The last component, without what is random in it.
fn shown(path: &Path) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.rsplit_once(".tmp-").map_or(name.to_owned(), |(name, _)| format!("{name}.tmp-*"))
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl Disk for Scripted {
    fn open_new(&self, path: PathBuf) -> io::Result<Temporary> {
        self.call("open_new", &[&path], || Kernel.open_new(path.clone()))
    }

    fn write(&self, temporary: &Temporary, content: &[u8]) -> io::Result<()> {
        match self.outcome("write", &[&temporary.path]) {
            Outcome::Done => Kernel.write(temporary, content),
            Outcome::NotDone(errno) => Err(errno.into()),
            Outcome::DoneButError(errno) => Kernel.write(temporary, content).and(Err(errno.into())),
            Outcome::HalfDone(errno) => Kernel.write(temporary, &content[..content.len() / 2]).and(Err(errno.into())),
        }
    }

    fn protect(&self, temporary: &Temporary) -> io::Result<()> {
        self.call("protect", &[&temporary.path], || Kernel.protect(temporary))
    }

    fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        self.call("sync", &[path], || Kernel.sync(file, path))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename_new", &[from, to], || Kernel.rename_new(from, to))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("link", &[from, to], || Kernel.link(from, to))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.call("unlink", &[path], || Kernel.unlink(path))
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.call("make_folder", &[path], || Kernel.make_folder(path))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.call("sync_folder", &[path], || Kernel.sync_folder(path))
    }
}
