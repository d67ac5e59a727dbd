//! The real `bbr` as judge: the same acts under both programs on instances of the same kind, and whether they can be told
//! apart: by exit codes, by what scripts were called, by what is said, written and left, and by what a Director was asked.
//! Artifacts then go from each program to the other.
//!
//! Nothing of the real program belongs to this tree; whoever has one names its path. What differs on purpose is listed in
//! `difference.rs` with its reason; everything else that differs is a fault.

mod act;
mod crossing;
mod difference;
mod seen;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use self::act::ACTS;
use self::difference::EXPECTED;

/// The two programs.
#[derive(Debug, Clone, Copy)]
pub struct Programs<'a> {
    /// The judge.
    pub bbr: &'a Path,
    /// Who is judged.
    pub onggi: &'a Path,
}

/// Judges and returns the verdict as text; whether both could be told apart is an error that names each difference. Only
/// the acts whose name holds `filter` are performed.
pub fn run(programs: Programs<'_>, filter: &str, say: &dyn Fn(&str)) -> Result<String> {
    let mut differences = Vec::new();
    let mut count = 0;
    let mut used = vec![false; EXPECTED.len()];
    for act in ACTS.iter().filter(|act| act.name.contains(filter)) {
        let judge = act.perform(programs.bbr).with_context(|| format!("{}: bbr", act.name))?;
        let ours = act.perform(programs.onggi).with_context(|| format!("{}: onggi", act.name))?;
        let found = difference::between(act.name, &judge, &ours, &mut used);
        say(&format!("{}: {} differences", act.name, found.len()));
        differences.extend(found);
        count += 1;
    }
    for (name, crossing) in crossing::CROSSINGS.iter().filter(|(name, _)| name.contains(filter)) {
        match crossing(programs) {
            Ok(()) => say(&format!("{name}: as it should be")),
            Err(error) => differences.push(format!("{name}: {error:#}")),
        }
        count += 1;
    }
    ensure!(count > 0, "no act has {filter:?} in its name");
    // one that is never met is a claim that nobody has seen
    if filter.is_empty() {
        let idle = EXPECTED.iter().zip(&used).filter(|(_, used)| !**used);
        differences
            .extend(idle.map(|(expected, _)| format!("{:?} was expected to differ and does not", expected.text)));
    }
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    let mut verdict = format!("{count} acts; what differs is meant to:\n");
    for expected in EXPECTED.iter().zip(&used).filter(|(_, used)| **used).map(|(expected, _)| expected) {
        let _ = writeln!(verdict, "- {:?}: {}", expected.text, expected.why); // a string takes everything
    }
    Ok(verdict)
}
