//! What comes back is what was there.

use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use onggi_lab::peer;

use super::bed::Hub;
use super::server::{Server, run};

#[test]
fn a_tree_with_everything_comes_back_by_restic_and_by_onggi() {
    let Some(server) = Server::start() else { return };
    let Some(restic) = peer::newest("restic") else { return };
    let hub = Hub::new();
    hub.configure_one(&server, "");
    make_everything(&hub.path("data"));
    hub.back_up_well();
    for (name, mut command) in [
        ("by-restic", {
            let mut command = hub.command(&restic);
            command.args(["restore", "latest", "--target"]).arg(hub.path("by-restic"));
            command
        }),
        ("by-onggi", hub.onggi_command("restore latest --privileged --target @by-onggi")),
    ] {
        run(&mut command);
        let restored = format!("{}{}/", hub.path(name).display(), hub.path("data").display());
        let mut rsync = hub.command("rsync".as_ref());
        rsync.args(["-aHAXn", "--checksum", "--itemize-changes", "--delete"]);
        let differences = run(rsync.arg(format!("{}/", hub.path("data").display())).arg(restored));
        assert_eq!(differences, "", "{name}");
    }
}

/// Everything a file system of Linux can hold, but sockets.
pub fn make_everything(at: &Path) {
    let path = |name: &str| at.join(name);
    fs::write(path("file"), "content").unwrap();
    fs::hard_link(path("file"), path("hard")).unwrap();
    symlink("file", path("link")).unwrap();
    symlink("nowhere/at/all", path("dangling")).unwrap();
    fs::write(path("empty"), "").unwrap();
    fs::create_dir_all(path("folder/deep/empty")).unwrap();
    fs::write(path("folder/deep/large"), vec![7; 3 << 20]).unwrap();
    fs::write(path("set-id"), "x").unwrap();
    fs::set_permissions(path("set-id"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::write(path("closed"), "nobody").unwrap();
    fs::set_permissions(path("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::write(path("with\nnewline"), "x").unwrap();
    fs::write(at.join(std::ffi::OsString::from_vec(b"not-\xff-text".to_vec())), "x").unwrap();
    fs::write(path(&"n".repeat(255)), "x").unwrap();
    let sparse = fs::File::create(path("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"in the middle", 512 << 20).unwrap();
    run(Command::new("mkfifo").arg(path("fifo")));
    run(Command::new("mknod").arg(path("device")).args(["c", "1", "3"]));
    run(Command::new("touch").args(["-d", "1931-05-06 07:08:09.123456789"]).arg(path("old-file")));
    run(Command::new("touch").args(["-d", "2217-05-06 07:08:09.987654321"]).arg(path("new-file")));
    xattr::set(path("file"), "user.note", b"with a value\0and more").unwrap();
    // not every file system of a test machine takes these
    xattr::set(path("file"), "security.onggi", b"label").ok();
    Command::new("setfacl").args(["-m", "u:daemon:r"]).arg(path("set-id")).status().ok();
}

#[test]
fn the_output_of_commands_is_stored_and_streams_out_again() {
    let Some(server) = Server::start() else { return };
    let Some(restic) = peer::newest("restic") else { return };
    let hub = Hub::new();
    hub.configure_one(&server, "dumps: [{ name: db, command: [sh, -c, 'seq 1 300000'] }]");
    hub.back_up_well();
    let dumped = run(hub.command(&restic).args(["dump", "latest", "/onggi/dump/db"]));
    assert_eq!((dumped.lines().count(), dumped.lines().last()), (300_000, Some("300000")));
    assert_eq!(hub.snapshots()[0]["hostname"], "n1");
}

#[test]
fn a_command_that_fails_or_says_nothing_fails_the_unit_and_no_snapshot_is_left() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    let commands =
        ["[sh, -c, 'seq 1 100000; exit 1']", "[sh, -c, 'seq 1 100000; kill -9 $$']", "['true']", "[no-such-program]"];
    let host = |command| {
        format!("{}, overrides: {{ dumps: [{{ name: db, command: {command} }}] }}", super::bed::listed(&server))
    };
    let hosts: Vec<_> = ["n1", "n2", "n3", "n4"].into_iter().zip(commands.map(host)).collect();
    hub.configure(&super::bed::pinned(&server), "dumps: [{ name: db, command: ['false'] }]", &hosts);
    // long enough for the first attempt, and no wait for the next ones
    let ended = hub.onggi("backup fleet --json --timeout 19s");
    assert!(!matches!(ended.code, Some(0 | 3)), "{ended:?}");
    assert!(ended.err.matches("dump-failed").count() >= 4, "{ended:?}");
    assert_eq!(hub.snapshots().len(), 0);
}

#[test]
fn a_path_that_is_absent_is_a_problem_unless_that_is_in_order() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    hub.write("data/here", "x");
    hub.configure_one(&server, "");
    let data = hub.path("data").display().to_string();
    let keys = |paths: &str| format!("paths: [{data}, {paths}]");
    hub.configure(
        &super::bed::pinned(&server),
        &keys("{ path: /not/there, optional: true }"),
        &[("n1", super::bed::listed(&server))],
    );
    hub.back_up_well();
    hub.configure(&super::bed::pinned(&server), &keys("/not/there"), &[("n1", super::bed::listed(&server))]);
    let ended = hub.back_up();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.tells("missing-root") && hub.snapshots().len() == 2, "{ended:?}");
}

#[test]
fn paths_below_each_other_and_patterns_give_one_tree() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    for name in ["data/a/b/kept", "data/a/b/left.tmp", "data/a/other", "data/cache/x"] {
        hub.write(name, name);
    }
    hub.write("data/cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n");
    let data = hub.path("data").display().to_string();
    let keys = format!("paths: [{data}, {data}/a/b, {data}/a/b/kept]\nexclude: ['*.tmp']");
    hub.configure(&super::bed::pinned(&server), &keys, &[("n1", super::bed::listed(&server))]);
    hub.back_up_well();
    let listed = hub.onggi("ls latest").out;
    let found: Vec<&str> = listed.lines().filter_map(|line| line.trim().strip_prefix(data.as_str())).collect();
    assert_eq!(found, ["", "/a", "/a/b", "/a/b/kept", "/a/other", "/cache", "/cache/CACHEDIR.TAG"], "{listed}");
}

#[test]
fn a_file_that_grows_while_it_is_read_is_told_and_stored_as_it_was_read_once() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    hub.configure_one(&server, "");
    let path = hub.path("data/log");
    fs::write(&path, "line\n".repeat(4 << 20)).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = fs::OpenOptions::new().append(true).open(&path).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                std::io::Write::write_all(&mut log, b"more\n").unwrap();
            }
        });
        let ended = hub.back_up();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        ended
    });
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.tells("changed"), "{ended:?}");
    run(&mut hub.onggi_command("restore latest --target @restored"));
    let restored = fs::read(format!("{}{}", hub.path("restored").display(), path.display())).unwrap();
    assert!(restored.len() >= 20 << 20 && fs::read(&path).unwrap().starts_with(&restored));
}

#[test]
fn a_folder_that_becomes_a_link_never_leads_out() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    hub.configure_one(&server, "");
    hub.write("elsewhere/secret", "not below the path");
    for number in 0..300 {
        hub.write(&format!("data/swapped/secret/{number}"), "inside");
    }
    let (real, aside) = (hub.path("data/swapped"), hub.path("data/aside"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::rename(&real, &aside).unwrap();
                symlink(hub.path("elsewhere"), &real).unwrap();
                fs::remove_file(&real).unwrap();
                fs::rename(&aside, &real).unwrap();
            }
        });
        for _ in 0..8 {
            let ended = hub.back_up();
            assert!(matches!(ended.code, Some(0 | 3)), "{ended:?}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    for snapshot in hub.snapshots() {
        let listed = hub.onggi(&format!("ls {} --json", snapshot["id"].as_str().unwrap()));
        let is_outside = |line: &str| line.contains("\"size\":18");
        assert!(!listed.out.lines().any(is_outside), "{listed:?}");
    }
}

#[test]
fn what_one_user_may_not_read_is_listed_and_the_rest_is_stored() {
    let Some(server) = Server::start() else { return };
    let Some(user) = super::level::User::make("onggi-reader") else { return };
    let hub = Hub::new();
    hub.write("data/open", "x");
    hub.write("data/closed", "x");
    fs::set_permissions(hub.path("data/closed"), fs::Permissions::from_mode(0o600)).unwrap();
    let connect = format!("user: {}, key: {}, trust: pinned", user.name, server.path("client").display());
    let keys = format!("paths: [{}]", hub.path("data").display());
    hub.configure(&connect, &keys, &[("n1", super::bed::listed(&server))]);
    let ended = hub.back_up();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.tells("denied") && ended.tells("data/closed"), "{ended:?}");
    assert_eq!(ended.summary()["total_files_processed"], 1, "{ended:?}");
    assert_eq!(fs::metadata(hub.path("data/closed")).unwrap().uid(), 0);
}
