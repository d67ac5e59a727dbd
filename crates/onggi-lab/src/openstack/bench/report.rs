//! What was measured, as a page for `docs/measurements.md`.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Days, MIB, PIECE, Plan, Single};
use crate::bench::{machine, table};
use crate::measure::{Cost, median};

/// The report as Markdown.
pub(super) fn page(plan: &Plan, command_line: &str, single: &Single, days: &Days) -> Result<String> {
    let today = jiff::Zoned::now().date();
    let mut page = format!("### {today}, servers of an OpenStack project\n\n{}.\n\n", machine::description());
    let Plan { data, disk_gib, change, servers, runs, .. } = plan;
    let (way, theirs) = if plan.script.is_some() {
        (
            "The JCloud script is the original; each of its runs asks for images, which it does not wait for, and moves \
             those of the run before.",
            "JCloud script",
        )
    } else {
        (
            "The script's way: an image by OpenStack's client, its file by `rsync -z` over SSH, one server after the other.",
            "script's way",
        )
    };
    let _ = writeln!(
        page,
        "Servers with {} MiB of data, which nothing compresses, on a disk of {disk_gib} GiB; before each further backup \
         {change} % of the data change in pieces of {} MiB. The cloud (Nova with QEMU, Glance with files), the backup server \
         (OpenSSH) and the programs share this machine. The repository of one server is in memory, because a bare download \
         writes nothing. {way} Ratios that miss their aim are bold.\n\nCommand: `{command_line}`\n",
        data / MIB,
        PIECE / MIB,
    ); // a string takes everything
    let middle = |all: &[Duration]| {
        let mut all = all.to_vec();
        all.sort_unstable();
        all.get(all.len() / 2).copied().context("it was measured").map(|middle| middle.as_secs_f64())
    };
    let _ = writeln!(page, "| one server, medians of {runs} | onggi | beside | ratio | aim |\n|---|---|---|---|---|");
    for line in &single.lines {
        let what = format!("s from the first byte of the disk to the end, beside a bare download, over {}", line.name);
        table::row(&mut page, &what, middle(&line.hub)?, middle(&line.bare)?, Some(1.15));
    }
    let mut added = single.added.clone();
    added.sort_unstable();
    let (added, changed) = *added.get(added.len() / 2).context("it was measured")?;
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    table::row(&mut page, "MiB that a second backup adds, beside what changed", mib(added), mib(changed), Some(1.5));
    let memory = |costs: &[Cost]| median(costs).map(|cost| cost.memory_kib >> 10).context("it was measured");
    let (one, all) = (memory(&single.costs)?, memory(&days.onggi)?);
    let _ = writeln!(page, "\nMemory at most: {one} MiB (aim ≤ 256); {servers} servers at once {all} MiB.\n");
    let count = plan.days;
    let _ = writeln!(
        page,
        "| {servers} servers on {count} days, measured once | onggi | {theirs} | ratio | aim |\n|---|---|---|---|---|"
    );
    let walls: Vec<_> = days.onggi.iter().map(|cost| cost.wall).collect();
    let (first, rest) = walls.split_first().context("it was measured")?;
    let (script_first, script_rest) = days.script.split_first().context("it was measured")?;
    table::row(&mut page, "s on the first day", first.as_secs_f64(), script_first.as_secs_f64(), Some(0.5));
    if !rest.is_empty() {
        table::row(&mut page, "s on a later day, median", middle(rest)?, middle(script_rest)?, Some(0.5));
    }
    if let Some(whole) = days.whole.get(1..).filter(|later| !later.is_empty()) {
        let what = "s on a later day until all images are whole, median";
        table::row(&mut page, what, middle(rest)?, middle(whole)?, Some(0.5));
    }
    table::row(&mut page, "MiB sent to the backup server", mib(days.sent.0), mib(days.sent.1), None);
    table::row(&mut page, "MiB there in the end", mib(days.kept.0), mib(days.kept.1), None);
    Ok(page)
}
