//! What a backup moves, writes and holds: how little of what is known already, nothing beside the repository, and no more
//! memory for ten artifacts than for one.

use std::fs;
use std::path::Path;
use std::process::Command;

use onggi_lab::bosh::Instance;
use onggi_lab::bosh::jumpbox::install;
use onggi_lab::measure::{measured, usage};

use super::native::Rig;

const MIB: u64 = 1 << 20;
/// Blobs of 100 KiB each.
const BLOBS: u64 = 2000;
/// All of them.
const BYTES: u64 = BLOBS * (100 << 10);
/// One hundredth of them.
const LITTLE: u64 = BYTES / 100;
/// One in a hundred files, as the dice fall, is read to prove that it is unchanged; here that is three times as much.
const MOVED_MAX: u64 = 3 * LITTLE;
/// Artifacts that travel at once, and MiB of each.
const ARTIFACTS: [u64; 2] = [10, 32];
/// What a process may hold while they do, in MiB.
const HELD_MAX: u64 = 300;

/// An instance with blobs that its job links.
#[track_caller]
fn with_blobs() -> Option<Instance> {
    let instance = Instance::start()?;
    let make = format!(
        "mkdir -p /var/vcap/store/blobs && cd /var/vcap/store/blobs && \
         head -c {} /dev/urandom | split -b 100K -a 4 - blob-",
        BYTES
    );
    assert!(instance.run(&make).status.success());
    instance.job("blobstore", "cp -rlp /var/vcap/store/blobs/. $BBR_ARTIFACT_DIRECTORY", "");
    Some(instance)
}

/// The same command where it can write nothing but into the repository, and a hundredth of the artifact elsewhere.
fn confined(rig: &Rig, command: &Command) -> Command {
    let script = format!(
        "set -e; mkdir -p /var/lib/onggi; mount --make-rprivate /; mount --bind {temporary} {temporary}; \
         mount --bind {repository} {repository}; \
         for place in {home} /var/lib/onggi /dev/shm /run; do mount -t tmpfs -o size={LITTLE} tmpfs $place; done; \
         for place in {temporary} /; do mount -o remount,bind,ro $place; done; \
         if touch {beside} 2>/dev/null; then echo 'more can be written' >&2; exit 99; fi; exec \"$0\" \"$@\"",
        temporary = std::env::temp_dir().display(),
        repository = rig.path("repository").display(),
        home = rig.path("home").display(),
        beside = rig.path("beside").display(),
    );
    let mut outer = Command::new("unshare");
    outer.args(["-m", "sh", "-c", &script]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            outer.env(name, value);
        }
    }
    outer
}

#[test]
fn an_unchanged_blobstore_moves_and_stores_next_to_nothing_and_nothing_is_staged() {
    let Some(instance) = with_blobs() else { return };
    let rig = Rig::of_director(&instance, "");
    let mut figures = Vec::new();
    for _ in 0..2 {
        let (moved, stored) = (instance.sent(), usage(&rig.path("repository")).unwrap());
        let output = confined(&rig, &rig.command(&["backup", "SOURCE"])).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        figures.push((instance.sent() - moved, usage(&rig.path("repository")).unwrap() - stored));
    }
    println!("bytes moved and stored: {figures:?}");
    let (moved, stored) = figures[0];
    assert!(moved > BYTES && stored > BYTES, "{figures:?}");
    let (moved, stored) = figures[1];
    assert!(moved < MOVED_MAX && stored < LITTLE, "{figures:?}");
}

#[test]
fn ten_artifacts_at_once_are_held_in_little_memory() {
    let Some(instance) = Instance::start() else { return };
    let [count, mib] = ARTIFACTS;
    for number in 0..count {
        let job = format!("job{number}");
        install(&instance, &job);
        assert!(instance.run(&format!("head -c {} /dev/urandom > /var/vcap/store/{job}", mib * MIB)).status.success());
    }
    let rig = Rig::of_director(&instance, "");
    let command = rig.command(&["backup", "SOURCE"]);
    let cost = measured(Path::new(env!("CARGO_BIN_EXE_onggi-lab")), &command, &rig.path("log")).unwrap();
    let held = cost.memory_kib / 1024;
    println!("MiB held: {held}");
    assert!(held < HELD_MAX, "{held} MiB");
    let stored = usage(&rig.path("repository")).unwrap();
    assert!(stored > count * mib * MIB, "{}", fs::read_to_string(rig.path("log")).unwrap());
}
