//! What automation runs of the lab: making sets, comparing folders, measuring.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use onggi_lab::bench::{self, EtcdPlan, Peer, Plan, Step};
use onggi_lab::bosh;
use onggi_lab::compare::{Aspects, compare};
use onggi_lab::corpus::mixed::Mixed;
use onggi_lab::corpus::{golden, zoo};
use onggi_lab::describe::describe;
use onggi_lab::fleet;
use onggi_lab::measure;
use onggi_lab::openstack;

#[derive(Parser)]
#[command(name = "onggi-lab", about = "Sets to back up, comparison of folders, measuring; never shipped")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the mixed set into a folder
    Mixed {
        folder: PathBuf,
        /// An eighth of it
        #[arg(long)]
        quick: bool,
    },
    /// Writes every kind of entry and metadata into a folder
    Zoo { folder: PathBuf },
    /// Writes what golden repositories hold, as it is at the given turn
    GoldenSource {
        #[arg(long)]
        turn: u32,
        folder: PathBuf,
    },
    /// Describes a folder, one line per entry
    Describe { folder: PathBuf },
    /// Compares two folders; ends with 1 if they differ
    Compare { left: PathBuf, right: PathBuf },
    /// Measures programs beside each other and prints the report
    Bench(Bench),
    /// Measures onggi beside rsync over SSH and prints the report
    Fleet(Fleet),
    /// Measures kind `bosh` beside `bbr` and prints the report
    BenchBosh(BenchBosh),
    /// Asks the real `bbr` whether `onggi bbr` can be told from it
    JudgeBosh(JudgeBosh),
    /// Measures kind `openstack` beside the way of the JCloud script and prints the report
    BenchOpenstack(BenchOpenstack),
    /// Asks the original JCloud script whether `onggi jcloud` can be told from it
    JudgeOpenstack(JudgeOpenstack),
    /// Runs a command as if it were this program, and writes down how much memory it held
    #[command(hide = true)]
    Watched {
        #[arg(long)]
        log: PathBuf,
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Measures onggi beside etcd's own programs and prints the report
    BenchEtcd(BenchEtcd),
    /// Runs a command and answers with its cost; the other half of `bench`
    #[command(hide = true)]
    Measured {
        #[arg(long)]
        log: PathBuf,
        #[arg(last = true)]
        command: Vec<String>,
    },
}

#[derive(clap::Args)]
struct Bench {
    /// The programs; each file name begins with onggi, restic, rustic or borg
    #[arg(required = true)]
    programs: Vec<PathBuf>,
    /// An eighth of the set
    #[arg(long)]
    quick: bool,
    /// How often; the medians are reported
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Only this step, and what it builds on; may be repeated
    #[arg(long, value_name = "STEP")]
    only: Vec<Step>,
    /// Where the set is written
    #[arg(long)]
    source: PathBuf,
    /// Where repositories and restored files go; best in memory
    #[arg(long)]
    work: PathBuf,
    /// How the command is named in the report
    #[arg(long, default_value = "onggi-lab bench")]
    title: String,
}

#[derive(clap::Args)]
struct Fleet {
    /// The program; `onggi-node` lies beside it
    onggi: PathBuf,
    /// Files of the one host
    #[arg(long)]
    files: u64,
    /// Hosts that are read in one run
    #[arg(long)]
    hosts: usize,
    /// Files of each of them
    #[arg(long)]
    host_files: u64,
    /// How often; the medians are reported
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only this part; may be repeated
    #[arg(long, value_name = "PART")]
    only: Vec<fleet::Part>,
    /// Where files are written
    #[arg(long)]
    source: PathBuf,
    /// Where repositories and copies go; best in memory
    #[arg(long)]
    work: PathBuf,
    /// How the command is named in the report
    #[arg(long, default_value = "onggi-lab fleet")]
    title: String,
}

/// Days that are compared.
const DAYS: u32 = 8;

#[derive(clap::Args)]
struct BenchEtcd {
    /// The program onggi
    program: PathBuf,
    /// How often; the medians are reported
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Where repositories, files and data directories go; best in memory
    #[arg(long)]
    work: PathBuf,
    /// How the command is named in the report
    #[arg(long, default_value = "onggi-lab bench-etcd")]
    title: String,
}

#[derive(clap::Args)]
struct BenchBosh {
    /// The program onggi
    program: PathBuf,
    /// The real `bbr`
    #[arg(long)]
    bbr: Option<PathBuf>,
    /// Blobs of the first backup
    #[arg(long)]
    blobs: u64,
    /// Bytes of all of them
    #[arg(long)]
    bytes: u64,
    /// How often; the medians are reported
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Where repositories and artifact directories go: best a disk
    #[arg(long)]
    work: PathBuf,
    /// How the command is named in the report
    #[arg(long, default_value = "onggi-lab bench-bosh")]
    title: String,
}

#[derive(clap::Args)]
struct JudgeBosh {
    /// The program onggi
    program: PathBuf,
    /// The real `bbr`
    #[arg(long)]
    bbr: PathBuf,
    /// Only acts whose name holds this
    #[arg(long, default_value = "")]
    only: String,
}

#[derive(clap::Args)]
struct JudgeOpenstack {
    /// The program onggi
    program: PathBuf,
    /// The original JCloud script
    #[arg(long)]
    script: PathBuf,
    /// Only acts whose name holds this
    #[arg(long, default_value = "")]
    only: String,
}

#[derive(clap::Args)]
struct BenchOpenstack {
    /// The program onggi
    program: PathBuf,
    /// The original JCloud script
    #[arg(long)]
    script: Option<PathBuf>,
    /// MiB of data on each server's disk
    #[arg(long)]
    data: u64,
    /// Servers that are stored on each day
    #[arg(long, default_value_t = 3)]
    servers: usize,
    /// Days
    #[arg(long, default_value_t = 5)]
    days: u64,
    /// How often one server is stored; the medians are reported
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Where repositories go: best a disk
    #[arg(long)]
    work: PathBuf,
    /// Where the repository of one server goes: best in memory
    #[arg(long)]
    memory: PathBuf,
    /// How the command is named in the report
    #[arg(long, default_value = "onggi-lab bench-openstack")]
    title: String,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Mixed { folder, quick } => Ok(set(quick).write(&folder)?),
        Command::Zoo { folder } => {
            for what in zoo::write(&folder)? {
                eprintln!("LEFT OUT: {what}");
            }
            Ok(())
        }
        Command::GoldenSource { turn, folder } => Ok(golden::write(&folder, turn)?),
        Command::Describe { folder } => {
            print!("{}", describe(&folder)?);
            Ok(())
        }
        Command::Compare { left, right } => show_differences(&left, &right),
        Command::Bench(arguments) => run_bench(&arguments),
        Command::Fleet(arguments) => run_fleet(arguments),
        Command::Watched { log, command } => measure::watch(&command, &log),
        Command::BenchEtcd(arguments) => run_bench_etcd(&arguments),
        Command::BenchBosh(arguments) => run_bench_bosh(arguments),
        Command::JudgeBosh(arguments) => judge_bosh(&arguments),
        Command::BenchOpenstack(arguments) => run_bench_openstack(&arguments),
        Command::JudgeOpenstack(arguments) => judge_openstack(&arguments),
        Command::Measured { log, command } => {
            println!("{}", measure::run_and_report(&command, &log)?);
            Ok(())
        }
    }
}

fn set(quick: bool) -> Mixed {
    if quick { Mixed::QUICK } else { Mixed::FULL }
}

fn show_differences(left: &Path, right: &Path) -> Result<()> {
    let aspects = Aspects { owners: rustix::process::geteuid().is_root(), ..Aspects::ALL };
    let differences = compare(left, right, aspects)?;
    for difference in &differences {
        println!("{difference}");
    }
    if !differences.is_empty() {
        bail!("{} differences", differences.len());
    }
    println!("equal: names, content, modes, times, links, attributes");
    Ok(())
}

/// Blobs that are new in the second backup and on each day, and days.
const NEW_BLOBS: u64 = 5;
const BOSH_DAYS: u64 = 7;

fn run_bench_bosh(arguments: BenchBosh) -> Result<()> {
    let BenchBosh { program, bbr, blobs, bytes, runs, work, title } = arguments;
    std::fs::create_dir_all(&work)?;
    let plan = bosh::bench::Plan {
        blobs: (blobs.max(1), bytes),
        new: NEW_BLOBS,
        days: BOSH_DAYS,
        runs: runs.max(1),
        work,
        measurer: std::env::current_exe()?,
        onggi: program,
        bbr,
    };
    println!("{}", bosh::bench::run(&plan, &title, &|line| eprintln!("{line}"))?);
    Ok(())
}

fn judge_bosh(arguments: &JudgeBosh) -> Result<()> {
    let (onggi, bbr) = (std::path::absolute(&arguments.program)?, std::path::absolute(&arguments.bbr)?);
    let programs = bosh::judge::Programs { bbr: &bbr, onggi: &onggi };
    print!("{}", bosh::judge::run(programs, &arguments.only, &|line| eprintln!("{line}"))?);
    Ok(())
}

fn judge_openstack(arguments: &JudgeOpenstack) -> Result<()> {
    let (onggi, script) = (std::path::absolute(&arguments.program)?, std::path::absolute(&arguments.script)?);
    let programs = openstack::judge::Programs { script: &script, onggi: &onggi };
    print!("{}", openstack::judge::run(programs, &arguments.only, &|line| eprintln!("{line}"))?);
    Ok(())
}

/// The disk's length and how much of its data changes, as the acceptance list has them.
const DISK_GIB: u64 = 20;
const CHANGE_PERCENT: u64 = 1;

fn run_bench_openstack(arguments: &BenchOpenstack) -> Result<()> {
    std::fs::create_dir_all(&arguments.work)?;
    let plan = openstack::bench::Plan {
        data: arguments.data << 20,
        disk_gib: DISK_GIB,
        change: CHANGE_PERCENT,
        servers: arguments.servers.max(1),
        days: arguments.days.max(1),
        runs: arguments.runs.max(1),
        work: std::path::absolute(&arguments.work)?,
        memory: std::path::absolute(&arguments.memory)?,
        measurer: std::env::current_exe()?,
        onggi: std::path::absolute(&arguments.program)?,
        script: arguments.script.as_deref().map(std::path::absolute).transpose()?,
    };
    println!("{}", openstack::bench::run(&plan, &arguments.title, &|line| eprintln!("{line}"))?);
    Ok(())
}

fn run_bench(arguments: &Bench) -> Result<()> {
    let peers = arguments.programs.iter().map(|program| Peer::of(program)).collect::<Result<Vec<_>>>()?;
    let plan = Plan {
        set: set(arguments.quick),
        runs: arguments.runs,
        only: arguments.only.clone(),
        source: arguments.source.clone(),
        work: arguments.work.clone(),
        measurer: std::env::current_exe()?,
    };
    let (report, ended) = bench::run(&plan, &peers, &arguments.title, &|text| eprintln!("{text}"))?;
    print!("{report}");
    ended
}

fn run_fleet(arguments: Fleet) -> Result<()> {
    let Fleet { onggi, files, hosts, host_files, runs, only, source, work, title } = arguments;
    let plan = fleet::Plan {
        files,
        hosts: (hosts, host_files),
        days: DAYS,
        runs,
        only,
        disk: std::path::absolute(source)?,
        memory: std::path::absolute(work)?,
        measurer: std::env::current_exe()?,
        onggi: std::path::absolute(onggi)?,
    };
    let (report, ended) = fleet::run(&plan, &title, &|text| eprintln!("{text}"))?;
    print!("{report}");
    ended
}

fn run_bench_etcd(arguments: &BenchEtcd) -> Result<()> {
    let plan = EtcdPlan {
        runs: arguments.runs,
        onggi: std::path::absolute(&arguments.program)?,
        work: arguments.work.clone(),
        measurer: std::env::current_exe()?,
    };
    print!("{}", bench::run_etcd(&plan, &arguments.title, &|text| eprintln!("{text}"))?);
    Ok(())
}
