//! Secrets where they lie. Nothing here repeats a secret: errors name the reference and what is wrong with it.

use crate::{config::value::SecretReference, sabotage};
use async_trait::async_trait;
use onggi_source::{SourceError, secret::Secrets};
use secrecy::SecretString;
use std::{
    collections::BTreeMap,
    fmt,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Stdio,
};
use zeroize::Zeroizing;

/// A longer one is something else.
const LENGTH_MAX: u64 = 64 << 10;

/// A secret cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{reference}: {reason}")]
pub struct SecretError {
    /// Where it should be.
    pub reference: String,
    /// Why it is not to be had; never its content.
    pub reason: String,
}

/// Fetches secrets for sources.
pub struct Keeper {
    /// The environment that `env:` and `credential:` refer to.
    pub variables: BTreeMap<String, String>,
}

#[async_trait]
impl Secrets for Keeper {
    async fn fetch(&self, reference: &SecretReference) -> onggi_source::Result<SecretString> {
        fetch(reference, &self.variables).await.map_err(|error| SourceError::Denied(error.to_string()))
    }
}

/// What is shown in place of a secret.
struct Hidden<'a>(&'a str);

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if sabotage::SECRET_IN_DEBUG.is_on() { f.write_str(self.0) } else { f.write_str("***") }
    }
}

/// Fetches a secret, without the white space around it.
pub async fn fetch(
    reference: &SecretReference,
    variables: &BTreeMap<String, String>,
) -> Result<SecretString, SecretError> {
    let fetched = match reference {
        SecretReference::Environment(name) => variable(name, variables).cloned().map(Zeroizing::new),
        SecretReference::File(path) => private(Path::new(path)).and_then(|()| read(Path::new(path))),
        SecretReference::Credential(name) => credential(name, variables).and_then(|path| read(&path)),
        SecretReference::Command(words) => run(words).await,
    };
    let error = |reason| SecretError { reference: reference.to_string(), reason };
    let text = fetched.map_err(error)?;
    let text = text.trim();
    tracing::debug!(%reference, secret = ?Hidden(text), "secret is fetched");
    if text.is_empty() { Err(error("it is empty".into())) } else { Ok(text.to_owned().into()) }
}

/// Why a secret cannot be used, as far as that shows without reading it.
pub(super) fn fault(reference: &SecretReference, variables: &BTreeMap<String, String>) -> Option<String> {
    match reference {
        SecretReference::Environment(name) => variable(name, variables).err(),
        SecretReference::File(path) => private(Path::new(path)).err(),
        SecretReference::Credential(name) => credential(name, variables).err(),
        SecretReference::Command(_) => None,
    }
}

fn variable<'a>(name: &str, variables: &'a BTreeMap<String, String>) -> Result<&'a String, String> {
    variables.get(name).filter(|value| !value.is_empty()).ok_or_else(|| format!("the variable {name} is not set"))
}

/// Others must not be able to read it.
fn private(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let meta = path.metadata().map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let mode = meta.mode() & 0o777;
    if meta.is_file() && mode & 0o077 != 0 {
        return Err(format!("{shown} has mode {mode:04o}, others can read it; chmod 600 {shown}"));
    }
    Ok(())
}

fn credential(name: &str, variables: &BTreeMap<String, String>) -> Result<PathBuf, String> {
    let folder = variables.get("CREDENTIALS_DIRECTORY");
    let folder = folder.ok_or("systemd handed over no credentials (LoadCredential= in the unit)")?;
    let path = Path::new(folder).join(name);
    if path.is_file() { Ok(path) } else { Err(format!("systemd handed over no credential {name}")) }
}

#[expect(clippy::disallowed_methods, reason = "the edge")]
fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("{shown} cannot be read: {error}");
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = Zeroizing::new(String::with_capacity(256));
    file.take(LENGTH_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LENGTH_MAX {
        return Err(format!("{shown} is too long for a secret"));
    }
    Ok(text)
}

/// Without a shell; what the command says on stderr the operator sees.
async fn run(words: &[String]) -> Result<Zeroizing<String>, String> {
    let (program, arguments) = words.split_first().ok_or("the command is empty")?;
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().await.map_err(|error| format!("{program}: {error}"))?;
    let stdout = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(format!("{program}: {}", output.status));
    }
    let text = std::str::from_utf8(&stdout).map_err(|_| format!("{program} printed no text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use std::os::unix::fs::PermissionsExt;

    struct Place {
        folder: tempfile::TempDir,
        variables: BTreeMap<String, String>,
    }

    #[expect(clippy::disallowed_methods, reason = "a test makes its files")]
    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        for (name, mode) in [("private", 0o600), ("open", 0o644), ("empty", 0o600)] {
            let path = folder.path().join(name);
            std::fs::write(&path, if name == "empty" { "\n" } else { "hunter2\n" }).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = folder.path().to_str().unwrap().to_owned();
        let variables = [("P", "hunter2"), ("EMPTY", ""), ("CREDENTIALS_DIRECTORY", &path)];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Place { folder, variables }
    }

    async fn check(reference: &str, expected: Result<&str, &str>) {
        let place = place();
        let text = reference.replace('@', place.folder.path().to_str().unwrap());
        let reference = SecretReference::parse(&text).unwrap();
        let fetched = fetch(&reference, &place.variables).await;
        match (&fetched, expected) {
            (Ok(secret), Ok(expected)) => assert_eq!(secret.expose_secret(), expected),
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{error}");
                assert!(!format!("{error:?} {error}").contains("hunter2"));
            }
            _ => panic!("{text}: {}", fetched.is_ok()),
        }
    }

    #[tokio::test]
    async fn a_secret_is_fetched_from_where_it_lies() {
        for reference in ["env:P", "file:@/private", "credential:private", "command:echo hunter2"] {
            check(reference, Ok("hunter2")).await;
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_named_and_never_the_content() {
        check("env:Q", Err("the variable Q is not set")).await;
        check("env:EMPTY", Err("is not set")).await;
        check("file:@/open", Err("has mode 0644, others can read it; chmod 600")).await;
        check("file:@/absent", Err("cannot be read")).await;
        check("file:@/empty", Err("it is empty")).await;
        check("credential:absent", Err("no credential absent")).await;
        check("command:false", Err("exit status: 1")).await;
        check("command:no-such-program-here x", Err("no-such-program-here")).await;
    }

    #[test]
    fn a_secret_is_hidden_where_it_could_be_shown() {
        assert_eq!(format!("{:?}", Hidden("hunter2")), "***");
    }
}
