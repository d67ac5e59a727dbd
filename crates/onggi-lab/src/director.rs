//! A BOSH Director and its UAA on loopback: TLS, tokens, redirects, tasks; as bad as a test wants them. It keeps no
//! platform: what it says of deployments is what it was told, and users are made by whoever stands behind it.

mod answer;
mod certificate;
mod script;
mod server;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;

use self::answer::Desk;
pub use self::certificate::Certificate;
pub use self::script::{Command, Deployment, EntryKind, Instance, Order, Script};

/// A Director that runs until it is dropped.
pub struct FakeDirector {
    address: SocketAddr,
    desk: Arc<Mutex<Desk>>,
    ca: Vec<u8>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl FakeDirector {
    /// The client that it knows.
    pub const CLIENT: &str = "backup";
    /// The client's secret.
    pub const SECRET: &str = "hunter2";

    /// Starts one that makes no users, or says that the test is skipped.
    #[track_caller]
    pub fn start(script: Script, certificate: Certificate) -> Option<Self> {
        Self::start_with(script, certificate, |_| Ok(()))
    }

    /// Starts one that hands its orders to `agents`, which answer for the instance; an error is its status.
    ///
    /// # Panics
    /// If it cannot listen on loopback.
    #[track_caller]
    pub fn start_with(
        script: Script,
        certificate: Certificate,
        agents: impl FnMut(&Order) -> Result<(), String> + Send + 'static,
    ) -> Option<Self> {
        let (tls, ca) = certificate::make(certificate)?;
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let (director, uaa) = (listen(), listen());
        let address = director.local_addr().expect("it listens");
        let uaa_url = format!("https://{}/uaa", uaa.local_addr().expect("it listens"));
        let desk = Arc::new(Mutex::new(Desk::new(script, uaa_url, Box::new(agents))));
        let (stop, stopped) = watch::channel(false);
        let serve = |listener| {
            let (tls, desk, stopped) = (tls.clone(), desk.clone(), stopped.clone());
            std::thread::spawn(move || server::serve(listener, tls, &desk, stopped))
        };
        let threads = [director, uaa].map(serve).into();
        Some(Self { address, desk, ca, stop, threads })
    }

    /// Where it listens, as an operator writes it.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate of its authority in PEM.
    pub fn ca(&self) -> &[u8] {
        &self.ca
    }

    /// Changes what it does from now on.
    pub fn script<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.desk().script)
    }

    /// Takes no token any more that it gave until now.
    pub fn expire_tokens(&self) {
        self.desk().tokens.clear();
    }

    /// What it was asked since it was last asked for this: `METHOD path`, and what else matters.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.desk().log)
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FakeDirector {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            // Its panic has been printed; one more would hide the test's own.
            let _ = thread.join();
        }
    }
}
