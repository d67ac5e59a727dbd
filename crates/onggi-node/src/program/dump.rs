//! Runs a command and sends its output; the end of the stream is the exit of the command, nothing earlier.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use onggi_node::{Answer, Lost, TAIL_BYTES_MAX};
use rustix::process::{Pid, Signal, getpgrp, kill_process_group};

use super::out::{Credit, Out};
use super::root::lost_by;

/// Length of one read of the output, in bytes.
const STEP_BYTES: usize = 64 << 10;
/// How often it is looked whether the command still runs and is still wanted.
const STEP: Duration = Duration::from_millis(20);

/// Leads the group in which a command runs, and ends that group when this program ends, however it does.
///
/// It is there before the command is, so that no moment is left in which a kill leaves the command behind.
struct Warden(Child);

impl Warden {
    fn start() -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(WATCH).stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0).spawn().map(Self)
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it has ended with its group
        let _ = self.0.wait();
    }
}

/// The word by which this program starts itself as a warden.
pub(super) const WATCH: &str = "--watch";

/// Waits for the end of the program that holds the other end of stdin, and then ends its own group.
pub(super) fn watch() -> io::Result<()> {
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    kill(Some(getpgrp()));
    Ok(())
}

/// Runs to the end, or until the time is over or nobody wants the rest.
pub(super) fn dump(stream: u64, command: &[Vec<u8>], seconds: u64, credit: &Credit, out: &Out) {
    let warden = Warden::start().ok(); // without one only a kill of this program leaves something behind
    let leader = warden.as_ref().map(|warden| warden.0.id().cast_signed());
    let done = match start(command, leader) {
        Ok(child) => {
            let group = Pid::from_raw(leader.unwrap_or(child.id().cast_signed()));
            supervise(stream, (child, group), seconds, credit, out)
        }
        Err(lost) => Answer::DumpDone { stream, lost, status: 0, tail: Vec::new() },
    };
    let _ = out.send(&done, false); // nobody listens any more
}

/// In the group of a leader, else in one of its own.
fn start(command: &[Vec<u8>], leader: Option<i32>) -> Result<Child, Lost> {
    let (program, arguments) = command.split_first().ok_or(Lost::REFUSED)?;
    Command::new(OsStr::from_bytes(program))
        .args(arguments.iter().map(|argument| OsStr::from_bytes(argument)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(leader.unwrap_or(0))
        .spawn()
        .map_err(|error| lost_by(&error))
}

fn supervise(
    stream: u64,
    (mut child, group): (Child, Option<Pid>),
    seconds: u64,
    credit: &Credit,
    out: &Out,
) -> Answer {
    let (output, words) = (child.stdout.take(), child.stderr.take());
    let deadline = (seconds > 0).then(|| Instant::now() + Duration::from_secs(seconds));
    let (status, is_late, tail) = thread::scope(|scope| {
        let sending = scope.spawn(|| output.map(|output| send_all(stream, output, credit, out)));
        let hearing = scope.spawn(|| words.map(keep_tail).unwrap_or_default());
        let (mut status, mut is_late) = (None, false);
        while status.is_none() || !sending.is_finished() || !hearing.is_finished() {
            is_late |= deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_late || credit.is_cancelled() {
                credit.cancel(); // whoever waits for more credit ends, too
                kill(group);
            }
            if status.is_none() {
                status = child.try_wait().unwrap_or(None);
            }
            thread::sleep(STEP);
        }
        kill(group); // what it left in the background
        (status, is_late, hearing.join().unwrap_or_default())
    });
    let lost = if is_late { Lost::TOO_SLOW } else { Lost::NOTHING };
    Answer::DumpDone { stream, lost, status: status.map_or(-1, code), tail }
}

fn code(status: ExitStatus) -> i32 {
    if status.signal().is_some() { -1 } else { status.code().unwrap_or(-1) }
}

fn kill(group: Option<Pid>) {
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL); // it has ended
    }
}

fn send_all(stream: u64, mut output: impl Read, credit: &Credit, out: &Out) {
    let mut step = vec![0; STEP_BYTES];
    while let Ok(length @ 1..) = output.read(&mut step) {
        let bytes = step[..length].to_vec();
        if !credit.take(length as u64) || out.send(&Answer::Data { stream, bytes }, true).is_err() {
            return credit.cancel();
        }
    }
}

fn keep_tail(mut words: impl Read) -> Vec<u8> {
    let (mut tail, mut step) = (Vec::new(), [0; TAIL_BYTES_MAX]);
    while let Ok(length @ 1..) = words.read(&mut step) {
        tail.extend_from_slice(&step[..length]);
        let surplus = tail.len().saturating_sub(TAIL_BYTES_MAX);
        tail.drain(..surplus);
    }
    tail
}
