//! `cargo xtask bench`: onggi beside restic, rustic and borg on one set, in one run; with `--fleet` beside rsync over SSH.
//! Prints the report as Markdown.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::workspace::{Profile, build, root};

/// How large and how often.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(clap::Args)]
pub struct Arguments {
    /// An eighth of the set
    #[arg(long)]
    quick: bool,
    /// A fleet of hosts beside rsync, instead of a folder beside other backup programs
    #[arg(long)]
    fleet: bool,
    /// With `--fleet`: hosts that are read in one run [default: 500, quick 20]
    #[arg(long, requires = "fleet")]
    hosts: Option<u32>,
    /// How often everything is done; the medians are reported
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Where the set is written [default: a folder below target/]
    #[arg(long)]
    source: Option<PathBuf>,
    /// Where repositories and restored files go [default: /dev/shm, else below target/]
    #[arg(long)]
    work: Option<PathBuf>,
    /// Only this step, and what it builds on: first, reread, unchanged, changed, restore, verify, verify-data, large; of a
    /// fleet: one, many, days
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    only: Vec<String>,
    /// Which of the others to measure, by name [default: those of .lab/bin and of the search path]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    peers: Vec<String>,
    /// A program to measure beside onggi, wherever it is; its file name begins with its own name
    #[arg(long)]
    peer: Vec<PathBuf>,
    /// Measure beside etcd's own programs instead
    #[arg(long, conflicts_with_all = ["quick", "source", "only", "peers", "peer"])]
    etcd: bool,
    /// A BOSH director beside onggi's own `bbr`, and beside the real one where it is in .lab/bin, the search path, or named
    #[arg(long, conflicts_with_all = ["source", "only", "peers", "peer", "fleet", "etcd"])]
    bosh: bool,
    /// With `--bosh`: the real `bbr`
    #[arg(long, requires = "bosh", value_name = "PATH")]
    bbr: Option<PathBuf>,
    /// Servers of an OpenStack project beside the way of the JCloud script
    #[arg(long, conflicts_with_all = ["source", "only", "peers", "peer", "fleet", "etcd", "bosh"])]
    openstack: bool,
    /// With `--openstack`: the original JCloud script
    #[arg(long, requires = "openstack", value_name = "PATH")]
    jcloud: Option<PathBuf>,
    /// Append the report to docs/measurements.md and, if it is of a folder, show it in README.md
    #[arg(long)]
    record: bool,
}

const KINDS: [&str; 3] = ["restic", "rustic", "borg"];
/// What stands around the report in README.md.
const MARKS: [&str; 2] = ["<!-- measured -->\n", "<!-- /measured -->\n"];

/// Measures.
pub fn run(arguments: &Arguments) -> Result<()> {
    let programs = build(&["onggi", "onggi-node", "onggi-lab"], Profile::Dist)?;
    let scratch = programs.parent().unwrap_or(&programs).join("bench");
    let source = arguments.source.clone().unwrap_or_else(|| scratch.join("source"));
    // Days of full archives fit into no memory.
    let disk = arguments.work.clone().unwrap_or_else(|| scratch.join("work"));
    let memory = Path::new("/dev/shm");
    let work =
        arguments.work.clone().unwrap_or_else(|| if memory.is_dir() { memory.join("onggi-bench") } else { scratch });
    if arguments.fleet {
        return fleet(arguments, &programs, &source, &work);
    }
    if arguments.etcd {
        return etcd(arguments, &programs, &work);
    }
    if arguments.bosh {
        return bosh(arguments, &programs, &disk);
    }
    if arguments.openstack {
        return openstack(arguments, &programs, &disk, &work);
    }
    let peers = peers(arguments)?;
    ensure!(!peers.is_empty(), "no restic, rustic or borg to compare with: run lab/peers/up, or name one with --peer");
    let title = title(arguments);

    let mut command = Command::new(programs.join("onggi-lab"));
    command.arg("bench").arg("--source").arg(&source).arg("--work").arg(&work);
    command.arg("--runs").arg(arguments.runs.to_string()).arg("--title").arg(title);
    command.args(arguments.quick.then_some("--quick"));
    for step in &arguments.only {
        command.args(["--only", step]);
    }
    command.arg(programs.join("onggi")).args(peers);
    let report = report(&mut command, &[&source, &work])?;
    if arguments.record { record(&report) } else { Ok(()) }
}

/// Of one host, of many, and files of each of those.
const FLEET: [u32; 3] = [100_000, 500, 20_000];
/// The same in a short run.
const QUICK_FLEET: [u32; 3] = [10_000, 20, 2000];

/// Measures a fleet.
fn fleet(arguments: &Arguments, programs: &Path, source: &Path, work: &Path) -> Result<()> {
    let [files, hosts, host_files] = if arguments.quick { QUICK_FLEET } else { FLEET };
    let hosts = arguments.hosts.unwrap_or(hosts);
    let mut command = Command::new(programs.join("onggi-lab"));
    command.arg("fleet").arg("--source").arg(source).arg("--work").arg(work).args(["--title", &title(arguments)]);
    for (name, number) in [("--files", files), ("--hosts", hosts), ("--host-files", host_files)] {
        command.arg(name).arg(number.to_string());
    }
    command.arg("--runs").arg(arguments.runs.to_string());
    for part in &arguments.only {
        command.args(["--only", part]);
    }
    let report = report(command.arg(programs.join("onggi")), &[source, work])?;
    if arguments.record { append(&report) } else { Ok(()) }
}

/// Measures the capture of one member and a restore.
fn etcd(arguments: &Arguments, programs: &Path, work: &Path) -> Result<()> {
    let mut command = Command::new(programs.join("onggi-lab"));
    command.arg("bench-etcd").arg(programs.join("onggi")).arg("--runs").arg(arguments.runs.to_string());
    command.arg("--work").arg(work).args(["--title", &title(arguments)]);
    let report = report(&mut command, &[work])?;
    if arguments.record { append(&report) } else { Ok(()) }
}

/// Blobs of a director, and bytes of all of them.
const BOSH: [u64; 2] = [400, 2_000_000_000];
/// The same in a short run.
const QUICK_BOSH: [u64; 2] = [100, 200_000_000];

/// Measures backups of a director.
fn bosh(arguments: &Arguments, programs: &Path, work: &Path) -> Result<()> {
    let [blobs, bytes] = if arguments.quick { QUICK_BOSH } else { BOSH };
    let mut command = Command::new(programs.join("onggi-lab"));
    command.arg("bench-bosh").arg(programs.join("onggi")).arg("--runs").arg(arguments.runs.to_string());
    command.arg("--blobs").arg(blobs.to_string()).arg("--bytes").arg(bytes.to_string());
    command.arg("--work").arg(work).args(["--title", &title(arguments)]);
    if let Some(bbr) = &arguments.bbr {
        ensure!(bbr.is_file(), "{} is no program: --bbr names the real bbr", bbr.display());
    }
    if let Some(bbr) = arguments.bbr.clone().or_else(|| program("bbr")) {
        command.arg("--bbr").arg(bbr);
    }
    let report = report(&mut command, &[work])?;
    if arguments.record { append(&report) } else { Ok(()) }
}

/// MiB of data of each server.
const OPENSTACK: u64 = 512;
/// The same in a short run.
const QUICK_OPENSTACK: u64 = 64;

/// Measures backups of servers.
fn openstack(arguments: &Arguments, programs: &Path, work: &Path, memory: &Path) -> Result<()> {
    let data = if arguments.quick { QUICK_OPENSTACK } else { OPENSTACK };
    let mut command = Command::new(programs.join("onggi-lab"));
    command.arg("bench-openstack").arg(programs.join("onggi")).arg("--runs").arg(arguments.runs.to_string());
    command.arg("--data").arg(data.to_string()).arg("--work").arg(work).arg("--memory").arg(memory);
    command.args(["--title", &title(arguments)]);
    if let Some(script) = &arguments.jcloud {
        ensure!(script.is_file(), "{} is no file: --jcloud names the original script", script.display());
        command.arg("--script").arg(script);
    }
    let report = report(&mut command, &[work, memory])?;
    if arguments.record { append(&report) } else { Ok(()) }
}

/// Runs the benchmark, shows what it reports, also of one that ended early, and removes what it leaves.
fn report(command: &mut Command, folders: &[&Path]) -> Result<String> {
    let output = command.stderr(std::process::Stdio::inherit()).output().context("start onggi-lab")?;
    for folder in folders {
        std::fs::remove_dir_all(folder).ok();
    }
    let report = String::from_utf8(output.stdout).context("the report is text")?;
    println!("{report}");
    ensure!(
        output.status.success(),
        "the benchmark ended with {}; what it measured until then is above",
        output.status
    );
    Ok(report)
}

/// The command as one would type it to measure the same again.
fn title(arguments: &Arguments) -> String {
    let mut title = format!("cargo xtask bench --runs {}", arguments.runs);
    let flags = [
        (arguments.quick, "quick"),
        (arguments.fleet, "fleet"),
        (arguments.etcd, "etcd"),
        (arguments.bosh, "bosh"),
        (arguments.openstack, "openstack"),
    ];
    for (is_given, name) in flags {
        if is_given {
            title.extend([" --", name]);
        }
    }
    for (is_given, name) in [(arguments.bbr.is_some(), "bbr"), (arguments.jcloud.is_some(), "jcloud")] {
        if is_given {
            title.extend([" --", name, " PATH"]);
        }
    }
    if let Some(hosts) = arguments.hosts {
        title.extend([" --hosts ", &hosts.to_string()]);
    }
    for (name, values) in [("only", &arguments.only), ("peers", &arguments.peers)] {
        if !values.is_empty() {
            title.extend([" --", name, " ", &values.join(",")]);
        }
    }
    title
}

/// One program of each kind that is asked for: that of .lab/bin, else that of the search path.
fn peers(arguments: &Arguments) -> Result<Vec<PathBuf>> {
    if !arguments.peer.is_empty() {
        return Ok(arguments.peer.clone());
    }
    if let Some(name) = arguments.peers.iter().find(|name| !KINDS.contains(&name.as_str())) {
        bail!("{name} is no program we know how to measure: {}", KINDS.join(", "));
    }
    let is_wanted = |kind: &str| arguments.peers.is_empty() || arguments.peers.iter().any(|name| name == kind);
    let mut found = Vec::new();
    for kind in KINDS.into_iter().filter(|kind| is_wanted(kind)) {
        match program(kind) {
            Some(path) => found.push(path),
            None => eprintln!("SKIPPED: {kind} is not installed; lab/peers/up brings it"),
        }
    }
    Ok(found)
}

/// A program of .lab/bin, else of the search path.
fn program(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let folders = [root().join(".lab/bin")].into_iter().chain(std::env::split_paths(&paths));
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn append(report: &str) -> Result<()> {
    let path = root().join("docs/measurements.md");
    let old = std::fs::read_to_string(&path).context("read docs/measurements.md")?;
    std::fs::write(&path, format!("{}\n\n{}", old.trim_end(), report)).context("write docs/measurements.md")
}

fn record(report: &str) -> Result<()> {
    append(report)?;
    let path = root().join("README.md");
    let readme = std::fs::read_to_string(&path).context("read README.md")?;
    std::fs::write(&path, shown_in(&readme, report)?).context("write README.md")
}

/// The page with the report in place of the one between its marks.
fn shown_in(page: &str, report: &str) -> Result<String> {
    let [start, end] = MARKS;
    let (before, rest) = page.split_once(start).context("README.md has no place for the report")?;
    let (_, after) = rest.split_once(end).context("the place for the report in README.md has no end")?;
    Ok(format!("{before}{start}\n{}\n\n{end}{after}", report.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_report_takes_the_place_of_the_old() {
        let page = "# Page\n<!-- measured -->\nold\n<!-- /measured -->\nend\n";
        let expected = "# Page\n<!-- measured -->\n\n### new\n\n<!-- /measured -->\nend\n";
        assert_eq!(shown_in(page, "### new\n").unwrap(), expected);
        assert!(shown_in("# Page\n", "new").is_err());
    }
}
