//! onggi beside etcd's own programs, on one member, in one run: a snapshot saved and stored, the same one stored again, a
//! data directory restored; and what few writes add to the repository.
//!
//! etcdctl only saves the file. onggi also proves it, cuts, compresses, seals and stores it, and reads back what it wrote.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{machine, refusals};
use crate::measure::{Cost, measured, median, shown};
use crate::service::EtcdCluster;

/// The cluster that is timed: 250 MB.
const TIMED: &str = "--fill 180000 --value-size 1000";
/// The cluster that is written to: 52 MB.
const WRITTEN: &str = "--fill 50000 --value-size 840";
/// One write in a hundred keys: nine in ten of them on two keys in a thousand, the others anywhere.
const WRITES: usize = 500;
const HOT: usize = 200;
/// Bytes of a value that is written.
const VALUE: usize = 840;
/// Where onggi cuts what it reads of etcd.
const CHUNK_BYTES: usize = 64 << 10;
/// What may be added, as a share of the chunks of the same files that are new.
const ADDED_TARGET: f64 = 1.2;
/// The first compactions leave pages free that later writes use.
const ROUNDS: usize = 4;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    First,
    Again,
    Restore,
}

impl Act {
    const ALL: [Self; 3] = [Self::First, Self::Again, Self::Restore];

    fn title(self) -> &'static str {
        match self {
            Self::First => "snapshot, everything new",
            Self::Again => "snapshot, nothing new",
            Self::Restore => "restore of one member",
        }
    }

    /// What onggi may need, as a share of etcd's own program's time.
    fn target(self) -> f64 {
        match self {
            Self::First | Self::Again => 1.15,
            Self::Restore => 1.0,
        }
    }
}

/// What to measure with.
#[derive(Clone, Debug)]
pub struct EtcdPlan {
    /// How often; the medians are reported.
    pub runs: usize,
    /// The program onggi.
    pub onggi: PathBuf,
    /// Where repositories, files and data directories go: best a file system in memory.
    pub work: PathBuf,
    /// The program that measures: this crate's own.
    pub measurer: PathBuf,
}

/// Measures and returns the report as Markdown.
pub fn run(plan: &EtcdPlan, command_line: &str, say: &dyn Fn(&str)) -> Result<String> {
    let mut costs = BTreeMap::<(Act, bool), Vec<Cost>>::new();
    let size = {
        let bench = Bench::start(plan, TIMED)?;
        for turn in 1..=plan.runs {
            say(&format!("run {turn} of {}", plan.runs));
            for act in Act::ALL {
                let (theirs, ours) = bench.measure(act)?;
                say(&format!("  {}: etcd's {:.2} s, onggi {:.2} s", act.title(), wall(theirs), wall(ours)));
                costs.entry((act, false)).or_default().push(theirs);
                costs.entry((act, true)).or_default().push(ours);
            }
        }
        bench.saved()
    };
    let (added, fresh) = Bench::start(plan, WRITTEN)?.added()?;
    let mut page = format!(
        "### etcd, {}\n\n{}.\n\nOne member of etcd 3.5 on this machine, {} MB; medians of {} runs, of memory the most. \
         etcd's own are etcdctl snapshot save, which proves and stores nothing, and etcdutl snapshot restore. Ratios that \
         miss their aim are bold.\n\nCommand: `{command_line}`\n\n",
        jiff::Zoned::now().date(),
        machine::description(),
        size / 1_000_000,
        plan.runs,
    );
    page.push_str("| wall seconds (memory MiB) | etcd's own | onggi | ratio | aim |\n|---|---|---|---|---|\n");
    for act in Act::ALL {
        let of = |ours| costs.get(&(act, ours)).and_then(|costs| median(costs)).context("nothing was measured");
        let (theirs, ours) = (of(false)?, of(true)?);
        let (ratio, aim) = (wall(ours) / wall(theirs), act.target());
        let ratio = if ratio > aim { format!("**{ratio:.2}**") } else { format!("{ratio:.2}") };
        let _ = writeln!(page, "| {} | {} | {} | {ratio} | {aim:.2} |", act.title(), cell(theirs), cell(ours));
    }
    let share = added as f64 / fresh as f64;
    let _ = writeln!(
        page,
        "\n{WRITES} writes, most on {HOT} of 50000 keys, and a compaction add {:.1} MB before compression, {share:.2} of \
         the chunks of 64 KiB that are new in what etcdctl saves at the same time; the aim is {ADDED_TARGET}.",
        added as f64 / 1e6
    );
    page.push_str(&refusals::measure(plan)?);
    Ok(page)
}

fn wall(cost: Cost) -> f64 {
    cost.wall.as_secs_f64()
}

fn cell(cost: Cost) -> String {
    format!("{:.2} ({})", wall(cost), cost.memory_kib >> 10)
}

/// A cluster and a folder for what is made of it.
pub(super) struct Bench<'a> {
    plan: &'a EtcdPlan,
    cluster: EtcdCluster,
}

impl<'a> Bench<'a> {
    pub fn start(plan: &'a EtcdPlan, options: &str) -> Result<Self> {
        let Some(cluster) = EtcdCluster::start(options) else { bail!("no etcd to measure beside: run lab/etcd/fetch") };
        if plan.work.exists() {
            fs::remove_dir_all(&plan.work).context("remove what an earlier run left")?;
        }
        fs::create_dir_all(plan.work.join("home")).context("create the work folder")?;
        let bench = Self { plan, cluster };
        let secret = bench.path("password");
        fs::write(&secret, "bench")?;
        fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let source = json!({ "kind": "etcd", "manifest": bench.cluster.manifest() });
        bench.configure(&BTreeMap::from([("lab".to_owned(), &source)]))?;
        Ok(bench)
    }

    /// Sets the sources.
    pub fn configure(&self, sources: &BTreeMap<String, &Value>) -> Result<()> {
        let password = format!("file:{}", self.path("password").display());
        let config = json!({
            "version": 1,
            "storages": { "disk": { "kind": "local", "path": self.path("repository") } },
            "repositories": { "main": { "storage": "disk", "password": password } },
            "sources": sources,
        });
        // JSON is YAML.
        Ok(fs::write(self.path("onggi.yaml"), config.to_string())?)
    }

    pub fn cluster(&self) -> &EtcdCluster {
        &self.cluster
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.plan.work.join(name)
    }

    pub fn onggi(&self, line: &str) -> Command {
        let mut command = Command::new(&self.plan.onggi);
        for (name, folder) in [("XDG_STATE_HOME", "state"), ("XDG_CACHE_HOME", "cache"), ("HOME", "home")] {
            command.env(name, self.path(folder));
        }
        command.arg("--config").arg(self.path("onggi.yaml")).args(line.split_ascii_whitespace());
        command
    }

    /// What onggi says.
    pub fn ask(&self, line: &str) -> Result<Value> {
        let mut command = self.onggi(line);
        let output = command.output().context("start onggi")?;
        ensure!(output.status.success(), "{}: {}", shown(&command), String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null))
    }

    fn remove(&self, names: &[&str]) -> Result<()> {
        for name in names {
            match fs::metadata(self.path(name)) {
                Ok(found) if found.is_dir() => fs::remove_dir_all(self.path(name))?,
                Ok(_) => fs::remove_file(self.path(name))?,
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Both sides of an act, one after the other.
    fn measure(&self, act: Act) -> Result<(Cost, Cost)> {
        let cost = |command: &Command| measured(&self.plan.measurer, command, &self.path("log"));
        if act == Act::Restore {
            self.remove(&["theirs", "ours"])?;
            let mut theirs = Command::new(self.cluster.program("etcdutl"));
            theirs.args(["snapshot", "restore"]).arg(self.path("saved.db")).arg("--data-dir").arg(self.path("theirs"));
            let ours = self.onggi(&format!(
                "--yes restore latest --to source --bump-revision 0 --target {}",
                self.path("ours").display()
            ));
            let costs = (cost(&theirs)?, cost(&ours)?);
            ensure!(self.state("theirs")? == self.state("ours")?, "onggi restored something else than etcdutl");
            return Ok(costs);
        }
        self.remove(&["saved.db"])?;
        if act == Act::First {
            self.remove(&["repository", "state", "cache"])?;
            self.ask("--yes init")?;
        }
        let mut theirs = Command::new(self.cluster.state().join("ctl"));
        theirs.args(["snapshot", "save"]).arg(self.path("saved.db"));
        Ok((cost(&theirs)?, cost(&self.onggi("backup lab"))?))
    }

    /// Revision and number of records of a data directory, as etcdutl counts them.
    fn state(&self, directory: &str) -> Result<(Value, Value)> {
        let mut status = Command::new(self.cluster.program("etcdutl"));
        status.args(["snapshot", "status", "-w", "json"]).arg(self.path(directory).join("member/snap/db"));
        let output = status.output().context("start etcdutl")?;
        let said: Value = serde_json::from_slice(&output.stdout).context("etcdutl prints JSON")?;
        Ok((said["revision"].clone(), said["totalKey"].clone()))
    }

    fn saved(&self) -> u64 {
        fs::metadata(self.path("saved.db")).map_or(0, |saved| saved.len())
    }

    /// Bytes that the last of several rounds of writes added, and those of the new chunks in the file itself.
    fn added(&self) -> Result<(u64, u64)> {
        self.ask("--yes init")?;
        let (mut added, mut fresh, mut known) = (0, 0, HashSet::new());
        for round in 0..ROUNDS {
            self.write(round);
            let report = self.ask("--json backup lab")?;
            added = find(&report, "data_added").and_then(Value::as_u64).context("onggi tells what it added")?;
            self.remove(&["saved.db"])?;
            self.cluster.ctl(&format!("snapshot save {}", self.path("saved.db").display()));
            let file = fs::read(self.path("saved.db"))?;
            let new = file.chunks(CHUNK_BYTES).filter(|chunk| known.insert(<[u8; 32]>::from(Sha256::digest(chunk))));
            fresh = new.map(|chunk| chunk.len() as u64).sum();
        }
        Ok((added, fresh))
    }

    fn write(&self, round: usize) {
        let value = format!("{round:w>VALUE$}");
        let key = |number: usize| match number % 10 {
            0 => (number * 97 + round * 7919) % 50_000,
            _ => number * 31 % HOT,
        };
        let keys: Vec<_> = (0..WRITES).map(|number| format!("/registry/lab/k{:06}", key(number))).collect();
        for some in keys.chunks(10) {
            let distinct: BTreeSet<_> = some.iter().collect();
            self.cluster.put(distinct.into_iter().map(|key| (key.as_str(), value.as_str())));
        }
        let revision = self.cluster.status()[0]["Status"]["header"]["revision"].clone();
        self.cluster.ctl(&format!("compact --physical {revision}"));
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        // What stays is removed by the next run.
        let _ = fs::remove_dir_all(Path::new(&self.plan.work));
    }
}

/// A key, wherever it stands.
fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(object) => object.get(key).or_else(|| object.values().find_map(|value| find(value, key))),
        Value::Array(values) => values.iter().find_map(|value| find(value, key)),
        _ => None,
    }
}
