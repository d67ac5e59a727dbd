//! What a run leaves behind, and what it never shows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use onggi_lab::peer;

use super::bed::{Hub, listed, pinned};
use super::server::Server;

/// Every file below a folder with its content.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(contents(&entry.path())),
            false => drop(found.insert(entry.path(), fs::read(entry.path()).unwrap())),
        }
    }
    found
}

#[test]
fn a_dry_run_changes_neither_host_nor_repository() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    hub.write("data/file", "x");
    hub.configure_one(&server, "");
    hub.back_up_well();
    hub.write("data/more", "y");
    let before = (contents(&hub.path("data")), contents(&hub.path("repository")));
    let ended = hub.onggi("backup fleet --json --dry-run");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.summary()["files_new"], 1);
    assert!((contents(&hub.path("data")), contents(&hub.path("repository"))) == before);
}

#[test]
fn nothing_of_the_repository_is_told_to_a_host() {
    let (Some(server), Some(_)) = (Server::start(), peer::newest("restic")) else { return };
    let hub = Hub::new();
    hub.listen_in(&server);
    hub.write("data/file", vec![7; 12 << 20]);
    hub.configure_one(&server, "");
    hub.back_up_well();
    hub.write("data/file", vec![8; 12 << 20]);
    hub.back_up_well();
    let sent = fs::read(hub.path("sent")).unwrap();
    let has = |text: &str| sent.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(sent.len() > 100 && has(&hub.path("data").display().to_string()));
    assert!(!has("secret-of-the-repository") && !has(&hub.path("repository").display().to_string()));
    let config = hub.cat(&["config"]);
    assert!(!has(config["chunker_polynomial"].as_str().unwrap()));
}

#[test]
fn a_host_that_cannot_be_reached_stops_no_other() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    hub.write("data/file", "x");
    let keys = format!("paths: [{}]", hub.path("data").display());
    let stranger = format!("address: 127.0.0.1, port: {}, host-key: \"{}\"", server.port, server.public("other"));
    hub.configure(&pinned(&server), &keys, &[("bad", stranger), ("good", listed(&server)), ("well", listed(&server))]);
    let ended = hub.back_up();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let hosts: Vec<_> = hub.snapshots().iter().map(|one| one["hostname"].as_str().unwrap().to_owned()).collect();
    assert!(hosts.len() == 2 && hosts.contains(&"good".to_owned()) && hosts.contains(&"well".to_owned()), "{hosts:?}");
}

#[test]
fn a_host_is_read_when_nobody_else_wants_its_disks() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    hub.write("data/file", "x");
    // What the program starts stands in line as it does itself.
    let dump = "dumps: [{ name: class, command: [sh, -c, 'ionice -p $$'] }]";
    let class_with = |io: &str| {
        hub.configure_one(&server, &format!("{dump}\nio: {io}"));
        hub.back_up_well();
        let target = hub.path(io);
        assert_eq!(hub.onggi(&format!("restore latest --target @{io}")).code, Some(0));
        fs::read_to_string(target.join("onggi/dump/class")).unwrap()
    };
    assert!(!class_with("normal").contains("idle"));
    assert_eq!(class_with("idle"), "idle\n");
}

#[test]
fn hooks_run_on_the_host_and_the_last_one_also_when_reading_fails() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    hub.write("data/file", "x");
    let log = hub.path("hooks").display().to_string();
    let hooks =
        format!("before: [[sh, -c, 'echo before $ONGGI_UNIT >> {log}']]\nafter: [[sh, -c, 'echo after >> {log}']]");
    hub.configure_one(&server, &hooks);
    hub.back_up_well();
    assert_eq!(fs::read_to_string(&log).unwrap(), "before n1\nafter\n");
    hub.configure_one(&server, &format!("{hooks}\ndumps: [{{ name: bad, command: ['false'] }}]"));
    let ended = hub.onggi("backup fleet --json --timeout 5s");
    assert_ne!(ended.code, Some(0), "{ended:?}");
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.ends_with("after\n") && said.matches("before").count() == said.matches("after").count(), "{said}");
}

#[test]
fn a_host_that_another_run_reads_is_skipped_and_told_and_the_others_are_stored() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    hub.write("data/file", "x");
    let (begun, go) = (hub.path("begun"), hub.path("go"));
    super::server::run(std::process::Command::new("mkfifo").arg(&go));
    let dump = format!("touch {}; cat {}", begun.display(), go.display());
    let slow = format!("{}, overrides: {{ dumps: [{{ name: slow, command: [sh, -c, '{dump}'] }}] }}", listed(&server));
    let keys = format!("paths: [{}]", hub.path("data").display());
    hub.configure(&pinned(&server), &keys, &[("n1", slow), ("n2", listed(&server))]);
    let mut first = hub.onggi_command("backup fleet/n1 --json").stdout(std::process::Stdio::null()).spawn().unwrap();
    while !begun.exists() && first.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let second = hub.onggi("backup fleet --json");
    let alone = hub.onggi("backup fleet/n1 --json");
    fs::write(&go, "rows").unwrap();
    assert!(first.wait().unwrap().success());
    assert_eq!(second.code, Some(3), "{second:?}");
    assert!(second.tells("leased") && second.tells("n1 is being backed up by another run"), "{second:?}");
    assert_eq!(alone.code, Some(11), "{alone:?}");
    let hosts: Vec<_> = hub.snapshots().iter().map(|one| one["hostname"].as_str().unwrap().to_owned()).collect();
    assert!(hosts.len() == 2 && hosts.contains(&"n1".to_owned()) && hosts.contains(&"n2".to_owned()), "{hosts:?}");
}

#[test]
fn a_host_without_a_good_snapshot_is_listed_until_one_run_makes_up_for_all_it_missed() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    hub.write("data/file", "x");
    let keys = format!("paths: [{}]", hub.path("data").display());
    hub.configure(&pinned(&server), &keys, &[("n1", listed(&server)), ("n2", listed(&server))]);
    let missed = |hub: &Hub| {
        let ended = hub.onggi("source missed --every 1d --json");
        let listed: Vec<serde_json::Value> = serde_json::from_str(&ended.out).unwrap_or_default();
        let listed = listed.iter().map(|one| format!("{} {}", one["unit"].as_str().unwrap(), one["missed"]));
        (ended.code, listed.collect::<Vec<_>>())
    };
    assert_eq!(missed(&hub), (Some(3), vec!["n1 1".to_owned(), "n2 1".to_owned()]));
    // stored as long ago as two intervals and a half
    let long_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(60);
    let command = format!("backup fleet/n1 --json --time {}", long_ago.strftime("%Y-%m-%dT%H:%M:%SZ"));
    assert_eq!(hub.onggi(&command).code, Some(0));
    assert_eq!(missed(&hub), (Some(3), vec!["n2 1".to_owned(), "n1 2".to_owned()]));
    hub.back_up_well();
    assert_eq!(missed(&hub), (Some(0), Vec::new()));
}

#[test]
fn hosts_of_one_rack_are_read_one_after_the_other_if_that_is_asked() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    let log = hub.path("log").display().to_string();
    let dump = format!("echo begin >> {log}; seq 1 200000; echo end >> {log}");
    let keys = format!("dumps: [{{ name: slow, command: [sh, -c, '{dump}'] }}]");
    let connect = format!("{}, parallel-max-per: [{{ label: rack, max: 1 }}]", pinned(&server));
    let host = format!("{}, labels: {{ rack: r1 }}", listed(&server));
    let hosts: Vec<_> = ["n1", "n2", "n3", "n4"].into_iter().map(|name| (name, host.clone())).collect();
    hub.configure(&connect, &keys, &hosts);
    hub.back_up_well();
    assert_eq!(fs::read_to_string(&log).unwrap(), "begin\nend\n".repeat(4));
    assert_eq!(hub.snapshots().len(), 4);
}
