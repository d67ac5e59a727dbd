//! Artifacts of each program in the hands of the other: what one backs up the other restores, file by file.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::Programs;
use crate::bosh::Instance;
use crate::bosh::bed::Bed;
use crate::bosh::jumpbox::{Jumpbox, install};
use crate::program::Ended;

/// What is tried.
pub type Crossing = fn(Programs<'_>) -> Result<()>;

/// All of it, by name.
pub const CROSSINGS: &[(&str, Crossing)] = &[
    ("crossing: a director, from bbr to onggi", |programs| director(programs.bbr, programs.onggi)),
    ("crossing: a director, from onggi to bbr", |programs| director(programs.onggi, programs.bbr)),
    ("crossing: a deployment, from bbr to onggi", |programs| deployment(programs.bbr, programs.onggi)),
    ("crossing: a deployment, from onggi to bbr", |programs| deployment(programs.onggi, programs.bbr)),
    ("crossing: a snapshot, exported to bbr", exported),
    ("crossing: an artifact of bbr, imported", imported),
];

/// Files of all kinds that an artifact may hold under either program: owners, modes, times, long and foreign names,
/// nothing, much. Archives keep whole seconds.
const TREE: &str = "mkdir -p /var/vcap/store/tree && cd /var/vcap/store/tree && mkdir -p empty deep/é && \
    seq 1 100000 > big && : > nothing && echo own > own && chown 61234:61235 own && chmod 600 own && \
    truncate -s 3000000 holes && \
    long=$(printf 'n%.0s' $(seq 150)) && mkdir -p deep/$long && echo x > deep/$long/$long && \
    for i in $(seq 300); do echo $i > deep/é/$i; done && find . -exec touch -d '2020-01-02 03:04:05' {} +";
/// All that is to come back.
const LOOK: &str = "cd /var/vcap/store/tree && find . ! -type d -printf '%y %m %U %G %s %T@ %p\\n' | sort && \
    find . -type d -printf '%m %U %G %p\\n' | sort && find . -type f | sort | xargs sha256sum; cat /var/vcap/store/a";

/// Gives an instance two jobs, and something to keep.
fn prepare(instance: &Instance) -> Result<String> {
    install(instance, "a");
    instance.script("tree", "backup", "cp -a /var/vcap/store/tree/. $BBR_ARTIFACT_DIRECTORY");
    let restore = "rm -rf /var/vcap/store/tree; cp -a $BBR_ARTIFACT_DIRECTORY /var/vcap/store/tree";
    instance.script("tree", "restore", restore);
    let made = instance.run(TREE);
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    look(instance)
}

fn look(instance: &Instance) -> Result<String> {
    let seen = String::from_utf8(instance.run(LOOK).stdout)?;
    ensure!(seen.lines().count() > 600, "what is there cannot be seen: {seen}");
    Ok(seen)
}

/// Loses it all.
fn lose(instance: &Instance) {
    instance.run("rm -rf /var/vcap/store/tree");
    instance.write("/var/vcap/store/a", "spoiled");
}

fn well(ended: Ended) -> Result<String> {
    if ended.code != Some(0) {
        bail!("it ended with {:?}: {}{}", ended.code, ended.out, ended.err);
    }
    Ok(ended.out)
}

fn same(before: &str, instance: &Instance) -> Result<()> {
    let after = look(instance)?;
    let differs = before.lines().zip(after.lines()).find(|(before, after)| before != after);
    ensure!(before == after, "what came back is something else, first {differs:?}");
    Ok(())
}

fn instance() -> Result<Instance> {
    Instance::start().context("an instance needs root, sshd, sudo and namespaces")
}

fn director(from: &Path, to: &Path) -> Result<()> {
    let instance = instance()?;
    let before = prepare(&instance)?;
    let jumpbox = Jumpbox::with(from);
    well(jumpbox.director(&instance, "backup"))?;
    lose(&instance);
    jumpbox.switch(to);
    well(jumpbox.director(&instance, &format!("restore -a {}", jumpbox.artifact().display())))?;
    same(&before, &instance)
}

fn deployment(from: &Path, to: &Path) -> Result<()> {
    let bed = Bed::start_on(&[("cf", 2)], Jumpbox::with(from)).context("instances and a Director")?;
    let before = bed.instances.iter().map(|instance| prepare(instance)).collect::<Result<Vec<_>>>()?;
    well(bed.run("-d cf backup --with-manifest"))?;
    bed.instances.iter().for_each(|instance| lose(instance));
    bed.jumpbox.switch(to);
    well(bed.run(&format!("-d cf restore -a {}", bed.jumpbox.artifact().display())))?;
    before.iter().zip(&bed.instances).try_for_each(|(before, instance)| same(before, instance))
}

/// onggi with a repository and this director as its source.
struct Native<'a> {
    jumpbox: &'a Jumpbox,
    onggi: &'a Path,
}

impl<'a> Native<'a> {
    fn new(jumpbox: &'a Jumpbox, onggi: &'a Path, instance: &Instance) -> Result<Self> {
        std::fs::write(jumpbox.path("onggi.yaml"), instance.configuration())?;
        let native = Self { jumpbox, onggi };
        native.run(&["init"])?;
        Ok(native)
    }

    fn run(&self, words: &[&str]) -> Result<String> {
        let mut command = self.jumpbox.program(self.onggi);
        command.arg("--repo").arg(self.jumpbox.path("repository")).arg("--config").arg(self.jumpbox.path("onggi.yaml"));
        let output = command.env("ONGGI_PASSWORD", "of the judge").args(words).output().context("start onggi")?;
        well(Ended::of(output))
    }
}

fn exported(programs: Programs<'_>) -> Result<()> {
    let instance = instance()?;
    let before = prepare(&instance)?;
    let jumpbox = Jumpbox::with(programs.bbr);
    let native = Native::new(&jumpbox, programs.onggi, &instance)?;
    native.run(&["backup", "director"])?;
    native.run(&["export", "bbr-artifact", "latest", &jumpbox.path("work").display().to_string()])?;
    lose(&instance);
    well(jumpbox.director(&instance, &format!("restore -a {}", jumpbox.artifact().display())))?;
    same(&before, &instance)
}

fn imported(programs: Programs<'_>) -> Result<()> {
    let instance = instance()?;
    let before = prepare(&instance)?;
    let jumpbox = Jumpbox::with(programs.bbr);
    well(jumpbox.director(&instance, "backup"))?;
    let native = Native::new(&jumpbox, programs.onggi, &instance)?;
    native.run(&["import", "bbr-artifact", &jumpbox.artifact().display().to_string(), "--source", "director"])?;
    lose(&instance);
    native.run(&["restore", "latest", "--to", "source", "--yes"])?;
    same(&before, &instance)
}
