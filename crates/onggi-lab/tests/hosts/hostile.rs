//! Hosts that answer what they must not, or have no room: each is told for what it is, and nothing is stored or left there.

use std::fs;
use std::process::Command;

use onggi_lab::peer;

use super::bed::Hub;
use super::server::{Server, run};

/// A program that says that it is the one that was sent, and then this.
fn check(answers: &str, class: &str) {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    hub.write("data/file", "x");
    hub.configure_one(&server, "");
    let greeting = "echo \"ONGGI-NODE 1 $(sha256sum \"$0\" | cut -c1-64)\"";
    hub.write("program", format!("#!/bin/sh\n# {}\n{greeting}\n{answers}\n", server.port));
    let ended = hub.onggi("backup fleet --json --timeout 15s");
    assert!(ended.code != Some(0) && ended.tells(class), "{answers}: {ended:?}");
    assert_eq!(hub.snapshots().len(), 0);
}

#[test]
fn a_program_that_answers_nonsense_is_told() {
    check("head -c 100000 /dev/urandom; cat >/dev/null", "protocol");
    check("head -c 100000 /dev/zero; cat >/dev/null", "protocol");
    check("yes; cat >/dev/null", "protocol");
}

#[test]
fn a_program_that_ends_or_never_answers_is_told() {
    check("exit 0", "unreachable");
    check("cat >/dev/null", "time limit");
}

#[test]
fn a_host_without_room_for_the_program_is_told_and_nothing_is_left_there() {
    let Some(server) = Server::start() else { return };
    let hub = Hub::new();
    hub.write("data/file", "x");
    hub.configure_one(&server, "");
    hub.own_program();
    let home = hub.path("small-home");
    fs::create_dir(&home).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "none"]).arg(&home).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return peer::say("no file system can be mounted here");
    }
    let command = format!("export XDG_CACHE_HOME={}; eval \\\"$SSH_ORIGINAL_COMMAND\\\"", home.display());
    fs::write(server.path("authorized"), format!("command=\"{command}\" {}\n", server.public("client"))).unwrap();
    let ended = hub.back_up();
    let left = fs::read_dir(home.join("onggi")).map_or(0, Iterator::count);
    run(Command::new("umount").arg(&home));
    assert!(ended.code == Some(13) && ended.tells("program-blocked"), "{ended:?}");
    assert!(ended.tells("No space left on device"), "{ended:?}");
    assert_eq!(left, 0);
}
