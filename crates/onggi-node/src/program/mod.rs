//! The program: what it is asked for on the command line, and the loop that takes requests.

mod confine;
mod dump;
mod hello;
mod journal;
mod out;
mod owners;
mod policy;
mod read;
mod root;
mod serve;
mod walk;
mod write;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use sha2::{Digest as _, Sha256};

use policy::Policy;

/// Bytes of itself that are hashed in one go.
const STEP_BYTES: usize = 64 << 10;
const USAGE: &str = "usage: onggi-node read [--policy FILE] | write [--in-place] DIRECTORY | --self-check | --version";

/// Does what the command line says.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["read"] => start(Policy::open()),
        ["read", "--policy", file] => Policy::load(file.as_ref()).map_err(io::Error::other).and_then(start),
        ["write", root] => restore(root, false),
        ["write", "--in-place", root] => restore(root, true),
        [dump::WATCH] => dump::watch(),
        ["--self-check"] => own_digest().map(drop),
        ["--version"] => say(&format!("onggi-node {}", env!("CARGO_PKG_VERSION"))),
        _ => Err(io::Error::other(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "onggi-node: {error}"); // nobody is left to tell
            ExitCode::FAILURE
        }
    }
}

/// Says who it is, then serves until the hub has gone.
fn start(policy: Policy) -> io::Result<()> {
    say(&format!("{}{}", onggi_node::MAGIC, own_digest()?))?;
    serve::serve(policy)
}

/// Says who it is, then takes files back.
fn restore(root: &str, in_place: bool) -> io::Result<()> {
    say(&format!("{}{}", onggi_node::MAGIC, own_digest()?))?;
    write::write(&write::Target { root: root.as_ref(), in_place })
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn own_digest() -> io::Result<String> {
    let mut file = File::open("/proc/self/exe")?;
    let (mut digest, mut step) = (Sha256::new(), vec![0; STEP_BYTES]);
    loop {
        match file.read(&mut step)? {
            0 => break,
            length => digest.update(&step[..length]),
        }
    }
    Ok(digest.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}
