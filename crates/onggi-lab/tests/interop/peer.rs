//! Which other programs are here.

pub use onggi_lab::peer::skip;
use onggi_lab::peer::{say, versions};

use crate::place::Program;

/// The first restic that knows version 2 of the format.
const SECOND_FORMAT: [u64; 2] = [0, 14];

/// Every restic that knows version 2 of the format, one of each version, oldest first. Two are wanted: 0.14 and a current
/// one.
pub fn restics() -> Vec<Program> {
    let mut versions = versions("restic");
    versions.retain(|version, _| *version >= SECOND_FORMAT.to_vec());
    if versions.len() < 2 {
        skip(&format!("restic in only {} versions is here, 0.14 and a current one are wanted", versions.len()));
    }
    versions.into_values().map(Program::Restic).collect()
}

/// A restic that knows nothing of version 2 of the format. Its suite is old and may leave Debian's mirrors, so it is not
/// missed.
pub fn old_restic() -> Option<Program> {
    let oldest = versions("restic").into_iter().next().filter(|(version, _)| *version < SECOND_FORMAT.to_vec());
    if oldest.is_none() {
        say("no restic before 0.14 is here");
    }
    oldest.map(|(_, path)| Program::Restic(path))
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
