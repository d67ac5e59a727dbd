//! The way to one instance: commands over one connection, or two where more runs at once than a server's ten channels
//! allow. A connection that broke is made anew for the next command; no command is ever started twice.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onggi_ssh::{Event, Login, Opened, Pipe, Session, SshError, login::LOGIN};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};

use super::command;
use super::director::{Address, Route};
use super::instance::Witness;
use crate::chain::chain;
use crate::context::{Context, Stop};

/// Channels of a connection; servers allow ten.
const CHANNELS_MAX: usize = 8;
/// Connections to an instance.
const CONNECTIONS_MAX: usize = 2;
/// How often a channel is asked for: a server counts those that are just closing.
const OPENINGS_MAX: usize = 20;
/// How long it has to close them.
const OPENING_PAUSE: Duration = Duration::from_millis(50);
/// Most bytes that a command may answer: checksums of a million files.
pub(crate) const OUTPUT_BYTES_MAX: usize = 256 << 20;
/// Bytes of an input that go at once.
const INPUT_BYTES: usize = 32 << 10;
/// Most bytes that are kept of what a script says.
const SAID_BYTES_MAX: usize = 64 << 10;
/// How long a script that is to end is waited for before it is killed.
const PATIENCE: Duration = Duration::from_secs(3);

/// One instance.
pub struct Remote {
    login: Login,
    witness: Option<Witness>,
    route: Option<Arc<Route>>,
    links: Mutex<Vec<Link>>,
}

#[derive(Clone)]
struct Link {
    session: Arc<Session>,
    room: Arc<Semaphore>,
}

/// How a command ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// What it wrote.
    pub output: Vec<u8>,
    /// What it said on standard error.
    pub words: Vec<u8>,
    /// Its exit status; `None` if the connection broke or a signal ended it.
    pub status: Option<u32>,
    is_killed: bool,
    session: Option<u32>,
}

/// Why a command did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It was not started.
    #[error("{}", chain(.0))]
    Ssh(SshError),
    /// It failed: what it said, and its exit code.
    #[error("{0}")]
    Failed(String),
    /// The connection broke before its end.
    #[error("{0}")]
    Lost(String),
    /// It was ended.
    #[error("{0}")]
    Stopped(#[from] Stop),
}

impl Ended {
    /// What it wrote, if it ended well.
    pub fn check(self) -> Result<String, Trouble> {
        if self.status == Some(0) {
            return Ok(String::from_utf8_lossy(&self.output).into_owned());
        }
        let how = self.how();
        Err(if self.status.is_none() && !self.is_killed { Trouble::Lost(how) } else { Trouble::Failed(how) })
    }

    /// What it said, and how it ended.
    pub fn how(&self) -> String {
        let words = String::from_utf8_lossy(&self.words);
        let end = self.status.map_or("connection lost before its end".into(), |code| format!("exit code {code}"));
        format!("{} - {end}", words.trim_end())
    }

    fn take(&mut self, event: Event, bytes_max: usize) {
        match event {
            Event::Output(bytes) => keep(&mut self.output, &bytes, bytes_max),
            Event::Words(bytes) => keep(&mut self.words, &bytes, SAID_BYTES_MAX),
            Event::Exit(status) => self.status = Some(status),
            Event::Killed(signal) => {
                self.is_killed = true;
                keep(&mut self.words, format!("killed by {signal}").as_bytes(), SAID_BYTES_MAX);
            }
        }
    }

    /// The number on the first line, once it is whole.
    fn read_session(&mut self) {
        let Some(end) = self.output.iter().position(|byte| *byte == b'\n').filter(|_| self.session.is_none()) else {
            return;
        };
        let line: Vec<u8> = self.output.drain(..=end).collect();
        self.session = String::from_utf8_lossy(&line).trim().parse().ok();
    }
}

fn keep(kept: &mut Vec<u8>, bytes: &[u8], bytes_max: usize) {
    let room = bytes_max.saturating_sub(kept.len());
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

impl Remote {
    /// The way; nothing is touched.
    pub fn new(login: Login, witness: Option<Witness>) -> Self {
        Self::through(login, witness, None)
    }

    /// The same by a detour.
    pub fn through(login: Login, witness: Option<Witness>, route: Option<Arc<Route>>) -> Self {
        Self { login, witness, route, links: Mutex::default() }
    }

    /// Runs a command to its end; what it wrote.
    pub async fn ask(&self, cx: &Context, command: &str) -> Result<String, Trouble> {
        self.run(cx, command).await?.check()
    }

    /// Runs a command to its end, however it ends.
    pub async fn run(&self, cx: &Context, command: &str) -> Result<Ended, Trouble> {
        let (mut pipe, _room) = self.start(cx, command).await?;
        let mut ended = Ended::default();
        let all = async {
            pipe.input.end().await.map_err(Trouble::Ssh)?;
            while let Some(event) = pipe.output.next().await {
                ended.take(event, OUTPUT_BYTES_MAX);
            }
            Ok::<(), Trouble>(())
        };
        cx.unless_stopped(all).await??;
        Ok(ended)
    }

    /// Runs a script of a job to its end. One that is to end early gets a signal, with all that it started; the same if
    /// the connection breaks, for nobody would know of it any more.
    pub async fn script(&self, cx: &Context, command: &str) -> Result<Ended, Trouble> {
        let (mut pipe, _room) = self.start(cx, command).await?;
        let mut ended = Ended::default();
        // A script that reads its input waits for no one; whether it is told so decides nothing.
        let _ = pipe.input.end().await;
        let stopped = cx.unless_stopped(listen(&mut pipe, &mut ended)).await;
        let Some(session) = ended.session.filter(|_| ended.status.is_none()) else {
            return stopped.map(|()| ended).map_err(Trouble::Stopped);
        };
        let settling = cx.for_cleanup(PATIENCE);
        let _ = self.run(&settling, &command::signal(session, "TERM")).await; // it may have ended by itself
        let _ = settling.unless_stopped(listen(&mut pipe, &mut ended)).await;
        if ended.status.is_none() && stopped.is_err() {
            let _ = self.run(&cx.for_cleanup(PATIENCE), &command::signal(session, "KILL")).await;
        }
        stopped.map(|()| ended).map_err(Trouble::Stopped)
    }

    /// Runs a command and hands on what it writes. Fails if nobody takes it.
    pub async fn receive(&self, cx: &Context, command: &str, to: mpsc::Sender<Bytes>) -> Result<(), Trouble> {
        self.exchange(cx, command, Bytes::new(), to).await
    }

    /// The same of a command that has an input.
    pub async fn exchange(
        &self,
        cx: &Context,
        command: &str,
        mut given: Bytes,
        to: mpsc::Sender<Bytes>,
    ) -> Result<(), Trouble> {
        let (Pipe { input, mut output }, _room) = self.start(cx, command).await?;
        let mut ended = Ended::default();
        let feed = async {
            while !given.is_empty() {
                // a command that ended says itself why
                if input.send(given.split_to(given.len().min(INPUT_BYTES))).await.is_err() {
                    break;
                }
            }
            let _ = input.end().await;
            std::future::pending().await
        };
        let listen = async {
            while let Some(event) = output.next().await {
                match event {
                    Event::Output(bytes) => {
                        if to.send(bytes).await.is_err() {
                            return false;
                        }
                    }
                    other => ended.take(other, 0),
                }
            }
            true
        };
        // What is not heard any more may never take the rest of its input.
        let both = async {
            tokio::select! {
                is_heard = listen => is_heard,
                is_heard = feed => is_heard,
            }
        };
        let heard = cx.unless_stopped(both).await;
        let _ = input.close().await; // what still writes is not waited for
        if !heard? {
            return Err(Trouble::Failed("nobody takes what comes".to_owned()));
        }
        ended.check().map(drop)
    }

    /// Runs a command and feeds it what arrives.
    pub async fn send(&self, cx: &Context, command: &str, mut from: mpsc::Receiver<Bytes>) -> Result<(), Trouble> {
        let (Pipe { input, mut output }, _room) = self.start(cx, command).await?;
        let mut ended = Ended::default();
        let feed = async {
            while let Some(bytes) = from.recv().await {
                // a command that ended says itself why
                if input.send(bytes).await.is_err() {
                    break;
                }
            }
            let _ = input.end().await;
            std::future::pending::<()>().await;
        };
        let listen = async {
            while let Some(event) = output.next().await {
                ended.take(event, SAID_BYTES_MAX);
            }
        };
        let all = async {
            tokio::select! {
                () = feed => {}
                () = listen => {}
            }
        };
        cx.unless_stopped(all).await?;
        ended.check().map(drop)
    }

    async fn start(&self, cx: &Context, command: &str) -> Result<(Pipe, OwnedSemaphorePermit), Trouble> {
        cx.check()?;
        let start = async {
            let (channel, room) = self.open(cx).await?;
            Ok((channel.start(command).await?, room))
        };
        cx.unless_stopped(start).await?.map_err(Trouble::Ssh)
    }

    /// A channel. Nothing runs on it yet, so that another one may be tried where it is refused or the connection broke.
    async fn open(&self, cx: &Context) -> Result<(Opened, OwnedSemaphorePermit), SshError> {
        let mut tries = 0;
        loop {
            let (link, room) = self.link(cx).await?;
            tries += 1;
            match link.session.open().await {
                Ok(channel) => return Ok((channel, room)),
                Err(SshError::Unreachable(_)) if tries < OPENINGS_MAX => {}
                Err(error) => return Err(error),
            }
            drop(room);
            if !link.session.has_ended() {
                cx.world.sleep(OPENING_PAUSE).await;
            }
        }
    }

    /// A connection with room for one more command.
    async fn link(&self, cx: &Context) -> Result<(Link, OwnedSemaphorePermit), SshError> {
        let waiting = {
            let mut links = self.links.lock().await;
            links.retain(|link| !link.session.has_ended());
            for link in links.iter() {
                if let Ok(room) = Arc::clone(&link.room).try_acquire_owned() {
                    return Ok((link.clone(), room));
                }
            }
            if links.len() < CONNECTIONS_MAX {
                let link = self.connect(cx).await?;
                links.push(link.clone());
                link
            } else {
                links[0].clone()
            }
        };
        let room = Arc::clone(&waiting.room).acquire_owned().await.expect("never closed");
        Ok((waiting, room))
    }

    async fn connect(&self, cx: &Context) -> Result<Link, SshError> {
        let limit = cx.world.elapsed() + LOGIN;
        let session = tokio::select! {
            session = self.login() => session?,
            () = cx.world.reach(limit) => return Err(SshError::Unreachable("it does not answer in time".into())),
        };
        if let (Some(witness), Some(key)) = (&self.witness, session.host_key()) {
            witness(&key);
        }
        Ok(Link { session: Arc::new(session), room: Arc::new(Semaphore::new(CHANNELS_MAX)) })
    }
}

impl Remote {
    async fn login(&self) -> Result<Session, SshError> {
        let Some(route) = &self.route else { return onggi_ssh::login(&self.login).await };
        let address = Address { host: self.login.host.clone(), port: self.login.port };
        let stream = route.dial(&address).await.map_err(|error| SshError::Unreachable(error.into()))?;
        onggi_ssh::login_over(&self.login, stream).await
    }
}

async fn listen(pipe: &mut Pipe, ended: &mut Ended) {
    while let Some(event) = pipe.output.next().await {
        ended.take(event, SAID_BYTES_MAX);
        ended.read_session();
    }
}
