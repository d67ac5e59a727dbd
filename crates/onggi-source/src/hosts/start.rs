//! Brings the program to life on a host: an installed one, one that was sent before, or one that is sent now.
//!
//! One command does it over one connection: it starts the program where it finds it, else asks for it, looks for a place
//! that lets programs run, writes and starts it there. The program itself then says what it is, and is believed only if
//! its digest is the one that was sent.

use std::path::PathBuf;
use std::time::Duration;

use onggi_node::MAGIC;
use onggi_node::frame::Decoder;
use sha2::{Digest as _, Sha256};

use super::config::{Become, Io};
use crate::carrier::ssh::quote;
use crate::carrier::{Launch, Launcher, Refusal, Running};
use crate::context::{Context, Problem};
use crate::hex::hexadecimal;
use crate::source::SourceError;

/// What may be said before the program speaks: banners of noisy shell files, in bytes.
const BANNER_BYTES_MAX: usize = 64 << 10;
/// How long the program may take to speak.
const SPEAK_TIME: Duration = Duration::from_secs(20);
/// How much of a banner is shown in a message, in characters.
const SHOWN_MAX: usize = 200;
/// The shell's question for the program; the host's system and machine follow.
const SEND: &[u8] = b"ONGGI-SEND ";
/// The shell found no place that lets programs run; the places follow.
const NO_PLACE: &[u8] = b"ONGGI-NO-PLACE";

/// The program as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    bytes: bytes::Bytes,
    digest: String,
}

/// Why a host cannot be backed up: a stable word, and what the engine decides by.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) class: &'static str,
    pub(super) error: SourceError,
}

impl Failure {
    pub(super) fn new(class: &'static str, error: SourceError) -> Self {
        Self { class, error }
    }

    /// The same for one host of several.
    pub(super) fn report_of(self, cx: &Context, host: &str) -> SourceError {
        let text = format!("{host}: {}", self.error);
        cx.problem(Problem { class: self.class, path: None, text });
        self.error
    }

    /// Tells the operator, and answers the error.
    pub(super) fn report(self, cx: &Context) -> SourceError {
        if !matches!(self.error, SourceError::Stopped(_)) {
            cx.problem(Problem { class: self.class, path: None, text: self.error.to_string() });
        }
        self.error
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self { class: "unreachable", error }
    }
}

impl From<crate::context::Stop> for Failure {
    fn from(stop: crate::context::Stop) -> Self {
        Self { class: "stopped", error: stop.into() }
    }
}

impl Program {
    /// The first that is there.
    pub fn load(places: &[PathBuf]) -> Result<Self, SourceError> {
        let found = places.iter().find_map(|place| std::fs::read(place).ok());
        let bytes = found.ok_or_else(|| {
            let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
            SourceError::Refused(format!("the program for hosts, onggi-node, is at none of {}", places.join(", ")))
        })?;
        Ok(Self::new(bytes))
    }

    fn new(bytes: Vec<u8>) -> Self {
        let digest = hexadecimal(&Sha256::digest(&bytes));
        Self { bytes: bytes.into(), digest }
    }

    /// SHA-256 in hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The name that it has on hosts.
    pub fn name(&self) -> String {
        format!("onggi-node-{}-{}", env!("CARGO_PKG_VERSION"), &self.digest[..16])
    }

    /// What it is.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the host's shell is to do, in one line, as `sh -c` reads it.
    fn script(&self, r#become: Become, verb: &Verb) -> String {
        // The program inherits it from the shell; where there is no `ionice`, reading goes on without.
        let courtesy = match verb {
            Verb::Read { io: Io::Idle } => "ionice -c 3 -p $$ 2>/dev/null; ",
            Verb::Read { io: Io::Normal } | Verb::Write { .. } => "",
        };
        let verb = verb.words();
        let (name, length) = (self.name(), self.bytes.len());
        let start = if r#become == Become::Sudo { "exec sudo -n -- " } else { "exec " };
        let places = "\"${XDG_CACHE_HOME:-$HOME/.cache}/onggi\" \"/var/tmp/onggi-$u\" \"/dev/shm/onggi-$u\" \
                      \"/run/user/$u/onggi\"";
        [
            format!("{courtesy}u=$(id -u); n={name}; i={INSTALLED}/$n; if [ -x $i ]; then {start}$i {verb}; fi"),
            format!("for d in {places}; do if [ -x \"$d/$n\" ] && [ -O \"$d/$n\" ]; then {start}\"$d/$n\" {verb}; fi; done"),
            "umask 077; f=; t=".to_owned(),
            format!("for d in {places}; do t=\"$t $d\"; p=\"$d/probe.$$\""),
            "if mkdir -p \"$d\" && [ -O \"$d\" ] && chmod 700 \"$d\" && printf \"#!/bin/sh\\n\" >\"$p\" && chmod 700 \"$p\" \
             && \"$p\"; then rm -f \"$p\"; f=$d; break; fi; rm -f \"$p\"; done 2>/dev/null"
                .to_owned(),
            "if [ -z \"$f\" ]; then echo \"ONGGI-NO-PLACE$t\"; exit 126; fi".to_owned(),
            // Asked for only when there is a place: what ends while it is sent to loses what it said.
            "echo \"ONGGI-SEND $(uname -s) $(uname -m)\"".to_owned(),
            format!("head -c {length} >\"$f/$n.$$\" && chmod 700 \"$f/$n.$$\" && mv -f \"$f/$n.$$\" \"$f/$n\" || {{ rm -f \"$f/$n.$$\"; exit 126; }}"),
            // Not younger ones: another hub may be sending or starting it in this moment.
            "find \"$f\" -type f -name \"onggi-node-*\" ! -name \"$n\" -mtime +0 -exec rm -f {} +".to_owned(),
            format!("{start}\"$f/$n\" {verb}"),
        ]
        .join("; ")
    }
}

/// What the program is started for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verb {
    /// To be asked.
    Read {
        /// How it stands in line at the host's disks.
        io: Io,
    },
    /// To take files back, below this directory.
    Write {
        /// An absolute path.
        target: String,
        /// What is there may be replaced.
        in_place: bool,
    },
}

impl Verb {
    /// As a shell reads it.
    fn words(&self) -> String {
        match self {
            Self::Read { .. } => "read".to_owned(),
            Self::Write { target, in_place: true } => format!("write --in-place {}", quote(target)),
            Self::Write { target, in_place: false } => format!("write {}", quote(target)),
        }
    }
}

/// Where an administrator installs the program.
pub const INSTALLED: &str = "/usr/local/lib/onggi";

/// Starts the program, sending it if that is needed; answers what it said after its first line.
pub(super) async fn start(
    cx: &Context,
    launcher: &dyn Launcher,
    program: &Program,
    r#become: Become,
    verb: &Verb,
) -> Result<(Box<dyn Running>, Decoder), Failure> {
    let launch = Launch {
        takes_input: true,
        ..Launch::new([vec!["sh".to_owned(), "-c".to_owned(), program.script(r#become, verb)]])
    };
    let mut running = cx.unless_stopped(launcher.start(&launch)).await??;
    let mut heard = Vec::new();
    let mut deadline = cx.world.elapsed() + SPEAK_TIME;
    loop {
        if let Some(rest) = after_line(&heard, MAGIC.as_bytes()) {
            let (line, rest) = rest;
            let digest = String::from_utf8_lossy(line).trim().to_owned();
            if digest != program.digest && r#become != Become::Forced {
                let text = format!("the program there has the digest {digest}, not {}", program.digest);
                return Err(Failure::new("program-blocked", SourceError::Denied(text)));
            }
            let mut decoder = Decoder::default();
            decoder.push(rest);
            return Ok((running, decoder));
        }
        if let Some((places, _)) = after_line(&heard, NO_PLACE) {
            let text = format!("no place lets programs run; tried{}", String::from_utf8_lossy(places));
            return Err(Failure::new("program-blocked", SourceError::Denied(text)));
        }
        if let Some((machine, _)) = after_line(&heard, SEND) {
            let machine = String::from_utf8_lossy(machine).trim().to_owned();
            if machine != format!("Linux {}", std::env::consts::ARCH) {
                let text = format!("it is {machine}, and the program is for Linux {}", std::env::consts::ARCH);
                return Err(Failure::new("program-blocked", SourceError::Denied(text)));
            }
            heard.clear();
            // whoever takes nothing has ended, and says why
            if running.write(program.bytes.clone()).await.is_err() {
                return Err(ended(cx, &mut *running, &heard).await);
            }
            deadline = cx.world.elapsed() + SPEAK_TIME;
        }
        let piece = tokio::select! {
            biased;
            piece = cx.unless_stopped(running.read()) => piece??,
            () = cx.world.reach(deadline) => return Err(silent(&heard)),
        };
        match piece {
            Some(piece) => heard.extend_from_slice(&piece),
            None => return Err(ended(cx, &mut *running, &heard).await),
        }
        if heard.len() > BANNER_BYTES_MAX {
            return Err(silent(&heard));
        }
    }
}

/// What follows `start` at the beginning of a line, up to the end of that line, and what comes after it.
fn after_line<'a>(heard: &'a [u8], start: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let is_start = |at: usize| heard[at..].starts_with(start) && (at == 0 || heard[at - 1] == b'\n');
    let begin = (0..heard.len().saturating_sub(start.len())).find(|at| is_start(*at))? + start.len();
    let length = heard[begin..].iter().position(|byte| *byte == b'\n')?;
    Some((&heard[begin..begin + length], &heard[begin + length + 1..]))
}

fn silent(heard: &[u8]) -> Failure {
    let said = shown(heard);
    let text = format!("the program did not speak; instead there was {said:?}");
    Failure::new("program-blocked", SourceError::Denied(text))
}

fn shown(heard: &[u8]) -> String {
    let end = heard.len().saturating_sub(SHOWN_MAX);
    String::from_utf8_lossy(&heard[end..]).into_owned()
}

/// The connection ended before the program spoke.
async fn ended(cx: &Context, running: &mut dyn Running, heard: &[u8]) -> Failure {
    let status = match cx.unless_stopped(running.wait()).await {
        Ok(Ok(exits)) => exits.first().and_then(|exit| exit.status),
        Ok(Err(error)) => return error.into(),
        Err(stop) => return stop.into(),
    };
    let words = running.tail();
    let (class, error): (_, fn(String) -> SourceError) = match (running.refusal(), status) {
        (Refusal::UnknownKey, _) => ("host-key-unknown", SourceError::Denied),
        (Refusal::ChangedKey, _) => ("host-key-changed", SourceError::Denied),
        (Refusal::RevokedKey, _) => ("host-key-revoked", SourceError::Denied),
        (Refusal::Login, _) => ("auth-refused", SourceError::Denied),
        (Refusal::Become, _) => ("become-refused", SourceError::Denied),
        (Refusal::Unreachable, Some(255) | None) => ("unreachable", SourceError::Unreachable),
        (Refusal::Unreachable, _) => ("program-blocked", SourceError::Denied),
    };
    let said = if words.is_empty() { format!("it said {:?}", shown(heard)) } else { words };
    Failure::new(class, error(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_heard_through_any_banner() {
        let heard = b"Welcome\nONGGI-NODE 1 abc\nrest";
        assert_eq!(after_line(heard, MAGIC.as_bytes()), Some((&b"abc"[..], &b"rest"[..])));
        assert_eq!(after_line(b"x ONGGI-NODE 1 abc\n", MAGIC.as_bytes()), None);
        assert_eq!(after_line(b"ONGGI-NODE 1 ab", MAGIC.as_bytes()), None);
    }

    #[test]
    fn a_shell_takes_the_script_for_what_it_is() {
        let program = Program::new(b"#!/bin/sh\necho spoken\n".to_vec());
        let home = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", &program.script(Become::None, &Verb::Read { io: Io::Idle })])
            .env("HOME", home.path())
            .env_remove("XDG_CACHE_HOME");
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), program.bytes()).unwrap();
        let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert!(said.starts_with("ONGGI-SEND Linux ") && said.ends_with("\nspoken\n"), "{said}");
        assert_eq!(std::fs::read(home.path().join(".cache/onggi").join(program.name())).unwrap(), program.bytes());
    }
}
