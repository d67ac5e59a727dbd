//! Has the installed `rsync` send a file over OpenSSH, where an operator wants that instead of onggi's own way.
//!
//! What breaks off is kept on the other side and goes on from there. That the file is right there is not rsync's word: who
//! sent it reads it back.

use std::{
    ffi::OsString,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use onggi_source::{Context, Stop};

/// Where rsync keeps what broke off, beside the file.
const PARTIAL: &str = ".rsync-partial";
/// How much of what it says of a fault is shown, in characters.
const SHOWN: usize = 300;

/// How to enter a machine with OpenSSH, and how fast files may go there.
#[derive(Debug, Clone)]
pub struct Rsync {
    /// The machine.
    pub host: String,
    /// Who enters there.
    pub user: String,
    /// Where SSH listens.
    pub port: u16,
    /// The key.
    pub key: PathBuf,
    /// Files with the keys of machines.
    pub known_hosts: Vec<PathBuf>,
    /// Bytes per second; `None` without a limit.
    pub rate: Option<u64>,
}

/// Why a file was not sent.
#[derive(Debug, thiserror::Error)]
pub enum RsyncError {
    /// There is none.
    #[error("rsync cannot be started ({0}): install it, or take RSYNC out")]
    Start(String),
    /// It ended otherwise than well.
    #[error("rsync: {0}")]
    Failed(String),
    /// Our own doing.
    #[error(transparent)]
    Stopped(#[from] Stop),
}

impl Rsync {
    /// Sends a file that lies below a folder into a folder of the machine, where it gets the same path.
    pub async fn send(&self, cx: &Context, base: &Path, below: &str, to: &str) -> Result<(), RsyncError> {
        let mut command = tokio::process::Command::new("rsync");
        command.args(self.arguments(base, below, to)).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let output = cx.unless_stopped(command.stderr(Stdio::piped()).output()).await?;
        let output = output.map_err(|error| RsyncError::Start(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect::<String>();
        Err(RsyncError::Failed(if said.is_empty() { output.status.to_string() } else { said }))
    }

    /// As the script has it, but for one file, and what broke off is kept.
    fn arguments(&self, base: &Path, below: &str, to: &str) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            ["--times", "--compress", "--relative", "--protect-args"].map(OsString::from).into();
        arguments.push(format!("--partial-dir={PARTIAL}").into());
        if let Some(rate) = self.rate {
            arguments.push(format!("--bwlimit={}", rate.div_ceil(1 << 10)).into());
        }
        arguments.push(format!("--rsh={}", self.shell()).into());
        arguments.push("--".into());
        // What stands before `/./` is not made on the other side.
        let mut from = base.as_os_str().to_owned();
        from.push(format!("/./{below}"));
        arguments.push(from);
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        arguments.push(format!("{}@{host}:{}/", self.user, to.trim_end_matches('/')).into());
        arguments
    }

    /// The command line of OpenSSH, as rsync takes it apart.
    fn shell(&self) -> String {
        let mut line = format!("ssh -p {} -o BatchMode=yes -o StrictHostKeyChecking=yes", self.port);
        let _ = write!(line, " -o IdentitiesOnly=yes -i {}", quoted(&self.key.display().to_string()));
        let known: Vec<_> =
            self.known_hosts.iter().map(|path| path.display().to_string().replace(' ', "\\ ")).collect();
        if !known.is_empty() {
            let _ = write!(line, " -o {}", quoted(&format!("UserKnownHostsFile={}", known.join(" "))));
        }
        line // a string takes everything
    }
}

/// For rsync a quote within quotes is written twice.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_as_the_script_asks_it() {
        let rsync = Rsync {
            host: "backup".to_owned(),
            user: "me".to_owned(),
            port: 2222,
            key: "/my keys/id".into(),
            known_hosts: vec!["/root/.ssh/known_hosts".into(), "/etc/ssh/ssh_known_hosts".into()],
            rate: Some(1_500_000),
        };
        let arguments = rsync.arguments(Path::new("/var/lib"), "staging/demo/s/1_i", "/srv/backup/");
        let shown: Vec<_> = arguments.iter().map(|one| one.to_string_lossy()).collect();
        assert_eq!(
            shown.join("\n"),
            "--times\n--compress\n--relative\n--protect-args\n--partial-dir=.rsync-partial\n--bwlimit=1465\n\
             --rsh=ssh -p 2222 -o BatchMode=yes -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes -i \"/my keys/id\" -o \
             \"UserKnownHostsFile=/root/.ssh/known_hosts /etc/ssh/ssh_known_hosts\"\n--\n\
             /var/lib/./staging/demo/s/1_i\nme@backup:/srv/backup/"
        );
    }
}
