//! Kind `command`: what a command writes to its standard output, as one file, good only after exit status 0 of all its
//! processes. And the standard input of onggi itself, as a file that somebody else writes.

mod capture;
mod config;
mod restore;
mod stdin;

use async_trait::async_trait;

use crate::carrier::Launch;
use crate::config::Surroundings;
use crate::context::{Context, Destination, UnitId};
use crate::hook::{Hooks, mark_variables};
use crate::path::TreePath;
use crate::source::{
    Base, Capabilities, Capture, Image, Outcome, Remnant, Restore, RestoreRequest, Result, Source, SourceError, Stored,
    Unit,
};

pub use self::config::CommandConfig;
pub use self::stdin::Stdin;

/// A configured command. Its one unit bears the source's name.
pub struct Command {
    config: CommandConfig,
    surroundings: Surroundings,
    hooks: Hooks,
}

impl Command {
    /// A source over a configuration without faults; touches nothing.
    pub fn new(config: CommandConfig, surroundings: Surroundings) -> Self {
        let hooks = Hooks::new(config.before.clone(), config.after.clone(), &surroundings);
        Self { config, surroundings, hooks }
    }

    fn unit(&self) -> Unit {
        Unit { id: UnitId::new(self.surroundings.source.as_str()), name: self.surroundings.host.clone() }
    }

    /// Where the output lies in the tree: `command/<source>/<file>`.
    fn file(&self) -> Result<TreePath> {
        let bad = |error| SourceError::Denied(format!("name the file: {error}"));
        self.root()?.join(&self.config.file).map_err(bad)
    }

    fn root(&self) -> Result<TreePath> {
        let root = TreePath::new("command").and_then(|root| root.join(&self.surroundings.source));
        root.map_err(|error| SourceError::Denied(format!("name the source: {error}")))
    }

    fn launch<'a>(&self, cx: &Context, unit: &Unit, stages: impl IntoIterator<Item = &'a Vec<String>>) -> Launch {
        let mut environment = mark_variables(cx, &self.surroundings.source, unit);
        environment.extend(self.config.environment.clone());
        Launch {
            directory: Some(self.config.directory.clone().unwrap_or(self.surroundings.working_directory.clone())),
            ..Launch::new(stages.into_iter().cloned()).with_environment(environment)
        }
    }
}

#[async_trait]
impl Source for Command {
    fn capabilities(&self) -> Capabilities {
        let destinations: &[_] = if self.config.restore_command.is_empty() { &[] } else { &[Destination::Origin] };
        Capabilities { freezes: self.hooks.freezes(), image: Image::Fixed, chains: false, destinations }
    }

    /// There is nothing to look at without running the command.
    async fn preflight(&self, cx: &Context) -> Result<()> {
        cx.check()?;
        Ok(())
    }

    async fn discover(&self, _cx: &Context) -> Result<Vec<Unit>> {
        Ok(vec![self.unit()])
    }

    async fn freeze(&self, cx: &Context, unit: &Unit) -> Result<()> {
        self.hooks.freeze(cx, unit).await
    }

    /// Starts the command, which sees the system as it is now and waits until its output is taken.
    async fn capture<'a>(&'a self, cx: &Context, unit: &Unit, _base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        cx.check()?;
        let launch = self.launch(cx, unit, self.config.stages());
        let running = self.surroundings.launcher.start(&launch).await?;
        let place = capture::Place { root: self.root()?, file: self.file()? };
        Ok(Box::new(capture::Output::new(self, launch, running, place, cx.world.now())))
    }

    async fn thaw(&self, cx: &Context, unit: &Unit) -> Result<()> {
        self.hooks.thaw(cx, unit).await
    }

    /// The processes die with the capture, or with onggi: their output has no reader then.
    async fn release(&self, cx: &Context, _unit: &Unit, _outcome: Outcome) -> Result<()> {
        cx.check()?;
        Ok(())
    }

    async fn remnants(&self, _cx: &Context) -> Result<Vec<Remnant>> {
        self.hooks.remnants(&self.unit())
    }

    async fn restore<'a>(
        &'a self,
        _cx: &Context,
        request: &'a RestoreRequest,
        from: &'a dyn Stored,
    ) -> Result<Box<dyn Restore + 'a>> {
        if self.config.restore_command.is_empty() || request.to != Destination::Origin {
            return Err(SourceError::Unsupported("restore other than by a restore-command to the origin"));
        }
        Ok(Box::new(restore::IntoCommand::plan(self, request, from).await?))
    }
}
