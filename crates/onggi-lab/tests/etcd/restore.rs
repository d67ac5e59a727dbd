//! Clusters that are lost and come back from a snapshot, with real members as judges.

use crate::place::{Place, source};
use onggi_lab::service::EtcdCluster;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The hash of all keys that each member has, at a revision.
pub fn hashes(cluster: &EtcdCluster, revision: i64) -> Vec<Value> {
    let said: Value = serde_json::from_str(&cluster.ctl(&format!("endpoint hashkv --rev={revision} -w json"))).unwrap();
    said.as_array().unwrap().iter().map(|one| one["HashKV"]["hash"].clone()).collect()
}

pub fn revision(cluster: &EtcdCluster) -> i64 {
    cluster.status()[0]["Status"]["header"]["revision"].as_i64().unwrap()
}

fn argument(cluster: &EtcdCluster, member: &str, name: &str) -> String {
    let text = fs::read_to_string(cluster.state().join(format!("run/{member}.args"))).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("--{name}="))).unwrap();
    value.to_owned()
}

fn members(cluster: &EtcdCluster) -> Vec<String> {
    (1..=cluster.endpoints().len()).map(|number| format!("m{number}")).collect()
}

fn give_history(cluster: &EtcdCluster) {
    let lease = cluster.ctl("lease grant 100000");
    cluster.ctl(&format!("put --lease={} /registry/leased a", lease.split(' ').nth(1).unwrap()));
    cluster.put([("/registry/a", "1"), ("/registry/b", "2")]);
    cluster.ctl(&format!("compact {}", revision(cluster)));
    cluster.ctl("del --prefix /registry/lab/k0000");
    cluster.ctl("put /registry/a newer");
}

/// Loses all members and brings them back, each with a command of its own as on its own machine.
fn lose_and_restore(place: &Place, cluster: &EtcdCluster, more: &str) -> Vec<Value> {
    let peers = argument(cluster, "m1", "initial-cluster");
    let members = members(cluster);
    members.iter().for_each(|member| cluster.stop(member));
    let mut plans = Vec::new();
    for member in &members {
        let target = cluster.state().join("data").join(member);
        let target = target.display();
        let line = format!(
            "--json --yes restore latest --to source --target {target} --initial-cluster {peers} --member {member} {more}"
        );
        place.onggi(&line).ends(5).says("is not empty");
        let done = place.onggi(&format!("{line} --force-rename")).ends(0);
        plans.push(serde_json::from_str::<Value>(done.out.lines().next().unwrap()).unwrap());
    }
    cluster.restart_all();
    plans
}

#[test]
fn a_lost_cluster_comes_back_with_the_keys_that_it_had() {
    for options in ["--version 3.4", "--version 3.5", "--version 3.4 --members 3", "--version 3.5 --members 3"] {
        let Some(cluster) = EtcdCluster::start(&format!("{options} --fill 500")) else { return };
        let place = Place::new(&json!({ "lab": source(&cluster, json!({})) }));
        give_history(&cluster);
        place.onggi("backup lab").ends(0);
        let at = revision(&cluster);
        let before = hashes(&cluster, at);
        cluster.ctl("put /registry/lost after-the-snapshot");
        let plans = lose_and_restore(&place, &cluster, "--bump-revision 0");
        let cluster_step = |plan: &Value| plan["steps"][0]["what"].clone();
        assert!(plans.iter().all(|plan| cluster_step(plan) == cluster_step(&plans[0])), "{plans:?}");
        assert_eq!(hashes(&cluster, at), before, "{options}");
        assert_eq!(cluster.ctl("get --print-value-only /registry/a").trim(), "newer");
        assert_eq!(cluster.ctl("get /registry/lost"), "");
        for member in members(&cluster) {
            cluster.stop(&member);
        }
        cluster.restart_all();
        assert_eq!(hashes(&cluster, at), before, "{options}, once more");
    }
}

/// A client that watches while the cluster is lost, and enters again when it is back.
fn watch(cluster: &EtcdCluster, key: &str, from: i64) -> Child {
    // Not the lab's wrapper, which ends it after a minute.
    let mut watcher = Command::new("timeout");
    watcher.arg("600").arg(cluster.program("etcdctl")).args(["watch", key, &format!("--rev={from}")]);
    for (name, file) in [("CACERT", "ca.crt"), ("CERT", "healthcheck-client.crt"), ("KEY", "healthcheck-client.key")] {
        watcher.env(format!("ETCDCTL_{name}"), cluster.pki("etcd").join(file));
    }
    watcher.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", &cluster.endpoints()[0]);
    watcher.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_watcher_that_was_ahead_is_told_that_what_it_knows_is_gone() {
    let Some(cluster) = EtcdCluster::start("--version 3.5 --fill 100") else { return };
    let place = Place::new(&json!({ "lab": source(&cluster, json!({})) }));
    place.onggi("backup lab").ends(0);
    let at = revision(&cluster);
    cluster.put([("/registry/x", "1")]);
    let ahead = revision(&cluster);
    let mut watcher = watch(&cluster, "/registry/x", ahead);
    let mut told = BufReader::new(watcher.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("/registry/x") {
        line.clear();
        assert!(told.read_line(&mut line).unwrap() > 0, "the watcher ended");
    }
    lose_and_restore(&place, &cluster, "");
    assert!(revision(&cluster) >= at + 1_000_000_000);
    let watched = cluster.fails(&format!("get --rev={ahead} /registry/x"));
    assert!(watched.contains("compacted"), "{watched}");
    let output = watcher.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("required revision has been compacted"), "{said}");
    cluster.ctl("put /registry/x again");
}

#[test]
fn a_full_cluster_is_restored_writable() {
    let Some(cluster) = EtcdCluster::start("--version 3.5 --quota 20000000") else { return };
    let place = Place::new(&json!({ "lab": source(&cluster, json!({})) }));
    let value = "x".repeat(600_000);
    let mut said = String::new();
    while !said.contains("space exceeded") {
        said = cluster.try_with(&["put", "/registry/big"], &value);
    }
    // What was overwritten is free in the file, which stays as long as it is.
    cluster.ctl(&format!("compact --physical {}", revision(&cluster)));
    place.onggi("backup lab").ends(3).says("NOSPACE");
    let running = cluster.state().join("data/m1");
    let line = format!("--yes restore latest --to source --force-rename --target {}", running.display());
    place.onggi(&line).ends(5).says("a member is running on");
    lose_and_restore(&place, &cluster, "--quota-backend-bytes 20000000");
    assert_eq!(cluster.ctl("alarm list"), "");
    cluster.ctl("put /registry/small 1");
}

/// What the plain port of a member says.
fn metrics(cluster: &EtcdCluster, member: &str) -> String {
    let address = argument(cluster, member, "listen-metrics-urls");
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_member_that_is_added_later_gets_the_whole_database() {
    for options in ["--version 3.4", "--version 3.5", "--version 3.4 --members 3", "--version 3.5 --members 3"] {
        let Some(cluster) = EtcdCluster::start(&format!("{options} --fill 300")) else { return };
        let place = Place::new(&json!({ "lab": source(&cluster, json!({})) }));
        place.onggi("backup lab").ends(0);
        let at = revision(&cluster);
        let before = hashes(&cluster, at);
        lose_and_restore(&place, &cluster, "--bump-revision 0");
        let agreed = format!("etcd_cluster_version{{cluster_version=\"{}\"}}", &options[10..13]);
        while !metrics(&cluster, "m1").contains(&agreed) {}
        let endpoint = add_learner(&cluster);
        let asked = format!("--endpoints {endpoint} endpoint hashkv --rev={at} -w json");
        let mut said = String::new();
        while !said.contains("\"hash\"") {
            said = cluster.try_with(&asked.split(' ').collect::<Vec<_>>(), "");
        }
        // What it had to try again it complains of in further lines.
        let said: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
        assert_eq!(said[0]["HashKV"]["hash"], before[0], "{options}");
        cluster.stop("m9");
    }
}

/// Ports that nobody listens on now.
fn free_ports() -> [u16; 3] {
    let listeners = [0; 3].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Adds m9 as a learner, starts it, and promotes it as soon as it has caught up. Returns its client URL.
fn add_learner(cluster: &EtcdCluster) -> String {
    let run = cluster.state().join("run");
    let [client, peer, metrics] = free_ports();
    let peer = format!("https://127.0.0.1:{peer}");
    let all = format!("{},m9={peer}", argument(cluster, "m1", "initial-cluster"));
    let own = |line: &str| {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let value = match name {
            "--name" => "m9".to_owned(),
            "--data-dir" => value.replace("/data/m1", "/data/m9"),
            "--listen-client-urls" | "--advertise-client-urls" => format!("https://127.0.0.1:{client}"),
            "--listen-peer-urls" | "--initial-advertise-peer-urls" => peer.clone(),
            "--listen-metrics-urls" => format!("http://127.0.0.1:{metrics}"),
            "--initial-cluster" => all.clone(),
            "--initial-cluster-state" => "existing".to_owned(),
            _ => value.to_owned(),
        };
        format!("{name}={value}\n")
    };
    let text: String = fs::read_to_string(run.join("m1.args")).unwrap().lines().map(own).collect();
    fs::write(run.join("m9.args"), text).unwrap();
    // Members that have just met take nobody in.
    let add = format!("member add m9 --learner --peer-urls={peer}");
    while !cluster.try_with(&add.split(' ').collect::<Vec<_>>(), "").contains("added to cluster") {}
    cluster.start_member("m9");
    let list: Value = serde_json::from_str(&cluster.ctl("member list -w json")).unwrap();
    let learner = list["members"].as_array().unwrap().iter().find(|member| member["isLearner"] == true).unwrap();
    let id = format!("{:x}", learner["ID"].as_u64().unwrap());
    while !cluster.try_with(&["member", "promote", &id], "").contains("promoted") {}
    format!("https://127.0.0.1:{client}")
}

#[test]
fn what_is_written_is_what_etcdutl_would_write() {
    let Some(cluster) = EtcdCluster::start("--version 3.5 --fill 100") else { return };
    let place = Place::new(&json!({ "lab": source(&cluster, json!({})) }));
    place.onggi("backup lab").ends(0);
    let program = cluster.program("etcdutl");
    let folder = program.parent().unwrap();
    for (engine, name) in [("onggi", "own"), ("etcdutl", "theirs")] {
        let target = place.path(name);
        let line = format!("restore latest --to source --target {} --engine {engine}", target.display());
        place.onggi_with(folder, &line).ends(0);
    }
    let files = |name: &str| files_of(&place.path(name).join("member"));
    assert_eq!(files("own"), files("theirs"));
}

/// The files of a member but its database, which etcdutl changes in place.
fn files_of(member: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for folder in ["snap", "wal"] {
        for entry in fs::read_dir(member.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name != "db" {
                found.push((name, fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}
