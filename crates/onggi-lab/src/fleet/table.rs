//! The report: seconds of both programs, their ratio and what it is to stay below.

use std::fmt::Write as _;

use super::bed::{PARALLEL, ROUND_TRIP};
use super::{Days, Figures, Many, Plan, Row};
use crate::bench::machine;
use crate::measure::Cost;

/// Of rsync's time, as the acceptance list has it.
const ROWS: [(Row, &str, Option<f64>); 4] = [
    (Row::First, "first backup, beside `rsync -a`", Some(1.2)),
    (Row::Unchanged, "unchanged, beside `rsync -a`", Some(1.5)),
    (Row::Attributes, "unchanged, beside `rsync -aHAX`, which looks at as much", None),
    (Row::Far, "unchanged and far away, beside `rsync -a`", Some(0.5)),
];

/// The whole report as Markdown.
pub fn report(plan: &Plan, figures: &Figures, versions: &[String], command_line: &str) -> String {
    let today = jiff::Zoned::now().date();
    let mut page = format!("### {today}, a fleet\n\n{}.\n\n", machine::description());
    for version in versions {
        let _ = writeln!(page, "- {version}"); // a string takes everything
    }
    let others = figures.load.percent().map_or_else(String::new, |percent| {
        format!(
            " Meanwhile other work and the servers of both programs took {percent:.0} % of the machine's processors."
        )
    });
    let _ = writeln!(
        page,
        "\nBoth ends on this machine, over one OpenSSH server; `nice: 0`.{others} Ratios that miss their aim are \
         bold.\n\nCommand: `{command_line}`\n"
    );
    if !figures.rows.is_empty() {
        one(plan, figures, &mut page);
    }
    if let Some(many) = figures.many {
        self::many(plan, many, &mut page);
    }
    if let Some(days) = figures.days {
        self::days(plan, days, &mut page);
    }
    page
}

fn one(plan: &Plan, figures: &Figures, page: &mut String) {
    let Plan { files, runs, .. } = plan;
    let _ = writeln!(page, "| one host of {files} files, medians of {runs} | onggi s | rsync s | ratio | aim |");
    let _ = writeln!(page, "|---|---|---|---|---|");
    for (row, title, aim) in ROWS {
        let Some((onggi, rsync)) = figures.rows.get(&row).and_then(super::Pair::medians) else { continue };
        let aimed = aim.map_or_else(|| "–".to_owned(), |aim| format!("≤ {aim}"));
        let way =
            if row == Row::Far { format!(" ({} ms there and back)", ROUND_TRIP.as_millis()) } else { String::new() };
        let (ours, theirs, ratio) = (seconds(onggi), seconds(rsync), ratio(onggi, rsync, aim));
        let _ = writeln!(page, "| {title}{way} | {ours:.2} | {theirs:.2} | {ratio} | {aimed} |");
    }
    let hub = figures.rows.values().flat_map(|pair| &pair.onggi).map(|cost| cost.memory_kib).max().unwrap_or(0);
    let node = figures
        .node_memory
        .map_or_else(String::new, |node| format!(", program on the host {:.1} MiB (aim ≤ 32)", node as f64 / 1024.0));
    let _ = writeln!(page, "\nMemory at most: hub {} MiB (aim ≤ 340){node}.", hub >> 10);
}

fn many(plan: &Plan, many: Many, page: &mut String) {
    let (hosts, files) = plan.hosts;
    let Many { first, unchanged } = many;
    let _ = writeln!(
        page,
        "\n| {hosts} hosts of {files} files, {PARALLEL} at once, measured once | s | hub MiB |\n|---|---|---|"
    );
    for (title, cost) in [("first backup", first), ("unchanged", unchanged)] {
        let _ = writeln!(page, "| {title} | {:.0} | {} |", seconds(cost), cost.memory_kib >> 10);
    }
    let of_all = seconds(unchanged) / hosts as f64 * 500.0;
    let _ = writeln!(
        page,
        "\n500 hosts at this pace: {of_all:.0} s (aim ≤ 600); memory's aim ≤ {} MiB.",
        300 + 40 * PARALLEL
    );
}

fn days(plan: &Plan, days: Days, page: &mut String) {
    let Plan { files, days: count, .. } = plan;
    let ((onggi, kept), (rsync, linked)) = (days.onggi, days.rsync);
    let mib = |bytes: u64| bytes >> 20;
    let _ = writeln!(
        page,
        "\n| {count} days of {files} files, 1 % changed a day, measured once | onggi | rsync --link-dest | ratio |"
    );
    let _ = writeln!(page, "|---|---|---|---|");
    let _ = writeln!(
        page,
        "| s, all days | {:.1} | {:.1} | {} |",
        seconds(onggi),
        seconds(rsync),
        ratio(onggi, rsync, None)
    );
    let _ = writeln!(page, "| MiB on disk | {} | {} | {:.2} |", mib(kept), mib(linked), kept as f64 / linked as f64);
}

fn seconds(cost: Cost) -> f64 {
    cost.wall.as_secs_f64()
}

fn ratio(onggi: Cost, rsync: Cost, aim: Option<f64>) -> String {
    let ratio = seconds(onggi) / seconds(rsync);
    if aim.is_some_and(|aim| ratio > aim) { format!("**{ratio:.2}**") } else { format!("{ratio:.2}") }
}
