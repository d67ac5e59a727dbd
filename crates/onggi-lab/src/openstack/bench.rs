//! The benchmark of a project's servers: kind `openstack` beside the way of the JCloud script, on the lab's cloud, for the
//! same servers, in the same run.
//!
//! The script is somebody else's. Whoever has it names its path, and it runs as it is. Without it its steps are taken with
//! its programs: OpenStack's client makes an image and waits, the file is copied out of Glance's store, `rsync` sends it
//! over SSH, the image goes. One server after the other. That client is started once and not for every step, so that
//! this is quicker than the script.

mod report;

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Endpoint, Openstack, desk::Desk};
use crate::corpus::Random;
use crate::measure::{Cost, measured, shown, usage};
use crate::relay;
use crate::service::Sshd;

const MIB: u64 = 1 << 20;
/// Where the data of a disk begins: behind the file system that the guest runs from.
const DATA_AT: u64 = 64 * MIB;
/// The disk is changed in pieces of this many bytes, at multiples of it.
const PIECE: u64 = MIB;
/// A line of 1 Gbit/s, in bytes per second.
const GIGABIT: u64 = 125_000_000;
/// A connection that passed so many bytes carries the disk: kernel and initial file system have fewer.
const DISK_BEGINS: usize = 32 << 20;

/// What to measure, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Bytes of data on each disk.
    pub data: u64,
    /// Length of each disk in GiB; where there are no data it has holes.
    pub disk_gib: u64,
    /// Share of the data that changes before each further backup, in percent.
    pub change: u64,
    /// Servers that are stored on each day.
    pub servers: usize,
    /// Days of the comparison with the script's way.
    pub days: u64,
    /// How often a first and a second backup are taken; the medians are reported.
    pub runs: usize,
    /// Where the backup server's folder goes, and what belongs to no measurement.
    pub work: PathBuf,
    /// Where the repository of one server goes: what it is compared with writes nothing.
    pub memory: PathBuf,
    /// The program that measures: this crate's own.
    pub measurer: PathBuf,
    /// The program that is measured.
    pub onggi: PathBuf,
    /// The original script.
    pub script: Option<PathBuf>,
}

/// What the image of one server came over.
struct Line {
    /// As the report calls it.
    name: &'static str,
    /// Where Glance is, for who comes over it.
    store: SocketAddr,
    /// From where the disk begins to come to the end of the program.
    hub: Vec<Duration>,
    /// A download of the same image from there on.
    bare: Vec<Duration>,
}

/// One server alone.
struct Single {
    lines: Vec<Line>,
    /// Bytes that a second backup added, and bytes that had changed before it.
    added: Vec<(u64, u64)>,
    costs: Vec<Cost>,
}

/// All days of both.
#[derive(Debug, Default)]
struct Days {
    onggi: Vec<Cost>,
    script: Vec<Duration>,
    /// Of the original, until the images that it asked for are whole, too; else none.
    whole: Vec<Duration>,
    /// Bytes that went to the backup server, and those that lie there in the end.
    sent: (u64, u64),
    kept: (u64, u64),
}

/// Measures and returns the report as Markdown. `say` is told what is measured.
pub fn run(plan: &Plan, command_line: &str, say: &dyn Fn(&str)) -> Result<String> {
    let lab = Openstack::start().context("the cloud needs root")?;
    let sshd = Sshd::start().context("the backup server is an OpenSSH server")?;
    let bed = Bed { plan, lab: &lab, sshd: &sshd };
    say("making servers");
    bed.prepare()?;
    let measured = bed.single(say).and_then(|single| Ok((single, bed.days(say)?)));
    bed.clear()?;
    let (single, days) = measured?;
    report::page(plan, command_line, &single, &days)
}

struct Bed<'a> {
    plan: &'a Plan,
    lab: &'a Openstack,
    sshd: &'a Sshd,
}

/// When the disk began to come through the relay.
type Begun = Arc<Mutex<Option<Instant>>>;

impl Bed<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.plan.work.join(name)
    }

    fn server(number: usize) -> String {
        format!("bench{number}")
    }

    fn prepare(&self) -> Result<()> {
        self.forget_earlier();
        let plan = self.plan;
        fs::create_dir_all(&plan.memory)?;
        fs::create_dir_all(self.path("home"))?;
        self.sshd.introduce(&self.path("home"));
        fs::write(self.path("password"), "bench")?;
        fs::set_permissions(self.path("password"), fs::Permissions::from_mode(0o600))?;
        let config = format!(
            "version: 1\nsources:\n  lab:\n    kind: openstack\n    openrc: {{ file: {} }}\n    cloud-keep-last: 0\n    \
             parallel-snapshots-max: {count}\n    parallel-transfers-max: {count}\n",
            self.lab.file("demo-openrc").display(),
            count = plan.servers
        );
        fs::write(self.path("onggi.yaml"), config)?;
        let raw = self.path("disk.raw");
        fs::copy(self.lab.file("guest/disk.raw"), &raw)?;
        let mut disk = File::options().write(true).open(&raw)?;
        disk.seek(SeekFrom::Start(DATA_AT))?;
        let mut random = Random::new(0);
        for _ in 0..plan.data / MIB {
            disk.write_all(&random.bytes(1 << 20))?;
        }
        disk.set_len(plan.disk_gib << 30)?;
        let image = self.path("disk.qcow2");
        succeed(Command::new("qemu-img").args(["convert", "-O", "qcow2"]).args([&raw, &image]))?;
        fs::remove_file(raw)?;
        let guest = self.lab.json(&["image", "show", "lab-guest"]);
        let property = |name: &str| format!("{name}={}", guest["properties"][name].as_str().unwrap_or_default());
        let image = image.display().to_string();
        let start = ["kernel_id", "ramdisk_id", "os_command_line"].map(property);
        let mut words =
            vec!["image", "create", "--disk-format", "qcow2", "--container-format", "bare", "--file", &image];
        words.extend(start.iter().flat_map(|property| ["--property", property]));
        self.lab.client(&[&words[..], &["bench"]].concat());
        let size = plan.disk_gib.to_string();
        self.lab.administrate(&["flavor", "create", "--ram", "160", "--disk", &size, "--vcpus", "1", "bench"]);
        for number in 1..=plan.servers {
            let place = ["--image", "bench", "--flavor", "bench", "--network", "demo-net", &Self::server(number)];
            self.lab.client(&[&["server", "create", "--wait"], &place[..]].concat());
            self.lab.until_console(&Self::server(number));
        }
        Ok(())
    }

    /// Takes away what a measurement left that was ended half-way.
    fn forget_earlier(&self) {
        for (user, kind) in [("demo", "image"), ("admin", "flavor")] {
            let all = self.lab.try_client(user, "demo", &[kind, "list", "-f", "value", "-c", "ID", "-c", "Name"]);
            for id in String::from_utf8_lossy(&all.stdout).lines().filter_map(|line| line.strip_suffix(" bench")) {
                self.lab.try_client(user, "demo", &[kind, "delete", id]);
            }
        }
    }

    fn clear(&self) -> Result<()> {
        for number in 1..=self.plan.servers {
            self.lab.client(&["server", "delete", "--wait", &Self::server(number)]);
        }
        self.lab.client(&["image", "delete", "bench"]);
        self.lab.administrate(&["flavor", "delete", "bench"]);
        // The folder around it may be the same as that of all else.
        fs::remove_dir_all(self.plan.memory.join("single")).context("remove what was measured")?;
        fs::remove_dir_all(&self.plan.work).context("remove what was measured")
    }

    /// onggi with a repository.
    fn onggi(&self, repository: &str, words: &[&str]) -> Command {
        let mut command = Command::new(&self.plan.onggi);
        command.env("HOME", self.path("home")).env_remove("ONGGI_CONFIG").current_dir(&self.plan.work);
        command.args(["--yes", "--repo", repository, "--password-file"]).arg(self.path("password"));
        command.arg("--config").arg(self.path("onggi.yaml")).args(words);
        command
    }

    fn measured(&self, command: &Command) -> Result<Cost> {
        measured(&self.plan.measurer, command, &self.path("log"))
    }

    /// Writes other bytes into a share of a server's data, as its guest would. How many.
    fn change(&self, server: &str, random: &mut Random) -> Result<u64> {
        let fresh = self.path("fresh");
        let domain = self.lab.try_client("admin", "demo", &["server", "show", "-f", "json", server]);
        let domain: serde_json::Value = serde_json::from_slice(&domain.stdout).context("a server is shown")?;
        let domain = domain["OS-EXT-SRV-ATTR:instance_name"].as_str().context("a server has a domain")?;
        let pieces = (self.plan.data * self.plan.change / 100).div_ceil(PIECE);
        let mut places: Vec<u64> = (0..self.plan.data / PIECE).collect();
        for _ in 0..pieces {
            let place = places.swap_remove(usize::try_from(random.below(places.len() as u64))?);
            fs::write(&fresh, random.bytes(usize::try_from(PIECE)?))?;
            let device = "/machine/peripheral/virtio-disk0/virtio-backend";
            let write = format!("write -s {} {} {PIECE}", fresh.display(), DATA_AT + place * PIECE);
            let line = format!("qemu-io -d {device} \"{write}\"");
            succeed(Command::new("virsh").args(["qemu-monitor-command", domain, "--hmp", &line]))?;
        }
        Ok(pieces * PIECE)
    }

    /// One server alone, into a repository on this machine: over loopback, and over a line as clouds have them.
    fn single(&self, say: &dyn Fn(&str)) -> Result<Single> {
        let begun = Begun::default();
        let glance = Endpoint::of(self.lab, "image");
        let target = glance.url().trim_start_matches("http://");
        let hear = || {
            let noted = Arc::clone(&begun);
            move |passed, _: &[u8]| {
                if passed >= DISK_BEGINS {
                    noted.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
                }
                ControlFlow::Continue(())
            }
        };
        let line = |name, store| Line { name, store, hub: Vec::new(), bare: Vec::new() };
        let lines = vec![
            line("loopback", relay::start(target, hear())),
            line("a line of 1 Gbit/s", relay::start_line(target, GIGABIT, hear())),
        ];
        let (mut single, mut random) = (Single { lines, added: Vec::new(), costs: Vec::new() }, Random::new(1));
        let repository = self.plan.memory.join("single").display().to_string();
        let server = Self::server(1);
        let unit = format!("lab/demo/{server}");
        for turn in 1..=self.plan.runs {
            for line in &mut single.lines {
                glance.lead_to(&format!("http://{}", line.store));
                fs::remove_dir_all(&repository).ok();
                succeed(&mut self.onggi(&repository, &["init"]))?;
                take(&begun);
                let cost = self.measured(&self.onggi(&repository, &["backup", &unit]))?;
                let hub = take(&begun).context("the disk came through the relay")?.elapsed();
                single.costs.push(cost);
                self.bare(&line.store.to_string())?;
                let bare = take(&begun).context("the disk came through the relay")?.elapsed();
                let [shown_hub, shown_bare] = [hub, bare].map(|time| time.as_secs_f64());
                say(&format!("run {turn}, {}: hub {shown_hub:.2} s, bare download {shown_bare:.2} s", line.name));
                line.hub.push(hub);
                line.bare.push(bare);
            }
            let changed = self.change(&server, &mut random)?;
            let cost = self.measured(&self.onggi(&repository, &["backup", "--json", &unit]))?;
            single.costs.push(cost);
            single.added.push((added(&fs::read_to_string(self.path("log"))?)?, changed));
            say(&format!("run {turn}: {:?} bytes added of changed", single.added[turn - 1]));
        }
        Ok(single)
    }

    /// Downloads an image of the first server and keeps nothing of it.
    fn bare(&self, store: &str) -> Result<()> {
        let server = Self::server(1);
        self.lab.client(&["server", "image", "create", "--wait", "--name", "bare", &server]);
        let token = self.lab.json(&["token", "issue"])["id"].as_str().context("a token")?.to_owned();
        let id = self.lab.id("image", "bare");
        let mut line = TcpStream::connect(store)?;
        let head = format!(
            "GET /v2/images/{id}/file HTTP/1.1\r\nHost: {store}\r\nX-Auth-Token: {token}\r\nConnection: close\r\n\r\n"
        );
        line.write_all(head.as_bytes())?;
        let (mut buffer, mut came) = (vec![0; 256 << 10], 0);
        while let length @ 1.. = line.read(&mut buffer)? {
            came += length;
        }
        ensure!(came as u64 >= self.plan.data, "only {came} bytes came");
        self.lab.client(&["image", "delete", "bare"]);
        Ok(())
    }

    /// Every server on every day, both ways to the backup server.
    fn days(&self, say: &dyn Fn(&str)) -> Result<Days> {
        let (mut days, mut random) = (Days::default(), Random::new(2));
        let repository = self.sshd.url("repository");
        succeed(&mut self.onggi(&repository, &["init"]))?;
        let units: Vec<_> =
            (1..=self.plan.servers).map(|number| format!("lab/demo/{}", Self::server(number))).collect();
        let words: Vec<_> = ["backup"].into_iter().chain(units.iter().map(String::as_str)).collect();
        let original = self.plan.script.as_deref().map(|script| self.desk().map(|desk| (desk, script))).transpose()?;
        if let Some((desk, script)) = &original {
            // It moves what the run before captured.
            self.original(desk, script)?;
        }
        for day in 1..=self.plan.days {
            settle();
            let began = Instant::now();
            if let Some((desk, script)) = &original {
                let (took, whole, sent) = self.original(desk, script)?;
                days.script.push(took);
                days.whole.push(whole);
                days.sent.1 += sent;
            } else {
                for number in 1..=self.plan.servers {
                    days.sent.1 += self.script(&Self::server(number), day)?;
                }
                days.script.push(began.elapsed());
            }
            settle();
            days.onggi.push(self.measured(&self.onggi(&repository, &words))?);
            let [script, onggi] = [days.script[days.script.len() - 1], days.onggi[days.onggi.len() - 1].wall];
            say(&format!(
                "day {day}: onggi {:.1} s, the script's way {:.1} s",
                onggi.as_secs_f64(),
                script.as_secs_f64()
            ));
            for number in 1..=self.plan.servers {
                self.change(&Self::server(number), &mut random)?;
            }
        }
        let theirs = original.map_or_else(|| self.sshd.path("script"), |(desk, _)| desk.path("backup"));
        days.kept = (usage(&self.sshd.path("repository"))?, usage(&theirs)?);
        for image in self.captures() {
            self.lab.client(&["image", "delete", &image]);
        }
        days.sent.0 = days.kept.0;
        Ok(days)
    }

    /// Where the original runs. Its retention looks into a folder that the guide names wrongly.
    fn desk(&self) -> Result<Desk> {
        let folder = self.path("desk");
        let kept = self.plan.days;
        let backup = folder.join("backup/staging");
        let more = format!("MAX_COUNT_OF_SNAPSHOT={kept}\nPATH_TO_SNAPSHOT_BACKUP_DIR={}\n", backup.display());
        Ok(Desk::lay(self.lab, self.sshd, folder, "demo", &more)?)
    }

    /// One run of the original for all servers: how long it took, how long until the images that it asked for were whole,
    /// and bytes that rsync sent.
    fn original(&self, desk: &Desk, script: &Path) -> Result<(Duration, Duration, u64)> {
        let ids: Vec<_> = (1..=self.plan.servers).map(|number| self.lab.id("server", &Self::server(number))).collect();
        desk.list(&ids.iter().map(String::as_str).collect::<Vec<_>>())?;
        let began = Instant::now();
        let said = succeed(&mut desk.script(script))?;
        let took = began.elapsed();
        self.lab.until("an end of the snapshots", || {
            let listed = self.lab.json(&["image", "list", "--private"]);
            listed.as_array()?.iter().all(|image| image["Status"] == "active").then_some(())
        });
        Ok((took, began.elapsed(), said.lines().filter_map(sent).sum()))
    }

    /// The names of images that the original left in the cloud.
    fn captures(&self) -> Vec<String> {
        let listed = self.lab.json(&["image", "list", "--private"]);
        let names = listed.as_array().into_iter().flatten().filter_map(|image| image["Name"].as_str());
        names.filter(|name| name.starts_with("snapshot__")).map(str::to_owned).collect()
    }

    /// One server in the script's way. Bytes that rsync sent.
    fn script(&self, server: &str, day: u64) -> Result<u64> {
        let name = format!("snapshot__demo/{server}__{day}");
        self.lab.client(&["server", "image", "create", "--wait", "--name", &name, server]);
        let id = self.lab.id("image", &name);
        let staging = self.path("staging").join(server);
        fs::create_dir_all(&staging)?;
        fs::copy(self.lab.file("glance/images").join(&id), staging.join(format!("{day}_{id}")))?;
        let (key, known) = (self.sshd.key(), self.sshd.known_hosts());
        let (key, known, port) = (key.display(), known.display(), self.sshd.port());
        let shell = format!("ssh -i {key} -o UserKnownHostsFile={known} -p {port}");
        let to = format!("{}@127.0.0.1:{}", self.sshd.user(), self.sshd.path("script").display());
        let mut rsync = Command::new("rsync");
        rsync.args(["-az", "--remove-source-files", "--stats", "-e", &shell]).arg(self.path("staging")).arg(to);
        let said = succeed(&mut rsync)?;
        self.lab.client(&["image", "delete", &name]);
        let line =
            said.lines().find_map(|line| line.strip_prefix("Total bytes sent: ")).context("rsync says what it sent")?;
        line.replace(',', "").trim().parse().context("rsync says a number")
    }
}

/// Lets the system write what is not on disk yet, so that each pays for its own.
fn settle() {
    rustix::fs::sync();
}

fn take(begun: &Begun) -> Option<Instant> {
    begun.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Runs a command to its end and answers what it said.
fn succeed(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {}", shown(command)))?;
    ensure!(output.status.success(), "{}: {}", shown(command), String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Bytes in a line of rsync, which are told for people: `sent 537.05M bytes  received 35 bytes`.
fn sent(line: &str) -> Option<u64> {
    let number = line.strip_prefix("sent ")?.split(' ').next()?.replace(',', "");
    let units = [('K', 1_000), ('M', 1_000_000), ('G', 1_000_000_000)];
    let unit = units.iter().find(|(letter, _)| number.ends_with(*letter)).map_or(1, |(_, bytes)| *bytes);
    let number = number.trim_end_matches(['K', 'M', 'G']);
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let [whole, digits] = [whole, part].map(|digits| digits.parse::<u64>().ok());
    Some(whole? * unit + digits? * unit / 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?)
}

/// Bytes that a backup added to the repository, by its own documents.
fn added(said: &str) -> Result<u64> {
    let documents = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let summaries = documents.filter(|one| one["message_type"] == "summary");
    let bytes: Vec<u64> = summaries.filter_map(|one| one["data_added_packed"].as_u64()).collect();
    ensure!(!bytes.is_empty(), "the backup tells no sum");
    Ok(bytes.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rsync_says_it_sent_is_read() {
        assert_eq!(sent("sent 537.05M bytes  received 35 bytes  10.33M bytes/sec"), Some(537_050_000));
        assert_eq!(sent("sent 1,234 bytes  received 5 bytes"), Some(1234));
        assert_eq!(sent("total size is 5"), None);
    }

    #[test]
    fn the_sums_of_all_units_count() {
        let said = "{\"message_type\":\"status\"}\n{\"message_type\":\"summary\",\"data_added_packed\":5}\nx\n\
                    {\"message_type\":\"summary\",\"data_added_packed\":7}\n";
        assert_eq!(added(said).unwrap(), 12);
        assert!(added("nothing").is_err());
    }
}
