//! The spare copies of config and keys, as problems. Nothing is read from a copy while its original is good.

use super::VerifyReport;
use crate::{Problem, Repository, Result, copies::FaultyCopy};

/// The class of a faulty spare copy.
pub(crate) const SPARE_COPY: &str = "spare-copy";

/// Compares the copies with their originals.
pub(super) async fn verify(repo: &Repository, report: &mut VerifyReport) -> Result<()> {
    report.add(repo.faulty_copies().await?.iter().map(problem));
    Ok(())
}

fn problem(copy: &FaultyCopy) -> Problem {
    Problem { class: SPARE_COPY, what: copy.handle.to_string(), text: copy.reason() }
}
