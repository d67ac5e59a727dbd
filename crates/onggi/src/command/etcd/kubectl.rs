//! The one program that talks to Kubernetes: it has the operator's credentials already.

use std::process::Stdio;

use onggi_engine::exit::Exit;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::failure::Failure;
use crate::session::Session;

/// An API server that says nothing for so long is down.
const PATIENCE: &str = "--request-timeout=30s";

/// Runs it with these words and this input, and returns what it prints; what it complains of is the failure's cause.
pub async fn call(session: &Session, act: &str, words: &[&str], input: &str) -> Result<String, Failure> {
    let failed = || Failure::new(Exit::Failed, act);
    let program = session.machine.program("kubectl");
    let program = program.ok_or_else(|| {
        failed()
            .because("kubectl is not in PATH")
            .hint("install kubectl, or run this where it is, with its credentials")
    })?;
    let local = |error: &std::io::Error| Failure::local(act, error);
    let mut command = Command::new(program);
    command.arg(PATIENCE).args(words).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| local(&error))?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // What it did not read it complains of itself.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let ((), done) = tokio::join!(feed, child.wait_with_output());
    let done = done.map_err(|error| local(&error))?;
    if !done.status.success() {
        let complaint = String::from_utf8_lossy(&done.stderr);
        let complaint = complaint.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
        return Err(failed().because(format_args!("kubectl: {complaint}")));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
