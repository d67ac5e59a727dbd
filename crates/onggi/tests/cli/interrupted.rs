//! Control-C, a signal for progress, a reader that goes away: the work ends in good order.

use std::fs;
use std::io::Read as _;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::environment::Environment;
use crate::terminal::Terminal;

const WAITING: [&str; 6] = ["backup", "--stdin-from-command", "--", "sh", "-c", "touch begun; exec sleep 600"];

#[test]
fn control_c_ends_a_backup_in_good_order() {
    let env = Environment::with_repository();
    let terminal = Terminal::start(env.command(WAITING));
    env.wait_for_file("begun");
    terminal.signal(Signal::INT);
    let (rest, code) = terminal.end();
    assert!(rest.contains("ending in good order"), "{rest}");
    assert!(rest.contains("because: cancelled") && rest.contains("repeat the command"), "{rest}");
    assert_eq!(code, 130);
    assert_eq!(fs::read_dir(env.path("repo/locks")).unwrap().count(), 0, "no lock is left");
    env.run(["backup", "data"]).expect(0);
}

#[test]
fn control_c_at_a_password_shows_typing_again() {
    let env = Environment::with_repository();
    let mut command = env.bare(["snapshots"]);
    command.env("ONGGI_REPOSITORY", env.path("repo"));
    let mut terminal = Terminal::start(command);
    terminal.wait_for("password of ");
    terminal.wait_for(": ");
    terminal.signal(Signal::INT);
    assert_eq!(terminal.end().1, 130);
}

#[test]
fn sigusr1_prints_one_line_of_progress() {
    let env = Environment::with_repository();
    let mut child = env.command(WAITING).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut talk = child.stderr.take().unwrap();
    let mut wait_for = |text: &str| {
        let (mut seen, mut byte) = (String::new(), [0]);
        while !seen.contains(text) {
            assert_eq!(talk.read(&mut byte).unwrap(), 1, "{seen}");
            seen.push(char::from(byte[0]));
        }
    };
    env.wait_for_file("begun");
    kill_process(Pid::from_child(&child), Signal::USR1).unwrap();
    wait_for("backup  0 files");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_backup_is_stored_though_nobody_reads_its_output() {
    let env = Environment::with_repository();
    let mut child = env.command(["backup", "data"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(env.run(["snapshots", "--json"]).json().as_array().unwrap().len(), 1);
}

#[test]
fn data_that_cannot_be_written_is_a_failure() {
    let env = Environment::with_repository();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = env.command(["snapshots", "--json"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn no_color_and_ascii_where_the_terminal_wants_it() {
    let env = Environment::with_repository();
    let mut command = env.command(["backup", "data"]);
    command.env("LC_ALL", "C");
    let run = crate::environment::Run::of(command, b"").expect(0);
    assert!(run.data.is_ascii(), "{}", run.data);
    let failing = || env.command(["snapshots", "--repo", "nowhere"]);
    let (colored, _) = Terminal::start(failing()).end();
    assert!(colored.contains("\x1b[1;31merror:"), "{colored:?}");
    let mut command = failing();
    command.env("NO_COLOR", "1");
    assert!(!Terminal::start(command).end().0.contains('\x1b'));
    let mut command = failing();
    command.arg("--no-color");
    assert!(!Terminal::start(command).end().0.contains('\x1b'));
}
