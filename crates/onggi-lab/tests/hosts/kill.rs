//! Whoever is killed, wherever it is: the next run completes, and nothing is left on the host.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use onggi_lab::corpus::Random;
use rustix::process::{Pid, Signal, kill_process};

use super::ENGINE;
use super::bed::{Hub, listed, pinned};
use super::server::Server;

/// Starts of a short program that something may take to come about: tens of seconds.
const TRIES: usize = 20_000;

#[derive(Debug, Clone, Copy)]
enum Victim {
    Hub,
    Session,
    Program,
}

const VICTIMS: [Victim; 3] = [Victim::Hub, Victim::Session, Victim::Program];

/// Processes whose command line contains a text.
fn processes(text: &str) -> Vec<u32> {
    let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let has = |id: &u32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    };
    ids.filter(has).collect()
}

fn children(of: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    listed.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..TRIES {
        if is_so() {
            return;
        }
        thread::yield_now();
        Command::new("true").status().unwrap(); // as long as it takes to start a program
    }
    panic!("{what} never came about");
}

struct Rig {
    server: Server,
    hub: Hub,
    program: String,
    /// What the slow command is found by.
    sleeper: String,
}

impl Rig {
    fn new() -> Option<Self> {
        let server = Server::start()?;
        let hub = Hub::new();
        hub.own_program();
        hub.listen_in(&server);
        // all at once it would be over before anybody is killed
        for number in 0..400 {
            hub.write(&format!("data/{number}"), Random::new(number).bytes(20_000));
        }
        let sleeper = format!("sleep 1000.{}", server.port);
        let (calm, begun) = (hub.path("calm"), hub.path("begun"));
        let command = format!("test -e {} || {{ touch {}; {sleeper}; }}; echo done", calm.display(), begun.display());
        let keys = format!(
            "paths: [{}]\ndumps: [{{ name: slow, command: [sh, -c, '{command}'] }}]",
            hub.path("data").display()
        );
        hub.configure(&pinned(&server), &keys, &[("n1", listed(&server))]);
        let program = super::level::name_of_program(&hub);
        Some(Self { server, hub, program, sleeper })
    }

    fn start(&self) -> Child {
        let mut command = self.hub.onggi_command("backup fleet --json --timeout 60s");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn kill(&self, victim: Victim, run: &Child) {
        let ids = match victim {
            Victim::Hub => vec![run.id()],
            Victim::Session => children(self.server.id()),
            Victim::Program => processes(&format!("{} read", self.program)),
        };
        for id in ids {
            kill_process(Pid::from_raw(id.cast_signed()).unwrap(), Signal::KILL).ok(); // it may have ended
        }
    }

    /// What is left of a run that was killed must go by itself.
    fn settle(&self, mut run: Child) {
        self.hub.write("calm", "");
        run.wait().unwrap();
        until("an empty host", || processes(&self.program).is_empty() && processes(&self.sleeper).is_empty());
        assert!(Path::new(&self.hub.path("data/0")).exists());
        self.hub.back_up_well();
    }
}

#[test]
fn a_command_does_not_outlive_who_started_it() {
    let Some(rig) = Rig::new() else { return };
    for victim in VICTIMS {
        fs::remove_file(rig.hub.path("calm")).ok();
        fs::remove_file(rig.hub.path("begun")).ok();
        let run = rig.start();
        until("the slow command", || rig.hub.path("begun").exists() && !processes(&rig.sleeper).is_empty());
        rig.kill(victim, &run);
        // a hub that lives tries again, and would start another one
        rig.settle(run);
    }
}

#[test]
fn a_run_that_was_killed_anywhere_is_made_good_by_the_next() {
    let Some(rig) = Rig::new() else { return };
    rig.hub.write("calm", "");
    let mut random = Random::new(36);
    let (rounds, mut struck) = (rounds(), 0);
    for round in 0..rounds {
        // something new in each round, so that there is something to be killed in
        for number in 0..400 {
            rig.hub.write(&format!("data/{number}"), Random::new(round << 16 | number).bytes(20_000));
        }
        rig.hub.received();
        let mut run = rig.start();
        let point = random.below(8_000_000);
        let received = || fs::metadata(rig.hub.path("received")).map_or(0, |status| status.len());
        until("enough content", || received() >= point || run.try_wait().unwrap().is_some());
        struck += u64::from(run.try_wait().unwrap().is_none());
        rig.kill(VICTIMS[round as usize % 3], &run);
        rig.settle(run);
    }
    let verified = rig.hub.onggi("repository verify --read-data");
    assert_eq!(verified.code, Some(0), "{verified:?}");
    println!("ledger: kills of hub, session or program on a host: {ENGINE} | {rounds} | {struck}");
}

/// How often somebody is killed: `ONGGI_FAULT_RUNS`, else a sample.
fn rounds() -> u64 {
    std::env::var("ONGGI_FAULT_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(9)
}
