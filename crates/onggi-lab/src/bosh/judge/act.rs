//! The acts: what is there, and which commands follow each other.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::seen::{self, Seen, plain};
use crate::bosh::bed::Bed;
use crate::bosh::jumpbox::{Jumpbox, install};
use crate::bosh::{Instance, STORE};
use crate::program::Ended;

/// One act. `ARTIFACT` in a command is the artifact directory that one before it made.
pub struct Act {
    /// What it is about.
    pub name: &'static str,
    on: On,
    commands: &'static [&'static str],
}

/// What it is performed on.
enum On {
    /// Nothing: only words are answered.
    Words,
    /// A director, once it is prepared.
    Director(fn(&Instance)),
    /// Deployments with so many instances each.
    Deployments(&'static [(&'static str, usize)], fn(&Bed)),
}

const PAIR: &[(&str, usize)] = &[("cf", 2)];
const ONE: &[(&str, usize)] = &[("cf", 1)];
const SEVERAL: &[(&str, usize)] = &[("good", 1), ("left", 1)];
/// A backup and its restore.
const ROUND: &[&str] = &["backup", "restore -a ARTIFACT"];
const BACKUP: &[&str] = &["backup"];
const CLEANUPS: &[&str] = &["backup-cleanup", "restore-cleanup"];

const fn on_director(name: &'static str, prepare: fn(&Instance), commands: &'static [&'static str]) -> Act {
    Act { name, on: On::Director(prepare), commands }
}

const fn words(name: &'static str, commands: &'static [&'static str]) -> Act {
    Act { name, on: On::Words, commands }
}

const fn on_deployments(
    name: &'static str,
    deployments: &'static [(&'static str, usize)],
    prepare: fn(&Bed),
    commands: &'static [&'static str],
) -> Act {
    Act { name, on: On::Deployments(deployments, prepare), commands }
}

/// A job whose script fails.
fn failing(instance: &Instance, script: &str) {
    install(instance, "a");
    instance.script("a", script, "echo 'this is wrong' >&2; exit 3");
}

fn left(instance: &Instance) {
    install(instance, "a");
    instance.write(&format!("{STORE}/a/half"), "x");
}

fn pair(bed: &Bed) {
    install(&bed.instances[0], "a");
    install(&bed.instances[1], "b");
}

/// All of them.
pub const ACTS: &[Act] = &[
    words("words: none", &["", "help", "h", "version", "v", "-v", "--version"]),
    words("words: unknown", &["restart", "--nope", "-nope", "--debug version"]),
    words(
        "words: of a director",
        &[
            "director",
            "director backup",
            "director --host h backup",
            "director --host h -u u backup",
            "director --nope backup",
            "director --host h -u u --key k",
            "director --host h -u u --key k help",
            "director --help",
            "director --host h -u u --key k backup --help",
            "director --host h -u u --key k backup --nope",
            "director --host h -u u --key k restore",
        ],
    ),
    words("words: a verb that is none", &["director --host h -u u --key k backpu"]),
    words("words: help before what is required", &["--help", "director backup --help"]),
    words(
        "words: of a deployment",
        &[
            "deployment backup",
            "deployment -t t backup",
            "deployment -t t -u u backup",
            "deployment -t t -u u -p p backup",
            "deployment -t t -u u -p p -d d --all-deployments backup",
            "deployment -t t -u u -p p -d d restore",
        ],
    ),
    on_director("director: all is well", |instance| install(instance, "a"), &["c", "b", "r -a ARTIFACT"]),
    on_director("director: it cleans up", |instance| install(instance, "a"), CLEANUPS),
    on_director("director: what a dead run left is cleaned up", left, CLEANUPS),
    on_director("director: something is left", left, &["pre-backup-check", "backup"]),
    on_director("director: no scripts", |_| (), &["pre-backup-check", "backup", "backup-cleanup"]),
    on_director(
        "director: two jobs in order",
        |instance| {
            install(instance, "a");
            install(instance, "b");
            instance.metadata("a", "backup_should_be_locked_before: [{job_name: b, release: r}]");
            instance.metadata("b", "restore_should_be_locked_before: [{job_name: a, release: r}]");
        },
        ROUND,
    ),
    on_director(
        "director: a circle",
        |instance| {
            install(instance, "a");
            instance.metadata("a", "backup_should_be_locked_before: [{job_name: a, release: r}]");
        },
        &["pre-backup-check", "backup", "backup-cleanup"],
    ),
    on_director("director: metadata fails", |instance| failing(instance, "metadata"), BACKUP),
    on_director("director: metadata is none", |instance| instance.metadata("a", "- a"), BACKUP),
    on_director(
        "director: metadata of an older contract",
        |instance| {
            install(instance, "a");
            instance.metadata("a", "backup_name: x\nrestore_name: y");
        },
        &["pre-backup-check", "backup", "restore -a ARTIFACT"],
    ),
    on_director(
        "director: a job that disables itself, and one that is ignored",
        |instance| {
            for job in ["a", "s3", "mysql-backup"] {
                install(instance, job);
            }
            instance.metadata("s3", "skip_bbr_scripts: true");
        },
        BACKUP,
    ),
    on_director("director: a lock fails", |instance| failing(instance, "pre-backup-lock"), BACKUP),
    on_director("director: a backup fails", |instance| failing(instance, "backup"), BACKUP),
    on_director("director: an unlock fails", |instance| failing(instance, "post-backup-unlock"), BACKUP),
    on_director(
        "director: a clean-up cannot unlock",
        |instance| failing(instance, "post-backup-unlock"),
        &["backup-cleanup"],
    ),
    on_director(
        "director: lock and unlock fail",
        |instance| {
            failing(instance, "post-backup-unlock");
            instance.script("a", "pre-backup-lock", "exit 1");
        },
        BACKUP,
    ),
    on_director("director: a restore lock fails", |instance| failing(instance, "pre-restore-lock"), ROUND),
    on_director("director: a restore fails", |instance| failing(instance, "restore"), ROUND),
    on_director("director: a restore unlock fails", |instance| failing(instance, "post-restore-unlock"), ROUND),
    on_director(
        "director: a link in an artifact",
        |instance| {
            install(instance, "a");
            instance.script("b", "backup", "ln -s /etc/passwd ${BBR_ARTIFACT_DIRECTORY}link");
        },
        BACKUP,
    ),
    on_director(
        "director: an artifact with folders, an empty one",
        |instance| {
            instance.script(
                "a",
                "backup",
                "cd $BBR_ARTIFACT_DIRECTORY; mkdir -p d/e f; echo 1 > d/e/one; echo 2 > two",
            );
            instance.script("a", "restore", "test -d $BBR_ARTIFACT_DIRECTORY/f");
            instance.script("b", "backup", "");
        },
        ROUND,
    ),
    on_director(
        "director: it cannot be removed",
        |instance| {
            instance.script(
                "a",
                "backup",
                "mkdir $BBR_ARTIFACT_DIRECTORY/m; mount -t tmpfs m $BBR_ARTIFACT_DIRECTORY/m",
            );
        },
        BACKUP,
    ),
    on_director(
        "director: no such folder",
        |instance| install(instance, "a"),
        &["backup -a missing", "restore -a missing"],
    ),
    on_deployments(
        "deployment: all is well",
        PAIR,
        pair,
        &[
            "-d cf pre-backup-check",
            "-d cf backup --with-manifest",
            "-d cf restore -a ARTIFACT",
            "-d cf backup-cleanup",
            "-d cf restore-cleanup",
        ],
    ),
    on_deployments("deployment: another is meant", ONE, |_| (), &["-d other pre-backup-check", "-d other backup"]),
    on_deployments("deployment: no scripts", ONE, |_| (), &["-d cf pre-backup-check", "-d cf backup"]),
    on_deployments("deployment: without locks", PAIR, pair, &["-d cf backup --unsafe-lock-free"]),
    on_deployments("deployment: a job of no release", ONE, |bed| install(&bed.instances[0], "z"), &["-d cf backup"]),
    on_deployments(
        "deployment: one backup for all",
        PAIR,
        |bed| {
            let job = "{name: a, release: rel, properties: {bbr: {backup_one_restore_all: true}}}";
            let manifest = format!("instance_groups:\n- name: db\n  jobs: [{job}]\n");
            bed.director.script(|script| script.deployments[0].manifest = manifest);
            bed.instances.iter().for_each(|instance| install(instance, "a"));
        },
        &["-d cf backup", "-d cf restore -a ARTIFACT"],
    ),
    on_deployments(
        "deployment: users stay",
        ONE,
        |bed| {
            install(&bed.instances[0], "a");
            bed.director.script(|script| script.refuses_cleanup = true);
        },
        &["-d cf backup", "-d cf backup-cleanup"],
    ),
    on_deployments(
        "deployment: a restore fails on the first of two",
        PAIR,
        |bed| {
            pair(bed);
            failing(&bed.instances[0], "restore");
        },
        &["-d cf backup", "-d cf restore -a ARTIFACT"],
    ),
    on_deployments(
        "all: one fails",
        SEVERAL,
        |bed| {
            install(&bed.instances[0], "a");
            left(&bed.instances[1]);
        },
        &["--all-deployments pre-backup-check", "--all-deployments backup", "--all-deployments backup-cleanup"],
    ),
    on_deployments(
        "all: an unlock fails",
        SEVERAL,
        |bed| {
            failing(&bed.instances[0], "post-backup-unlock");
            install(&bed.instances[1], "a");
        },
        &["--all-deployments backup", "--all-deployments backup-cleanup"],
    ),
    on_deployments("all: there is none", &[], |_| (), &["--all-deployments pre-backup-check"]),
];

impl Act {
    /// Performs it under this program; what was seen of each command.
    pub fn perform(&self, program: &Path) -> Result<Vec<(&'static str, Seen)>> {
        match self.on {
            On::Words => {
                let jumpbox = Jumpbox::with(program);
                let ask = |words: &&'static str| {
                    let output = jumpbox.command(words).output().context("start the program")?;
                    Ok((*words, seen::of_words(&jumpbox, &Ended::of(output))))
                };
                self.commands.iter().map(ask).collect()
            }
            On::Director(prepare) => {
                let instance = Instance::start().context("an instance needs root, sshd, sudo and namespaces")?;
                prepare(&instance);
                let jumpbox = Jumpbox::with(program);
                let run = |command: &str| Ok(jumpbox.director(&instance, command));
                self.each(&jumpbox, &[&instance], run, Vec::new)
            }
            On::Deployments(deployments, prepare) => {
                let bed = Bed::start_on(deployments, Jumpbox::with(program)).context("instances and a Director")?;
                prepare(&bed);
                let instances: Vec<&Instance> = bed.instances.iter().map(|instance| &**instance).collect();
                let run = |command: &str| Ok(bed.run(command));
                self.each(&bed.jumpbox, &instances, run, || {
                    let asked = bed.director.take_log();
                    asked.into_iter().chain(bed.users()).map(|line| plain(&bed.jumpbox, &request(&line))).collect()
                })
            }
        }
    }

    fn each(
        &self,
        jumpbox: &Jumpbox,
        instances: &[&Instance],
        run: impl Fn(&str) -> Result<Ended>,
        asked: impl Fn() -> Vec<String>,
    ) -> Result<Vec<(&'static str, Seen)>> {
        let mut all = Vec::new();
        for command in self.commands {
            let artifact = jumpbox.artifacts().first().map(|path| path.display().to_string()).unwrap_or_default();
            let ended = run(&command.replace("ARTIFACT", &artifact))?;
            let mut seen = seen::of(jumpbox, &ended);
            let mut happened = Vec::new();
            for (number, instance) in instances.iter().enumerate() {
                happened.extend(instance.calls().into_iter().map(|call| format!("{number}: {call}")));
                happened.push(format!("{number}: store {}", if instance.has(STORE) { "left" } else { "gone" }));
                happened.extend(success(instance).map(|said| format!("{number}: success {said}")));
            }
            happened.sort();
            seen.insert("happened", happened);
            let mut asked = asked();
            asked.sort();
            // one that was given without a time may be asked for again and again
            asked.dedup_by(|one, other| one == other && one.ends_with("/oauth/token"));
            asked.dedup_by(|one, other| one == other && one.ends_with(" /tasks"));
            seen.insert("asked", asked);
            all.push((*command, seen));
            for log in jumpbox.work().into_iter().filter(|path| path.extension().is_some_and(|end| end == "log")) {
                fs::remove_file(log)?;
            }
        }
        Ok(all)
    }
}

/// What unlock scripts were told since the last question.
fn success(instance: &Instance) -> Option<String> {
    let path = instance.path("/var/vcap/data/success");
    let said = fs::read_to_string(&path).ok()?;
    fs::remove_file(path).ok()?;
    Some(said.replace('\n', " "))
}

/// A request, whatever the order of its keys, without the key that is made for one run; how often a task is looked at is a
/// matter of time.
fn request(line: &str) -> String {
    if let Some((method, _)) = line.split_once(" /tasks/") {
        return format!("{method} /tasks");
    }
    let Some((path, body)) = line.split_once(" {") else { return line.to_owned() };
    let Ok(mut body) = serde_json::from_str::<Value>(&format!("{{{body}")) else { return line.to_owned() };
    if let Some(params) = body["params"].as_object_mut() {
        params.remove("public_key");
    }
    format!("{path} {}", sorted(body))
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<(String, Value)> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
            pairs.into_iter().collect()
        }
        other => other,
    }
}
