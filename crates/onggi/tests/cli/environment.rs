//! A home of its own for each test, and a way to run the binary in it.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A home, a working folder and nothing else.
pub struct Environment {
    root: TempDir,
}

/// What a run left.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub data: String,
    pub talk: String,
}

impl Environment {
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("onggi-cli-").tempdir().unwrap();
        for folder in ["home", "work", "run"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        Self { root }
    }

    /// The same with a repository, a password file, and `work/data` to back up.
    pub fn with_repository() -> Self {
        let env = Self::new();
        env.write("key", "correct horse battery staple\n");
        env.restrict("key");
        env.write("data/report.odt", "the quarterly report\n");
        env.write("data/notes/todo.txt", "write tests\n");
        env.run(["init", "repo"]).expect(0);
        env
    }

    /// A path below the working folder.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.path().join("work").join(path)
    }

    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Makes a file readable by its owner only.
    pub fn restrict(&self, path: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Waits until a command that runs beside has made this file.
    pub fn wait_for_file(&self, path: &str) {
        let end = Instant::now() + Duration::from_mins(1);
        while !self.path(path).exists() {
            assert!(Instant::now() < end, "{path} was not made");
            std::thread::yield_now();
        }
    }

    /// The binary with these arguments, `-r repo` and a password file unless they say otherwise.
    pub fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = self.bare(args);
        command.env("ONGGI_REPOSITORY", self.path("repo")).env("ONGGI_PASSWORD_FILE", self.path("key"));
        command
    }

    /// The binary as a new user has it.
    pub fn bare(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onggi"));
        command
            .args(args)
            .current_dir(self.path(""))
            .env_clear()
            .env("HOME", self.home())
            .env("PATH", "/usr/bin:/bin")
            .env("TZ", "UTC")
            .env("LC_ALL", "C.UTF-8")
            .env("XDG_CONFIG_HOME", self.home().join(".config"))
            .env("XDG_DATA_HOME", self.home().join(".local/share"))
            .env("XDG_STATE_HOME", self.home().join(".local/state"))
            .env("XDG_CACHE_HOME", self.home().join(".cache"))
            .env("XDG_RUNTIME_DIR", self.root.path().join("run"))
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
        Run::of(self.command(args), b"")
    }

    pub fn run_bare(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
        Run::of(self.bare(args), b"")
    }

    /// Replaces what differs from run to run.
    pub fn normal(&self, text: &str) -> String {
        let text = text.replace(&self.root.path().display().to_string(), "$TEST");
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        normal(&text.replace(host.trim(), "$HOST"))
    }
}

impl Run {
    pub fn of(mut command: Command, stdin: &[u8]) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(stdin);
        let output = child.wait_with_output().unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            data: String::from_utf8_lossy(&output.stdout).into_owned(),
            talk: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.data, self.talk);
        self
    }

    /// Stdout as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {}", self.data))
    }

    /// Stdout as JSON lines.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        json_lines(&self.data)
    }

    /// Both streams and the code, as one text to compare.
    pub fn shown(&self, env: &Environment) -> String {
        let part = |head: &str, text: &str| if text.is_empty() { String::new() } else { format!("{head}\n{text}") };
        env.normal(&format!("{}{}exit {}", part("stdout:", &self.data), part("stderr:", &self.talk), self.code))
    }
}

#[track_caller]
pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Ids, times, durations and sizes that depend on compression or the machine.
fn normal(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.find(|char: char| !is_word(char)).unwrap_or(rest.len());
        if word == 0 {
            let next = rest.chars().next().unwrap();
            out.push(next);
            rest = &rest[next.len_utf8()..];
        } else {
            out.push_str(&normal_word(&rest[..word]));
            rest = &rest[word..];
        }
    }
    out
}

fn is_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '-' | ':' | '.' | '_')
}

fn normal_word(word: &str) -> String {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
    let is_date = word.len() >= 10 && word.as_bytes()[4] == b'-' && word.starts_with("20");
    let is_clock = word.len() == 8 && word.as_bytes()[2] == b':' && word.as_bytes()[5] == b':';
    match word.trim_end_matches([':', '.']) {
        bare if is_hex(bare) && has_digit && matches!(bare.len(), 8 | 64) => word.replace(bare, "$ID"),
        _ if is_date => "$DATE".to_owned(),
        _ if is_clock => "$TIME".to_owned(),
        _ => word.to_owned(),
    }
}
