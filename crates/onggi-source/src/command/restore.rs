//! Hands a stored output to a command that takes it on its standard input.

use async_trait::async_trait;

use super::Command;
use crate::carrier::{Launch, check_exits, feed};
use crate::context::Context;
use crate::path::TreePath;
use crate::source::{Entry, Proof, Restore, RestorePlan, RestoreRequest, Result, SourceError, Step, Stored};

pub(super) struct IntoCommand<'a> {
    command: &'a Command,
    request: &'a RestoreRequest,
    from: &'a dyn Stored,
    file: TreePath,
    plan: RestorePlan,
    done: bool,
}

impl<'a> IntoCommand<'a> {
    pub(super) async fn plan(command: &'a Command, request: &'a RestoreRequest, from: &'a dyn Stored) -> Result<Self> {
        let (root, file) = (command.root()?, command.file()?);
        let found = from.list(&root).await?.into_iter().find(|entry| entry.path == file && entry.kind.is_file());
        let step = match &found {
            Some(Entry { length, .. }) => {
                let into = command.config.restore_command.join(" ");
                Step::Replace(format!("what `{into}` makes of {file}, {length} bytes"))
            }
            None => Step::Cannot(format!("{file} is not in the snapshot")),
        };
        Ok(Self { command, request, from, file, plan: RestorePlan { steps: vec![step] }, done: false })
    }

    fn launch(&self, cx: &Context) -> Launch {
        let stages = [&self.command.config.restore_command];
        Launch { takes_input: true, drops_output: true, ..self.command.launch(cx, &self.request.unit, stages) }
    }
}

#[async_trait]
impl Restore for IntoCommand<'_> {
    fn plan(&self) -> &RestorePlan {
        &self.plan
    }

    async fn apply(&mut self, cx: &Context) -> Result<()> {
        let content = self.from.open(&self.file).await?;
        let mut running = self.command.surroundings.launcher.start(&self.launch(cx)).await?;
        let fed = feed(cx, &*content, &mut *running).await;
        if let Err(stopped @ SourceError::Stopped(_)) = fed {
            return Err(stopped);
        }
        let exits = cx.unless_stopped(running.wait()).await??;
        check_exits(&exits, &running.tail())?; // says more than a broken pipe
        fed?;
        self.done = true;
        Ok(())
    }

    async fn prove(&mut self, cx: &Context) -> Result<Proof> {
        cx.check()?;
        if !self.done {
            return Err(SourceError::Incomplete("nothing was restored".to_owned()));
        }
        let command = self.command.config.restore_command.join(" ");
        Ok(Proof { checks: vec![format!("`{command}` took all and exited with status 0")] })
    }
}
