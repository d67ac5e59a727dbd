//! Snapshots of real clusters, good ones and those that must not be believed.

use crate::place::{Place, snapshot_status, source, tls};
use onggi_lab::service::EtcdCluster;
use onggi_lab::{peer, relay};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Deletions, a lease, a transaction, a compaction, and something after it.
fn give_history(cluster: &EtcdCluster) {
    let lease = cluster.ctl("lease grant 100000");
    let lease = lease.split(' ').nth(1).unwrap();
    cluster.ctl(&format!("put --lease={lease} /registry/leased a"));
    cluster.put([("/registry/a", "1"), ("/registry/b", "2"), ("/registry/c", "3")]);
    cluster.ctl("del /registry/b");
    cluster.ctl("del --prefix /registry/lab/k0000");
    let revision = cluster.status()[0]["Status"]["header"]["revision"].clone();
    cluster.ctl(&format!("compact {revision}"));
    cluster.put([("/registry/a", "newer"), ("/registry/b", "again")]);
    cluster.ctl("del /registry/c");
}

#[test]
fn a_snapshot_is_the_stream_that_etcdutl_restores_and_all_members_agree() {
    // No etcdutl comes with 3.4; that of 3.5 restores its snapshots.
    let Some(newer) = EtcdCluster::start("--version 3.5 --fill 1000") else { return };
    let Some(older) = EtcdCluster::start("--version 3.4 --members 3 --fill 1000") else { return };
    let etcdutl = newer.program("etcdutl");
    for cluster in [&newer, &older] {
        let place = Place::new(&json!({
            "lab": source(cluster, json!({})),
            "found": { "kind": "etcd", "cluster": "lab", "manifest": cluster.manifest() },
        }));
        let units = place.onggi("--json source discover").ends(0).json();
        assert_eq!((&units[0]["unit"], &units[0]["name"]), (&units[1]["unit"], &json!("lab")));
        place.onggi("source preflight").ends(0);
        place.onggi("backup lab").ends(0);
        give_history(cluster);
        // The manifest names one member; the others are found.
        place.onggi("backup found").ends(0);
        let (notes, file) = place.newest("lab");
        let members = cluster.endpoints().len();
        let verdicts: Vec<_> = notes["hash-kv"].as_object().unwrap().values().map(|note| &note["verdict"]).collect();
        assert_eq!((&notes["verified"], verdicts), (&json!("L3"), vec![&json!("equal"); members]), "{notes}");
        assert_eq!(notes["leases"], 1);
        let status = snapshot_status(&etcdutl, &file);
        assert_eq!((&status["revision"], &status["hash"]), (&notes["revision"], &notes["content-hash"]));
        let mut restore = Command::new(&etcdutl);
        restore.args(["snapshot", "restore"]).arg(&file).arg("--data-dir").arg(place.path("data"));
        let output = restore.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_revision_is_that_of_the_file_while_others_write() {
    let Some(cluster) = EtcdCluster::start("--fill 4000") else { return };
    let place = Place::new(&json!({ "lab": source(&cluster, json!({})) }));
    let (cluster, is_over) = (Arc::new(cluster), Arc::new(AtomicBool::new(false)));
    let writer = {
        let (cluster, is_over) = (Arc::clone(&cluster), Arc::clone(&is_over));
        thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                cluster.put((0..200).map(|_| ("/registry/lab/hot", "x")).take(1));
            }
        })
    };
    for _ in 0..3 {
        let before = cluster.status()[0]["Status"]["header"]["revision"].as_i64().unwrap();
        place.onggi("backup").ends(0);
        let (notes, file) = place.newest("lab");
        let revision = notes["revision"].as_i64().unwrap();
        assert_eq!(snapshot_status(&cluster.program("etcdutl"), &file)["revision"], revision);
        assert!(place.tags().contains(&format!("rev:{revision}")) && revision >= before);
    }
    is_over.store(true, Ordering::Relaxed);
    writer.join().unwrap();
}

#[test]
fn a_member_that_restarts_in_the_middle_is_read_again() {
    let Some(cluster) = EtcdCluster::start("--fill 4000") else { return };
    let endpoint = cluster.endpoints()[0].clone();
    let member = endpoint.trim_start_matches("https://");
    let (cluster, restarted) = (Arc::new(cluster), Arc::new(AtomicBool::new(false)));
    // The relay stays for ever, the cluster must not: it goes from there with the restart.
    let (lent, heard) = (Mutex::new(Some(Arc::clone(&cluster))), Arc::clone(&restarted));
    let address = relay::start(member, move |passed, _| {
        let Some(cluster) = lent.lock().unwrap().take_if(|_| passed > 1 << 20) else {
            return ControlFlow::Continue(());
        };
        cluster.stop("m1");
        cluster.restart("m1");
        heard.store(true, Ordering::SeqCst);
        ControlFlow::Break(())
    });
    let place = Place::new(&json!({ "lab": source(&cluster, json!({ "endpoints": [format!("https://{address}")] })) }));
    place.onggi("backup").ends(0);
    assert!(restarted.load(Ordering::SeqCst));
    assert_eq!(place.newest("lab").0["verified"], "L3");
}

#[test]
fn few_hot_writes_and_a_compaction_add_little() {
    let Some(cluster) = EtcdCluster::start("--fill 20000 --value-size 900") else { return };
    let place = Place::new(&json!({ "lab": source(&cluster, json!({})) }));
    let value = "y".repeat(900);
    let write = |round: usize| {
        let keys: Vec<_> = (0..200).map(|number| format!("/registry/lab/k{:06}", number % 80 + round)).collect();
        for some in keys.chunks(50) {
            cluster
                .put(some.iter().collect::<std::collections::BTreeSet<_>>().iter().map(|key| (key.as_str(), &*value)));
        }
        let revision = cluster.status()[0]["Status"]["header"]["revision"].clone();
        cluster.ctl(&format!("compact --physical {revision}"));
    };
    // The first compactions leave pages free that later writes use.
    for round in 0..3 {
        write(round);
    }
    place.onggi("backup").ends(0);
    write(3);
    let report = place.onggi("--json backup").ends(0).json();
    let (notes, _) = place.newest("lab");
    let added = find(&report, "data_added").expect("what was added").as_u64().unwrap();
    let size = notes["db-size"].as_u64().unwrap();
    eprintln!("MEASURED: {added} bytes added of {size}");
    assert!(added * 100 <= size * 15, "{added} of {size} bytes");
}

/// A key, wherever it stands.
fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(object) => object.get(key).or_else(|| object.values().find_map(|value| find(value, key))),
        Value::Array(values) => values.iter().find_map(|value| find(value, key)),
        _ => None,
    }
}

/// Snapshots of the first member that were read to their end, as it counts them.
fn snapshots_read(cluster: &EtcdCluster) -> String {
    let endpoint = &cluster.endpoints()[0];
    let (host, port) = endpoint.trim_start_matches("https://").rsplit_once(':').unwrap();
    // Each member's metrics are two ports behind.
    let mut stream = TcpStream::connect((host, port.parse::<u16>().unwrap() + 2)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).unwrap();
    let handled = |line: &&str| {
        line.starts_with("grpc_server_handled_total") && line.contains("\"OK\"") && line.contains("\"Snapshot\"")
    };
    metrics.lines().find(handled).unwrap_or_default().to_owned()
}

#[test]
fn a_slow_repository_does_not_make_the_database_grow() {
    let Some(cluster) = EtcdCluster::start("--fill 4000") else { return };
    let place = Place::new(&json!({ "lab": source(&cluster, json!({})) }));
    let value = "z".repeat(1024);
    let keys: Vec<_> = (0..1000).map(|number| format!("/registry/lab/k{number:06}")).collect();
    let work = || {
        cluster.put(keys.iter().map(|key| (key.as_str(), &*value)));
        let revision = cluster.status()[0]["Status"]["header"]["revision"].clone();
        cluster.ctl(&format!("compact --physical {revision}"));
    };
    let size = || cluster.status()[0]["Status"]["dbSize"].as_u64().unwrap();
    // What the work itself needs is allocated before.
    work();
    work();
    let before = size();
    let read_before = snapshots_read(&cluster);
    let mut slow = place.command("--limit-rate 1MB backup").spawn().unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    while snapshots_read(&cluster) == read_before {
        assert!(Instant::now() < deadline, "the stream waits for the repository");
        thread::yield_now();
    }
    // From here on the member keeps nothing for the snapshot.
    for _ in 0..3 {
        work();
    }
    assert!(slow.try_wait().unwrap().is_none(), "the backup still runs while others write");
    assert!(slow.wait().unwrap().success());
    let after = size();
    eprintln!("MEASURED: {before} bytes before, {after} after");
    assert!(after * 100 <= before * 105, "{before} bytes before, {after} after");
}

#[test]
fn two_of_three_members_down_is_refused_unless_somebody_asks() {
    let Some(cluster) = EtcdCluster::start("--members 3 --fill 100") else { return };
    let place = Place::new(&json!({
        "lab": source(&cluster, json!({})),
        "asked": source(&cluster, json!({ "allow-no-quorum": true })),
    }));
    cluster.stop("m2");
    cluster.stop("m3");
    await_no_leader(&cluster);
    place.onggi("backup lab").ends(5).says("the cluster has no leader");
    place.onggi("backup asked").ends(3).says("no-quorum");
    assert!(place.tags().contains(&"no-quorum".to_owned()));
    // Somebody at a terminal has asked.
    let line = place.command("backup lab");
    let words: Vec<_> =
        std::iter::once(line.get_program()).chain(line.get_args()).map(|word| word.to_string_lossy()).collect();
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &words.join(" "), "/dev/null"]).env("HOME", place.path("home"));
    assert_eq!(terminal.output().unwrap().status.code(), Some(3));
}

fn await_no_leader(cluster: &EtcdCluster) {
    let endpoint = &cluster.endpoints()[0];
    for _ in 0..200 {
        let status = cluster.ctl_with(&["--endpoints", endpoint, "endpoint", "status", "-w", "json"], "");
        if status.contains("no leader") {
            return;
        }
    }
    panic!("the member still knows a leader");
}

#[test]
fn whoever_is_not_let_in_is_told_why() {
    let Some(cluster) = EtcdCluster::start("--auth --expired") else { return };
    let secrets = Place::new(&json!({}));
    let auth = |user: &str, password: &str| json!({ "user": user, "password": secrets.secret(user, password) });
    let place = Place::new(&json!({
        "root": source(&cluster, json!({ "auth": auth("root", "rootpw") })),
        "reader": source(&cluster, json!({ "auth": auth("reader", "readerpw") })),
        "nobody": source(&cluster, json!({})),
        "wrong": source(&cluster, json!({ "auth": auth("wrong", "rootpw") })),
        "stranger": source(&cluster, json!({ "tls": tls(&cluster, "etcd/ca", "stranger") })),
        "expired": source(&cluster, json!({ "tls": tls(&cluster, "etcd/ca", "expired") })),
        "other-authority": source(&cluster, json!({ "tls": tls(&cluster, "ca", "etcd/healthcheck-client") })),
        "dead": source(&cluster, json!({ "endpoints": ["https://127.0.0.1:9"] })),
    }));
    place.onggi("backup root").ends(0);
    place.onggi("backup reader").ends(13).says("permission denied; the user needs the role root");
    place.onggi("backup nobody").ends(13).says("the cluster has authentication enabled");
    place.onggi("backup wrong").ends(13).says("authentication failed");
    place.onggi("backup stranger").ends(13).says("it refuses the client certificate");
    place.onggi("backup expired").ends(13).says("it refuses the client certificate");
    place.onggi("backup other-authority").ends(13).says("its certificate is of another authority than `tls.ca`");
    place.onggi("backup dead").ends(14).says("Connection refused");
    let snapshots = place.onggi("snapshots --json").ends(0).json();
    assert_eq!(snapshots.as_array().map(Vec::len), Some(1));
}

#[test]
fn a_full_database_is_stored_and_told() {
    let Some(cluster) = EtcdCluster::start("--quota 2000000") else { return };
    let place = Place::new(&json!({ "lab": source(&cluster, json!({})) }));
    let value = "v".repeat(10_000);
    let mut number = 0;
    while !cluster.status()[0].to_string().contains("NOSPACE") {
        number += 1;
        let mut put = Command::new(cluster.state().join("ctl"));
        put.args(["put", &format!("/registry/large/{number}"), &value]);
        put.output().unwrap();
    }
    place.onggi("backup").ends(3).says("NOSPACE");
    assert_eq!(place.newest("lab").0["verified"], "L3");
}

#[test]
fn a_spool_without_room_is_refused_before_the_first_byte() {
    let Some(cluster) = EtcdCluster::start("--fill 2000") else { return };
    let place = Place::new(&json!({ "lab": source(&cluster, json!({})) }));
    let state = place.path("home/state/onggi/spool");
    fs::create_dir_all(&state).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&state).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return peer::skip("no small file system can be mounted");
    }
    let ended = place.onggi("backup");
    let unmounted = Command::new("umount").arg("--lazy").arg(&state).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    ended.ends(7).says("the spool needs");
}

#[test]
fn files_of_etcdctl_are_taken_over_once_and_broken_ones_are_not() {
    let Some(cluster) = EtcdCluster::start("--version 3.4 --fill 100") else { return };
    let place = Place::new(&json!({}));
    let folder = place.path("backup");
    fs::create_dir(&folder).unwrap();
    let save = |name: &str| {
        let path = folder.join(name);
        cluster.ctl(&format!("snapshot save {}", path.display()));
        path
    };
    save("etcd-snapshot-2020-03-04_05-06-07_UTC.db");
    let broken = save("etcd-snapshot-2020-03-05_05-06-07_UTC.db");
    let bytes = fs::read(&broken).unwrap();
    fs::write(&broken, &bytes[..bytes.len() / 2]).unwrap();
    let line = format!("import etcd-files {} --cluster prod", folder.display());
    place.onggi(&line).ends(4).says("was cut");
    let (notes, file) = place.newest("prod");
    assert_eq!((&notes["verified"], fs::read(file).unwrap()), (&json!("L2"), bytes));
    fs::remove_file(broken).unwrap();
    place.onggi(&line).ends(0).says("1 file there already");
    let snapshots = place.onggi("snapshots --json").ends(0).json();
    assert!(snapshots[0]["time"].as_str().unwrap().starts_with("2020-03-04T05:06:07"));
}
