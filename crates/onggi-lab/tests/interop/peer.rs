//! Which other programs are here.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::place::Program;

/// Every restic, one of each version, oldest first. Two are wanted: 0.14 and a current one.
pub fn restics() -> Vec<Program> {
    let versions = versions("restic");
    if versions.len() < 2 {
        skip(&format!("restic in only {} versions is here, 0.14 and a current one are wanted", versions.len()));
    }
    versions.into_values().map(Program::Restic).collect()
}

/// The newest restic, if it is one that still gets releases.
pub fn current_restic() -> Option<Program> {
    let newest = versions("restic").into_iter().next_back().filter(|(version, _)| *version >= vec![0, 18]);
    if newest.is_none() {
        skip("no restic from 0.18 on is here");
    }
    newest.map(|(_, path)| Program::Restic(path))
}

/// The newest rustic. It has no package and takes long to build, so it is missed only where it was asked for.
pub fn rustic() -> Option<Program> {
    let newest = versions("rustic").into_values().next_back();
    match std::env::var_os("ONGGI_LAB_RUSTIC") {
        _ if newest.is_some() => {}
        Some(_) => skip("no rustic is here"),
        None => say("no rustic is here (ONGGI_LAB_RUSTIC=1 lab/peers/up builds it)"),
    }
    newest.map(Program::Rustic)
}

/// Says it past the test harness, which would swallow it; where nothing may be skipped, fails.
#[track_caller]
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "nothing may be skipped here: {why}");
    say(why);
}

fn say(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

fn versions(kind: &str) -> BTreeMap<Vec<u64>, PathBuf> {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.lab/bin");
    let search = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(lab).chain(std::env::split_paths(&search));
    let entries = folders.filter_map(|folder| folder.read_dir().ok()).flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let named = paths.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name == kind || name.strip_prefix(kind).is_some_and(|rest| rest.starts_with('-') && rest.contains('.'))
    });
    named.filter_map(|path| Some((version(&path)?, path))).collect()
}

/// The numbers in `restic 0.14.0 compiled with …` or `rustic 0.11.4`.
fn version(program: &Path) -> Option<Vec<u64>> {
    let argument = if program.file_name()?.to_string_lossy().starts_with("restic") { "version" } else { "--version" };
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split_whitespace().nth(1)?.trim_start_matches('v').split('-').next()?;
    number.split('.').map(|part| part.parse().ok()).collect()
}
