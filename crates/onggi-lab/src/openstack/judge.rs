//! The original JCloud script as judge: the same runs under both programs for the same servers of the lab's cloud, and
//! whether the backup server, the list of jobs and the cloud can be told apart afterwards. Then both take turns in one
//! folder.
//!
//! What differs on purpose is listed with its reason; everything else that differs is a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use onggi_repo::kernel::hash::sha256;

use super::{Openstack, desk::Desk};
use crate::service::Sshd;

/// The two programs.
#[derive(Debug, Clone, Copy)]
pub struct Programs<'a> {
    /// The judge.
    pub script: &'a Path,
    /// Who is judged.
    pub onggi: &'a Path,
}

/// Runs that both programs make.
struct Act {
    name: &'static str,
    project: &'static str,
    /// Further settings; `{backup}` stands for the folder of backups.
    settings: &'static str,
    /// Names of the servers that the list has, or ids that the cloud does not know.
    servers: &'static [&'static str],
    runs: usize,
    /// What differs and is meant: a part of the line, and why.
    expected: &'static [(&'static str, &'static str)],
}

const SIDE_FILE: (&str, &str) = (".json", "onggi writes the image's metadata and hashes beside it");
const MODE: (&str, &str) =
    ("of mode", "the script keeps the mode of Glance's file; a copy of a disk is for its owner alone");
/// As no cloud has one.
const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

const ACTS: &[Act] = &[
    Act {
        name: "as the guide has it",
        project: "demo",
        settings: "",
        servers: &["vm1", "vm2"],
        runs: 4,
        expected: &[
            SIDE_FILE,
            MODE,
            ("keeps capture", "the script looks for old files one folder too high and deletes none; onggi keeps MAX"),
        ],
    },
    Act {
        name: "retention finds its folder",
        project: "demo",
        settings: "PATH_TO_SNAPSHOT_BACKUP_DIR={backup}/staging\n",
        servers: &["vm1", "vm2"],
        runs: 4,
        expected: &[SIDE_FILE, MODE],
    },
    Act {
        name: "several are kept",
        project: "demo",
        settings: "PATH_TO_SNAPSHOT_BACKUP_DIR={backup}/staging\nMAX_COUNT_OF_SNAPSHOT=3\n",
        servers: &["vm1"],
        runs: 3,
        expected: &[SIDE_FILE, MODE],
    },
    Act {
        name: "a server that is gone",
        project: "demo",
        settings: "",
        servers: &[UNKNOWN, "vm1"],
        runs: 2,
        expected: &[SIDE_FILE, MODE],
    },
    Act {
        name: "a time limit",
        project: "demo",
        settings: "TIMELIMIT=1\n",
        servers: &["vm1", "vm2"],
        runs: 1,
        expected: &[],
    },
    Act {
        name: "a server on a volume",
        project: "demo",
        settings: "",
        servers: &["vol1"],
        runs: 2,
        expected: &[
            SIDE_FILE,
            MODE,
            ("keeps capture", "the script stores an empty file; onggi exports the volume"),
            ("leaves behind", "the script leaves a snapshot of the volume behind for each image that it deletes"),
        ],
    },
    Act {
        name: "two underscores in the project's name",
        project: "other__project",
        settings: "",
        servers: &["two"],
        runs: 2,
        expected: &[
            SIDE_FILE,
            MODE,
            ("keeps capture", "the script takes a part of the project's name for the time; onggi knows its own names"),
        ],
    },
];

/// Judges and returns the verdict as text; what differs and is not meant is an error that names it. Only the acts whose
/// name holds `filter` are performed.
pub fn run(programs: Programs<'_>, filter: &str, say: &dyn Fn(&str)) -> Result<String> {
    let lab = Openstack::start().context("the cloud needs root")?;
    let sshd = Sshd::start().context("the backup server is an OpenSSH server")?;
    let court = Court { lab: &lab, sshd: &sshd, programs };
    let (mut differences, mut meant, mut count) = (Vec::new(), BTreeSet::new(), 0);
    let told = |act: &str, line: &str| {
        let line = format!("{act}: {line}");
        say(&line);
        line
    };
    for act in ACTS.iter().filter(|act| act.name.contains(filter)) {
        let found = court.compare(act).with_context(|| act.name)?;
        say(&format!("{}: {} differences", act.name, found.len()));
        for line in found {
            match act.expected.iter().find(|(text, _)| line.contains(text)) {
                Some((_, why)) => drop(meant.insert(format!("{}: {why}", act.name))),
                None => differences.push(told(act.name, &line)),
            }
        }
        // one that is never met is a claim that nobody has seen
        let idle = act.expected.iter().filter(|(_, why)| !meant.contains(&format!("{}: {why}", act.name)));
        differences.extend(idle.map(|(_, why)| told(act.name, &format!("expected, and not seen: {why}"))));
        count += 1;
    }
    if TURNS.contains(filter) {
        let wrong = court.take_turns().context(TURNS)?;
        say(&format!("{TURNS}: {} faults", wrong.len()));
        differences.extend(wrong.iter().map(|line| told(TURNS, line)));
        count += 1;
    }
    ensure!(count > 0, "no act has {filter:?} in its name");
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    let mut verdict = format!("{count} acts; what differs is meant to:\n");
    for line in meant {
        let _ = writeln!(verdict, "- {line}"); // a string takes everything
    }
    Ok(verdict)
}

const TURNS: &str = "both in turns";

struct Court<'a> {
    lab: &'a Openstack,
    sshd: &'a Sshd,
    programs: Programs<'a>,
}

/// Whose run it is.
#[derive(Debug, Clone, Copy)]
enum Who {
    Script,
    Onggi,
}

impl Court<'_> {
    /// What can be seen after the same runs of both, and only of one: a line each.
    fn compare(&self, act: &Act) -> Result<Vec<String>> {
        let judge = self.perform(act, &[Who::Script])?;
        let ours = self.perform(act, &[Who::Onggi])?;
        let only = |those: &[String], others: &[String], whose: &str| -> Vec<String> {
            those.iter().filter(|line| !others.contains(line)).map(|line| format!("{whose} only: {line}")).collect()
        };
        Ok([only(&judge, &ours, "script"), only(&ours, &judge, "onggi")].concat())
    }

    /// Both on one folder: each run moves the capture of the one before, whoever made it.
    fn take_turns(&self) -> Result<Vec<String>> {
        let act = Act {
            name: TURNS,
            project: "demo",
            settings: "PATH_TO_SNAPSHOT_BACKUP_DIR={backup}/staging\nMAX_COUNT_OF_SNAPSHOT=5\n",
            servers: &["vm1", "vm2"],
            runs: 4,
            expected: &[],
        };
        let seen = self.perform(&act, &[Who::Script, Who::Onggi])?;
        let mut wrong = Vec::new();
        for (run, server) in (1..=act.runs).flat_map(|run| act.servers.iter().map(move |server| (run, server))) {
            for capture in 1..run {
                let line = format!("run {run}: {server} keeps capture {capture}, whole");
                if !seen.iter().any(|seen| seen.starts_with(&line)) {
                    wrong.push(format!("not so: {line}"));
                }
            }
        }
        Ok(wrong)
    }

    /// Runs of the programs in turns on a fresh folder, and what could be seen after each.
    fn perform(&self, act: &Act, turns: &[Who]) -> Result<Vec<String>> {
        let place = tempfile::tempdir()?;
        let settings = act.settings.replace("{backup}", &place.path().join("backup").display().to_string());
        let desk = Desk::lay(self.lab, self.sshd, place.path().to_owned(), act.project, &settings)?;
        let names = self.names(act)?;
        let mut eyes = Eyes { court: self, act, desk: &desk, names, captures: BTreeMap::new() };
        let mut seen = Vec::new();
        for run in 1..=act.runs {
            let ids: Vec<&str> = eyes.names.iter().map(|(id, _)| id.as_str()).collect();
            desk.list(&ids)?;
            eyes.note()?;
            let output = self.start(turns[(run - 1) % turns.len()], &desk).output()?;
            // The script does not wait for the image that it asks for.
            eyes.until_quiet();
            seen.push(format!("run {run}: ends with {}", output.status.code().unwrap_or(-1)));
            seen.extend(eyes.look(run)?);
        }
        eyes.clear()?;
        Ok(seen)
    }

    fn start(&self, who: Who, desk: &Desk) -> Command {
        match who {
            Who::Script => desk.script(self.programs.script),
            Who::Onggi => desk.onggi(self.programs.onggi, &["jcloud", "--env", ".env"]),
        }
    }

    /// Ids and names of an act's servers; one of another project is made first.
    fn names(&self, act: &Act) -> Result<Vec<(String, String)>> {
        if act.project != "demo" {
            // Since this version of the interface a server needs no network.
            let version = ["--os-compute-api-version", "2.37", "server", "create", "--wait", "--nic", "none"];
            let made = ["--image", "lab-guest", "--flavor", "lab.tiny", "two"];
            self.ask(act.project, &[&version[..], &made].concat())?;
        }
        let mut names = Vec::new();
        for name in act.servers {
            let id = match *name {
                UNKNOWN => UNKNOWN.to_owned(),
                name => self.ask(act.project, &["server", "show", "-f", "value", "-c", "id", name])?,
            };
            names.push((id, (*name).to_owned()));
        }
        Ok(names)
    }

    fn ask(&self, project: &str, words: &[&str]) -> Result<String> {
        let output = self.lab.try_client("demo", project, words);
        ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// Looks at what runs leave.
struct Eyes<'a> {
    court: &'a Court<'a>,
    act: &'a Act,
    desk: &'a Desk,
    /// Id and name of each server.
    names: Vec<(String, String)>,
    /// Of each server the images in the order in which they were made, with the hash of their file.
    captures: BTreeMap<String, Vec<(String, [u8; 32])>>,
}

impl Eyes<'_> {
    /// Images of the act's servers: id, name, status.
    fn images(&self) -> Result<Vec<[String; 3]>> {
        let words = ["image", "list", "--private", "-f", "value", "-c", "ID", "-c", "Name", "-c", "Status"];
        let said = self.court.ask(self.act.project, &words)?;
        let mut images: Vec<[String; 3]> = said
            .lines()
            .filter_map(|line| {
                let (id, rest) = line.split_once(' ')?;
                let (name, status) = rest.rsplit_once(' ')?;
                name.starts_with("snapshot__").then(|| [id, name, status].map(str::to_owned))
            })
            .collect();
        // by the second in which they were made
        images.sort_by(|one, other| one[1].rsplit("__").next().cmp(&other[1].rsplit("__").next()));
        Ok(images)
    }

    fn until_quiet(&self) {
        self.court.lab.until("an end of the snapshots", || {
            let images = self.images().ok()?;
            let mut servers = self.names.iter().filter(|(id, _)| id != UNKNOWN);
            let is_quiet = servers.all(|(id, _)| {
                let words = ["server", "show", "-f", "value", "-c", "OS-EXT-STS:task_state", id];
                self.court.ask(self.act.project, &words).is_ok_and(|state| state == "None")
            });
            (is_quiet && images.iter().all(|image| image[2] == "active")).then_some(())
        });
    }

    /// Notes what images there are, before a run may take them away.
    fn note(&mut self) -> Result<()> {
        for [id, name, _] in self.images()? {
            let Some((server, _)) = self.names.iter().find(|(server, _)| name.contains(server.as_str())) else {
                continue;
            };
            let known = self.captures.entry(server.clone()).or_default();
            if !known.iter().any(|(image, _)| *image == id) {
                let content = fs::read(self.court.lab.file("glance/images").join(&id))?;
                known.push((id, sha256(&content)));
            }
        }
        Ok(())
    }

    fn look(&mut self, run: usize) -> Result<Vec<String>> {
        self.note()?;
        let mut seen = Vec::new();
        let mut list = fs::read_to_string(self.desk.path("joblist")).unwrap_or_default();
        for (id, name) in &self.names {
            list = list.replace(id, name);
        }
        seen.push(format!("run {run}: the list has {:?}", list.lines().collect::<Vec<_>>()));
        let images = self.images()?;
        for (id, name) in &self.names {
            let count = images.iter().filter(|image| image[1].contains(id.as_str())).count();
            seen.push(format!("run {run}: {name} has {count} in the cloud"));
            let mut modes = BTreeSet::new();
            for (file, content) in self.desk.stored(id)? {
                seen.push(format!("run {run}: {name} {}", self.describe(id, &file, &content)));
                modes.insert(fs::metadata(self.desk.stored_at(id).join(file))?.permissions().mode() & 0o777);
            }
            seen.extend(modes.iter().map(|mode| format!("run {run}: {name} has files of mode {mode:03o}")));
        }
        let snapshots = self.court.ask(self.act.project, &["volume", "snapshot", "list", "-f", "value", "-c", "ID"])?;
        let surplus = snapshots.lines().count().saturating_sub(images.len());
        if surplus > 0 {
            seen.push(format!("run {run}: leaves behind {surplus} snapshots of volumes"));
        }
        Ok(seen)
    }

    /// A file on the backup server.
    fn describe(&self, server: &str, file: &str, content: &[u8]) -> String {
        let Some((epoch, image)) = file.split_once('_') else { return format!("has a file {file:?}") };
        let (image, ending) = image.split_once('.').map_or((image, ""), |(image, ending)| (image, ending));
        let known = self.captures.get(server).map_or(&[][..], Vec::as_slice);
        let Some(number) = known.iter().position(|(id, _)| id == image) else {
            return format!("keeps capture of an unknown image {file:?}");
        };
        if !ending.is_empty() {
            return format!("has capture {}'s .{ending}", number + 1);
        }
        let is_time = epoch.len() == 10 && epoch.bytes().all(|byte| byte.is_ascii_digit());
        let name = if is_time { "" } else { ", under a name without a time" };
        let of_glance = known[number].1;
        let state = match content {
            [] => "empty",
            _ if of_glance == sha256(content) => "whole",
            _ if of_glance == sha256(&[]) => "out of its volume",
            _ => "not whole",
        };
        format!("keeps capture {}, {state}{name}", number + 1)
    }

    fn clear(&self) -> Result<()> {
        for [id, ..] in self.images()? {
            self.court.ask(self.act.project, &["image", "delete", &id])?;
        }
        for id in self.court.ask(self.act.project, &["volume", "snapshot", "list", "-f", "value", "-c", "ID"])?.lines()
        {
            self.court.ask(self.act.project, &["volume", "snapshot", "delete", id])?;
        }
        if self.act.project != "demo" {
            self.court.ask(self.act.project, &["server", "delete", "--wait", "two"])?;
        }
        Ok(())
    }
}
