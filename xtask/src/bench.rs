//! `cargo xtask bench`: onggi beside restic, rustic and borg on one set, in one run; prints the report as Markdown.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace::{Profile, build, root};

/// How large and how often.
#[derive(clap::Args)]
pub struct Arguments {
    /// An eighth of the set
    #[arg(long)]
    quick: bool,
    /// How often everything is done; the medians are reported
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Where the set is written [default: a folder below target/]
    #[arg(long)]
    source: Option<PathBuf>,
    /// Where repositories and restored files go [default: /dev/shm, else below target/]
    #[arg(long)]
    work: Option<PathBuf>,
    /// Programs to measure beside onggi [default: those of .lab/bin and of the search path]
    #[arg(long)]
    peer: Vec<PathBuf>,
    /// Append the report to docs/measurements.md
    #[arg(long)]
    record: bool,
}

/// Measures.
pub fn run(arguments: &Arguments) -> Result<()> {
    let programs = build(&["onggi", "onggi-lab"], Profile::Dist)?;
    let scratch = programs.parent().unwrap_or(&programs).join("bench");
    let source = arguments.source.clone().unwrap_or_else(|| scratch.join("source"));
    let memory = Path::new("/dev/shm");
    let work =
        arguments.work.clone().unwrap_or_else(|| if memory.is_dir() { memory.join("onggi-bench") } else { scratch });
    let peers = if arguments.peer.is_empty() { found() } else { arguments.peer.clone() };
    ensure!(!peers.is_empty(), "no restic, rustic or borg to compare with: run lab/peers/up, or name one with --peer");
    let title = format!("cargo xtask bench --runs {}{}", arguments.runs, if arguments.quick { " --quick" } else { "" });

    let mut command = Command::new(programs.join("onggi-lab"));
    command.arg("bench").arg("--source").arg(&source).arg("--work").arg(&work);
    command.arg("--runs").arg(arguments.runs.to_string()).arg("--title").arg(title);
    command.args(arguments.quick.then_some("--quick"));
    command.arg(programs.join("onggi")).args(peers);
    let output = command.stderr(std::process::Stdio::inherit()).output().context("start onggi-lab")?;
    for folder in [&source, &work] {
        std::fs::remove_dir_all(folder).ok();
    }
    ensure!(output.status.success(), "the benchmark ended with {}", output.status);
    let report = String::from_utf8(output.stdout).context("the report is text")?;
    println!("{report}");
    if arguments.record { record(&report) } else { Ok(()) }
}

/// One program of each kind: that of .lab/bin, else that of the search path.
fn found() -> Vec<PathBuf> {
    let mut folders = vec![root().join(".lab/bin")];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let kinds = ["restic", "rustic", "borg"];
    kinds.iter().filter_map(|kind| folders.iter().map(|folder| folder.join(kind)).find(|path| path.is_file())).collect()
}

fn record(report: &str) -> Result<()> {
    let path = root().join("docs/measurements.md");
    let old = std::fs::read_to_string(&path).context("read docs/measurements.md")?;
    std::fs::write(&path, format!("{}\n\n{}", old.trim_end(), report)).context("write docs/measurements.md")
}
