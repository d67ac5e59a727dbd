//! The jobs that `onggi etcd cronjob` writes, run as their containers would be: what the volumes hold, a root that
//! nothing is written to, no capabilities, and the command itself.

use crate::place::{Done, Place};
use onggi_lab::program;
use onggi_lab::{peer, service::EtcdCluster};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a kubelet does: the node's programs, a pair of places for each volume, and then the command.
const CONTAINER: &str = r#"
root=$1; shift
mount --bind "$root" "$root"
for name in usr bin lib lib64 dev proc; do
  [ -d "/$name" ] || continue
  mkdir -p "$root/$name"
  mount --rbind "/$name" "$root/$name"
done
while [ "$1" != -- ]; do
  mkdir -p "$root$2"
  mount --bind "$1" "$root$2"
  shift 2
done
shift
mount -o remount,ro,bind "$root"
exec chroot "$root" setpriv --bounding-set=-all --inh-caps=-all --no-new-privs env -i HOME=/root PATH=/program "$@"
"#;

/// The one container of a job, and what the node and the cluster have for it.
struct Job {
    place: Place,
    container: Value,
    /// Where the node has what the container has.
    mounts: Vec<(PathBuf, String)>,
}

impl Job {
    /// The job of the first member's node; `None` where no container can be made.
    fn write(cluster: &EtcdCluster, engine: &str) -> Option<Self> {
        if !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
            peer::skip("nothing can be mounted");
            return None;
        }
        let place = Place::new(&json!({}));
        let (manifest, backups) = (cluster.manifest(), place.path("backups"));
        let line = format!(
            "--json etcd cronjob --node lab --engine {engine} --manifest {} --directory {}",
            manifest.display(),
            backups.display()
        );
        let written = place.onggi(&line).ends(0).json();
        let documents = written["documents"].as_array().unwrap();
        let pod = &documents.last().unwrap()["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        let container = pod["containers"][0].clone();
        let volumes = pod["volumes"].as_array().unwrap();
        let mounts = container["volumeMounts"].as_array().unwrap().iter().map(|mount| {
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
            (provide(&place, volume, &documents[0]["data"]), mount["mountPath"].as_str().unwrap().to_owned())
        });
        let mounts = mounts.collect();
        Some(Self { container, mounts, place })
    }

    /// The words of its command, as the kubelet fills them in.
    fn words(&self, pod: &str) -> Vec<String> {
        let words = ["command", "args"].iter().flat_map(|key| self.container[*key].as_array().unwrap());
        words.map(|word| word.as_str().unwrap().replace("$(POD_NAME)", pod)).collect()
    }

    /// Runs these words in the container, with this program.
    fn run(&self, program: &Path, words: &[String]) -> Done {
        let (root, programs) = (self.place.path("root"), self.place.path("program"));
        let name = program.file_name().unwrap();
        for folder in [&root, &programs] {
            fs::create_dir_all(folder).unwrap();
        }
        if !programs.join(name).exists() {
            fs::copy(program, programs.join(name)).unwrap();
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-euc", CONTAINER, "sh"]).arg(&root).arg(&programs).arg("/program");
        for (what, at) in &self.mounts {
            command.arg(what).arg(at);
        }
        let output = command.arg("--").args(words).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn onggi(&self, line: &str) -> Done {
        let words: Vec<_> = ["onggi"].into_iter().chain(line.split(' ')).map(str::to_owned).collect();
        self.run(program::onggi(), &words)
    }
}

/// What a volume holds.
fn provide(place: &Place, volume: &Value, data: &Value) -> PathBuf {
    if let Some(path) = volume["hostPath"]["path"].as_str() {
        if volume["hostPath"]["type"] == "DirectoryOrCreate" {
            fs::create_dir_all(path).unwrap();
        }
        return path.into();
    }
    let folder = place.path(&format!("volume-{}", volume["name"].as_str().unwrap()));
    fs::create_dir(&folder).unwrap();
    if volume["configMap"].is_object() {
        for (name, text) in data.as_object().unwrap() {
            put(&folder, name, text.as_str().unwrap(), 0o644);
        }
    } else if let Some(mode) = volume["secret"]["defaultMode"].as_u64() {
        put(&folder, "password", "of the cluster's Secret", u32::try_from(mode).unwrap());
    } else {
        assert!(volume["emptyDir"].is_object(), "{volume}");
    }
    folder
}

/// A kubelet changes all files of a volume at once, by one link.
fn put(folder: &Path, name: &str, text: &str, mode: u32) {
    let content = folder.join("..2026_11_03");
    fs::create_dir_all(&content).unwrap();
    fs::write(content.join(name), text).unwrap();
    fs::set_permissions(content.join(name), fs::Permissions::from_mode(mode)).unwrap();
    if !folder.join("..data").exists() {
        symlink("..2026_11_03", folder.join("..data")).unwrap();
    }
    symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
}

#[test]
fn the_job_of_onggi_stores_a_snapshot_that_it_has_proved() {
    let Some(cluster) = EtcdCluster::start("--version 3.5 --fill 200") else { return };
    let Some(job) = Job::write(&cluster, "onggi") else { return };
    job.onggi("config check").ends(0);
    job.onggi("init").ends(0);
    let words = job.words("");
    assert_eq!(words, ["onggi", "backup", "etcd"]);
    for _ in 0..2 {
        job.run(program::onggi(), &words).ends(0);
    }
    let snapshots = job.onggi("snapshots --json").ends(0).json();
    let snapshots = snapshots.as_array().unwrap();
    assert_eq!(snapshots.len(), 2, "{snapshots:?}");
    let tags = snapshots[1]["tags"].to_string();
    assert!(tags.contains("cid:") && !tags.contains("\"pki\""), "{tags}");
    // Nothing but the volumes can be written to.
    job.onggi("restore latest --target /elsewhere").ends(1).says("Read-only file system");
    job.onggi("restore latest --target /var/lib/onggi/out").ends(0);
    let manifest = fs::read(job.place.path("volume-state/out/etcd/etcd/.onggi/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["facts"]["notes"]["verified"], "L3", "{manifest}");
    job.onggi("repository verify").ends(0);
}

#[test]
fn the_job_of_etcdctl_leaves_a_file_that_onggi_takes_over() {
    let Some(cluster) = EtcdCluster::start("--version 3.4 --fill 200") else { return };
    let Some(job) = Job::write(&cluster, "etcdctl") else { return };
    let words = job.words("onggi-etcd-lab-29384715-x7k2p");
    job.run(&cluster.program("etcdctl"), &words).ends(0);
    let backups = job.place.path("backups");
    assert!(backups.join("etcd-snapshot-onggi-etcd-lab-29384715-x7k2p.db").exists());
    job.place.onggi(&format!("import etcd-files {} --cluster lab", backups.display())).ends(0);
    assert_eq!(job.place.newest("lab").0["verified"], "L2");
}
