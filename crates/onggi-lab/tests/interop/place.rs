//! A temporary place with repositories, a source, a password and an empty home, and programs run in it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use onggi_lab::compare::{Aspects, compare};
use onggi_lab::corpus::zoo;
use onggi_lab::program;
use serde_json::Value;
use tempfile::TempDir;

/// A program that knows the repository format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    Onggi,
    Restic(PathBuf),
    Rustic(PathBuf),
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Done {
    line: String,
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    /// Takes nothing but success; returns what went to stdout.
    #[track_caller]
    pub fn ok(self) -> String {
        self.ends(0).out
    }

    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}{}", self.line, self.out, self.err);
        self
    }

    #[track_caller]
    pub fn fails(self) -> Self {
        assert_ne!(self.code, Some(0), "{} succeeded\n{}{}", self.line, self.out, self.err);
        self
    }
}

pub struct Place {
    folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        std::fs::create_dir(place.path("home")).unwrap();
        for password in ["password", "second-password"] {
            std::fs::write(place.path(password), format!("{password} of this place")).unwrap();
            std::fs::set_permissions(place.path(password), std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .unwrap();
        }
        place
    }

    /// A place with the zoo as its source.
    pub fn with_zoo() -> Self {
        let place = Self::new();
        for what in zoo::write(&place.path("source")).unwrap() {
            eprintln!("LEFT OUT of the zoo: {what}");
        }
        place
    }

    /// What lies under a name in this place.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command on the repository `repository`: words separated by blanks, `{name}` stands for a path of this place.
    pub fn command(&self, program: &Program, line: &str) -> Command {
        self.command_on("repository", program, line)
    }

    /// The same on another repository of this place.
    pub fn command_on(&self, repository: &str, program: &Program, line: &str) -> Command {
        let mut command = match program {
            Program::Onggi => Command::new(program::onggi()),
            Program::Restic(path) | Program::Rustic(path) => Command::new(path),
        };
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("home")).env("TZ", "UTC").stdin(Stdio::null());
        command.arg(if matches!(program, Program::Rustic(_)) { "--repository" } else { "--repo" });
        command.arg(self.path(repository)).arg("--password-file").arg(self.path("password"));
        command.args(line.split(' ').map(|word| self.expanded(word)));
        command
    }

    fn expanded(&self, word: &str) -> String {
        let Some((before, rest)) = word.split_once('{') else { return word.to_owned() };
        let (name, after) = rest.split_once('}').expect("a closing brace");
        format!("{before}{}{after}", self.path(name).display())
    }

    pub fn run(&self, program: &Program, line: &str) -> Done {
        finish(self.command(program, line))
    }

    pub fn run_on(&self, repository: &str, program: &Program, line: &str) -> Done {
        finish(self.command_on(repository, program, line))
    }

    /// Starts a backup of stdin that holds its lock until the child's stdin is dropped.
    pub fn start_stdin_backup(&self, program: &Program) -> Child {
        let mut command = self.command(program, "backup --stdin --stdin-filename held");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts")
    }

    /// Every file of the zoo came back, with all that the aspects name.
    #[track_caller]
    pub fn assert_restored(&self, target: &str, aspects: Aspects) {
        let source = self.path("source");
        let restored = self.path(target).join(source.strip_prefix("/").expect("an absolute path"));
        assert_equal(&source, &restored, aspects);
    }

    /// The ids of all snapshots as restic's JSON has them, oldest first.
    pub fn snapshots(&self, program: &Program) -> Vec<Value> {
        let list: Value = serde_json::from_str(&self.run(program, "snapshots --json").ok()).expect("a JSON array");
        list.as_array().expect("a JSON array").clone()
    }
}

#[track_caller]
pub fn assert_equal(left: &Path, right: &Path, aspects: Aspects) {
    let differences = compare(left, right, aspects).unwrap();
    let shown: Vec<_> = differences.iter().map(ToString::to_string).collect();
    assert!(shown.is_empty(), "{} differences\n{}", shown.len(), shown.join("\n"));
}

pub fn finish(mut command: Command) -> Done {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Done {
        line: onggi_lab::measure::shown(&command),
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The last message of a kind in JSON lines.
#[track_caller]
pub fn message(out: &str, kind: &str) -> Value {
    let messages = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut messages = messages.filter(|message| message["message_type"] == kind);
    messages.next_back().unwrap_or_else(|| panic!("no {kind} in {out}"))
}
