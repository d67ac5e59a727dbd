//! The leases of a run: what another run is at work on is left to it, before anything of the group is touched.

use super::{Job, UnitError, UnitResult, UnitRun};
use crate::edge::Lease;
use onggi_source::{Context, Monitor as _, Problem};

/// Takes the lease of each unit. Of a group in which another run is at work on one, nobody is touched.
pub(super) fn take(cx: &Context, job: &Job<'_>, units: &[UnitRun<'_>]) -> Result<Vec<Lease>, Vec<UnitResult>> {
    let Some(leases) = job.leases else { return Ok(Vec::new()) };
    let words = format!("run {}, since {:.0}", cx.run, cx.world.now());
    let (mut taken, mut held) = (Vec::new(), Vec::new());
    for (index, unit) in units.iter().enumerate() {
        match leases.take(&unit.member.plan.source, unit.member.unit.id.as_str(), &words) {
            Ok(Ok(lease)) => taken.push(lease),
            Ok(Err(by)) => held.push((index, by)),
            Err(error) => {
                let text = format!("whether another run is at work on it cannot be told: {error}");
                unit.monitor.problem(Problem { class: "io", path: None, text });
            }
        }
    }
    if held.is_empty() {
        return Ok(taken);
    }
    let cause = format!("{} is being backed up by another run", units[held[0].0].member.unit.name);
    let result = |(index, unit): (usize, &UnitRun<'_>)| {
        let name = unit.member.unit.name.clone();
        let Some((_, by)) = held.iter().find(|(at, _)| *at == index) else {
            return Err(UnitError::Group(name, cause.clone()));
        };
        let text = format!("{name} is being backed up by another run: {by}");
        unit.monitor.problem(Problem { class: "leased", path: None, text });
        Err(UnitError::Leased(name, by.clone()))
    };
    Err(units.iter().enumerate().map(result).collect())
}
