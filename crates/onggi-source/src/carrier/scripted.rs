//! A launcher whose programs are closures: every start, read, write and wait is a call that can be scripted to fail.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::process::{Exit, Launch, Launcher, Running};
use crate::faults::Faults;
use crate::source::{Result, SourceError};

/// What a scripted program does.
#[derive(Clone, Default)]
pub struct Program {
    /// What it writes, piece by piece.
    pub output: Vec<Bytes>,
    /// What it says on standard error.
    pub words: String,
    /// Its exit status.
    pub status: i32,
    /// What it changes when it is started.
    pub effect: Option<Arc<dyn Fn() + Send + Sync>>,
    /// What it was given on its standard input, of all its starts together.
    pub taken: Arc<Mutex<Vec<u8>>>,
}

/// What a program does when it is started with these arguments.
type Chosen = Arc<dyn Fn(&[OsString]) -> Program + Send + Sync>;

/// Programs by name.
#[derive(Clone, Default)]
pub struct ScriptedLauncher {
    programs: BTreeMap<String, Chosen>,
    faults: Faults,
}

impl ScriptedLauncher {
    /// The same with this program.
    #[must_use]
    pub fn with(self, name: &str, program: Program) -> Self {
        self.with_chosen(name, move |_| program.clone())
    }

    /// The same with a program that does what its arguments say.
    #[must_use]
    pub fn with_chosen(mut self, name: &str, chosen: impl Fn(&[OsString]) -> Program + Send + Sync + 'static) -> Self {
        self.programs.insert(name.to_owned(), Arc::new(chosen));
        self
    }

    /// Script and record.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

#[async_trait]
impl Launcher for ScriptedLauncher {
    async fn start(&self, launch: &Launch) -> Result<Box<dyn Running>> {
        let name = |stage: &Vec<OsString>| stage[0].to_string_lossy().into_owned();
        let names: Vec<_> = launch.stages.iter().map(name).collect();
        let programs: Option<Vec<_>> =
            launch.stages.iter().map(|stage| Some(self.programs.get(&name(stage))?(stage))).collect();
        let programs =
            programs.ok_or_else(|| SourceError::Denied(format!("start `{}`: not found", names.join(" | "))))?;
        let running = ScriptedRunning {
            output: programs.last().map(|last| last.output.clone().into()).unwrap_or_default(),
            named: names.into_iter().zip(programs).collect(),
            faults: self.faults.clone(),
            open: launch.takes_input,
        };
        let effects: Vec<_> = running.named.iter().filter_map(|(_, program)| program.effect.clone()).collect();
        let begin = async {
            for effect in &effects {
                effect();
            }
            Ok(())
        };
        self.faults.call(running.call("start"), begin).await?;
        Ok(Box::new(running))
    }
}

struct ScriptedRunning {
    named: Vec<(String, Program)>,
    output: VecDeque<Bytes>,
    faults: Faults,
    open: bool,
}

impl ScriptedRunning {
    fn call(&self, verb: &str) -> String {
        let names: Vec<_> = self.named.iter().map(|(name, _)| name.as_str()).collect();
        format!("{verb} {}", names.join(" | "))
    }
}

#[async_trait]
impl Running for ScriptedRunning {
    async fn read(&mut self) -> Result<Option<Bytes>> {
        let call = self.call("read");
        self.faults.call(call, async { Ok(self.output.pop_front()) }).await
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if !self.open {
            return Err(SourceError::Incomplete("its input is closed".to_owned()));
        }
        let taken = self.named[0].1.taken.clone();
        let write = async {
            taken.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes);
            Ok(())
        };
        self.faults.call(self.call("write"), write).await
    }

    async fn end_input(&mut self) -> Result<()> {
        self.open = false;
        Ok(())
    }

    async fn wait(&mut self) -> Result<Vec<Exit>> {
        let exit = |(name, program): &(String, Program)| Exit { program: name.clone(), status: Some(program.status) };
        let exits = self.named.iter().map(exit).collect();
        self.faults.call(self.call("wait"), async { Ok(exits) }).await
    }

    fn tail(&self) -> String {
        self.named.iter().map(|(_, program)| program.words.as_str()).collect::<Vec<_>>().join(" | ")
    }
}
