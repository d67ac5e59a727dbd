//! Our own SSH client as a carrier, beside the system's `ssh`: nothing has to be installed, and a far host is read faster. The
//! same files say whom to believe, and the same words of a refusal come out; `~/.ssh/config` is not read.
//!
//! Who does not get in is a process that has ended already, as with `ssh`: callers have one way to learn why.

use std::collections::VecDeque;
use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use onggi_ssh::known_hosts::Verdict;
use onggi_ssh::login::LOGIN;
use onggi_ssh::store::Store;
use onggi_ssh::{Event, HostError, Login, Pipe, PrivateKey, Session, SshError, Trust, login_over, private_key};
use tokio::net::TcpStream;

use super::process::{Exit, Launch, Running, keep_tail, shown_tail};
use super::ssh::{Call, Refusal, refusal};
use crate::chain::chain;
use crate::config::Surroundings;
use crate::context::World;
use crate::source::{Result, SourceError};

/// What a host may send while it takes nothing, in bytes.
const UNREAD_BYTES_MAX: usize = 64 << 20;
/// How long a host may take to prove the keys that it announced.
const PROOF_TIME: Duration = Duration::from_secs(10);
/// The port where none is said.
const PORT: u16 = 22;
/// What `ssh` exits with when the connection does not come about, or breaks.
const NO_CONNECTION: i32 = 255;
/// What stands for the carrier where a process has a name.
const NAME: &str = "ssh";
/// The system's files of known keys.
const SYSTEM_KNOWN: [&str; 2] = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];
/// A user's usual keys, below `~/.ssh`.
const USUAL_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// The client, with what `ssh` would look for by itself.
#[derive(Clone)]
pub(crate) struct BuiltIn {
    world: Arc<dyn World>,
    store: Store,
    home: Option<PathBuf>,
    agent: Option<PathBuf>,
    user: Option<String>,
}

/// Nothing was started on the host.
#[derive(Debug)]
struct NoEntry {
    refusal: Refusal,
    text: String,
    status: i32,
}

/// A command on a host, or the reason why there is none.
struct Conversation {
    way: Option<Way>,
    said: Said,
    drops_output: bool,
}

/// Dropping it hangs up, and whoever reads there is told so.
struct Way {
    pipe: Pipe,
    /// The host's, then that of the host in between.
    _sessions: Vec<Session>,
}

/// What came and was not taken yet, and how it ended.
#[derive(Default)]
struct Said {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    tail: Vec<u8>,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Status(i32),
    Killed,
    Refused(Refusal, i32),
}

impl NoEntry {
    fn of(error: &SshError, to: &Call) -> Self {
        let refusal = match error {
            SshError::Unreachable(_) => Refusal::Unreachable,
            SshError::Denied(_) => Refusal::Login,
            SshError::Identity(error) => match **error {
                HostError::Unknown { .. } | HostError::Authority { .. } | HostError::Certificate { .. } => {
                    Refusal::UnknownKey
                }
                HostError::Changed { .. } | HostError::Pinned { .. } => Refusal::ChangedKey,
                HostError::Revoked { .. } => Refusal::RevokedKey,
                HostError::NoAgreement(_) => Refusal::Unreachable,
            },
        };
        Self { refusal, text: format!("{}: {}", to.address, chain(error)), status: NO_CONNECTION }
    }

    fn slow(to: &Call) -> Self {
        let text = format!("{}: it does not answer in time", to.address);
        Self { refusal: Refusal::Unreachable, text, status: NO_CONNECTION }
    }
}

impl BuiltIn {
    /// Touches nothing.
    pub(crate) fn new(world: Arc<dyn World>, surroundings: &Surroundings) -> Self {
        let variable = |name: &str| surroundings.environment.get(name).filter(|value| !value.is_empty()).cloned();
        Self {
            world,
            store: surroundings.host_keys(),
            home: variable("HOME").map(PathBuf::from),
            agent: variable("SSH_AUTH_SOCK").map(PathBuf::from),
            user: variable("USER").or_else(|| variable("LOGNAME")),
        }
    }

    /// Starts a command of the host's shell.
    pub(crate) async fn start(&self, call: &Call, command: &str, launch: &Launch) -> Result<Box<dyn Running>> {
        let mut conversation = Conversation { way: None, said: Said::default(), drops_output: launch.drops_output };
        // boxed: the future of a whole key exchange is long
        match Box::pin(self.enter(call, command)).await {
            Ok(way) => conversation.way = Some(way),
            Err(no) => {
                keep_tail(&mut conversation.said.tail, no.text.as_bytes());
                conversation.said.end = Some(End::Refused(no.refusal, no.status));
            }
        }
        if !launch.takes_input && conversation.way.is_some() {
            conversation.end_input().await?;
        }
        Ok(Box::new(conversation))
    }

    async fn enter(&self, call: &Call, command: &str) -> std::result::Result<Way, NoEntry> {
        let sessions = match &call.jump {
            None => vec![self.log_in(call, self.dial(call).await?).await?],
            Some(jump) => {
                let home = self.home.as_deref().map(|home| home.join(".ssh/known_hosts"));
                let between = call.of_jump(jump, home);
                let first = self.log_in(&between, self.dial(&between).await?).await?;
                let forward = first.forward(&call.address, call.port.unwrap_or(PORT));
                let stream = self.within(Duration::from_secs(call.seconds), forward).await;
                let stream = stream.ok_or_else(|| NoEntry::slow(call))?.map_err(|error| NoEntry::of(&error, call))?;
                vec![self.log_in(call, stream).await?, first]
            }
        };
        let session = &sessions[0];
        let opened = self.within(LOGIN, session.open()).await.ok_or_else(|| NoEntry::slow(call))?;
        let opened = opened.map_err(|error| NoEntry::of(&error, call))?;
        // what a server announces after the login comes before its answer to the first channel
        if call.follows {
            self.follow(call, session).await;
        }
        let pipe = self.within(LOGIN, opened.start(command)).await.ok_or_else(|| NoEntry::slow(call))?;
        let pipe = pipe.map_err(|error| match error {
            SshError::Denied(_) => NoEntry { refusal: Refusal::Unreachable, text: chain(&error), status: 1 },
            error => NoEntry::of(&error, call),
        })?;
        Ok(Way { pipe, _sessions: sessions })
    }

    async fn dial(&self, call: &Call) -> std::result::Result<TcpStream, NoEntry> {
        let connecting = TcpStream::connect((call.address.as_str(), call.port.unwrap_or(PORT)));
        let connected = self.within(Duration::from_secs(call.seconds), connecting).await;
        let connected = connected.ok_or_else(|| NoEntry::slow(call))?;
        // small packets of a conversation must not wait for each other
        let ready = connected.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
        ready.map_err(|error| NoEntry::of(&SshError::Unreachable(error.into()), call))
    }

    async fn log_in<S>(&self, call: &Call, stream: S) -> std::result::Result<Session, NoEntry>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let login = self.login(call)?;
        let session = self.within(LOGIN, Box::pin(login_over(&login, stream))).await;
        session.ok_or_else(|| NoEntry::slow(call))?.map_err(|error| NoEntry::of(&error, call))
    }

    fn login(&self, call: &Call) -> std::result::Result<Login, NoEntry> {
        let nobody = || {
            let text = "nobody is named who logs in: write `connect.user`".to_owned();
            NoEntry { refusal: Refusal::Login, text, status: NO_CONNECTION }
        };
        let user = call.user.clone().or_else(|| self.user.clone()).ok_or_else(nobody)?;
        let mut files = call.known.clone();
        if call.system {
            files.extend(SYSTEM_KNOWN.map(PathBuf::from));
        }
        let port = call.port.unwrap_or(PORT);
        let login = Login::new(call.address.clone(), port, user, Trust::Files(files), self.world.now());
        let login = Login { alias: call.alias.clone(), ..login };
        Ok(match &call.key {
            Some(key) => Login { identity_files: vec![key.clone()], certificate: call.certificate.clone(), ..login },
            None => Login { keys: self.usual_keys(), agent: self.agent.clone(), ..login },
        })
    }

    /// Those that can be used as they are: without a passphrase, and not readable by others.
    fn usual_keys(&self) -> Vec<Arc<PrivateKey>> {
        let Some(home) = &self.home else { return Vec::new() };
        USUAL_KEYS.iter().filter_map(|name| usual_key(&home.join(".ssh").join(name))).collect()
    }

    /// A host that proved itself by a key of our own file may name others, and is known by those that it proves to have.
    async fn follow(&self, call: &Call, session: &Session) {
        let (Some(shown), Ok(known)) = (session.host_key(), self.store.load()) else { return };
        let (name, port) = match &call.alias {
            Some(alias) => (alias, PORT),
            None => (&call.address, call.port.unwrap_or(PORT)),
        };
        if known.judge(name, port, &shown) != Verdict::Known {
            return;
        }
        let Some(mut proven) = self.within(PROOF_TIME, session.proven_keys()).await else { return };
        proven.retain(|key| !matches!(known.judge(name, port, key), Verdict::Revoked(_)));
        if proven.iter().any(|key| key.key_data() == shown.key_data()) {
            let _ = self.store.replace(&call.names, &proven); // the host is known as it is; another login may note it
        }
    }

    async fn within<T>(&self, time: Duration, work: impl Future<Output = T>) -> Option<T> {
        let limit = self.world.elapsed() + time;
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.world.reach(limit) => None,
        }
    }
}

fn usual_key(file: &Path) -> Option<Arc<PrivateKey>> {
    let of_others = std::fs::metadata(file).ok()?.permissions().mode() & 0o077;
    let text = std::fs::read_to_string(file).ok().filter(|_| of_others == 0)?;
    private_key(&text).ok().map(Arc::new)
}

impl Said {
    /// `false` if the host sends more than can be kept.
    fn take(&mut self, event: Event, drops_output: bool) -> bool {
        match event {
            Event::Output(_) if drops_output => {}
            Event::Output(piece) => {
                self.bytes += piece.len();
                self.pieces.push_back(piece);
            }
            Event::Words(words) => keep_tail(&mut self.tail, &words),
            Event::Exit(status) => self.end = Some(End::Status(i32::try_from(status).unwrap_or(i32::MAX))),
            Event::Killed(signal) => {
                keep_tail(&mut self.tail, format!("killed by {signal}\n").as_bytes());
                self.end = Some(End::Killed);
            }
        }
        self.bytes <= UNREAD_BYTES_MAX
    }

    fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.pop_front()?;
        self.bytes -= piece.len();
        Some(piece)
    }
}

impl Conversation {
    /// Hears one thing more; `false` once there is nothing to hear. May be dropped half-way without loss.
    async fn hear(&mut self) -> Result<bool> {
        let Some(way) = &mut self.way else { return Ok(false) };
        let Some(event) = way.pipe.output.next().await else { return Ok(false) };
        if self.said.take(event, self.drops_output) { Ok(true) } else { Err(flooded()) }
    }
}

fn closed() -> SourceError {
    SourceError::Incomplete("its input is closed".to_owned())
}

fn flooded() -> SourceError {
    SourceError::Incomplete(format!("the host sent more than {UNREAD_BYTES_MAX} bytes and took nothing"))
}

#[async_trait]
impl Running for Conversation {
    async fn read(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(piece) = self.said.next() {
                return Ok(Some(piece));
            }
            if !self.hear().await? {
                return Ok(None);
            }
        }
    }

    /// Hears meanwhile: a connection that nobody hears takes nothing, either.
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let Some(way) = &mut self.way else { return Err(closed()) };
        let Pipe { input, output } = &mut way.pipe;
        let mut sending = Box::pin(input.send(bytes));
        loop {
            let event = tokio::select! {
                biased;
                sent = &mut sending => {
                    return sent.map_err(|error| SourceError::Incomplete(format!("write input: {}", chain(&error))));
                }
                event = output.next() => event.ok_or_else(closed)?,
            };
            if !self.said.take(event, self.drops_output) {
                return Err(flooded());
            }
        }
    }

    async fn end_input(&mut self) -> Result<()> {
        let Some(way) = &mut self.way else { return Ok(()) };
        let _ = way.pipe.input.end().await; // whoever has ended reads nothing, and says itself why
        Ok(())
    }

    async fn wait(&mut self) -> Result<Vec<Exit>> {
        self.drops_output = true;
        while self.hear().await? {}
        let status = match self.said.end {
            Some(End::Status(status) | End::Refused(_, status)) => Some(status),
            Some(End::Killed) => None,
            None => Some(NO_CONNECTION),
        };
        Ok(vec![Exit { program: NAME.to_owned(), status }])
    }

    fn tail(&self) -> String {
        let tail = shown_tail(&self.said.tail);
        if tail.is_empty() && self.said.end.is_none() { "the connection ended".to_owned() } else { tail }
    }

    fn refusal(&self) -> Refusal {
        match self.said.end {
            Some(End::Refused(refusal, _)) => refusal,
            // what speaks is the host, of which only its `sudo` is asked something
            _ if refusal(&self.tail()) == Refusal::Become => Refusal::Become,
            _ => Refusal::Unreachable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_is_bounded_and_its_end_is_kept() {
        let mut said = Said::default();
        assert!(said.take(Event::Output(Bytes::from(vec![0; UNREAD_BYTES_MAX])), false));
        assert!(said.take(Event::Output(Bytes::from_static(b"x")), true), "dropped");
        assert!(!said.take(Event::Output(Bytes::from_static(b"x")), false));
        assert!(said.next().is_some() && said.take(Event::Exit(7), false));
        assert_eq!(said.end, Some(End::Status(7)));
    }

    #[test]
    fn a_key_that_others_can_read_is_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("id");
        let key = onggi_ssh::fresh_key().unwrap();
        std::fs::write(&file, key.to_openssh(Default::default()).unwrap().as_str()).unwrap();
        let check = |mode: u32, expected: bool| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(usual_key(&file).is_some(), expected, "{mode:o}");
        };
        check(0o600, true);
        check(0o644, false);
    }
}
