//! Trials: the test programs one after the other with a fault on, until one fails.
//!
//! What fails counts only if the same test passes without the fault, so that a busy machine finds nothing.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Program, choose, folder};

/// A test program that runs so many times longer than without the fault hangs.
const PATIENCE: u32 = 10;
const PATIENCE_MIN: Duration = Duration::from_mins(2);
/// How long a program may run that was not yet seen to end.
const UNKNOWN_MAX: Duration = Duration::from_mins(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What found a fault.
pub struct Found {
    pub program: String,
    pub tests: Vec<String>,
}

/// How long a test program is let run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// A test has failed: with a fault on, others may well hang.
    FirstFailure,
    End,
}

/// How a test program ended.
struct Ended {
    is_good: bool,
    failed: Vec<String>,
    took: Duration,
}

/// All trials of one build.
pub struct Trials<'a> {
    programs: &'a [Program],
    /// How long each takes without a fault.
    usual: HashMap<&'a str, Duration>,
}

impl<'a> Trials<'a> {
    pub fn new(programs: &'a [Program]) -> Self {
        Self { programs, usual: HashMap::new() }
    }

    /// The first program that finds the fault: those of its own package are asked first.
    pub fn find(&mut self, fault: &str, package: &str) -> Result<Option<Found>> {
        let (own, others): (Vec<_>, Vec<_>) = self.programs.iter().partition(|program| program.package == package);
        for program in own.into_iter().chain(others) {
            let usual = self.usual(program)?;
            let limit = (usual * PATIENCE).max(PATIENCE_MIN);
            // The first that fails may be one that a busy machine failed: then all of them are waited for.
            for until in [Until::FirstFailure, Until::End] {
                let ended = execute(program, fault, &[], limit, until)?;
                if ended.is_good {
                    break;
                }
                let mut tests = ended.failed;
                if tests.is_empty() {
                    tests.push("ends without a result".to_owned());
                    return Ok(Some(Found { program: program.name.clone(), tests }));
                }
                let alone: Vec<&str> = tests.iter().map(String::as_str).collect();
                let sound = execute(program, "none", &[&["--exact"], &alone[..]].concat(), UNKNOWN_MAX, Until::End)?;
                tests.retain(|test| !sound.failed.contains(test));
                if !tests.is_empty() {
                    return Ok(Some(Found { program: program.name.clone(), tests }));
                }
            }
        }
        Ok(None)
    }

    fn usual(&mut self, program: &'a Program) -> Result<Duration> {
        if let Some(usual) = self.usual.get(&program.name[..]) {
            return Ok(*usual);
        }
        let ended = execute(program, "none", &[], UNKNOWN_MAX, Until::End)?;
        ensure!(ended.is_good, "{} fails without a fault: {}", program.name, ended.failed.join(", "));
        self.usual.insert(&program.name, ended.took);
        Ok(ended.took)
    }
}

fn execute(program: &Program, fault: &str, arguments: &[&str], limit: Duration, until: Until) -> Result<Ended> {
    choose(fault)?;
    let log = folder().join(format!("{fault} {}", program.name.replace('/', "-")));
    let out = fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
    let started = Instant::now();
    let mut command = Command::new(&program.path);
    command.args(arguments).current_dir(program.home()).env_remove("CI").stdin(Stdio::null());
    command.stdout(out.try_clone()?).stderr(out);
    let mut child = command.spawn().with_context(|| format!("start {}", program.name))?;
    let status = loop {
        if let Some(status) = child.try_wait().context("wait")? {
            break Some(status);
        }
        if started.elapsed() > limit || until == Until::FirstFailure && !failed(&log)?.is_empty() {
            child.kill().context("end what is not waited for")?;
            child.wait().context("wait")?;
            break None;
        }
        std::thread::sleep(LOOK_EVERY);
    };
    let is_good = status.is_some_and(|status| status.success());
    Ok(Ended { is_good, failed: failed(&log)?, took: started.elapsed() })
}

/// The tests of which a log says that they failed.
fn failed(log: &Path) -> Result<Vec<String>> {
    let told = String::from_utf8_lossy(&fs::read(log).context("read the log")?).into_owned();
    let failed = told.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    Ok(failed.map(|name| name.trim_end_matches(" - should panic").to_owned()).collect())
}
