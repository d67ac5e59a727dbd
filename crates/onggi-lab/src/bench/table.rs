//! The report: processor seconds, wall time, memory and size, each beside restic's.

use std::fmt::Write as _;

use anyhow::Result;

use super::{Figures, Peer, Plan, Step, machine};
use crate::measure::Cost;

/// The whole report as Markdown.
pub fn report(plan: &Plan, peers: &[Peer], figures: &[Figures], command_line: &str) -> Result<String> {
    let mut page = head(plan, peers, command_line)?;
    let names: Vec<_> = peers.iter().map(Peer::name).collect();
    let reference = names.iter().position(|name| *name == "restic").map(|number| &figures[number]);
    let onggi = names.iter().position(|name| *name == "onggi").map(|number| &figures[number]);

    let _ = writeln!(page, "Processor seconds, user and system (wall time in seconds):\n");
    let _ = writeln!(page, "| step | {} | restic : onggi |", names.join(" | "));
    let _ = writeln!(page, "|---|{}---|", "---|".repeat(names.len()));
    for step in Step::ALL {
        let cells: Vec<_> = figures.iter().map(|figure| seconds(figure.costs.get(&step))).collect();
        let cost = |figures: Option<&Figures>| figures?.costs.get(&step).copied();
        let ratio = ratio(cost(reference), cost(onggi));
        let _ = writeln!(page, "| {} | {} | {ratio} |", step.title(), cells.join(" | "));
    }

    let _ = writeln!(page, "\nLargest resident memory in MiB:\n");
    let _ = writeln!(page, "| step | {} |", names.join(" | "));
    let _ = writeln!(page, "|---|{}", "---|".repeat(names.len()));
    for step in Step::ALL {
        let cells: Vec<_> = figures.iter().map(|figure| memory(figure.costs.get(&step))).collect();
        let _ = writeln!(page, "| {} | {} |", step.title(), cells.join(" | "));
    }
    let sizes: Vec<_> = figures.iter().map(|figure| format!("{:.0}", mebibytes(figure.repository_bytes))).collect();
    let _ = writeln!(page, "| repository after the first backup | {} |", sizes.join(" | "));
    Ok(page)
}

fn head(plan: &Plan, peers: &[Peer], command_line: &str) -> Result<String> {
    let today = jiff::Zoned::now().date();
    let mut page = format!("### {today}\n\n{}.\n\n", machine::description());
    for peer in peers {
        let _ = writeln!(page, "- {}", peer.version()?);
    }
    let set = plan.set;
    let mib = |bytes: u64| bytes >> 20;
    let _ = writeln!(
        page,
        "\nSet: {} MiB random, {} logs of {} MiB, {} small files, a sparse image of {} MiB with {} MiB of data. \
         Medians of {} runs, the programs in turn. The source is in the page cache.\n\nCommand: `{command_line}`\n",
        mib(set.random),
        set.logs,
        mib(set.log),
        set.small,
        mib(set.image),
        set.extents * 16,
        plan.runs,
    );
    Ok(page)
}

fn seconds(cost: Option<&Cost>) -> String {
    let figure = |cost: &Cost| format!("{:.2} ({:.2})", cost.processor.as_secs_f64(), cost.wall.as_secs_f64());
    cost.map_or_else(|| "–".into(), figure)
}

fn memory(cost: Option<&Cost>) -> String {
    cost.map_or_else(|| "–".into(), |cost| format!("{:.0}", mebibytes(cost.memory_kib << 10)))
}

/// How much more processor time the first needs.
fn ratio(reference: Option<Cost>, ours: Option<Cost>) -> String {
    match (reference, ours) {
        (Some(reference), Some(ours)) if !ours.processor.is_zero() => {
            format!("{:.1}", reference.processor.as_secs_f64() / ours.processor.as_secs_f64())
        }
        _ => "–".into(),
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_ratio_says_how_much_more_the_other_needs() {
        let cost =
            |seconds| Some(Cost { wall: Duration::ZERO, processor: Duration::from_secs(seconds), memory_kib: 0 });
        assert_eq!(ratio(cost(9), cost(2)), "4.5");
        assert_eq!(ratio(cost(9), cost(0)), "–");
        assert_eq!(ratio(None, cost(2)), "–");
    }
}
