//! The report: processor seconds, wall time, memory and size, each beside restic's.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;

use super::{Figures, Load, Peer, Plan, Step, machine};
use crate::measure::Cost;

/// What each step is to stay below, as a share of what restic needs.
const TARGET: f64 = 0.8;

/// The whole report as Markdown.
pub fn report(plan: &Plan, peers: &[Peer], figures: &[Figures], load: &Load, command_line: &str) -> Result<String> {
    let mut page = head(plan, peers, load, command_line)?;
    let names: Vec<_> = peers.iter().map(Peer::name).collect();
    let steps: Vec<_> = Step::ALL.into_iter().filter(|step| plan.only.is_empty() || plan.only.contains(step)).collect();
    let of = |name| names.iter().position(|other| *other == name).map(|number| &figures[number]);
    let (onggi, restic) = (of("onggi"), of("restic"));

    let _ = writeln!(page, "| processor seconds (wall seconds) | {} | onggi : restic |", names.join(" | "));
    let _ = writeln!(page, "|---|{}---|", "---|".repeat(names.len()));
    for step in &steps {
        let cells: Vec<_> = figures.iter().map(|figure| seconds(figure.median(*step))).collect();
        let cost = |figures: Option<&Figures>| figures?.median(*step);
        let ratio = ratios(cost(onggi), cost(restic));
        let _ = writeln!(page, "| {} | {} | {ratio} |", step.title(), cells.join(" | "));
    }

    let _ = writeln!(page, "\n| MiB | {} | onggi : restic |", names.join(" | "));
    let _ = writeln!(page, "|---|{}---|", "---|".repeat(names.len()));
    for step in &steps {
        let cells: Vec<_> = figures.iter().map(|figure| memory(figure.median(*step))).collect();
        let _ = writeln!(page, "| memory, {} | {} | |", step.title(), cells.join(" | "));
    }
    let sizes: Vec<_> = figures.iter().map(|figure| format!("{:.0}", mebibytes(figure.repository_bytes))).collect();
    let bytes = |figures: Option<&Figures>| figures.map_or(0, |figures| figures.repository_bytes) as f64;
    let ratio = if bytes(restic) > 0.0 { format!("{:.3}", bytes(onggi) / bytes(restic)) } else { String::new() };
    let _ = writeln!(page, "| repository after the first backup | {} | {ratio} |", sizes.join(" | "));
    Ok(page)
}

/// One row as it was just measured.
pub fn measured(peers: &[Peer], figures: &[Figures], step: Step) -> String {
    let last = |figures: &Figures| figures.costs.get(&step).and_then(|costs| costs.last().copied());
    let cell = |(peer, figures): (&Peer, &Figures)| {
        format!("{} {} {} MiB", peer.name(), seconds(last(figures)), memory(last(figures)))
    };
    let cells: Vec<_> = peers.iter().zip(figures).map(cell).collect();
    format!("  {}: {}", step.title(), cells.join(", "))
}

fn head(plan: &Plan, peers: &[Peer], load: &Load, command_line: &str) -> Result<String> {
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
         Medians of {} runs, of memory the most; each step by all programs in turn. The source is in the page cache. \
         {}Ratios of processor and wall time above {TARGET} are bold: there onggi misses its aim.\n\nCommand: \
         `{command_line}`\n",
        mib(set.random),
        set.logs,
        mib(set.log),
        set.small,
        mib(set.image),
        set.extents * 16,
        plan.runs,
        shared(load),
    );
    Ok(page)
}

fn shared(load: &Load) -> String {
    let share = |percent| format!("Meanwhile other work took {percent:.0} % of the machine's processors. ");
    load.percent().map_or_else(String::new, share)
}

fn seconds(cost: Option<Cost>) -> String {
    let figure = |cost: Cost| format!("{:.2} ({:.2})", cost.processor.as_secs_f64(), cost.wall.as_secs_f64());
    cost.map_or_else(|| "–".into(), figure)
}

fn memory(cost: Option<Cost>) -> String {
    cost.map_or_else(|| "–".into(), |cost| format!("{:.0}", mebibytes(cost.memory_kib << 10)))
}

/// Shares of processor time, and in parentheses of wall time; bold where they miss the target.
fn ratios(ours: Option<Cost>, reference: Option<Cost>) -> String {
    let (Some(ours), Some(reference)) = (ours, reference) else { return "–".into() };
    let ratio = |ours: Duration, reference: Duration| match ours.as_secs_f64() / reference.as_secs_f64() {
        ratio if !ratio.is_finite() => "–".into(),
        ratio if ratio > TARGET => format!("**{ratio:.2}**"),
        ratio => format!("{ratio:.2}"),
    };
    format!("{} ({})", ratio(ours.processor, reference.processor), ratio(ours.wall, reference.wall))
}

/// A row of two figures and their ratio, bold where it misses its aim.
pub(crate) fn row(page: &mut String, title: &str, onggi: f64, peer: f64, aim: Option<f64>) {
    let ratio = onggi / peer;
    let is_missed = aim.is_some_and(|aim| ratio > aim);
    let ratio = if is_missed { format!("**{ratio:.2}**") } else { format!("{ratio:.2}") };
    let aim = aim.map_or_else(|| "–".to_owned(), |aim| format!("≤ {aim}"));
    let _ = writeln!(page, "| {title} | {onggi:.2} | {peer:.2} | {ratio} | {aim} |"); // a string takes everything
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_above_its_aim_is_bold() {
        let mut page = String::new();
        row(&mut page, "x", 2.0, 4.0, Some(0.25));
        row(&mut page, "y", 2.0, 4.0, Some(0.6));
        assert_eq!(page, "| x | 2.00 | 4.00 | **0.50** | ≤ 0.25 |\n| y | 2.00 | 4.00 | 0.50 | ≤ 0.6 |\n");
    }

    #[test]
    fn a_ratio_says_how_much_of_the_others_time_is_needed() {
        let cost = |processor, wall| {
            let [processor, wall] = [processor, wall].map(Duration::from_secs);
            Some(Cost { wall, processor, memory_kib: 0 })
        };
        assert_eq!(ratios(cost(3, 9), cost(6, 10)), "0.50 (**0.90**)");
        assert_eq!(ratios(cost(2, 2), cost(0, 4)), "– (0.50)");
        assert_eq!(ratios(None, cost(2, 2)), "–");
    }
}
