//! Control-C and its relatives. The first one asks the work to end in good order; the second one ends the process.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use onggi_engine::exit::Exit;
use onggi_source::Stop;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::output::Output;

/// Knows whether this process was asked to end.
#[derive(Clone)]
pub struct Interrupt {
    stop: watch::Receiver<Option<Stop>>,
    code: Arc<AtomicU8>,
}

impl Interrupt {
    /// Listens from now on.
    pub fn listen(output: &Arc<Output>) -> Self {
        let (sender, stop) = watch::channel(None);
        let code = Arc::new(AtomicU8::new(0));
        // Registered once, this signal ends no command; only those that show progress answer it.
        drop(signal(SignalKind::user_defined1()));
        let kinds = [(SignalKind::interrupt(), Exit::Interrupted), (SignalKind::terminate(), Exit::Terminated)];
        let signals = kinds.map(|(kind, exit)| (signal(kind).ok(), exit));
        tokio::spawn(wait(signals, sender, Arc::clone(&code), Arc::clone(output)));
        Self { stop, code }
    }

    /// For the context of a run.
    pub fn stop(&self) -> watch::Receiver<Option<Stop>> {
        self.stop.clone()
    }

    /// How the process ends if it was asked to.
    pub fn exit(&self) -> Option<Exit> {
        let code = self.code.load(Ordering::SeqCst);
        [Exit::Interrupted, Exit::Terminated].into_iter().find(|exit| exit.code() == code)
    }

    /// Waits until the process is asked to end.
    pub async fn asked(&self) -> Exit {
        let mut stop = self.stop.clone();
        if stop.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
        self.exit().unwrap_or(Exit::Interrupted)
    }
}

async fn wait(
    [(mut first, of_first), (mut second, of_second)]: [(Option<Signal>, Exit); 2],
    stop: watch::Sender<Option<Stop>>,
    code: Arc<AtomicU8>,
    output: Arc<Output>,
) {
    loop {
        let exit = tokio::select! {
            () = next(first.as_mut()) => of_first,
            () = next(second.as_mut()) => of_second,
        };
        if code.swap(exit.code(), Ordering::SeqCst) != 0 {
            output.hide_bar();
            process::exit(exit.code().into());
        }
        output.talk("ending in good order; once more ends at once");
        stop.send_replace(Some(Stop::Cancelled));
    }
}

/// Waits for a signal; for ever if there is none to wait for.
pub async fn next(signal: Option<&mut Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}
