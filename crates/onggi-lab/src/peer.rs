//! The other programs of the trade: those that `lab/peers/up` brought to `.lab/bin/`, then those of the search path.
//!
//! A test that lacks one says so past the harness and passes; with `CI=true` nothing may be skipped and it fails.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every program of a kind (`restic` finds `restic` and `restic-0.14`), one of each version, by its numbers.
pub fn versions(kind: &str) -> BTreeMap<Vec<u64>, PathBuf> {
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

/// The newest program of a kind, or a skipped test.
#[track_caller]
pub fn newest(kind: &str) -> Option<PathBuf> {
    let newest = versions(kind).into_values().next_back();
    if newest.is_none() {
        skip(&format!("no {kind} is here; lab/peers/up brings it"));
    }
    newest
}

/// Says that a test is skipped.
///
/// # Panics
/// If `CI` is `true`.
#[track_caller]
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "nothing may be skipped here: {why}");
    say(why);
}

/// Says it where nothing was promised: past the harness, which swallows what the print macros say.
pub fn say(why: &str) {
    // Nobody is left to hear that stderr is closed.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// The numbers in `restic 0.14.0 compiled with …`, `rclone v1.75.2` or `rustic 0.11.4`.
fn version(program: &Path) -> Option<Vec<u64>> {
    let name = program.file_name()?.to_string_lossy().into_owned();
    let has_command = ["restic", "rclone"].iter().any(|kind| name.starts_with(kind));
    let output = Command::new(program).arg(if has_command { "version" } else { "--version" }).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split_whitespace().nth(1)?.trim_start_matches('v').split('-').next()?;
    number.split('.').map(|part| part.parse().ok()).collect()
}
